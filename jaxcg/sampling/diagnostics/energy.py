"""What the sampler says of itself: acceptance, divergences, irreversible steps, and the energy's own mixing."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SamplerHealth:
    """How the trajectories of each chain went.

    Fields:
        acceptance: (chains,) mean acceptance probability.
        divergences: (chains,) trajectories whose energy error was not finite or beyond all bounds.
        irreversible: (chains,) trajectories refused because a step on curved constraints could not be undone.
        e_bfmi: (chains,) energy Bayesian fraction of missing information, see `energy_fraction`.
        step_size: (chains,) ps, at the end.
        trajectories: number per chain.
    """

    acceptance: np.ndarray
    divergences: np.ndarray
    irreversible: np.ndarray
    e_bfmi: np.ndarray
    step_size: np.ndarray
    trajectories: int


def sampler_health(infos: Any) -> SamplerHealth:
    """The `SamplerHealth` of a run.

    Arguments:
        infos: of the trajectories after adaptation, `HMCInfo` or another that has its fields; leaves
            (trajectories, chains), or (trajectories,) of one chain.
    """
    acceptance, divergent, irreversible, total, step_size = (
        np.asarray(leaf).reshape(len(leaf), -1)
        for leaf in (infos.acceptance, infos.divergent, infos.irreversible, infos.total_energy, infos.step_size)
    )
    return SamplerHealth(
        acceptance=acceptance.astype(np.float64).mean(axis=0),
        divergences=divergent.sum(axis=0),
        irreversible=irreversible.sum(axis=0),
        e_bfmi=energy_fraction(total.T),
        step_size=step_size[-1].astype(np.float64),
        trajectories=len(acceptance),
    )


def energy_fraction(total_energies: np.ndarray) -> np.ndarray:
    """E-BFMI of each chain, Σ (Hₙ − Hₙ₋₁)² / Σ (Hₙ − ⟨H⟩)².

    New velocities change the total energy H of a trajectory by about √(d/2) kT. Where the potential energy varies
    much more than that (heavy tails, several phases) H does a random walk and the chain sees too little of it. Near 1
    for a nearly harmonic target, below 0.3 a warning. It presumes velocities that are drawn all anew.

    Arguments:
        total_energies: (chains, trajectories) H at the start of each trajectory, kJ/mol, velocities just drawn
            (`HMCInfo.total_energy`).

    Returns:
        (chains,); nan with fewer than 4 trajectories, values that are not finite or an H that never changes.

    Source: Betancourt, arXiv:1604.00695 (2016).
    """
    h = np.asarray(total_energies, dtype=np.float64)
    if h.ndim != 2:
        raise ValueError(f"energy_fraction: total_energies must be (chains, trajectories), got shape {h.shape}.")
    if h.shape[1] < 4:
        return np.full(len(h), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        fraction = (np.diff(h, axis=1) ** 2).mean(axis=1) / h.var(axis=1, ddof=1)
    return np.where(np.isfinite(fraction), fraction, np.nan)

"""What a campaign returns for a frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import ResultError
from ...posterior import Posterior


@dataclass(frozen=True)
class FrameSamples:
    """Samples of p(x|y) of one frame; NumPy throughout.

    Fields:
        frame: its number.
        positions: (chains, draws, atoms, 3) nm, in the precision of the run.
        energies: (chains, draws) prior energy U(x), kJ/mol.
        potentials: (chains, draws) −kT log p(x|y): U plus the bead restraint of a soft posterior, kJ/mol.
        trace: (chains, trajectories) potential after every trajectory, kJ/mol.
        total_energies: (chains, trajectories) H at the start of every trajectory, kJ/mol; nan where there is none.
        start_potentials: (chains,) potential of the starts, kJ/mol; nan without a burn-in.
        acceptance: (chains,) mean acceptance probability.
        divergences: (chains,) divergent trajectories.
        step_size: (chains,) ps.
        burn_in_temperature: (chains,) kinetic temperature at the end of the burn-in, K; nan without.
        gradients: gradient evaluations of each chain, all stages.
        dimension: of the space sampled.
        temperature: K.
    """

    frame: int
    positions: np.ndarray
    energies: np.ndarray
    potentials: np.ndarray
    trace: np.ndarray
    total_energies: np.ndarray
    start_potentials: np.ndarray
    acceptance: np.ndarray
    divergences: np.ndarray
    step_size: np.ndarray
    burn_in_temperature: np.ndarray
    gradients: int
    dimension: int
    temperature: float


def gather(
    frame: int,
    mine: slice,
    infos: Any,
    positions: Any,
    *,
    thin: int,
    start_potentials: np.ndarray,
    temperature: np.ndarray,
    gradients: int,
    dimension: int,
    posterior: Posterior,
    heated: bool,
) -> FrameSamples:
    """The samples of one frame out of those of a batch.

    Arguments:
        frame: its number.
        mine: its walkers.
        infos: of the batch, leaves (trajectories, walkers).
        positions: (draws, walkers, atoms, 3) of the batch.
        thin: trajectories between draws.
        start_potentials, temperature: (walkers,) of the batch.
        gradients, dimension, posterior: of each chain.
        heated: whether there was a burn-in.

    Raises:
        ResultError: not one trajectory of the frame was accepted.
    """
    if not np.any(infos.accepted[:, mine]):
        raise ResultError(
            f"frame {frame}: not one trajectory was accepted; the chains have not left their starts. Use a longer "
            "burn-in or a shorter first step size."
        )

    def of(leaf):
        return np.asarray(leaf[:, mine], dtype=np.float64).T

    trace, energy = of(infos.potential), of(infos.energy)
    starts = start_potentials[mine]
    return FrameSamples(
        frame=frame,
        positions=np.moveaxis(np.asarray(positions[:, mine]), 0, 1),
        energies=energy[:, thin - 1 :: thin],
        potentials=trace[:, thin - 1 :: thin],
        trace=trace,
        total_energies=of(infos.total_energy),
        start_potentials=starts if heated else np.full_like(starts, np.nan),
        acceptance=of(infos.acceptance).mean(axis=1),
        divergences=np.asarray(infos.divergent[:, mine]).sum(axis=0),
        step_size=np.asarray(infos.step_size[-1, mine], dtype=np.float64),
        burn_in_temperature=np.asarray(temperature[mine], dtype=np.float64),
        gradients=gradients,
        dimension=dimension,
        temperature=float(posterior.temperature),
    )

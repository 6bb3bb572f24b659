"""Posterior samples from independent starts, with the statistics that say how far to trust them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from ..chains import Chains
from ..errors import ResultError
from ..posterior import Posterior
from ..run import AbstractKernel, run
from ..system import System
from ..typing import Array, AtomScalars, PRNGKeyArray
from ..units import GAS_CONSTANT
from .adaptation.burn_in import burn_in
from .adaptation.step_size import GRADIENTS_PER_CHUNK, AdaptiveChains, AdaptiveState
from .diagnostics.energy import SamplerHealth, sampler_health
from .diagnostics.rotamers import TorsionMixing, torsion_mixing
from .diagnostics.torsions import Torsions, find_torsions
from .diagnostics.verdict import ENOUGH_DRAWS, Diagnosis, assess
from .geometry import as_geometry, check_start
from .kernels.hmc import HMC, HMCInfo


@dataclass(frozen=True)
class EnsembleResult:
    """Samples of p(x|y) and how they came about; NumPy throughout.

    Fields:
        positions: (samples, atoms, 3) nm, float64, on the fibre to float64 round-off if the posterior is exact.
        energies: (samples,) prior energy U(x), kJ/mol.
        potentials: (samples,) −kT log p(x|y): U plus the bead restraint of a soft posterior, kJ/mol.
        chain: (samples,) the chain (index of the starting position) each sample comes from.
        trajectory: (samples,) the trajectory after adaptation it was taken at, from 1.
        trace: (chains, trajectories) potential after every trajectory, kJ/mol.
        start_potentials: (chains,) potential of the starting positions, kJ/mol; nan without a burn-in.
        acceptance: (chains,) mean acceptance probability after adaptation.
        step_size: (chains,) ps.
        divergences: (chains,) divergent trajectories after adaptation.
        burn_in_temperature: (chains,) kinetic temperature at the end of the burn-in, K.
        gradients: gradient evaluations per chain, all stages.
        dimension: dimension d of the space sampled.
        temperature: K.
        r_hat, effective_sample_size: of the potential, over chains and trajectories; nan when these are too few.
        health: acceptance, energy mixing and failures of each chain's trajectories.
        diagnosis: what may be trusted, from energy, torsions and health after every trajectory.
        torsions: how each torsion mixes, from its angles after every trajectory; None where none were watched.
    """

    positions: np.ndarray
    energies: np.ndarray
    potentials: np.ndarray
    chain: np.ndarray
    trajectory: np.ndarray
    trace: np.ndarray
    start_potentials: np.ndarray
    acceptance: np.ndarray
    step_size: np.ndarray
    divergences: np.ndarray
    burn_in_temperature: np.ndarray
    gradients: int
    dimension: int
    temperature: float
    r_hat: float
    effective_sample_size: float
    health: SamplerHealth
    diagnosis: Diagnosis
    torsions: TorsionMixing | None = None

    @property
    def verdict(self) -> str:
        """One sentence on how far to trust the ensemble."""
        return self.diagnosis.sentence

    def statistics(self) -> dict[str, Any]:
        """The figures of the run as plain numbers, strings and lists, for reports."""
        thermal = GAS_CONSTANT * self.temperature
        return {
            "samples": len(self.positions),
            "chains": len(self.acceptance),
            "trajectories_per_chain": int(self.trace.shape[1]),
            "acceptance": float(self.acceptance.mean()),
            "acceptance_per_chain": [float(a) for a in self.acceptance],
            "step_size_fs": float(1000 * self.step_size.mean()),
            "divergences": int(self.divergences.sum()),
            "burn_in_temperature_K": None
            if np.isnan(self.burn_in_temperature).any()
            else float(self.burn_in_temperature.mean()),
            "gradients_per_chain": int(self.gradients),
            "dimension": int(self.dimension),
            "excess_energy": None
            if np.isnan(self.start_potentials).any()
            else float(self.trace.mean() - self.start_potentials.mean()),
            "excess_energy_expected": float(0.5 * self.dimension * thermal),
            "r_hat_energy": None if np.isnan(self.r_hat) else float(self.r_hat),
            "effective_samples_energy": None
            if np.isnan(self.effective_sample_size)
            else float(self.effective_sample_size),
            **self.diagnosis.statistics(),
        }


def sample(
    posterior: Posterior,
    positions: Array,
    key: PRNGKeyArray,
    *,
    samples: int,
    masses: AtomScalars,
    torsions: Torsions | System | None = None,
    heat: int = 750,
    hold: int = 750,
    warmup: int = 30,
    thin: int | None = None,
    step_size: float = 0.001,
    steps: int = 40,
    target: float = 0.8,
    progress: Callable[[str, int, int], None] | None = None,
    checkpoint: str | Path | None = None,
) -> EnsembleResult:
    """Draws from p(x|y): heats each start, tunes the step size, then samples by HMC.

    Every starting position is a chain of its own; take them from independent relaxations, for on this time scale
    no chain crosses a rotamer barrier. Samples are taken from all chains in turn.

    Arguments:
        posterior: the target, exact or soft.
        positions: (chains, atoms, 3) starting positions, nm: minima of the posterior's potential or near them. Their
            dtype is the dtype of the run.
        key: random key; the same key gives the same samples.
        samples: samples to return.
        masses: (atoms,) masses of the sampler, amu; see `heavy_hydrogen_masses`.
        torsions: torsions to watch, or the molecule, whose torsions are then found: after every trajectory, so the
            diagnosis knows of changes between samples.
        heat, hold: Langevin steps of the burn-in, see `burn_in`; 0 and 0 for starts that are typical already.
        warmup: trajectories that tune the step size.
        thin: trajectories between samples of a chain; by default 4, or more where the chain would be too short to
            judge (`ENOUGH_DRAWS` trajectories).
        step_size: first step size of HMC and the step size of the burn-in, ps.
        steps: mean leapfrog steps of a trajectory.
        target: acceptance probability aimed at.
        progress: called as ``progress(stage, done, total)`` as a stage starts and goes on; stages are "heating",
            "tuning" and "sampling".
        checkpoint: folder for checkpoints, one file per stage; an interrupted call resumes from them.

    Returns:
        The `EnsembleResult`.

    Raises:
        ValueError: shapes do not fit, or a start is far from what the posterior holds exactly (`check_start`).
        ResultError: a chain did not stay finite, or none of its trajectories was accepted.
    """
    positions = jnp.asarray(positions)
    check_start(posterior, positions)
    if samples < 1:
        raise ValueError(f"sample: samples is {samples}, ask for at least one.")
    chains = positions.shape[0]
    heat_key, start_key, tune_key, sample_key = (jax.random.fold_in(key, i) for i in range(4))
    files = {stage: None if checkpoint is None else Path(checkpoint) / f"{stage}.npz" for stage in _STAGES}

    def report(stage, total):
        """Announces the stage and returns the callback of its run."""
        if progress is not None:
            progress(stage, 0, total)

        def forward(done, total, infos):
            del infos
            if progress is not None:
                progress(stage, done, total)

        return forward

    hmc = HMC(posterior, masses, step_size=step_size, steps=steps)
    watched = find_torsions(torsions) if isinstance(torsions, System) else torsions
    kernel = _Watched(AdaptiveChains(Chains(hmc), warmup=warmup, target=target), watched)
    warm, temperature, start_potentials = positions, np.full(chains, np.nan), np.full(chains, np.nan)
    if heat + hold:
        burned = burn_in(
            posterior,
            positions,
            heat_key,
            masses=masses,
            heat=heat,
            hold=hold,
            step_size=step_size,
            progress=report("heating", heat + hold),
            checkpoint=files["heating"],
        )
        warm, temperature, start_potentials = burned.positions, burned.temperature, burned.potential[0]
    rounds = -(-samples // chains)
    thin = max(4, -(-ENOUGH_DRAWS // rounds)) if thin is None else thin
    chunk = max(GRADIENTS_PER_CHUNK // (steps * thin * chains), 1) * thin
    # One compiled chunk serves both runs, and any number of samples.
    settings = {"every": thin, "observe": _observe, "chunk": chunk}
    tuning = -(-warmup // thin) * thin
    tuned = run(
        kernel,
        kernel.init(start_key, warm),
        tune_key,
        tuning,
        progress=report("tuning", tuning),
        checkpoint=files["tuning"],
        label="tuning",
        **settings,
    )
    drawn = run(
        kernel,
        tuned.state,
        sample_key,
        rounds * thin,
        progress=report("sampling", rounds * thin),
        checkpoint=files["sampling"],
        label="sampling",
        **settings,
    )
    infos, angles = drawn.infos
    if not np.any(infos.accepted):
        raise ResultError(
            "sampling: not one trajectory was accepted; the chains have not left their starting positions. "
            "Use a longer burn-in or a shorter first step size."
        )
    # (rounds, chains, ...) → samples round by round, each from another chain than the one before.
    x = np.asarray(drawn.observations, dtype=np.float64)
    x = x.reshape(-1, *x.shape[2:])[:samples]
    taken = np.arange(samples)
    energies, potentials = (
        np.asarray(leaf[thin - 1 :: thin], dtype=np.float64).reshape(-1)[:samples]
        for leaf in (infos.energy, infos.potential)
    )
    trace = np.asarray(infos.potential, dtype=np.float64).T
    mixing = None if watched is None else torsion_mixing(watched, np.swapaxes(angles, 0, 1))
    health = sampler_health(infos)
    diagnosis = assess({"energy": trace}, torsions=mixing, health=health)
    energy, known = diagnosis.rows[0], trace.shape[1] >= ENOUGH_DRAWS
    return EnsembleResult(
        positions=_on_fibre(posterior, x, masses),
        energies=energies,
        potentials=potentials,
        chain=taken % chains,
        trajectory=(taken // chains + 1) * thin,
        trace=trace,
        start_potentials=np.asarray(start_potentials, dtype=np.float64),
        acceptance=health.acceptance,
        step_size=health.step_size,
        divergences=health.divergences,
        burn_in_temperature=np.asarray(temperature),
        gradients=heat + hold + int((1 + tuned.infos.sampler.steps[:, 0]).sum() + (1 + infos.steps[:, 0]).sum()),
        dimension=hmc.geometry.dimension,
        temperature=float(posterior.temperature),
        r_hat=energy.r_hat if known else np.nan,
        effective_sample_size=energy.bulk if known else np.nan,
        health=health,
        diagnosis=diagnosis,
        torsions=mixing,
    )


class _Infos(NamedTuple):
    """What `_Watched` tells of a trajectory."""

    sampler: HMCInfo
    angles: Array | tuple[()]


class _Watched(AbstractKernel):
    """Chains, and the angles of torsions after every one of their trajectories."""

    chains: AdaptiveChains
    torsions: Torsions | None

    def init(self, key: PRNGKeyArray, position: Array) -> AdaptiveState:
        return self.chains.init(key, position)

    def step(self, key: PRNGKeyArray, state: AdaptiveState) -> tuple[AdaptiveState, _Infos]:
        state, info = self.chains.step(key, state)
        return state, _Infos(info, () if self.torsions is None else self.torsions.observed(state))

    def rebuild(self, state: AdaptiveState) -> Self:
        return type(self)(self.chains.rebuild(state), self.torsions)

    def healthy(self, state: AdaptiveState) -> Array:
        return self.chains.healthy(state)


_STAGES = ("heating", "tuning", "sampling")


def _observe(state):
    return state.position


def _on_fibre(posterior: Posterior, x: np.ndarray, masses) -> np.ndarray:
    """Samples (samples, atoms, 3) moved by their last float32 digits to the fibre, in float64."""
    with jax.enable_x64(True):
        posterior, masses = jax.tree.map(_double, (posterior, masses))
        geometry = as_geometry(posterior, masses)
        retract = jax.jit(lambda one: geometry.retract(geometry.retract(one, posterior.y), posterior.y))
        return np.stack([np.asarray(retract(jnp.asarray(one))) for one in x])


def _double(leaf):
    floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
    return jnp.asarray(np.asarray(leaf, dtype=np.float64)) if floating else leaf

"""Samples of p(x|y) from several independent ladders of replicas, with what says whether they may be trusted."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...energy.path import AbstractEnergyPath
from ...posterior import Posterior
from ...run import run
from ...typing import Array, AtomScalars, PRNGKeyArray
from ..adaptation.burn_in import burn_in
from ..adaptation.step_size import GRADIENTS_PER_CHUNK
from ..diagnostics.energy import SamplerHealth, sampler_health
from ..diagnostics.rotamers import TorsionMixing, torsion_mixing
from ..diagnostics.torsions import Torsions
from ..diagnostics.verdict import Diagnosis, assess
from ..geometry import AbstractGeometry, check_start
from ..kernels.hmc import HMC
from .exchange import ReplicaExchange
from .ladder import Ladder, round_trips
from .tune import TunedLadder, deal, tune_ladder

#: Round trips of a ladder below which its weights are those of its starts.
_ENOUGH_TRIPS = 5


@dataclass(frozen=True)
class TemperedResult:
    """Samples at the target rung and how they came about; NumPy.

    Fields:
        positions: (ladders, draws, atoms, 3) nm, at the target rung.
        potentials: (ladders, draws) −kT log p(x|y), kJ/mol.
        replica: (ladders, draws) the replica each draw was taken from: draws of one replica come from one start.
        ladder: the rungs.
        tuned: how they were found; None if the ladder was given.
        swap_acceptance: (ladders, rungs − 1) mean swap probability of each pair.
        round_trips: (ladders,) round trips between the first and the last rung, of all replicas.
        step_sizes: (rungs,) ps.
        total_energies: (ladders, sweeps) H at the start of trajectories at the target rung, kJ/mol.
        health: acceptance, divergences and energy fraction of the target rung's trajectories, per ladder.
        torsions: mixing of torsions over ladders, with populations and their errors; None where none were given.
        diagnosis: R-hat and effective sizes over ladders of all quantities.
        weights: whether basins have the right weights, in words.
        gradients: gradient evaluations in sampling, all ladders and rungs.
    """

    positions: np.ndarray
    potentials: np.ndarray
    replica: np.ndarray
    ladder: Ladder
    tuned: TunedLadder | None
    swap_acceptance: np.ndarray
    round_trips: np.ndarray
    step_sizes: np.ndarray
    total_energies: np.ndarray
    health: SamplerHealth
    torsions: TorsionMixing | None
    diagnosis: Diagnosis
    weights: str
    gradients: int

    @property
    def verdict(self) -> str:
        """One sentence on the samples and one on the weights of basins."""
        return f"{self.diagnosis.sentence} {self.weights}"


def tempered_sample(
    posterior: Posterior,
    positions: Array,
    key: PRNGKeyArray,
    *,
    masses: AtomScalars | AbstractGeometry,
    draws: int,
    ladder: Ladder | None = None,
    highest: float = 600.0,
    path: AbstractEnergyPath | None = None,
    coupling: float = 1.0,
    ladders: int = 4,
    acceptance: float = 0.45,
    rounds: int = 3,
    sweeps: int = 60,
    warmup: int = 40,
    thin: int = 1,
    heat: int = 750,
    hold: int = 750,
    step_size: float = 0.001,
    steps: int = 40,
    target: float = 0.8,
    torsions: Torsions | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    checkpoint: str | Path | None = None,
) -> TemperedResult:
    """Draws from p(x|y) by replica exchange: heats the starts, finds the ladder, then samples with it fixed.

    The starts, from independent relaxations, are dealt out over ladders and rungs. Many starts alone have no weights:
    each stays in the basin it fell into. Where replicas travel between the target and the far end, the time that each
    ladder spends in a basin at the target rung is its weight; ladders that agree (R-hat) are what shows it.

    Arguments:
        posterior: the target. With a ``path`` that weakens angles, or far above 600 K, its energy should include a
            `jaxcg.energy.StereoFence`.
        positions: (starts, atoms, 3) nm; minima or near them.
        key: random key.
        masses: (atoms,) amu, or a geometry.
        draws: draws of each ladder.
        ladder: rungs to use as they are; if None they are placed between the target and ``highest`` and ``coupling``.
        highest: temperature of the last rung, K.
        path, coupling: energies U_λ and λ of the last rung.
        ladders: independent ladders; two or more, or nothing can be compared.
        acceptance, rounds, sweeps: see `tune_ladder`.
        warmup: sweeps that tune the step sizes of the final ladder and are thrown away.
        thin: sweeps between draws.
        heat, hold: Langevin steps of the burn-in of each start, at the target; 0 and 0 for starts that are typical.
        step_size, steps, target: of `HMC`.
        torsions: torsions to watch, see `jaxcg.sampling.find_torsions`.
        progress: called as ``progress(stage, done, total)``; stages are "heating", "ladder" and "sampling".
        checkpoint: file of the last stage; an interrupted call does the first two again and resumes from it.

    Returns:
        The `TemperedResult`.

    Raises:
        ValueError: shapes or arguments do not fit.
        ResultError: a replica did not stay finite.
    """
    positions = jnp.asarray(positions)
    check_start(posterior, positions)
    if draws < 1 or thin < 1 or ladders < 1:
        raise ValueError("tempered_sample: ask for at least one draw, thin and ladder.")
    heat_key, ladder_key, start_key, sample_key = (jax.random.fold_in(key, i) for i in range(4))
    report = (lambda stage, done, total: None) if progress is None else progress
    kernel = HMC(posterior, masses, step_size=step_size, steps=steps)
    if heat + hold:
        positions = burn_in(
            posterior,
            positions,
            heat_key,
            masses=kernel.geometry,
            heat=heat,
            hold=hold,
            step_size=step_size,
            progress=lambda done, total, infos: report("heating", done, total),
        ).positions
    tuned, step_sizes = None, None
    if ladder is None:
        guess = Ladder.geometric(float(posterior.temperature), highest, coupling=coupling, rungs=4)
        tuned = tune_ladder(
            kernel,
            positions,
            ladder_key,
            guess,
            path,
            ladders=ladders,
            acceptance=acceptance,
            rounds=rounds,
            sweeps=sweeps,
            target=target,
            progress=lambda done, total: report("ladder", done, total),
        )
        ladder, step_sizes, placed = tuned.ladder, tuned.step_sizes, tuned.positions
    else:
        placed = deal(positions, ladders, ladder.rungs)
    exchange = ReplicaExchange(kernel, ladder, path, step_sizes=step_sizes, warmup=warmup, target=target)
    discard = -(-warmup // thin)
    total = (discard + draws) * thin
    chunk = max(GRADIENTS_PER_CHUNK // (ladders * ladder.rungs * steps * thin), 1) * thin
    drawn = run(
        exchange,
        exchange.init(start_key, placed),
        sample_key,
        total,
        every=thin,
        observe=_target_rung,
        chunk=chunk,
        progress=lambda done, total, infos: report("sampling", done, total),
        checkpoint=checkpoint,
        label="tempered sampling",
    )
    kept = jax.tree.map(lambda leaf: leaf[discard * thin :], drawn.infos)
    x = np.swapaxes(np.asarray(drawn.observations[discard:]), 0, 1)
    flat = jnp.asarray(x.reshape(-1, *x.shape[2:]))
    energies = np.asarray(_potentials(posterior, flat), np.float64).reshape(ladders, draws)
    mixing = None if torsions is None else torsion_mixing(torsions, torsions.along(x))
    health = sampler_health(jax.tree.map(lambda leaf: leaf[:, :, 0], kept.rungs))
    trips = round_trips(kept.replica)
    diagnosis = assess({"energy": energies}, torsions=mixing, health=health)
    return TemperedResult(
        positions=x,
        potentials=energies,
        replica=kept.replica[thin - 1 :: thin, :, 0].T,
        ladder=ladder,
        tuned=tuned,
        swap_acceptance=kept.swap_probability.sum(axis=0) / np.maximum(kept.proposed.sum(axis=0), 1),
        round_trips=trips,
        step_sizes=kept.rungs.step_size[-1, 0],
        total_energies=np.asarray(kept.rungs.total_energy[:, :, 0], np.float64).T,
        health=health,
        torsions=mixing,
        diagnosis=diagnosis,
        weights=weights_in_words(trips, diagnosis),
        gradients=int((1 + kept.rungs.steps).sum()),
    )


def weights_in_words(trips: np.ndarray, diagnosis: Diagnosis) -> str:
    """Whether the weights of basins may be believed, from round trips per ladder and the agreement of ladders."""
    count = f"{int(trips.min())} to {int(trips.max())} round trips per ladder"
    if len(trips) < 2:
        return f"Weights of basins are unchecked: one ladder has nothing to agree with ({count})."
    if trips.min() < _ENOUGH_TRIPS:
        return f"Basins have no weights: they are those of the starts, for replicas hardly travelled ({count})."
    if diagnosis.grade != "trusted":
        return f"Weights of basins are uncertain: replicas travel ({count}), but the diagnostics do not yet pass."
    return f"Basins are weighted by the time ladders spend in them, and ladders agree ({count})."


def _target_rung(state) -> Any:
    return state.rungs.position[:, 0]


@eqx.filter_jit
def _potentials(posterior: Posterior, positions: Array) -> Array:
    return lax.map(lambda x: posterior.rebuild(x).potential(x), positions)

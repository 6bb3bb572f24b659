"""Finding the rungs of a ladder from the swaps that are seen."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...energy.path import AbstractEnergyPath
from ...run import AbstractKernel, run
from ...typing import Array, PRNGKeyArray
from ..adaptation.step_size import GRADIENTS_PER_CHUNK
from .exchange import ReplicaExchange, core
from .ladder import Ladder, exchange_lengths, place_rungs, round_trips


class LadderRound(NamedTuple):
    """One round of `tune_ladder`, in NumPy.

    Fields:
        ladder: the rungs that were run.
        swap_acceptance: (rungs − 1,) mean swap probability of each pair.
        round_trips: of all replicas.
        barrier: Σ of the rejection rates, the communication barrier Λ: with perfect mixing within rungs a replica
            makes at best 1/(2 + 2Λ) round trips per sweep.
        length: thermodynamic length of the ladder; it does not depend on the spacing.
    """

    ladder: Ladder
    swap_acceptance: np.ndarray
    round_trips: int
    barrier: float
    length: float


class TunedLadder(NamedTuple):
    """A ladder ready to sample with.

    Fields:
        ladder: its rungs.
        step_sizes: (rungs,) ps.
        positions: (ladders, rungs, atoms, 3) where the last round ended.
        rounds: what was seen on the way; the last one is of ``ladder``.
        on_target: whether every pair of the last round exchanges with a probability within ±0.15 of the target, or
            with more if there are only two rungs.
    """

    ladder: Ladder
    step_sizes: np.ndarray
    positions: Array
    rounds: tuple[LadderRound, ...]
    on_target: bool

    def report(self) -> str:
        """A table of the rounds in words."""
        lines = []
        for number, one in enumerate(self.rounds, 1):
            acceptance = " ".join(f"{a:.2f}" for a in one.swap_acceptance)
            lines.append(
                f"round {number}: {one.ladder.rungs} rungs, swaps accepted {acceptance}, barrier {one.barrier:.1f}, "
                f"{one.round_trips} round trips"
            )
        last = self.rounds[-1].ladder
        lines.append("temperatures (K): " + " ".join(f"{t:.0f}" for t in np.asarray(last.temperatures)))
        if np.any(np.asarray(last.couplings) != 1):
            lines.append("couplings: " + " ".join(f"{c:.3f}" for c in np.asarray(last.couplings)))
        return "\n".join(lines)


def tune_ladder(
    kernel: AbstractKernel,
    positions: Array,
    key: PRNGKeyArray,
    ladder: Ladder,
    path: AbstractEnergyPath | None = None,
    *,
    ladders: int = 2,
    acceptance: float = 0.45,
    rounds: int = 4,
    sweeps: int = 100,
    most: int = 32,
    target: float = 0.8,
    vectorized: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> TunedLadder:
    """Places the rungs between the ends of ``ladder`` so that all neighbours swap with one probability.

    Every round runs the ladder, half of its sweeps to settle and to tune step sizes, half to measure; then rungs are
    placed anew, as many as the target needs. The last round runs the ladder that is returned. Replicas that have moved
    to another temperature need the settling: with little of it swaps look too good.

    Arguments:
        kernel: `HMC` of the target.
        positions: (starts, atoms, 3) typical configurations, nm, dealt out over ladders and rungs.
        key: random key.
        ladder: first guess; its ends stay.
        path: energies U_λ for ladders with couplings.
        ladders: independent ladders, whose swaps are averaged.
        acceptance: swap probability aimed at.
        rounds: rounds, the last of which changes nothing; at least 1.
        sweeps: sweeps of a round.
        most: rungs allowed.
        target: acceptance of trajectories, see `ReplicaExchange`.
        vectorized: see `jaxcg.batching.batch_map`.
        progress: called as ``progress(round, rounds)`` after each.

    Returns:
        The `TunedLadder`.

    Raises:
        ValueError: arguments out of range.
        ResultError: a replica did not stay finite.
    """
    if rounds < 1 or sweeps < 4 or ladders < 1:
        raise ValueError("tune_ladder: there must be at least one round, four sweeps and one ladder.")
    positions = jnp.asarray(positions)
    placed = deal(positions, ladders, ladder.rungs)
    step_sizes, seen = np.full(ladder.rungs, float(core(kernel).step_size)), []
    for number in range(rounds):
        exchange = ReplicaExchange(
            kernel,
            ladder,
            path,
            step_sizes=step_sizes,
            warmup=sweeps // 2,
            target=target,
            vectorized=vectorized,
        )
        round_key = jax.random.fold_in(key, number)
        chunk = max(GRADIENTS_PER_CHUNK // (ladders * ladder.rungs * int(core(kernel).steps)), 1)
        result = run(
            exchange,
            exchange.init(round_key, placed),
            round_key,
            sweeps,
            chunk=min(chunk, sweeps),
            label=f"tuning the ladder, round {number + 1}",
        )
        measured = jax.tree.map(lambda leaf: leaf[sweeps // 2 :], result.infos)
        proposals = np.maximum(measured.proposed.sum(axis=(0, 1)), 1)
        accepted = measured.swap_probability.sum(axis=(0, 1), dtype=np.float64) / proposals
        trips = int(round_trips(measured.replica).sum())
        length = float(exchange_lengths(accepted).sum())
        seen.append(LadderRound(ladder, accepted, trips, float((1 - accepted).sum()), length))
        placed = result.state.rungs.position
        step_sizes = np.asarray(result.state.rungs.step_size[0], np.float64)
        if progress is not None:
            progress(number + 1, rounds)
        if number + 1 < rounds and ladder.rungs > 1:
            new = place_rungs(ladder, accepted, acceptance, most=most)
            nearest = _nearest(ladder, new, accepted)
            placed, step_sizes, ladder = placed[:, nearest], step_sizes[nearest], new
    last = seen[-1].swap_acceptance
    low = bool(np.all(last > acceptance - 0.15))
    high = len(last) < 2 or bool(np.all(last < acceptance + 0.15))
    return TunedLadder(ladder, step_sizes, placed, tuple(seen), low and high)


def deal(positions: Array, ladders: int, rungs: int) -> Array:
    """(starts, atoms, 3) starts dealt out to (ladders, rungs, atoms, 3), all of them used before any is used again."""
    index = np.arange(ladders * rungs).reshape(rungs, ladders).T % positions.shape[0]
    return positions[index]


def _nearest(old: Ladder, new: Ladder, acceptance: np.ndarray) -> np.ndarray:
    """For every new rung the old rung it is closest to, in thermodynamic length."""
    ours = np.concatenate([[0.0], np.cumsum(exchange_lengths(acceptance))])
    theirs = np.linspace(0.0, ours[-1], new.rungs)
    return np.argmin(np.abs(theirs[:, None] - ours[None, :]), axis=1)

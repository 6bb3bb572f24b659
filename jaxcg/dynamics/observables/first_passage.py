"""First-passage and transition-path times of a coordinate: what they are, their distribution and its errors.

A passage goes from a value ``start`` to a value ``end``. Its clock may be read in three ways:

- ``"first"``: from the first visit to ``start`` after ``end`` to the first visit to ``end`` after that; one passage for
  each round trip. A trajectory visits ``start`` when it is at it or beyond it as seen from ``end``.
- ``"all"``: from every crossing of ``start``, in either direction, to the first visit to ``end`` after it. Crossings
  come in bunches, so this weighs round trips with many recrossings more.
- ``"transition path"``: from the last visit to ``start`` to the first visit to ``end`` after it: the time under way.

The three agree in nothing but their end; without memory the mean of the first two is that of an escape over the same
barrier, and with memory they differ, because a trajectory that has just arrived remembers where it came from.
Times are whole numbers of frames: crossings between two frames count at the later one.

A passage under way at the end of its trajectory is cut off. Leaving such passages out makes the mean too short, in
short trajectories by a lot; the survival function of Kaplan and Meier counts them for as long as they were seen.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.signal import find_peaks

from ...energy.base import AbstractEnergy
from ...typing import Array
from ...units import GAS_CONSTANT

Clock = Literal["first", "all", "transition path"]

#: Fewest completed passages for a distribution.
_FEWEST = 2
#: Passages of one long trajectory are resampled in at least this many groups.
_GROUPS = 20


class Passages(NamedTuple):
    """Passages found by `passages`, in the order of trajectories and of their beginning.

    Fields:
        durations: (passages,) ps, seen until the passage ended or the trajectory did.
        completed: (passages,) whether ``end`` was reached.
        trajectories: (passages,) which trajectory each belongs to.
    """

    durations: np.ndarray
    completed: np.ndarray
    trajectories: np.ndarray


def passages(x, start: float, end: float, spacing: float, *, clock: Clock = "first") -> Passages:
    """All passages from ``start`` to ``end``, those cut off by the end of a trajectory among them.

    Arguments:
        x: (trajectories, frames) or (frames,) coordinate, nm.
        start, end: its values, in any order.
        spacing: between frames, ps.
        clock: when a passage begins, see the module.

    Raises:
        ValueError: start and end are equal, or the coordinate is not finite.
    """
    x = np.atleast_2d(np.asarray(x))
    if start == end:
        raise ValueError(f"passages: start and end are both {start:g}; choose two values.")
    if x.ndim != 2 or not np.isfinite(x).all():
        raise ValueError(f"passages: positions of shape {x.shape}; give (trajectories, frames), all finite.")
    frames = x.shape[1]
    sign = 1.0 if end > start else -1.0
    at_start, at_end = sign * (x - start) <= 0, sign * (x - end) >= 0
    frame = np.arange(frames)
    # The first visit to the end at or after every frame; `frames` where there is none.
    ending = np.minimum.accumulate(np.where(at_end, frame, frames)[:, ::-1], axis=1)[:, ::-1]
    if clock == "all":
        begins = np.zeros_like(at_start)
        begins[:, 1:] = at_start[:, 1:] != at_start[:, :-1]
        begins &= ~at_end
    elif clock == "first":
        begins = _changes(at_start, at_end)
    elif clock == "transition path":
        # Whoever is at the end having last been at the start has just completed a path.
        completes = _changes(at_end, at_start, need_other=True)
        last = np.maximum.accumulate(np.where(at_start, frame, -1), axis=1)
        which, when = np.nonzero(completes)
        return Passages((when - last[which, when]) * float(spacing), np.ones(len(when), bool), which)
    else:
        raise ValueError(f"passages: clock {clock!r} is not known; choose first, all or transition path.")
    which, when = np.nonzero(begins)
    stop = ending[which, when]
    completed = stop < frames
    return Passages((np.minimum(stop, frames - 1) - when) * float(spacing), completed, which)


def _changes(here: np.ndarray, there: np.ndarray, *, need_other: bool = False) -> np.ndarray:
    """Frames at which a trajectory is ``here`` for the first time since it was ``there`` (or since it began)."""
    frame = np.arange(here.shape[1])
    last = np.maximum.accumulate(np.where(here | there, frame, -1), axis=1)
    before = np.concatenate([np.full((len(here), 1), -1), last[:, :-1]], axis=1)
    was_here = np.take_along_axis(here, np.maximum(before, 0), axis=1) & (before >= 0)
    return here & ~was_here & ((before >= 0) if need_other else True)


class Survival(NamedTuple):
    """Kaplan-Meier estimate: the share of passages still under way after each of the ``times`` (ps, ascending).

    Fields:
        times: (steps,) durations at which passages ended.
        values: (steps, …) share under way just after.
        tail_start: beyond it the tail is taken for an exponential: the median duration.
        tail_rate: its rate, (…), 1/ps: passages that ended beyond, over the time spent beyond.
        mean: (…) ps: area under the survival function, beyond the last end that of the exponential tail.
    """

    times: np.ndarray
    values: np.ndarray
    tail_start: float
    tail_rate: np.ndarray
    mean: np.ndarray


def survival_function(durations, completed, weights=None) -> Survival:
    """Survival function of durations of which some were cut off before their end.

    Arguments:
        durations: (passages,) ps.
        completed: (passages,) whether the duration is the whole one.
        weights: (samples, passages) how often each passage counts, such as those of a bootstrap; the result then has a
            last axis (samples).

    Raises:
        ValueError: fewer than two durations are whole.

    Source: Kaplan & Meier, J. Am. Stat. Assoc. 53, 457 (1958); Brown, Hollander & Korwar, in Reliability and Biometry
    (SIAM, 1974), for the exponential completion of the tail.
    """
    durations, completed = np.asarray(durations, np.float64), np.asarray(completed, bool)
    if completed.sum() < _FEWEST:
        raise ValueError(
            f"survival_function: {completed.sum()} completed passages are too few; give longer trajectories, or start "
            "and end that are reached more often."
        )
    scalar = weights is None
    weights = np.ones((1, len(durations))) if weights is None else np.asarray(weights, np.float64)
    times, place = np.unique(durations, return_inverse=True)
    ended, left = (np.zeros((len(times), len(weights))) for _ in range(2))
    np.add.at(ended, place[completed], weights[:, completed].T)
    np.add.at(left, place, weights.T)
    at_risk = np.cumsum(left[::-1], axis=0)[::-1]
    values = np.cumprod(1 - ended / np.maximum(at_risk, 1e-300), axis=0)
    tail_start = float(np.median(durations[completed]))
    beyond = np.maximum(durations - tail_start, 0.0)
    ends = weights[:, completed & (durations > tail_start)].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        tail_rate = np.where(ends > 0, ends / (weights @ beyond), ended.sum(axis=0) / (weights @ durations))
        area = times[0] + np.sum(values[:-1] * np.diff(times)[:, None], axis=0)
        mean = area + np.where(values[-1] > 0, values[-1] / tail_rate, 0.0)
    if scalar:
        values, tail_rate, mean = values[:, 0], tail_rate[0], mean[0]
    return Survival(times, values, tail_start, tail_rate, mean)


@dataclass(frozen=True)
class FirstPassage:
    """Distribution of passage times from one value of a coordinate to another. Result of `first_passage_distribution`.

    Fields:
        start, end: values of the coordinate, nm.
        clock: when a passage begins.
        mean, mean_error: ps; the error by resampling trajectories, or groups of passages of a few long ones.
        completed, cut_off: number of passages seen to their end, and of those that the trajectory's end cut off.
        times: (times,) ps, grid of the survival function.
        survival, survival_error: (times,) share of passages longer than that, Kaplan-Meier.
        edges: (bins + 1,) ps.
        density, density_error: (bins,) 1/ps, fall of the survival function over each bin.
        tail_start, tail_rate, tail_rate_error: exponential tail beyond ``tail_start`` (ps), 1/ps.
    """

    start: float
    end: float
    clock: Clock
    mean: float
    mean_error: float
    completed: int
    cut_off: int
    times: np.ndarray
    survival: np.ndarray
    survival_error: np.ndarray
    edges: np.ndarray
    density: np.ndarray
    density_error: np.ndarray
    tail_start: float
    tail_rate: float
    tail_rate_error: float


def first_passage_distribution(
    x,
    start: float,
    end: float,
    spacing: float,
    *,
    clock: Clock = "first",
    bins: int = 40,
    resamples: int = 200,
    seed: int = 0,
) -> FirstPassage:
    """Passage times from ``start`` to ``end``: mean, survival function and histogram with standard errors.

    Errors are by bootstrap over trajectories where there are twenty or more, else over consecutive groups of passages.

    Arguments:
        x: (trajectories, frames) or (frames,) coordinate, nm.
        start, end: its values, in any order, nm.
        spacing: between frames, ps.
        clock: ``"first"`` (after each round trip), ``"all"`` (crossings of start) or ``"transition path"``.
        bins: of the histogram, and four times as many points of the survival function.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: fewer than two passages were completed.

    Source: Kaplan & Meier, J. Am. Stat. Assoc. 53, 457 (1958).
    """
    found = passages(x, start, end, spacing, clock=clock)
    whole = survival_function(found.durations, found.completed)
    groups = resampling_groups(found)
    rng = np.random.default_rng(seed)
    drawn = survival_function(found.durations, found.completed, draw(groups, resamples, rng))
    last = float(whole.times[-1])
    times, edges = np.linspace(0, last, 4 * bins + 1), np.linspace(0, last, bins + 1)
    width = edges[1]
    density = -np.diff(_at(whole, edges), axis=0) / width
    return FirstPassage(
        start=float(start),
        end=float(end),
        clock=clock,
        mean=float(whole.mean),
        mean_error=float(np.std(drawn.mean, ddof=1)),
        completed=int(found.completed.sum()),
        cut_off=int((~found.completed).sum()),
        times=times,
        survival=_at(whole, times),
        survival_error=_at(drawn, times).std(axis=-1, ddof=1),
        edges=edges,
        density=density,
        density_error=(-np.diff(_at(drawn, edges), axis=0) / width).std(axis=-1, ddof=1),
        tail_start=whole.tail_start,
        tail_rate=float(whole.tail_rate),
        tail_rate_error=float(np.std(drawn.tail_rate, ddof=1)),
    )


def passage_ends(
    energy: AbstractEnergy, positions, temperature: float, *, flat: bool = True, barrier: float = 0.5
) -> tuple[tuple[float, float], ...]:
    """Pairs (start, end) worth asking for: there and back between the two deepest minima of a potential.

    With one minimum in the range of the positions, or several coordinates, it is the lowest and the highest tenth of
    the positions of the first coordinate instead.

    Arguments:
        energy: u(x), kJ/mol.
        positions: (trajectories, frames, coordinates), nm: where the coordinate has been.
        temperature: K.
        flat: whether the energy takes a number and not an array of one.
        barrier: kT; minima parted by less are one.
    """
    x = np.asarray(positions)
    low, high = (float(q) for q in np.quantile(x[..., 0], [0.1, 0.9]))
    if x.shape[-1] == 1:
        grid = np.linspace(np.quantile(x, 0.001), np.quantile(x, 0.999), 400)
        u = np.asarray(jax.vmap(energy)(jnp.asarray(grid if flat else grid[:, None])), np.float64)
        walls = np.concatenate([[np.inf], u, [np.inf]])
        minima = find_peaks(-walls, prominence=barrier * GAS_CONSTANT * temperature)[0] - 1
        if len(minima) > 1:
            # Between the points of the grid: the vertex of the parabola through three of them.
            inner = np.clip(minima[np.argsort(u[minima])[:2]], 1, len(grid) - 2)
            left, here, right = u[inner - 1], u[inner], u[inner + 1]
            offset = 0.5 * (left - right) / np.maximum(left - 2 * here + right, 1e-300)
            low, high = sorted(float(p) for p in grid[inner] + np.clip(offset, -1, 1) * (grid[1] - grid[0]))
    return (low, high), (high, low)


def resampling_groups(found: Passages) -> np.ndarray:
    """(passages,) group that each is resampled with: its trajectory, or a run of passages of a few long ones."""
    _, groups = np.unique(found.trajectories, return_inverse=True)
    if groups.size and groups.max() + 1 < _GROUPS:
        groups = np.arange(len(groups)) * min(_GROUPS, len(groups)) // len(groups)
    return groups


def draw(groups: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, passages) how often each passage counts when groups are drawn with replacement."""
    count = int(groups.max()) + 1
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples)[:, groups]


def _at(survival: Survival, times: np.ndarray) -> np.ndarray:
    """The survival function, a step function that starts at one, at ``times``."""
    before = np.concatenate([np.ones_like(survival.values[:1]), survival.values])
    return before[np.searchsorted(survival.times, times, side="right")]


@jax.jit
def first_passage_times(x: Array, start: Array, end: Array) -> tuple[Array, Array]:
    """First-passage times from one value of a coordinate to another in every trajectory, in frames.

    A passage begins when the trajectory reaches ``start`` coming from ``end`` (or begins beyond it) and ends when it
    reaches ``end``; then it must come back to ``start`` before the next one begins. For means and errors use
    `first_passage_distribution`, which knows what passages that were cut off are worth.

    Arguments:
        x: (trajectories, frames) coordinate.
        start, end: its values, in any order.

    Returns:
        (trajectories, frames) times, zero where no passage ends, and the number of passages of each trajectory.
    """
    sign = jnp.sign(end - start)
    begins, ends = sign * (x - start) <= 0, sign * (x - end) >= 0

    def step(clock, now):
        begin, end = now
        # clock: −1 while no passage is under way.
        clock = jnp.where((clock < 0) & begin, 0, clock)
        passed = jnp.where((clock > 0) & end, clock, 0)
        clock = jnp.where(end, -1, jnp.where(clock >= 0, clock + 1, clock))
        return clock, passed

    clock = jnp.full(x.shape[0], -1)
    times = jax.lax.scan(step, clock, (begins.T, ends.T))[1].T
    return times, jnp.sum(times > 0, axis=1)

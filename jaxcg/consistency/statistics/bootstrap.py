"""Intervals for any function of averages, by drawing blocks with replacement. On the host, in double precision."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from .block_errors import FEWEST_BLOCKS
from .estimate import Estimate, check_level

#: Numbers of resampled averages held at once.
_AT_ONCE = 2**24


class BootstrapEstimate(NamedTuple):
    """A function of averages with its interval. Numbers, or arrays of the shape the function returns.

    Fields:
        value: the function of the averages over all blocks. Its bias is reported, not taken off.
        error: standard deviation over the resamples, widened for the number of blocks.
        lower, upper: ends of the confidence interval.
        bias: mean over the resamples less the value; what the curvature of the function adds at this scatter.
        level: probability that the interval holds the true value.
        blocks: number of blocks of the smallest sample.
    """

    value: Any
    error: Any
    lower: Any
    upper: Any
    bias: Any
    level: float
    blocks: int

    @property
    def estimate(self) -> Estimate:
        """Value and error alone."""
        return Estimate(self.value, self.error)


def block_bootstrap(
    function: Callable[..., Any],
    *samples: Any,
    resamples: int = 2000,
    level: float = 0.95,
    method: Literal["bca", "percentile", "basic"] = "bca",
    vectorized: bool = False,
    seed: int = 0,
) -> BootstrapEstimate:
    """Confidence interval of a function of averages.

    Blocks of every sample are drawn with replacement, independently of the other samples, and the function is taken
    of their averages. Blocks must be long enough to be independent: make them with `block_means`. For ratios of
    averages, such as distributions with a varying number of counts, give numerator and denominator as two leaves of
    one sample and divide in the function, so that both are drawn together.

    Arguments:
        function: of one average for each sample (a pytree like the sample, the axis of blocks averaged away); returns
            a number or an array.
        samples: each an array (blocks, ...) or a pytree of such arrays with the same number of blocks; four at least.
        resamples: number of draws; the ends of a BCa interval are noisy with fewer than some two thousand.
        level: probability that the interval holds the true value.
        method: "bca" (bias-corrected and accelerated: right to second order, the default), "percentile", or "basic"
            (twice the value less the percentiles).
        vectorized: the function takes averages with a leading axis of resamples and returns (resamples, ...).
        seed: of the draws.

    Returns:
        The `BootstrapEstimate`.

    Raises:
        ValueError: fewer than four blocks, samples with unequal leaves, a function that is not finite, an unknown
            method, or a level not between 0 and 1.

    Source: Efron, J. Am. Stat. Assoc. 82, 171 (1987) (BCa); Hesterberg, Am. Stat. 69, 371 (2015) (percentiles and
    errors widened for small samples).
    """
    check_level(level)
    if method not in ("bca", "percentile", "basic"):
        raise ValueError(f"block_bootstrap: unknown method {method!r}; give 'bca', 'percentile' or 'basic'.")
    leaves, structures, counts = _opened(samples)
    call = function if vectorized else _one_by_one(function)

    def at(weights):
        averages = [
            structure.unflatten([np.tensordot(w, leaf, 1) for leaf in parts])
            for structure, parts, w in zip(structures, leaves, weights, strict=True)
        ]
        return _checked(call(*averages), len(weights[0]))

    value = at([np.full((1, count), 1 / count) for count in counts])[0]
    rng = np.random.default_rng(seed)
    numbers = sum(leaf[0].size + len(leaf) for parts in leaves for leaf in parts)
    width = max(_AT_ONCE // max(numbers, 1), 1)
    draws = np.concatenate(
        [
            at([rng.multinomial(count, np.full(count, 1 / count), min(width, resamples - start)) / count
                for count in counts])
            for start in range(0, resamples, width)
        ]
    )  # fmt: skip
    smallest = min(counts)
    # Draws from the blocks scatter too little by the share of blocks that fixing their mean takes.
    widened = np.sqrt(smallest / (smallest - 1))
    low, high = _tails(draws, value, level, smallest, _acceleration(at, counts) if method == "bca" else None)
    ends = _quantiles(draws, low), _quantiles(draws, high)
    lower, upper = ends if method != "basic" else (2 * value - ends[1], 2 * value - ends[0])
    error, bias = draws.std(axis=0, ddof=1) * widened, draws.mean(axis=0) - value
    found = BootstrapEstimate(value, error, lower, upper, bias, level, smallest)
    return found if value.ndim else BootstrapEstimate(*map(float, found[:5]), level=level, blocks=smallest)


def block_draws(blocks: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, blocks) how often each block is drawn with replacement, float64."""
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), resamples).astype(np.float64)


def widened_tail(level: float, blocks: int) -> float:
    """Probability below the lower percentile that gives an interval of ``level`` from few blocks."""
    return float(ndtr(np.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, (1 - level) / 2)))


def _opened(samples):
    if not samples:
        raise ValueError("block_bootstrap: give at least one sample of blocks.")
    leaves, structures, counts = [], [], []
    for number, sample in enumerate(samples):
        parts, structure = jax.tree.flatten(sample)
        parts = [np.asarray(part, np.float64) for part in parts]
        lengths = {len(part) if part.ndim else 0 for part in parts}
        if len(lengths) != 1 or min(lengths) < FEWEST_BLOCKS:
            raise ValueError(
                f"block_bootstrap: sample {number} has {sorted(lengths)} blocks; all its arrays need the same number, "
                f"{FEWEST_BLOCKS} at least: cut the series into more blocks or give a longer one."
            )
        leaves.append(parts)
        structures.append(structure)
        counts.append(lengths.pop())
    return leaves, structures, counts


def _one_by_one(function):
    def call(*averages):
        count = len(jax.tree.leaves(averages)[0])
        return np.stack([np.asarray(function(*jax.tree.map(lambda x, i=i: x[i], averages))) for i in range(count)])

    return call


def _checked(values, count: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape[:1] != (count,):
        raise ValueError(
            f"block_bootstrap: a vectorized function returned shape {values.shape} for {count} resamples; it must "
            "keep the leading axis."
        )
    bad = int(np.sum(~np.isfinite(values.reshape(count, -1)).all(axis=1)))
    if bad:
        raise ValueError(
            f"block_bootstrap: the function is not finite for {bad} of {count} averages; make it finite there "
            "(empty bins: merge them) or give more data."
        )
    return values


def _tails(draws, value, level, blocks, acceleration):
    """Probabilities of the two percentiles, each of the shape of the value."""
    tail = widened_tail(level, blocks)
    if acceleration is None:
        return np.full(value.shape, tail), np.full(value.shape, 1 - tail)
    below = np.mean(draws < value, axis=0) + np.mean(draws == value, axis=0) / 2
    edge = 0.5 / len(draws)
    shift = ndtri(np.clip(below, edge, 1 - edge))

    def moved(z):
        return ndtr(shift + (shift + z) / (1 - acceleration * (shift + z)))

    z = ndtri(tail)
    return moved(z), moved(-z)


def _acceleration(at, counts):
    """Skewness of the blocks' influence on the function, from leaving out each in turn."""
    cubes = squares = 0.0
    for number, count in enumerate(counts):
        weights = [np.full((count, other), 1 / other) for other in counts]
        weights[number] = (1 - np.eye(count)) / (count - 1)
        without = at(weights)
        influence = (without.mean(axis=0) - without) * (count - 1) / count
        cubes = cubes + (influence**3).sum(axis=0)
        squares = squares + (influence**2).sum(axis=0)
    return cubes / (6 * np.maximum(squares, 1e-300) ** 1.5)


def _quantiles(draws, probabilities):
    """Percentile of every component at its own probability."""
    ordered = np.sort(draws, axis=0)
    place = np.clip(probabilities * len(draws) - 0.5, 0, len(draws) - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, len(draws) - 1)
    pick = [np.take_along_axis(ordered, index[None], axis=0)[0] for index in (low, high)]
    return pick[0] + (place - low) * (pick[1] - pick[0])

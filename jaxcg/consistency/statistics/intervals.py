"""Divergences of two histograms with their intervals, from blocks drawn with replacement."""

from typing import NamedTuple, Self

import numpy as np
from scipy.special import ndtr

from .binning import grouped, shares_and_variances
from .bootstrap import block_draws, widened_tail
from .divergences import JENSEN_SHANNON, KL, REVERSE_KL, SQUARED_HELLINGER, Separable, carried, wasserstein_of_shares


class Divergence(NamedTuple):
    """One divergence with its error.

    Fields:
        name: "Kullback–Leibler", "reverse Kullback–Leibler", "Jensen–Shannon", "Hellinger" or "Wasserstein".
        direction: its formula with its sides, e.g. "D(reference‖model)".
        unit: "nats", that of the coordinate, or "".
        value: with the bias of finite samples taken off, not below zero.
        error: standard error.
        lower, upper: ends of the confidence interval.
        bias: what was taken off.
        bias_bound: most that may be left of the bias; nan where it is of third order in the errors of the shares.
        most: largest value there is; infinite where there is none.
        lower_bound: whether the true value may be anything above, because one side has nothing where the other has.
    """

    name: str
    direction: str
    unit: str
    value: float
    error: float
    lower: float
    upper: float
    bias: float
    bias_bound: float
    most: float
    lower_bound: bool

    def __str__(self) -> str:
        least = "at least " if self.lower_bound else ""
        unit = f" {self.unit}" if self.unit else ""
        label = f"{self.name}, {self.direction}"
        return f"{label}: {least}{self.value:.3g}{unit}, {self.lower:.3g} to {self.upper:.3g}"


class Drawn(NamedTuple):
    """Counts of two sides, and how often their blocks were drawn.

    Fields:
        counts: of each side, (blocks, bins).
        draws: of each side, (resamples, blocks).
        level: of the intervals.
    """

    counts: tuple[np.ndarray, np.ndarray]
    draws: tuple[np.ndarray, np.ndarray]
    level: float

    @classmethod
    def of(cls, first: np.ndarray, second: np.ndarray, resamples: int, level: float, rng: np.random.Generator) -> Self:
        """Draws for counts (blocks, bins) of the two sides."""
        draws = (block_draws(len(first), resamples, rng), block_draws(len(second), resamples, rng))
        return cls((first, second), draws, level)

    def grouped(self, group: np.ndarray) -> Self:
        """The same draws of merged bins."""
        return self._replace(counts=(grouped(self.counts[0], group), grouped(self.counts[1], group)))

    def marginal(self, shape: tuple[int, ...], axis: int) -> Self:
        """The same draws of one axis of bins of that shape."""
        others = tuple(i + 1 for i in range(len(shape)) if i != axis)
        first, second = (each.reshape(len(each), *shape).sum(axis=others) for each in self.counts)
        return self._replace(counts=(first, second))

    @property
    def tail(self) -> float:
        """Probability below the lower percentile."""
        return widened_tail(self.level, min(len(each) for each in self.counts))

    def shares(self) -> list[np.ndarray]:
        """Shares (1 + resamples, bins) of each side, the first row of all blocks as they are."""
        found = []
        for counts, draws in zip(self.counts, self.draws, strict=True):
            total = np.concatenate([np.ones((1, len(counts))), draws]) @ counts
            found.append(total / total.sum(axis=1, keepdims=True))
        return found


def separable_divergences(drawn: Drawn, sizes: tuple[float, float]) -> list[Divergence]:
    """Kullback–Leibler both ways, Jensen–Shannon and Hellinger.

    Arguments:
        drawn: counts of merged bins.
        sizes: effective sample sizes of the two sides.
    """
    p, q = drawn.shares()
    variances = [shares_and_variances(counts)[1] for counts in drawn.counts]
    p_floor, q_floor = (
        _floored(share, min(size, counts.sum()))
        for share, size, counts in zip((p, q), sizes, drawn.counts, strict=True)
    )
    p_alone, q_alone = bool(((p[0] > 0) & (q[0] == 0)).any()), bool(((q[0] > 0) & (p[0] == 0)).any())
    rows = (
        ("Kullback–Leibler", "D(reference‖model)", KL, (p, q_floor), np.inf, p_alone),
        ("reverse Kullback–Leibler", "D(model‖reference)", REVERSE_KL, (p_floor, q), np.inf, q_alone),
        ("Jensen–Shannon", "symmetric", JENSEN_SHANNON, (p, q), float(np.log(2)), False),
    )
    found = [
        Divergence(
            name,
            direction,
            "nats",
            **_interval(kind, *sides, variances, drawn.tail)._asdict(),
            bias_bound=np.nan,
            most=most,
            lower_bound=alone,
        )
        for name, direction, kind, sides, most, alone in rows
    ]
    # The bias is that of the square of the Hellinger distance, and so is the interval; its root is reported.
    square = _interval(SQUARED_HELLINGER, p, q, variances, drawn.tail)
    root, upper = square.value**0.5, square.upper**0.5
    hellinger = Divergence(
        name="Hellinger",
        direction="symmetric",
        unit="",
        value=root,
        error=min(square.error / (2 * root), upper) if root > 0 else upper,
        lower=square.lower**0.5,
        upper=upper,
        bias=(square.value + square.bias) ** 0.5 - root,
        bias_bound=np.nan,
        most=1.0,
        lower_bound=False,
    )
    return [*found, hellinger]


def wasserstein_divergence(drawn: Drawn, edges: np.ndarray, periodic: bool, unit: str) -> Divergence:
    """Wasserstein-1 distance of one coordinate.

    Its bias is never negative, for the distance is convex: where P − Q is d and its noise normal of width s, |d| gains
    s √(2/π) exp(−d²/2s²) − 2 |d| Φ(−|d|/s). With the d that was seen this is taken off; with a d smaller by two s
    (zero at least) it bounds what the bias may have been.
    """
    p, q = drawn.shares()
    values = wasserstein_of_shares(p, q, edges, periodic=periodic)
    value, draws = float(values[0]), values[1:]
    apart = carried(p, q, edges, periodic=periodic)[1]
    noise, size = apart[1:].std(axis=0, ddof=1), np.abs(apart[0])
    bias, most = (float(np.sum(np.diff(edges) * _folding(d, noise))) for d in (size, np.maximum(size - 2 * noise, 0.0)))
    bias = min(bias, value)
    low, high = np.quantile(draws, [drawn.tail, 1 - drawn.tail])
    # Draws gain the same bias over the value of all blocks, so that twice that value less a draw has lost it.
    lower, upper = max(2 * value - high - (most - bias), 0.0), max(2 * value - low, value - bias)
    span = float(edges[-1] - edges[0])
    return Divergence(
        "Wasserstein",
        "∫ |P − Q| dx, symmetric",
        unit,
        value - bias,
        float(draws.std(ddof=1)),
        float(lower),
        float(upper),
        bias,
        most - bias,
        span / 2 if periodic else span,
        False,
    )


def _folding(size, noise):
    """By how much the mean of |size + noise| is above the size, for normal noise of that width."""
    ratio = size / np.where(noise > 0, noise, 1.0)
    gain = np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) - 2 * ratio * ndtr(-ratio)
    return np.where(noise > 0, noise * gain, 0.0)


class _Interval(NamedTuple):
    value: float
    error: float
    lower: float
    upper: float
    bias: float


def _interval(kind: Separable, p, q, variances, tail: float) -> _Interval:
    """Value, error, lower, upper, bias, from shares (1 + resamples, bins).

    A divergence is a squared distance near zero: its root scatters alike wherever it is, so that the percentiles of the
    root of the draws are carried over to the estimate. Draws scatter about the biased value of the blocks, by which
    their own bias is recognised.
    """
    values = kind.of_shares(p, q)
    raw, draws = float(values[0]), values[1:]
    bias = float(kind.bias(p[0], q[0], *variances))
    value = max(raw - bias, 0.0)
    moved = np.sqrt(np.maximum(draws - bias, 0.0)) - np.sqrt(max(raw, 0.0))
    low, high = np.quantile(moved, [tail, 1 - tail])
    root = np.sqrt(value)
    lower, upper = max(root - high, 0.0) ** 2, max(root - low, 0.0) ** 2
    return _Interval(value, float(draws.std(ddof=1)), float(lower), float(max(upper, value)), raw - value)


def _floored(share, size: float):
    """Shares with at least half an effective sample in every bin."""
    raised = np.maximum(share, 0.5 / size)
    return raised / raised.sum(axis=1, keepdims=True)

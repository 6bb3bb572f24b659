"""Divergences of two histograms with their intervals, from blocks drawn with replacement."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Self

import numpy as np
from scipy.special import ndtr, ndtri

from .binning import grouped, shares_and_variances
from .bootstrap import block_draws, widened_tail
from .divergences import JENSEN_SHANNON, KL, REVERSE_KL, SQUARED_HELLINGER, Separable, carried, wasserstein_of_shares

#: Distances from the mean of two distributions, as parts of their own, where draws are made anew.
_BETWEEN = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 1.0)
#: Lower end of an interval, as a part of the value, below which two distributions may be nearly equal.
_NEAR = 0.25


class Divergence(NamedTuple):
    """One divergence with its error.

    Intervals cover the truth as often as they say where every bin has some twenty counts or more; with nine in the
    rarest bin an interval of 95 % for D(model‖reference) was seen to cover 92 to 93 %.

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
    s √(2/π) exp(−d²/2s²) − 2 |d| Φ(−|d|/s). With a d smaller than seen by two s (zero at least) this bounds the bias.
    What is taken off leaves the distance whose draws have the mean that was seen (`_where_draws_have`).
    """
    p, q = drawn.shares()
    distance = partial(wasserstein_of_shares, edges=edges, periodic=periodic)
    values = distance(p, q)
    value, draws = float(values[0]), values[1:]
    apart = carried(p, q, edges, periodic=periodic)[1]
    noise, size = apart[1:].std(axis=0, ddof=1), np.abs(apart[0])
    most = float(np.sum(np.diff(edges) * _folding(np.maximum(size - 2 * noise, 0.0), noise)))
    best = min(_where_draws_have(distance, p, q, np.mean), value)
    lower = min(_where_draws_have(distance, p, q, lambda each: np.quantile(each, 1 - drawn.tail)), best)
    upper = max(2 * value - np.quantile(draws, drawn.tail), best)
    if lower == 0:
        # Of noise as large as the signal no more is known than the triangle inequality says.
        noisy = distance((p[1:] - p[0]) - (q[1:] - q[0]), np.zeros_like(p[:1]))
        upper = max(upper, value + np.quantile(noisy, 1 - 2 * drawn.tail))
    span = float(edges[-1] - edges[0])
    return Divergence(
        name="Wasserstein",
        direction="∫ |P − Q| dx, symmetric",
        unit=unit,
        value=best,
        error=float(draws.std(ddof=1)),
        lower=lower,
        upper=float(upper),
        bias=value - best,
        bias_bound=max(most - (value - best), 0.0),
        most=span / 2 if periodic else span,
        lower_bound=False,
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

    Near zero a divergence is like a distance squared, whose root scatters alike wherever it is: the lower percentile of
    the root of the draws gives the upper end. Where the distributions may be nearly equal, little is known of the way
    in which they differ, and that with the largest scatter is supposed. The lower end is that of `_where_draws_have`.
    """
    values = kind.of_shares(p, q)
    raw, draws = float(values[0]), values[1:]
    bias = float(kind.bias(p[0], q[0], *variances))
    value = max(raw - bias, 0.0)
    root = value**0.5
    low = np.quantile(np.sqrt(np.maximum(draws - bias, 0.0)), tail) - raw**0.5
    upper = max(root - low, 0.0) ** 2
    lower = min(_where_draws_have(kind.of_shares, p, q, lambda each: np.quantile(each, 1 - tail)), value)
    if lower < _NEAR * value or value == 0:
        middle = (p[0] + q[0]) / 2
        noise = ((p[1:] - p[0]) - (q[1:] - q[0])) * np.sqrt(kind.curvatures(middle, middle)[0] / 2)
        widest = float(np.linalg.norm(noise, 2)) / np.sqrt(len(noise))
        upper = max(upper, (root - ndtri(tail) * widest) ** 2)
    return _Interval(value, float(draws.std(ddof=1)), lower, float(max(upper, value)), raw - value)


def _where_draws_have(of_shares: Callable, p, q, statistic: Callable) -> float:
    """Divergence of two distributions between p and q whose draws have the ``statistic`` that was seen.

    With the upper percentile as statistic this is the lower end of the interval: if the distributions were any closer,
    so large a value would not have been seen; zero where even equal distributions may give it.

    Arguments:
        of_shares: the divergence of shares (rows, bins).
        p: (1 + resamples, bins) shares, the first row those that were seen; the others tell the noise.
        q: of the other side.
        statistic: number of the divergences of all draws.
    """
    seen = float(of_shares(p[:1], q[:1])[0])
    away = np.stack([p[:1] - q[:1], q[:1] - p[:1]]) / 2
    before = 0.0
    for number, part in enumerate(_BETWEEN):
        found = float(statistic(of_shares(*_moved(p, q, away, part))[1:]))
        if found >= seen:
            if number == 0:
                return 0.0
            part = _BETWEEN[number - 1] + (part - _BETWEEN[number - 1]) * (seen - before) / (found - before)
            return float(of_shares(*_moved(p[:1], q[:1], away, part))[0])
        before = found
    return seen


def _moved(p, q, away, part):
    # No bin is emptied: a divergence would have no bounds there.
    moved = [np.maximum(each + (part - 1) * toward, 1e-3 * each) for each, toward in zip((p, q), away, strict=True)]
    return [each / each.sum(axis=1, keepdims=True) for each in moved]


def _floored(share, size: float):
    """Shares with at least half an effective sample in every bin."""
    raised = np.maximum(share, 0.5 / size)
    return raised / raised.sum(axis=1, keepdims=True)

"""Have the chains mixed? Rank-normalised split R-hat, effective sample sizes and Monte Carlo errors, in NumPy.

Every function takes draws (chains, draws) of one quantity, or (chains, draws, ...) of many at once, and returns a
float or an array (...). A quantity with fewer than four draws, with values that are not finite or that never changes
has the answer nan: nothing can be said of it.

Source: Vehtari, Gelman, Simpson, Carpenter & Bürkner, Bayesian Analysis 16, 667 (2021); the truncation of the
autocorrelation sum is Geyer's initial monotone sequence (Statist. Sci. 7, 473, 1992).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.fft import next_fast_len
from scipy.special import betaincinv, ndtr, ndtri

#: Quantiles whose effective sample size is that of the tails.
TAILS = (0.05, 0.95)

#: Numbers worked on at once: they fit the cache, and the memory is bounded for thousands of quantities.
_BLOCK = 2**17


@dataclass(frozen=True)
class Convergence:
    """How far the draws of one quantity (floats) or of many (arrays of one shape) may be trusted.

    Fields:
        mean, sd: of all draws; of an angle the circular mean and the circular standard deviation √(−2 ln R).
        r_hat: rank-normalised split R-hat, 1 when mixed.
        bulk, tail: effective sample sizes of the centre and of the tails.
        mean_error, sd_error: Monte Carlo standard errors of mean and sd.
    """

    mean: Any
    sd: Any
    r_hat: Any
    bulk: Any
    tail: Any
    mean_error: Any
    sd_error: Any


def convergence(draws: np.ndarray) -> Convergence:
    """R-hat, effective sample sizes, mean and standard deviation with their errors.

    Arguments:
        draws: (chains, draws, ...).
    """
    draws = np.asarray(draws)
    mean, sd = (_as_given(f(np.asarray(draws, np.float64), axis=(0, 1))) for f in (np.mean, _standard_deviation))
    return Convergence(mean, sd, *_each(_summary, draws, outputs=5))


def circular_convergence(angles: np.ndarray) -> Convergence:
    """`convergence` of angles: of their cosine and sine, the worse of the two.

    Arguments:
        angles: (chains, draws, ...) radians.

    Returns:
        The `Convergence`; mean, sd and their errors in radians. The error of the direction is that of its unit vector,
        so it is large where the angles have no preferred direction, at most that of a direction of which nothing is
        known, π/√3.
    """
    angles = np.asarray(angles, dtype=np.float64)
    one, other = (_each(_mixing, part, outputs=3) for part in (np.cos(angles), np.sin(angles)))
    r_hat = np.fmax(one[0], other[0])
    bulk, tail = (np.fmin(a, b) for a, b in zip(one[1:], other[1:], strict=True))
    mean = np.arctan2(np.sin(angles).mean(axis=(0, 1)), np.cos(angles).mean(axis=(0, 1)))
    along, across = np.cos(angles - mean), np.sin(angles - mean)
    length = np.clip(along.mean(axis=(0, 1)), np.finfo(np.float64).tiny, 1.0)
    sd = np.sqrt(-2 * np.log(length))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_error = np.minimum(mean_standard_error(across) / length, np.pi / np.sqrt(3))
        sd_error = mean_standard_error(along) / (length * sd)
    return Convergence(*(_as_given(value) for value in (mean, sd, r_hat, bulk, tail, mean_error, sd_error)))


def rank_normalised_r_hat(draws: np.ndarray) -> Any:
    """Rank-normalised split R-hat: the larger of its bulk and folded (tail) versions.

    Arguments:
        draws: (chains, draws, ...); at least 4 draws.

    Returns:
        R-hat, 1 when mixed (trust below 1.01); infinite where no chain ever moves and they differ.
    """
    return _each(lambda x: _ranked_r_hat(*_scores(_split(x))), draws)


def bulk_effective_sample_size(draws: np.ndarray) -> Any:
    """Number of independent draws that would tell as much of the centre of the distribution.

    Of rank-normalised split chains, so it exists for any distribution. Draws (chains, draws, ...).
    """
    return _each(lambda x: _effective_sample_size(_scores(_split(x))[0]), draws)


def tail_effective_sample_size(draws: np.ndarray) -> Any:
    """The smaller of the effective sample sizes of the 5 % and the 95 % quantile. Draws (chains, draws, ...)."""
    return _each(_tail, draws)


def quantile_effective_sample_size(draws: np.ndarray, probability: float) -> Any:
    """Effective sample size for the ``probability`` quantile of ``draws`` (chains, draws, ...)."""
    _check_probability(probability)
    return _each(lambda x: _quantile_size(x, probability), draws)


def mean_effective_sample_size(draws: np.ndarray) -> Any:
    """Effective sample size for the mean of ``draws`` (chains, draws, ...), not rank-normalised."""
    return _each(lambda x: _effective_sample_size(_split(x)), draws)


def sd_effective_sample_size(draws: np.ndarray) -> Any:
    """Effective sample size for the standard deviation of ``draws`` (chains, draws, ...)."""
    return _each(lambda x: _effective_sample_size(_split(_squares(x))), draws)


def mean_standard_error(draws: np.ndarray) -> Any:
    """Monte Carlo standard error of the mean of ``draws`` (chains, draws, ...)."""
    return _each(_mean_error, draws)


def sd_standard_error(draws: np.ndarray) -> Any:
    """Monte Carlo standard error of the standard deviation of ``draws`` (chains, draws, ...).

    From the error of the variance, the mean of squares, by the delta method.
    """
    return _each(_sd_error, draws)


def quantile_standard_error(draws: np.ndarray, probability: float) -> Any:
    """Monte Carlo standard error of the ``probability`` quantile of ``draws`` (chains, draws, ...).

    Half the distance between the two order statistics that hold the quantile with the probability of ±1 standard
    error, were it known from as many independent draws as its effective sample size.
    """
    _check_probability(probability)
    return _each(lambda x: _quantile_error(x, probability), draws)


def _each(statistic: Callable, draws: np.ndarray, outputs: int = 1) -> Any:
    """``statistic`` of (quantities, chains, draws) float64 blocks of those quantities of which anything can be said."""
    draws = np.asarray(draws)
    if draws.ndim < 2:
        raise ValueError(f"diagnostics: draws must be (chains, draws, ...), got shape {draws.shape}.")
    chains, n, *shape = draws.shape
    flat = draws.reshape(chains, n, -1)
    found = np.full((outputs, flat.shape[2]), np.nan)
    width = max(_BLOCK // max(chains * n, 1), 1)
    for start in range(0, flat.shape[2] if n >= 4 else 0, width):
        block = np.moveaxis(flat[:, :, start : start + width], 2, 0).astype(np.float64)
        known = np.isfinite(block).all(axis=(1, 2)) & (np.ptp(_split(block), axis=(1, 2)) > 0)
        if known.any():
            found[:, start : start + width][:, known] = statistic(block[known])
    answers = tuple(_as_given(row.reshape(shape)) for row in found)
    return answers if outputs > 1 else answers[0]


def _as_given(values) -> Any:
    return float(values) if np.ndim(values) == 0 else values


def _standard_deviation(draws, axis) -> Any:
    return draws.std(axis=axis, ddof=1) if draws.shape[0] * draws.shape[1] > 1 else np.full(draws.shape[2:], np.nan)


def _check_probability(probability: float) -> None:
    if not 0 < probability < 1:
        raise ValueError(f"diagnostics: the probability of a quantile lies between 0 and 1, got {probability}.")


def _summary(draws):
    return np.stack([*_mixing(draws), _mean_error(draws), _sd_error(draws)])


def _mixing(draws):
    scores, folded = _scores(_split(draws))
    return np.stack([_ranked_r_hat(scores, folded), _effective_sample_size(scores), _tail(draws)])


def _split(draws):
    half = draws.shape[2] // 2
    return np.concatenate([draws[:, :, :half], draws[:, :, -half:]], axis=1)


def _squares(draws):
    return (draws - draws.mean(axis=(1, 2), keepdims=True)) ** 2


def _scores(draws):
    """Normal scores, and those of the values folded about their median, (quantities, chains, draws) each.

    One sort serves both: in the order of the values the folded ones fall, then rise, which a merge sort takes at once.
    """
    flat = draws.reshape(len(draws), -1)
    count = flat.shape[1]
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    median = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    folded = np.abs(ordered - median[:, None])
    again = np.argsort(folded, axis=1, kind="stable")
    return tuple(
        _scores_of_sorted(values, places).reshape(draws.shape)
        for values, places in (
            (ordered, order),
            (np.take_along_axis(folded, again, axis=1), np.take_along_axis(order, again, axis=1)),
        )
    )


def _scores_of_sorted(values, places):
    """Normal scores of sorted ``values`` (quantities, count), put to their ``places``."""
    rows, count = values.shape
    number = np.arange(count)
    differs = values[:, 1:] != values[:, :-1]
    edge = np.ones((rows, 1), bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), number, 0), axis=1)
    last = np.where(np.hstack([differs, edge]), number, count)[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]
    # The mean rank of equal values is a whole or half number: the scores are those of a table.
    table = ndtri((0.5 * np.arange(2 * count - 1) + 1 - 0.375) / (count + 0.25))
    scores = np.empty_like(values)
    np.put_along_axis(scores, places, table[first + last], axis=1)
    return scores


def _ranked_r_hat(scores, folded):
    return np.fmax(_r_hat(scores), _r_hat(folded))


def _r_hat(draws):
    n = draws.shape[2]
    within = draws.var(axis=2, ddof=1).mean(axis=1)
    between = draws.mean(axis=2).var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((n - 1) / n + between / within)
    # Without round-off: chains that never move have no spread within, equal ones none between either.
    still = np.ptp(draws, axis=2).max(axis=1) == 0
    equal = np.ptp(draws, axis=(1, 2)) == 0
    return np.where(equal, np.nan, np.where(still, np.inf, ratio))


def _mean_error(draws):
    return draws.std(axis=(1, 2), ddof=1) / np.sqrt(_effective_sample_size(_split(draws)))


def _sd_error(draws):
    squares = _squares(draws)
    variance = squares.mean(axis=(1, 2))
    spread = (squares**2).mean(axis=(1, 2)) - variance**2
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(spread / _effective_sample_size(_split(squares)) / variance) / 2


def _tail(draws):
    return np.fmin(*(_size_below(draws, q) for q in np.quantile(draws, TAILS, axis=(1, 2), keepdims=True)))


def _quantile_size(draws, probability: float):
    return _size_below(draws, np.quantile(draws, probability, axis=(1, 2), keepdims=True))


def _size_below(draws, limits):
    """Effective sample size of the share of draws up to ``limits``."""
    split = _split(draws <= limits).astype(np.float64)
    # No draw on the other side (values with many ties): every draw says the same.
    constant = np.ptp(split, axis=(1, 2)) == 0
    return np.where(constant, split[0].size, _effective_sample_size(split))


def _quantile_error(draws, probability: float):
    size = _quantile_size(draws, probability)
    ordered = np.sort(draws.reshape(len(draws), -1), axis=1)
    count = ordered.shape[1]
    low, high = (
        betaincinv(size * probability + 1, size * (1 - probability) + 1, ndtr(sigma)) * count - 1 for sigma in (-1, 1)
    )
    low = np.floor(np.maximum(low, 0)).astype(int)
    high = np.ceil(np.minimum(high, count - 1)).astype(int)
    row = np.arange(len(ordered))
    return (ordered[row, high] - ordered[row, low]) / 2


def _effective_sample_size(draws):
    """Of split chains (quantities, chains, n) → (quantities,)."""
    quantities, chains, n = draws.shape
    means = draws.mean(axis=2, keepdims=True)
    length = next_fast_len(2 * n, real=True)
    spectrum = np.fft.rfft(draws - means, length, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)  # the chains' mean covariance needs one way back
    covariance = np.fft.irfft(power, length, axis=1)[:, :n] / n
    within = covariance[:, :1] * n / (n - 1)
    pooled = within * (n - 1) / n + means.var(axis=1, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1 - (within - covariance) / pooled
    correlation[:, 0] = 1
    # Sums of neighbouring pairs are positive and fall for a reversible chain: stop at noise, force the fall.
    pairs = correlation[:, : n - n % 2].reshape(quantities, -1, 2).sum(axis=2)
    last = max((n - 3) // 2, 0)
    negative = pairs[:, : last + 1] < 0
    cut = np.where(negative.any(axis=1), negative.argmax(axis=1), last)
    kept = np.arange(pairs.shape[1]) < cut[:, None]
    falling = np.where(kept, np.minimum.accumulate(pairs, axis=1), 0).sum(axis=1)
    # The even entry of the pair that is left out still helps antithetic chains.
    time = -1 + 2 * falling + np.maximum(correlation[np.arange(quantities), 2 * cut], 0)
    size = chains * n
    most = size * np.log10(size)
    return np.where(pooled[:, 0] > 0, np.minimum(size / np.maximum(time, 1 / np.log10(size)), most), np.nan)

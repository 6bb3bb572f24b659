"""Have the chains mixed? Rank-normalised split R-hat and effective sample sizes, in NumPy.

Source: Vehtari, Gelman, Simpson, Carpenter & Bürkner, Bayesian Analysis 16, 667 (2021); the truncation of the
autocorrelation sum is Geyer's initial monotone sequence (Statist. Sci. 7, 473, 1992).
"""

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata


def rank_normalised_r_hat(draws: np.ndarray) -> float:
    """Rank-normalised split R-hat: the larger of its bulk and folded (tail) versions.

    Arguments:
        draws: (chains, draws) of one quantity; at least 4 draws.

    Returns:
        R-hat, 1 when mixed (trust below 1.01); nan with too few draws or values that never change.
    """
    split = _split(draws)
    if split is None:
        return np.nan
    folded = np.abs(split - np.median(split))
    return max(_r_hat(_normal_scores(split)), _r_hat(_normal_scores(folded)))


def bulk_effective_sample_size(draws: np.ndarray) -> float:
    """Effective sample size of rank-normalised split chains, for the centre of the distribution.

    Arguments:
        draws: (chains, draws) of one quantity; at least 4 draws.

    Returns:
        Number of independent draws that would be worth as much; nan as for `rank_normalised_r_hat`.
    """
    split = _split(draws)
    return np.nan if split is None else _effective_sample_size(_normal_scores(split))


def mean_effective_sample_size(draws: np.ndarray) -> float:
    """Effective sample size for the mean of ``draws`` (chains, draws), not rank-normalised."""
    split = _split(draws)
    return np.nan if split is None else _effective_sample_size(split)


def _split(draws) -> np.ndarray | None:
    draws = np.asarray(draws, dtype=np.float64)
    if draws.ndim != 2:
        raise ValueError(f"diagnostics: draws must be (chains, draws), got shape {draws.shape}.")
    half = draws.shape[1] // 2
    if half < 2 or not np.all(np.isfinite(draws)) or np.ptp(draws) == 0:
        return None
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _normal_scores(draws):
    ranks = rankdata(draws, method="average").reshape(draws.shape)
    return ndtri((ranks - 0.375) / (draws.size + 0.25))


def _r_hat(draws) -> float:
    n = draws.shape[1]
    within = draws.var(axis=1, ddof=1).mean()
    between = draws.mean(axis=1).var(ddof=1)
    return float(np.sqrt((n - 1) / n + between / within)) if within > 0 else np.inf


def _effective_sample_size(draws) -> float:
    chains, n = draws.shape
    centred = draws - draws.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * n, axis=1)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), axis=1)[:, :n] / n
    within = covariance[:, 0].mean() * n / (n - 1)
    pooled = within * (n - 1) / n + draws.mean(axis=1).var(ddof=1)
    if not pooled > 0:
        return np.nan
    correlation = 1 - (within - covariance.mean(axis=0)) / pooled
    correlation[0] = 1
    # Sums of neighbouring pairs are positive and fall for a reversible chain: stop at noise, force the fall.
    pairs = correlation[: n - n % 2].reshape(-1, 2).sum(axis=1)
    last = max((n - 3) // 2, 0)
    negative = np.flatnonzero(pairs[: last + 1] < 0)
    last = negative[0] if negative.size else last
    # The even entry of the pair that is left out still helps antithetic chains.
    time = -1 + 2 * np.minimum.accumulate(pairs[:last]).sum() + max(correlation[2 * last], 0)
    size = chains * n
    return float(min(size / max(time, 1 / np.log10(size)), size * np.log10(size)))

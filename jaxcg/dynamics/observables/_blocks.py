"""Observables of blocks of trajectories, one row for each block: their scatter is the error."""

import numpy as np


def cut(series: np.ndarray, pieces: int) -> np.ndarray:
    """(trajectories, frames, coordinates) → (trajectories · pieces, frames // pieces, coordinates)."""
    count, frames, coordinates = series.shape
    length = frames // pieces
    return series[:, : pieces * length].reshape(count * pieces, length, coordinates)


def pieces_of(
    shape: tuple[int, ...], lags: int, blocks: int, fewest: int, slow: float, *, owner: str = "validate"
) -> int:
    """Into how many blocks to cut every trajectory: about ``blocks`` in all, none shorter than is good for them.

    Blocks are at least three times as long as the lags, and ten times the correlation time ``slow`` (frames) as long as
    ``fewest`` remain.

    Raises:
        ValueError: trajectories too short.
    """
    count, frames = shape[:2]
    pieces = max(min(-(-blocks // count), frames // (3 * lags)), 0)
    if pieces * count < fewest:
        longest = frames * count // fewest if count < fewest else frames
        raise ValueError(
            f"{owner}: {count} trajectories of {frames} frames are too short for {lags} lags: {fewest} blocks of "
            f"three times as many frames are needed; give more data, or at most {longest // 3} lags."
        )
    while pieces > 1 and frames // pieces < 10 * slow and -(-pieces // 2) * count >= fewest:
        pieces = -(-pieces // 2)
    return pieces


def velocity_correlations(first: np.ndarray, second: np.ndarray, lags: int) -> np.ndarray:
    """⟨a(t) b(0)⟩ of every block, averaged over the coordinates: (blocks, frames, coordinates) → (blocks, lags)."""
    frames = first.shape[1]
    size = 1 << (frames + lags - 1).bit_length()
    spectra = (np.fft.rfft(each, size, axis=1) for each in (first, second))
    product = np.mean(next(spectra) * np.conj(next(spectra)), axis=2)
    return np.fft.irfft(product, size, axis=1)[:, :lags] / (frames - np.arange(lags))


def square_displacements(x: np.ndarray, lags: int) -> np.ndarray:
    """⟨[x(t) − x(0)]²⟩ of every block, averaged over coordinates: (blocks, frames, coordinates) → (blocks, lags)."""
    x = x - x.mean(axis=1, keepdims=True)
    frames, lag = x.shape[1], np.arange(lags)
    ahead = np.cumsum(np.pad(np.mean(x**2, axis=2), ((0, 0), (1, 0))), axis=1)
    ends = ahead[:, frames - lag] + ahead[:, -1:] - ahead[:, lag]
    return ends / (frames - lag) - 2 * velocity_correlations(x, x, lags)


def shares(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Share of the frames of every block in each bin: (blocks, frames, coordinates) → (blocks, bins)."""
    place = np.clip(np.searchsorted(edges, x.reshape(len(x), -1), side="right") - 1, 0, len(edges) - 2)
    row = np.arange(len(x))[:, None] * (len(edges) - 1)
    counts = np.bincount((row + place).ravel(), minlength=len(x) * (len(edges) - 1))
    return counts.reshape(len(x), -1) / place.shape[1]


def correlation_time(x: np.ndarray) -> float:
    """Integrated correlation time of positions in frames, at least one: ½ + Σ ρ(t) up to the first negative ρ."""
    x = x - x.mean(axis=(0, 1))
    lags = max(x.shape[1] // 3, 2)
    rho = velocity_correlations(x, x, lags).mean(axis=0)
    stop = int(np.argmax(rho < 0.02 * rho[0])) or lags
    return max(float(np.sum(rho[:stop]) / rho[0]) - 0.5, 1.0)

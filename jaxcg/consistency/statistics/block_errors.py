"""Errors of averages over correlated series, from blocks that grow until their means are independent.

On the host and in double precision, whatever the precision of the data.

Source: Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989); the length of the blocks is that of Lee, Lloyd-Williams,
Needs & Drummond, Phys. Rev. E 83, 066706 (2011): the least B with B³ > 2 N s², where s is the statistical inefficiency
seen at B. It balances what short blocks miss of the correlations against the scatter of few long ones.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .estimate import Estimate

#: A series (frames, ...), or several independent runs, each (frames, ...), in a list or tuple.
Series: TypeAlias = Any

#: Blocks below which an error says nothing.
FEWEST_BLOCKS = 4


class BlockingCurve(NamedTuple):
    """Standard error of the mean against the length of the blocks; it rises to a plateau.

    Fields:
        lengths: (levels,) frames in a block, powers of two.
        blocks: (levels,) number of blocks.
        errors: (levels, ...) standard error of the mean if blocks of this length were independent.
        uncertainties: (levels, ...) standard error of ``errors`` for independent normal blocks.
    """

    lengths: np.ndarray
    blocks: np.ndarray
    errors: np.ndarray
    uncertainties: np.ndarray


def block_average(series: Series) -> Estimate:
    """Mean of a correlated series, its standard error and its effective sample size.

    What the blocks still miss of the correlations is added for a correlation that decays exponentially, for which a
    block of length B gives s − (s² − 1)/(2B) instead of the statistical inefficiency s.

    Arguments:
        series: (frames, ...) values in the order of time, or a list of such arrays from independent runs (blocks do
            not reach from one into the next).

    Returns:
        The `Estimate`, float64, each field of the trailing shape: mean over all frames; standard error (0 for what
        never changes, nan for fewer than four frames); number of independent frames, var(series)/error² (nan for what
        never changes).

    Raises:
        ValueError: no frames, runs of different shapes, or values that are not finite.
    """
    runs = _runs(series)
    frames = np.concatenate(runs)
    value = frames.mean(axis=0)
    if len(frames) < FEWEST_BLOCKS:
        unknown = np.full(value.shape, np.nan)
        return _estimate(value, unknown, unknown)
    curve = _curve(runs)
    level, inefficiency = _plateau(curve, len(frames))
    variance = np.take_along_axis(curve.errors, level[None], axis=0)[0] ** 2
    lengths = curve.lengths[level]
    with np.errstate(divide="ignore", invalid="ignore"):
        missed = (inefficiency - 1 / inefficiency) / (2 * lengths)
        error = np.sqrt(variance / (1 - np.clip(np.nan_to_num(missed), 0.0, 0.5)))
        still = np.ptp(frames, axis=0) == 0
        size = np.where(still, np.nan, frames.var(axis=0, ddof=1) / error**2)
    return _estimate(value, np.where(still, 0.0, error), size)


def statistical_inefficiency(series: Series) -> Any:
    """How many frames of a correlated series are worth one independent one, 1 + 2τ with τ in frames.

    Arguments:
        series: (frames, ...) or a list of runs, as of `block_average`.

    Returns:
        Float64 of the trailing shape; below 1 where neighbours are anticorrelated, nan for what never changes.

    Raises:
        ValueError: as of `block_average`.
    """
    count = sum(len(run) for run in _runs(series))
    return count / block_average(series).effective_sample_size


def blocking_curve(series: Series) -> BlockingCurve:
    """Standard errors of the mean for blocks of 1, 2, 4, ... frames, to look for the plateau.

    Arguments:
        series: (frames, ...) or a list of runs, as of `block_average`; four frames at least.

    Returns:
        The `BlockingCurve`.

    Raises:
        ValueError: as of `block_average`, or fewer than four frames.
    """
    runs = _runs(series)
    if sum(len(run) for run in runs) < FEWEST_BLOCKS:
        raise ValueError(f"blocking_curve: fewer than {FEWEST_BLOCKS} frames; give a longer series.")
    return _curve(runs)


def block_length(series: Series) -> int:
    """Frames in a block whose means may be taken as independent, one length for all components together.

    Arguments:
        series: (frames, ...) or a list of runs, as of `block_average`.

    Returns:
        A power of two; 1 for a series of fewer than four frames or one that never changes.

    Raises:
        ValueError: as of `block_average`.
    """
    runs = _runs(series)
    count = sum(len(run) for run in runs)
    if count < FEWEST_BLOCKS:
        return 1
    curve = _curve(runs)
    squares = curve.errors.reshape(len(curve.lengths), -1) ** 2
    moving = squares[0] > 0
    if not moving.any():
        return 1
    together = np.sqrt((squares[:, moving] / squares[0, moving]).mean(axis=1))
    level, _ = _plateau(curve._replace(errors=together), count)
    return int(curve.lengths[level])


def block_means(series: Series, length: int | None = None) -> np.ndarray:
    """Means over consecutive blocks, to be taken as independent samples (see `block_bootstrap`).

    Where the length does not divide a run, the frames left over at its start are not used.

    Arguments:
        series: (frames, ...) or a list of runs, as of `block_average`.
        length: frames in a block; None for that of `block_length`.

    Returns:
        (blocks, ...) float64.

    Raises:
        ValueError: as of `block_average`; a length below one or longer than every run.
    """
    runs = _runs(series)
    length = block_length(series) if length is None else length
    if not 1 <= length <= max(len(run) for run in runs):
        raise ValueError(
            f"block_means: blocks of {length} frames, but the longest run has {max(len(run) for run in runs)}; "
            "give a length from 1 to that."
        )
    return _cut(runs, length)


def decorrelated_frames(series: Series) -> np.ndarray:
    """Indices of evenly spaced frames of one run that may be taken as independent.

    For estimators that want independent samples (BAR, MBAR). Spaced by the statistical inefficiency of the slowest
    component, rounded up.

    Arguments:
        series: (frames, ...) of one run.

    Returns:
        (kept,) indices, the last frame among them; all frames of a series that never changes.

    Raises:
        ValueError: as of `block_average`.
    """
    count = len(_runs([series])[0])
    slowest = np.max(np.nan_to_num(statistical_inefficiency([series]), nan=1.0), initial=1.0)
    stride = min(int(np.ceil(slowest - 1e-9)), count)
    return np.arange((count - 1) % stride, count, stride)


def _runs(series: Series) -> list[np.ndarray]:
    several: Sequence = (
        series if isinstance(series, list | tuple) and len(series) and np.ndim(series[0]) > 0 else [series]
    )
    runs = [np.asarray(run, np.float64) for run in several]
    if any(run.ndim == 0 for run in runs) or len({run.shape[1:] for run in runs}) > 1:
        raise ValueError(
            f"block errors: runs of shapes {[run.shape for run in runs]}; every run must be (frames, ...) with one "
            "trailing shape."
        )
    if not sum(len(run) for run in runs):
        raise ValueError("block errors: the series has no frames.")
    for number, run in enumerate(runs):
        bad = np.flatnonzero(~np.isfinite(run.reshape(len(run), -1)).all(axis=1)) if run.size else np.array([], int)
        if bad.size:
            raise ValueError(
                f"block errors: frame {bad[0]} of run {number} is not finite ({bad.size} of {len(run)} frames); "
                "leave such frames out."
            )
    return runs


def _cut(runs: list[np.ndarray], length: int) -> np.ndarray:
    parts = [run[len(run) % length :].reshape(-1, length, *run.shape[1:]).mean(axis=1) for run in runs]
    return np.concatenate(parts)


def _curve(runs: list[np.ndarray]) -> BlockingCurve:
    lengths, blocks, errors = [], [], []
    length = 1
    while True:
        means = _cut(runs, length)
        if len(means) < FEWEST_BLOCKS:
            break
        lengths.append(length)
        blocks.append(len(means))
        errors.append(means.std(axis=0, ddof=1) / np.sqrt(len(means)))
        length *= 2
    scatter = np.sqrt(2 * (np.array(blocks) - 1.0)).reshape(-1, *[1] * (runs[0].ndim - 1))
    return BlockingCurve(np.array(lengths), np.array(blocks), np.array(errors), np.array(errors) / scatter)


def _plateau(curve: BlockingCurve, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Level whose blocks are long enough, the last where none is, and the statistical inefficiency seen there."""
    lengths = curve.lengths.reshape(-1, *[1] * (curve.errors.ndim - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        inefficiency = np.nan_to_num((curve.errors / curve.errors[0]) ** 2, nan=1.0, posinf=1.0)
    enough = lengths**3.0 >= 2 * frames * inefficiency**2
    level = np.where(enough.any(axis=0), enough.argmax(axis=0), len(curve.lengths) - 1)
    return level, np.take_along_axis(inefficiency, level[None], axis=0)[0]


def _estimate(value, error, size) -> Estimate:
    if np.ndim(value) == 0:
        return Estimate(float(value), float(error), float(size))
    return Estimate(value, error, size)

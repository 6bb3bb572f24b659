"""From samples to histograms of blocks, and from many sparse bins to fewer that hold enough."""

from collections.abc import Sequence

import numpy as np

from .block_errors import block_length

#: Most blocks of one sample before their correlations are known.
_MOST = 1024
#: Bounds of the number of bins per axis that is chosen where none is given.
_FEWEST_BINS, _MOST_BINS = 10, 100
#: Effective samples of both sides together that a bin must hold to count on its own.
HELD = 10.0


def as_runs(samples, dimensions: int, name: str) -> list[np.ndarray]:
    """Samples as a list of runs (frames, values, dimensions), checked to be finite.

    Raises:
        ValueError: empty, of a shape that does not fit, or not finite.
    """
    several = samples if isinstance(samples, list | tuple) and len(samples) and np.ndim(samples[0]) > 0 else [samples]
    runs = []
    for number, run in enumerate(several):
        run = np.asarray(run, np.float64)
        least = 1 if dimensions == 1 else 2
        if run.ndim < least or (dimensions > 1 and run.shape[-1] != dimensions):
            wanted = "(frames, ...)" if dimensions == 1 else f"(frames, ..., {dimensions})"
            raise ValueError(f"{name}: samples of run {number} have shape {run.shape}, expected {wanted}.")
        if not run.size:
            raise ValueError(f"{name}: run {number} of shape {run.shape} holds no values; is the selection empty?")
        run = run.reshape(len(run), -1, dimensions)
        bad = np.flatnonzero(~np.isfinite(run).all(axis=(1, 2)))
        if bad.size:
            raise ValueError(
                f"{name}: values that are not finite in {bad.size} of {len(run)} frames of run {number}, the first "
                f"in frame {bad[0]}; leave such frames out."
            )
        runs.append(run)
    return runs


def chosen_edges(
    runs: Sequence[np.ndarray], bins: int | None, period: float | None, axis: int, dimensions: int
) -> np.ndarray:
    """Edges of bins of one width over all values of one axis, or once round the period from −period/2.

    The number of bins grows with the cube root of the number of values (the Rice rule) on one axis, with a lower power
    on several.
    """
    values = [run[..., axis] for run in runs]
    count = sum(v.size for v in values)
    if bins is None:
        bins = int(np.clip(2 * count ** (1 / (dimensions + 2)), _FEWEST_BINS, _MOST_BINS))
    if period is not None:
        return np.linspace(-period / 2, period / 2, bins + 1)
    low, high = min(v.min() for v in values), max(v.max() for v in values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


def block_counts(
    runs: Sequence[np.ndarray], edges: Sequence[np.ndarray], periods: Sequence[float | None], name: str
) -> list[np.ndarray]:
    """Histograms (blocks, bins of all axes flattened) of consecutive frames of every run, about a thousand in all.

    Raises:
        ValueError: values outside the edges of an axis that has no period.
    """
    frames = sum(len(run) for run in runs)
    shape = tuple(len(edge) - 1 for edge in edges)
    size = int(np.prod(shape))
    outside = total = 0
    histograms = []
    for run in runs:
        place = np.zeros(run.shape[:2], np.int64)
        inside = np.ones(run.shape[:2], bool)
        for axis, (edge, period) in enumerate(zip(edges, periods, strict=True)):
            values = run[..., axis]
            if period is not None:
                values = edge[0] + np.mod(values - edge[0], period)
            index = np.searchsorted(edge, values, side="right") - 1
            # The last bin is closed; a remainder may round up to the period itself.
            index = np.where(values == edge[-1], len(edge) - 2, index)
            inside &= (index >= 0) & (index < len(edge) - 1)
            place = place * (len(edge) - 1) + np.clip(index, 0, len(edge) - 2)
        outside, total = outside + int(np.sum(~inside)), total + inside.size
        pieces = min(max(_MOST * len(run) // frames, 1), len(run))
        # Frames that do not fill the pieces are joined to them one by one, so that none is lost.
        piece = (np.arange(len(run)) * pieces // len(run))[:, None]
        counted = np.bincount((piece * size + place)[inside], minlength=pieces * size)
        histograms.append(counted.reshape(pieces, size).astype(np.float64))
    if outside:
        raise ValueError(
            f"{name}: {outside} of {total} values lie outside the edges; widen them, or select the values that count."
        )
    return histograms


def independent_blocks(histograms: Sequence[np.ndarray]) -> np.ndarray:
    """Histograms of blocks long enough to be independent, (blocks, bins); what does not fill a block joins the last."""
    totals = [np.maximum(each.sum(axis=1, keepdims=True), 1e-300) for each in histograms]
    shares = [each / total for each, total in zip(histograms, totals, strict=True)]
    # A narrow bin is left soon; how much lies below an edge changes as slowly as the coordinate.
    length = max(block_length(shares), block_length([np.cumsum(share, axis=1) for share in shares]))
    joined = []
    for each in histograms:
        starts = np.arange(max(len(each) // length, 1)) * length
        joined.append(np.add.reduceat(each, starts, axis=0))
    return np.concatenate(joined)


def merged_bins(weight: np.ndarray, neighbours: bool) -> np.ndarray:
    """Group of every bin, such that each group holds at least `HELD`.

    Arguments:
        weight: (bins,) effective samples in every bin, both sides together.
        neighbours: join adjacent bins (one axis); else all sparse bins form the last group.

    Returns:
        (bins,) numbers of the groups, from 0.
    """
    if not neighbours:
        own = weight >= HELD
        group = np.cumsum(own) - 1
        return np.where(own, group, own.sum())
    group = np.zeros(len(weight), np.int64)
    number, held = 0, 0.0
    for i, w in enumerate(weight):
        group[i] = number
        held += w
        if held >= HELD:
            number, held = number + 1, 0.0
    # What is left over at the end is too little to stand alone.
    return np.minimum(group, max(number - 1, 0))


def grouped(counts: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Counts (blocks, bins) → (blocks, groups)."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(group.max() + 1))
    return np.add.reduceat(counts[:, order], starts, axis=1)


def shares_and_variances(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of all blocks together (bins,), and their squared standard errors from the scatter of the blocks.

    Blocks may hold different numbers of values: the share is a ratio of sums, and its error that of a ratio.
    """
    totals = counts.sum(axis=1)
    share = counts.sum(axis=0) / totals.sum()
    residuals = counts - totals[:, None] * share
    blocks = len(counts)
    return share, (residuals**2).sum(axis=0) * blocks / (blocks - 1) / totals.sum() ** 2


def effective_size(share: np.ndarray, variance: np.ndarray) -> float:
    """Number of independent values whose histogram would scatter as much; infinite where it does not scatter."""
    scatter = variance.sum()
    return float((share * (1 - share)).sum() / scatter) if scatter > 0 else np.inf

"""Histograms: hard ones, streamed, with block errors; and soft ones, which are differentiable."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import erf

from ...typing import Array, Float
from ..statistics import Estimate, block_average
from .frame_blocks import FrameBlocks

#: Values that meet all bins at once in a soft histogram.
_TILE = 4096


@dataclass(frozen=True)
class Distribution:
    """Density of values found in many frames.

    Fields:
        edges: (bins + 1,) in the unit of the values.
        value: (bins,) density over all values found, those outside the edges included.
        error: (bins,) standard error from blocks of frames (nan for fewer than four frames, 0 where nothing was found).
        effective_sample_size: (bins,) independent frames, or blocks of ``frames_per_block``, that the error stands for.
        counts: (bins,) values found.
        mean: mean of all values, with its error.
        series: (blocks, bins) density linearised for each block of ``frames_per_block`` frames; its mean is the
            density, its scatter the error.
        frames: frames seen.
        frames_per_block: frames of a block of the series.
    """

    edges: np.ndarray
    value: np.ndarray
    error: np.ndarray
    effective_sample_size: np.ndarray
    counts: np.ndarray
    mean: Estimate
    series: np.ndarray
    frames: int
    frames_per_block: int

    @property
    def centers(self) -> np.ndarray:
        """(bins,) middles of the bins."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


class HistogramAccumulator:
    """A histogram of values, any number of them in each frame, added up frame by frame.

    Arguments:
        limits: lower and upper end of the range.
        bins: of equal width.

    Raises:
        ValueError: an empty range, or no bins.
    """

    def __init__(self, limits: tuple[float, float], bins: int) -> None:
        if not limits[0] < limits[1] or bins < 1:
            raise ValueError(f"histogram: {bins} bins from {limits[0]:g} to {limits[1]:g}; give a range and bins.")
        self.edges = np.linspace(*limits, bins + 1)
        self._blocks = FrameBlocks()

    def add(self, values: np.ndarray) -> None:
        """Counts the values of one frame.

        Raises:
            ValueError: values that are not finite.
        """
        values = np.asarray(values, np.float64).ravel()
        if not np.isfinite(values).all():
            raise ValueError("histogram: values are not finite.")
        self._blocks.add(np.concatenate([hard_histogram(values, self.edges), [values.sum(), len(values)]]))

    def result(self) -> Distribution:
        """The distribution so far.

        Raises:
            ValueError: no frame was added, or none had a value.
        """
        total, means = self._blocks.total(), self._blocks.means()
        found, frames = total[-1], self._blocks.frames
        if not found:
            raise ValueError(f"histogram: no values in {frames} frames.")
        ratio = total[:-1] / found
        # Ratios of means: values of a frame over how many there are.
        series = ratio + (means[:, :-1] - ratio * means[:, -1:]) * (frames / found)
        series[:, :-1] /= np.diff(self.edges)
        spread = block_average(series)
        return Distribution(
            edges=self.edges,
            value=ratio[:-1] / np.diff(self.edges),
            error=spread.error[:-1],
            effective_sample_size=spread.effective_sample_size[:-1],
            counts=total[:-2],
            mean=Estimate(float(ratio[-1]), float(spread.error[-1]), float(spread.effective_sample_size[-1])),
            series=series[:, :-1],
            frames=frames,
            frames_per_block=self._blocks.length,
        )


def hard_histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Counts in bins of equal width; a value at the last edge belongs to the last bin, others go up.

    Arguments:
        values: (values,) finite.
        edges: (bins + 1,) rising in equal steps.

    Returns:
        (bins,) counts.
    """
    low, high, bins = edges[0], edges[-1], len(edges) - 1
    place = np.floor((values - low) * (bins / (high - low))).astype(np.int64)
    place[values == high] = bins - 1
    return np.bincount(place[(place >= 0) & (place < bins)], minlength=bins)


def soft_histogram(
    values: Float[Array | np.ndarray, " values"],
    edges: Float[Array | np.ndarray, " edges"],
    width: float | Array,
    weights: Float[Array | np.ndarray, " values"] | None = None,
) -> Float[Array, " bins"]:
    """Weights in bins, where every value is a normal distribution of a small width: smooth in values and weights.

    The sum over bins is that of the hard histogram, less what is smeared beyond the ends. For a width far below that of
    the bins it is the hard histogram; for gradients take half a bin or more. Memory is that of the values and of one
    tile of them.

    Arguments:
        values: (values,).
        edges: (bins + 1,) rising.
        width: standard deviation of a value, in its unit.
        weights: (values,); one each when None.

    Returns:
        (bins,) sums of weights.
    """
    values = jnp.asarray(values)
    edges = jnp.asarray(edges, values.dtype)
    weights = jnp.ones_like(values) if weights is None else jnp.asarray(weights, values.dtype)
    scale = (1.0 / np.sqrt(2.0)) / jnp.asarray(width, values.dtype)
    tile = min(_TILE, max(values.size, 1))
    padding = -values.size % tile
    values = jnp.pad(values, (0, padding)).reshape(-1, tile)
    weights = jnp.pad(weights, (0, padding)).reshape(-1, tile)

    @jax.checkpoint
    def add(total, part):
        value, weight = part
        below = 0.5 * erf((edges[:, None] - value) * scale)
        return total + jnp.sum(jnp.diff(below, axis=0) * weight, axis=1), None

    return lax.scan(add, jnp.zeros(edges.size - 1, values.dtype), (values, weights))[0]

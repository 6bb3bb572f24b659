"""Tetrahedral order around every point: 1 in a perfect tetrahedron, 0 on average in an ideal gas."""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...space import nearest_image
from ...typing import Array, Float, Int
from .histograms import Distribution, HistogramAccumulator
from .near_points import nearest_neighbors


def tetrahedral_order(
    x: Float[Array | np.ndarray, "points 3"],
    neighbors: Int[Array | np.ndarray, "points 4"],
    box: Float[Array | np.ndarray, "3 3"] | None = None,
) -> Float[Array | np.ndarray, " points"]:
    """q = 1 − ⅜ Σ_{j<k} (cos ψ_jk + ⅓)² over the angles between a point's four nearest neighbours; differentiable.

    Arguments:
        x: (points, 3) positions, nm.
        neighbors: (points, 4) the four nearest of each, from `nearest_neighbors`.
        box: (3, 3) box vectors as rows, nm; None for positions as they are.

    Returns:
        (points,) q, between −3 and 1; NumPy if ``x`` is.

    Source: Errington & Debenedetti, Nature 409, 318 (2001).
    """
    xp: Any = np if isinstance(x, np.ndarray) else jnp
    d = x[neighbors] - x[:, None]
    if box is not None:
        d = nearest_image(d, xp.asarray(box, x.dtype))
    d = d / xp.sqrt(xp.sum(d * d, axis=-1, keepdims=True))
    first, second = np.triu_indices(4, 1)
    cosine = xp.sum(d[:, first] * d[:, second], axis=-1)
    return 1.0 - 0.375 * xp.sum((cosine + 1 / 3) ** 2, axis=-1)


def tetrahedral_distribution(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    *,
    bins: int = 100,
    limits: tuple[float, float] = (-1.0, 1.0),
) -> Distribution:
    """Distribution and mean of the tetrahedral order of a trajectory.

    Arguments:
        frames: (positions (points, 3), box (3, 3)) of every frame, nm.
        bins: of the histogram.
        limits: of the histogram; what is outside of them still counts for the mean.

    Raises:
        ValueError: no frames, no box, or fewer than five points.
    """
    accumulator = HistogramAccumulator(limits, bins)
    for x, box in frames:
        x = np.asarray(x, np.float64)
        accumulator.add(np.asarray(tetrahedral_order(x, nearest_neighbors(x, box, 4), box)))
    return accumulator.result()

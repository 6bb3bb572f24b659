"""Radial distribution of one configuration in JAX: smooth for gradients, or hard counts on an accelerator."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...space import minimum_image
from ...typing import Array, Float, Int
from .histograms import soft_histogram

#: Pairs compared at once.
_SOFT, _HARD = 1 << 16, 1 << 24


def soft_radial_distribution(
    x: Float[Array | np.ndarray, "points 3"],
    box: Float[Array | np.ndarray, "3 3"],
    edges: Float[np.ndarray, " edges"],
    width: float | Array,
    *,
    groups: Int[np.ndarray, " points"] | None = None,
    others: Float[Array | np.ndarray, "others 3"] | None = None,
    other_groups: Int[np.ndarray, " others"] | None = None,
) -> Float[Array, " bins"]:
    """g(r) of one configuration with every distance smeared to a normal distribution; differentiable in ``x`` and box.

    All pairs are compared, in tiles that are computed again for the gradient: memory does not grow with the number of
    pairs, time does. Averages over frames of this are averages of g at constant volume. The normalisation is that of
    `RadialDistribution`.

    Arguments:
        x: (points, 3) positions, nm.
        box: (3, 3) box vectors as rows, nm, lower triangular.
        edges: (bins + 1,) rising, nm; the last at most half the smallest width of the box.
        width: standard deviation of the smearing, nm; half a bin or more for useful gradients.
        groups: (points,) molecules; pairs within one are left out.
        others: (others, 3) points of another type, nm; None for pairs of one type.
        other_groups: (others,) their molecules.

    Returns:
        (bins,) g.

    Raises:
        ValueError: groups for one of two types alone.
    """
    x = jnp.asarray(x)
    y = x if others is None else jnp.asarray(others, x.dtype)
    if others is not None and (groups is None) != (other_groups is None):
        raise ValueError("soft_radial_distribution: give the molecules of both types, or of neither.")
    box, ends = jnp.asarray(box, x.dtype), jnp.asarray(edges, x.dtype)
    tile = max(1, min(_SOFT // y.shape[0], x.shape[0]))

    @jax.checkpoint
    def add(total, part):
        squared, counted = _compared(part, x.shape[0], y, box, mine, theirs, others is None)
        counted = counted & (squared < (ends[-1] + 6.0 * width) ** 2)
        distance = jnp.sqrt(jnp.where(counted, squared, 1.0))
        return total + soft_histogram(distance.ravel(), ends, width, counted.ravel().astype(x.dtype)), None

    mine, theirs, pairs = _groups_and_pairs(x.shape[0], y.shape[0], groups, other_groups, others is None)
    counts = lax.scan(add, jnp.zeros(ends.size - 1, x.dtype), _tiles(x, tile))[0]
    shells = 4.0 / 3.0 * jnp.pi * jnp.diff(ends**3)
    return counts * jnp.abs(jnp.linalg.det(box)) / (pairs * shells)


def compared_counts(
    x: Float[Array | np.ndarray, "points 3"],
    box: Float[Array | np.ndarray, "3 3"],
    edges: Float[np.ndarray, " edges"],
    *,
    groups: Int[np.ndarray, " points"] | None = None,
) -> Int[Array, " bins"]:
    """Pairs by distance, by comparing all distances with all edges: no list, no scatter, made for accelerators.

    On a CPU `CellPairs` with `count_distances` is far faster. In the precision of ``x``: pairs within its rounding of
    an edge may be counted in the next bin.

    Arguments:
        x: (points, 3) positions, nm.
        box: (3, 3) box vectors as rows, nm, lower triangular.
        edges: (bins + 1,) rising, nm; the last at most half the smallest width of the box.
        groups: (points,) molecules; pairs within one are left out.

    Returns:
        (bins,) pairs with edge ≤ distance < next edge, each pair once; 32-bit, so up to 2·10⁹ in a bin.
    """
    x = jnp.asarray(x)
    box, squares = jnp.asarray(box, x.dtype), jnp.asarray(edges, x.dtype) ** 2
    tile = max(1, min(_HARD // x.shape[0], x.shape[0]))
    mine, theirs, _ = _groups_and_pairs(x.shape[0], x.shape[0], groups, None, True)

    def add(total, part):
        squared, counted = _compared(part, x.shape[0], x, box, mine, theirs, True)
        squared = jnp.where(counted, squared, jnp.inf)
        below = lax.map(lambda edge: jnp.sum(squared < edge, dtype=jnp.int32), squares, batch_size=8)
        return total + jnp.diff(below), None

    return lax.scan(add, jnp.zeros(squares.size - 1, jnp.int32), _tiles(x, tile))[0]


def _groups_and_pairs(n: int, m: int, groups, other_groups, same: bool):
    """Groups of either side on the device, or None, and the number of pairs between different ones."""
    if groups is None:
        return None, None, n * (n - 1) // 2 if same else n * m
    second = groups if same else other_groups
    number = np.unique(np.concatenate([groups, second]), return_inverse=True)[1]
    first, other = number[:n], number[n:]
    ours, others = (np.bincount(some, minlength=number.max() + 1) for some in (first, other))
    within = int(np.sum(ours * (ours - 1) // 2 if same else ours * others))
    pairs = (n * (n - 1) // 2 if same else n * m) - within
    return jnp.asarray(first), jnp.asarray(other), pairs


def _tiles(x: Array, tile: int) -> tuple[Array, Array]:
    """Indices and positions in tiles; indices beyond the last point are padding."""
    padding = -x.shape[0] % tile
    index = jnp.arange(x.shape[0] + padding).reshape(-1, tile)
    return index, jnp.pad(x, ((0, padding), (0, 0))).reshape(-1, tile, 3)


def _compared(part, n: int, y: Array, box: Array, mine, theirs, same: bool) -> tuple[Array, Array]:
    """Squared distances (tile, others) of a tile to all others, and which of the pairs count."""
    index, here = part
    d = minimum_image(tuple(here[:, k, None] - y[:, k] for k in range(3)), box)
    counted = jnp.broadcast_to(index[:, None] < n, d[0].shape)
    if same:
        counted = counted & (jnp.arange(y.shape[0]) > index[:, None])
    if mine is not None:
        counted = counted & (mine[jnp.minimum(index, n - 1)][:, None] != theirs)
    return d[0] ** 2 + d[1] ** 2 + d[2] ** 2, counted

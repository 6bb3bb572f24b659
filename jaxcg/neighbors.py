"""Neighbour tables: which atoms are near which, with static shapes.

A table has one column per atom and a fixed number of rows (its capacity); the unused entries hold the number of
atoms. Everything that depends on positions can be traced, mapped over chains and compiled once. Neighbours that do not
fit are counted, not raised: the caller decides what an overflow means.
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.spatial import KDTree

from .typing import Array, AtomVectors, Bool, Float, Int

_TILE = 32


class NeighborTable(eqx.Module):
    """Neighbours of every atom within a radius, both directions listed.

    Arguments:
        index: (capacity, atoms) neighbour indices; entries equal to the number of atoms are padding.
        reference: (atoms, 3) positions the table was made from, nm.
        overflow: how many neighbours the fullest column has beyond the capacity; zero when the table is complete.
    """

    index: Int[Array, "capacity atoms"]
    reference: Float[Array, "atoms 3"]
    overflow: Int[Array, ""]

    def moved(self, x: AtomVectors, distance: Array | float) -> Bool[Array, ""]:
        """Whether any atom is farther than ``distance`` (nm) from where it was when the table was made."""
        return jnp.any(jnp.sum((x - self.reference) ** 2, axis=-1) > distance**2)


def minimum_image(d: tuple[Array, Array, Array], box: Array) -> tuple[Array, Array, Array]:
    """Shortest periodic image of the displacements ``d`` (x, y and z components) in a reduced box.

    Arguments:
        d: three arrays of one shape, nm.
        box: (3, 3) rows are the box vectors in OpenMM's reduced form (a along x, b in the xy plane).
    """
    dx, dy, dz = d
    k = jnp.round(dz / box[2, 2])
    dx, dy, dz = dx - k * box[2, 0], dy - k * box[2, 1], dz - k * box[2, 2]
    k = jnp.round(dy / box[1, 1])
    dx, dy = dx - k * box[1, 0], dy - k * box[1, 1]
    return dx - jnp.round(dx / box[0, 0]) * box[0, 0], dy, dz


def neighbor_table(
    x: AtomVectors, radius: float | Array, capacity: int, exclude: Array | None = None, box: Array | None = None
) -> NeighborTable:
    """Neighbour table by comparison of all pairs, traceable; atoms × atoms is never held.

    Arguments:
        x: (atoms, 3) positions, nm.
        radius: list radius, nm (cutoff plus skin).
        capacity: rows of the table; a Python integer.
        exclude: (width, atoms) partners of each atom to leave out, padded with the number of atoms.
        box: (3, 3) reduced box vectors, nm; None for no periodicity.

    Returns:
        The table. Its ``overflow`` is positive when the capacity was too small.
    """
    x = jnp.asarray(x)
    n_atoms = x.shape[0]
    capacity = min(capacity, n_atoms)
    n_tiles = -(-n_atoms // _TILE)
    columns = jnp.minimum(jnp.arange(n_tiles * _TILE, dtype=jnp.int32), n_atoms - 1).reshape(n_tiles, _TILE)
    source = jnp.arange(n_atoms, dtype=jnp.int32)[:, None]
    slots = jnp.arange(1, capacity + 1, dtype=jnp.int32)

    def tile(column):
        d = (x[:, None, 0] - x[column, 0], x[:, None, 1] - x[column, 1], x[:, None, 2] - x[column, 2])
        if box is not None:
            d = minimum_image(d, box.astype(x.dtype))
        near = (d[0] ** 2 + d[1] ** 2 + d[2] ** 2 < radius**2) & (source != column)
        rank = jnp.cumsum(near, axis=0, dtype=jnp.int32)
        # The k-th neighbour is the first row whose running count reaches k.
        found = jax.vmap(lambda r: jnp.searchsorted(r, slots), in_axes=1, out_axes=1)(rank)
        return found.astype(jnp.int32), rank[-1]

    index, count = jax.lax.map(tile, columns)
    index = jnp.moveaxis(index, 0, 1).reshape(capacity, -1)[:, :n_atoms]
    if exclude is not None:
        for partners in exclude:
            index = jnp.where(index == partners, n_atoms, index)
    return NeighborTable(index, x, jnp.maximum(jnp.max(count) - capacity, 0).astype(jnp.int32))


_compiled_table = jax.jit(neighbor_table, static_argnames="capacity")


def count_neighbors(x: AtomVectors, radius: float, box: np.ndarray | None = None) -> int:
    """Largest number of neighbours any atom has within ``radius`` (nm), on the host."""
    tree, points = _tree(np.asarray(x, dtype=np.float64), box)
    return int(tree.query_ball_point(points, radius, return_length=True).max(initial=1)) - 1


def suggest_capacity(count: int, margin: float = 1.15) -> int:
    """Table capacity for a largest observed ``count``: with a margin, rounded up to a multiple of 16."""
    return max(16, 16 * math.ceil((count * margin + 4) / 16))


def make_table(
    x: AtomVectors, radius: float, capacity: int, exclude: Array | None = None, box: Array | None = None
) -> NeighborTable:
    """The same table as `neighbor_table`, by the fastest way at hand.

    Concrete positions on a CPU go through a k-d tree on the host (an orthorhombic box or none); traced positions,
    accelerators and triclinic boxes through the compiled comparison of all pairs.
    """
    traced = isinstance(x, Tracer) or isinstance(box, Tracer) or isinstance(exclude, Tracer)
    if traced or jax.default_backend() != "cpu" or (box is not None and not _orthorhombic(np.asarray(box))):
        return _compiled_table(x, radius, capacity, exclude, box)
    host = np.asarray(x, dtype=np.float64)
    if not np.isfinite(host).all():
        return _compiled_table(x, radius, capacity, exclude, box)
    return _from_tree(jnp.asarray(x), host, radius, capacity, exclude, None if box is None else np.asarray(box))


def _orthorhombic(box: np.ndarray) -> bool:
    return np.count_nonzero(box - np.diag(np.diag(box))) == 0


def _tree(x: np.ndarray, box: np.ndarray | None) -> tuple[KDTree, np.ndarray]:
    """k-d tree of the positions; a triclinic box is treated as open, which only undercounts at its faces."""
    if box is None or not _orthorhombic(np.asarray(box)):
        return KDTree(x), x
    lengths = np.diag(np.asarray(box, dtype=np.float64))
    wrapped = x - np.floor(x / lengths) * lengths
    wrapped[wrapped >= lengths] = 0.0
    return KDTree(wrapped, boxsize=lengths), wrapped


def _from_tree(x: Array, host: np.ndarray, radius: float, capacity: int, exclude, box) -> NeighborTable:
    n_atoms = len(host)
    capacity = min(capacity, n_atoms)
    tree, _ = _tree(host, box)
    pairs = tree.query_pairs(float(radius), output_type="ndarray").astype(np.int32)
    target = np.concatenate([pairs[:, 0], pairs[:, 1]])
    source = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.lexsort((source, target))
    target, source = target[order], source[order]
    counts = np.bincount(target, minlength=n_atoms)
    rank = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    fits = rank < capacity
    index = np.full((capacity, n_atoms), n_atoms, dtype=np.int32)
    index[rank[fits], target[fits]] = source[fits]
    if exclude is not None:
        for partners in np.asarray(exclude):
            index[index == partners] = n_atoms
    overflow = np.int32(max(int(counts.max(initial=0)) - capacity, 0))
    return NeighborTable(jax.device_put(index), x, jax.device_put(overflow))

"""Neighbour tables: which atoms are near which, in blocks with static shapes.

Atoms are grouped into tiles of 16 that lie close together. The atoms near a tile are its sources, listed in rows of
64; the pairs of a row, 64 × 16 of them, are evaluated together and the ones that do not count are masked by bits. So
positions are gathered once for 16 pairs, and the arithmetic runs over dense blocks. Everything that depends on
positions can be traced, mapped over chains and compiled once. What does not fit is counted, not raised: the caller
decides what an overflow means.

Source: cluster pair lists of Páll & Hess, Comput. Phys. Commun. 184, 2641 (2013).
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.spatial import KDTree

from .space import minimum_image
from .typing import Array, AtomVectors, Bool, Float, Int, UInt

#: Atoms of a tile: one vector register of single-precision numbers.
TILE = 16
#: Sources of a row.
WIDTH = 64
#: Up to this many atoms a CPU compares all atoms with all tiles; beyond, a k-d tree is faster.
_COMPARED_ATOMS = 6000


class NeighborTable(eqx.Module):
    """Pairs of atoms within a radius in blocks of `WIDTH` sources × `TILE` targets; a pair is seen from both its atoms.

    Arguments:
        order: (tiles, TILE) atoms of each tile; the number of atoms is padding.
        place: (atoms,) where each atom stands in the flattened order.
        tile: (rows,) the tile each row belongs to.
        sources: (rows, WIDTH) atoms that act on the tile; padding points anywhere in bounds.
        words: (rows, WIDTH) bit b says whether a source acts on atom b of the tile.
        rows_of_tile: (most, tiles) the rows of each tile; the number of rows is padding.
        reference: (atoms, 3) positions the table was made from, nm.
        overflow: how many rows the table lacks; zero when it is complete.
    """

    order: Int[Array, "tiles tile"]
    place: Int[Array, " atoms"]
    tile: Int[Array, " rows"]
    sources: Int[Array, "rows width"]
    words: UInt[Array, "rows width"]
    rows_of_tile: Int[Array, "most tiles"]
    reference: Float[Array, "atoms 3"]
    overflow: Int[Array, ""]

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return self.place.shape[0]

    @property
    def rows(self) -> int:
        """Rows the table has room for."""
        return self.tile.shape[0]

    def moved(self, x: AtomVectors, distance: Array | float) -> Bool[Array, ""]:
        """Whether any atom is farther than ``distance`` (nm) from where it was when the table was made."""
        return jnp.any(jnp.sum((x - self.reference) ** 2, axis=-1) > distance**2)


def sequential_order(n_atoms: int) -> np.ndarray:
    """(tiles, TILE) tiles of consecutive atoms, padded with ``n_atoms``: right for a chain molecule, whose bonds keep
    them together."""
    order = np.full(-(-n_atoms // TILE) * TILE, n_atoms, dtype=np.int32)
    order[:n_atoms] = np.arange(n_atoms)
    return order.reshape(-1, TILE)


def partner_table(pairs: np.ndarray, n_atoms: int) -> np.ndarray:
    """(width, atoms) partners of each atom among ``pairs`` (pairs, 2), padded with ``n_atoms``."""
    pairs = np.unique(np.sort(np.asarray(pairs, dtype=np.int64).reshape(-1, 2), axis=1), axis=0)
    target = np.concatenate([pairs[:, 0], pairs[:, 1]])
    source = np.concatenate([pairs[:, 1], pairs[:, 0]])
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=n_atoms)
    rank = np.arange(len(target)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.full((int(counts.max(initial=0)), n_atoms), n_atoms, dtype=np.int32)
    table[rank, target[order]] = source[order]
    return table


def spatial_order(x: np.ndarray) -> np.ndarray:
    """(tiles, TILE) tiles of atoms that lie close together: boxes halved along their longest side, over and over.

    Arguments:
        x: (atoms, 3) nm.
    """
    x = np.asarray(x)
    n_atoms = len(x)
    n_tiles = -(-n_atoms // TILE)
    order, group = np.arange(n_atoms), np.zeros(n_atoms, dtype=np.int64)
    tiles = np.full(1, n_tiles, dtype=np.int64)  # how many tiles each group will make
    while tiles.max() > 1:
        here = x[order]
        counts = np.bincount(group)
        starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
        spread = np.maximum.reduceat(here, starts) - np.minimum.reduceat(here, starts)
        order = order[np.lexsort((here[np.arange(n_atoms), spread.argmax(axis=1)[group]], group))]
        left = (tiles + 1) // 2
        rank = np.arange(n_atoms) - starts[group]
        right = (rank >= left[group] * TILE).astype(np.int64)
        tiles = np.stack([left, tiles - left], axis=1).ravel()
        number = np.cumsum(tiles > 0) - 1
        group = number[2 * group + right]
        tiles = tiles[tiles > 0]
    return np.append(order, np.full(n_tiles * TILE - n_atoms, n_atoms)).reshape(-1, TILE).astype(np.int32)


def neighbor_table(
    x: AtomVectors,
    radius: float | Array,
    order: Array | np.ndarray,
    rows: int,
    most: int,
    exclude: Array | None = None,
    box: Array | None = None,
) -> NeighborTable:
    """Neighbour table by comparison of all atoms with all tiles, traceable.

    Arguments:
        x: (atoms, 3) positions, nm.
        radius: list radius, nm (cutoff plus skin).
        order: (tiles, TILE) atoms of each tile, padded with the number of atoms.
        rows: room for rows in all; a Python integer.
        most: room for rows of one tile; a Python integer.
        exclude: (width, atoms) partners of each atom to leave out, each named once, padded with the number of atoms.
        box: (3, 3) reduced box vectors, nm; None for no periodicity.

    Returns:
        The table. Its ``overflow`` is positive when there was not enough room.
    """
    x = jnp.asarray(x)
    n_atoms, n_tiles = x.shape[0], order.shape[0]
    order = jnp.asarray(order)
    own = jnp.arange(n_atoms, dtype=jnp.int32)[None]
    exclude = own if exclude is None else jnp.concatenate([own, exclude.astype(jnp.int32)])
    slots = jnp.arange(1, most * WIDTH + 1, dtype=jnp.int32)
    bits = jnp.uint32(1) << jnp.arange(TILE, dtype=jnp.uint32)

    def of_tile(atoms):
        inside, atoms = atoms < n_atoms, jnp.minimum(atoms, n_atoms - 1)
        targets = x[atoms]
        d = (targets[:, 0, None] - x[:, 0], targets[:, 1, None] - x[:, 1], targets[:, 2, None] - x[:, 2])
        if box is not None:
            d = minimum_image(d, box.astype(x.dtype))
        near = jnp.any((d[0] ** 2 + d[1] ** 2 + d[2] ** 2 < radius**2) & inside[:, None], axis=0)
        rank = jnp.cumsum(near, dtype=jnp.int32)
        # The k-th source is the first atom whose running count reaches k.
        found = jnp.searchsorted(rank, slots).astype(jnp.int32)
        partners = exclude[:, atoms]
        slot = jnp.searchsorted(found, partners)
        known = inside & (found[jnp.minimum(slot, found.size - 1)] == partners) & (partners < n_atoms)
        barred = jnp.zeros(found.size, jnp.uint32)
        barred = barred.at[jnp.where(known, slot, found.size)].add(jnp.broadcast_to(bits, slot.shape), mode="drop")
        words = jnp.where(found < n_atoms, jnp.sum(bits * inside, dtype=jnp.uint32) - barred, jnp.uint32(0))
        return found, words, rank[-1]

    at_once = 1 if jax.default_backend() == "cpu" else max(1, min(n_tiles, 2**27 // (n_atoms * TILE)))
    found, words, count = jax.lax.map(of_tile, order, batch_size=at_once if at_once > 1 else None)
    place = jnp.zeros(n_tiles * TILE, jnp.int32)
    place = place.at[order.ravel()].set(jnp.arange(n_tiles * TILE, dtype=jnp.int32), mode="drop")[:n_atoms]
    shape = (n_tiles, most, WIDTH)
    tile, number, valid, rows_of_tile, overflow = _layout(-(-count // WIDTH), rows, most, jnp)
    sources = jnp.minimum(found.reshape(shape)[tile, number], n_atoms - 1)
    words = jnp.where(valid[:, None], words.reshape(shape)[tile, number], jnp.uint32(0))
    return NeighborTable(order, place, tile, sources, words, rows_of_tile, x, overflow)


def _layout(needed, rows: int, most: int, xp):
    """How the rows that each tile needs are laid out one after another.

    Returns:
        Tile of each row, its number within the tile, whether it is in use, (most, tiles) rows of each tile, overflow.
    """
    n_tiles = needed.shape[0]
    end = xp.cumsum(needed)
    start = end - needed
    row = xp.arange(rows, dtype=xp.int32)
    tile = xp.minimum(xp.searchsorted(end, row, side="right"), n_tiles - 1).astype(xp.int32)
    number = row - start[tile]
    valid = (row < end[-1]) & (number < most)
    k = xp.arange(most, dtype=xp.int32)[:, None]
    rows_of_tile = xp.where((k < needed) & (start + k < rows), start + k, rows).astype(xp.int32)
    overflow = xp.maximum(xp.maximum(end[-1] - rows, needed.max() - most), 0).astype(xp.int32)
    return tile, xp.clip(number, 0, most - 1), valid, rows_of_tile, overflow


_compiled_table = jax.jit(neighbor_table, static_argnames=("rows", "most"))


def suggest_room(
    x: AtomVectors, radius: float, order: np.ndarray, box: np.ndarray | None = None, margin: float = 1.15
) -> tuple[int, int]:
    """Room for a table around ``x``: rows in all and rows of one tile, with a ``margin``."""
    counts = np.bincount(_near_tiles(np.asarray(x, np.float64), radius, order, box)[0], minlength=len(order))
    needed = -(-counts // WIDTH)
    n_atoms = len(x)
    most = min(math.ceil(margin * needed.max()) + 1, -(-n_atoms // WIDTH))
    return rounded_rows(min(math.ceil(margin * needed.sum()) + len(order) // 8, most * len(order))), most


def rounded_rows(rows: int) -> int:
    """``rows`` rounded up to a number that splits into equal parts of at most `ROWS_AT_ONCE`."""
    parts = max(1, math.ceil(rows / ROWS_AT_ONCE))
    return parts * 8 * max(1, math.ceil(rows / parts / 8))


#: Rows evaluated together on a CPU.
ROWS_AT_ONCE = 1024


def make_table(
    x: AtomVectors,
    radius: float,
    order: Array | np.ndarray,
    rows: int,
    most: int,
    exclude: Array | None = None,
    box: Array | None = None,
) -> NeighborTable:
    """The same table as `neighbor_table`, by the fastest way at hand.

    Concrete positions of a large system on a CPU go through a k-d tree on the host (an orthorhombic box or none);
    traced positions, accelerators, triclinic boxes and small systems through the compiled comparison.
    """
    traced = any(isinstance(a, Tracer) for a in (x, box, exclude, order))
    if traced or jax.default_backend() != "cpu" or len(x) <= _COMPARED_ATOMS:
        return _compiled_table(x, radius, order, rows, most, exclude, box)
    host = np.asarray(x, dtype=np.float64)
    if not np.isfinite(host).all() or (box is not None and not _orthorhombic(np.asarray(box))):
        return _compiled_table(x, radius, order, rows, most, exclude, box)
    return _from_tree(x, host, radius, np.asarray(order), rows, most, exclude, None if box is None else np.asarray(box))


def _orthorhombic(box: np.ndarray) -> bool:
    return np.count_nonzero(box - np.diag(np.diag(box))) == 0


def _near_tiles(x: np.ndarray, radius: float, order: np.ndarray, box) -> tuple[np.ndarray, np.ndarray]:
    """Tile and source of every source of every tile, sorted."""
    n_atoms = len(x)
    own = np.arange(n_atoms)
    pairs = _near_pairs(x, radius, None if box is None else np.asarray(box, dtype=np.float64))
    tile_of = _place(order, n_atoms) // TILE
    tile = np.concatenate([tile_of[pairs[:, 0]], tile_of[pairs[:, 1]], tile_of])
    code = np.unique(tile * n_atoms + np.concatenate([pairs[:, 1], pairs[:, 0], own]))
    return code // n_atoms, code % n_atoms


def _near_pairs(x: np.ndarray, radius: float, box: np.ndarray | None) -> np.ndarray:
    """(pairs, 2) atoms within the radius of each other, from k-d trees."""
    if box is None:
        return KDTree(x).query_pairs(float(radius), output_type="ndarray")
    inside = x - np.floor(x @ np.linalg.inv(box)) @ box
    if _orthorhombic(box):
        size = np.diag(box)
        inside[inside >= size] = 0.0
        return KDTree(inside, boxsize=size).query_pairs(float(radius), output_type="ndarray")
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ box
    images = (inside[None] + shifts[:, None]).reshape(-1, 3)
    near = KDTree(inside).sparse_distance_matrix(KDTree(images), float(radius), output_type="coo_matrix")
    return np.stack([near.row, near.col % len(x)], axis=1)


def _place(order: np.ndarray, n_atoms: int) -> np.ndarray:
    place = np.zeros(n_atoms + 1, dtype=np.int64)
    place[order.ravel()] = np.arange(order.size)
    return place[:n_atoms]


def _from_tree(x, host, radius, order, rows, most, exclude, box) -> NeighborTable:
    n_atoms, n_tiles = len(host), len(order)
    tile, source = _near_tiles(host, radius, order, box)
    counts = np.bincount(tile, minlength=n_tiles)
    row_tile, _, _, rows_of_tile, overflow = _layout(-(-counts // WIDTH), rows, most, np)
    first = np.cumsum(-(-counts // WIDTH)) + counts // -WIDTH
    rank = np.arange(len(tile)) - np.repeat(np.cumsum(counts) - counts, counts)
    slot = first[tile] * WIDTH + rank
    fits = (slot < rows * WIDTH) & (rank < most * WIDTH)
    sources, words = np.zeros(rows * WIDTH, np.int32), np.zeros(rows * WIDTH, np.uint32)
    bits = (1 << np.arange(TILE)).astype(np.uint32)
    sources[slot[fits]] = source[fits]
    words[slot[fits]] = (bits * (order < n_atoms)).sum(axis=1, dtype=np.uint32)[tile[fits]]
    place = _place(order, n_atoms)
    own = np.arange(n_atoms)
    partners = own[None] if exclude is None else np.concatenate([own[None], np.asarray(exclude)])
    target = np.broadcast_to(own, partners.shape)[partners < n_atoms]
    partner = partners[partners < n_atoms]
    code, wanted = tile * n_atoms + source, place[target] // TILE * n_atoms + partner
    found = np.minimum(np.searchsorted(code, wanted), len(code) - 1)
    known = (code[found] == wanted) & fits[found]
    np.bitwise_and.at(words, slot[found[known]], ~np.take(bits, place[target[known]] % TILE))
    return NeighborTable(
        order=jax.device_put(order.astype(np.int32)),
        place=jax.device_put(place.astype(np.int32)),
        tile=jax.device_put(row_tile.astype(np.int32)),
        sources=jax.device_put(sources.reshape(rows, WIDTH)),
        words=jax.device_put(words.reshape(rows, WIDTH)),
        rows_of_tile=jax.device_put(rows_of_tile),
        reference=jnp.asarray(x),
        overflow=jax.device_put(np.int32(overflow)),
    )

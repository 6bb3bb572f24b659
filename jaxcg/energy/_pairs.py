"""Row sums over pairs of atoms: the one loop behind every pair interaction.

Each pair is seen from both of its atoms, so an atom's energy and force are sums over its own row: there are gathers
and reductions, never a scatter. Rows are handled a tile of atoms at a time, in arrays of shape (sources, tile) summed
over the major axis: the temporaries stay in the processor's cache and no atoms × atoms array is ever held.
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..neighbors import ROWS_AT_ONCE, WIDTH, NeighborTable
from ..neighbors import TILE as NEIGHBOR_TILE
from ..space import minimum_image
from ..typing import Array
from ._arrays import leaf
from ._geometry import dot

#: Destination atoms per tile on a CPU; the exclusion words hold one bit per atom of a tile.
TILE = 32

#: Largest number of pairs evaluated at once on an accelerator.
_ACCELERATOR_PAIRS = 2**25

Kernel = Callable[[list[Array], list[Array], Array], tuple[Array, ...]]
PairKernel = Callable[[Array, list[Array], list[Array], Array], tuple[Array, Array]]


class AllPairs(eqx.Module):
    """Every ordered pair of different atoms but the excluded ones.

    Arguments:
        n_atoms: number of atoms.
        excluded: (pairs, 2) atom pairs left out.

    The exclusions are bits: bit b of ``words[t, j]`` says whether atom j acts on atom 32 t + b.
    """

    words: Array
    n_atoms: int = eqx.field(static=True)

    def __init__(self, n_atoms: int, excluded=()):
        pairs = np.asarray(excluded, dtype=np.int64).reshape(-1, 2)
        n_tiles = -(-n_atoms // TILE)
        words = np.full((n_tiles, n_atoms), 0xFFFFFFFF, dtype=np.uint32)
        # Bits past the last atom stay clear.
        words[-1] >>= np.uint32(n_tiles * TILE - n_atoms)
        own = np.arange(n_atoms)
        source = np.concatenate([pairs[:, 0], pairs[:, 1], own])
        target = np.concatenate([pairs[:, 1], pairs[:, 0], own])
        np.bitwise_and.at(words, (target // TILE, source), ~(np.uint32(1) << (target % TILE).astype(np.uint32)))
        self.words = leaf(words)
        self.n_atoms = n_atoms


def row_sums(kernel: Kernel, features: Sequence[Array], pairs: AllPairs | NeighborTable) -> list[Array]:
    """Sums over each atom's partners of the values of ``kernel``.

    On a CPU, XLA evaluates an intermediate that several values share once for each of them, unless it ends in an
    expensive operation: let it end in a division.

    Arguments:
        kernel: ``kernel(sources, targets, present)`` takes the features of the partners and of the atom itself,
            broadcastable to (sources, tile), and a mask of that shape; it returns a tuple of arrays of that shape
            that are zero where the mask is false.
        features: (atoms,) arrays.
        pairs: which pairs to visit.

    Returns:
        One (atoms,) array per value of the kernel.
    """
    if isinstance(pairs, AllPairs):
        return _over_all(kernel, features, pairs)
    return _over_table(kernel, features, pairs)


def _tiles_at_once(n_sources: int, n_tiles: int) -> int:
    """How many tiles to evaluate together: one on a CPU, whose caches are small, many on an accelerator."""
    if jax.default_backend() == "cpu":
        return 1
    return max(1, min(n_tiles, _ACCELERATOR_PAIRS // max(n_sources * TILE, 1)))


def _tiled(values: Array, n_tiles: int) -> Array:
    """(atoms,) to (tiles, TILE), padded with the last value so that no padding is out of the ordinary."""
    padding = n_tiles * TILE - values.shape[-1]
    return jnp.pad(values, (0, padding), mode="edge").reshape(n_tiles, TILE)


def _over_all(kernel: Kernel, features: Sequence[Array], pairs: AllPairs) -> list[Array]:
    n_tiles = pairs.words.shape[0]
    sources = [f[:, None] for f in features]
    bits = jnp.uint32(1) << jnp.arange(TILE, dtype=jnp.uint32)

    # Rematerialised: without it, differentiating by a parameter would keep every pair's intermediates.
    @jax.checkpoint
    def tile(words, targets):
        present = (words[:, None] & bits) != 0
        values = kernel(sources, [t[None, :] for t in targets], present)
        return tuple(v.sum(axis=0) for v in values)

    targets = [_tiled(f, n_tiles) for f in features]
    at_once = _tiles_at_once(pairs.n_atoms, n_tiles)
    sums = jax.lax.map(lambda a: tile(*a), (pairs.words, targets), batch_size=at_once if at_once > 1 else None)
    return [s.reshape(-1)[: pairs.n_atoms] for s in sums]


def _over_table(kernel: Kernel, features: Sequence[Array], table: NeighborTable) -> list[Array]:
    def rows(sources, targets, present):
        values = jax.lax.optimization_barrier(tuple(kernel(sources, targets, present)))
        return tuple(v.sum(axis=-1) for v in values)

    return _over_rows(rows, features, table)


def _over_rows(rows: Kernel, features: Sequence[Array], table: NeighborTable) -> list[Array]:
    """Sums over the rows of a neighbour table: ``rows`` takes features (rows, 1, WIDTH) of the sources and (rows, TILE,
    1) of the targets with a mask (rows, TILE, WIDTH), and returns (rows, TILE) sums over the sources."""
    n_atoms, n_rows = table.n_atoms, table.rows
    order = jnp.minimum(table.order, n_atoms - 1)
    bits = (jnp.uint32(1) << jnp.arange(NEIGHBOR_TILE, dtype=jnp.uint32))[:, None]

    @jax.checkpoint
    def block(tile, index, words):
        # Gathered once for all pairs of a row; without the barrier the compiler gathers again for each of them.
        gathered = [jax.lax.optimization_barrier((f[index][:, None, :], f[order[tile]][:, :, None])) for f in features]
        present = (words[:, None, :] & bits) != 0
        return rows([source for source, _ in gathered], [target for _, target in gathered], present)

    at_once = _rows_at_once(n_rows)
    arrays = (table.tile, table.sources, table.words)
    if at_once >= n_rows:
        sums = block(*arrays)
    else:
        sums = jax.lax.map(lambda a: block(*a), [a.reshape(-1, at_once, *a.shape[1:]) for a in arrays])
    totals = []
    for part in sums:
        part = part.reshape(n_rows, -1)
        part = jnp.concatenate([part, jnp.zeros((1, part.shape[1]), part.dtype)])
        totals.append(jnp.sum(part[table.rows_of_tile], axis=0).reshape(-1)[table.place])
    return totals


def pair_gradient(
    kernel: PairKernel, x: Array, features: Sequence[Array], pairs: AllPairs | NeighborTable, box: Array | None = None
) -> tuple[Array, Array]:
    """Energy of each atom's pairs and the gradient of the sum over all pairs, for an energy of the distance.

    Arguments:
        kernel: ``kernel(r2, sources, targets, present)`` takes squared distances, the features of the partners and of
            the atom itself and a mask; it returns the energy of each pair and its derivative with respect to r²/2,
            U′(r)/r, both zero where the mask is false.
        x: (atoms, 3) nm.
        features: (atoms,) arrays.
        pairs: which pairs to visit.
        box: (3, 3) reduced box vectors, nm, for nearest images; None for none.

    Returns:
        (atoms,) energies, in which each pair occurs twice, and the (atoms, 3) gradient.
    """

    def components(sources, targets, present):
        d = (targets[0] - sources[0], targets[1] - sources[1], targets[2] - sources[2])
        if box is not None:
            d = minimum_image(d, box)
        energy, slope = kernel(dot(d, d), sources[3:], targets[3:], present)
        return energy, slope * d[0], slope * d[1], slope * d[2]

    def products(sources, targets, present):
        # Σ_j s_ij (x_i − x_j) as a matrix product; near the tile, where little cancels.
        near = [t[:, :1] for t in targets[:3]]
        targets = [t - o for t, o in zip(targets[:3], near, strict=True)] + targets[3:]
        sources = [s - o for s, o in zip(sources[:3], near, strict=True)] + sources[3:]
        d = (targets[0] - sources[0], targets[1] - sources[1], targets[2] - sources[2])
        energy, slope = kernel(dot(d, d), sources[3:], targets[3:], present)
        factors = jnp.concatenate([*sources[:3], jnp.ones_like(sources[0])], axis=1)
        totals = jnp.einsum("rts,rcs->rct", slope, factors, precision="highest")
        gradient = [t[..., 0] * totals[:, 3] - totals[:, k] for k, t in enumerate(targets[:3])]
        return energy.sum(axis=-1), *gradient

    features = (x[:, 0], x[:, 1], x[:, 2], *features)
    if isinstance(pairs, NeighborTable) and box is None:
        energy, *gradient = _over_rows(products, features, pairs)
    else:
        energy, *gradient = row_sums(components, features, pairs)
    return energy, jnp.stack(gradient, axis=-1)


def _rows_at_once(n_rows: int) -> int:
    """How many rows to evaluate together: what fits into the caches of a CPU, many on an accelerator."""
    cpu = jax.default_backend() == "cpu"
    most = ROWS_AT_ONCE if cpu else max(1, _ACCELERATOR_PAIRS // (WIDTH * NEIGHBOR_TILE))
    parts = -(-n_rows // most)
    while n_rows % parts:
        parts += 1
    return n_rows // parts


def lookup(table: Array, row: Array, column: Array) -> Array:
    """``table[row, column]`` for broadcasting index arrays.

    When each varies along one axis only, a product with a one-hot matrix replaces a gather per pair.
    """
    if row.shape[0] == 1 and column.shape[1] == 1:
        return lookup(table.T, column, row)
    if row.shape[1] == 1 and column.shape[0] == 1:
        rows = jax.nn.one_hot(row[:, 0], table.shape[0], dtype=table.dtype)
        return jnp.matmul(rows, table[:, column[0]], precision="highest")
    return table[row, column]

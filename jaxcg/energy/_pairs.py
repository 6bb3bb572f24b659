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

from ..neighbors import NeighborTable
from ..typing import Array
from ._arrays import leaf

#: Destination atoms per tile on a CPU; the exclusion words hold one bit per atom of a tile.
TILE = 32

#: Largest number of pairs evaluated at once on an accelerator.
_ACCELERATOR_PAIRS = 2**25

Kernel = Callable[[Sequence[Array], Sequence[Array], Array], tuple[Array, ...]]


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
            broadcastable to (sources, tile), and a mask of that shape; it returns a tuple of (sources, tile) arrays
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
    width, n_atoms = table.index.shape
    n_tiles = -(-n_atoms // TILE)
    padding = n_tiles * TILE - n_atoms
    index = jnp.pad(table.index, ((0, 0), (0, padding)), constant_values=n_atoms)
    index = jnp.moveaxis(index.reshape(width, n_tiles, TILE), 1, 0)

    @jax.checkpoint
    def tile(index, targets):
        present = index < n_atoms
        sources = [f[jnp.minimum(index, n_atoms - 1)] for f in features]
        values = kernel(sources, [t[None, :] for t in targets], present)
        return tuple(v.sum(axis=0) for v in values)

    targets = [_tiled(f, n_tiles) for f in features]
    at_once = _tiles_at_once(width, n_tiles)
    sums = jax.lax.map(lambda a: tile(*a), (index, targets), batch_size=at_once if at_once > 1 else None)
    return [s.reshape(-1)[:n_atoms] for s in sums]


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

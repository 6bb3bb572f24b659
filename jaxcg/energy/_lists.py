"""Neighbour tables in the life of an energy: the first one, later ones, and the box they live in."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..neighbors import (
    WIDTH,
    NeighborTable,
    make_table,
    sequential_order,
    spatial_order,
    suggest_room,
)
from ..typing import Array, AtomVectors, Bool
from ._arrays import leaf
from ._pairs import AllPairs

#: Below this many atoms all pairs are compared even with a cutoff: a table would not be faster.
DENSE_ATOMS = 300
#: Up to this many atoms an energy without positions visits all pairs until its first `rebuild`.
UNLISTED_ATOMS = 3000


def box_leaf(box, cutoff: float | None, what: str) -> Array:
    """``box`` as an array, checked where it is concrete.

    Raises:
        ValueError: not (3, 3) and lower triangular, or too small for nearest images within the cutoff.
    """
    if isinstance(box, Tracer):
        return jnp.asarray(box)
    host = np.asarray(box)
    if host.shape != (3, 3) or not (np.diag(host) > 0).all() or np.abs(np.triu(host, 1)).max() > 1e-6 * host.max():
        raise ValueError(
            f"{what}: the box must be (3, 3) reduced box vectors in rows: a along x, b in the xy plane, a positive "
            "diagonal."
        )
    if cutoff is not None and 2 * cutoff > np.diag(host).min() * (1 + 1e-6):
        raise ValueError(f"{what}: the cutoff of {cutoff:g} nm is more than half the box; make it smaller.")
    return leaf(box)


def first_table(n_atoms: int, radius: float, positions, room, excluded, box, dtype) -> NeighborTable:
    """The first neighbour table; without positions an empty one that counts as overflowed."""
    if positions is not None:
        box = None if box is None else leaf(box, dtype)
        host, edges = np.asarray(positions, np.float64), None if box is None else np.asarray(box, np.float64)
        order = _fresh_order(host, edges)
        room = suggest_room(host, radius, order, edges) if room is None else room
        return make_table(leaf(positions, dtype), radius, leaf(order), room[0], room[1], excluded, box)
    rows, most = (8, 1) if room is None else room
    order = sequential_order(n_atoms)
    return NeighborTable(
        order=leaf(order),
        place=leaf(np.arange(n_atoms, dtype=np.int32)),
        tile=leaf(np.zeros(rows, np.int32)),
        sources=leaf(np.zeros((rows, WIDTH), np.int32)),
        words=leaf(np.zeros((rows, WIDTH), np.uint32)),
        rows_of_tile=leaf(np.full((most, len(order)), rows, np.int32)),
        reference=leaf(np.zeros((n_atoms, 3), dtype)),
        overflow=leaf(np.int32(1)),
    )


def renewed(
    pairs: AllPairs | NeighborTable, x: AtomVectors, radius: float, excluded: Array | None, box: Array | None, dtype
) -> AllPairs | NeighborTable:
    """The table made anew around ``x``, or the first one.

    Shapes stay, unless ``x`` is concrete and there is no table yet, or it is too small for ``x``: then it gets more
    room. In a box atoms diffuse, and a concrete ``x`` gets new tiles as well.
    """
    traced = any(isinstance(a, Tracer) for a in (x, box, *jax.tree.leaves((pairs, excluded))))
    usable = not traced and bool(np.isfinite(x).all())
    if not isinstance(pairs, NeighborTable):
        return first_table(len(x), radius, x, None, excluded, box, dtype) if usable else pairs
    x = jnp.asarray(x, pairs.reference.dtype)
    box = None if box is None else box.astype(x.dtype)
    rows, most = pairs.rows, pairs.rows_of_tile.shape[0]
    order = leaf(_fresh_order(np.asarray(x, np.float64), box)) if usable and box is not None else pairs.order
    table = make_table(x, radius, order, rows, most, excluded, box)
    if usable and not isinstance(table.overflow, Tracer) and table.overflow > 0:
        host = np.asarray(x, np.float64)
        order = _fresh_order(host, box)
        more = suggest_room(host, radius, order, None if box is None else np.asarray(box))
        rows, most = max(rows, more[0]), max(most, more[1])
        table = make_table(x, radius, leaf(order), rows, most, excluded, box)
    return table


def stale(pairs: AllPairs | NeighborTable, x: AtomVectors, skin: float) -> Bool[Array, ""]:
    """Whether an atom has moved by more than half the skin since the table was made."""
    if not isinstance(pairs, NeighborTable):
        return jnp.asarray(False)
    return pairs.moved(x, 0.5 * skin)


def complete_or_nan(pairs: AllPairs | NeighborTable, *values: Array) -> tuple[Array, ...]:
    """The values, or NaN when the table has overflowed: an incomplete table must not look like an answer."""
    if not isinstance(pairs, NeighborTable):
        return values
    return tuple(jnp.where(pairs.overflow > 0, jnp.nan, value) for value in values)


def _fresh_order(host: np.ndarray, box) -> np.ndarray:
    """Tiles of atoms that lie close together, in the box if there is one."""
    if box is not None:
        box = np.asarray(box, np.float64)
        host = host - np.floor(host @ np.linalg.inv(box)) @ box
    return spatial_order(host)

"""Mapping many frames, with molecules made whole: what a trajectory needs.

A linear map of a few frames costs less than compiling it, so on the host it is one sparse product, and the periodic
images are corrected on the beads rather than on the atoms. Other maps run compiled. Both give the same numbers.
"""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array, csc_array
from scipy.sparse.csgraph import connected_components, depth_first_order

from ..space import BondWalk, make_whole
from ..typing import Array, Float
from .base import AbstractLinearMap, AbstractMap
from .force_maps import ForceMap

Frames = Float[Array | np.ndarray, "frames atoms 3"]
Boxes = Float[Array | np.ndarray, "frames 3 3"]


def map_frames(
    mapping: AbstractMap, x: Frames, boxes: Boxes | None = None, walk: BondWalk | None = None
) -> Float[Array, "frames beads 3"]:
    """Bead positions of every frame, compiled: the reference that `FrameMapper` agrees with.

    Arguments:
        mapping: the map.
        x: (frames, atoms, 3) positions, nm.
        boxes: (frames, 3, 3) box vectors as rows, nm; zeros where a frame has none. None: no frame has one.
        walk: bonds along which molecules are made whole first; None leaves them as they are.

    Returns:
        (frames, beads, 3) nm, in the dtype of ``x``.
    """
    if boxes is None or walk is None:
        return _compiled(mapping, jnp.asarray(x), None, None)
    return _compiled(mapping, jnp.asarray(x), jnp.asarray(boxes, dtype=x.dtype), walk)


@eqx.filter_jit
def _compiled(mapping, x, boxes, walk):
    def one(frame):
        positions, box = frame
        if box is not None:
            # Without a box every bond is its own nearest image: one that no bond reaches across.
            present = jnp.abs(jnp.linalg.det(box)) > 0
            box = jnp.where(present, box, 1e6 * jnp.eye(3, dtype=box.dtype))
            positions = make_whole(positions, box, walk)
        return mapping(positions)

    return jax.lax.map(one, (x, boxes))


class FrameMapper:
    """Maps blocks of frames by the way that is fastest for the map; made once for a trajectory. Any thread may call it.

    Arguments:
        mapping: the map of the positions.
        bonds: (bonds, 2) along which molecules are made whole first; None leaves them as they are.
    """

    def __init__(self, mapping: AbstractMap, bonds=None):
        self._mapping, self._host, self._walk = mapping, None, None
        if isinstance(mapping, AbstractLinearMap):
            self._host = _HostMap(mapping, bonds)
        elif bonds is not None:
            self._walk = BondWalk.of(bonds, mapping.n_atoms)

    def __call__(self, x: Float[np.ndarray, "frames atoms 3"], boxes: np.ndarray | None = None) -> np.ndarray:
        """Bead positions (frames, beads, 3) in nm, float64, of the frames ``x`` in nm.

        Arguments:
            x: (frames, atoms, 3) nm.
            boxes: (frames, 3, 3) nm; zeros where a frame has none.
        """
        if self._host is not None:
            return np.stack([self._host(frame, None if boxes is None else boxes[i]) for i, frame in enumerate(x)])
        return np.asarray(map_frames(self._mapping, x, boxes, self._walk), dtype=np.float64)


class VectorMapper:
    """Maps vectors on atoms to beads, frame by frame: velocities by a linear map, forces by a force map."""

    def __init__(self, mapping: AbstractLinearMap | ForceMap):
        self._matrix = mapping.matrix().tocsr()

    def __call__(self, vectors: Float[np.ndarray, "frames atoms 3"]) -> np.ndarray:
        """(frames, beads, 3) float64."""
        return np.stack([self._matrix @ frame for frame in vectors])


class _HostMap:
    """A linear map as one sparse product, with the box vectors that make molecules whole added to its result."""

    def __init__(self, mapping: AbstractLinearMap, bonds):
        self._matrix = mapping.matrix().tocsr()
        self._images = None if bonds is None else _Images.of(self._matrix, np.asarray(bonds).reshape(-1, 2))

    def __call__(self, x: np.ndarray, box: np.ndarray | None) -> np.ndarray:
        y = self._matrix @ x
        if box is None or self._images is None or not box.any():
            return y
        return y + self._images(x, np.asarray(box, dtype=np.float64))


@dataclass(frozen=True)
class _Images:
    """What making molecules whole adds to linear beads.

    Moving the atoms by n box vectors each moves the beads by W n. In the order of a depth-first walk the atoms behind
    a bond follow one another, so n is a running sum over the few bonds that cross the box.
    """

    walked: np.ndarray  # (bonds,) atom each bond of the walk leads to
    parents: np.ndarray  # (bonds,) atom it comes from
    first: np.ndarray  # (bonds,) place in the walk of the atoms behind the bond: from here
    end: np.ndarray  # (bonds,) to before here
    matrix: csc_array  # beads × places in the walk
    shape: tuple[int, int]  # of the matrix

    @staticmethod
    def of(matrix: Any, bonds: np.ndarray) -> "_Images | None":
        order, before = _walk(bonds.astype(np.int64), matrix)
        if not len(order):
            return None
        n_beads, n_atoms = matrix.shape
        parent = before[order]
        place = np.full(n_atoms + 1, -1, dtype=np.int64)
        place[order] = np.arange(len(order))
        end = _ends(place[parent])  # −1 takes the last entry, −1
        inner = np.flatnonzero(parent >= 0)
        entries = matrix.tocoo()
        bead, atom = entries.coords
        walked = place[atom] >= 0
        shape = (n_beads, len(order))
        places = coo_array((entries.data[walked], (bead[walked], place[atom[walked]])), shape=shape)
        return _Images(order[inner], parent[inner], inner, end[inner], places.tocsc(), shape)

    def __call__(self, x: np.ndarray, box: np.ndarray) -> np.ndarray:
        """What to add to the bead positions (beads, 3) of a frame."""
        crossing, shift = self._crossings(x, box)
        counts = np.zeros((3, self.shape[0]))
        for axis in range(3):
            here = np.flatnonzero(shift[:, axis])
            if len(here):
                counts[axis] = self._moved(crossing[here], -shift[here, axis])
        return counts.T @ box

    def _crossings(self, x: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bonds that are not their nearest image, and by how many box vectors (crossing, 3)."""
        d = x.take(self.walked, axis=0)
        d -= x.take(self.parents, axis=0)
        crossing = np.arange(len(d))
        if not np.triu(box, 1).any():
            # A bond that crosses has a component of more than half an edge: most are told by one comparison.
            far = np.flatnonzero(np.abs(d).ravel() > d.dtype.type(0.5 * np.diag(box).min()))
            crossing = np.unique(far // 3)
        return crossing, np.rint(d[crossing] @ np.linalg.inv(box))

    def _moved(self, bonds: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """(beads,) what they move by when all that lies behind each of the ``bonds`` moves by its ``shift``."""
        (n_beads, n_places), first, end = self.shape, self.first[bonds], self.end[bonds]
        if (end - first).sum() < n_places // 4:
            # Few places: list them and their weights; sums over all are slower.
            bond, place = _ranges(first, end)
            column, entry = _ranges(self.matrix.indptr[place], self.matrix.indptr[place + 1])
            return np.bincount(self.matrix.indices[entry], self.matrix.data[entry] * shift[bond[column]], n_beads)
        change = np.bincount(first, shift, n_places + 1) - np.bincount(end, shift, n_places + 1)
        return self.matrix @ np.cumsum(change[:-1])


def _ranges(first: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The integers of several ranges one after another, and the number of the range each is from: (range, integer)."""
    length = end - first
    number = np.repeat(np.arange(len(length)), length)
    return number, np.arange(len(number)) - np.repeat(np.cumsum(length) - length - first, length)


def _walk(bonds: np.ndarray, matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Depth-first order of the atoms whose molecules have beads and bonds, and the atom before each (−1: none)."""
    n_atoms = matrix.shape[1]
    graph = coo_array((np.ones(len(bonds), np.int8), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    n_molecules, molecule = connected_components(graph, directed=False)
    wanted = np.zeros(n_molecules, dtype=bool)
    wanted[molecule[matrix.indices]] = True
    wanted &= np.bincount(molecule, minlength=n_molecules) > 1
    roots = np.unique(molecule, return_index=True)[1][wanted]
    # An extra vertex joined to the first atom of every molecule: one search walks all of them.
    kept = bonds[wanted[molecule[bonds[:, 0]]]]
    rows = np.concatenate([kept[:, 0], np.full(len(roots), n_atoms)])
    columns = np.concatenate([kept[:, 1], roots])
    joined = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(n_atoms + 1, n_atoms + 1)).tocsr()
    order, before = depth_first_order(joined, n_atoms, directed=False)
    before = np.where(before == n_atoms, -1, before)
    return order[1:].astype(np.int64), before


def _ends(parent: np.ndarray) -> np.ndarray:
    """For each place of a depth-first order the place behind the last of its descendants; parents are places or −1."""
    # Ancestors twice as far away in every round.
    depth, ancestor = (parent >= 0).astype(np.int64), parent.copy()
    while np.any(ancestor >= 0):
        far = np.maximum(ancestor, 0)
        depth, ancestor = (
            depth + np.where(ancestor >= 0, depth[far], 0),
            np.where(ancestor >= 0, ancestor[far], -1),
        )
    size = np.ones(len(parent), dtype=np.int64)
    by_depth = np.argsort(depth, kind="stable")
    levels = np.split(by_depth, np.cumsum(np.bincount(depth))[:-1]) if len(depth) else []
    for level in reversed(levels[1:]):
        np.add.at(size, parent[level], size[level])
    return np.arange(len(parent)) + size

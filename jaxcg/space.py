"""Periodic boxes: nearest images, and molecules made whole along their bonds.

A box is a (3, 3) array of box vectors as rows, nm, lower triangular (a along x, b in the xy plane) as GROMACS and
OpenMM write it. Functions take JAX arrays, or NumPy arrays alone and then work and return in NumPy on the host.
"""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from .typing import Array, AtomScalars, AtomVectors, Bool, Float

Box = Float[Array | np.ndarray, "3 3"]
Displacements = Float[Array | np.ndarray, "... 3"]


def minimum_image(d, box) -> tuple[Array, Array, Array]:
    """Periodic image of the displacements ``d`` (x, y and z components) in the brick around the origin.

    It is the shortest image wherever that is shorter than half the smallest diagonal entry of the box, as cutoffs and
    bonds are; `nearest_image` is right for every displacement of strongly tilted boxes too.

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


def nearest_image(d: Displacements, box: Box) -> Array | np.ndarray:
    """Shortest periodic image of every displacement, in any lattice.

    The lattice is first given its shortest basis (Minkowski's); a displacement folded into that cell has its nearest
    image there or in one of the 26 cells around.

    Arguments:
        d: (..., 3) displacements, nm.
        box: (3, 3) box vectors as rows, nm; any three that span the lattice.

    Returns:
        (..., 3) displacements; gradients pass as through the identity.

    Source: Nguyen and Stehlé, ACM Trans. Algorithms 5, 46 (2009): Minkowski-reduced bases and closest vectors.
    """
    xp = _namespace(d, box)
    basis = _shortest_basis(xp.asarray(box), xp)
    fraction = _constant(_dot(d, xp.linalg.inv(basis), xp), xp)
    folded = d - _dot(xp.round(fraction), basis, xp)
    shifts = _dot(np.asarray(_AROUND, dtype=basis.dtype), basis, xp)
    lengths = xp.sum((folded[..., None, :] + shifts) ** 2, axis=-1)
    return folded + shifts[xp.argmin(_constant(lengths, xp), axis=-1)]


class BondWalk(eqx.Module):
    """A way along the bonds to every atom from the first atom of its molecule; rings are opened somewhere.

    Made once by `BondWalk.of`, used by `make_whole` for every frame. Sums along the way take ⌈log₂ depth⌉ rounds of
    gathers, each over those atoms alone that are deep enough to need it; molecules whose atoms are all bonded to the
    first, like water, take none.
    """

    #: (bonds, 2) all bonds between different atoms, each once.
    bonds: np.ndarray
    #: (atoms,) number of the molecule (connected group of atoms) each atom is in.
    molecule: np.ndarray
    _first: np.ndarray  # (molecules,) first atom of each
    _parent: np.ndarray  # (atoms,) the atom before; first atoms are before themselves
    _deep: np.ndarray  # atoms of molecules that go beyond the neighbours of their first atom, the deepest first
    _jumps: tuple[np.ndarray, ...]  # place in there of the ancestor 1, 2, 4, ... bonds before, of those that have one
    _place: np.ndarray  # (atoms,) place of each atom among the deep ones followed by all
    n_molecules: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)

    @staticmethod
    def of(bonds, n_atoms: int) -> "BondWalk":
        """The walk over a bond graph.

        Arguments:
            bonds: (bonds, 2) integer pairs of atoms; rings, repeated bonds and atoms without any are fine.
            n_atoms: number of atoms.

        Raises:
            ValueError: a bond to an atom that is not there.
        """
        bonds = np.asarray(bonds, dtype=np.int64).reshape(-1, 2)
        if bonds.size and (bonds.min() < 0 or bonds.max() >= n_atoms):
            raise ValueError(f"BondWalk: bonds name atoms outside 0..{n_atoms - 1}; number them from 0.")
        bonds = np.unique(np.sort(bonds[bonds[:, 0] != bonds[:, 1]], axis=1), axis=0)
        graph = coo_array((np.ones(len(bonds), dtype=np.int8), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
        n_molecules, molecule = connected_components(graph, directed=False)
        first = np.unique(molecule, return_index=True)[1]
        # One search from an extra vertex joined to the first atom of every molecule walks all of them at once.
        rows = np.concatenate([bonds[:, 0], np.full(len(first), n_atoms)])
        columns = np.concatenate([bonds[:, 1], first])
        joined = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(n_atoms + 1, n_atoms + 1))
        found, before = breadth_first_order(joined.tocsr(), n_atoms, directed=False)

        depth = _depths(found, before, n_atoms)[:n_atoms]
        parent = np.where(depth == 0, np.arange(n_atoms), before[:n_atoms])
        reach = np.zeros(n_molecules, dtype=np.int64)
        np.maximum.at(reach, molecule, depth)
        outward = found[1:]
        deep = outward[(depth[outward] > 0) & (reach[molecule[outward]] > 1)][::-1]
        place = np.arange(n_atoms) + len(deep)
        place[deep] = np.arange(len(deep))
        # First atoms have no place among the deep ones, and none of their neighbours asks for it.
        ancestor = np.where(depth[deep] > 1, place[parent[deep]], 0)
        jumps, length = [], 1
        while (count := int((depth[deep] > length).sum())) > 0:
            jumps.append(ancestor[:count].astype(np.int32))
            ancestor = ancestor[ancestor]
            length *= 2
        return BondWalk(
            bonds=bonds.astype(np.int32),
            molecule=molecule.astype(np.int32),
            _first=first.astype(np.int32),
            _parent=parent.astype(np.int32),
            _deep=deep.astype(np.int32),
            _jumps=tuple(jumps),
            _place=place.astype(np.int32),
            n_molecules=int(n_molecules),
            n_atoms=n_atoms,
        )

    def sum_along(self, values: Array | np.ndarray) -> Array | np.ndarray:
        """Sum of a per-bond quantity over the way to each atom.

        Arguments:
            values: (atoms, ...) of the bond that leads to each atom; zero for the first atom of each molecule.

        Returns:
            (atoms, ...) sums.
        """
        if not self._jumps:
            return values
        xp = _namespace(values)
        total = values[self._deep]
        for ancestor in self._jumps:
            summed = total[: len(ancestor)] + total[ancestor]
            total = xp.concatenate([summed, total[len(ancestor) :]])
        return xp.concatenate([total, values])[self._place]


def make_whole(
    x: AtomVectors, box: Box, walk: BondWalk, *, wrap: bool = False, weights: AtomScalars | None = None
) -> Array | np.ndarray:
    """Molecules put together again that a periodic box has cut, walking along their bonds.

    Every atom moves by whole box vectors so that each bond of the walk is its nearest image; molecules may be longer
    than the box. The first atom of each molecule stays where it is, unless ``wrap`` is set. Gradients pass through
    as those of a shift: unity for ``x``, the number of box vectors for ``box``.

    Arguments:
        x: (atoms, 3) positions, nm, in any image.
        box: (3, 3) box vectors as rows, nm, lower triangular.
        walk: the bond graph, from `BondWalk.of`.
        wrap: also move whole molecules so that their centres lie in the box, 0 ≤ fraction < 1 along each vector.
        weights: (atoms,) weights of the centres that ``wrap`` looks at, e.g. masses; equal ones when None.

    Returns:
        (atoms, 3) positions, nm. Right if every bond is shorter than half the smallest diagonal entry of the box and
        no molecule is bonded to its own image: `suspect_bonds` tells.

    Raises:
        ValueError: x has another number of atoms than the walk.
    """
    if x.shape[0] != walk.n_atoms:
        raise ValueError(f"make_whole: x has {x.shape[0]} atoms, the bond walk {walk.n_atoms}.")
    xp = _namespace(x, box)
    if xp is jnp:
        x, box = jnp.asarray(x), jnp.asarray(box)
    box = box.astype(x.dtype)
    shift = walk.sum_along(_image_shift(_constant(x - x[walk._parent], xp), _constant(box, xp), xp))
    whole = x + _along(shift, box)
    if wrap:
        shift = _wrapping_shift(_constant(whole, xp), _constant(box, xp), walk, weights, xp)
        whole = whole + _along(shift, box)[walk.molecule]
    return cast(Any, whole)


def suspect_bonds(x: AtomVectors, box: Box, walk: BondWalk) -> Bool[Array | np.ndarray, " bonds"]:
    """Bonds on which a molecule cannot be made whole with certainty.

    True for a bond whose nearest image is not shorter than half the smallest diagonal entry of the box (then another
    image might have been meant), and for a bond that is not its nearest image in the molecule made whole: it joins
    the molecule to its own image in the next box, or its ring has a suspect bond.

    Arguments:
        x: (atoms, 3) positions, nm.
        box: (3, 3) box vectors as rows, nm, lower triangular.
        walk: the bond graph.

    Returns:
        (bonds,) flags, in the order of ``walk.bonds``.
    """
    xp = _namespace(x, box)
    whole = make_whole(x, box, walk)
    box = cast(Any, xp.asarray(box)).astype(x.dtype)
    d = whole[walk.bonds[:, 1]] - whole[walk.bonds[:, 0]]
    shift = _image_shift(d, box, xp)
    d = d + _along(shift, box)
    half = 0.5 * xp.min(xp.diagonal(box))
    return (xp.sum(d * d, axis=1) >= half**2) | xp.any(shift != 0, axis=1)


_AROUND = np.stack(np.meshgrid(*[[0, -1, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
#: The vector tried in place of a basis vector: it and the other two, each taken −1, 0 or 1 times.
_TRIALS = np.stack(np.meshgrid([0, -1, 1], [0, -1, 1], indexing="ij"), axis=-1).reshape(-1, 2).astype(np.int32)


def _namespace(*arrays) -> Any:
    return np if all(isinstance(a, np.ndarray) for a in arrays) else jnp


def _constant(a, xp):
    """Images are chosen, not differentiated."""
    return a if xp is np else jax.lax.stop_gradient(a)


def _dot(a, b, xp):
    return a @ b if xp is np else jnp.matmul(a, b, precision="highest")


def _along(shift, box):
    """Displacements (..., 3) by numbers of box vectors; as sums, many times faster than a thin matrix product."""
    return shift[..., :1] * box[0] + shift[..., 1:2] * box[1] + shift[..., 2:] * box[2]


def _image_shift(d, box, xp):
    """Box vectors to add to the displacements ``d`` (..., 3) that bring them into the brick around the origin."""
    c = xp.round(d[..., 2] / box[2, 2])
    b = xp.round((d[..., 1] - c * box[2, 1]) / box[1, 1])
    a = xp.round((d[..., 0] - c * box[2, 0] - b * box[1, 0]) / box[0, 0])
    return -xp.stack([a, b, c], axis=-1)


def _wrapping_shift(x, box, walk: BondWalk, weights, xp):
    """Box vectors to add to each molecule (molecules, 3) that bring its centre into the cell."""
    weights = xp.ones(walk.n_atoms, x.dtype) if weights is None else xp.asarray(weights).astype(x.dtype)
    # Distances from the first atom: sums over large molecules keep their digits.
    first = x[walk._first]
    terms = xp.concatenate([(x - first[walk.molecule]) * weights[:, None], weights[:, None]], axis=1)
    if xp is np:
        sums = np.stack([np.bincount(walk.molecule, column, walk.n_molecules) for column in terms.T], axis=1)
    else:
        sums = jax.ops.segment_sum(terms, walk.molecule, walk.n_molecules)
    center = (first + sums[:, :3] / sums[:, 3:]).astype(x.dtype)
    c = center[:, 2] / box[2, 2]
    b = (center[:, 1] - c * box[2, 1]) / box[1, 1]
    a = (center[:, 0] - c * box[2, 0] - b * box[1, 0]) / box[0, 0]
    return -xp.floor(xp.stack([a, b, c], axis=-1))


def _shortest_basis(box, xp):
    """Minkowski-reduced basis of the lattice, differentiable in ``box`` at the integers found."""

    def improve(integers, basis):
        """Replaces the longest vector that can be shortened by its shortest trial; (integers, whether any was)."""
        gains, trials = [], []
        for axis in range(3):
            j, k = (axis + 1) % 3, (axis + 2) % 3
            trial = integers[axis] + _TRIALS[:, :1] * integers[j] + _TRIALS[:, 1:] * integers[k]
            length = xp.sum(_dot(trial.astype(basis.dtype), basis, xp) ** 2, axis=-1)
            best = xp.argmin(length)
            # A tie is no gain: rounding must not swap for ever.
            gains.append(length[0] - length[best] - 1e-5 * length[0])
            trials.append(trial[best])
        gains = xp.stack(gains)
        axis = xp.argmax(gains)
        chosen = xp.arange(3)[:, None] == axis
        return xp.where(chosen & (gains[axis] > 0), xp.stack(trials)[axis], integers), gains[axis] > 0

    fixed = _constant(box, xp)
    integers = xp.eye(3, dtype=np.int32)
    if xp is np:
        going = True
        while going:
            integers, going = improve(integers, fixed)
    else:
        integers, _ = jax.lax.while_loop(
            lambda state: state[1], lambda state: improve(state[0], fixed), (integers, jnp.asarray(True))
        )
    return _dot(integers.astype(box.dtype), box, xp)


def _depths(found, before, root: int) -> np.ndarray:
    """Number of bonds from each atom to the first of its molecule, from a breadth-first search."""
    # Breadth first: an atom is one deeper than the atom before it, and depths never fall along the search. So a level
    # ends where the parents leave the level above, and whole levels are filled at a time.
    rank = np.empty(len(found), dtype=np.int64)
    rank[found] = np.arange(len(found))
    parent_rank = rank[before[found[1:]]]
    depth = np.empty(len(found), dtype=np.int64)
    start, end, level = 1, 1 + int(np.searchsorted(parent_rank, 1)), 0
    depth[root] = -1
    while start < len(found):
        depth[found[start:end]] = level
        start, end, level = end, 1 + int(np.searchsorted(parent_rank, end)), level + 1
    return depth

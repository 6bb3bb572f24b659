"""Linear forward maps y = M(x): sparse, with overlapping beads, and their null space."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..typing import Array, AtomArray, AtomScalars, BeadArray
from ._sparse import padded_rows, sparse_product
from .base import AbstractFibre, AbstractLinearMap


class LinearMap(AbstractLinearMap):
    """A linear coarse-graining map, the same in x, y and z: ``y = W x`` with sparse W (beads × atoms).

    Rows of W sum to one, so the map commutes with translations. Beads may share atoms (ring atoms of Martini 3)
    and atoms may belong to no bead. The Gram matrix W m⁻¹ Wᵀ is block diagonal, one small block for each
    connected group of overlapping beads; only those blocks are ever formed.

    Build one with `LinearMap.center_of_mass`, `LinearMap.center_of_geometry` or `LinearMap.from_weights`.

    Source: Noid et al., J. Chem. Phys. 128, 244114 (2008), eqs. 3-5.
    """

    _bead_atoms: Array | np.ndarray
    _bead_weights: Array | np.ndarray
    _atom_beads: Array | np.ndarray
    _atom_weights: Array | np.ndarray
    _pattern: "_LiftPattern"
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    # -- construction ---------------------------------------------------------------------------------------------

    @staticmethod
    def from_weights(bead_index, atom_index, weight, n_beads: int, n_atoms: int) -> "LinearMap":
        """Map from the nonzero entries of W.

        Arguments:
            bead_index, atom_index: (entries,) integer row and column of each entry.
            weight: (entries,) weights; each bead's must sum to one. Entries of weight zero are dropped and
                repeated entries added.
            n_beads, n_atoms: shape of W.

        Raises:
            ValueError: indices out of range, a bead without atoms, or weights that do not sum to one.
        """
        bead_index = np.asarray(bead_index, dtype=np.int64)
        atom_index = np.asarray(atom_index, dtype=np.int64)
        weight = np.asarray(weight, dtype=np.float64)
        if not (bead_index.shape == atom_index.shape == weight.shape and bead_index.ndim == 1):
            raise ValueError("LinearMap: bead_index, atom_index and weight must be 1-D and of equal length.")
        if bead_index.size and (bead_index.min() < 0 or bead_index.max() >= n_beads):
            raise ValueError(f"LinearMap: bead_index outside 0..{n_beads - 1}.")
        if atom_index.size and (atom_index.min() < 0 or atom_index.max() >= n_atoms):
            raise ValueError(f"LinearMap: atom_index outside 0..{n_atoms - 1}.")
        if not np.all(np.isfinite(weight)):
            raise ValueError("LinearMap: weights must be finite.")
        entries = coo_array((weight, (bead_index, atom_index)), shape=(n_beads, n_atoms))
        entries.sum_duplicates()
        keep = entries.data != 0
        bead_index, atom_index, weight = entries.coords[0][keep], entries.coords[1][keep], entries.data[keep]
        totals = np.bincount(bead_index, weights=weight, minlength=n_beads)
        empty = np.flatnonzero(np.bincount(bead_index, minlength=n_beads) == 0)
        if empty.size:
            raise ValueError(
                f"LinearMap: bead {empty[0]} has no atom ({empty.size} such beads); give every bead an atom."
            )
        wrong = np.flatnonzero(np.abs(totals - 1) > 1e-6)
        if wrong.size:
            raise ValueError(
                f"LinearMap: weights of bead {wrong[0]} sum to {totals[wrong[0]]:.6g}, expected 1; normalise each row."
            )
        weight = weight / totals[bead_index]

        pattern = _LiftPattern.of(bead_index, atom_index, weight, n_beads, n_atoms)
        bead_atoms, bead_weights = padded_rows(bead_index, atom_index, weight, n_beads)
        atom_beads, atom_weights = padded_rows(atom_index, bead_index, weight, n_atoms)
        return LinearMap(
            _bead_atoms=bead_atoms,
            _bead_weights=bead_weights,
            _atom_beads=atom_beads,
            _atom_weights=atom_weights,
            _pattern=pattern,
            n_beads=n_beads,
            n_atoms=n_atoms,
            rank=3 * pattern.row_rank(),
        )

    @staticmethod
    def center_of_mass(groups: Sequence[Sequence[int]], masses: AtomScalars) -> "LinearMap":
        """Centre-of-mass map: bead I sits at the mass-weighted mean of the atoms in ``groups[I]``.

        Arguments:
            groups: for each bead the indices of its atoms (they may overlap).
            masses: (atoms,) masses, amu.
        """
        masses = np.asarray(masses, dtype=np.float64)
        shares = [masses[np.asarray(group, dtype=int)] for group in groups]
        return _from_groups(groups, shares, len(masses))

    @staticmethod
    def center_of_geometry(groups: Sequence[Sequence[int]], n_atoms: int) -> "LinearMap":
        """Centre-of-geometry map: bead I sits at the plain mean of the atoms in ``groups[I]``."""
        return _from_groups(groups, [np.ones(len(group)) for group in groups], n_atoms)

    # -- the map --------------------------------------------------------------------------------------------------

    def __call__(self, x: AtomArray) -> BeadArray:
        """Bead positions of the configuration ``x``: (atoms, ...) → (beads, ...), in the units of ``x``."""
        return sparse_product(self._bead_atoms, self._bead_weights, self._atom_beads, self._atom_weights, x)

    def transpose(self, v: BeadArray) -> AtomArray:
        """Wᵀ v: spreads bead vectors (e.g. forces on beads) over the atoms: (beads, ...) → (atoms, ...)."""
        return sparse_product(self._atom_beads, self._atom_weights, self._bead_atoms, self._bead_weights, v)

    def fibre(self, masses: AtomScalars | None = None) -> "Fibre":
        """The fibre {x : M(x) = y} in the metric of ``masses`` (unit masses when None), factored once.

        Arguments:
            masses: (atoms,) positive masses, amu; may be traced.
        """
        masses = np.ones(self.n_atoms) if masses is None else masses
        index, weight, index_t, weight_t = self._pattern.lift(masses)
        return Fibre(mapping=self, _index=index, _weight=weight, _index_t=index_t, _weight_t=weight_t)

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries of W as ``(bead_index, atom_index, weight)``."""
        weights = np.asarray(self._bead_weights)
        slot, bead = np.nonzero(weights)
        return bead, np.asarray(self._bead_atoms)[slot, bead], weights[slot, bead]

    def null_space(self) -> coo_array:
        """Orthonormal basis of the null space of W as a sparse (atoms × (atoms − rank/3)) array.

        Built block by block; the null space of the 3-D map is this basis applied to x, y and z separately.
        """
        return self._pattern.null_space()


class Fibre(AbstractFibre):
    """The affine subspace {x : M(x) = y} of a linear map, with the metric of a set of masses.

    Made by `LinearMap.fibre`. Every operation is two sparse products and works on (atoms, ...) arrays of any
    trailing shape (four-dimensional coordinates too).
    """

    mapping: LinearMap
    _index: Array | np.ndarray
    _weight: Array | np.ndarray
    _index_t: Array | np.ndarray
    _weight_t: Array | np.ndarray

    def lift(self, r: BeadArray) -> AtomArray:
        """m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹ r: the smallest atomic displacement that moves the beads by ``r``."""
        return sparse_product(self._index, self._weight, self._index_t, self._weight_t, r)

    def lift_transpose(self, f: AtomArray) -> BeadArray:
        """(W m⁻¹ Wᵀ)⁻¹ W m⁻¹ f, the transpose of `lift`: the bead forces whose spread comes nearest to ``f``."""
        return sparse_product(self._index_t, self._weight_t, self._index, self._weight, f)


class _LiftPattern(eqx.Module):
    """Where the nonzero entries of m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹ are, and how to fill them for given masses.

    Beads that share atoms, directly or through others, form a block; an atom's row touches its block only.
    """

    block_beads: np.ndarray  # (blocks, size), padded with n_beads
    block_atoms: np.ndarray  # (blocks, size), padded with n_atoms
    block_weights: np.ndarray  # (blocks, beads per block, atoms per block)
    atom_bead_index: np.ndarray
    atom_bead_entry: np.ndarray
    bead_atom_index: np.ndarray
    bead_atom_entry: np.ndarray
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)

    @staticmethod
    def of(bead_index, atom_index, weight, n_beads: int, n_atoms: int) -> "_LiftPattern":
        matrix = coo_array((weight, (bead_index, atom_index)), shape=(n_beads, n_atoms)).tocsr()
        pattern = matrix.astype(bool).astype(np.int32)
        n_blocks, block_of_bead = connected_components(pattern @ pattern.T, directed=False)
        block_of_atom = np.full(n_atoms, -1)
        block_of_atom[atom_index] = block_of_bead[bead_index]
        block_beads, bead_slot = _members(block_of_bead, n_blocks, fill=n_beads)
        block_atoms, atom_slot = _members(block_of_atom, n_blocks, fill=n_atoms)
        block_weights = np.zeros((n_blocks, block_beads.shape[1], block_atoms.shape[1]))
        block_weights[block_of_bead[bead_index], bead_slot[bead_index], atom_slot[atom_index]] = weight

        # One entry for every (atom, bead) pair of a block; its number in the flattened (block, atom, bead) array.
        shape = (n_blocks, block_atoms.shape[1], block_beads.shape[1])
        atoms = np.broadcast_to(block_atoms[:, :, None], shape).ravel()
        beads = np.broadcast_to(block_beads[:, None, :], shape).ravel()
        number = np.flatnonzero((atoms < n_atoms) & (beads < n_beads))
        index, entry = padded_rows(atoms[number], beads[number], number + 1, n_atoms)
        index_t, entry_t = padded_rows(beads[number], atoms[number], number + 1, n_beads)
        return _LiftPattern(
            block_beads=block_beads,
            block_atoms=block_atoms,
            block_weights=block_weights,
            atom_bead_index=index,
            atom_bead_entry=entry.astype(np.int32),
            bead_atom_index=index_t,
            bead_atom_entry=entry_t.astype(np.int32),
            n_beads=n_beads,
            n_atoms=n_atoms,
        )

    def lift(self, masses):
        """Tables (index, weight, index_t, weight_t) of the lift for ``masses``."""
        xp = jnp if isinstance(masses, Tracer) else np
        inverse_masses = xp.append(1.0 / xp.asarray(masses), 1.0)[self.block_atoms]
        scaled = self.block_weights * inverse_masses[:, None, :]
        gram = _einsum("kba,kca->kbc", scaled, self.block_weights)
        # Relative scaling first: light and heavy beads differ by orders of magnitude, duplicates must not.
        diagonal = xp.einsum("kbb->kb", gram)
        scale = 1.0 / xp.sqrt(xp.where(diagonal > 0, diagonal, 1.0))
        inverse = xp.linalg.pinv(gram * scale[:, :, None] * scale[:, None, :], rtol=1e-6, hermitian=True)
        inverse = inverse * scale[:, :, None] * scale[:, None, :]
        values = _einsum("kba,kbc->kac", scaled, inverse)
        values = xp.concatenate([xp.zeros(1, values.dtype), values.ravel()])
        return self.atom_bead_index, values[self.atom_bead_entry], self.bead_atom_index, values[self.bead_atom_entry]

    def row_rank(self) -> int:
        gram = self.block_weights @ self.block_weights.transpose(0, 2, 1)
        return int(np.linalg.matrix_rank(gram, tol=1e-10, hermitian=True).sum())

    def null_space(self) -> coo_array:
        rows, columns, values = [], [], []
        column = 0
        for atoms, weights in zip(self.block_atoms, self.block_weights, strict=True):
            atoms = atoms[atoms < self.n_atoms]
            weights = weights[np.any(weights != 0, axis=1)][:, : len(atoms)]
            _, singular, right = np.linalg.svd(weights, full_matrices=True)
            basis = right[int((singular > 1e-10 * singular.max()).sum()) :]
            for vector in basis:
                rows.append(atoms)
                columns.append(np.full(len(atoms), column))
                values.append(vector)
                column += 1
        unmapped = np.setdiff1d(np.arange(self.n_atoms), self.block_atoms.ravel())
        rows.append(unmapped)
        columns.append(column + np.arange(len(unmapped)))
        values.append(np.ones(len(unmapped)))
        shape = (self.n_atoms, column + len(unmapped))
        return coo_array((np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=shape)


def _einsum(subscripts: str, a, b):
    """Product of two arrays, without the low precision that accelerators default to when traced."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.einsum(subscripts, a, b)
    return jnp.einsum(subscripts, a, b, precision="highest")


def _members(group_of: np.ndarray, n_groups: int, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Padded member table (groups, size) of a labelling (label −1: in no group), and each member's slot."""
    members = np.flatnonzero(group_of >= 0)
    index, number = padded_rows(group_of[members], members, members + 1, n_groups)
    del index
    table = number.T.astype(np.int32) - 1
    table = np.where(table < 0, fill, table)
    slot = np.zeros(len(group_of), dtype=np.int32)
    groups, slots = np.nonzero(table < len(group_of)) if fill >= len(group_of) else np.nonzero(table != fill)
    slot[table[groups, slots]] = slots
    return table, slot


def _from_groups(groups, shares, n_atoms: int) -> LinearMap:
    for bead, group in enumerate(groups):
        if len(group) == 0:
            raise ValueError(f"LinearMap: bead {bead} has no atom; give every bead at least one.")
    bead = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    atom = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups])
    weight = np.concatenate([share / share.sum() for share in shares])
    return LinearMap.from_weights(bead, atom, weight, len(groups), n_atoms)

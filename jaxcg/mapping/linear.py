"""Linear forward maps y = M(x): sparse, with overlapping beads, and their null space."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np
from scipy.sparse import coo_array

from ..typing import AtomArray, AtomScalars, BeadArray
from ._elimination import Elimination
from ._lift import lift_of, row_rank
from ._null_space import null_space_of
from ._sparse import SparseMatrix
from .base import AbstractFibre, AbstractLinearMap, checked_masses


class LinearMap(AbstractLinearMap):
    """A linear coarse-graining map, the same in x, y and z: ``y = W x`` with sparse W (beads × atoms).

    Rows of W sum to one, so the map commutes with translations. Beads may share atoms (ring atoms of Martini 3)
    and atoms may belong to no bead. The Gram matrix W m⁻¹ Wᵀ is block diagonal, one small block for each
    connected group of overlapping beads; only those blocks are ever formed, when a fibre is asked for.

    Build one with `LinearMap.center_of_mass`, `LinearMap.center_of_geometry`, `LinearMap.per_group`, `LinearMap.slice`
    or `LinearMap.from_weights`; `then` composes two.

    Source: Noid et al., J. Chem. Phys. 128, 244114 (2008), eqs. 3-5.
    """

    _weights: SparseMatrix
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

        rank = 3 * row_rank(coo_array((weight, (bead_index, atom_index)), shape=(n_beads, n_atoms)))
        weights = SparseMatrix.of(bead_index, atom_index, weight, n_beads, n_atoms)
        return LinearMap(_weights=weights, n_beads=n_beads, n_atoms=n_atoms, rank=rank)

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

    @staticmethod
    def per_group(group, weights: AtomScalars | None = None) -> "LinearMap":
        """One bead for each group of atoms, e.g. for each residue or each molecule.

        Arguments:
            group: (atoms,) number of the bead each atom is in; −1 for none.
            weights: (atoms,) weights of the means, e.g. masses, amu; equal ones when None.

        Raises:
            ValueError: a number between 0 and the largest that no atom has.
        """
        group = np.asarray(group, dtype=np.int64)
        weights = np.ones(len(group)) if weights is None else np.asarray(weights, dtype=np.float64)
        atom = np.flatnonzero(group >= 0)
        n_beads = int(group.max(initial=-1)) + 1
        totals = np.bincount(group[atom], weights=weights[atom], minlength=n_beads)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = weights[atom] / totals[group[atom]]
        return LinearMap.from_weights(group[atom], atom, shares, n_beads, len(group))

    @staticmethod
    def slice(atoms, n_atoms: int) -> "LinearMap":
        """Beads that sit on single atoms, e.g. the Cα: bead I is atom ``atoms[I]``."""
        atoms = np.asarray(atoms, dtype=np.int64)
        return LinearMap.from_weights(np.arange(len(atoms)), atoms, np.ones(len(atoms)), len(atoms), n_atoms)

    def then(self, other: "LinearMap") -> "LinearMap":
        """This map followed by ``other``, which maps these beads on: beads defined on beads, W = W_other W_self.

        Raises:
            ValueError: ``other`` takes another number of beads than this map gives.
        """
        if other.n_atoms != self.n_beads:
            raise ValueError(
                f"LinearMap.then: the second map takes {other.n_atoms} beads, the first gives {self.n_beads}."
            )
        product = coo_array(other.matrix().tocsr() @ self.matrix().tocsr())
        return LinearMap.from_weights(product.coords[0], product.coords[1], product.data, other.n_beads, self.n_atoms)

    # -- the map --------------------------------------------------------------------------------------------------

    def __call__(self, x: AtomArray) -> BeadArray:
        """Bead positions of the configuration ``x``: (atoms, ...) → (beads, ...), in the units of ``x``."""
        return self._weights.apply(x)

    def transpose(self, v: BeadArray) -> AtomArray:
        """Wᵀ v: spreads bead vectors (e.g. forces on beads) over the atoms: (beads, ...) → (atoms, ...)."""
        return self._weights.apply_transpose(v)

    def fibre(self, masses: AtomScalars | None = None) -> "Fibre":
        """The fibre {x : M(x) = y} in the metric of ``masses`` (unit masses when None), factored once.

        Arguments:
            masses: (atoms,) positive masses, amu; may be traced.
        """
        return Fibre(self, *lift_of(self.matrix(), checked_masses(masses, self.n_atoms)))

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries of W as ``(bead_index, atom_index, weight)``."""
        return self._weights.entries()

    def null_space(self) -> coo_array:
        """Orthonormal basis of the null space of W as a sparse (atoms × (atoms − rank/3)) array.

        Built block by block; the null space of the 3-D map is this basis applied to x, y and z separately.
        """
        return null_space_of(self.matrix(), np.ones(self.n_atoms))


class Fibre(AbstractFibre):
    """The affine subspace {x : M(x) = y} of a linear map, with the metric of a set of masses.

    Made by `LinearMap.fibre`. Every operation is two sparse products and works on (atoms, ...) arrays of any
    trailing shape (four-dimensional coordinates too).
    """

    mapping: LinearMap
    _direct: SparseMatrix
    _spread: SparseMatrix | None
    _chains: Elimination | None

    def lift(self, r: BeadArray) -> AtomArray:
        """m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹ r: the smallest atomic displacement that moves the beads by ``r``."""
        lifted = self._direct.apply(r)
        if self._spread is None or self._chains is None:
            return lifted
        return lifted + self._spread.apply(self._chains.solve(r))

    def lift_transpose(self, f: AtomArray) -> BeadArray:
        """(W m⁻¹ Wᵀ)⁻¹ W m⁻¹ f, the transpose of `lift`: the bead forces whose spread comes nearest to ``f``."""
        forces = self._direct.apply_transpose(f)
        if self._spread is None or self._chains is None:
            return forces
        return forces + self._chains.solve(self._spread.apply_transpose(f))

    def matrix(self) -> coo_array:
        """The lift (atoms × beads) as a SciPy sparse array, in double precision; dense within blocks."""
        direct = self._direct.matrix()
        if self._spread is None or self._chains is None:
            return direct
        return coo_array(direct + self._spread.matrix() @ self._chains.inverse())


def _from_groups(groups, shares, n_atoms: int) -> LinearMap:
    for bead, group in enumerate(groups):
        if len(group) == 0:
            raise ValueError(f"LinearMap: bead {bead} has no atom; give every bead at least one.")
    bead = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    atom = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups])
    weight = np.concatenate([share / share.sum() for share in shares])
    return LinearMap.from_weights(bead, atom, weight, len(groups), n_atoms)

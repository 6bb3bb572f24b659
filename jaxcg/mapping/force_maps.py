"""Linear force maps: forces on beads from forces on atoms.

The mean force of a coarse-grained configuration is the average of B f over the atomistic configurations that map to
it, for every matrix B with B Wᵀ = 1 whose coefficients are equal on atoms joined by constrained bonds. All such maps
have the same mean; they differ in how much a single frame scatters about it.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from ..typing import Array, AtomArray, AtomScalars, BeadArray, Int
from ._sparse import SparseMatrix
from .base import AbstractLinearMap
from .constraints import rigid_groups
from .replicated import ReplicatedMap

_TOLERANCE = 1e-6
_RANK = 1e-10
#: Blocks of more beads are inverted sparsely.
_DENSE = 256


class ForceMap(eqx.Module):
    """Forces on beads as linear combinations of forces on atoms: F_I = Σ_i b_Ii f_i, the same in x, y and z.

    Stored sparse, like `LinearMap`; acts on arrays (atoms, ...) of any trailing shape. Valid for the map y = W x, which
    is checked when it is made: moving the atoms along row I of B moves bead I by one and no other bead (B Wᵀ = 1), and
    leaves constrained bonds as they are (equal coefficients on the atoms they join).

    Build one with `aggregating_force_map`, `optimal_force_map` or `ForceMap.from_coefficients`.

    Source: Ciccotti, Kapral and Vanden-Eijnden, ChemPhysChem 6, 1809 (2005); Krämer et al., J. Phys. Chem. Lett. 14,
    3970 (2023).
    """

    _one: SparseMatrix
    copies: int = eqx.field(static=True)
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)

    @staticmethod
    def from_coefficients(
        bead_index,
        atom_index,
        coefficient,
        mapping: AbstractLinearMap,
        constraints: Int[Array | np.ndarray, "pairs 2"] | None = None,
    ) -> "ForceMap":
        """Force map from the nonzero entries of B.

        Arguments:
            bead_index, atom_index: (entries,) integer row and column of each entry; repeated entries are added.
            coefficient: (entries,) coefficients b_Ii, without unit.
            mapping: the map of the positions, W.
            constraints: (pairs, 2) atoms joined by bonds of fixed length, or None.

        Raises:
            ValueError: B Wᵀ is not the identity, or atoms joined by a constraint have different coefficients.
        """
        shape = (mapping.n_beads, mapping.n_atoms)
        index = (np.asarray(bead_index, dtype=np.int64), np.asarray(atom_index, dtype=np.int64))
        matrix = coo_array((np.asarray(coefficient, dtype=np.float64), index), shape=shape).tocsr()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        if not np.all(np.isfinite(matrix.data)):
            raise ValueError("ForceMap: coefficients must be finite.")
        _check_orthogonality(matrix, mapping.matrix().tocsr())
        if constraints is not None:
            _check_constraints(matrix, np.asarray(constraints, dtype=np.int64).reshape(-1, 2))
        entries = matrix.tocoo()
        bead, atom = entries.coords
        one = SparseMatrix.of(bead, atom, entries.data, mapping.n_beads, mapping.n_atoms)
        return ForceMap(one, copies=1, n_beads=mapping.n_beads, n_atoms=mapping.n_atoms)

    def replicated(self, copies: int) -> "ForceMap":
        """The force map of ``copies`` equal molecules that follow each other (`ReplicatedMap`), stored once."""
        if copies < 1:
            raise ValueError(f"ForceMap: copies is {copies}; give at least 1.")
        return ForceMap(self._one, self.copies * copies, self.n_beads * copies, self.n_atoms * copies)

    def __call__(self, forces: AtomArray) -> BeadArray:
        """Bead forces B f: (atoms, ...) → (beads, ...), in the units and dtype of ``forces``."""
        return self._each(self._one.apply, forces, self.n_atoms)

    def transpose(self, v: BeadArray) -> AtomArray:
        """Bᵀ v: an atomic displacement that moves the beads by ``v`` and bends no constrained bond."""
        return self._each(self._one.apply_transpose, v, self.n_beads)

    def _each(self, function, array, length: int) -> Array:
        if array.shape[0] != length:
            raise ValueError(f"ForceMap: expected an array of {length} rows, got one of shape {tuple(array.shape)}.")
        if self.copies == 1:
            return function(array)
        array = jnp.asarray(array)
        out = jax.vmap(function)(array.reshape(self.copies, -1, *array.shape[1:]))
        return out.reshape(-1, *out.shape[2:])

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries of B as ``(bead_index, atom_index, coefficient)``."""
        bead, atom, coefficient = self._one.entries()
        copy = np.arange(self.copies)[:, None]
        beads, atoms = bead + copy * self._one.n_rows, atom + copy * self._one.n_columns
        return beads.ravel(), atoms.ravel(), np.tile(coefficient, self.copies)

    def matrix(self) -> coo_array:
        """B (beads × atoms) as a SciPy sparse array."""
        bead, atom, coefficient = self.entries()
        return coo_array((coefficient, (bead, atom)), shape=(self.n_beads, self.n_atoms))


def aggregating_force_map(
    mapping: AbstractLinearMap,
    constraints: Int[Array | np.ndarray, "pairs 2"] | None = None,
    masses: AtomScalars | None = None,
) -> ForceMap:
    """The basic force map: beads receive the sum of the forces on their atoms.

    It is B = (W D⁻¹ Wᵀ)⁻¹ W D⁻¹, the B with B Wᵀ = 1 that makes Σ_i D_i b_Ii² least. Atoms joined by constraints
    count as one, with the sum of their columns of W and of their D.

    - Without ``masses``, D_i is the sum of the weights that atom i has in all beads. Where beads share no atoms, each
      atom of a bead has coefficient one, whatever the weights; the bead of a slice map has the force on its atom,
      plus the forces on the atoms that constraints join to it. Beads that share atoms share their forces.
    - With ``masses``, D_i = m_i: the force is the acceleration of the beads, W m⁻¹ f, times their mass matrix. For
      centres of mass that share no atoms it is the same map.

    Arguments:
        mapping: the map of the positions.
        constraints: (pairs, 2) atoms joined by bonds of fixed length; None where the force field has none, or where
            forces include those of the constraints and no bond is constrained between beads and other atoms.
            In a `ReplicatedMap` a bond found constrained in one copy is taken to be so in all.
        masses: (atoms,) positive masses, amu.

    Raises:
        ValueError: no linear force map exists, because beads depend on each other (duplicates, or beads that differ
            only by atoms which constraints join).

    Source: Noid et al., J. Chem. Phys. 128, 244114 (2008) (disjoint beads); Ciccotti et al., ChemPhysChem 6,
    1809 (2005) (mass metric).
    """
    if isinstance(mapping, ReplicatedMap):
        one = mapping.one
        rows = None if masses is None else np.asarray(masses).reshape(mapping.copies, -1)
        if rows is None or np.all(rows == rows[0]):
            folded = folded_pairs(constraints, one.n_atoms, mapping.copies)
            return aggregating_force_map(one, folded, None if rows is None else rows[0]).replicated(mapping.copies)
    groups = rigid_groups(constraints, mapping.n_atoms)
    weights = reduced_weights(mapping, groups)
    if masses is None:
        _, atom, weight = mapping.entries()
        metric = np.bincount(atom, np.abs(weight), minlength=mapping.n_atoms)
    else:
        metric = np.asarray(masses, dtype=np.float64)
        if metric.shape != (mapping.n_atoms,) or not np.all(metric > 0):
            raise ValueError(f"aggregating_force_map: expected {mapping.n_atoms} positive masses.")
    metric = np.bincount(groups, metric)
    # Groups outside every bead have no weight to be divided.
    inverse = _diagonal(1 / np.where(metric > 0, metric, 1.0))
    scaled = weights @ inverse
    reduced = coo_array(_inverse_of_blocks(csr_array(scaled @ weights.T)) @ scaled)
    return ForceMap.from_coefficients(*expanded(reduced, groups), mapping, constraints)


def folded_pairs(pairs, n_atoms: int, copies: int) -> np.ndarray | None:
    """Constrained pairs in copies of a molecule of ``n_atoms`` as pairs of its own atoms, each once.

    Raises:
        ValueError: a pair joins two copies, or indices out of range.
    """
    if pairs is None:
        return None
    pairs = np.asarray(pairs).reshape(-1, 2)
    rigid_groups(pairs, n_atoms * copies)
    between = np.flatnonzero(pairs[:, 0] // n_atoms != pairs[:, 1] // n_atoms)
    if between.size:
        i, j = pairs[between[0]]
        raise ValueError(f"constraints: atoms {i} and {j} are in different copies of the molecule; map them as one.")
    return np.unique(pairs % n_atoms, axis=0)


def reduced_weights(mapping: AbstractLinearMap, groups: np.ndarray) -> csr_array:
    """W with the columns of each group of atoms added: (beads × groups)."""
    bead, atom, weight = mapping.entries()
    return coo_array((weight, (bead, groups[atom])), shape=(mapping.n_beads, groups.max() + 1)).tocsr()


def expanded(reduced: coo_array, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Entries (bead, atom, coefficient) of a matrix whose columns are groups, given to each atom of the group."""
    order = np.argsort(groups, kind="stable")
    start = np.searchsorted(groups[order], np.arange(groups.max() + 2))
    bead, group = reduced.coords
    size = start[group + 1] - start[group]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(bead, size), order[np.repeat(start[group], size) + within], np.repeat(reduced.data, size)


def _diagonal(values: np.ndarray) -> csr_array:
    index = np.arange(len(values))
    return coo_array((values, (index, index))).tocsr()


def _inverse_of_blocks(gram: csr_array) -> csr_array:
    """Inverse of a sparse symmetric positive matrix made of blocks, one block size at a time."""
    blocks, label = connected_components(gram, directed=False)
    counts = np.bincount(label, minlength=blocks)
    order = np.argsort(label, kind="stable")
    start = np.cumsum(counts) - counts
    slot = np.empty(len(label), dtype=np.int64)
    slot[order] = np.arange(len(label)) - np.repeat(start, counts)
    entries = gram.tocoo()
    row, column = entries.coords
    rows, columns, values = [], [], []
    for size in np.unique(counts):
        chosen = np.flatnonzero(counts == size)
        members = order[start[chosen][:, None] + np.arange(size)]
        if size > _DENSE:
            for beads in members:
                inverse = _inverse_of_long_block(csr_array(gram[beads][:, beads]), beads)
                rows.append(beads[inverse.coords[0]])
                columns.append(beads[inverse.coords[1]])
                values.append(inverse.data)
            continue
        number = np.full(blocks, -1)
        number[chosen] = np.arange(len(chosen))
        here = number[label[row]] >= 0
        dense = np.zeros((len(chosen), size, size))
        dense[number[label[row[here]]], slot[row[here]], slot[column[here]]] = entries.data[here]
        scale = 1 / np.sqrt(np.einsum("kbb->kb", dense))
        dense = dense * scale[:, :, None] * scale[:, None, :]
        singular = np.flatnonzero(np.linalg.eigvalsh(dense)[:, 0] < _RANK)
        if singular.size:
            raise _dependent(members[singular[0]])
        inverse = np.linalg.inv(dense) * scale[:, :, None] * scale[:, None, :]
        rows.append(np.repeat(members, size, axis=1).ravel())
        columns.append(np.tile(members, (1, size)).ravel())
        values.append(inverse.ravel())
    index = (np.concatenate(rows), np.concatenate(columns))
    return coo_array((np.concatenate(values), index), shape=gram.shape).tocsr()


def _inverse_of_long_block(gram: csr_array, beads: np.ndarray) -> coo_array:
    """Inverse of one large sparse block, without its vanishing entries.

    Beads that overlap along a chain see each other the less the further apart they are, exponentially so.
    """
    scale = _diagonal(1 / np.sqrt(gram.diagonal()))
    try:
        factor = splu((scale @ gram @ scale).tocsc())
    except RuntimeError as error:
        raise _dependent(beads) from error
    if np.abs(factor.U.diagonal()).min() < _RANK:
        raise _dependent(beads)
    pieces = []
    for first in range(0, len(beads), _DENSE):
        unit = np.zeros((len(beads), min(_DENSE, len(beads) - first)))
        unit[first + np.arange(unit.shape[1]), np.arange(unit.shape[1])] = 1
        solved = factor.solve(unit)
        row, column = np.nonzero(np.abs(solved) > 1e-12)
        pieces.append((row, column + first, solved[row, column]))
    row, column, value = (np.concatenate(piece) for piece in zip(*pieces, strict=True))
    return coo_array(scale @ coo_array((value, (row, column)), shape=gram.shape).tocsr() @ scale)


def _dependent(beads: np.ndarray) -> ValueError:
    shown = ", ".join(str(bead) for bead in beads[:8]) + (", ..." if len(beads) > 8 else "")
    return ValueError(
        f"force map: beads {shown} depend on each other (duplicates, or beads told apart only by atoms that "
        "constraints join), so no linear force map exists; remove the superfluous beads."
    )


def _check_orthogonality(matrix: csr_array, weights: csr_array) -> None:
    product = csr_array(matrix @ weights.T)
    excess = (product - _diagonal(np.ones(product.indptr.size - 1))).tocoo()
    size = (abs(matrix) @ abs(weights).T).max()
    wrong = np.flatnonzero(np.abs(excess.data) > _TOLERANCE * max(1.0, float(size)))
    if wrong.size:
        worst = wrong[np.argmax(np.abs(excess.data[wrong]))]
        row, column = excess.coords[0][worst], excess.coords[1][worst]
        expected = 1.0 if row == column else 0.0
        raise ValueError(
            f"ForceMap: the map of forces does not fit the map of positions: (B Wᵀ)[{row}, {column}] is "
            f"{excess.data[worst] + expected:.6g}, must be {expected:g} (Ciccotti et al. 2005); "
            "aggregating_force_map(mapping) makes one that fits."
        )


def _check_constraints(matrix: csr_array, pairs: np.ndarray) -> None:
    columns = matrix.tocsc()
    difference = abs(columns[:, pairs[:, 0]] - columns[:, pairs[:, 1]]).tocoo()
    if difference.nnz and difference.data.max() > _TOLERANCE * max(1.0, abs(matrix).max()):
        worst = int(np.argmax(difference.data))
        bead, pair = difference.coords[0][worst], difference.coords[1][worst]
        i, j = pairs[pair]
        raise ValueError(
            f"ForceMap: bead {bead} has different coefficients on atoms {i} and {j}, which a constraint joins; "
            "forces of constraints would not cancel. Give them one coefficient."
        )

"""Consistency conditions on a forward map: what must hold, where it fails, and why it matters."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import coo_array, csr_array, issparse

from ..typing import Array, AtomScalars, Float, Int
from ._blocks import blocks_of, matrix_of
from .base import AbstractLinearMap
from .force_maps import aggregating_force_map
from .pseudoinverse import DEPENDENT, metric_masses

_NOID = "Noid et al., J. Chem. Phys. 128, 244114 (2008)"
_FORCES = (
    "Ciccotti, Kapral & Vanden-Eijnden, ChemPhysChem 6, 1809 (2005); "
    "Krämer et al., J. Phys. Chem. Lett. 14, 3970 (2023)"
)

_ORTHOGONALITY = "force map orthogonality"
_FORCE_INVERSE = f"{_FORCES}: the force map is a left inverse of the transposed map, F Wᵀ = 1"


class HasMatrix(Protocol):
    """A linear operator that can show its matrix, e.g. a force map."""

    def matrix(self) -> coo_array | np.ndarray:
        """The (beads, atoms) matrix."""
        ...


@dataclass(frozen=True)
class Condition:
    """A condition on a map, and whether it holds.

    Attributes:
        name: of the condition.
        holds: whether it does.
        where: the beads it fails for, ascending.
        explanation: one sentence: what was found and what it means.
        source: the paper, and what its equation says.
    """

    name: str
    holds: bool
    where: tuple[int, ...]
    explanation: str
    source: str

    def __str__(self) -> str:
        return f"[{'ok' if self.holds else 'fails'}] {self.name}: {self.explanation} ({self.source})"


def check_conditions(
    mapping: AbstractLinearMap,
    masses: AtomScalars,
    *,
    bead_masses: Float[Array | np.ndarray, " beads"] | None = None,
    force_map: HasMatrix | csr_array | coo_array | np.ndarray | None = None,
    constraints: Int[Array | np.ndarray, "pairs 2"] | None = None,
) -> tuple[Condition, ...]:
    """Every condition of this module that the given data allow to check.

    Arguments:
        mapping: any linear map.
        masses: (atoms,) positive masses, amu.
        bead_masses: (beads,) masses of the coarse model, amu; the sum of each bead's atoms when None.
        force_map: (beads, atoms) linear map of forces; `aggregating_force_map` of the map when None.
        constraints: (pairs, 2) atoms that the all-atom force field holds at fixed distance.
    """
    independent = independent_beads(mapping)
    found = [
        weights_sum_to_one(mapping),
        independent,
        disjoint_beads(mapping),
        specific_atoms(mapping),
        momentum_masses(mapping, masses, bead_masses),
    ]
    if force_map is None and not independent.holds:
        said = "no linear force map exists, because beads depend on each other"
        found.append(_condition(_ORTHOGONALITY, np.array(independent.where), said, _FORCE_INVERSE))
        return tuple(found)
    forces = aggregating_force_map(mapping) if force_map is None else force_map
    found.append(force_map_orthogonality(mapping, forces))
    if constraints is not None and len(constraints):
        found.append(constraint_orthogonality(forces, constraints))
    return tuple(found)


def weights_sum_to_one(mapping: AbstractLinearMap, tolerance: float = 1e-6) -> Condition:
    """Σᵢ c_Ii = 1 for every bead I: moving all atoms by a vector moves every bead by it."""
    totals = matrix_of(mapping).sum(axis=1)
    where = np.flatnonzero(np.abs(totals - 1) > tolerance)
    said = (
        f"bead {where[0]} has weights that sum to {totals[where[0]]:.6g}: it does not move with the molecule"
        if where.size
        else "every bead moves with the molecule"
    )
    return _condition("weights sum to one", where, said, f"{_NOID}, translation of the map, Σ c_Ii = 1")


def independent_beads(mapping: AbstractLinearMap, masses: AtomScalars | None = None) -> Condition:
    """Rows of W are linearly independent: every bead can be moved without moving the others.

    Without it the Gram matrix W m⁻¹ Wᵀ is singular, coarse configurations lie in a subspace, and neither the
    density of y nor the potential of mean force exists on all of R^(3n).
    """
    metric = metric_masses(masses, mapping, "independent_beads")
    beads = []
    for block in blocks_of(mapping) if mapping.rank < 3 * mapping.n_beads else ():
        scaled = block.weights / np.sqrt(metric[block.atoms])[:, None, :]
        left, singular, _ = np.linalg.svd(scaled, full_matrices=True)
        padded = np.zeros(left.shape[:2])
        padded[:, : singular.shape[1]] = singular
        open_ = padded <= DEPENDENT * singular.max(axis=1, keepdims=True)
        # A bead is part of a dependence if a left null vector has weight on it.
        weight = np.sqrt(np.einsum("kbr,kr->kb", left**2, open_.astype(float)))
        beads.append(block.beads[weight > 1e-6])
    empty = np.setdiff1d(np.arange(mapping.n_beads), matrix_of(mapping).coords[0])
    where = np.unique(np.concatenate([*beads, empty]).astype(int))
    said = (
        f"{count(len(where), 'bead')} with positions that others determine: they have no potential of mean force"
        if where.size
        else "every bead can be moved on its own"
    )
    return _condition("independent beads", where, said, f"{_NOID}: the sites are linearly independent functions")


def disjoint_beads(mapping: AbstractLinearMap) -> Condition:
    """No atom belongs to two beads: W m⁻¹ Wᵀ is diagonal and the momenta of the beads are independent."""
    matrix, shared = _shared(mapping)
    where = np.unique(matrix.coords[0][shared[matrix.coords[1]]])
    said = (
        f"{count(int(shared.sum()), 'atom')} in more than one bead: the thermal momenta of those beads are correlated"
        if where.size
        else "no atom belongs to two beads"
    )
    return _condition("disjoint beads", where, said, f"{_NOID}: no atom is involved in more than one site (momenta)")


def specific_atoms(mapping: AbstractLinearMap) -> Condition:
    """Every bead owns an atom that no other bead uses (a *specific* atom).

    Then a force on the bead can be read off its own atoms, and force matching with those forces gives the potential
    of mean force. It is sufficient, not necessary: beads without one need a force map that fulfils
    `force_map_orthogonality` with atoms they share.
    """
    matrix, shared = _shared(mapping)
    own = np.bincount(matrix.coords[0][~shared[matrix.coords[1]]], minlength=mapping.n_beads)
    where = np.flatnonzero(own == 0)
    said = (
        f"{count(len(where), 'bead')} without an atom of its own: forces on own atoms do not give the mean force"
        if where.size
        else "every bead owns an atom that no other bead uses: force matching gives the potential of mean force"
    )
    return _condition(
        "specific atoms",
        where,
        said,
        f"{_NOID}: each site has at least one specific atom, F_I = Σ_(i∈S_I) d_Ii f_i/c_Ii",
    )


def consistent_masses(mapping: AbstractLinearMap, masses: AtomScalars) -> np.ndarray:
    """(beads,) masses, amu, that make the momenta of the beads distributed as mapped: M_I = (Σ c_Ii²/mᵢ)⁻¹.

    For a centre of mass it is the mass of the bead's atoms.

    Source: Noid et al., J. Chem. Phys. 128, 244114 (2008), consistency in momentum space.
    """
    masses = metric_masses(masses, mapping, "consistent_masses")
    matrix = matrix_of(mapping)
    inverse = np.bincount(
        matrix.coords[0], weights=matrix.data**2 / masses[matrix.coords[1]], minlength=mapping.n_beads
    )
    return np.divide(1.0, inverse, out=np.zeros(mapping.n_beads), where=inverse > 0)


def momentum_masses(
    mapping: AbstractLinearMap,
    masses: AtomScalars,
    bead_masses: Float[Array | np.ndarray, " beads"] | None = None,
    tolerance: float = 1e-3,
) -> Condition:
    """Bead masses are M_I = (Σ c_Ii²/mᵢ)⁻¹: mapped momenta then have the coarse model's Maxwell distribution.

    Each bead's variance is checked; correlations between beads are what `disjoint_beads` checks.

    Arguments:
        mapping: any linear map.
        masses: (atoms,) masses, amu.
        bead_masses: (beads,) masses of the coarse model; when None the mass of each bead's atoms.
        tolerance: relative.
    """
    wanted = consistent_masses(mapping, masses)
    whose = "given masses"
    if bead_masses is None:
        whose = "masses of the beads' atoms"
        matrix = matrix_of(mapping)
        atoms = np.asarray(masses, dtype=np.float64)[matrix.coords[1]]
        bead_masses = np.bincount(matrix.coords[0], weights=atoms, minlength=mapping.n_beads)
    given = np.asarray(bead_masses, dtype=np.float64)
    if given.shape != (mapping.n_beads,):
        raise ValueError(f"momentum_masses: bead_masses have shape {given.shape}, expected ({mapping.n_beads},).")
    where = np.flatnonzero(np.abs(given - wanted) > tolerance * np.abs(wanted))
    said = (
        f"the {whose} differ from (Σ c²/m)⁻¹, e.g. bead {where[0]} with {given[where[0]]:.4g} instead of "
        f"{wanted[where[0]]:.4g} amu: mapped velocities are not those of the coarse model at the same temperature"
        if where.size
        else f"the {whose} give the mapped momenta their thermal distribution"
    )
    return _condition("momentum masses", where, said, f"{_NOID}: M_I = (Σ c_Ii²/m_i)⁻¹")


def force_map_orthogonality(
    mapping: AbstractLinearMap, force_map: HasMatrix | csr_array | coo_array | np.ndarray, tolerance: float = 1e-6
) -> Condition:
    """F Wᵀ = 1: a force map F (beads × atoms) whose average on a fibre is the mean force.

    Moving bead J along the force map of bead I moves it by one if I = J and not at all otherwise.
    """
    product = (_csr(force_map, mapping) @ matrix_of(mapping).tocsr().T).tocoo()
    defect = np.zeros(mapping.n_beads)
    np.maximum.at(defect, product.coords[0], np.abs(product.data - (product.coords[0] == product.coords[1])))
    on_diagonal = np.zeros(mapping.n_beads, dtype=bool)
    on_diagonal[product.coords[0][product.coords[0] == product.coords[1]]] = True
    defect = np.where(on_diagonal, defect, np.maximum(defect, 1.0))
    where = np.flatnonzero(defect > tolerance)
    said = (
        f"F Wᵀ differs from 1 by up to {defect.max():.3g}: mapped forces do not average to the mean force "
        f"({count(len(where), 'bead')})"
        if where.size
        else "mapped forces average to the mean force"
    )
    return _condition(_ORTHOGONALITY, where, said, _FORCE_INVERSE)


def constraint_orthogonality(
    force_map: HasMatrix | csr_array | coo_array | np.ndarray,
    constraints: Int[Array | np.ndarray, "pairs 2"],
    tolerance: float = 1e-6,
) -> Condition:
    """Atoms at fixed distance have equal force coefficients in every bead: constraint forces then cancel.

    A constraint inside a bead of the aggregating map is harmless; one that crosses beads (or leaves them) is not.

    Arguments:
        force_map: (beads, atoms) linear map of forces.
        constraints: (pairs, 2) atoms held at fixed distance.
        tolerance: on differences of coefficients.
    """
    matrix = _csr(force_map, None).tocsc()
    pairs = np.asarray(constraints, dtype=np.int64)
    difference = abs(matrix[:, pairs[:, 0]] - matrix[:, pairs[:, 1]]).tocoo()
    wrong = difference.data > tolerance
    where = np.unique(difference.coords[0][wrong])
    broken = np.unique(difference.coords[1][wrong])
    said = (
        f"{len(broken)} of {len(pairs)} constraints, e.g. of atoms {pairs[broken[0], 0]} and {pairs[broken[0], 1]}, "
        "join atoms of different force coefficients: mapped forces lack the constraint forces"
        if where.size
        else f"all {len(pairs)} constraints join atoms of equal force coefficients"
    )
    return _condition(
        "rigid constraints", where, said, f"{_FORCES}: the force map is orthogonal to the gradient of every constraint"
    )


def count(number: int, thing: str) -> str:
    """A number of things in words of a sentence: "1 atom", "2 atoms"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _condition(name: str, where: np.ndarray, explanation: str, source: str) -> Condition:
    return Condition(name, where.size == 0, tuple(int(bead) for bead in where), explanation, source)


def _shared(mapping: AbstractLinearMap) -> tuple[coo_array, np.ndarray]:
    """W, and which atoms are in more than one bead."""
    matrix = matrix_of(mapping)
    return matrix, np.bincount(matrix.coords[1], minlength=mapping.n_atoms) > 1


def _csr(force_map, mapping: AbstractLinearMap | None) -> csr_array:
    matrix = force_map if isinstance(force_map, np.ndarray) or issparse(force_map) else force_map.matrix()
    matrix = csr_array(matrix)
    if mapping is not None and matrix.shape != (mapping.n_beads, mapping.n_atoms):
        raise ValueError(
            f"force map has shape {matrix.shape}, expected (beads, atoms) = ({mapping.n_beads}, {mapping.n_atoms})."
        )
    return matrix

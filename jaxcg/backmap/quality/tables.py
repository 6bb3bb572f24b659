"""What the checks need to know about a molecule, worked out once per `System`."""

import weakref
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array

from ...system import System
from ..geometry import small_rings
from ..ramachandran import backbone_torsions

#: Atoms of a residue that cannot be told apart, as pairs that swap together.
ALIKE = {
    "PHE": (("CD1", "CD2"), ("CE1", "CE2")),
    "TYR": (("CD1", "CD2"), ("CE1", "CE2")),
    "ASP": (("OD1", "OD2"),),
    "GLU": (("OE1", "OE2"),),
    "ARG": (("NH1", "NH2"),),
}
_CHI1_ENDS = ("CG", "CG1", "OG", "OG1", "SG")


@dataclass(frozen=True)
class Tables:
    """Atom index tables of one molecule.

    Arguments:
        heavy: (h,) indices of the heavy atoms; ``backbone`` those named N, CA, C, O.
        near_keys: sorted keys ``i * atoms + j`` (i < j) of heavy pairs within three bonds.
        donor, acceptor: (atoms,) True for N, O, S that can give (carry a hydrogen) or take a hydrogen bond.
        peptide: (double_bonds,) True where the double bond is a peptide bond CA-C-N-CA.
        before_proline: (double_bonds,) True where that peptide leads to a proline.
        rings: list of index arrays in ring order; ``flat_rings`` those whose atoms are all sp2.
        phi, psi, residues, classes: as `backbone_torsions` gives them.
        chi1: (s, 4) atoms of χ1.
        alike: list of (pairs, 2) index arrays, one for each group of atoms that swap together.
        backbone_donors, backbone_acceptors: backbone N (not of proline) and O.
    """

    heavy: np.ndarray
    backbone: np.ndarray
    near_keys: np.ndarray
    donor: np.ndarray
    acceptor: np.ndarray
    peptide: np.ndarray
    before_proline: np.ndarray
    rings: list[np.ndarray]
    flat_rings: list[np.ndarray]
    phi: np.ndarray
    psi: np.ndarray
    residues: np.ndarray
    classes: np.ndarray
    chi1: np.ndarray
    alike: list[np.ndarray]
    backbone_donors: np.ndarray
    backbone_acceptors: np.ndarray


_KNOWN: dict[int, tuple[weakref.ref, Tables]] = {}


def tables_of(system: System) -> Tables:
    """The tables of ``system``, kept for as long as it lives."""
    known = _KNOWN.get(id(system))
    if known is not None and known[0]() is system:
        return known[1]
    key = id(system)
    tables = _build(system)
    _KNOWN[key] = (weakref.ref(system, lambda _: _KNOWN.pop(key, None)), tables)
    return tables


def _build(system: System) -> Tables:
    names = np.array(system.atom_names)
    elements = np.array(system.elements)
    heavy = np.flatnonzero(system.heavy)
    by_residue = system.residue_atoms()
    phi, psi, residues, classes = backbone_torsions(system)
    protein = np.array([{"N", "CA", "C"} <= atoms.keys() for atoms in by_residue], dtype=bool)
    backbone = np.flatnonzero(np.isin(names, ("N", "CA", "C", "O")) & protein[system.atom_residue])
    peptide = _is_peptide(names, system.double_bonds)
    residue_name = np.array(system.residue_names)
    after = residue_name[system.atom_residue[system.double_bonds[:, 3]]] if len(system.double_bonds) else np.array([])
    polar = np.isin(elements, ("N", "O", "S"))
    carries_hydrogen = np.zeros(system.n_atoms, dtype=bool)
    for a, b in (system.bonds.T, system.bonds.T[::-1]):
        carries_hydrogen[a[~system.heavy[b]]] = True
    rings = [np.array(ring) for ring in small_rings(system.bonds, system.n_atoms) if len(ring) >= 4]
    return Tables(
        heavy=heavy,
        backbone=backbone,
        near_keys=_pairs_within_three_bonds(system, heavy),
        donor=polar & (carries_hydrogen | system.heavy.all()),
        acceptor=polar,
        peptide=peptide,
        before_proline=peptide & (after == "PRO"),
        rings=rings,
        flat_rings=_flat(rings, system),
        phi=phi,
        psi=psi,
        residues=residues,
        classes=classes,
        chi1=_chi1(by_residue),
        alike=[
            np.array([[atoms[a], atoms[b]] for a, b in ALIKE[name]])
            for name, atoms in zip(system.residue_names, by_residue, strict=True)
            if name in ALIKE and all(a in atoms and b in atoms for a, b in ALIKE[name])
        ],
        backbone_donors=np.array(
            [a["N"] for a, p, n in zip(by_residue, protein, residue_name, strict=True) if p and n != "PRO"], dtype=int
        ),
        backbone_acceptors=np.array(
            [a["O"] for a, p in zip(by_residue, protein, strict=True) if p and "O" in a], dtype=int
        ),
    )


def _is_peptide(names: np.ndarray, quartets: np.ndarray) -> np.ndarray:
    if not len(quartets):
        return np.zeros(0, dtype=bool)
    quartet_names = names[quartets]
    forward = (quartet_names == ("CA", "C", "N", "CA")).all(axis=1)
    return forward


def _pairs_within_three_bonds(system: System, heavy: np.ndarray) -> np.ndarray:
    n = system.n_atoms
    i, j = system.bonds.T
    ones = np.ones(len(i), dtype=np.int32)
    step = coo_array((ones, (i, j)), shape=(n, n)).tocsr()
    step = step + step.T
    two = step @ step
    near = (step + two + two @ step).tocoo()
    is_heavy = np.zeros(n, dtype=bool)
    is_heavy[heavy] = True
    a, b = near.coords
    keep = (a < b) & is_heavy[a] & is_heavy[b]
    return np.unique(a[keep].astype(np.int64) * n + b[keep])


def _flat(rings: list[np.ndarray], system: System) -> list[np.ndarray]:
    """Rings whose atoms are all sp2 by their number of neighbours (needs the hydrogens)."""
    degree = np.bincount(system.bonds.ravel(), minlength=system.n_atoms)
    largest = {"C": 3, "N": 3, "O": 2, "S": 2}
    return [ring for ring in rings if all(degree[a] <= largest.get(system.elements[a], 0) for a in ring)]


def _chi1(by_residue: list[dict[str, int]]) -> np.ndarray:
    found = []
    for atoms in by_residue:
        end = next((atoms[name] for name in _CHI1_ENDS if name in atoms), None)
        if end is not None and {"N", "CA", "CB"} <= atoms.keys():
            found.append((atoms["N"], atoms["CA"], atoms["CB"], end))
    return np.array(found, dtype=np.int64).reshape(-1, 4)

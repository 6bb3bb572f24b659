"""What the molecule is: the static description every other part of jaxcg reads."""

from collections.abc import Sequence

import equinox as eqx
import numpy as np


class System(eqx.Module):
    """Static, force-field independent description of an all-atom system.

    All arrays are NumPy arrays: they describe the molecule and are never traced or differentiated.

    Arguments:
        masses: (atoms,) atomic masses, amu.
        elements: (atoms,) element symbols, e.g. ``"C"``.
        atom_names: (atoms,) names, e.g. ``"CA"``.
        atom_residue: (atoms,) index of the residue each atom belongs to.
        residue_names: (residues,) e.g. ``"ALA"``.
        residue_ids: (residues,) labels as in the file, e.g. ``"52"`` or ``"52A"``.
        chain_ids: (residues,) chain label of each residue.
        bonds: (bonds, 2) atom indices.
        stereo_centers: (centers, 4) atom indices ``(centre, a, b, c)``.
        stereo_signs: (centers,) +1 or −1: the sign of the triple product
            ``(a − centre) · [(b − centre) × (c − centre)]``.
        double_bonds: (double_bonds, 4) atom indices ``(a, b, c, d)`` with a stereo double (or partial double)
            bond between b and c that must keep its configuration.
        double_bond_angles: (double_bonds,) dihedral a-b-c-d in radians, 0 (cis) or pi (trans).
    """

    masses: np.ndarray
    elements: tuple[str, ...] = eqx.field(static=True)
    atom_names: tuple[str, ...] = eqx.field(static=True)
    atom_residue: np.ndarray
    residue_names: tuple[str, ...] = eqx.field(static=True)
    residue_ids: tuple[str, ...] = eqx.field(static=True)
    chain_ids: tuple[str, ...] = eqx.field(static=True)
    bonds: np.ndarray
    stereo_centers: np.ndarray
    stereo_signs: np.ndarray
    double_bonds: np.ndarray
    double_bond_angles: np.ndarray

    def __init__(
        self,
        *,
        masses,
        elements: Sequence[str],
        atom_names: Sequence[str],
        atom_residue,
        residue_names: Sequence[str],
        residue_ids: Sequence[str],
        chain_ids: Sequence[str],
        bonds,
        stereo_centers=(),
        stereo_signs=(),
        double_bonds=(),
        double_bond_angles=(),
    ):
        self.masses = np.asarray(masses, dtype=np.float64)
        self.elements = tuple(elements)
        self.atom_names = tuple(atom_names)
        self.atom_residue = np.asarray(atom_residue, dtype=np.int32)
        self.residue_names = tuple(residue_names)
        self.residue_ids = tuple(str(r) for r in residue_ids)
        self.chain_ids = tuple(chain_ids)
        self.bonds = np.asarray(bonds, dtype=np.int32).reshape(-1, 2)
        self.stereo_centers = np.asarray(stereo_centers, dtype=np.int32).reshape(-1, 4)
        self.stereo_signs = np.asarray(stereo_signs, dtype=np.float64).reshape(-1)
        self.double_bonds = np.asarray(double_bonds, dtype=np.int32).reshape(-1, 4)
        self.double_bond_angles = np.asarray(double_bond_angles, dtype=np.float64).reshape(-1)

    def __check_init__(self):
        n = self.n_atoms
        for name, length in [("elements", n), ("atom_names", n)]:
            if len(getattr(self, name)) != length:
                raise ValueError(f"System: {name} has {len(getattr(self, name))} entries for {n} atoms.")
        if self.atom_residue.shape != (n,):
            raise ValueError(f"System: atom_residue has shape {self.atom_residue.shape}, expected ({n},).")
        for name in ("bonds", "stereo_centers", "double_bonds"):
            indices = getattr(self, name)
            if indices.size and (indices.min() < 0 or indices.max() >= n):
                raise ValueError(f"System: {name} names an atom outside 0..{n - 1}.")
        if len(self.stereo_signs) != len(self.stereo_centers):
            raise ValueError("System: stereo_signs and stereo_centers differ in length.")
        if len(self.double_bond_angles) != len(self.double_bonds):
            raise ValueError("System: double_bond_angles and double_bonds differ in length.")

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.masses)

    @property
    def n_residues(self) -> int:
        """Number of residues."""
        return len(self.residue_names)

    @property
    def heavy(self) -> np.ndarray:
        """(atoms,) bool: True where the atom is not hydrogen."""
        return np.array([e not in ("H", "D") for e in self.elements])

    def residue_label(self, residue: int) -> str:
        """How a residue is named in messages, e.g. ``"LYS 33 (chain A)"``."""
        chain = self.chain_ids[residue].strip()
        return f"{self.residue_names[residue]} {self.residue_ids[residue]}" + (f" (chain {chain})" if chain else "")

    def residue_atoms(self) -> list[dict[str, int]]:
        """For each residue, the index of each of its atoms by name."""
        table: list[dict[str, int]] = [{} for _ in self.residue_names]
        for i, (name, residue) in enumerate(zip(self.atom_names, self.atom_residue, strict=True)):
            table[residue][name] = i
        return table

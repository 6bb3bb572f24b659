"""What the readers of topologies hand over (`Atoms`) and what the readers of mappings make of it (`CoarseModel`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

#: Selection string → indices of atoms; `jaxcg.io` makes one from an MDAnalysis universe.
Selector = Callable[[str], np.ndarray]


@dataclass(frozen=True)
class Atoms:
    """The atoms of a whole system, as plain arrays.

    Arguments:
        names: (atoms,) atom names.
        elements: (atoms,) element symbols; "" where unknown.
        masses: (atoms,) amu.
        residue: (atoms,) index of the residue each atom is in.
        residue_names: (residues,) names.
        residue_ids: (residues,) numbers of the file, with insertion code, as text.
        chain_ids: (residues,) chain of each residue; "" if the file has none.
        bonds: (bonds, 2) pairs of atoms, or None where unknown.
        molecule: (atoms,) index of the molecule each atom is in.
        molecule_names: (molecules,) names; "" where unknown.
        path: file the atoms were read from, for messages.
        positions: (atoms, 3) nm, or None.
        box: (3, 3) box vectors as rows, nm, or None.
        notes: what was guessed (masses, elements, bonds), for the user.
    """

    names: tuple[str, ...]
    elements: tuple[str, ...]
    masses: np.ndarray
    residue: np.ndarray
    residue_names: tuple[str, ...]
    residue_ids: tuple[str, ...]
    chain_ids: tuple[str, ...]
    bonds: np.ndarray | None
    molecule: np.ndarray
    molecule_names: tuple[str, ...]
    path: str = ""
    positions: np.ndarray | None = None
    box: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.names)

    @property
    def n_residues(self) -> int:
        """Number of residues."""
        return len(self.residue_names)

    @property
    def n_molecules(self) -> int:
        """Number of molecules."""
        return len(self.molecule_names)

    def label(self, residue: int) -> str:
        """How messages name a residue, e.g. ``"LYS 33 (chain A)"``."""
        chain = f" (chain {self.chain_ids[residue]})" if self.chain_ids[residue] else ""
        return f"{self.residue_names[residue]} {self.residue_ids[residue]}{chain}"

    @cached_property
    def residue_atoms(self) -> list[np.ndarray]:
        """The atoms of each residue, in the order of the file."""
        return _members(self.residue, self.n_residues)

    @cached_property
    def molecule_atoms(self) -> list[np.ndarray]:
        """The atoms of each molecule, in the order of the file."""
        return _members(self.molecule, self.n_molecules)


@dataclass(frozen=True)
class Interaction:
    """A bonded interaction that a mapping file names.

    Arguments:
        kind: ``"bond"``, ``"angle"``, ``"dihedral"`` or ``"constraint"``.
        name: of the interaction, e.g. ``"bond1"``.
        beads: (n, k) the beads of each, k = 2, 3 or 4.
    """

    kind: str
    name: str
    beads: np.ndarray


@dataclass(frozen=True)
class CoarseModel:
    """A map for a whole system, and what its beads are.

    Arguments:
        mapping: `jaxcg.mapping.base.AbstractMap`, all atoms → all beads.
        bead_names, bead_types, residue_names, residue_ids, chain_ids: (beads,) one entry for every bead.
        masses: (beads,) amu.
        force_map: linear map of forces (beads × atoms), where the mapping file states weights of its own for forces;
            None takes the aggregating map of ``mapping``.
        bonds: (bonds, 2) beads that are bonded, as far as the mapping says.
        bonded: named interactions.
        unmapped: atoms that are in no bead.
        notes: what was decided, for the user.
    """

    mapping: Any
    bead_names: tuple[str, ...]
    bead_types: tuple[str, ...]
    residue_names: tuple[str, ...]
    residue_ids: tuple[str, ...]
    chain_ids: tuple[str, ...]
    masses: np.ndarray
    force_map: Any = None
    bonds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=int))
    bonded: tuple[Interaction, ...] = ()
    unmapped: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    notes: tuple[str, ...] = ()

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.bead_names)


def _members(group: np.ndarray, n_groups: int) -> list[np.ndarray]:
    order = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(np.asarray(group)[order], minlength=n_groups))
    return np.split(order, ends[:-1])

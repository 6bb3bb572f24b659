"""Mappings that need no file: one bead for each residue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ..linear import LinearMap

#: Name → what the bead is.
SIMPLE_MAPPINGS = {
    "calpha": "the CA atom of each residue",
    "com": "the centre of mass of each residue",
}


@dataclass(frozen=True)
class AtomTable:
    """The atoms a map is built for, as plain sequences (residue by residue in file order)."""

    names: Sequence[str]
    elements: Sequence[str]
    residue: np.ndarray
    residue_names: Sequence[str]
    residue_labels: Sequence[str]


def one_bead_map(
    kind: str, atoms: AtomTable, bead_residue: Sequence[int], masses: np.ndarray, *, hydrogens: bool = True
) -> LinearMap:
    """Map with one bead for each residue: its CA atom (``"calpha"``) or its centre of mass (``"com"``).

    Arguments:
        kind: a key of `SIMPLE_MAPPINGS`.
        atoms: the all-atom topology.
        bead_residue: (beads,) index of the residue of each bead.
        masses: (atoms,) amu.
        hydrogens: whether hydrogens count in the centre of mass.

    Raises:
        InputError: a residue has several beads, or lacks the atom.
    """
    members: dict[int, list[int]] = {}
    for atom, residue in enumerate(np.asarray(atoms.residue)):
        if hydrogens or atoms.elements[atom].upper() not in ("H", "D"):
            members.setdefault(int(residue), []).append(atom)
    seen: set[int] = set()
    groups = []
    for residue in bead_residue:
        label = atoms.residue_labels[residue]
        if residue in seen:
            raise InputError(f"{label}: mapping {kind} has one bead for each residue, but the input has several.")
        seen.add(residue)
        if kind == "com":
            groups.append(members[residue])
            continue
        alpha = [atom for atom in members[residue] if atoms.names[atom] == "CA"]
        if not alpha:
            raise InputError(f"{label}: mapping {kind} needs an atom CA, which the residue lacks.")
        groups.append(alpha)
    return LinearMap.center_of_mass(groups, masses)

"""What files and messages call the beads of a model, and which atoms are in none."""

from __future__ import annotations

from collections import Counter

import numpy as np

from ..mapping.base import AbstractLinearMap
from ..mapping.formats.model import Atoms, CoarseModel
from .trajectory_writers import BeadLabels


def bead_label(model: CoarseModel, bead: int) -> str:
    """How messages name a bead, e.g. ``"BB of LYS 33 (chain A)"``."""
    chain = f" (chain {model.chain_ids[bead]})" if model.chain_ids[bead] else ""
    return f"{model.bead_names[bead]} of {model.residue_names[bead]} {model.residue_ids[bead]}{chain}"


def bead_labels(atoms: Atoms, model: CoarseModel) -> BeadLabels:
    """What structure files say of the beads of ``model``; a chain ends with a molecule of several residues."""
    n = model.n_beads
    ends = np.zeros(n, dtype=bool)
    if n:
        molecule = bead_molecules(atoms, model)
        last = np.append(molecule[1:] != molecule[:-1], True)
        several = Counter(number for number, _ in set(zip(molecule.tolist(), zip(model.chain_ids, model.residue_ids))))
        ends = last & np.array([several[number] > 1 for number in molecule.tolist()])
    return BeadLabels(
        names=model.bead_names,
        residue_names=model.residue_names,
        residue_ids=model.residue_ids,
        chain_ids=model.chain_ids,
        ends=ends,
        bonds=model.bonds,
    )


def unmapped_notes(atoms: Atoms, model: CoarseModel) -> tuple[str, ...]:
    """One line that says which atoms are in no bead; none where all are in one."""
    unmapped = np.asarray(model.unmapped, dtype=int)
    if not len(unmapped):
        return ()
    in_residue = np.bincount(atoms.residue, minlength=atoms.n_residues)
    lost = np.bincount(atoms.residue[unmapped], minlength=atoms.n_residues)
    whole = Counter(atoms.residue_names[r] for r in np.flatnonzero((lost == in_residue) & (lost > 0)))
    partly = int(lost[lost < in_residue].sum())
    first = {atoms.residue_names[r]: int(r) for r in np.flatnonzero(lost == in_residue)[::-1]}
    parts = [
        f"{count} residues {name}" if count > 1 else f"residue {atoms.label(first[name])}"
        for name, count in whole.most_common(5)
    ]
    if len(whole) > 5:
        parts.append(f"{len(whole) - 5} more kinds of residue")
    if partly:
        parts.append(f"{partly} atoms of residues that have beads")
    share = 100 * len(unmapped) / atoms.n_atoms
    return (f"{len(unmapped)} of {atoms.n_atoms} atoms ({share:.0f} %) are in no bead: {', '.join(parts)}",)


def bead_molecules(atoms: Atoms, model: CoarseModel) -> np.ndarray:
    """(beads,) molecule of each bead's first atom."""
    if not isinstance(model.mapping, AbstractLinearMap):
        labels = {label: number for number, label in enumerate(dict.fromkeys(model.chain_ids))}
        return np.array([labels[label] for label in model.chain_ids])
    bead, atom, _ = model.mapping.entries()
    molecule = np.zeros(model.n_beads, dtype=int)
    molecule[bead[::-1]] = atoms.molecule[atom[::-1]]
    return molecule

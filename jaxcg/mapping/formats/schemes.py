"""Beads of one molecule by rules for residues: Martini, backward and vermouth files, one bead for each residue."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ...errors import InputError
from .names import standard_atom, standard_residue
from .pieces import Molecule, Piece, PieceBuilder
from .rules import MappingScheme, ResidueRule, atom_weight, counted_shares


def piece_from_scheme(scheme: MappingScheme, molecule: Molecule, *, hydrogens: bool) -> Piece | None:
    """The beads of a molecule by the rules of a scheme; residues without a rule are left out.

    Arguments:
        scheme: the mapping.
        molecule: its atoms.
        hydrogens: whether hydrogens count.

    Raises:
        InputError: a residue lacks a heavy atom that its rule names, or a bead is left without atoms.
    """
    builder = PieceBuilder()
    members = _members(molecule)
    for residue, atoms in enumerate(members):
        if scheme.one_bead is not None:
            _one_bead(builder, scheme.one_bead, molecule, residue, atoms, hydrogens)
            continue
        name = molecule.residue_names[residue]
        rule = scheme.by_name.get(name.upper()) or scheme.rules.get(standard_residue(name)[0])
        if rule is None:
            builder.left_out.append(name)
            continue
        _add_residue(builder, rule, molecule, residue, atoms, hydrogens)
    return builder.piece(molecule.masses)


def _members(molecule: Molecule) -> list[dict[str, int]]:
    """Standard atom name → atom, for every residue."""
    return [
        {standard_atom(standard_residue(name)[0], atom): number for atom, number in atoms.items()}
        for name, atoms in zip(molecule.residue_names, molecule.members)
    ]


def _one_bead(
    builder: PieceBuilder, kind: str, molecule: Molecule, residue: int, atoms: Mapping[str, int], hydrogens: bool
) -> None:
    name = molecule.residue_names[residue]
    if kind == "calpha":
        if "CA" not in atoms or molecule.elements[atoms["CA"]].upper() == "CA":
            builder.left_out.append(name)
            return
        builder.add("CA", "CA", name, atoms["CA"], {atoms["CA"]: 1.0})
        return
    chosen = [
        atom
        for atom in np.flatnonzero(molecule.residue == residue).tolist()
        if hydrogens or molecule.elements[atom].upper() not in ("H", "D")
    ]
    if not chosen:
        builder.left_out.append(name)
        return
    builder.add(name, name, name, chosen[0], {atom: float(molecule.masses[atom]) for atom in chosen})


def _place(bead: str) -> int:
    """Side-chain beads stand in the order of their numbers, as in Martini's residues, whatever a file's order is."""
    found = re.fullmatch(r"SC(\d+)", bead)
    return int(found[1]) if found else 0


def _add_residue(
    builder: PieceBuilder,
    rule: ResidueRule,
    molecule: Molecule,
    residue: int,
    atoms: Mapping[str, int],
    hydrogens: bool,
) -> None:
    rows: dict[str, dict[int, float]] = {bead: {} for bead in sorted(rule.beads, key=_place)}
    masses = dict.fromkeys(rule.beads, 0.0)
    label = molecule.labels[residue]
    for bead, atom, share in counted_shares(rule, atoms, molecule.elements, hydrogens=hydrogens, label=label):
        rows[bead][atom] = share * atom_weight(molecule.elements[atom])
        masses[bead] += share * molecule.masses[atom]
    for bead, row in rows.items():
        if not row:
            raise InputError(f"{label}: no atom counts in bead {bead}; complete the residue or change the mapping.")
        anchor = next(iter(atoms.values()))
        builder.add(bead, bead, molecule.residue_names[residue], anchor, row, mass=float(masses[bead]))

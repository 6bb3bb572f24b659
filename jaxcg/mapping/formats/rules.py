"""Mapping rules: for each residue, how much of each atom goes into which bead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import InputError
from ..linear import LinearMap
from .simple import AtomTable, one_bead_map

#: Masses martinize2 weights atoms by (whole numbers).
INTEGER_MASSES = {"H": 1.0, "C": 12.0, "N": 14.0, "O": 16.0, "P": 31.0, "S": 32.0, "F": 19.0, "CL": 35.0, "BR": 80.0}


@dataclass(frozen=True)
class ResidueRule:
    """How the atoms of one kind of residue make its beads.

    Arguments:
        name: residue name.
        beads: bead names, in the order of the mapping file.
        shares: atom name → {bead name: share}; shares of an atom in several beads sum to one; a share of zero
            (prefix ``!`` in a file) names an atom that is known but does not count.
        source: file the rule was read from, for messages.
        optional: heavy atoms that only some residues have (chain ends).
    """

    name: str
    beads: tuple[str, ...]
    shares: Mapping[str, Mapping[str, float]]
    source: str = ""
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True)
class MappingScheme:
    """A named mapping.

    Arguments:
        name: how it is named in messages.
        rules: residue name → rule; empty for mappings with one bead for each residue.
        one_bead: ``"calpha"`` or ``"com"`` for such mappings, else None.
        hydrogens: whether hydrogens count unless the user says otherwise.
        hydrogen_ambiguity: whether beads made with and without hydrogens differ, so that two maps exist.
        by_name: rules for residues of exactly that name (``"GLUP"``), which forward maps prefer; residues of other
            names (``"GLH"``) have the rule of their standard residue.
    """

    name: str
    rules: Mapping[str, ResidueRule]
    one_bead: str | None = None
    hydrogens: bool = False
    hydrogen_ambiguity: bool = True
    by_name: Mapping[str, ResidueRule] = field(default_factory=dict)

    def linear_map(
        self, atoms: AtomTable, bead_names: Sequence[str], bead_residue, masses, *, hydrogens: bool
    ) -> LinearMap:
        """The map for a molecule; arguments as in `build_map` (``masses`` are amu)."""
        if self.one_bead is not None:
            return one_bead_map(self.one_bead, atoms, bead_residue, masses, hydrogens=hydrogens)
        return build_map(self.rules, atoms, bead_names, bead_residue, hydrogens=hydrogens, scheme=self.name)


def build_map(
    rules: Mapping[str, ResidueRule],
    atoms: AtomTable,
    bead_names: Sequence[str],
    bead_residue,
    *,
    hydrogens: bool,
    masses: Sequence[float] | None = None,
    scheme: str = "mapping",
) -> LinearMap:
    """The linear map of beads that follow ``rules``: bead = Σ m s x / Σ m s over the atoms of its residue.

    Arguments:
        rules: residue name → rule, with standard atom names.
        atoms: the all-atom topology.
        bead_names: (beads,) bead names.
        bead_residue: (beads,) index of the residue (of ``atoms``) each bead belongs to.
        hydrogens: whether hydrogens count.
        masses: (atoms,) weights; None takes the whole-number masses of martinize2.
        scheme: name of the mapping, for messages.

    Raises:
        InputError: a residue without a rule, a bead the rule does not know, a missing or doubled bead, or a rule
            that names a heavy atom the residue lacks.
    """
    bead_residue = np.asarray(bead_residue)
    members: dict[int, list[int]] = {}
    for atom, residue in enumerate(np.asarray(atoms.residue)):
        members.setdefault(int(residue), []).append(atom)
    beads_of: dict[int, dict[str, int]] = {}
    for bead, residue in enumerate(bead_residue):
        here = beads_of.setdefault(int(residue), {})
        if bead_names[bead] in here:
            raise InputError(f"bead {bead_names[bead]} appears twice in {atoms.residue_labels[residue]}.")
        here[bead_names[bead]] = bead
    weights = [atom_weight(e) for e in atoms.elements] if masses is None else masses

    rows, columns, values = [], [], []
    for residue, here in beads_of.items():
        label = atoms.residue_labels[residue]
        rule = rules.get(atoms.residue_names[residue])
        if rule is None:
            raise InputError(
                f"{label}: mapping {scheme} has no rule for residue {atoms.residue_names[residue]}; "
                "add one with a mapping file, or remove the residue."
            )
        check_beads(rule, tuple(here), label)
        present = {atoms.names[atom]: atom for atom in members.get(residue, ())}
        for bead, atom, share in counted_shares(rule, present, atoms.elements, hydrogens=hydrogens, label=label):
            rows.append(here[bead])
            columns.append(atom)
            values.append(share * weights[atom])
    rows, columns, values = np.asarray(rows, dtype=int), np.asarray(columns, dtype=int), np.asarray(values, dtype=float)
    totals = np.bincount(rows, weights=values, minlength=len(bead_names))
    if np.any(totals <= 0):
        bead = int(np.flatnonzero(totals <= 0)[0])
        label = atoms.residue_labels[int(bead_residue[bead])]
        raise InputError(f"{label}: no atom counts in bead {bead_names[bead]} of mapping {scheme}; change its file.")
    return LinearMap.from_weights(rows, columns, values / totals[rows], len(bead_names), len(atoms.names))


def counted_shares(
    rule: ResidueRule, present: Mapping[str, int], elements: Sequence[str], *, hydrogens: bool, label: str
) -> Iterator[tuple[str, int, float]]:
    """Bead, atom and share of every atom of a residue that counts.

    Arguments:
        rule: of the residue.
        present: atom name → index of the atoms the residue has.
        elements: element of every atom.
        hydrogens: whether hydrogens count.
        label: of the residue, for messages.

    Raises:
        InputError: the rule names a heavy atom that the residue lacks.
    """
    for name, shares in rule.shares.items():
        if name not in present:
            if is_heavy(name) and name not in rule.optional and any(shares.values()):
                where = f" ({rule.source})" if rule.source else ""
                raise InputError(f"{label}: the mapping{where} names atom {name}, which the residue lacks.")
            continue
        atom = present[name]
        if hydrogens or elements[atom].upper() not in ("H", "D"):
            yield from ((bead, atom, share) for bead, share in shares.items() if share)


def check_beads(rule: ResidueRule, present: Sequence[str], label: str) -> None:
    """Raises `InputError` unless the beads ``present`` in a residue are exactly those of its rule."""
    unknown = [name for name in present if name not in rule.beads]
    missing = [name for name in rule.beads if name not in present]
    expected = f"expected {' '.join(rule.beads)}"
    if unknown and missing:
        raise InputError(f"{label}: unknown bead {unknown[0]} ({expected}); check the mapping or rename the bead.")
    if unknown:
        raise InputError(f"{label}: extra bead {unknown[0]} ({expected}); remove it or give the mapping that has it.")
    if missing:
        raise InputError(f"{label}: bead {missing[0]} is missing ({expected}); add it or give the mapping without it.")


def atom_weight(element: str) -> float:
    """Mass martinize2 weights an atom by: a whole number."""
    from_table = INTEGER_MASSES.get(element.upper())
    if from_table is not None:
        return from_table
    # Only for an element that no mapping of proteins has; the room itself must import without OpenMM.
    from openmm.app import Element
    from openmm.unit import dalton

    return float(round(Element.getBySymbol(element).mass.value_in_unit(dalton)))


def is_heavy(atom_name: str) -> bool:
    """Whether an atom of that name is no hydrogen."""
    return atom_name.lstrip("0123456789")[:1] not in ("H", "D")

"""The all-atom topology of a chain of residues, from force-field templates; no coordinates needed."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import InputError
from ..mapping.formats.names import AMINO_ACIDS, PROTONATION_VARIANTS, standard_atom, standard_residue
from .forcefield import ForceFieldLibrary
from .residues import BeadResidue
from .whole import is_joined


@dataclass(frozen=True)
class BuiltTopology:
    """A topology and the choices made for it.

    Arguments:
        topology: `openmm.app.Topology` with hydrogens and standard names.
        variants: for each residue the force-field variant (``"HIE"``, ``"CYX"``, ``"ALA"``).
        templates: topology residue → template name, for `ForceField.createSystem`.
    """

    topology: object
    variants: tuple[str, ...]
    templates: dict


def residue_variants(
    residues: Sequence[BeadResidue],
    disulfides: Sequence[tuple[int, int]],
    protonation: dict[int, str],
) -> list[str]:
    """Force-field variant of every residue: from the disulfides, then `protonation`, then the name, then pH 7.

    Arguments:
        residues: the residues.
        disulfides: pairs of residue numbers.
        protonation: residue number → variant.

    Raises:
        InputError: a variant does not fit its residue, or a disulfide is asked of something else than cysteine.
    """
    bridged = {r for pair in disulfides for r in pair}
    variants = []
    for number, residue in enumerate(residues):
        standard, asked = standard_residue(residue.name)
        asked = protonation.get(number, asked)
        options = PROTONATION_VARIANTS.get(standard, (standard,))
        if number in bridged:
            if standard != "CYS":
                raise InputError(f"{residue.label}: only cysteines form disulfides.")
            asked = "CYX"
        elif asked == "CYX":
            raise InputError(
                f"{residue.label}: named CYX (disulfide) but no partner is near; name the pair, or call it CYS."
            )
        if asked is not None and asked not in options and asked != standard:
            raise InputError(f"{residue.label}: no protonation {asked}; choose one of {', '.join(options)}.")
        variants.append(options[0] if asked is None or asked == standard else asked)
    return variants


def build_topology(
    residues: Sequence[BeadResidue],
    variants: Sequence[str],
    disulfides: Sequence[tuple[int, int]],
    library: ForceFieldLibrary,
    path: str = "beads",
) -> BuiltTopology:
    """All-atom topology of ``residues`` with the hydrogens and chain ends of the force field.

    Successive amino acids of one segment are joined by peptide bonds. Atoms carry standard PDB names and residues
    standard names (``HIS``, ``CYS``), whatever the force field calls them.

    Raises:
        InputError: the force field has no template for a residue in its place.
    """
    from openmm.app import Element, Topology

    topology = Topology()
    atoms_of: list[dict[str, object]] = []
    templates = {}
    labels = chain_labels(residues)
    chain, segment = None, None
    for number, residue in enumerate(residues):
        standard, _ = standard_residue(residue.name)
        if chain is None or residue.segment != segment:
            chain, segment = topology.addChain(labels[residue.segment]), residue.segment
        first, last = _ends(residues, number)
        template = library.template(variants[number], first=first, last=last)
        if template is None:
            raise InputError(f"{path}: {residue.label}: {_no_template(library, variants[number], first, last)}")
        digits = residue.id.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
        added = topology.addResidue(standard, chain, digits, residue.id[len(digits) :])
        if "" in template.elements:
            field = "+".join(library.names)
            raise InputError(
                f"force field {field} has particles that are no atoms (Drude, virtual sites); choose another."
            )
        here = {}
        for name, element in zip(template.atom_names, template.elements):
            here[name] = topology.addAtom(standard_atom(standard, name), Element.getBySymbol(element), added)
        for a, b in template.bonds:
            topology.addBond(here[template.atom_names[a]], here[template.atom_names[b]])
        if len({atom.name for atom in here.values()}) != len(here):
            raise InputError(f"{path}: {residue.label}: atom names of template {template.name} are not unique.")
        templates[added] = template.name
        by_standard = {atom.name: atom for atom in here.values()}
        if number and is_joined(residues[number - 1], residue):
            previous = atoms_of[-1]
            if "C" in previous and "N" in by_standard:
                topology.addBond(previous["C"], by_standard["N"])
        atoms_of.append(by_standard)
    for a, b in disulfides:
        topology.addBond(atoms_of[a]["SG"], atoms_of[b]["SG"])
    return BuiltTopology(topology, tuple(variants), templates)


def chain_labels(residues: Sequence[BeadResidue]) -> dict[int, str]:
    """Chain label of every segment: as in the file, a letter where several chains have none, else a blank."""
    labels = {residue.segment: residue.chain for residue in residues}
    if len(labels) > 1:
        free = (letter for letter in string.ascii_uppercase + string.ascii_lowercase if letter not in labels.values())
        return {segment: label or next(free, " ") for segment, label in labels.items()}
    return {segment: label or " " for segment, label in labels.items()}


def _ends(residues: Sequence[BeadResidue], number: int) -> tuple[bool, bool]:
    """Whether an amino acid is the first, and the last, of its peptide chain."""
    if standard_residue(residues[number].name)[0] not in AMINO_ACIDS:
        return False, False
    before = number > 0 and is_joined(residues[number - 1], residues[number])
    after = number + 1 < len(residues) and is_joined(residues[number], residues[number + 1])
    return not before, not after


def _no_template(library: ForceFieldLibrary, variant: str, first: bool, last: bool) -> str:
    field = "+".join(library.names)
    if first and last:
        return f"a chain of one residue has no template in {field}; remove it or join it to its neighbours."
    if library.template(variant) is None:
        return f"force field {field} has no residue {variant}; choose another force field or remove the residue."
    place = "first" if first else "last"
    return f"force field {field} has no {variant} as the {place} residue of a chain; choose another protonation."

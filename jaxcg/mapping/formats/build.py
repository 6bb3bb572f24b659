"""From the atoms of a whole system and a mapping to a `CoarseModel`."""

from __future__ import annotations

import os
from functools import partial

from ...errors import InputError
from .assemble import assemble
from .document import MappingFile
from .load import load_mapping
from .model import Atoms, CoarseModel, Selector
from .pieces import piece_from_rules
from .rules import MappingScheme
from .schemes import piece_from_scheme
from .selections import place_groups

_WATER = frozenset(["HOH", "WAT", "SOL", "TIP3", "TIP3P", "TIP4", "SPC", "H2O"])


def build_model(
    atoms: Atoms,
    mapping: str | os.PathLike | MappingFile | MappingScheme,
    *,
    hydrogens: bool | None = None,
    source: str | None = None,
    select: Selector | None = None,
) -> CoarseModel:
    """The map of a whole system: proteins, lipids, many equal molecules.

    Beads come in the order of the molecules of the topology, within a molecule in the order of its residues or of the
    file, and those of groups chosen by hand after all others. Molecules and residues that the mapping has no rule for
    are left out, which the notes say; Martini water, four molecules to a bead, is among them, because which four
    changes from frame to frame.

    Arguments:
        atoms: the all-atom system.
        mapping: a name (``"martini3"``, ``"martini2"``, ``"calpha"``, ``"com"`` ...), a mapping file of any format
            (the format is found from its content), several files joined by ``";"``, or what a reader returned.
        hydrogens: whether hydrogens count in mappings by name and in backward and vermouth files; None takes what the
            mapping's own program does (martinize2: every atom that is there). Files of other formats name their atoms.
        source: force field whose tables martinize2 maps from (its option ``-from``), ``"amber"`` or ``"charmm"``; None
            takes its default, ``"charmm"``. The two differ for histidine; see `jaxcg.mapping.formats.martini`.
        select: turns a selection string into atom indices, for files that select atoms by hand.

    Raises:
        InputError: names the file, the line or residue, and the reason.
    """
    rules = mapping if isinstance(mapping, MappingFile | MappingScheme) else load_mapping(mapping, source)
    if isinstance(rules, MappingScheme):
        counts = True if hydrogens is None else hydrogens
        notes = [] if rules.one_bead == "calpha" else [f"beads are centres of {'all' if counts else 'heavy'} atoms"]
        if rules.one_bead is None and not _WATER.isdisjoint(atoms.residue_names) and _WATER.isdisjoint(rules.rules):
            notes.append("water is left out: a bead of several molecules has others in every frame")
        return assemble(atoms, partial(piece_from_scheme, rules, hydrogens=counts), notes)
    if hydrogens is not None:
        raise InputError(f"{rules.name}: this format names its atoms, so hydrogens cannot be chosen; leave it out.")
    place = partial(place_groups, rules, atoms, select) if rules.groups else None
    return assemble(atoms, partial(piece_from_rules, rules), list(rules.notes), place)

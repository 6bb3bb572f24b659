"""PyCGTOOL ``.map`` files: sections named after residues, one bead a line.

``name type [charge] atom atom ...`` makes a bead of atoms, ``@v name type [charge] bead bead ...`` a virtual site on
beads; ``;`` begins a comment, ``#include "file"`` reads another file. An atom named twice counts twice. Beads are
centres of geometry, as PyCGTOOL's default is, or centres of mass (its option ``--map-center mass``).

Source of the format: PyCGTOOL documentation, "File formats"; Graham et al., J. Chem. Inf. Model. 57, 650 (2017).
"""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from .document import AtomName, BeadRule, MappingFile, MoleculeRule, SiteRule, check_rules
from .lines import read_lines


def read_pycgtool(
    path: str | os.PathLike, *, center: str = "geometry", virtual_center: str = "geometry"
) -> MappingFile:
    """Rules of a PyCGTOOL mapping file. Charges are checked and passed over: the map does not use them.

    Arguments:
        path: the file.
        center: ``"geometry"`` or ``"mass"``: what a bead of atoms is.
        virtual_center: the same for virtual sites and the beads they stand on.

    Raises:
        InputError: names the file and the line.
    """
    sections: dict[str, list] = {}
    _read(Path(path), sections, (), center, virtual_center)
    if not sections:
        raise InputError(f"{path}: no section such as [SOL] found.")
    rules = []
    for name, (where, beads) in sections.items():
        if not beads:
            raise InputError(f"{where}: section [{name}] has no bead.")
        rules.append(MoleculeRule(name, "residue", (name,), tuple(beads), where=where))
    mapping = MappingFile(tuple(rules), name=str(path))
    check_rules(mapping)
    return mapping


def _read(path: Path, sections: dict, including: tuple[Path, ...], center: str, virtual_center: str) -> None:
    lines = read_lines(path)
    if path.resolve() in including:
        raise InputError(f"{path}: the file includes itself.")
    beads = None
    for number, line in enumerate(lines, 1):
        text, where = line.split(";", 1)[0].strip(), f"{path}, line {number}"
        if not text:
            continue
        if text.startswith("#include"):
            words = text.split()
            if len(words) != 2:
                raise InputError(f'{where}: expected #include "file".')
            included = path.parent / words[1].strip('"')
            _read(included, sections, (*including, path.resolve()), center, virtual_center)
            continue
        if text.startswith("["):
            name = text.strip("[] \t")
            if not text.endswith("]") or not name:
                raise InputError(f"{where}: '{text}' is not a section header such as [SOL].")
            if name in sections:
                raise InputError(f"{where}: a second section [{name}]; give each residue one.")
            beads = []
            sections[name] = [where, beads]
            continue
        if beads is None:
            raise InputError(f"{where}: expected a section header such as [SOL] first.")
        beads.append(_bead(text.split(), where, center, virtual_center))


def _bead(words: list[str], where: str, center: str, virtual_center: str) -> BeadRule | SiteRule:
    virtual = words[0] == "@v"
    if words[0].startswith("@") and not virtual:
        raise InputError(f"{where}: '{words[0]}' is not known; only @v (virtual site) is.")
    words = words[virtual:]
    members = words[2:]
    if members and _is_number(members[0]):
        members = members[1:]
    if not members:
        raise InputError(f"{where}: expected a bead name, a type, perhaps a charge, and then its atoms.")
    if virtual:
        return SiteRule(words[0], words[1], "linear", tuple(members), virtual_center, where)
    return BeadRule(words[0], words[1], tuple(AtomName(name) for name in members), center, where=where)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

"""Index groups as GROMACS writes them (``.ndx``): each group of atoms is a bead, at its centre of mass.

A comment ``; jaxcg: repeat 256 offset 3`` before the first group repeats the groups for 256 equal molecules of three
atoms each, which GROMACS itself passes over.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from ...errors import InputError
from .document import GroupRule, MappingFile, check_rules
from .lines import read_lines

_REPEAT = re.compile(r";\s*jaxcg:\s*repeat\s+(\d+)\s+offset\s+(\d+)\s*$")


def read_index_groups(path: str | os.PathLike, *, weights: str = "mass") -> MappingFile:
    """Rules of an index file: one bead for each group, in the order of the file.

    Arguments:
        path: the file.
        weights: ``"mass"`` or ``"geometry"``.

    Raises:
        InputError: names the file and the line.
    """
    path = Path(path)
    lines = read_lines(path)
    groups: list[tuple[str, str, list[int]]] = []
    repeat, offset = 1, 0
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        stated = _REPEAT.match(line.strip())
        if stated and not groups:
            repeat, offset = int(stated[1]), int(stated[2])
            if repeat < 1 or offset < 1:
                raise InputError(f"{where}: repeat and offset must be at least 1.")
            continue
        text = line.split(";", 1)[0].strip()
        if not text:
            continue
        if text.startswith("["):
            name = text[1:-1].strip()
            if not text.endswith("]") or not name:
                raise InputError(f"{where}: '{text}' is not a group header such as [ A1 ].")
            if any(name == other for other, _, _ in groups):
                raise InputError(f"{where}: a second group named {name}; bead names must differ.")
            groups.append((name, where, []))
            continue
        if not groups:
            raise InputError(f"{where}: expected a group header such as [ A1 ] first.")
        for word in text.split():
            if not word.isdigit() or word == "0":
                raise InputError(f"{where}: '{word}' is not the number of an atom (from 1).")
            if int(word) - 1 in groups[-1][2]:
                raise InputError(f"{where}: atom {word} is in group {groups[-1][0]} twice.")
            groups[-1][2].append(int(word) - 1)
    if not groups:
        raise InputError(f"{path}: no group such as [ A1 ] found.")
    empty = next(((name, where) for name, where, atoms in groups if not atoms), None)
    if empty:
        raise InputError(f"{empty[1]}: group {empty[0]} has no atoms; a bead needs at least one.")
    anchors = tuple(copy * offset for copy in range(repeat))
    rules = tuple(
        GroupRule(
            name,
            name,
            tuple(atoms),
            anchors,
            tuple(copy * len(groups) + number for copy in range(repeat)),
            weights=weights,
            where=where,
        )
        for number, (name, where, atoms) in enumerate(groups)
    )
    mapping = MappingFile(groups=rules, name=str(path))
    check_rules(mapping)
    return mapping


def write_index_groups(mapping: MappingFile, path: str | os.PathLike) -> None:
    """Writes rules for atoms by number as an index file; `read_index_groups` reads it back equal.

    Raises:
        InputError: the mapping holds more than the format can say.
    """
    groups = mapping.groups
    anchors = groups[0].anchors if groups else ()
    offset = anchors[1] - anchors[0] if len(anchors) > 1 else 1
    plain = all(
        group.select is None
        and group.weights == groups[0].weights
        and isinstance(group.weights, str)
        and group.force_weights is None
        and group.anchors == tuple(copy * offset for copy in range(len(anchors)))
        and group.order in ((), tuple(copy * len(groups) + number for copy in range(len(anchors))))
        for number, group in enumerate(groups)
    )
    if not groups or mapping.molecules or mapping.sites or mapping.bonded or not plain:
        raise InputError(f"{path}: an index file holds only groups of atoms by number with the same plain weights.")
    lines = [f"; jaxcg: repeat {len(anchors)} offset {offset}"] if len(anchors) > 1 else []
    for group in groups:
        lines.append(f"[ {group.name} ]")
        numbers = [str(atom + 1) for atom in group.index]
        lines += [" ".join(numbers[start : start + 15]) for start in range(0, len(numbers), 15)]
    Path(path).write_text("\n".join(lines) + "\n")

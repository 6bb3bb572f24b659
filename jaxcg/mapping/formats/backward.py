"""Reader for backward ``.map`` files, as the vermouth package keeps them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from ...errors import InputError
from .lines import read_lines
from .rules import ResidueRule


def read_backward(path: str | os.PathLike) -> list[tuple[ResidueRule, tuple[str, ...], tuple[str, ...]]]:
    """Rules of a backward mapping file, each with the force fields it maps from and to.

    An atom listed in several beads is shared: its share in a bead is how often the bead is named over the number of
    names; the prefix ``!`` gives the share zero. Geometry sections (chiral, trans, out) are not used: jaxcg takes
    stereochemistry from the component dictionary.

    Raises:
        InputError: names the file and the line.
    """
    path = Path(path)
    lines = read_lines(path)
    molecules: list[dict] = []
    section = None
    for number, line in enumerate(lines, 1):
        text = line.split(";", 1)[0].strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        if text.startswith("["):
            if not text.endswith("]"):
                raise InputError(f"{where}: '{text}' is not a section header such as [ atoms ].")
            section = text[1:-1].strip().lower()
            if section == "molecule":
                molecules.append({"name": None, "from": [], "to": [], "beads": [], "atoms": {}, "line": number})
            continue
        if not molecules:
            raise InputError(f"{where}: expected [ molecule ] first.")
        molecule = molecules[-1]
        if section == "molecule":
            if molecule["name"] is not None:
                raise InputError(f"{where}: a second molecule name '{text}'; start a new [ molecule ] section.")
            molecule["name"] = text.split()[0]
        elif section in ("from", "mapping"):
            molecule["from"].extend(text.split())
        elif section == "to":
            molecule["to"].extend(text.split())
        elif section == "martini":
            molecule["beads"].extend(text.split())
        elif section == "atoms":
            fields = text.split()
            if len(fields) < 2:
                raise InputError(f"{where}: an atom line needs a number, an atom name and its beads.")
            atom, beads = fields[1], fields[2:]
            if atom in molecule["atoms"]:
                raise InputError(f"{where}: atom {atom} is listed twice.")
            molecule["atoms"][atom] = _shares(beads, where)
    return [_finish(molecule, path) for molecule in molecules]


def _shares(beads: list[str], where: str) -> dict[str, float]:
    counts = Counter(bead for bead in beads if not bead.startswith("!"))
    shares = {bead: count / sum(counts.values()) for bead, count in counts.items()}
    for bead in beads:
        if bead.startswith("!"):
            if bead[1:] in shares:
                raise InputError(f"{where}: bead {bead[1:]} is named both with and without '!'.")
            shares[bead[1:]] = 0.0
    return shares


def _finish(molecule: dict, path: Path):
    if not molecule["name"]:
        raise InputError(f"{path}, line {molecule['line']}: [ molecule ] has no name.")
    if not molecule["atoms"]:
        raise InputError(f"{path}, line {molecule['line']}: molecule {molecule['name']} has no [ atoms ].")
    used = list(dict.fromkeys(bead for shares in molecule["atoms"].values() for bead in shares))
    beads = tuple(dict.fromkeys(molecule["beads"])) or tuple(used)
    # A bead that is declared but gets no atom cannot be placed; one that is used need not be declared.
    beads = tuple(bead for bead in beads if bead in used) + tuple(bead for bead in used if bead not in beads)
    rule = ResidueRule(molecule["name"], beads, molecule["atoms"], source=str(path))
    return rule, tuple(molecule["from"]), tuple(molecule["to"])

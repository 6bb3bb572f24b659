"""Protonation files."""

from __future__ import annotations

import os

from ..errors import InputError
from ..mapping.formats.names import PROTONATION_VARIANTS, standard_residue
from .beads import Beads, find_residue


def read_protonation(path: str | os.PathLike, beads: Beads) -> dict[int, str]:
    """Residue number → variant, from a file of lines ``chain:residue NAME``.

    One residue a line, ``#`` starts a comment, the chain may be left out when it is not needed::

        A:68 HIP      # doubly protonated histidine
        A:35 GLH      # neutral glutamic acid

    Names: HID, HIE, HIP; ASP, ASH; GLU, GLH; LYS, LYN; CYS, CYM.

    Raises:
        InputError: names the file and the line.
    """
    try:
        with open(path) as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    chosen: dict[int, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        fields = text.split()
        if len(fields) != 2:
            raise InputError(f"{where}: expected 'chain:residue NAME', for example 'A:68 HIP', not '{text}'.")
        try:
            found = find_residue(fields[0], beads)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        residue = beads.residues[found]
        name = fields[1].upper()
        standard, _ = standard_residue(residue.name)
        options = PROTONATION_VARIANTS.get(standard)
        if options is None:
            raise InputError(f"{where}: {residue.label} has no other protonation.")
        if name not in options:
            raise InputError(f"{where}: {name} is no form of {residue.label}; choose one of {', '.join(options)}.")
        if chosen.get(found, name) != name:
            raise InputError(f"{where}: {residue.label} is given twice.")
        chosen[found] = name
    return chosen

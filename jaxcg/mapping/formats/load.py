"""Mappings by name or by file."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from .backward import read_backward
from .martini import MARTINI_NAMES, martini, standardise
from .names import standard_residue
from .rules import MappingScheme
from .simple import SIMPLE_MAPPINGS
from .vermouth_mapping import read_vermouth_mapping


def load_scheme(name: str | os.PathLike) -> MappingScheme:
    """The mapping called ``name``: a Martini force field, ``"calpha"``, ``"com"``, or a mapping file.

    Raises:
        InputError: the name is not known, or the file cannot be read.
    """
    text = os.fspath(name)
    if text.lower() in MARTINI_NAMES:
        return martini(text)
    if text.lower() in SIMPLE_MAPPINGS:
        kind = text.lower()
        return MappingScheme(kind, {}, one_bead=kind, hydrogens=kind == "com", hydrogen_ambiguity=kind == "com")
    if Path(text).is_file():
        rules = {}
        for rule, _, _ in _read(text):
            standard, _ = standard_residue(rule.name)
            rules.setdefault(standard, standardise(rule, standard))
        return MappingScheme(text, rules)
    known = ", ".join([*MARTINI_NAMES, *SIMPLE_MAPPINGS])
    raise InputError(f"mapping '{text}' is not known and no such file exists; choose one of {known}.")


def _read(path: str):
    """Rules of a mapping file; what it holds, not its ending, says which of the two formats it is."""
    try:
        content = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    headers = {line.strip()[1:-1].strip().lower() for line in content.splitlines() if line.strip().startswith("[")}
    if not headers & {"molecule", "block"}:
        raise InputError(f"{path}: no mapping found; expected [ molecule ] (.map) or [ block ] (.mapping) sections.")
    return read_vermouth_mapping(path) if "block" in headers else read_backward(path)

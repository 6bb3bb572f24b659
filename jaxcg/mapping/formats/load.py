"""Mappings by name or by file."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import reduce
from pathlib import Path

from ...errors import InputError
from .backward import read_backward
from .document import MappingFile
from .index_groups import read_index_groups
from .martini import MARTINI_NAMES, martini, standardise
from .names import standard_residue
from .native import read_native
from .openmscg import read_openmscg
from .pycgtool import read_pycgtool
from .rules import MappingScheme, ResidueRule
from .simple import SIMPLE_MAPPINGS
from .vermouth_mapping import read_vermouth_mapping, read_vermouth_modifications
from .votca import read_votca

#: Name of a format → reader, for formats whose rules are more than residues with shares of atoms.
READERS = {
    "jaxcg": read_native,
    "votca": read_votca,
    "openmscg": read_openmscg,
    "pycgtool": read_pycgtool,
    "index": read_index_groups,
}


def load_mapping(name: str | os.PathLike, source: str | None = None) -> MappingScheme | MappingFile:
    """The mapping called ``name``, or that of a file of any format, or of several files joined by ``";"``.

    Arguments:
        name: see `load_scheme`; files may be of any format.
        source: ``"amber"`` or ``"charmm"``, for Martini mappings by name.

    Raises:
        InputError: the name is not known, or the file cannot be read.
    """
    text = os.fspath(name)
    paths = [path.strip() for path in text.split(";") if path.strip()]
    if len(paths) > 1:
        files = [load_mapping(path) for path in paths]
        if not all(isinstance(file, MappingFile) for file in files):
            raise InputError(f"{text}: only files that list beads can be joined, not names or backward files.")
        return reduce(lambda one, other: one.joined(other), files)  # type: ignore[arg-type]
    if Path(text).is_file():
        kind = format_of(text)
        if kind in READERS:
            return READERS[kind](text)
    return load_scheme(name, source)


def load_scheme(name: str | os.PathLike, source: str | None = None) -> MappingScheme:
    """The mapping called ``name``: a Martini force field, ``"calpha"``, ``"com"``, or a backward or vermouth file.

    Raises:
        InputError: the name is not known, or the file cannot be read.
    """
    text = os.fspath(name)
    if text.lower() in MARTINI_NAMES:
        return martini(text, source)
    if text.lower() in SIMPLE_MAPPINGS:
        kind = text.lower()
        return MappingScheme(kind, {}, one_bead=kind, hydrogens=kind == "com", hydrogen_ambiguity=kind == "com")
    if Path(text).is_file():
        kind = format_of(text)
        if kind in READERS:
            raise InputError(
                f"{text}: a mapping file of the format {kind} only maps forwards; give a .map or .mapping file."
            )
        rules = {}
        for rule in _modified(text) if kind == "vermouth" else (rule for rule, _, _ in read_backward(text)):
            standard, _ = standard_residue(rule.name)
            rules.setdefault(standard, standardise(rule, standard))
        if not rules:
            raise InputError(f"{text}: the file has no [ block ], only modifications of others; add the blocks to it.")
        return MappingScheme(text, rules)
    known = ", ".join([*MARTINI_NAMES, *SIMPLE_MAPPINGS])
    raise InputError(f"mapping '{text}' is not known and no such file exists; choose one of {known}.")


def _modified(path: str) -> list[ResidueRule]:
    """Rules of a vermouth file, with the atoms that its modifications add: one named ASP-HD2 is of the block ASP.

    Those of chain ends have names without a residue; what they add is known already, see `standardise`.
    """
    modifications = read_vermouth_modifications(path)
    rules = []
    for rule, _, _ in read_vermouth_mapping(path):
        shares = dict(rule.shares)
        for modification in modifications:
            if any(name.startswith(f"{rule.name}-") for name in modification.names):
                added = {atom: beads for atom, beads in modification.shares.items() if atom not in shares}
                shares |= {atom: beads for atom, beads in added.items() if beads.keys() <= set(rule.beads)}
        rules.append(replace(rule, shares=shares))
    return rules


def format_of(path: str | os.PathLike) -> str:
    """Format of a mapping file by what it holds, not by its ending: a key of `READERS`, ``backward`` or ``vermouth``.

    Raises:
        InputError: the file cannot be read, or is none of them.
    """
    try:
        content = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    if content.lstrip().startswith("<"):
        return "votca"
    if re.search(r"^jaxcg-mapping\s*:", content, re.MULTILINE):
        return "jaxcg"
    if re.search(r"^site-types\s*:", content, re.MULTILINE):
        return "openmscg"
    lines = [line.split(";", 1)[0].strip() for line in content.splitlines()]
    headers = {line[1:].rstrip("]").strip().lower() for line in lines if line.startswith("[")}
    if headers & {"block", "modification"}:
        return "vermouth"
    if "molecule" in headers:
        return "backward"
    words = [word for line in lines if line and not line.startswith("[") for word in line.split()]
    if headers and words:
        return "index" if all(word.isdigit() for word in words) else "pycgtool"
    raise InputError(
        f"{path}: no mapping found; expected VOTCA XML, YAML with jaxcg-mapping or site-types, or sections such as "
        "[ molecule ] (.map), [ block ] (.mapping), [SOL] (PyCGTOOL) or index groups (.ndx)."
    )

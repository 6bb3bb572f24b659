"""Reader for vermouth ``.mapping`` files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...errors import InputError
from .lines import read_lines
from .rules import ResidueRule


@dataclass(frozen=True)
class Modification:
    """What a ``[ modification ]`` section changes: chain ends, protonation, phosphorylation.

    Arguments:
        names: the modifications it stands for, e.g. ``("HIS-HP",)``.
        sources, targets: force fields it maps from and to.
        shares: atom name → {bead name: weight}, which replace those of the residue.
    """

    names: tuple[str, ...]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    shares: Mapping[str, Mapping[str, float]]


def read_vermouth_mapping(path: str | os.PathLike) -> list[tuple[ResidueRule, tuple[str, ...], tuple[str, ...]]]:
    """Rules of the ``[ block ]`` sections of a vermouth mapping file, with the force fields they map from and to.

    A line of ``[ mapping ]`` is ``atom bead [weight]``, the weight being one if left out. ``[ modification ]``
    sections are passed over: see `read_vermouth_modifications`.

    Raises:
        InputError: names the file and the line; also for blocks of several residues, which are not supported.
    """
    path = Path(path)
    return [_finish(section, path) for section in _sections(path, "block")]


def read_vermouth_modifications(path: str | os.PathLike) -> list[Modification]:
    """The ``[ modification ]`` sections of a vermouth mapping file.

    Raises:
        InputError: names the file and the line.
    """
    path = Path(path)
    found = []
    for section in _sections(path, "modification"):
        if not section["names"] or not section["atoms"]:
            raise InputError(f"{path}, line {section['line']}: the modification needs [ from blocks ] and [ mapping ].")
        found.append(
            Modification(tuple(section["names"]), tuple(section["from"]), tuple(section["to"]), section["atoms"])
        )
    return found


def _sections(path: Path, kind: str) -> list[dict]:
    """The sections of one kind, ``"block"`` or ``"modification"``; those of the other are passed over."""
    lines = read_lines(path)
    found: list[dict] = []
    part, begun, wanted = None, False, False
    for number, line in enumerate(lines, 1):
        text = line.split(";", 1)[0].strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        if text.startswith("["):
            if not text.endswith("]"):
                raise InputError(f"{where}: '{text}' is not a section header such as [ mapping ].")
            part = text[1:-1].strip().lower()
            if part in ("block", "modification"):
                begun, wanted = True, part == kind
                if wanted:
                    found.append({"names": [], "from": [], "to": [], "atoms": {}, "line": number, "kind": kind})
            continue
        if not begun:
            raise InputError(f"{where}: expected [ block ] first.")
        if not wanted:
            continue
        if part in ("from", "to"):
            found[-1][part].extend(text.split())
        elif part == "from blocks":
            names = text.split("{")[0].split()
            if kind == "block" and (found[-1]["names"] or len(names) != 1):
                raise InputError(f"{where}: blocks of several residues are not supported; write one block for each.")
            found[-1]["names"] += [name.lstrip("!").split("#")[0] for name in names]
        elif part == "mapping":
            _add(found[-1], text.split(), where)
    return found


def _add(section: dict, fields: list[str], where: str) -> None:
    if len(fields) not in (2, 3):
        raise InputError(f"{where}: expected 'atom bead [weight]'.")
    atom, bead = (name.rpartition(":")[2] for name in fields[:2])
    try:
        weight = float(fields[2]) if len(fields) == 3 else 1.0
    except ValueError:
        raise InputError(f"{where}: '{fields[2]}' is not a weight.") from None
    if not weight >= 0:
        raise InputError(f"{where}: the weight {fields[2]} is negative.")
    shares = section["atoms"].setdefault(atom, {})
    # Repetition is an error in a block, but vermouth's own modifications do name an atom twice.
    if bead in shares and (section["kind"] == "block" or shares[bead] != weight):
        raise InputError(f"{where}: atom {atom} is given to bead {bead} twice.")
    shares[bead] = weight


def _finish(block: dict, path: Path):
    if not block["names"] or not block["atoms"]:
        raise InputError(f"{path}, line {block['line']}: the block needs [ from blocks ] and [ mapping ].")
    beads = tuple(dict.fromkeys(bead for shares in block["atoms"].values() for bead in shares))
    rule = ResidueRule(block["names"][0], beads, block["atoms"], source=str(path))
    return rule, tuple(block["from"]), tuple(block["to"])

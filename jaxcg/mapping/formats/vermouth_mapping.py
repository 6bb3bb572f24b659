"""Reader for vermouth ``.mapping`` files."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError
from .rules import ResidueRule


def read_vermouth_mapping(path: str | os.PathLike) -> list[tuple[ResidueRule, tuple[str, ...], tuple[str, ...]]]:
    """Rules of the ``[ block ]`` sections of a vermouth mapping file, with the force fields they map from and to.

    A line of ``[ mapping ]`` is ``atom bead [weight]``, the weight being one if left out. ``[ modification ]``
    sections are passed over: chain ends and protonation are handled by `jaxcg.mapping.formats.martini`.

    Raises:
        InputError: names the file and the line; also for blocks of several residues, which are not supported.
    """
    path = Path(path)
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    blocks: list[dict] = []
    section, skipping = None, False
    for number, line in enumerate(lines, 1):
        text = line.split(";", 1)[0].strip()
        if not text:
            continue
        where = f"{path}, line {number}"
        if text.startswith("["):
            if not text.endswith("]"):
                raise InputError(f"{where}: '{text}' is not a section header such as [ mapping ].")
            section = text[1:-1].strip().lower()
            if section in ("block", "modification"):
                skipping = section == "modification"
                if not skipping:
                    blocks.append({"name": None, "from": [], "to": [], "atoms": {}, "line": number})
            continue
        if skipping:
            continue
        if not blocks:
            raise InputError(f"{where}: expected [ block ] first.")
        block = blocks[-1]
        if section in ("from", "to"):
            block[section].extend(text.split())
        elif section == "from blocks":
            names = text.split("{")[0].split()
            if block["name"] is not None or len(names) != 1:
                raise InputError(f"{where}: blocks of several residues are not supported; write one block for each.")
            block["name"] = names[0].lstrip("!").split("#")[0]
        elif section == "mapping":
            _add(block, text.split(), where)
    return [_finish(block, path) for block in blocks]


def _add(block: dict, fields: list[str], where: str) -> None:
    if len(fields) not in (2, 3):
        raise InputError(f"{where}: expected 'atom bead [weight]'.")
    atom, bead = (name.rpartition(":")[2] for name in fields[:2])
    try:
        weight = float(fields[2]) if len(fields) == 3 else 1.0
    except ValueError:
        raise InputError(f"{where}: '{fields[2]}' is not a weight.") from None
    if not weight >= 0:
        raise InputError(f"{where}: the weight {fields[2]} is negative.")
    shares = block["atoms"].setdefault(atom, {})
    if bead in shares:
        raise InputError(f"{where}: atom {atom} is given to bead {bead} twice.")
    shares[bead] = weight


def _finish(block: dict, path: Path):
    if not block["name"] or not block["atoms"]:
        raise InputError(f"{path}, line {block['line']}: the block needs [ from blocks ] and [ mapping ].")
    beads = tuple(dict.fromkeys(bead for shares in block["atoms"].values() for bead in shares))
    rule = ResidueRule(block["name"], beads, block["atoms"], source=str(path))
    return rule, tuple(block["from"]), tuple(block["to"])

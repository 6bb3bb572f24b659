"""Tables of LAMMPS, ``pair_style table``: several sections in one file, each with a keyword."""

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np

from ...errors import InputError
from ...units import KILOCALORIE
from ..writers import write_text
from .lines import numbers, text_lines
from .table import PairTable, checked


class _Units(NamedTuple):
    """One LAMMPS unit in nm and in kJ/mol."""

    length: float
    energy: float


_ELECTRONVOLT = 96.48533212331
_STYLES = {
    "real": _Units(0.1, KILOCALORIE),
    "metal": _Units(0.1, _ELECTRONVOLT),
    "nano": _Units(1.0, 602.214076),  # attogram nm²/ns² = 1e-21 J
}
Style = Literal["real", "metal", "nano"]


def write_lammps_tables(path: str | os.PathLike, tables: Mapping[str, PairTable], units: Style = "real") -> None:
    """Writes pair tables for LAMMPS.

    In the input script: ``pair_style table linear 5000`` (at least as many as there are rows) and ``pair_coeff 1 1 FILE
    KEYWORD``.

    Arguments:
        path: the file; it appears when it is whole.
        tables: keyword → table.
        units: of the script's ``units`` command.

    Raises:
        ValueError: no tables, a keyword with spaces, or units that are not known.

    Source: LAMMPS manual, pair_style table.
    """
    unit = _unit(units)
    if not tables:
        raise ValueError("write_lammps_tables: give at least one table.")
    parts = [f"# pair potentials, LAMMPS units {units}\n"]
    for keyword, table in tables.items():
        if not keyword or keyword.startswith("#") or keyword.split() != [keyword]:
            raise ValueError(f"write_lammps_tables: {keyword!r} cannot be a keyword; use one word without spaces.")
        r, u = table.r / unit.length, table.potential / unit.energy
        force = -table.slope * unit.length / unit.energy
        parts.append(f"\n{keyword}\nN {len(r)} R {float(r[0])!r} {float(r[-1])!r}\n\n")
        parts += [f"{i} {a:.12g} {b:.15g} {c:.15g}\n" for i, (a, b, c) in enumerate(zip(r, u, force), 1)]
    write_text(path, "".join(parts))


def read_lammps_tables(path: str | os.PathLike, units: Style = "real") -> dict[str, PairTable]:
    """Pair tables of a LAMMPS file.

    Arguments:
        path: the file.
        units: of the script it belongs to.

    Returns:
        Keyword → table. Distances that the line of parameters gives (``R lo hi``) replace those of the rows, as in
        LAMMPS.

    Raises:
        ValueError: units that are not known.
        InputError: the file cannot be read or is malformed, squared distances (``RSQ``) or bitmaps, or forces that are
            not those of the energies; the message names the line.
    """
    unit, path = _unit(units), os.fspath(path)
    lines = [(number, line.split("#")[0].split()) for number, line in enumerate(text_lines(path), 1)]
    lines = [(number, words) for number, words in lines if words]
    found: dict[str, PairTable] = {}
    at = 0
    while at < len(lines):
        number, words = lines[at]
        keyword = words[0]
        if keyword in found:
            raise InputError(
                f"{path}, line {number}: a second section {keyword!r}; give every section its own keyword."
            )
        if at + 1 == len(lines):
            raise InputError(f"{path}, line {number}: section {keyword!r} has no line 'N rows R lo hi' after it.")
        rows, ends = _parameters(path, *lines[at + 1])
        block = lines[at + 2 : at + 2 + rows]
        if len(block) < rows:
            raise InputError(f"{path}: section {keyword!r} should have {rows} rows, the file ends after {len(block)}.")
        what = "row, distance, energy and force"
        values = np.asarray([numbers(path, line, row, 4, what) for line, row in block])
        r = values[:, 1] if ends is None else np.linspace(*ends, rows)
        where = [line for line, _ in block]
        found[keyword] = checked(
            path, where, r * unit.length, values[:, 2] * unit.energy, -values[:, 3] * unit.energy / unit.length
        )
        at += 2 + rows
    if not found:
        raise InputError(f"{path}: holds no section.")
    return found


def _unit(units: str) -> _Units:
    if units not in _STYLES:
        raise ValueError(f"LAMMPS tables: units are {', '.join(_STYLES)}, not {units!r}.")
    return _STYLES[units]


def _parameters(path: str, number: int, words: list[str]) -> tuple[int, tuple[float, float] | None]:
    """Rows of a section and its first and last distance."""
    what = "'N rows' with 'R lo hi', 'FP a b' or both"
    rows, ends, at = 0, None, 0
    while at < len(words):
        if words[at] in ("RSQ", "BITMAP"):
            raise InputError(f"{path}, line {number}: {words[at]} tables are not read; write it with R.")
        if words[at] == "N":
            value = numbers(path, number, words[at + 1 : at + 2], 1, what)[0]
            rows, at = int(value), at + 2
        elif words[at] in ("R", "FP"):
            pair = numbers(path, number, words[at + 1 : at + 3], 2, what)
            ends = (pair[0], pair[1]) if words[at] == "R" else ends
            at += 3
        else:
            raise InputError(f"{path}, line {number}: expected {what}, not {words[at]!r}.")
    if rows < 1:
        raise InputError(f"{path}, line {number}: expected {what}.")
    return rows, ends

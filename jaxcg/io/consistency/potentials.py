"""Tables of pair potentials: Gromacs, VOTCA and plain columns."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..beads import first_line

#: Rows a table has at least.
_FEWEST = 4


@dataclass(frozen=True)
class PairTable:
    """A pair potential as a table.

    Arguments:
        path: where it was read from.
        r: (rows,) distances, nm, rising in equal steps; the last is where the potential ends.
        u: (rows,) kJ/mol, zero at the last.
    """

    path: str
    r: np.ndarray
    u: np.ndarray

    @property
    def cutoff(self) -> float:
        """Where the potential ends, nm."""
        return float(self.r[-1])


def read_pair_table(path: str | os.PathLike) -> PairTable:
    """A pair potential from a text file.

    Two or three columns are r (nm), u (kJ/mol) and, not used, the force; a third column of letters is the flag of
    VOTCA's tables, whose rows marked ``u`` (undefined) are left out. Seven columns are a Gromacs table of a pair of
    energy groups: its last potential (column 6) is taken, as coarse-grained models use it, and the other two must be
    zero. Lines that begin with ``#``, ``@``, ``&`` or ``;`` are comments. Rows before the first that is
    finite (r = 0 of a divergent potential) are left out.

    Arguments:
        path: the file.

    Raises:
        InputError: the file cannot be read, a row is not understood or not finite, or the distances do not rise in
            equal steps; the message names the line.
    """
    path = os.fspath(path)
    rows, numbers = _rows(path)
    width = len(rows[0])
    table = np.asarray(rows)
    r, u = table[:, 0], table[:, 1]
    if width == 7:
        filled = [name for name, column in (("Coulomb", 1), ("dispersion", 3)) if np.any(table[1:, column])]
        if filled:
            raise InputError(
                f"{path}: has a {filled[0]} part, which needs charges or C6 that are not given; put the whole "
                "potential into columns 6 and 7."
            )
        u = table[:, 5]
    # Divergent potentials are printed as 0, inf or nan at r = 0.
    good = np.isfinite(u) & (r > 0)
    if not good.any():
        raise InputError(f"{path}: no row has a finite potential at a distance above zero.")
    first = int(np.argmax(good))
    r, u, numbers = r[first:], u[first:], numbers[first:]
    wrong = np.flatnonzero(~(np.isfinite(u) & np.isfinite(r)))
    if wrong.size:
        raise InputError(f"{path}, line {numbers[wrong[0]]}: the potential is not a finite number; repair the table.")
    if len(r) < _FEWEST:
        raise InputError(f"{path}: holds {len(r)} rows; a table of a potential has {_FEWEST} at least.")
    step = (r[-1] - r[0]) / (len(r) - 1)
    off = np.abs(np.diff(r) - step)
    wrong = np.flatnonzero(~(off <= 0.02 * step))
    if wrong.size:
        row = int(wrong[0]) + 1
        raise InputError(
            f"{path}, line {numbers[row]}: r = {r[row]:g} nm follows {r[row - 1]:g} nm, but rows are {step:g} nm "
            "apart; interpolate the table to equal steps."
        )
    return PairTable(path, r, u - u[-1])


def read_pair_potentials(given: Sequence[str], kinds: Sequence[str]) -> dict[tuple[str, str], PairTable]:
    """The tables of all pairs of kinds of beads.

    Arguments:
        given: ``"A-B=FILE"``, or ``"FILE"`` alone where there is one kind of bead or the name ends with the two kinds
            (``table_A_B.xvg``, ``A-B.pot``).
        kinds: all kinds of beads.

    Returns:
        Pair of kinds, sorted → its table.

    Raises:
        InputError: a file cannot be read or assigned, a pair is given twice, or one is missing.
    """
    names = sorted(set(kinds))
    found: dict[tuple[str, str], PairTable] = {}
    for word in given:
        pair, path = _assigned(word, names)
        if pair in found:
            raise InputError(f"--potential {word}: {'-'.join(pair)} has one already ({found[pair].path}).")
        found[pair] = read_pair_table(path)
    missing = [pair for pair in combinations_with_replacement(names, 2) if pair not in found]
    if missing:
        shown = ", ".join("-".join(pair) for pair in missing[:5]) + (" ..." if len(missing) > 5 else "")
        raise InputError(f"--potential: no table for {shown}; the pressure needs one for each pair of kinds of beads.")
    return found


def _assigned(word: str, names: Sequence[str]) -> tuple[tuple[str, str], str]:
    """Which pair of kinds a table is for, and its file."""
    left, mark, right = word.partition("=")
    named = bool(mark) and not Path(word).is_file()
    path = right if named else word
    if not Path(path).is_file():
        what = "is a folder, not a file" if Path(path).is_dir() else "there is no such file"
        raise InputError(f"{path}: {what}.")
    label = left if named else Path(path).stem
    pairs = list(combinations_with_replacement(names, 2))
    for a, b in pairs:
        spelled = (f"{x}{joint}{y}" for x, y in ((a, b), (b, a)) for joint in "-_")
        if any(re.search(rf"(^|[-_]){re.escape(text)}$", label) for text in spelled):
            return (a, b), path
    if len(names) == 1 and not named:
        return pairs[0], path
    raise InputError(
        f"--potential {word}: does not say for which beads; write KIND-KIND={Path(path).name}, of the kinds "
        f"{', '.join(names[:8])}."
    )


def _rows(path: str) -> tuple[list[list[float]], list[int]]:
    """Numbers of every line, and the numbers of the lines."""
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}).") from error
    rows: list[list[float]] = []
    numbers: list[int] = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words or words[0][0] in "@&;":
            continue
        if len(words) == 3 and words[2] in ("i", "o", "u"):
            if words[2] == "u":
                continue
            words = words[:2]
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        wanted = len(rows[0]) if rows else len(row)
        if len(row) not in (2, 3, 7) or len(row) != wanted:
            raise InputError(
                f"{path}, line {number}: expected r (nm) and u (kJ/mol), or the seven columns of a Gromacs table, not "
                f"{line.strip()[:60]!r}."
            )
        rows.append(row)
        numbers.append(number)
    if not rows:
        raise InputError(f"{path}: holds no numbers.")
    return rows, numbers

"""Tables of an equation of state: pressures at densities."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...units import BAR
from ..beads import first_line


@dataclass(frozen=True)
class StateTable:
    """Pressures at densities, at one temperature.

    Arguments:
        path: where it was read from.
        densities: (states,) beads per nm³, rising.
        pressures: (states,) kJ/mol/nm³.
        errors: (states,) standard errors of the pressures, kJ/mol/nm³; zero where none are given.
    """

    path: str
    densities: np.ndarray
    pressures: np.ndarray
    errors: np.ndarray


def read_states(path: str | os.PathLike) -> StateTable:
    """An equation of state from a text table.

    Columns are the number density in nm⁻³, the pressure in bar and, if there is a third, its standard error in bar;
    apart by blanks or commas. Lines that begin with ``#`` or ``@`` are comments, and a first line of words is a header.

    Arguments:
        path: the file.

    Raises:
        InputError: the file cannot be read, a line is not understood, a density is not positive or stands there twice.
    """
    path = os.fspath(path)
    if not Path(path).is_file():
        what = "is a folder, not a file" if Path(path).is_dir() else "there is no such file"
        raise InputError(f"{path}: {what}.")
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}).") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words or words[0].startswith("@"):
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            if not rows:
                continue
            row = []
        if len(row) not in (2, 3) or not np.isfinite(row).all():
            raise InputError(
                f"{path}, line {number}: expected a density (nm⁻³), a pressure (bar) and perhaps its error (bar), not "
                f"{line.strip()[:60]!r}."
            )
        if row[0] <= 0 or (len(row) == 3 and row[2] < 0):
            raise InputError(f"{path}, line {number}: densities must be above zero, and errors not below it.")
        rows.append([*row, 0.0][:3])
    if len(rows) < 2:
        raise InputError(f"{path}: holds {len(rows)} states; an equation of state needs two or more.")
    table = np.array(sorted(rows))
    twice = np.flatnonzero(np.diff(table[:, 0]) == 0)
    if twice.size:
        raise InputError(f"{path}: the density {table[twice[0], 0]:g} nm⁻³ is there twice; give each state once.")
    return StateTable(path, table[:, 0], table[:, 1] * BAR, table[:, 2] * BAR)

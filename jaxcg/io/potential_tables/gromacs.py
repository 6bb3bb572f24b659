"""Tables of Gromacs for pairs of energy groups, ``table_A_B.xvg``."""

import os

import numpy as np

from ...errors import InputError
from ..writers import write_text
from .lines import numbers, text_lines
from .table import PairTable, checked


def write_gromacs_table(path: str | os.PathLike, table: PairTable, length: float | None = None) -> None:
    """Writes a table of seven columns: r, and potential and force (−derivative) of Coulomb, dispersion, repulsion.

    The whole potential is in the repulsion; the topology says C6 = 0, C12 = 1. Below the first row the potential goes
    on along its tangent, as in `TabulatedPair`; at r = 0 too, since Gromacs wants the table to begin there.

    Arguments:
        path: the file; it appears when it is whole.
        table: its first distance must be a whole number of steps, as Gromacs counts from zero.
        length: nm, where the file ends, zeros beyond the cutoff; Gromacs wants rvdw and table-extension. None: cutoff.

    Raises:
        ValueError: the first distance is not a whole number of steps, or the length is below the cutoff.

    Source: Gromacs manual, tabulated interaction functions.
    """
    step = (table.r[-1] - table.r[0]) / (len(table.r) - 1)
    before = round(table.r[0] / step)
    if abs(table.r[0] - before * step) > 1e-3 * step:
        raise ValueError(
            f"write_gromacs_table: the table begins at {table.r[0]:g} nm, no whole number of its steps of {step:g} nm; "
            "make it with a start that is (PairTable.of)."
        )
    after = 0 if length is None else round((length - table.r[-1]) / step)
    if after < 0:
        raise ValueError(f"write_gromacs_table: a length of {length:g} nm is below the cutoff of {table.r[-1]:g} nm.")
    r = step * np.arange(before + len(table.r) + after)
    core = table.potential[0] + table.slope[0] * (r[:before] - table.r[0])
    u = np.concatenate([core, table.potential, np.zeros(after)])
    slope = np.concatenate([np.full(before, table.slope[0]), table.slope, np.zeros(after)])
    rows = (f"{a:.10g} 0 0 0 0 {b:.15g} {-c:.15g}\n" for a, b, c in zip(r, u, slope))
    write_text(
        path, "# r Coulomb force dispersion force repulsion force; nm, kJ/mol; C6 = 0, C12 = 1\n" + "".join(rows)
    )


def read_gromacs_table(path: str | os.PathLike) -> PairTable:
    """The table of a pair of energy groups; its row at r = 0 is left out.

    Raises:
        InputError: the file cannot be read or is malformed, has Coulomb or dispersion parts, or forces that are not
            those of the energies; the message names the line.
    """
    path = os.fspath(path)
    lines, rows = [], []
    for number, line in enumerate(text_lines(path), 1):
        words = line.split("#")[0].split()
        if not words or words[0][0] in "@&;":
            continue
        row = numbers(path, number, words, 7, "the seven columns of a Gromacs table")
        if row[0] <= 0:
            continue
        if any(row[1:5]):
            raise InputError(f"{path}, line {number}: has a Coulomb or dispersion part; put all into columns 6 and 7.")
        lines.append(number)
        rows.append(row)
    values = np.asarray(rows).reshape(-1, 7)
    return checked(path, lines, values[:, 0], values[:, 5], -values[:, 6])

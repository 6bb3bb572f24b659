"""Tables of VOTCA, ``A-B.pot``: r, u and a flag."""

import os

import numpy as np
from scipy.interpolate import CubicSpline

from ..consistency.potentials import read_pair_table
from ..writers import write_text
from .table import PairTable


def write_votca_table(path: str | os.PathLike, table: PairTable) -> None:
    """Writes r (nm), u (kJ/mol) and the flag ``i`` (in range).

    Arguments:
        path: the file; it appears when it is whole.
        table: the potential.
    """
    rows = (f"{a:.10g} {b:.15g} i\n" for a, b in zip(table.r, table.potential))
    write_text(path, "".join(rows))


def read_votca_table(path: str | os.PathLike) -> PairTable:
    """A table of VOTCA, or of two or three plain columns in nm and kJ/mol, shifted to zero at its end.

    Slopes are those of the spline through the values.

    Raises:
        InputError: the file cannot be read or is malformed; the message names the line.
    """
    table = read_pair_table(path)
    return PairTable(table.r, table.u, np.asarray(CubicSpline(table.r, table.u)(table.r, 1)))

"""Tabulated pair potentials ↔ files of the engines that run them.

A `PairTable` holds r, u and du/dr in nm and kJ/mol. It is made from any pair potential, written for LAMMPS, Gromacs or
VOTCA, and read back.
"""

from .gromacs import read_gromacs_table, write_gromacs_table
from .lammps import read_lammps_tables, write_lammps_tables
from .table import PairTable
from .votca import read_votca_table, write_votca_table

__all__ = [
    "PairTable",
    "read_gromacs_table",
    "read_lammps_tables",
    "read_votca_table",
    "write_gromacs_table",
    "write_lammps_tables",
    "write_votca_table",
]

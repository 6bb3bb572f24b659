"""Mapping files and named mappings, turned into `LinearMap`s.

`load_scheme` takes a name (``"martini3"``, ``"martini2"``, ``"calpha"``, ``"com"``) or the path of a mapping file and
returns a `MappingScheme`: rules that say, residue by residue, how much of each atom goes into which bead.
"""

from .backward import read_backward
from .load import load_scheme
from .rules import MappingScheme, ResidueRule, build_map
from .simple import AtomTable
from .vermouth_mapping import read_vermouth_mapping

__all__ = [
    "AtomTable",
    "MappingScheme",
    "ResidueRule",
    "build_map",
    "load_scheme",
    "read_backward",
    "read_vermouth_mapping",
]

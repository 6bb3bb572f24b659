"""Mapping files and named mappings, turned into maps.

`build_model` makes the map of a whole all-atom system from a mapping by name (``"martini3"``, ``"martini2"``,
``"calpha"``, ``"com"``) or from a file: backward ``.map``, vermouth ``.mapping``, VOTCA XML, PyCGTOOL ``.map``,
OpenMSCG YAML, index groups, or jaxcg's own YAML (`jaxcg.mapping.formats.native` shows an example of all it says).
`load_scheme` gives the rules residue by residue that back-mapping starts from.
"""

from .backward import read_backward
from .build import build_model
from .document import AtomName, BeadRule, BondedRule, GroupRule, MappingFile, MoleculeRule, SiteRule
from .index_groups import read_index_groups, write_index_groups
from .load import format_of, load_mapping, load_scheme
from .model import Atoms, CoarseModel, Interaction
from .native import read_native, write_native
from .openmscg import read_openmscg
from .pycgtool import read_pycgtool
from .rules import MappingScheme, ResidueRule, build_map
from .simple import AtomTable
from .vermouth_mapping import Modification, read_vermouth_mapping, read_vermouth_modifications
from .votca import read_votca, write_votca

__all__ = [
    "AtomName",
    "AtomTable",
    "Atoms",
    "BeadRule",
    "BondedRule",
    "CoarseModel",
    "GroupRule",
    "Interaction",
    "MappingFile",
    "MappingScheme",
    "Modification",
    "MoleculeRule",
    "ResidueRule",
    "SiteRule",
    "build_map",
    "build_model",
    "format_of",
    "load_mapping",
    "load_scheme",
    "read_backward",
    "read_index_groups",
    "read_native",
    "read_openmscg",
    "read_pycgtool",
    "read_vermouth_mapping",
    "read_vermouth_modifications",
    "read_votca",
    "write_index_groups",
    "write_native",
    "write_votca",
]

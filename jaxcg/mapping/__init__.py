"""Forward maps x → y: what a coarse-grained configuration is, as a function of the atoms.

`LinearMap` covers centre-of-mass, centre-of-geometry and any other weighted map, with overlapping beads and atoms
in no bead; its `Fibre` is the set of all-atom configurations that share one coarse-grained image, which back-mapping
minimises on and sampling moves along. `jaxcg.mapping.formats` builds maps from mapping files.
"""

from .linear import Fibre, LinearMap

__all__ = ["Fibre", "LinearMap"]

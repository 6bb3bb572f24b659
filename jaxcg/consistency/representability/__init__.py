"""What pair potentials can and cannot do for a target: structure, forces and pressure do not ask for the same one."""

from .force_projection import ForceProjection, project_forces
from .gap import RepresentabilityGap, representability_gap
from .indeterminacy import Indeterminacy, pressure_indeterminacy
from .pair_pressure import pair_pressure

__all__ = [
    "ForceProjection",
    "Indeterminacy",
    "RepresentabilityGap",
    "pair_pressure",
    "pressure_indeterminacy",
    "project_forces",
    "representability_gap",
]

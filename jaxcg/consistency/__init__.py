"""Is a coarse-grained model right?

A model may reproduce structure and yet have the wrong pressure, or fit both and contradict an experiment. Here are the
measures: distributions of structure and how far two of them are apart, thermodynamics from strain derivatives and
fluctuations, free energies, how much of a target no pair potential can carry, and what experiments would have seen.
Every estimate comes with its error.
"""

from .representability import (
    ForceProjection,
    Indeterminacy,
    RepresentabilityGap,
    pair_pressure,
    pressure_indeterminacy,
    project_forces,
    representability_gap,
)

__all__ = [
    "ForceProjection",
    "Indeterminacy",
    "RepresentabilityGap",
    "pair_pressure",
    "pressure_indeterminacy",
    "project_forces",
    "representability_gap",
]

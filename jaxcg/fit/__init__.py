"""Potentials of coarse-grained models from what is known of the fine one.

So far one task: from a radial distribution function to the pair potential that has it, by Boltzmann inversion or by
inverse Monte Carlo. The corrections and the loop are here, the simulation is not: any function that takes a
potential to a measured g(r) will do.
"""

from .boltzmann_inversion import BoltzmannInversion
from .inverse_monte_carlo import InverseMonteCarlo, PotentialUncertainty
from .inversion import AbstractInversion, Inversion, InversionStep, Measured, invert

__all__ = [
    "AbstractInversion",
    "BoltzmannInversion",
    "InverseMonteCarlo",
    "Inversion",
    "InversionStep",
    "Measured",
    "PotentialUncertainty",
    "invert",
]

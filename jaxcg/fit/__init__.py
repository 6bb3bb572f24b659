"""Potentials of coarse-grained models from what is known of the fine one.

From forces: `ForceMatching` finds the force field, linear in its parameters, that is nearest to the forces on the
beads, and `solve_forces` says how well the data determine it. From structure: Boltzmann inversion and inverse Monte
Carlo take a radial distribution function to the pair potential that has it. The corrections and the loop are here, the
simulation is not: any function that takes a potential to a measured g(r) will do.
"""

from .boltzmann_inversion import BoltzmannInversion
from .force_matching import ForceMatching, NormalEquations, load_sums, map_frames, save_sums
from .force_solution import ForceFit, Identifiability, solve_forces
from .force_terms import AbstractForceTerm, AngleForce, BondForce, DihedralForce, PairForce, TripletForce
from .inverse_monte_carlo import InverseMonteCarlo, PotentialUncertainty
from .inversion import AbstractInversion, Inversion, InversionStep, Measured, invert
from .spline_space import SplineSpace

__all__ = [
    "AbstractForceTerm",
    "AbstractInversion",
    "AngleForce",
    "BoltzmannInversion",
    "BondForce",
    "DihedralForce",
    "ForceFit",
    "ForceMatching",
    "Identifiability",
    "InverseMonteCarlo",
    "Inversion",
    "InversionStep",
    "Measured",
    "NormalEquations",
    "PairForce",
    "PotentialUncertainty",
    "SplineSpace",
    "TripletForce",
    "invert",
    "load_sums",
    "map_frames",
    "save_sums",
    "solve_forces",
]

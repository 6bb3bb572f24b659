"""Potentials of coarse-grained models from what is known of the fine one.

From forces: `ForceMatching` finds the force field, linear in its parameters, that is nearest to the forces on the
beads, and `solve_forces` says how well the data determine it; `match_forces` fits any other energy by gradient. From
ensembles: `fit_ensemble` with `RelativeEntropy` or `Reweighting` fits any parameters of any energy to frames, or to
averages over them, under constraints such as a pressure. From structure: Boltzmann inversion and inverse Monte Carlo
take a radial distribution function to the pair potential that has it. The corrections and the loops are here, the
simulation is a function of yours; `FluidSampling` is one.
"""

from .boltzmann_inversion import BoltzmannInversion
from .ensemble import AbstractEnsembleFit, EnsembleFit, FitStep, FluidSampling, fit_ensemble
from .force_gradient import ForceDescent, match_forces
from .force_matching import ForceMatching, NormalEquations, load_sums, map_frames, save_sums
from .force_solution import ForceFit, Identifiability, solve_forces
from .force_terms import AbstractForceTerm, AngleForce, BondForce, DihedralForce, PairForce, TripletForce
from .inverse_monte_carlo import InverseMonteCarlo, PotentialUncertainty
from .inversion import AbstractInversion, Inversion, InversionStep, Measured, invert
from .relative_entropy import RelativeEntropy
from .reweighting import Reweighted, Reweighting, reweighted_loss
from .spline_space import SplineSpace
from .targets import (
    Frames,
    ObservableTarget,
    compressibility_target,
    parameter_vector,
    pressure_target,
    with_parameters,
)

__all__ = [
    "AbstractEnsembleFit",
    "AbstractForceTerm",
    "AbstractInversion",
    "AngleForce",
    "BoltzmannInversion",
    "BondForce",
    "DihedralForce",
    "EnsembleFit",
    "FitStep",
    "FluidSampling",
    "ForceDescent",
    "ForceFit",
    "ForceMatching",
    "Frames",
    "Identifiability",
    "InverseMonteCarlo",
    "Inversion",
    "InversionStep",
    "Measured",
    "NormalEquations",
    "ObservableTarget",
    "PairForce",
    "PotentialUncertainty",
    "RelativeEntropy",
    "Reweighted",
    "Reweighting",
    "SplineSpace",
    "TripletForce",
    "compressibility_target",
    "fit_ensemble",
    "invert",
    "load_sums",
    "map_frames",
    "match_forces",
    "parameter_vector",
    "pressure_target",
    "reweighted_loss",
    "save_sums",
    "solve_forces",
    "with_parameters",
]

"""Samples of the posterior p(x|y): on the exact fibre {x : M(x) = y}, or in all space for the soft likelihood.

Kernels (`HMC`, `Langevin`) share the interface of `jaxcg.run.AbstractKernel` and are driven by `jaxcg.run.run`;
`Chains` makes many of one. `sample` is the whole way from minima to an ensemble with its diagnostics.
"""

from ..chains import Chains
from .adaptation.burn_in import BurnIn, burn_in
from .adaptation.curvature import bonded_stiffness, mean_hessian
from .adaptation.heavy_hydrogens import heavy_hydrogen_masses
from .adaptation.metric import covariance_geometry, stiffness_geometry, variance_geometry
from .adaptation.moments import Moments
from .adaptation.step_size import AdaptiveChains, DualAveraging
from .adaptation.trajectory_length import SelfTuningChains, SelfTuningState
from .adaptation.warm_up import WarmUp, warm_up
from .campaign.campaign import Campaign
from .campaign.frames import frames_of_this_process, sample_frames
from .campaign.samples import FrameSamples
from .campaign.settings import SamplingSettings
from .diagnostics.convergence import (
    Convergence,
    bulk_effective_sample_size,
    circular_convergence,
    convergence,
    mean_effective_sample_size,
    mean_standard_error,
    quantile_effective_sample_size,
    quantile_standard_error,
    rank_normalised_r_hat,
    sd_effective_sample_size,
    sd_standard_error,
    tail_effective_sample_size,
)
from .diagnostics.energy import SamplerHealth, energy_fraction, sampler_health
from .diagnostics.rotamers import TorsionMixing, torsion_mixing
from .diagnostics.torsions import Torsions, find_torsions
from .diagnostics.typical_set import TypicalSet, typical_set
from .diagnostics.verdict import Diagnosis, assess
from .ensemble import EnsembleResult, sample
from .estimators.expectation import expectation
from .estimators.gradients import bead_gradient, parameter_gradient, temperature_gradient
from .estimators.lifts import AbstractLift, CurvedLift, LinearLift
from .estimators.map_sensitivity import MapResponse, differentiable_map, map_response, newton_map
from .estimators.mean_force import MeanForce, mean_force
from .estimators.monte_carlo import Estimate
from .estimators.reweighting import Reweighted, differentiable_expectation, reweight
from .estimators.tangent_solver import TangentSolver
from .geometry import AbstractGeometry, ConstrainedGeometry, LinearGeometry, check_start
from .geometry.atom_blocks import AtomBlocks
from .geometry.blocks import BlockGeometry
from .kernels.generalized_hmc import GeneralizedHMC, GeneralizedHMCState
from .kernels.hmc import HMC, HMCInfo, HMCState
from .kernels.langevin import Heating, Langevin, LangevinInfo, LangevinState
from .tempering.exchange import ExchangeInfo, ExchangeState, ReplicaExchange
from .tempering.ladder import Ladder, place_rungs, round_trips
from .tempering.sample import TemperedResult, tempered_sample
from .tempering.switching import SwitchingHMC, SwitchingInfo
from .tempering.tune import TunedLadder, tune_ladder

__all__ = [
    "HMC",
    "AbstractGeometry",
    "AbstractLift",
    "AdaptiveChains",
    "AtomBlocks",
    "BlockGeometry",
    "BurnIn",
    "Campaign",
    "Chains",
    "ConstrainedGeometry",
    "Convergence",
    "CurvedLift",
    "Diagnosis",
    "DualAveraging",
    "EnsembleResult",
    "Estimate",
    "ExchangeInfo",
    "ExchangeState",
    "FrameSamples",
    "GeneralizedHMC",
    "GeneralizedHMCState",
    "HMCInfo",
    "HMCState",
    "Heating",
    "Ladder",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "LinearGeometry",
    "LinearLift",
    "MapResponse",
    "MeanForce",
    "Moments",
    "ReplicaExchange",
    "Reweighted",
    "SamplerHealth",
    "SamplingSettings",
    "SelfTuningChains",
    "SelfTuningState",
    "SwitchingHMC",
    "SwitchingInfo",
    "TangentSolver",
    "TemperedResult",
    "TorsionMixing",
    "Torsions",
    "TunedLadder",
    "TypicalSet",
    "WarmUp",
    "assess",
    "bead_gradient",
    "bonded_stiffness",
    "bulk_effective_sample_size",
    "burn_in",
    "check_start",
    "circular_convergence",
    "convergence",
    "covariance_geometry",
    "differentiable_expectation",
    "differentiable_map",
    "energy_fraction",
    "expectation",
    "find_torsions",
    "frames_of_this_process",
    "heavy_hydrogen_masses",
    "map_response",
    "mean_effective_sample_size",
    "mean_force",
    "mean_hessian",
    "mean_standard_error",
    "newton_map",
    "parameter_gradient",
    "place_rungs",
    "quantile_effective_sample_size",
    "quantile_standard_error",
    "rank_normalised_r_hat",
    "reweight",
    "round_trips",
    "sample",
    "sample_frames",
    "sampler_health",
    "sd_effective_sample_size",
    "sd_standard_error",
    "stiffness_geometry",
    "tail_effective_sample_size",
    "temperature_gradient",
    "tempered_sample",
    "torsion_mixing",
    "tune_ladder",
    "typical_set",
    "variance_geometry",
    "warm_up",
]

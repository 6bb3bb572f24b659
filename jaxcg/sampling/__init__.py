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
from .geometry import AbstractGeometry, ConstrainedGeometry, LinearGeometry, check_start
from .geometry.atom_blocks import AtomBlocks
from .geometry.blocks import BlockGeometry
from .kernels.generalized_hmc import GeneralizedHMC, GeneralizedHMCState
from .kernels.hmc import HMC, HMCInfo, HMCState
from .kernels.langevin import Heating, Langevin, LangevinInfo, LangevinState

__all__ = [
    "HMC",
    "AbstractGeometry",
    "AdaptiveChains",
    "AtomBlocks",
    "BlockGeometry",
    "BurnIn",
    "Chains",
    "ConstrainedGeometry",
    "Convergence",
    "Diagnosis",
    "DualAveraging",
    "EnsembleResult",
    "GeneralizedHMC",
    "GeneralizedHMCState",
    "HMCInfo",
    "HMCState",
    "Heating",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "LinearGeometry",
    "Moments",
    "SamplerHealth",
    "SelfTuningChains",
    "SelfTuningState",
    "TorsionMixing",
    "Torsions",
    "TypicalSet",
    "WarmUp",
    "assess",
    "bonded_stiffness",
    "bulk_effective_sample_size",
    "burn_in",
    "check_start",
    "circular_convergence",
    "convergence",
    "covariance_geometry",
    "energy_fraction",
    "find_torsions",
    "heavy_hydrogen_masses",
    "mean_effective_sample_size",
    "mean_hessian",
    "mean_standard_error",
    "quantile_effective_sample_size",
    "quantile_standard_error",
    "rank_normalised_r_hat",
    "sample",
    "sampler_health",
    "sd_effective_sample_size",
    "sd_standard_error",
    "stiffness_geometry",
    "tail_effective_sample_size",
    "torsion_mixing",
    "typical_set",
    "variance_geometry",
    "warm_up",
]

"""Samples of the posterior p(x|y): on the exact fibre {x : M(x) = y}, or in all space for the soft likelihood.

Kernels (`HMC`, `Langevin`) share the interface of `jaxcg.run.AbstractKernel` and are driven by `jaxcg.run.run`;
`Chains` makes many of one. `sample` is the whole way from minima to an ensemble with its diagnostics.
"""

from ..chains import Chains
from .adaptation.heavy_hydrogens import heavy_hydrogen_masses
from .adaptation.step_size import AdaptiveChains, DualAveraging, burn_in
from .diagnostics.convergence import bulk_effective_sample_size, mean_effective_sample_size, rank_normalised_r_hat
from .ensemble import EnsembleResult, sample
from .geometry import AbstractGeometry, LinearGeometry
from .kernels.hmc import HMC, HMCInfo, HMCState
from .kernels.langevin import Heating, Langevin, LangevinInfo, LangevinState

__all__ = [
    "HMC",
    "AbstractGeometry",
    "AdaptiveChains",
    "Chains",
    "DualAveraging",
    "EnsembleResult",
    "HMCInfo",
    "HMCState",
    "Heating",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "LinearGeometry",
    "bulk_effective_sample_size",
    "burn_in",
    "heavy_hydrogen_masses",
    "mean_effective_sample_size",
    "rank_normalised_r_hat",
    "sample",
]

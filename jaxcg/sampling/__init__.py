"""Samples of the posterior p(x|y): on the exact fibre {x : M(x) = y}, or in all space for the soft likelihood.

Kernels (`HMC`, `Langevin`) share the interface of `jaxcg.run.AbstractKernel` and are driven by `jaxcg.run.run`;
`Chains` makes many of one. `sample` is the whole way from minima to an ensemble with its diagnostics.
"""

from ..chains import Chains
from .adaptation import AdaptiveChains, DualAveraging, burn_in
from .diagnostics import bulk_effective_sample_size, mean_effective_sample_size, rank_normalised_r_hat
from .ensemble import EnsembleResult, sample
from .geometry import Geometry
from .hmc import HMC, HMCInfo, HMCState
from .langevin import Heating, Langevin, LangevinInfo, LangevinState
from .masses import heavy_hydrogen_masses

__all__ = [
    "HMC",
    "AdaptiveChains",
    "Chains",
    "DualAveraging",
    "EnsembleResult",
    "Geometry",
    "HMCInfo",
    "HMCState",
    "Heating",
    "Langevin",
    "LangevinInfo",
    "LangevinState",
    "bulk_effective_sample_size",
    "burn_in",
    "heavy_hydrogen_masses",
    "mean_effective_sample_size",
    "rank_normalised_r_hat",
    "sample",
]

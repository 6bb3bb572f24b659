"""Free energies and their errors: profiles from mean forces and umbrella sampling, differences between states.

Signs: W(ξ) = −kT ln p(ξ), forces are −dW/dξ, and a difference is that of the second state less the first.
"""

from .acceptance_ratio import bennett_acceptance_ratio, posterior_free_energy_difference
from .bias import HarmonicUmbrella, harmonic_biases
from .comparison import normalised_free_energy_difference, profile_deviation
from .coordinate_map import CoordinateMap
from .differentiable import differentiable_free_energies
from .mean_force_profile import (
    integrated_profile,
    integration_matrix,
    mean_force_profile,
    path_profile,
    thermodynamic_integration,
)
from .multistate import Multistate, multistate_free_energies
from .profile import FreeEnergyProfile
from .umbrella import umbrella_profile

__all__ = [
    "CoordinateMap",
    "FreeEnergyProfile",
    "HarmonicUmbrella",
    "Multistate",
    "bennett_acceptance_ratio",
    "differentiable_free_energies",
    "harmonic_biases",
    "integrated_profile",
    "integration_matrix",
    "mean_force_profile",
    "multistate_free_energies",
    "normalised_free_energy_difference",
    "path_profile",
    "posterior_free_energy_difference",
    "profile_deviation",
    "thermodynamic_integration",
    "umbrella_profile",
]

"""What experiments would have seen: scattering, NMR, EPR and FRET of an ensemble, its agreement with data, reweighting.

Every observable is a module that takes the positions of one configuration (atoms, 3) and returns an array: JAX
differentiates it, `ensemble_average` averages it over frames with errors, `compare_with_data` gives χ² with its error,
and `reweight_to_data` the weights of maximum entropy.
"""

from .agreement import Agreement, chi_squared, compare_with_data, deviations, scale_and_background
from .atomic_scattering import (
    DISPLACED_VOLUMES,
    HEAVY_WATER_LENGTH_DENSITY,
    WATER_ELECTRON_DENSITY,
    WATER_LENGTH_DENSITY,
    displaced_volume,
    form_factor,
    scattering_length,
)
from .distances import (
    DistanceDistribution,
    FretEfficiency,
    LabelDistances,
    ParamagneticRelaxation,
    dipolar_kernel,
    dipolar_signal,
    intensity_ratio,
)
from .ensemble import ensemble_average, function_of_averages, observe
from .j_couplings import KARPLUS, Karplus, ScalarCouplings
from .noe import NuclearOverhauserRates, noe_average, noe_distance
from .reweighting import (
    CollapsedWeights,
    ConfidenceCurve,
    ReweightedEnsemble,
    confidence_curve,
    maximum_entropy_weights,
    reweight_to_data,
    reweighted_average,
)
from .scattering import ScatteringProfile, bead_amplitudes, neutron_profile, xray_profile
from .size import SquaredRadiusOfGyration, guinier_fit

__all__ = [
    "DISPLACED_VOLUMES",
    "HEAVY_WATER_LENGTH_DENSITY",
    "KARPLUS",
    "WATER_ELECTRON_DENSITY",
    "WATER_LENGTH_DENSITY",
    "Agreement",
    "CollapsedWeights",
    "ConfidenceCurve",
    "DistanceDistribution",
    "FretEfficiency",
    "Karplus",
    "LabelDistances",
    "NuclearOverhauserRates",
    "ParamagneticRelaxation",
    "ReweightedEnsemble",
    "ScalarCouplings",
    "ScatteringProfile",
    "SquaredRadiusOfGyration",
    "bead_amplitudes",
    "chi_squared",
    "compare_with_data",
    "confidence_curve",
    "deviations",
    "dipolar_kernel",
    "dipolar_signal",
    "displaced_volume",
    "ensemble_average",
    "form_factor",
    "function_of_averages",
    "guinier_fit",
    "intensity_ratio",
    "maximum_entropy_weights",
    "neutron_profile",
    "noe_average",
    "noe_distance",
    "observe",
    "reweight_to_data",
    "reweighted_average",
    "scale_and_background",
    "scattering_length",
    "xray_profile",
]

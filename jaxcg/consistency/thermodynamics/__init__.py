"""Thermodynamics of a model: pressure, stress, equation of state, compressibility, heat capacity, surface tension.

The virial of any energy is its derivative by the strain of the box, so many-body terms need no formulas of their own.
`simulate_fluid` makes the frames, `frame_pressures` the pressure of each term in every frame, and averages have errors.
"""

from .compressibility import (
    VolumeDerivatives,
    compressibility_from_structure,
    compressibility_from_virial,
    compressibility_from_volume,
    frame_volume_derivatives,
    volume_derivatives,
)
from .equation_of_state import (
    AbstractEquationOfState,
    Isotherm,
    TabulatedEquationOfState,
    VirialEquationOfState,
    integrated_squared_difference,
    simulate_isotherm,
)
from .fluid import Barostat, FluidRun, simulate_fluid
from .heat_capacity import heat_capacity, heat_capacity_at_constant_pressure, thermal_expansion
from .molecules import Molecules
from .pressure import MeanPressure, frame_pressures, mean_pressure, tail_pressures
from .stress import (
    PressureTensor,
    box_volume,
    kinetic_tensor,
    pressure_tensor,
    strain_derivative,
    to_bar,
    virial_by_term,
)
from .surface_tension import surface_tension

__all__ = [
    "AbstractEquationOfState",
    "Barostat",
    "FluidRun",
    "Isotherm",
    "MeanPressure",
    "Molecules",
    "PressureTensor",
    "TabulatedEquationOfState",
    "VirialEquationOfState",
    "VolumeDerivatives",
    "box_volume",
    "compressibility_from_structure",
    "compressibility_from_virial",
    "compressibility_from_volume",
    "frame_pressures",
    "frame_volume_derivatives",
    "heat_capacity",
    "heat_capacity_at_constant_pressure",
    "integrated_squared_difference",
    "kinetic_tensor",
    "mean_pressure",
    "pressure_tensor",
    "simulate_fluid",
    "simulate_isotherm",
    "strain_derivative",
    "surface_tension",
    "tail_pressures",
    "thermal_expansion",
    "to_bar",
    "virial_by_term",
    "volume_derivatives",
]

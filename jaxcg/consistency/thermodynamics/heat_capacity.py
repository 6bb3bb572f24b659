"""Heat capacities and expansion from fluctuations, with errors. Per mole of systems (boxes): kJ/mol/K."""

import numpy as np

from ...typing import Array, Float
from ...units import GAS_CONSTANT
from ..statistics import Estimate
from ._functions import function_of_averages

Series = Float[Array | np.ndarray, " frames"]


def heat_capacity(potential: Series, temperature: float, degrees_of_freedom: int) -> Estimate:
    """C_V = f R/2 + Var(U)/(R T²) of a run at constant volume.

    The kinetic part is exact in classical mechanics, so only the potential energy has to fluctuate.

    Arguments:
        potential: (frames,) potential energy U, kJ/mol, in the order of time.
        temperature: K.
        degrees_of_freedom: f, 3 for each free atom.

    Returns:
        kJ/mol/K for the whole system: divide by the number of molecules.
    """
    ideal = 0.5 * degrees_of_freedom * GAS_CONSTANT
    return _shifted(_variance(np.asarray(potential, np.float64)), ideal, 1 / (GAS_CONSTANT * temperature**2))


def heat_capacity_at_constant_pressure(
    potential: Series, volumes: Series, pressure: float, temperature: float, degrees_of_freedom: int
) -> Estimate:
    """C_p = f R/2 + Var(U + pV)/(R T²) of a run at constant pressure p.

    Arguments:
        potential: (frames,) kJ/mol, in the order of time.
        volumes: (frames,) nm³.
        pressure: of the barostat, kJ/mol/nm³.
        temperature: K.
        degrees_of_freedom: f.

    Returns:
        kJ/mol/K for the whole system.
    """
    enthalpy = np.asarray(potential, np.float64) + pressure * np.asarray(volumes, np.float64)
    ideal = 0.5 * degrees_of_freedom * GAS_CONSTANT
    return _shifted(_variance(enthalpy), ideal, 1 / (GAS_CONSTANT * temperature**2))


def thermal_expansion(potential: Series, volumes: Series, pressure: float, temperature: float) -> Estimate:
    """α = (1/V)(∂V/∂T)_p = Cov(V, U + pV)/(R T² ⟨V⟩) of a run at constant pressure, 1/K.

    Arguments:
        potential: (frames,) kJ/mol, in the order of time.
        volumes: (frames,) nm³.
        pressure: of the barostat, kJ/mol/nm³.
        temperature: K.
    """
    volumes = np.asarray(volumes, np.float64)
    enthalpy = np.asarray(potential, np.float64) + pressure * volumes
    v0, h0 = volumes.mean(), enthalpy.mean()

    def expansion(averages):
        volume, enthalpy, product = averages
        return (product - (volume - v0) * (enthalpy - h0)) / (GAS_CONSTANT * temperature**2 * volume)

    return function_of_averages(expansion, (volumes, enthalpy, (volumes - v0) * (enthalpy - h0)))


def _variance(series: np.ndarray) -> Estimate:
    middle = series.mean()

    def variance(averages):
        mean, square = averages
        return square - (mean - middle) ** 2

    return function_of_averages(variance, (series, (series - middle) ** 2))


def _shifted(estimate: Estimate, offset: float, factor: float) -> Estimate:
    value, error, size = estimate
    return Estimate(offset + factor * value, factor * error, size)

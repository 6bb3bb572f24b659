"""How far the free energies of a model are from those of its reference."""

import numpy as np

from ...units import GAS_CONSTANT
from ..statistics import Estimate
from .profile import FreeEnergyProfile, cell_widths

#: Standard errors by which a free-energy difference must be away from zero to be divided by.
_SIGNIFICANT = 3.0


def normalised_free_energy_difference(
    model: Estimate, reference: Estimate, *, temperature: float | None = None
) -> Estimate:
    """(ΔF_model − ΔF_reference)/|ΔF_reference|: by what share the model is wrong about a free-energy difference.

    Zero for a model that is right, positive where its difference is larger. The same two states are meant on both sides
    (two basins, two coarse-grained configurations, two phases). Near ΔF_reference = 0 the share means nothing; give a
    temperature then, and the error of the model comes in units of kT.

    Arguments:
        model, reference: ΔF of both, one unit, independent of each other.
        temperature: K, to divide by kT (ΔF in kJ/mol) in place of |ΔF_reference|.

    Returns:
        The normalised difference with its standard error (to first order), no unit.

    Raises:
        ValueError: the reference is not three standard errors away from zero and no temperature is given.
    """
    m, r = float(model.value), float(reference.value)
    if temperature is not None:
        thermal = GAS_CONSTANT * temperature
        return Estimate((m - r) / thermal, float(np.hypot(model.error, reference.error)) / thermal)
    if not abs(r) > _SIGNIFICANT * float(reference.error):
        raise ValueError(
            f"normalised_free_energy_difference: the reference, {reference}, is not to be told from zero, and a share "
            "of it means nothing; give the temperature, to compare in units of kT."
        )
    return Estimate((m - r) / abs(r), float(np.hypot(model.error, m / r * reference.error)) / abs(r))


def profile_deviation(model: FreeEnergyProfile, reference: FreeEnergyProfile) -> Estimate:
    """The mean square of (W_model − W_reference)/kT over the reference ensemble, the best constant taken off.

    One number for two profiles: zero if they agree, one where the model is wrong by kT where it matters. What the
    scatter of the profiles adds on average is subtracted, so that for equal ones it is zero within its error, and may
    be negative. Twice the Kullback–Leibler divergence of either from the other, to leading order.

    Arguments:
        model, reference: at the same positions and temperature; points where either has no sample are left out.

    Returns:
        The mean square, no unit, with its standard error, terms of second order in the scatter included.

    Raises:
        ValueError: profiles at other positions or temperatures, or that share no two points.
    """
    if not np.array_equal(model.positions, reference.positions) or model.temperature != reference.temperature:
        raise ValueError("profile_deviation: the profiles must be at the same positions and the same temperature.")
    both = np.isfinite(model.value) & np.isfinite(reference.value)
    if both.sum() < 2:
        raise ValueError("profile_deviation: the profiles share fewer than two points with samples.")
    kT, block = reference.thermal_energy, np.ix_(both, both)
    w = reference.value[both] / kT
    p = cell_widths(reference.positions)[both] * np.exp(w.min() - w)
    p /= p.sum()
    apart = model.value[both] / kT - w
    apart -= p @ apart
    square = p @ apart**2
    own, other = (each.covariance[block] / kT**2 for each in (model, reference))
    # d of the mean square: by the difference, and for the reference by the weights too.
    by_model = 2 * p * apart
    by_reference = -by_model - p * (apart**2 - square)
    centring = np.diag(p) - np.outer(p, p)
    noise = centring @ (own + other)
    linear = by_model @ own @ by_model + by_reference @ other @ by_reference
    # The slopes are those of the scattered profiles: twice the second order is in the linear term already.
    quadratic = 2 * np.trace(noise @ noise)
    variance = max(linear - quadratic, quadratic)
    return Estimate(float(square - np.trace(noise)), float(np.sqrt(variance)))

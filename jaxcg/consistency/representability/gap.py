"""Whether the pair potential that has a target's g(r) has its pressure too."""

from typing import NamedTuple

import numpy as np

from ...units import BAR, GAS_CONSTANT
from ..statistics import Estimate


class RepresentabilityGap(NamedTuple):
    """Result of `representability_gap`.

    Fields:
        gap: target − pair, kJ/mol/nm³: the pressure, and so the virial per three volumes, that no pair potential with
            the target's g(r) carries.
        reduced: gap/(ρkT), in units of the ideal gas.
        indeterminacy: standard deviation of the pressure that the errors of g(r) leave open, kJ/mol/nm³.
        representable: False where the gap is beyond three standard deviations of everything that is uncertain, and
            beyond the tolerance; True where three of them and the gap together are within the tolerance; None where
            the data do not tell.
        words: the same in one sentence, in bar.
    """

    gap: Estimate
    reduced: Estimate
    indeterminacy: float
    representable: bool | None
    words: str


def representability_gap(
    target: Estimate,
    pair: Estimate,
    *,
    density: float,
    temperature: float,
    indeterminacy: float = 0.0,
    tolerance: float | None = None,
) -> RepresentabilityGap:
    """How much of a target's virial no pair potential with its g(r) can carry.

    By Henderson's theorem one pair potential at most has a given g(r) at a given density and temperature, and all that
    pair forces have to do with the pressure goes through g(r) (`pair_pressure`). So what lies between the target's
    pressure and that of this potential cannot be had by a better pair potential, only by many-body or volume-dependent
    terms, or at the expense of g(r). The kinetic parts are equal and drop out.

    Arguments:
        target: pressure of the target with its many-body forces, kJ/mol/nm³.
        pair: pressure of the pair potential that has the target's g(r), at the same density and temperature.
        density: number density ρ, nm⁻³.
        temperature: K.
        indeterminacy: standard deviation of the pressure that the errors of g(r) leave open, of
            `pressure_indeterminacy`; it counts with the errors.
        tolerance: largest gap that is accepted, kJ/mol/nm³; a tenth of ρkT if None.

    Returns:
        The `RepresentabilityGap`.

    Raises:
        ValueError: a pressure is not finite, or density, temperature or tolerance is not positive.

    Source: Henderson, Phys. Lett. A 49, 197 (1974); Louis, J. Phys.: Condens. Matter 14, 9187 (2002); Johnson,
    Head-Gordon & Louis, J. Chem. Phys. 126, 144509 (2007).
    """
    ideal = density * GAS_CONSTANT * temperature
    tolerance = 0.1 * ideal if tolerance is None else tolerance
    if not (density > 0 and temperature > 0 and tolerance > 0 and indeterminacy >= 0):
        raise ValueError("representability_gap: density, temperature and tolerance must be positive.")
    value, error = float(target.value - pair.value), float(np.hypot(target.error, pair.error))
    if not (np.isfinite(value) and np.isfinite(error)):
        raise ValueError(f"representability_gap: pressures {target} and {pair} are not finite; give longer runs.")
    spread = float(np.hypot(error, indeterminacy))
    representable = None
    if abs(value) > max(3 * spread, tolerance):
        representable = False
    elif abs(value) + 3 * spread <= tolerance:
        representable = True
    said = {
        False: "no pair potential with the target's g(r) has its pressure",
        True: "a pair potential has both the target's g(r) and its pressure",
        None: "the data do not tell whether a pair potential has both the target's g(r) and its pressure",
    }[representable]
    words = (
        f"{said}: the target has {target.value / BAR:.0f} ± {target.error / BAR:.0f} bar, the pair potential "
        f"{pair.value / BAR:.0f} ± {pair.error / BAR:.0f} bar, and the errors of g(r) leave {indeterminacy / BAR:.0f} "
        "bar open"
    )
    gap = Estimate(value, error)
    return RepresentabilityGap(gap, Estimate(value / ideal, error / ideal), indeterminacy, representable, words)

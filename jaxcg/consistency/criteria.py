"""The verdicts: structurally consistent? thermodynamically consistent? representable by pairs?

A model always differs from its reference if one only looks long enough; the question is whether it differs by more than
matters, and whether the data tell. So each number is held with its confidence interval against a tolerance: *yes* if
the interval lies within the tolerance, *no* if it lies outside, *undecided* if it reaches across, with how much more
data would decide.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ..units import BAR
from .statistics import BootstrapEstimate, DistributionComparison, Estimate

Answer = Literal["yes", "no", "undecided", "not tested"]

#: Jensen–Shannon divergence (nats) up to which distributions count as equal: that of two normal distributions whose
#: means are 0.28 standard deviations apart, or whose widths differ by a quarter.
SAME_DISTRIBUTION = 0.01
#: ∫|Δg| dr / ∫g dr up to which radial distribution functions count as equal.
SAME_CURVE = 0.05
#: Pressure difference up to which two models count as equal: at the compressibility of water half a percent of density.
SAME_PRESSURE = 100 * BAR
#: Change of density, as a share, that a pressure difference may make where the compressibility is known.
SAME_DENSITY = 0.01


@dataclass(frozen=True)
class Finding:
    """One number against its tolerance.

    Fields:
        name: what was measured.
        value, lower, upper: with the ends of its confidence interval; differences are model − reference.
        tolerance: largest size that is accepted, same unit.
        unit: of all of them.
        answer: "yes" within the tolerance, "no" beyond it, or "undecided".
        words: the same in a sentence.
    """

    name: str
    value: float
    lower: float
    upper: float
    tolerance: float
    unit: str
    answer: Answer
    words: str


@dataclass(frozen=True)
class Criterion:
    """One question about the model, with its findings.

    Fields:
        question: e.g. "structurally consistent?".
        answer: "no" if one finding says so, else "undecided" if one does, else "yes"; "not tested" without findings.
        words: the answer in a sentence, with the number that decides it.
        findings: the worst first.
    """

    question: str
    answer: Answer
    words: str
    findings: tuple[Finding, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain lists and numbers, for JSON; None where a number is not finite."""
        plain = asdict(self)
        plain["findings"] = [
            {k: v if not isinstance(v, float) or np.isfinite(v) else None for k, v in each.items()}
            for each in plain["findings"]
        ]
        return plain


def finding(name: str, value: float, lower: float, upper: float, tolerance: float, unit: str = "") -> Finding:
    """A number with its confidence interval against a tolerance on its size.

    Arguments:
        name: what was measured.
        value: the number; a distance, or a difference model − reference.
        lower: lower end of its interval.
        upper: upper end.
        tolerance: largest size accepted, positive.
        unit: of all of them.

    Raises:
        ValueError: the tolerance is not positive, or the ends are not in order.
    """
    value, lower, upper, tolerance = float(value), float(lower), float(upper), float(tolerance)
    if not tolerance > 0:
        raise ValueError(f"{name}: tolerance {tolerance:g} must be positive.")
    if lower > upper:
        raise ValueError(f"{name}: interval from {lower:g} to {upper:g} is not in order.")
    shown = f"{name} {value:.3g}{_spaced(unit)}, {lower:.3g} to {upper:.3g}, tolerance {tolerance:.3g}"
    if not np.isfinite([lower, upper]).all():
        return Finding(
            name, value, lower, upper, tolerance, unit, "undecided", f"{shown}: too few data for an interval"
        )
    nearest = 0.0 if lower <= 0 <= upper else min(abs(lower), abs(upper))
    if max(abs(lower), abs(upper)) <= tolerance:
        return Finding(name, value, lower, upper, tolerance, unit, "yes", f"{shown}: within")
    if nearest > tolerance:
        times = abs(value) / tolerance
        return Finding(name, value, lower, upper, tolerance, unit, "no", f"{shown}: {times:.2g} times the tolerance")
    # The interval must shrink until its nearer end leaves the tolerance's edge.
    gap = abs(tolerance - abs(value))
    factor = ((upper - lower) / 2 / gap) ** 2 if gap > 0 else np.inf
    more = f"about {max(factor, 1.1):.2g} times the data would decide" if factor < 1e3 else "more data hardly decide it"
    return Finding(name, value, lower, upper, tolerance, unit, "undecided", f"{shown}: across it; {more}")


def criterion(question: str, findings: Sequence[Finding]) -> Criterion:
    """The answer that follows from findings.

    Arguments:
        question: e.g. "structurally consistent?".
        findings: in any order.
    """
    if not findings:
        return Criterion(question, "not tested", "not tested: nothing to compare was given", ())
    rank = {"no": 2, "undecided": 1, "yes": 0, "not tested": 0}
    worst_first = sorted(findings, key=lambda each: (-rank[each.answer], -_share_of_tolerance(each)))
    answer = worst_first[0].answer
    same = sum(each.answer == answer for each in findings)
    return Criterion(
        question, answer, f"{answer} ({same} of {len(findings)}): {worst_first[0].words}", tuple(worst_first)
    )


def structural_consistency(
    distributions: Sequence[DistributionComparison],
    curves: Mapping[str, BootstrapEstimate] | None = None,
    *,
    tolerance: float = SAME_DISTRIBUTION,
    curve_tolerance: float = SAME_CURVE,
) -> Criterion:
    """Does the model have the reference's structure?

    Arguments:
        distributions: of bonds, angles, dihedrals, ...; judged by their Jensen–Shannon divergence.
        curves: name → relative area between radial distribution functions, of `curve_difference`.
        tolerance: largest Jensen–Shannon divergence accepted, nats.
        curve_tolerance: largest relative area accepted.
    """
    found = []
    for each in distributions:
        apart = each["Jensen–Shannon"]
        found.append(
            finding(
                f"Jensen–Shannon divergence of {each.name}", apart.value, apart.lower, apart.upper, tolerance, "nats"
            )
        )
    for name, area in (curves or {}).items():
        # An area is not negative, whatever the interval says near zero.
        ends = max(float(area.value - area.bias), 0.0), max(float(area.lower), 0.0), max(float(area.upper), 0.0)
        found.append(finding(f"relative area between the curves of {name}", *ends, curve_tolerance))
    return criterion("structurally consistent?", found)


def thermodynamic_consistency(
    pressures: Mapping[str, tuple[Estimate, Estimate]] | None = None,
    free_energies: Mapping[str, Estimate] | None = None,
    *,
    thermal_energy: float | None = None,
    compressibility: float | None = None,
    tolerance: float | None = None,
    level: float = 0.95,
) -> Criterion:
    """Does the model have the reference's pressures and free energies?

    Arguments:
        pressures: state, e.g. "997 kg/m³, 298 K" → pressures of reference and model, kJ/mol/nm³.
        free_energies: name → difference of a free energy, model − reference, kJ/mol; judged against kT.
        thermal_energy: kT in kJ/mol, needed with free energies.
        compressibility: isothermal, of the reference, nm³ mol/kJ: the tolerance is then the pressure that changes the
            density by one percent.
        tolerance: largest pressure difference accepted, kJ/mol/nm³; None: by the compressibility, or 100 bar.
        level: of the intervals.

    Raises:
        ValueError: free energies without the thermal energy; a tolerance or compressibility that is not positive.
    """
    if tolerance is None:
        if compressibility is not None and not compressibility > 0:
            raise ValueError(f"thermodynamic_consistency: compressibility {compressibility} must be positive.")
        tolerance = SAME_PRESSURE if compressibility is None else SAME_DENSITY / compressibility
    found = []
    for state, (reference, model) in (pressures or {}).items():
        found.append(_difference(f"pressure at {state}, model − reference,", reference, model, tolerance, level))
    for name, apart in (free_energies or {}).items():
        if thermal_energy is None:
            raise ValueError("thermodynamic_consistency: free energies are judged against kT; give thermal_energy.")
        lower, upper = apart.interval(level)
        label = f"free energy of {name}, model − reference,"
        found.append(finding(label, float(apart.value), lower, upper, thermal_energy, "kJ/mol"))
    return criterion("thermodynamically consistent?", found)


def pair_representability(
    target: Estimate, pair: Estimate, *, tolerance: float = SAME_PRESSURE, level: float = 0.95
) -> Criterion:
    """Could a pair potential have both the reference's g(r) and its pressure?

    By Henderson's theorem the pair potential of a g(r) is unique, and so is its pressure; if that is not the target's,
    no pair potential has both.

    Arguments:
        target: pressure of the reference with its many-body forces, kJ/mol/nm³.
        pair: pressure of the pair potential that has the reference's g(r), same density and temperature.
        tolerance: largest difference accepted, kJ/mol/nm³.
        level: of the interval.
    """
    label = "pressure that pairs leave out, pair − reference,"
    return criterion("representable by pairs?", [_difference(label, target, pair, tolerance, level)])


def _difference(name, reference: Estimate, model: Estimate, tolerance, level) -> Finding:
    """A difference of pressures, in bar."""
    # Errors add in squares, and so do the half-widths of intervals, each with its own degrees of freedom.
    halves = [(ends[1] - ends[0]) / 2 for ends in (reference.interval(level), model.interval(level))]
    value, half = float(model.value - reference.value) / BAR, float(np.hypot(*halves)) / BAR
    return finding(name, value, value - half, value + half, tolerance / BAR, "bar")


def _share_of_tolerance(each: Finding) -> float:
    return abs(each.value) / each.tolerance if np.isfinite(each.value) else np.inf


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""

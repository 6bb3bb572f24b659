"""A consistency check as plain numbers for machines, and as lines for people."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from ..consistency.statistics import Estimate
from ..io.consistency.check import ConsistencyCheck
from ..io.consistency.ensembles import Ensemble
from ..io.consistency.measure import Measured
from ..units import BAR
from .memory_summary import with_error

_MARKS = {"yes": "✓", "no": "✗", "undecided": "?", "not tested": "–"}

#: Notes that are printed; the rest are in the report.
_NOTES = 6


def summarize_consistency(found: ConsistencyCheck, *, title: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What ``consistency.json`` holds: plain numbers, texts and lists; null where a number is not known.

    Arguments:
        found: the check.
        title: name of the data.
        settings: what the user asked for, by name.
    """
    outcome, verdict = overall(found.answers)
    isotherms = found.isotherms
    return {
        "title": title,
        "outcome": outcome,
        "verdict": verdict,
        "criteria": [each.as_dict() for each in found.criteria],
        "level": found.settings.level,
        "r_max_nm": found.r_max,
        "reference": _side(found.ensembles[0], found.measured[0]),
        "model": _side(found.ensembles[1], found.measured[1]),
        "radial": [
            {
                "pair": each.name,
                "relative_difference": _number(each.difference.value),
                "relative_difference_lower": _number(each.difference.lower),
                "relative_difference_upper": _number(each.difference.upper),
            }
            for each in found.curves
        ],
        "bonded": [
            {
                "name": each.found.name,
                "unit": each.found.unit,
                "reference_mean": _pair(each.reference.mean, each.reference.mean_error),
                "model_mean": _pair(each.model.mean, each.model.mean_error),
                "divergences": each.found.as_dict()["divergences"],
                "p_value": each.found.p_value,
                "verdict": each.found.verdict,
                "free_energy_mean_square_kT2": None if each.deviation is None else _estimate(each.deviation),
            }
            for each in found.bonded
        ],
        "equation_of_state": None
        if isotherms is None
        else {
            "densities_nm3": [isotherms.low, isotherms.high],
            "integrated_squared_difference_bar2_nm3": _estimate(isotherms.difference, BAR**2),
            "root_mean_square_bar": isotherms.root_mean_square / BAR,
            "reference": _states(isotherms.reference),
            "model": _states(isotherms.model),
        },
        "notes": list(found.notes),
        "settings": dict(settings),
        "version": version("jaxcg"),
    }


def overall(answers: tuple[str, ...]) -> tuple[str, str]:
    """Outcome as a word for machines and in words for people.

    Arguments:
        answers: on structure, thermodynamics and representability.
    """
    tested = [answer for answer in answers[:2] if answer != "not tested"]
    names = ("structure", "thermodynamics")
    said = {"yes": "right", "no": "wrong", "undecided": "undecided"}
    words = [f"{name} {said[answer]}" for name, answer in zip(names, answers[:2], strict=True) if answer in said]
    outcome = "bad" if "no" in tested else "undecided" if "undecided" in tested else "good"
    return outcome, ", ".join(words) or "not tested"


def mark(answer: str) -> str:
    """A sign for an answer."""
    return _MARKS[answer]


def consistency_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a user sees at the end of a run.

    Arguments:
        summary: of `summarize_consistency`.
    """
    lines = [f"{summary['title']}: {summary['verdict']}"]
    for criterion in summary["criteria"]:
        lines.append(f"{mark(criterion['answer'])} {criterion['question']} {criterion['answer']}")
        lines += [f"    {mark(finding['answer'])} {finding['words']}" for finding in criterion["findings"][:6]]
        if len(criterion["findings"]) > 6:
            lines.append(f"      and {len(criterion['findings']) - 6} more in the report")
        if not criterion["findings"] or criterion["answer"] == "undecided":
            lines.append(f"    {criterion['words']}")
    notes = summary["notes"]
    lines += [f"  note: {note}" for note in notes[:_NOTES]]
    return lines + ([f"  and {len(notes) - _NOTES} more notes in the report"] if len(notes) > _NOTES else [])


def shown(one: Estimate | None, factor: float = 1.0) -> str:
    """A number with its standard error, or a dash."""
    return "–" if one is None else with_error(float(one.value) / factor, float(one.error) / factor)


def _side(ensemble: Ensemble, measured: Measured) -> dict[str, Any]:
    return {
        "frames": measured.frames,
        "beads": ensemble.n_beads,
        "density_nm3": _estimate(measured.density),
        "volume_nm3": measured.volume,
        "radius_of_gyration_nm": _estimate(measured.gyration),
        "pressure_bar": _estimate(measured.pressure, BAR),
    }


def _states(table) -> dict[str, list[float]]:
    return {
        "densities_nm3": table.densities.tolist(),
        "pressures_bar": (table.pressures / BAR).tolist(),
        "errors_bar": (table.errors / BAR).tolist(),
    }


def _estimate(one: Estimate | None, factor: float = 1.0) -> dict[str, float | None] | None:
    if one is None:
        return None
    return {
        "value": _number(float(one.value) / factor),
        "error": _number(float(one.error) / factor),
        "effective_samples": _number(one.effective_sample_size),
    }


def _pair(value: float, error: float) -> dict[str, float | None]:
    return {"value": _number(value), "error": _number(error)}


def _number(value) -> float | None:
    return float(value) if np.isfinite(value) else None

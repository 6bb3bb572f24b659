"""The report of a consistency check: a page of pictures and tables, and the same figures for machines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from ..consistency.criteria import Finding
from ..io.consistency.check import ConsistencyCheck
from ..io.consistency.compare import ENOUGH, BondedComparison, CurveComparison, expected_pairs
from ..io.writers import write_text
from ..units import BAR, thermal_energy
from . import consistency_figures as figures
from .consistency_summary import mark, shown, summarize_consistency
from .page import render
from .sections import picture

#: Most rows of the picture of findings.
_MOST = 40


def write_consistency(
    folder: Path, found: ConsistencyCheck, *, title: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the page, the curves and the summary into ``folder``.

    Arguments:
        folder: must exist.
        found: the check.
        title: name of the data.
        settings: what the user asked for, by name.

    Returns:
        What ``consistency.json`` holds.
    """
    summary = summarize_consistency(found, title=title, settings=settings)
    np.savez(folder / "curves.npz", **_curves(found))  # pyright: ignore[reportArgumentType]
    write_text(folder / "consistency.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / "report.html", consistency_page(found, summary))
    return summary


def _curves(found: ConsistencyCheck) -> dict[str, np.ndarray]:
    """The arrays of ``curves.npz``, by name."""
    curves: dict[str, np.ndarray] = {}
    for each in found.curves:
        key = f"g {'-'.join(each.reference.types)}"
        curves[f"{key} edges"] = each.reference.edges
        for side, one in (("reference", each.reference), ("model", each.model)):
            curves[f"{key} {side}"], curves[f"{key} {side} error"] = one.value, one.error
    for each in found.bonded:
        key = each.found.name.replace("–", "-")
        curves[f"{key} edges"] = each.reference.edges
        for side, one in (("reference", each.reference), ("model", each.model)):
            curves[f"{key} {side}"], curves[f"{key} {side} error"] = one.value, one.error
    return curves


def consistency_page(found: ConsistencyCheck, summary: Mapping[str, Any]) -> str:
    """The HTML page.

    Arguments:
        found: the check.
        summary: of `summarize_consistency`.
    """
    sections = [_verdicts(found)]
    if found.curves:
        sections.append(_radial_section(found))
    if found.bonded:
        sections.append(_bonded_section(found))
    sections.append(_thermodynamics_section(found))
    contents = [("checks", "Checks"), *((section["anchor"], section["name"]) for section in sections)]
    contents += [("notes", "Notes")] if found.notes else []
    return render(
        verb="check",
        footnote="Lengths in nm, energies in kJ/mol, pressures in bar, divergences in nats. The same figures are in "
        "consistency.json, the curves in curves.npz.",
        title=summary["title"],
        verdict={"kind": summary["outcome"], "word": summary["verdict"]},
        lead=_lead(found),
        error=None,
        contents=[*contents, ("settings", "Settings")],
        cards=[
            {"value": each.answer, "name": each.question, "kind": "bad" if each.answer == "no" else ""}
            for each in found.criteria
        ],
        checks=[_check(each) for criterion in found.criteria for each in criterion.findings],
        checks_scope=f"Each number with its {100 * found.settings.level:g} % confidence interval. ✓: the interval lies "
        "within the tolerance; ✗: outside; ?: across, more data would decide.",
        scene=None,
        scene_note="",
        deviation_name="",
        sections=sections,
        notes=found.notes,
        settings=[
            (name.replace("_", " "), _setting(value))
            for name, value in summary["settings"].items()
            if value is not None and value is not False
        ],
        version=summary["version"],
    )


def _lead(found: ConsistencyCheck) -> str:
    first, second = found.measured
    beads = found.ensembles[0].n_beads
    at = "" if found.settings.temperature is None else f" at {found.settings.temperature:g} K"
    return f"{beads} beads{at}: {first.frames} frames of the reference, {second.frames} of the model."


def _check(one: Finding) -> dict[str, str]:
    unit = f" {one.unit}" if one.unit else ""
    kind = {"yes": "good", "no": "bad"}.get(one.answer, "")
    value = f"{one.value:.3g}{unit} ({one.lower:.3g} to {one.upper:.3g})".replace("-", "−")
    where = one.words.rpartition(": ")[2]
    wanted = f"up to {one.tolerance:.3g}{unit}"
    return {
        "name": one.name.rstrip(","),
        "value": value,
        "wanted": wanted,
        "mark": mark(one.answer),
        "where": where,
        "kind": kind,
    }


def _verdicts(found: ConsistencyCheck) -> dict:
    text = "\n".join(f"{mark(each.answer)} {each.question} {each.words}." for each in found.criteria)
    rows = [
        (
            _short(each.name),
            each.value / each.tolerance,
            each.lower / each.tolerance,
            each.upper / each.tolerance,
            each.answer,
        )
        for criterion in found.criteria[:2]
        for each in criterion.findings
        if np.isfinite([each.value, each.lower, each.upper]).all()
    ][:_MOST]
    pictures = []
    if rows:
        caption = "Every number with its interval, over its tolerance: straight to one, logarithmic beyond."
        pictures.append(picture("How far off", caption, figures.findings(rows), wide=True))
    return {"anchor": "verdicts", "name": "Verdicts", "text": text, "figures": pictures, "table": None}


def _short(name: str) -> str:
    for long in ("Jensen–Shannon divergence of ", "relative difference of ", ", model − reference,"):
        name = name.replace(long, "")
    return name if len(name) < 40 else name[:38] + " …"


def _radial_section(found: ConsistencyCheck) -> dict:
    pictures = []
    z = _quantile(found)
    for each in found.curves:
        curves = [(one.value, _half(one.error, z)) for one in (each.reference, each.model)]
        svg = figures.radial(each.name, each.reference.centers, curves, 1.15 * each.highest)
        pictures.append(picture(f"g(r) {each.name}", _difference(each), svg))
        if found.settings.temperature is not None:
            kt = thermal_energy(found.settings.temperature)
            logarithms = []
            for one in (each.reference, each.model):
                seen = one.counts > 0
                safe = np.where(seen, one.value, 1.0)
                value = np.where(seen, -kt * np.log(safe), np.inf)
                logarithms.append((value, _half(np.where(seen, kt * one.error / safe, np.inf), z)))
            svg = figures.free_energy(f"pair {each.name}", "r / nm", each.reference.centers, logarithms, kt)
            caption = "−kT ln g(r), the potential of mean force of a pair."
            pictures.append(picture(f"Free energy {each.name}", caption, svg))
    between = "all beads" if found.settings.within else "beads of different molecules"
    text = (
        f"Radial distribution functions between {between} with {100 * found.settings.level:g} % bands of block errors."
    )
    rows = [
        [
            each.name,
            f"{each.difference.value:.3g}",
            f"{each.difference.lower:.3g} to {each.difference.upper:.3g}",
            *(_highest(one) for one in (each.reference, each.model)),
        ]
        for each in found.curves
    ]
    head = ["pair", "√(∫Δg²/∫g²)", "interval", "highest of the reference", "of the model"]
    return {
        "anchor": "radial",
        "name": "Radial distributions",
        "text": text,
        "figures": pictures,
        "table": {"head": head, "rows": rows},
    }


def _difference(each: CurveComparison) -> str:
    value, lower, upper = each.difference
    return f"Relative difference √(∫Δg² dr / ∫g² dr) = {value:.3g} ({lower:.3g} to {upper:.3g})."


def _highest(one) -> str:
    # Chance pairs at r = 0, where shells hold next to nothing, are no peak.
    top = int(np.argmax(np.where(expected_pairs(one) >= ENOUGH, one.value, 0.0)))
    return f"{one.value[top]:.3g} at {one.centers[top]:.3g} nm"


def _bonded_section(found: ConsistencyCheck) -> dict:
    pictures = []
    z = _quantile(found)
    for each in found.bonded:
        name, unit, scale = each.found.name, "nm", 1.0
        if each.reference.kind != "bond":
            unit, scale = "°", 180 / np.pi
        x = scale * each.reference.centers
        curves = [(one.value / scale, _half(one.error / scale, z)) for one in (each.reference, each.model)]
        svg = figures.distribution(name, x, curves, unit)
        pictures.append(picture(name.capitalize() if name.islower() else name, _sentence(each.found.verdict), svg))
        if found.settings.temperature is not None:
            kt = thermal_energy(found.settings.temperature)
            potentials = []
            for one in (each.reference, each.model):
                value, error = one.mean_force_potential(found.settings.temperature)
                potentials.append((value, _half(error, z)))
            svg = figures.free_energy(name, f"{name} / {unit}", x, potentials, kt)
            pictures.append(picture(f"Free energy of {name}", _deviation(each), svg))
    head = ["coordinate", "mean of the reference", "of the model", "divergence", "value", "interval"]
    rows = []
    for each in found.bonded:
        for number, one in enumerate(each.found.divergences):
            first = [each.found.name, *_means(each)] if number == 0 else ["", "", ""]
            unit = f" {one.unit}" if one.unit else ""
            value = f"{'≥ ' if one.lower_bound else ''}{one.value:.3g}{unit}"
            rows.append([*first, one.direction or one.name, value, f"{one.lower:.3g} to {one.upper:.3g}"])
    return {
        "anchor": "bonded",
        "name": "Bonds, angles, dihedrals",
        "text": "Distributions with bands of block errors; free energies have the Jacobian (r², sin θ) taken out. "
        "Divergences have the bias of finite samples taken off.",
        "figures": pictures,
        "table": {"head": head, "rows": rows},
    }


def _means(each: BondedComparison) -> list[str]:
    from ..consistency.statistics import Estimate

    scale = 1.0 if each.reference.kind == "bond" else 180 / np.pi
    unit = " nm" if each.reference.kind == "bond" else "°"
    return [shown(Estimate(scale * one.mean, scale * one.mean_error)) + unit for one in (each.reference, each.model)]


def _deviation(each: BondedComparison) -> str:
    if each.deviation is None:
        return ""
    root = float(np.sqrt(max(each.deviation.value, 0.0)))
    return f"The two differ by {root:.2g} kT, root mean square over the reference."


def _thermodynamics_section(found: ConsistencyCheck) -> dict:
    reference, model = found.measured
    target = found.settings.pressure
    rows = [
        ["density / nm⁻³", shown(reference.density), shown(model.density)],
        ["pressure / bar", shown(target, BAR), shown(model.pressure, BAR)],
        ["radius of gyration / nm", shown(reference.gyration), shown(model.gyration)],
    ]
    pictures = []
    text = "Density and pressure at the states of the two trajectories."
    isotherms = found.isotherms
    if isotherms is not None:
        z = _quantile(found)
        curves = [
            (one.densities, one.pressures / BAR, z * one.errors / BAR) for one in (isotherms.reference, isotherms.model)
        ]
        point = None
        if model.pressure is not None and model.density is not None:
            point = (model.density.value, model.pressure.value / BAR, _half(model.pressure.error, z) / BAR)
        caption = (
            f"Root mean square difference {isotherms.root_mean_square / BAR:.4g} bar from {isotherms.low:.4g} to "
            f"{isotherms.high:.4g} nm⁻³; ∫ΔP² dρ = {shown(isotherms.difference, BAR**2)} bar² nm⁻³."
        )
        pictures.append(picture("Equation of state", caption, figures.isotherm(curves, point), wide=False))
    return {
        "anchor": "thermodynamics",
        "name": "Thermodynamics",
        "text": text,
        "figures": pictures,
        "table": {"head": ["", "reference", "model"], "rows": [row for row in rows if set(row[1:]) != {"–"}]},
    }


def _quantile(found: ConsistencyCheck) -> float:
    return float(ndtri(0.5 + found.settings.level / 2))


def _half(error, z: float):
    """Half-width of a band; nothing where there is no error to draw."""
    return np.nan_to_num(z * np.asarray(error), nan=0.0, posinf=np.inf)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _setting(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return "yes" if value is True else str(value)

"""The report of a memory kernel: a page of pictures and a short table, and the same figures for machines."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..dynamics.observables.comparison import Comparison
from ..io.dynamics.kernels import write_energy, write_kernel
from ..io.dynamics.trajectory_memory import MemoryAnalysis
from ..io.writers import write_text
from ..units import GAS_CONSTANT
from . import memory_figures as figures
from .memory_curves import POINTS, FitCurves, fit_curves, thin
from .memory_summary import auxiliary_variables, brief, summarize_memory
from .page import render
from .sections import picture

_VELOCITY, _DISPLACEMENT, _POSITIONS = "velocity correlation", "mean square displacement", "distribution of positions"


def write_memory(folder: Path, found: MemoryAnalysis, *, title: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Writes kernel, profile, curves, figures, a config for `jaxcg gle` and the page into ``folder``.

    Arguments:
        folder: must exist.
        found: the analysis.
        title: name of the data.
        settings: what the user asked for, by name.

    Returns:
        What ``memory.json`` holds.
    """
    curves = fit_curves(found)
    summary = summarize_memory(found, curves.friction, title=title, settings=settings)
    about = {"temperature_K": found.temperature, "mass_amu": found.mass, "coordinate": found.series.name}
    write_kernel(folder / "kernel.json", found.fit.kernel, about=about)
    if found.energy is not None:
        write_energy(folder / "profile.json", found.energy, about=about)
    np.savez(folder / "memory.npz", **_curves(found, curves))  # pyright: ignore[reportArgumentType]
    write_text(folder / "gle.yaml", gle_config(found, float(curves.kernel[0])))
    write_text(folder / "memory.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / "report.html", memory_page(found, curves, summary))
    return summary


def _curves(found: MemoryAnalysis, fitted: FitCurves) -> dict[str, np.ndarray]:
    """The arrays of ``memory.npz``, by name."""
    memory = found.memory
    curves = {
        "times": found.times,
        "kernel": memory.extracted.kernel.values,
        "kernel_error": memory.kernel_error,
        "kernel_fit": fitted.kernel,
        "integral_times": memory.extracted.times,
        "integral": memory.extracted.integral,
        "integral_error": memory.integral_error,
        "velocity_correlation": memory.velocity_correlation,
        "force_correlation": memory.force_correlation,
        "displacement_times": found.displacement_times,
        "displacement": found.displacement,
        "displacement_error": found.displacement_error,
        "spacing": found.series.spacing,
        "temperature": found.temperature,
        "mass": found.mass,
    }
    return {name: np.asarray(values) for name, values in curves.items() if values is not None}


def gle_config(found: MemoryAnalysis, strength: float) -> str:
    """A config of `jaxcg gle` that simulates the fitted model for as long as one trajectory of the data.

    Arguments:
        found: the analysis.
        strength: Γ(0) of the fit, amu/ps².
    """
    series = found.series
    fastest = np.sqrt(strength / found.mass)
    if found.energy is not None:
        curvature = 2 * np.abs(np.asarray(found.energy.coefficients)[:, 2]).max() / float(found.energy.spacing) ** 2
        fastest = max(fastest, np.sqrt(curvature / found.mass))
    every = int(np.clip(np.ceil(series.spacing * fastest / 0.05), 1, 1000))
    particles = series.kind == "particles" and series.positions.shape[2] == 3
    shape = f"[{min(len(series.positions), 100)}, 3]" if particles else "1"
    lines = [
        "# Written by jaxcg memory: the fitted model. Run it with:  jaxcg gle gle.yaml -o gle",
        *(["# The coordinate is an angle: read nm as rad, amu as amu nm^2/rad^2."] if series.unit == "rad" else []),
        f"temperature: {found.temperature:.10g}",
        f"time_step: {series.spacing / every:.10g}",
        f"steps: {every * (series.frames - 1)}",
        f"every: {every}",
        f"trajectories: {1 if particles else 8}",
        "seed: 1",
        f"mass: {found.mass:.10g}",
        f"shape: {shape}",
        "kernel: kernel.json",
        *([] if found.energy is None else ["potential: profile.json"]),
    ]
    return "\n".join(lines) + "\n"


def memory_page(found: MemoryAnalysis, curves: FitCurves, summary: Mapping[str, Any]) -> str:
    """The HTML page.

    Arguments:
        found: the analysis.
        curves: of its fit.
        summary: of `summarize_memory`.
    """
    sections = [_kernel_section(found, curves), _motion_section(found)]
    contents = [(section["anchor"], section["name"]) for section in sections]
    contents += [("notes", "Notes")] if found.notes else []
    return render(
        verb="memory",
        footnote=f"Lengths in {found.series.unit}, times in ps, energies in kJ/mol, masses in amu. "
        "The same figures are in memory.json, the curves in memory.npz.",
        title=summary["title"],
        verdict={"kind": summary["outcome"], "word": summary["verdict"]},
        lead=_lead(summary),
        error=summary["damage"],
        contents=[*contents, ("settings", "Settings")],
        cards=_cards(found, summary),
        checks=[],
        checks_scope="",
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


def _lead(summary: Mapping[str, Any]) -> str:
    length = summary["frames"] * summary["spacing_ps"]
    return (
        f"{summary['coordinate']}: {summary['trajectories']} trajectories of {length:.4g} ps, a frame every "
        f"{summary['spacing_ps']:.4g} ps, at {summary['temperature_K']:g} K. Window {summary['window_ps']:.4g} ps."
    )


def _cards(found: MemoryAnalysis, summary: Mapping[str, Any]) -> list[dict]:
    cards = []
    friction = f"{_mass_unit(found)}/ps"

    def card(value: str, name: str, *, bad: bool = False) -> None:
        cards.append({"value": value, "name": name, "kind": "bad" if bad else ""})

    if found.plateau is not None:
        card(brief(*found.plateau[:2]), f"friction ∫Γ dt / {friction}")
    unit = f"{found.series.unit}²/ps"
    if summary["diffusion_of_friction"] is not None:
        pair = summary["diffusion_of_friction"], summary["diffusion_of_friction_error"]
        card(brief(*pair), f"D = kT/∫Γ / {unit}")
    if found.diffusion is not None:
        card(brief(*found.diffusion), f"D of the displacement / {unit}")
    card(str(found.fit.order), f"{auxiliary_variables(found.fit.order)} ({found.fit.family})")
    if found.validation is not None:
        failed = sum(not c.passed for c in found.validation.comparisons)
        card(
            f"{len(found.validation.comparisons) - failed} of {len(found.validation.comparisons)}",
            "observables agree",
            bad=failed > 0,
        )
    return cards


def _mass_unit(found: MemoryAnalysis) -> str:
    return "amu nm² rad⁻²" if found.series.unit == "rad" else "amu"


def _kernel_section(found: MemoryAnalysis, curves: FitCurves) -> dict:
    memory, curve = found.memory, curves.kernel
    mass = _mass_unit(found)
    unit = f"{mass} ps⁻²"
    values = np.asarray(memory.extracted.kernel.values)
    # Of the data too, which may ring for longer than the fit; of them not what is noise.
    clear = np.abs(values) > np.maximum(0.1 * np.abs(values).max(), 5 * np.asarray(memory.kernel_error))
    strong = np.flatnonzero((np.abs(curve) > 0.02 * np.abs(curve).max()) | clear)
    end = min(2 * float(found.times[max(strong[-1], 3)]), float(found.times[-1]))
    # Where it decays every frame counts.
    near = np.union1d(thin(len(values)), np.flatnonzero(found.times <= end)[:POINTS])
    pictures = [
        picture(
            "Memory kernel",
            "Γ(t) from the data with its standard error (band: block bootstrap) and the passive fit.",
            figures.kernel(
                found.times[near],
                values[near],
                memory.kernel_error[near],
                curve[near],
                float(end),
                unit,
            ),
            wide=True,
        )
    ]
    pictures.append(
        picture(
            "Integral of the kernel",
            "Its plateau is the friction of slow motion." if found.plateau is not None else "It reaches no plateau.",
            figures.integral(
                np.asarray(memory.extracted.times)[curves.rows],
                np.asarray(memory.extracted.integral)[curves.rows],
                memory.integral_error[curves.rows],
                curves.integral,
                found.plateau,
                f"{mass} ps⁻¹",
            ),
        )
    )
    pictures.append(
        picture(
            "Spectrum of the noise",
            "Power spectrum of the random force over 2 kT; that of the fit is positive everywhere.",
            figures.spectrum(curves.omega, curves.data_spectrum, curves.spectrum, f"{mass} ps⁻¹"),
        )
    )
    if found.energy is not None:
        energy = found.energy
        x = float(energy.start) + float(energy.spacing) * np.arange(energy.coefficients.shape[0] + 1)
        u = np.append(energy.coefficients[:, 0], np.sum(energy.coefficients[-1]))
        svg = figures.profile(x, u - u.min(), GAS_CONSTANT * found.temperature, found.series.unit)
        pictures.append(picture("Free-energy profile", "Potential of mean force of the coordinate.", svg))
    residual = f"relative residual {found.fit.residual:.2g}"
    order, family = found.fit.order, found.fit.family
    text = f"Passive kernel of {order} {auxiliary_variables(order)} ({family}), {residual}."
    return {"anchor": "kernel", "name": "Kernel", "text": text, "figures": pictures, "table": None}


def _motion_section(found: MemoryAnalysis) -> dict:
    """What the data do and, where it was validated, what the fitted model does."""
    unit = found.series.unit
    named = {} if found.validation is None else {c.name: c for c in found.validation.comparisons}
    pictures = []
    labels = {
        _VELOCITY: (f"⟨v(t) v(0)⟩ / {unit}² ps⁻²", "x", "Velocity correlation"),
        _DISPLACEMENT: (f"⟨[x(t) − x(0)]²⟩ / {unit}²", "xy", "Mean square displacement"),
        _POSITIONS: (f"density / {unit}⁻¹", "", "Distribution of positions"),
    }
    for name, (label, log, heading) in labels.items():
        c = named.get(name)
        if c is not None and c.abscissa is not None:
            xlabel = "t / ps" if c.abscissa_unit == "ps" else f"coordinate / {unit}"
            curves = (np.asarray(a) for a in (c.abscissa, c.data, c.data_error, c.model, c.model_error))
            svg = figures.compared(heading, label, *curves, xlabel=xlabel, log=log)
            pictures.append(picture(heading, _sentence(_said(c)), svg))
        elif name == _VELOCITY:
            data = np.asarray(found.memory.velocity_correlation)
            times = found.series.spacing * np.arange(len(data))
            pictures.append(picture(heading, "", figures.alone(heading, label, times, data, 0 * data, log=log)))
        elif name == _DISPLACEMENT:
            curves = found.displacement_times, found.displacement, found.displacement_error
            pictures.append(picture(heading, "Of one component.", figures.alone(heading, label, *curves, log=log)))
    passages = [_passage(c) for c in named.values() if "passage" in c.name]
    if passages:
        svg = figures.passages(passages)
        pictures.append(picture("First-passage times", "Means with standard errors.", svg))
    table, text = None, "The model was not compared with the data."
    if found.validation is not None:
        text = _sentence(found.validation.verdict)
        table = {
            "head": ["observable", "model − data / s.e.", "p-value", "", "verdict"],
            "rows": [_row(c) for c in found.validation.comparisons],
        }
    return {"anchor": "motion", "name": "Motion", "text": text, "figures": pictures, "table": table}


def _row(c: Comparison) -> list[str]:
    """Of the table of observables."""
    return [c.name, f"{c.deviation:.1f}".replace("-", "−"), f"{c.p_value:.2g}", "✓" if c.passed else "✗", _said(c)]


def _said(c: Comparison) -> str:
    """The verdict without the name, which stands beside it."""
    return c.verdict.removeprefix(f"{c.name}: ")


def _passage(c: Comparison) -> tuple[str, float, float, float, float]:
    """Of the picture of passage times."""
    data, data_error, model, model_error = (
        float(values[0]) for values in (c.data, c.data_error, c.model, c.model_error)
    )
    return c.name.removeprefix("mean first-passage time ").replace("-", "−"), data, data_error, model, model_error


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _setting(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return "yes" if value is True else str(value)

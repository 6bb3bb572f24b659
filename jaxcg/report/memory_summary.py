"""A memory analysis as plain numbers for machines, and as lines for people."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from ..io.dynamics.trajectory_memory import MemoryAnalysis
from ..units import GAS_CONSTANT


def summarize_memory(
    found: MemoryAnalysis, friction: float, *, title: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What ``memory.json`` holds: plain numbers, texts and lists.

    Arguments:
        found: the analysis.
        friction: total friction of the fit, amu/ps.
        title: name of the data.
        settings: what the user asked for, by name.
    """
    memory, fit = found.memory, found.fit
    thermal = GAS_CONSTANT * found.temperature
    summary: dict[str, Any] = {
        "title": title,
        "outcome": outcome(found)[0],
        "verdict": outcome(found)[1],
        "coordinate": found.series.name,
        "kind": found.series.kind,
        "unit": found.series.unit,
        "trajectories": found.series.positions.shape[0] * found.series.positions.shape[2],
        "frames": found.series.frames,
        "spacing_ps": found.series.spacing,
        "temperature_K": found.temperature,
        "mass_amu": found.mass,
        "kinetic_temperature_K": memory.kinetic_temperature,
        "kinetic_temperature_error": memory.kinetic_temperature_error,
        "window_ps": float(found.times[-1]),
        "blocks": memory.blocks,
        "kernel_at_zero": float(np.asarray(memory.extracted.kernel.values)[0]),
        "kernel_at_zero_error": float(memory.kernel_error[0]),
        "friction_amu_per_ps": None if found.plateau is None else found.plateau[0],
        "friction_error": None if found.plateau is None else found.plateau[1],
        "plateau_from_ps": None if found.plateau is None else found.plateau[2],
        "diffusion_of_friction": None,
        "diffusion_of_friction_error": None,
        "diffusion_of_displacement": None if found.diffusion is None else found.diffusion[0],
        "diffusion_of_displacement_error": None if found.diffusion is None else found.diffusion[1],
        "fit": {
            "family": fit.family,
            "order": fit.order,
            "residual": fit.residual,
            "held_out": None if np.isnan(fit.held_out) else fit.held_out,
            "friction_amu_per_ps": friction,
        },
        "validation": None if found.validation is None else found.validation.as_dict(),
        "damage": found.series.damage,
        "notes": list(found.notes),
        "settings": dict(settings),
        "version": version("jaxcg"),
    }
    if found.plateau is not None and found.plateau[0] > 0:
        value, error, _ = found.plateau
        summary["diffusion_of_friction"] = thermal / value
        summary["diffusion_of_friction_error"] = thermal * error / value**2
    return summary


def outcome(found: MemoryAnalysis) -> tuple[str, str]:
    """Outcome as a word for machines and in words for people."""
    if found.series.damage is not None:
        return "bad", "trajectory breaks off"
    if found.validation is None:
        return "good", "not validated"
    return ("good", "model agrees with the data") if found.validation.passed else ("bad", "model differs from the data")


def memory_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a user sees at the end of a run.

    Arguments:
        summary: of `summarize_memory`.
    """
    mass, length = ("amu nm²/rad²", "rad") if summary["unit"] == "rad" else ("amu", "nm")
    lines = [f"{summary['title']}: {summary['verdict']}", f"  coordinate   {summary['coordinate']}"]

    def add(name: str, key: str, error: str, unit: str) -> None:
        if summary[key] is not None:
            lines.append(f"  {name:<12} {with_error(summary[key], summary[error])} {unit}")

    lines.append(f"  mass         {summary['mass_amu']:.5g} {mass}")
    add("friction", "friction_amu_per_ps", "friction_error", f"{mass}/ps")
    add("D = kT/∫Γ", "diffusion_of_friction", "diffusion_of_friction_error", f"{length}²/ps")
    add("D of MSD", "diffusion_of_displacement", "diffusion_of_displacement_error", f"{length}²/ps")
    fit = summary["fit"]
    auxiliaries = f"{fit['order']} {auxiliary_variables(fit['order'])} ({fit['family']})"
    lines.append(f"  fit          {auxiliaries}, residual {fit['residual']:.2g}")
    for comparison in (summary["validation"] or {"comparisons": []})["comparisons"]:
        mark = "✓" if comparison["passed"] else "✗"
        lines.append(f"  {mark} {comparison['verdict']}")
    return lines + [f"  note: {note}" for note in summary["notes"]]


def auxiliary_variables(count: int) -> str:
    """One, or several of them."""
    return "auxiliary variable" if count == 1 else "auxiliary variables"


def with_error(value: float, error: float) -> str:
    """A number and its standard error, to two digits of that: ``"12.3 ± 1.1"``."""
    if not np.isfinite(error) or error <= 0:
        return f"{value:.4g}"
    digits = 1 - int(np.floor(np.log10(error)))
    if -3 <= digits <= 5:
        shown = max(digits, 0)
        return f"{value:.{shown}f} ± {error:.{shown}f}".replace("-", "−")
    power = int(np.floor(np.log10(abs(value) or error)))
    scale = 10.0**power
    shown = max(digits + power, 0)
    sign = f"{power:d}".translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"({value / scale:.{shown}f} ± {error / scale:.{shown}f})·10{sign}".replace("-", "−")


def brief(value: float, error: float) -> str:
    """A number with its standard error in units of its last digit: ``"12.3(11)"``."""
    if not np.isfinite(error) or error <= 0 or not 1e-4 <= abs(value) < 1e5:
        return with_error(value, error)
    digits = max(1 - int(np.floor(np.log10(error))), 0)
    return f"{value:.{digits}f}({round(error * 10**digits)})".replace("-", "−")

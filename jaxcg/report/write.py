"""`write_report`: the page and the JSON file of a run."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..io.writers import write_text
from . import measures, sections
from .page import render
from .scene import build_scene, thin
from .summary import run_checks, summarize

if TYPE_CHECKING:
    from ..backmap.result import BackmapResult, FrameResult


def write_report(
    folder: str | Path,
    result: "BackmapResult | None",
    *,
    title: str,
    settings: Mapping[str, Any],
    error: str | None = None,
) -> dict:
    """Writes ``report.html`` and ``report.json`` into ``folder``.

    Arguments:
        folder: must exist.
        result: of the run; None when it failed before there was one.
        title: name of the structure.
        settings: what the user asked for, by name.
        error: why the run ended badly, or None.

    Returns:
        What ``report.json`` holds.
    """
    folder = Path(folder)
    summary = summarize(result, title=title, settings=settings, error=error)
    write_text(folder / "report.json", json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_text(folder / "report.html", _page(_finite(result), summary))
    return summary


def _finite(result: "BackmapResult | None") -> "BackmapResult | None":
    """The result with only those frames that can be drawn."""
    if result is None:
        return None
    return replace(result, frames=[frame for frame in result.frames if np.isfinite(frame.positions).all()])


def _page(result: "BackmapResult | None", summary: dict) -> str:
    pictures: list[dict] = []
    scene, scene_note = None, ""
    if result is not None and result.frames:
        scene, scene_note = _scene(result)
        if len(result.frames) > 1:
            pictures.append(sections.frames_section(result))
        if result.samples is not None:
            pictures.append(sections.ensemble_section(result.samples, result.molecule.system))
        pictures.append(sections.structure_section(result, result.frames[0]))
    rows = _check_rows(result) if result is not None and result.frames else []
    contents = [("checks", "Checks")] if rows else []
    contents += [("structure", "Structure")] if scene else []
    contents += [(section["anchor"], section["name"]) for section in pictures]
    contents += [("notes", "Notes")] if summary.get("notes") else []
    contents += [("settings", "Settings")]
    return render(
        verb="backmap",
        footnote="Lengths in nm, energies in kJ/mol. The same figures are in report.json.",
        title=summary["title"],
        verdict={"kind": summary["outcome"], "word": summary["verdict"]},
        lead=_lead(result, summary),
        error=summary["error"],
        contents=contents,
        cards=_cards(result) if result is not None and result.frames else [],
        checks=rows,
        checks_scope=f"Summed over {len(result.frames)} frames."
        if result is not None and len(result.frames) > 1
        else "",
        scene=scene,
        scene_note=scene_note,
        deviation_name=_deviation_name(result) if result is not None else "",
        sections=pictures,
        notes=summary.get("notes", []),
        settings=[(name.replace("_", " "), _setting(value)) for name, value in summary["settings"].items()],
        version=version("jaxcg"),
    )


def _lead(result: "BackmapResult | None", summary: dict) -> str:
    if result is None:
        return "The run ended before there was a structure."
    size = f"{summary['residues']} residues, {summary['atoms']} atoms from {summary['beads']} beads"
    lost = f"the map loses {summary['nullity']} coordinates"
    if not result.frames:
        return f"{size}; {lost}."
    first = result.frames[0]
    modes = {frame.bead_mode for frame in result.frames}
    held = "some beads soft, some exact" if len(modes) > 1 else f"beads {first.bead_mode}"
    frames = f" {len(result.frames)} frames." if len(result.frames) > 1 else ""
    return f"{size}; {lost}; {held}: {first.bead_reason.rstrip('.')}.{frames}"


def _cards(result: "BackmapResult") -> list[dict]:
    """The few figures a reader looks for first; means over frames."""
    frames = result.frames
    mean = " (mean)" if len(frames) > 1 else ""
    qualities = [frame.quality for frame in frames if frame.quality]
    cards = [_card(_spaced(float(np.mean([frame.energy for frame in frames]))), f"energy / kJ mol⁻¹{mean}")]
    favoured = [q.ramachandran_favoured for q in qualities if q.ramachandran_favoured is not None]
    if favoured:
        cards.append(_card(f"{np.mean(favoured):.1f} %", f"Ramachandran favoured{mean}"))
    if qualities:
        wrong = sum(sum(quality.errors.values()) for quality in qualities)
        cards.append(_card(str(wrong), "errors found by the checks", bad=wrong > 0))
    distances = [sections.bead_distance(result, frame) for frame in frames]
    if all(frame.bead_mode == "exact" for frame in frames):
        cards.append(_card(f"{max(d.max() for d in distances):.2g} nm", "largest |M(x) − y| of a bead"))
    else:
        rms = float(np.sqrt(np.mean([np.mean(d**2) for d in distances])))
        cards.append(_card(f"{rms:.3f} nm", "rms |M(x) − y| of the beads"))
    reference = [q.rmsd_heavy for q in qualities if q.rmsd_heavy is not None]
    if reference:
        cards.append(_card(f"{np.mean(reference):.3f} nm", f"heavy-atom RMSD to the reference{mean}"))
    if result.samples is not None:
        cards.append(_card(str(len(result.samples.positions)), "posterior samples"))
    return cards


def _card(value: str, name: str, *, bad: bool = False) -> dict:
    return {"value": value, "name": name, "kind": "bad" if bad else ""}


def _check_rows(result: "BackmapResult") -> list[dict]:
    rows = []
    for check in run_checks(result):
        of = f" of {check.looked_at}" if check.looked_at else ""
        rows.append(
            {
                "kind": "good" if check.passed else "bad",
                "mark": "✓" if check.passed else "✗",
                "name": check.name,
                "value": f"{check.found}{of}",
                "wanted": "0",
                "where": check.where,
            }
        )
    return rows


def _scene(result: "BackmapResult") -> tuple[dict, str]:
    """The 3-D view: every frame, or the MAP followed by the samples; thinned when there are many."""
    molecule = result.molecule
    configurations = [_configuration(result, frame) for frame in result.frames]
    total = len(configurations)
    if result.samples is not None:
        first = configurations[0]
        configurations += [
            {**first, "label": f"sample {number + 1}", "positions": positions, "flagged": ()}
            for number, positions in enumerate(np.asarray(result.samples.positions))
        ]
        total = len(configurations)
    chosen = thin(total, molecule.system.n_atoms)
    note = f"Shown: {len(chosen)} of {total} configurations." if len(chosen) < total else ""
    backbone = [name == "BB" or name == "CA" for name in molecule.beads.names]
    return build_scene(molecule.system, backbone, [configurations[i] for i in chosen]), note


def _configuration(result: "BackmapResult", frame: "FrameResult") -> dict:
    molecule = result.molecule
    if molecule.reference_positions is not None:
        deviation = sections.reference_deviation(result, frame)
    else:
        distance = sections.bead_distance(result, frame)
        deviation = measures.residue_bead_deviation(molecule.system, molecule.mapping, distance)
    flagged = ()
    if frame.quality:
        flagged = sorted({a for name in frame.quality.errors for o in frame.quality.offenders[name] for a in o.atoms})
    return {
        "label": f"frame {frame.frame}" if len(result.frames) > 1 else "MAP",
        "positions": np.asarray(frame.positions),
        "beads": np.asarray(frame.y),
        "deviation": deviation,
        "flagged": flagged,
    }


def _deviation_name(result: "BackmapResult") -> str:
    return "bead deviation" if result.molecule.reference_positions is None else "RMSD to the reference"


def _spaced(value: float) -> str:
    """A whole number with thin spaces between thousands and a true minus sign."""
    return f"{value:,.0f}".replace(",", " ").replace("-", "−")


def _setting(value: Any) -> str:
    if value is None or value is False:
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)
    return "yes" if value is True else str(value)

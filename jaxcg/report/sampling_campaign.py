"""The report of `jaxcg sample`: what of each frame's samples may be trusted, as a page, a table and for machines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..io.sampling.draws import FrameFigures
from ..io.sampling.run import SampleResult
from ..io.writers import write_text
from ..sampling.diagnostics.convergence import convergence
from ..sampling.diagnostics.energy import SamplerHealth, energy_fraction
from ..sampling.diagnostics.rotamers import TorsionMixing, torsion_mixing
from ..sampling.diagnostics.verdict import Diagnosis, assess
from ..units import GAS_CONSTANT
from .page import render
from .sampling import sampling_section
from .summary import plain

#: Files of the report.
TABLE, SUMMARY, PAGE = "frames.csv", "report.json", "report.html"
#: Frames whose pictures are on the page: the first and the worst.
_SHOWN = 2
_GRADES = ("not trusted", "too short to judge", "trusted in part", "trusted")


def write_sampling(folder: Path, result: SampleResult, *, title: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Writes ``frames.csv``, ``report.html`` and ``report.json`` into ``folder``.

    Arguments:
        folder: must exist.
        result: of the run.
        title: name of the input.
        settings: what the user asked for, by name.

    Returns:
        What ``report.json`` holds.
    """
    judged = [judge(frame, result) for frame in result.frames]
    rows = [_row(frame, mixing, diagnosis) for frame, (mixing, diagnosis) in zip(result.frames, judged, strict=True)]
    system, first = result.problem.system, result.frames[0]
    worst = min(range(len(rows)), key=lambda i: (_GRADES.index(judged[i][1].grade), -(rows[i]["slowest_r_hat"] or 0)))
    # A machine that only samples may lack what draws the page; the figures are then in the other files.
    drawable = all(find_spec(name) is not None for name in ("matplotlib", "jinja2"))
    summary = plain(
        {
            "version": version("jaxcg"),
            "title": title,
            "grade": judged[worst][1].grade,
            "verdict": _verdict(result.frames[worst].frame, judged[worst][1], len(rows)),
            "atoms": system.n_atoms,
            "beads": result.problem.posterior.mapping.n_beads,
            "dimension": first.dimension,
            "temperature_K": first.temperature,
            "expected_excess_kJ_mol": 0.5 * first.dimension * GAS_CONSTANT * first.temperature,
            "frames": rows,
            "quantities": {str(f.frame): d.statistics() for f, (_, d) in zip(result.frames, judged, strict=True)},
            "notes": [*result.problem.notes, *(f"frame {f.frame}: {f.note}" for f in result.frames if f.note)],
            "settings": dict(settings),
            "files": [*result.files, TABLE, *([PAGE] if drawable else []), SUMMARY],
        }
    )
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(folder / TABLE, text.getvalue())
    if drawable:
        write_text(folder / PAGE, _page(result, judged, worst, summary))
    write_text(folder / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    return summary


def judge(frame: FrameFigures, result: SampleResult) -> tuple[TorsionMixing | None, Diagnosis]:
    """How the torsions of a frame mix, and what of its samples may be trusted."""
    mixing = torsion_mixing(result.torsions, frame.angles) if len(result.torsions) else None
    quantities = {"energy": frame.energies, "radius of gyration": frame.radius_of_gyration}
    return mixing, assess(quantities, torsions=mixing, health=_health(frame))


def sampling_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a user sees at the end."""
    lines = [
        f"{summary['title']}: {summary['verdict']}",
        f"{len(summary['frames'])} frames × {summary['frames'][0]['chains']} chains × {summary['frames'][0]['draws']} "
        f"draws of {summary['atoms']} atoms; {summary['dimension']} coordinates are free",
    ]
    for row in summary["frames"][:10]:
        known = row["r_hat_energy"] is not None
        mixed = f"R-hat {row['r_hat_energy']:.3f}, {row['ess_energy']:.0f} effective samples" if known else "too short"
        lines.append(
            f"frame {row['frame']}: energy {row['energy']:.1f} ± {row['energy_error'] or float('nan'):.1f} kJ/mol, "
            f"{mixed}; acceptance {row['acceptance']:.2f}"
        )
    if len(summary["frames"]) > 10:
        lines.append(f"and {len(summary['frames']) - 10} more in {TABLE}")
    return [*lines, *(f"note: {note}" for note in summary["notes"][:6])]


def _health(frame: FrameFigures) -> SamplerHealth | None:
    """None for samplers without a test, which have no health to tell."""
    if np.isnan(frame.total_energies).all():
        return None
    return SamplerHealth(
        acceptance=frame.acceptance,
        divergences=frame.divergences,
        irreversible=np.zeros_like(frame.divergences),
        e_bfmi=energy_fraction(frame.total_energies),
        step_size=frame.step_size,
        trajectories=frame.total_energies.shape[1],
    )


def _row(frame: FrameFigures, mixing: TorsionMixing | None, diagnosis: Diagnosis) -> dict[str, Any]:
    """The frame's line of the table."""
    energy = convergence(frame.energies)
    slowest = None
    if mixing is not None and np.isfinite(mixing.bulk).any():
        slowest = int(np.nanargmin(mixing.bulk))
    return plain(
        {
            "frame": frame.frame,
            "chains": len(frame.energies),
            "draws": frame.energies.shape[1],
            "energy": energy.mean,
            "energy_error": energy.mean_error,
            "r_hat_energy": energy.r_hat,
            "ess_energy": energy.bulk,
            "excess_energy": float(frame.potentials.mean() - frame.start_potentials.mean()),
            "acceptance": float(frame.acceptance.mean()),
            "divergences": int(frame.divergences.sum()),
            "step_size_fs": float(1000 * frame.step_size.mean()),
            "gradients_per_chain": frame.gradients,
            "slowest_torsion": "" if slowest is None or mixing is None else mixing.torsions.names[slowest],
            "slowest_r_hat": None if slowest is None or mixing is None else float(mixing.r_hat[slowest]),
            "slowest_ess": None if slowest is None or mixing is None else float(mixing.bulk[slowest]),
            "grade": diagnosis.grade,
            "verdict": diagnosis.sentence,
        }
    )


def _verdict(frame: int, diagnosis: Diagnosis, frames: int) -> str:
    return diagnosis.sentence if frames == 1 else f"{diagnosis.sentence} (frame {frame}, the worst of {frames})"


def _page(result: SampleResult, judged: list, worst: int, summary: Mapping[str, Any]) -> str:
    rows = summary["frames"]
    shown = sorted({0, worst})[:_SHOWN]
    sections = [_frames_section(rows)]
    sections += [_frame_section(result.frames[i], *judged[i]) for i in shown]
    kind = {"trusted": "good", "trusted in part": "good"}.get(summary["grade"], "bad")
    cards = [
        _card(f"{len(rows)}", "frames"),
        _card(f"{rows[0]['chains']} × {rows[0]['draws']}", "chains × draws"),
        _card(f"{np.mean([row['acceptance'] for row in rows]):.2f}", "acceptance (mean)"),
        _card(f"{sum(row['divergences'] for row in rows)}", "divergent trajectories"),
    ]
    excess = [row["excess_energy"] for row in rows if row["excess_energy"] is not None]
    if excess:
        expected = summary["expected_excess_kJ_mol"]
        cards.append(_card(f"{np.mean(excess):.0f} / {expected:.0f}", "kJ/mol above the starts / (d/2) kT"))
    return render(
        verb="sample",
        footnote="Energies in kJ/mol, lengths in nm, angles in degrees, the first step size in ps. The same "
        "figures are in report.json and frames.csv, the energies and torsions of every draw in energies.npz.",
        title=summary["title"],
        verdict={"kind": kind, "word": summary["grade"]},
        lead=f"{summary['verdict']} {summary['atoms']} atoms from {summary['beads']} beads, "
        f"{summary['dimension']} free coordinates, {summary['temperature_K']:g} K.",
        error=None,
        contents=[(s["anchor"], s["name"]) for s in sections]
        + ([("notes", "Notes")] if summary["notes"] else [])
        + [("settings", "Settings")],
        cards=cards,
        checks=[],
        checks_scope="",
        scene=None,
        scene_note="",
        deviation_name="",
        sections=sections,
        notes=summary["notes"],
        settings=[
            (name.replace("_", " "), ", ".join(value) if isinstance(value, list | tuple) else str(value))
            for name, value in summary["settings"].items()
            if value is not None
        ],
        version=summary["version"],
    )


def _frames_section(rows: list[dict[str, Any]]) -> dict:
    """The table of all frames."""
    head = [
        "frame",
        "energy",
        "± error",
        "R-hat",
        "ESS",
        "acceptance",
        "divergent",
        "slowest torsion",
        "ESS",
        "verdict",
    ]
    table = [
        [
            str(row["frame"]),
            _number(row["energy"], ".1f"),
            _number(row["energy_error"], ".2f"),
            _number(row["r_hat_energy"], ".3f"),
            _number(row["ess_energy"], ".0f"),
            _number(row["acceptance"], ".2f"),
            str(row["divergences"]),
            row["slowest_torsion"],
            _number(row["slowest_ess"], ".0f"),
            row["grade"],
        ]
        for row in rows
    ]
    return {"anchor": "frames", "name": "Frames", "text": "", "figures": [], "table": {"head": head, "rows": table}}


def _frame_section(frame: FrameFigures, mixing: TorsionMixing | None, diagnosis: Diagnosis) -> dict:
    """Verdict, pictures and quantities of one frame."""
    quantities = {"U / kJ mol⁻¹": frame.energies} if frame.energies.shape[1] > 1 else {}
    section = sampling_section(diagnosis, quantities, torsions=mixing, health=_health(frame))
    return {**section, "anchor": f"frame-{frame.frame}", "name": f"Frame {frame.frame}"}


def _card(value: str, name: str) -> dict:
    return {"value": value, "name": name, "kind": ""}


def _number(value: float | None, style: str) -> str:
    return "–" if value is None else f"{value:{style}}".replace("-", "−")

"""The last screen of a run: what came out, where it is, and how long it took."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def print_summary(
    report: Mapping[str, Any], written: Sequence[str], folder: Path, seconds: Mapping[str, float]
) -> None:
    """Prints the summary on standard output; it fits one screen.

    Arguments:
        report: what ``report.json`` holds.
        written: names of the files in ``folder``.
        seconds: of each stage.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(report):
        table.add_row(name, value)
    table.add_row("files", f"{folder}/: {', '.join(written)}")
    slowest = sorted(seconds.items(), key=lambda item: -item[1])[:4]
    spent = ", ".join(f"{stage} {value:.1f}" for stage, value in slowest)
    table.add_row("time", f"{sum(seconds.values()):.1f} s ({spent})")
    color = {"good": "green", "bad": "red"}[report["outcome"]]
    console.print()
    console.print(f"[bold]{report['title']}[/bold]: [{color}]{report['verdict']}[/{color}]")
    console.print(table)


def _rows(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = []
    frames = report.get("frames") or []
    if "atoms" in report:
        rows.append(("molecule", f"{report['residues']} residues, {report['atoms']} atoms, {report['beads']} beads"))
    for note in report.get("notes", [])[:6]:
        rows.append(("note", note))
    more = len(report.get("notes", [])) - 6
    if more > 0:
        rows.append(("", f"{more} more in the report"))
    if not frames:
        return rows
    modes = sorted({frame["beads"]["mode"] for frame in frames})
    noise = [frame["beads"]["noise_nm"] for frame in frames if frame["beads"]["noise_nm"] is not None]
    sigma = f", σ = {np.mean(noise):.3f} nm" if noise else ""
    rows.append(("beads", f"{' and '.join(modes)}{sigma}: {frames[0]['beads']['reason']}"))
    several = f" (mean of {len(frames)} frames)" if len(frames) > 1 else ""
    rows.append(("energy", f"{np.mean([frame['energy'] for frame in frames]):.1f} kJ/mol{several}"))
    qualities = [frame["quality"] for frame in frames if frame["quality"]]
    if qualities:
        weights = sorted({frame["backbone_prior"] for frame in frames} - {0})
        prior = f" (with a backbone prior of {' and '.join(f'{w:g}' for w in weights)} kT)" if weights else ""
        rows += _quality_rows(qualities, report["checks"], prior)
    ensemble = report.get("ensemble")
    if ensemble:
        rows.append(
            (
                "ensemble",
                f"{ensemble['samples']} samples from {ensemble['chains']} chains, "
                f"acceptance {ensemble['acceptance']:.2f}. {ensemble['verdict']}",
            )
        )
    return rows


def _quality_rows(
    qualities: Sequence[Mapping[str, Any]], checks: Sequence[Mapping[str, Any]], prior: str
) -> list[tuple[str, str]]:
    def known(name):
        return [quality[name] for quality in qualities if quality[name] is not None]

    rows = []
    if known("ramachandran_favoured"):
        favoured, outliers = np.mean(known("ramachandran_favoured")), np.mean(known("ramachandran_outlier"))
        rows.append(("Ramachandran", f"{favoured:.1f} % favoured, {outliers:.1f} % outliers{prior}"))
    if known("bonds_within_10"):
        rows.append(("bonds", f"{np.mean(known('bonds_within_10')):.1f} % within 10 % of their ideal length"))
    if known("bead_rms"):
        rows.append(
            (
                "beads kept to",
                f"{np.sqrt(np.mean(np.square(known('bead_rms')))):.2g} nm rms, {max(known('bead_max')):.2g} nm largest",
            )
        )
    if known("rmsd_heavy"):
        rows.append(("to reference", f"{np.mean(known('rmsd_heavy')):.3f} nm, heavy atoms"))
    wrong = [check for check in checks if check["found"]]
    rows.append(
        ("checks", "no defect in " + str(len(checks)) + " kinds" if not wrong else f"{len(wrong)} kinds of defect")
    )
    for check in wrong:
        rows.append(("", f"{check['name']}: {check['found']} ({check['where']})"))
    return rows

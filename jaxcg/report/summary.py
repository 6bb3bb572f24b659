"""The figures of a run in plain types: what ``report.json`` holds and the page shows.

Times are left out on purpose: the same seed gives the same files.
"""

import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backmap.prior import WEIGHT_EXACT, WEIGHT_SOFT
from .checks import Check, checks, verdict

if TYPE_CHECKING:
    from ..backmap.result import BackmapResult, FrameResult


def run_checks(result: "BackmapResult") -> list[Check]:
    """The checks of every frame of a run, summed."""
    several = len(result.frames) > 1
    rows = [(f"frame {frame.frame}" if several else "", frame.quality) for frame in result.frames if frame.quality]
    return checks(rows)


def run_verdict(result: "BackmapResult | None", error: str | None) -> tuple[str, str]:
    """Outcome as ``good`` or ``bad`` and in words."""
    if error is None and result is not None and any(not math.isfinite(frame.energy) for frame in result.frames):
        error = "the energy is not finite"
    return verdict(run_checks(result) if result is not None else [], error)


def summarize(result: "BackmapResult | None", *, title: str, settings: Mapping[str, Any], error: str | None) -> dict:
    """Everything the report says, as a dict that `json.dumps` takes.

    Arguments:
        result: of the run; None when it failed before there was one.
        title: name of the structure.
        settings: what the user asked for.
        error: why the run ended badly, or None.
    """
    kind, words = run_verdict(result, error)
    summary: dict[str, Any] = {
        "jaxcg": version("jaxcg"),
        "title": title,
        "outcome": kind,
        "verdict": words,
        "error": error,
        "settings": dict(settings),
    }
    if result is not None:
        system = result.molecule.system
        summary |= {
            "residues": system.n_residues,
            "atoms": system.n_atoms,
            "beads": result.molecule.mapping.n_beads,
            "nullity": result.molecule.mapping.nullity,
            "notes": list(result.notes),
            "checks": [
                {"name": row.name, "found": row.found, "of": row.looked_at, "where": row.where}
                for row in run_checks(result)
            ],
            "frames": [_frame(result, frame) for frame in result.frames],
            "ensemble": result.samples.statistics() if result.samples is not None else None,
        }
    return plain(summary)


def backbone_prior(result: "BackmapResult", frame: "FrameResult") -> float:
    """Weight of the knowledge-based backbone prior that a frame was built with, kT."""
    asked = result.settings.get("backbone_prior")
    if asked is not None:
        return float(asked)
    return WEIGHT_EXACT if frame.bead_mode == "exact" else WEIGHT_SOFT


def _frame(result: "BackmapResult", frame: "FrameResult") -> dict:
    return {
        "frame": frame.frame,
        "backbone_prior": backbone_prior(result, frame),
        "beads": {"mode": frame.bead_mode, "noise_nm": frame.bead_noise, "reason": frame.bead_reason},
        "energy": frame.energy,
        "energy_terms": frame.energy_terms,
        "status": frame.status,
        "gradient_norm": frame.gradient_norm,
        "bond_strain": frame.bond_strain,
        "cis_prolines": frame.cis_prolines,
        "repairs": frame.repairs,
        "quality": frame.quality.to_dict() if frame.quality else None,
        "history": frame.history,
    }


def plain(value: Any) -> Any:
    """``value`` in types that JSON knows: arrays become lists, numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, str) or value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int):
        return value
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    return str(value)

"""What the 3-D view shows, packed small: coordinates as 16-bit whole picometres, base64."""

import base64
from collections.abc import Sequence

import numpy as np

from ..system import System

#: Longest run of frames or samples put into a page; longer ones are thinned evenly.
LARGEST_RUN = 40
#: Coordinates of one page, above which the runs are thinned further.
LARGEST_PAGE = 1_500_000


def thin(count: int, n_atoms: int) -> np.ndarray:
    """Indices of at most `LARGEST_RUN` of ``count`` configurations, evenly spaced, first and last among them."""
    most = int(np.clip(LARGEST_PAGE // max(3 * n_atoms, 1), 2, LARGEST_RUN))
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def build_scene(system: System, bead_is_backbone: Sequence[bool], frames: Sequence[dict]) -> dict:
    """Scene for the viewer, ready for JSON.

    Arguments:
        system: the molecule.
        bead_is_backbone: (beads,) True for beads drawn in the backbone's colour.
        frames: dicts with ``label``, ``positions`` (atoms, 3) nm, ``beads`` (beads, 3) nm, ``deviation`` (residues,) nm
            and ``flagged``, atoms to mark.
    """
    # Coordinates about the centre of the frame: 16 bits of a picometre reach 32 nm either way; coarser if they must.
    reach = max(float(np.abs(frame["positions"] - _center(frame)).max()) for frame in frames) + 1.0
    scale = 0.001 * max(1.0, reach / 32.0)
    deviations = np.concatenate([np.asarray(frame["deviation"], dtype=float) for frame in frames])
    top = float(np.percentile(deviations, 98)) if deviations.size else 0.0
    return {
        "names": list(system.atom_names),
        "elements": list(system.elements),
        "residues": [system.residue_label(r) for r in range(system.n_residues)],
        "atomResidue": _pack(system.atom_residue, "<i4"),
        "bonds": _pack(system.bonds, "<i4"),
        "traces": _traces(system),
        "beadBackbone": [bool(b) for b in bead_is_backbone],
        "scale": scale,
        "deviationScale": top or 1.0,
        "frames": [
            {
                "label": frame["label"],
                "origin": [round(float(v), 4) for v in _center(frame)],
                "positions": _quantize(frame["positions"], _center(frame), scale),
                "beads": _quantize(frame["beads"], _center(frame), scale),
                "deviation": [round(float(v), 4) for v in frame["deviation"]],
                "flagged": [int(i) for i in frame["flagged"]],
            }
            for frame in frames
        ],
    }


def _center(frame: dict) -> np.ndarray:
    return np.round(np.asarray(frame["positions"], dtype=float).mean(axis=0), 4)


def _quantize(positions, center, scale: float) -> str:
    whole = np.round((np.asarray(positions, dtype=float) - center) / scale)
    return _pack(np.clip(whole, -32767, 32767), "<i2")


def _pack(values, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=dtype).tobytes()).decode("ascii")


def _traces(system: System) -> list[list[int]]:
    """CA atoms of each stretch of residues joined by peptide bonds."""
    tables = system.residue_atoms()
    joined = set()
    for a, b in system.bonds:
        pair = sorted((int(a), int(b)), key=lambda i: system.atom_residue[i])
        names = [system.atom_names[i] for i in pair]
        if names == ["C", "N"]:
            joined.add((int(system.atom_residue[pair[0]]), int(system.atom_residue[pair[1]])))
    traces: list[list[int]] = []
    for residue, atoms in enumerate(tables):
        if "CA" not in atoms or "N" not in atoms:
            continue
        if traces and (residue - 1, residue) in joined and system.atom_residue[traces[-1][-1]] == residue - 1:
            traces[-1].append(atoms["CA"])
        else:
            traces.append([atoms["CA"]])
    return [trace for trace in traces if len(trace) > 1]

"""What a back-mapping run returns."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..sampling import EnsembleResult
from .quality import Quality


@dataclass(frozen=True)
class FrameResult:
    """The MAP structure of one frame.

    Arguments:
        frame: number of the frame in its trajectory, 0 for a structure.
        positions: (atoms, 3) nm, float64; exact beads are reproduced to float64 round-off.
        y: (beads, 3) nm, the beads asked for.
        bead_mode: ``"exact"`` or ``"soft"``.
        bead_noise: σ of each bead coordinate, nm; None when exact.
        bead_reason: why this mode, in words.
        energy: of the force field, kJ/mol (no prior, no bead restraint).
        energy_terms: the same by term.
        history: rows ``{"stage", "step", "energy"}`` along the way.
        status: ``"converged"``, ``"steps exhausted"`` or ``"not finite"`` of the MAP search.
        gradient_norm: rms of the projected gradient at the MAP, kJ/mol/nm.
        bond_strain: relative rms deviation of the bonds between heavy atoms from their ideal lengths.
        repairs: how often residues were started anew.
        cis_prolines: prolines (residue indices) whose preceding peptide was found to be cis.
        quality: the checks.
        seconds: spent in each stage.
    """

    frame: int
    positions: np.ndarray
    y: np.ndarray
    bead_mode: str
    bead_noise: float | None
    bead_reason: str
    energy: float
    energy_terms: dict[str, float]
    history: list[dict[str, Any]]
    status: str
    gradient_norm: float
    bond_strain: float
    repairs: int
    cis_prolines: tuple[int, ...]
    quality: Quality | None
    seconds: dict[str, float]


@dataclass
class BackmapResult:
    """Outcome of `backmap`.

    Arguments:
        molecule: the molecule that was built (`jaxcg.io.Molecule`).
        settings: what was asked for, by name.
        notes: decisions taken, for the user.
        frames: one `FrameResult` for each frame.
        samples: posterior ensemble of the first frame, or None.
    """

    molecule: Any
    settings: dict[str, Any]
    notes: list[str]
    frames: list[FrameResult] = field(default_factory=list)
    samples: EnsembleResult | None = None


@dataclass(frozen=True)
class Relaxed:
    """Result of one relaxation.

    Arguments:
        x: (atoms, 3) nm.
        strain: relative rms strain of the bonds after the embedding.
        repairs: how often residues were started anew.
        bad: residues that stayed wrong after the last repair; empty for a sound structure.
        history: ``(stage, steps done)`` of every stage, in order, with the positions after it.
        seconds: seconds spent in each stage.
    """

    x: np.ndarray
    strain: float
    repairs: int
    bad: tuple[int, ...]
    history: list[tuple[str, int, np.ndarray]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

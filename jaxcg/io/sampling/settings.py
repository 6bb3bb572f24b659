"""What a user asks `jaxcg sample` for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

#: Settings that name files.
FILES = ("structure", "trajectory", "reference", "start", "protonation", "problem", "mapping")


@dataclass(frozen=True)
class SampleSettings:
    """Everything that decides what a run of `jaxcg sample` gives; see its options.

    Arguments:
        structure, trajectory: coarse-grained structure file, and trajectory of the same beads.
        problem: prepared problem file instead of these.
        frames: of the trajectory, as a Python slice.
        reference, start, protonation: all-atom structure, starting structures, protonation states.
        mapping, forcefield, solvent, dielectric: model; see `jaxcg.backmap.backmap`.
        temperature: K.
        beads: ``"exact"``, ``"soft"`` or ``"auto"``, decided for the first frame.
        noise: σ of soft beads, nm.
        backbone_prior: weight of the knowledge-based backbone prior in the target, kT.
        chains, starts: chains of each frame, and independent relaxations they start from.
        sampler, mass, draws, thin, steps, step_size, burn_in, warmup: of the chains; the step size in ps.
        tempering: highest temperature of replica exchange, K; None for none.
        seed: of all random numbers.
        precision: ``"float32"`` or ``"float64"``.
        format: of the trajectories.
    """

    structure: str | None = None
    trajectory: str | None = None
    problem: str | None = None
    frames: str | None = None
    reference: str | None = None
    start: str | None = None
    protonation: str | None = None
    mapping: str = "martini3"
    forcefield: tuple[str, ...] = ("amber14",)
    solvent: str = "none"
    dielectric: float | None = None
    temperature: float = 300.0
    beads: str = "auto"
    noise: float | None = None
    backbone_prior: float = 0.0
    chains: int = 8
    starts: int = 8
    sampler: str = "hmc"
    mass: str = "heavy-hydrogens"
    draws: int = 100
    thin: int = 5
    steps: int = 40
    step_size: float = 0.001
    burn_in: int = 1500
    warmup: int = 40
    tempering: float | None = None
    seed: int = 0
    precision: str = "float32"
    format: str = "xtc"

    def shown(self) -> dict[str, Any]:
        """Settings as files and reports show them: names without folders, so that a copied input changes nothing."""
        found = asdict(self)
        for name in FILES:
            if found[name] is not None and Path(found[name]).is_file():
                found[name] = Path(found[name]).name
        return found

    def identity(self) -> dict[str, Any]:
        """What two runs must share to be the same: the settings, and fingerprints of the input files."""
        prints = {}
        for name in FILES:
            path = getattr(self, name)
            if path is not None and Path(path).is_file():
                prints[name] = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        return {"settings": {**self.shown(), "forcefield": list(self.forcefield)}, "input_files": prints}


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first setting in which two runs differ, in words."""
    for field in fields(SampleSettings):
        old, new = there["settings"].get(field.name), here["settings"].get(field.name)
        if old != new:
            return f"{field.name.replace('_', ' ')}: {old} there, {new} here"
    changed = [name for name in FILES if there["input_files"].get(name) != here["input_files"].get(name)]
    return f"the {changed[0]} file has changed" if changed else "it differs"

"""Draws as trajectory files, and the figures of a frame that outlive its positions."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...sampling.campaign.samples import FrameSamples
from ...sampling.diagnostics.torsions import Torsions
from ..trajectories import FrameBlock
from ..trajectory_writers import BeadLabels, open_writer
from ..writers import atomic_path
from ..xdr import XtcFile

#: Formats of the trajectories.
FORMATS = ("xtc", "dcd", "trr")
#: Smallest distance the XTC files tell apart is the inverse, nm⁻¹.
_PRECISION = 1e5
#: Draws written at once.
_BLOCK = 256


@dataclass(frozen=True)
class FrameFigures:
    """What is kept of a frame when its positions are on disk.

    Fields:
        frame: its number.
        energies, potentials: (chains, draws) kJ/mol.
        radius_of_gyration: (chains, draws) nm, of all atoms by mass.
        angles: (chains, draws, torsions) radians.
        total_energies: (chains, trajectories) kJ/mol.
        start_potentials, acceptance, divergences, step_size, burn_in_temperature: (chains,), as in `FrameSamples`.
        gradients, dimension: as there.
        temperature: K.
        note: what else is to be said of it.
    """

    frame: int
    energies: np.ndarray
    potentials: np.ndarray
    radius_of_gyration: np.ndarray
    angles: np.ndarray
    total_energies: np.ndarray
    start_potentials: np.ndarray
    acceptance: np.ndarray
    divergences: np.ndarray
    step_size: np.ndarray
    burn_in_temperature: np.ndarray
    gradients: int
    dimension: int
    temperature: float
    note: str = ""

    @staticmethod
    def of(samples: FrameSamples, torsions: Torsions, masses: np.ndarray, note: str = "") -> FrameFigures:
        """The figures of ``samples``; ``masses`` (atoms,) in amu; ``note`` is kept with them."""
        shared = {f.name for f in fields(FrameSamples)} & {f.name for f in fields(FrameFigures)}
        weights = np.asarray(masses) / np.sum(masses)
        radius = np.empty(samples.energies.shape)
        for chain, x in enumerate(samples.positions):
            x = x.astype(np.float64)
            centred = x - np.einsum("a,dax->dx", weights, x)[:, None]
            radius[chain] = np.sqrt(np.einsum("a,dax->d", weights, centred**2))
        return FrameFigures(
            radius_of_gyration=radius,
            angles=torsions.along(samples.positions),
            note=note,
            **{name: getattr(samples, name) for name in shared},
        )

    def save(self, path: Path) -> None:
        """Writes the figures, atomically."""
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **vars(self))

    @staticmethod
    def load(path: Path) -> FrameFigures:
        """Reads the figures."""
        with np.load(path, allow_pickle=False) as data:
            found = {name: data[name] for name in data.files}
        return FrameFigures(**{name: value.item() if value.ndim == 0 else value for name, value in found.items()})


def write_draws(path: str | os.PathLike, positions: np.ndarray) -> None:
    """Writes draws chain by chain as XTC (to 1e-5 nm), DCD or TRR, by the ending.

    The time of a draw is its number among all of them, and so is its step.

    Arguments:
        path: file to write; it appears when it is complete.
        positions: (chains, draws, atoms, 3) nm.

    Raises:
        InputError: an ending that is none of these.
        OSError: it cannot be written.
    """
    flat = positions.reshape(-1, *positions.shape[2:])
    ending = Path(path).suffix.lower().lstrip(".")
    if ending not in FORMATS:
        raise InputError(f"{os.fspath(path)}: draws are written as {', '.join(FORMATS)}.")
    none = np.zeros((3, 3), np.float32)
    if ending == "xtc":
        with atomic_path(path) as temporary, XtcFile(temporary, "w") as file:
            for number, x in enumerate(flat):
                file.write(np.ascontiguousarray(x, np.float32), none, number, float(number), _PRECISION)
        return
    n_atoms = flat.shape[1]
    labels = BeadLabels(*([""] * n_atoms for _ in range(4)), ends=np.zeros(n_atoms, bool))
    with open_writer(path, labels, len(flat)) as writer:
        for start in range(0, len(flat), _BLOCK):
            part = np.asarray(flat[start : start + _BLOCK], np.float32)
            numbers = np.arange(start, start + len(part))
            boxes = np.zeros((len(part), 3, 3), np.float32)
            writer.write(FrameBlock(part, boxes, numbers.astype(np.float64), numbers))

"""Writing trajectories and structures of beads block by block, in the format that the file's ending names."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import InputError
from .trajectories import FrameBlock
from .writers import atomic_path
from .xdr import TrrFrame, XtcFile, index_xtc, pack_trr

#: Endings of files that can be written.
WRITABLE = ("xtc", "trr", "dcd", "gro", "pdb")
#: Smallest distance XTC files tell apart, nm⁻¹: what Gromacs writes.
_XTC_PRECISION = 1000.0
#: ps in one unit of time of CHARMM, which DCD files use.
_AKMA = 4.888821e-2


@dataclass(frozen=True)
class BeadLabels:
    """What structure files say of each bead.

    Arguments:
        names, residue_names, residue_ids, chain_ids: (beads,).
        ends: (beads,) True where a chain ends: PDB files get a TER record.
        bonds: (bonds, 2) pairs of beads.
    """

    names: Sequence[str]
    residue_names: Sequence[str]
    residue_ids: Sequence[str]
    chain_ids: Sequence[str]
    ends: np.ndarray
    bonds: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), dtype=int))

    def __len__(self) -> int:
        return len(self.names)


class TrajectoryWriter(ABC):
    """A file open for writing frames of beads; `open_writer` makes one."""

    @abstractmethod
    def write(self, block: FrameBlock) -> None:
        """Appends frames (nm, ps, kJ/mol/nm); velocities and forces are written where the format has them."""

    @abstractmethod
    def close(self) -> None:
        """Ends the file."""


def check_ending(path: str | os.PathLike) -> str:
    """Format of a file to write, by its ending.

    Raises:
        InputError: the ending is not known; the message lists those that are.
    """
    ending = Path(path).suffix.lower().lstrip(".")
    if ending not in WRITABLE:
        known = ", ".join(f".{name}" for name in WRITABLE)
        raise InputError(f"{os.fspath(path)}: cannot be written; the name must end with one of {known}.")
    return ending


@contextmanager
def open_writer(path: str | os.PathLike, labels: BeadLabels, n_frames: int) -> Iterator[TrajectoryWriter]:
    """A writer whose file appears under its name when the block ends without an error.

    Arguments:
        path: the file; its ending chooses among XTC (to 0.001 nm), TRR, DCD, GRO and PDB.
        labels: of the beads.
        n_frames: number of frames to come; several make a PDB file of models.

    Raises:
        InputError: the ending is not known, or the file cannot be written.
    """
    kind = {"xtc": _Xtc, "trr": _Trr, "dcd": _Dcd, "gro": _Gro, "pdb": _Pdb}[check_ending(path)]
    try:
        with atomic_path(path) as temporary:
            writer = kind(temporary, labels, n_frames)
            try:
                yield writer
            finally:
                writer.close()
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: cannot be written ({error.strerror or error}).") from error


class _Xtc(TrajectoryWriter):
    def __init__(self, path: Path, labels: BeadLabels, n_frames: int):
        self._file, self._path, self._count = XtcFile(path, "w"), path, 0

    def write(self, block: FrameBlock) -> None:
        for x, box, step, time in zip(block.positions, block.boxes, block.steps, block.times):
            self._file.write(x, box, int(step), float(time), _XTC_PRECISION)
            self._count += 1

    def close(self) -> None:
        self._file.close()
        _require_frames(self._count, len(index_xtc(self._path).offsets) if self._path.stat().st_size else 0)


class _Trr(TrajectoryWriter):
    def __init__(self, path: Path, labels: BeadLabels, n_frames: int):
        self._file = open(path, "wb")  # noqa: SIM115 (closed by close)

    def write(self, block: FrameBlock) -> None:
        for i in range(len(block)):
            frame = TrrFrame(
                positions=block.positions[i],
                velocities=None if block.velocities is None else block.velocities[i],
                forces=None if block.forces is None else block.forces[i],
                box=block.boxes[i],
                step=int(block.steps[i]),
                time=float(block.times[i]),
            )
            self._file.write(pack_trr(frame))

    def close(self) -> None:
        self._file.close()


class _Dcd(TrajectoryWriter):
    """DCD knows one interval of time for all frames: that between the first two."""

    def __init__(self, path: Path, labels: BeadLabels, n_frames: int):
        from MDAnalysis.lib.formats.libdcd import DCDFile

        self._file, self._n_beads, self._begun = DCDFile(str(path), "w"), len(labels), False
        self._path, self._count = path, 0

    def write(self, block: FrameBlock) -> None:
        boxed = bool(block.boxes.any())
        if not self._begun:
            interval = float(block.times[1] - block.times[0]) if len(block) > 1 else 1.0
            interval = interval if interval > 0 else 1.0
            first = max(round(float(block.times[0]) / interval), 0)
            self._file.write_header(
                remarks="beads", natoms=self._n_beads, istart=first, nsavc=1, delta=interval / _AKMA, is_periodic=boxed
            )
            self._begun = True
        for positions, box in zip(_single(block.positions), block.boxes):
            lengths, angles = lengths_and_angles(box)
            cosines = np.cos(np.radians(angles))
            cell = [lengths[0] * 10, cosines[2], lengths[1] * 10, cosines[1], cosines[0], lengths[2] * 10]
            self._file.write(positions * np.float32(10.0), np.asarray(cell))
            self._count += 1

    def close(self) -> None:
        self._file.close()
        # Three records of coordinates to a frame, each between two lengths, and one of the cell where there is one.
        least = self._count * 3 * (4 * self._n_beads + 8)
        _require_frames(self._count, self._count if self._path.stat().st_size >= least else 0)


class _Gro(TrajectoryWriter):
    def __init__(self, path: Path, labels: BeadLabels, n_frames: int):
        self._file = open(path, "w")  # noqa: SIM115 (closed by close)
        self._heads = [
            f"{_number(identity) % 100_000:5d}{residue[:5]:<5s}{name[:5]:>5s}{(i + 1) % 100_000:5d}"
            for i, (identity, residue, name) in enumerate(zip(labels.residue_ids, labels.residue_names, labels.names))
        ]

    def write(self, block: FrameBlock) -> None:
        for i, positions in enumerate(block.positions):
            self._file.write(f"beads, t= {block.times[i]:.5f} step= {block.steps[i]}\n{len(self._heads)}\n")
            if block.velocities is None:
                rows, line = positions.tolist(), "{}{:8.3f}{:8.3f}{:8.3f}\n".format
            else:
                rows = np.concatenate([positions, block.velocities[i]], axis=1).tolist()
                line = "{}{:8.3f}{:8.3f}{:8.3f}{:8.4f}{:8.4f}{:8.4f}\n".format
            self._file.writelines(line(head, *row) for head, row in zip(self._heads, rows))
            a, b, c = block.boxes[i].tolist()
            box = [a[0], b[1], c[2]]
            if any((a[1], a[2], b[0], b[2], c[0], c[1])):
                box += [a[1], a[2], b[0], b[2], c[0], c[1]]
            self._file.write("".join(f"{value:10.5f}" for value in box) + "\n")

    def close(self) -> None:
        self._file.close()


class _Pdb(TrajectoryWriter):
    def __init__(self, path: Path, labels: BeadLabels, n_frames: int):
        self._file = open(path, "w")  # noqa: SIM115 (closed by close)
        self._labels, self._several, self._count = labels, n_frames > 1, 0
        self._heads = []
        for i in range(len(labels)):
            name, residue = labels.names[i], labels.residue_names[i]
            name = f" {name:<3s}" if len(name) < 4 else name[:4]
            residue = f"{residue[:4]:>3s} " if len(residue) < 4 else residue[:4]
            number, code = _number(labels.residue_ids[i]) % 10_000, labels.residue_ids[i].lstrip("-0123456789")[:1]
            chain = labels.chain_ids[i][:1]
            serial = (i + 1) % 100_000
            self._heads.append(f"ATOM  {serial:5d} {name} {residue}{chain:1s}{number:4d}{code:1s}   ")

    def write(self, block: FrameBlock) -> None:
        for i, positions in enumerate(block.positions):
            if np.abs(positions).max(initial=0.0) >= 999.9:
                raise InputError("PDB files hold coordinates below 1000 nm; write GRO or XTC.")
            self._count += 1
            if self._several:
                self._file.write(f"MODEL     {self._count:4d}\n")
            if block.boxes[i].any():
                # Within the model: there every reader finds the box of its frame.
                lengths, angles = lengths_and_angles(block.boxes[i])
                cell = "".join(f"{10 * length:9.3f}" for length in lengths) + "".join(f"{a:7.2f}" for a in angles)
                self._file.write(f"CRYST1{cell} P 1           1\n")
            for head, (x, y, z), end in zip(self._heads, (positions * 10.0).tolist(), self._labels.ends.tolist()):
                self._file.write(f"{head}{x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00\n")
                if end:
                    self._file.write("TER\n")
            if self._several:
                self._file.write("ENDMDL\n")

    def close(self) -> None:
        if len(self._labels) < 100_000:
            self._file.writelines(f"CONECT{a + 1:5d}{b + 1:5d}\n" for a, b in self._labels.bonds.tolist())
        self._file.write("END\n")
        self._file.close()


def _require_frames(written: int, found: int) -> None:
    """Raises OSError unless every frame reached the disk: the C libraries do not tell when it was full."""
    if found < written:
        raise OSError(f"only {found} of {written} frames reached the disk; it may be full")


def lengths_and_angles(box) -> tuple[np.ndarray, np.ndarray]:
    """Lengths (nm) and angles α, β, γ (degrees) of box vectors (3, 3); right angles where there is no box."""
    box = np.asarray(box, dtype=np.float64)
    lengths = np.linalg.norm(box, axis=1)
    safe = np.where(lengths > 0, lengths, 1.0)
    unit = box / safe[:, None]
    cosines = np.array([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]])
    return lengths, np.degrees(np.arccos(np.clip(cosines, -1.0, 1.0)))


def _number(identity: str) -> int:
    """Number of a residue id, which may end with an insertion code."""
    digits = identity.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz ")
    return abs(int(digits)) if digits.lstrip("-").isdigit() else 0


def _single(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, dtype=np.float32)

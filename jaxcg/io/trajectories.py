"""All-atom trajectories, read block by block in constant memory; a file that breaks off is read to where it does."""

from __future__ import annotations

import os
import tempfile
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .beads import first_line
from .whole import box_vectors
from .xdr import XtcFile, index_trr, index_xtc, read_trr

#: Bytes of positions, velocities and forces in one block.
BLOCK_BYTES = 16_000_000


@dataclass(frozen=True)
class FrameBlock:
    """Successive frames.

    Arguments:
        positions: (frames, atoms, 3) float32, nm.
        boxes: (frames, 3, 3) float32 box vectors as rows, nm; zeros where a frame has no box.
        times: (frames,) ps.
        steps: (frames,) step numbers.
        velocities: (frames, atoms, 3) float32, nm/ps, or None.
        forces: (frames, atoms, 3) float32, kJ/mol/nm, or None.
    """

    positions: np.ndarray
    boxes: np.ndarray
    times: np.ndarray
    steps: np.ndarray
    velocities: np.ndarray | None = None
    forces: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.positions)

    def head(self, count: int) -> FrameBlock:
        """The first ``count`` frames."""
        return FrameBlock(
            positions=self.positions[:count],
            boxes=self.boxes[:count],
            times=self.times[:count],
            steps=self.steps[:count],
            velocities=None if self.velocities is None else self.velocities[:count],
            forces=None if self.forces is None else self.forces[:count],
        )


class BrokenFrame(Exception):
    """A frame cannot be read.

    Arguments:
        number: of the frame.
        block: the frames before it.
        reason: one phrase.
    """

    def __init__(self, number: int, block: FrameBlock, reason: str):
        super().__init__(f"frame {number}: {reason}")
        self.number, self.block, self.reason = number, block, reason


class Trajectory(ABC):
    """A trajectory file open for reading; `open_trajectory` makes one. Any thread may read from it.

    Arguments:
        path: the file.
        n_atoms: atoms in each frame.
        n_frames: number of whole frames.
        damage: what is wrong behind the last whole frame, or None.
        has_velocities, has_forces: whether all frames have them.
    """

    def __init__(self, path: str, n_atoms: int, n_frames: int, damage: str | None = None, fields: str = ""):
        self.path, self.n_atoms, self.n_frames = path, n_atoms, n_frames
        self.damage = None if damage is None else f"{damage} after {n_frames} whole frames"
        self.has_velocities, self.has_forces = "v" in fields, "f" in fields

    @abstractmethod
    def read(self, numbers: Sequence[int]) -> FrameBlock:
        """The frames with these numbers, ascending from 0.

        Raises:
            BrokenFrame: one of them cannot be read.
        """

    def block_length(self) -> int:
        """Frames in a block of about `BLOCK_BYTES`."""
        arrays = 1 + self.has_velocities + self.has_forces
        return max(1, BLOCK_BYTES // (12 * arrays * max(self.n_atoms, 1)))


def open_trajectory(path: str | os.PathLike, n_atoms: int | None = None) -> Trajectory:
    """Opens a trajectory, or a structure file as a trajectory of its models.

    XTC and TRR are read by the fastest way; DCD and all else through MDAnalysis.

    Arguments:
        path: the file.
        n_atoms: atoms it should have; some formats do not say.

    Raises:
        InputError: the file is missing, empty, unreadable, or holds no whole frame.
    """
    path = os.fspath(path)
    if not Path(path).is_file():
        what = "is a folder, not a file" if Path(path).is_dir() else "no such file"
        raise InputError(f"{path}: {what}.")
    if Path(path).stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    ending = Path(path).suffix.lower()
    try:
        found = {".xtc": _Xtc, ".trr": _Trr}.get(ending, _Other)(path, n_atoms)
    except InputError:
        raise
    except Exception as error:  # readers raise anything on damaged files
        raise InputError(f"{path}: cannot be read as a trajectory ({first_line(error)}).") from error
    if found.n_frames == 0:
        raise InputError(f"{path}: not one whole frame in this file{f' ({found.damage})' if found.damage else ''}.")
    return found


class _Xtc(Trajectory):
    """An XTC file."""

    def __init__(self, path: str, n_atoms: int | None):
        del n_atoms
        index = index_xtc(path)
        super().__init__(path, index.n_atoms, len(index.offsets), index.damage)
        self._offsets = index.offsets

    def read(self, numbers: Sequence[int]) -> FrameBlock:
        block = _empty_block(len(numbers), self.n_atoms)
        with XtcFile(self.path) as file:
            for i, number in enumerate(numbers):
                try:
                    block.steps[i], block.times[i], block.boxes[i] = file.read(
                        self._offsets[number], block.positions[i]
                    )
                except OSError as error:
                    raise BrokenFrame(number, block.head(i), first_line(error)) from error
        return block


class _Trr(Trajectory):
    """A TRR file; frames without positions are passed over."""

    def __init__(self, path: str, n_atoms: int | None):
        del n_atoms
        index = index_trr(path)
        super().__init__(path, index.n_atoms, len(index.offsets), index.damage, index.fields)
        self._offsets = index.offsets

    def read(self, numbers: Sequence[int]) -> FrameBlock:
        block = _empty_block(len(numbers), self.n_atoms, velocities=self.has_velocities, forces=self.has_forces)
        for i, number in enumerate(numbers):
            try:
                frame = read_trr(self.path, self._offsets[number])
            except OSError as error:
                raise BrokenFrame(number, block.head(i), first_line(error)) from error
            block.positions[i], block.boxes[i] = frame.positions, frame.box
            block.steps[i], block.times[i] = frame.step, frame.time
            if block.velocities is not None and frame.velocities is not None:
                block.velocities[i] = frame.velocities
            if block.forces is not None and frame.forces is not None:
                block.forces[i] = frame.forces
        return block


class _Other(Trajectory):
    """Any format that MDAnalysis reads."""

    def __init__(self, path: str, n_atoms: int | None):
        from MDAnalysis.coordinates.core import get_reader_for
        from MDAnalysis.lib.formats.libdcd import DCDFile

        # MDAnalysis leaves an index and a lock beside the file it reads; a link keeps the user's folder clean.
        folder = tempfile.TemporaryDirectory(prefix="jaxcg-")
        link = Path(folder.name) / Path(path).name
        link.symlink_to(Path(path).resolve())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if link.suffix.lower() == ".dcd":
                    # Opened once before: MDAnalysis' reader prints a traceback of its own when that fails.
                    DCDFile(str(link)).close()
                self._reader: Any = get_reader_for(str(link))(str(link), n_atoms=n_atoms)
            except BaseException:
                folder.cleanup()
                raise
        weakref.finalize(self._reader, folder.cleanup)
        first = self._reader.ts
        fields = ("v" if first.has_velocities else "") + ("f" if first.has_forces else "")
        n_frames = int(self._reader.n_frames)
        super().__init__(path, int(self._reader.n_atoms), n_frames, _dcd_damage(path, self._reader), fields)
        self._lock = threading.Lock()

    def read(self, numbers: Sequence[int]) -> FrameBlock:
        block = _empty_block(len(numbers), self.n_atoms, velocities=self.has_velocities, forces=self.has_forces)
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for i, number in enumerate(numbers):
                try:
                    frame = self._reader[number]
                except Exception as error:  # readers raise anything from EOFError to StopIteration on damaged files
                    raise BrokenFrame(number, block.head(i), first_line(error)) from error
                block.positions[i] = frame.positions * 0.1
                box = box_vectors(frame.dimensions)
                block.boxes[i] = 0.0 if box is None else box
                block.times[i], block.steps[i] = frame.time, frame.data.get("step", number)
                if block.velocities is not None:
                    block.velocities[i] = frame.velocities * 0.1
                if block.forces is not None:
                    block.forces[i] = frame.forces * 10.0
        return block


def _empty_block(n_frames: int, n_atoms: int, *, velocities: bool = False, forces: bool = False) -> FrameBlock:
    shape = (n_frames, n_atoms, 3)
    return FrameBlock(
        positions=np.empty(shape, np.float32),
        boxes=np.zeros((n_frames, 3, 3), np.float32),
        times=np.zeros(n_frames),
        steps=np.zeros(n_frames, np.int64),
        velocities=np.empty(shape, np.float32) if velocities else None,
        forces=np.empty(shape, np.float32) if forces else None,
    )


def _dcd_damage(path: str, reader) -> str | None:
    """A DCD file whose size is no whole number of frames was cut off; its reader says nothing."""
    file = getattr(reader, "_file", None)
    sizes = [getattr(file, name, None) for name in ("_header_size", "_firstframesize", "_framesize")]
    if Path(path).suffix.lower() != ".dcd" or None in sizes:
        return None
    header, first, later = (int(size) for size in sizes if size is not None)
    rest = os.path.getsize(path) - header - first
    return "the frame is cut off" if later and rest % later else None

"""Coarse-grained trajectories, one frame at a time."""

from __future__ import annotations

import os
import tempfile
import warnings
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from .beads import Beads, check_finite, first_line, read_beads
from .whole import box_vectors, make_whole


class Frames:
    """Frames of a trajectory, read one at a time: has a length and can be iterated more than once.

    Each item is (frame number, positions (beads, 3) nm, box vectors (3, 3) nm or None).
    """

    def __init__(self, reader, numbers: list[int], columns: np.ndarray, beads: Beads, path: str):
        self.numbers = tuple(numbers)
        self._reader, self._columns, self._beads, self._path = reader, columns, beads, path

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
        for number in self.numbers:
            try:
                frame = self._reader[number]
            except (OSError, EOFError, ValueError, RuntimeError) as error:
                raise InputError(f"{self._path}: frame {number} cannot be read ({first_line(error)}).") from error
            positions = np.asarray(frame.positions, dtype=np.float64)[self._columns] * 0.1
            here = replace(self._beads, positions=positions, path=f"{self._path}, frame {number}")
            check_finite(here)
            box = box_vectors(frame.dimensions)
            yield number, make_whole(positions, here, box), box


def read_frames(
    beads: Beads | str | os.PathLike, trajectory: str | os.PathLike, selection: str | None = None
) -> Frames:
    """Frames of a coarse-grained trajectory, in any format MDAnalysis reads; molecules cut by a box are made whole.

    Arguments:
        beads: the structure the trajectory belongs to (as read by `read_beads`, or its path).
        trajectory: trajectory file; it holds the atoms of the structure file, or only the solute.
        selection: ``"start:stop:step"`` like a Python slice, a single number, a comma-separated list of numbers, or
            None for all frames.

    Raises:
        InputError: the file cannot be read, has another number of beads, or has no frame in the selection; while
            iterating, a frame that cannot be read or has coordinates that are not finite.
    """
    if not isinstance(beads, Beads):
        beads = read_beads(beads)
    trajectory = os.fspath(trajectory)
    reader = _open_trajectory(trajectory, beads)
    if reader.n_atoms == beads.n_file_atoms:
        columns = beads.kept
    elif reader.n_atoms == beads.n_beads:
        columns = np.arange(beads.n_beads)
    else:
        raise InputError(
            f"{trajectory}: {reader.n_atoms} beads per frame but {beads.path} has {beads.n_file_atoms}; "
            "give the structure file that belongs to this trajectory."
        )
    return Frames(reader, frame_numbers(selection, len(reader), trajectory), columns, beads, trajectory)


def frame_numbers(selection: str | None, n_frames: int, path: str = "trajectory") -> list[int]:
    """Frame numbers named by a selection such as ``"0:100:10"``, ``"5"`` or ``"0,3,7"`` (None: all).

    Raises:
        InputError: the selection cannot be understood or holds no frame.
    """
    if selection is None or not selection.strip():
        numbers = list(range(n_frames))
    else:
        try:
            if ":" in selection:
                parts = [int(part) if part.strip() else None for part in selection.split(":")]
                if len(parts) > 3:
                    raise ValueError
                numbers = list(range(n_frames))[slice(*parts)]
            else:
                numbers = [int(part) for part in selection.split(",")]
        except ValueError:
            raise InputError(f"frames '{selection}': give start:stop:step, or numbers with commas.") from None
        if any(not -n_frames <= number < n_frames for number in numbers):
            raise InputError(f"{path}: frames '{selection}' asks for a frame outside 0..{n_frames - 1}.")
        numbers = [number % n_frames for number in numbers]
    if not numbers:
        raise InputError(f"{path}: frames '{selection or 'all'}' holds none of the {n_frames} frames.")
    return numbers


def _open_trajectory(path: str, beads: Beads):
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file.")
    if Path(path).stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    from MDAnalysis.coordinates.core import get_reader_for

    # MDAnalysis leaves an index and a lock beside the file it reads; a link keeps the user's folder clean.
    folder = tempfile.TemporaryDirectory(prefix="jaxcg-")
    link = Path(folder.name) / Path(path).name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            link.symlink_to(Path(path).resolve())
            _try_header(str(link))
            try:
                reader = get_reader_for(str(link))(str(link), n_atoms=beads.n_file_atoms)
            except ValueError:
                # Formats without a number of atoms of their own, and trajectories of the solute alone.
                reader = get_reader_for(str(link))(str(link), n_atoms=beads.n_beads)
        except Exception as error:  # readers raise anything on damaged files
            folder.cleanup()
            raise InputError(f"{path}: cannot be read as a trajectory ({first_line(error)}).") from error
    weakref.finalize(reader, folder.cleanup)
    return reader


def _try_header(path: str) -> None:
    """Opens a Gromacs trajectory once: MDAnalysis' reader prints a traceback of its own when that fails."""
    from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

    opener = {".xtc": XTCFile, ".trr": TRRFile}.get(Path(path).suffix.lower())
    if opener is not None:
        opener(path).close()

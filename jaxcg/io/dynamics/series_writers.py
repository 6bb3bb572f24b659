"""Writing coordinate time series as they are made: NPZ, Zarr or XTC, of any length in bounded memory.

A writer works in a folder of its own and gives the finished files to another when the run is over. What it has written
before a run was killed it takes up again: a block may come twice, and frames beyond it are written over.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...dynamics.motion.simulation import Frames
from ...errors import InputError, ResultError
from ..writers import atomic_path
from ..xdr import XtcFile, index_xtc

#: Units of the arrays of a time series.
UNITS = {
    "times": "ps",
    "positions": "nm",
    "velocities": "nm/ps",
    "potential": "kJ/mol",
    "temperature": "K",
}
#: Smallest distance XTC files of time series tell apart is the inverse, nm⁻¹; and the largest number they hold.
_XTC_PRECISION, _XTC_LARGEST = 1e5, 2**31 - 1
#: Bytes of a chunk of a Zarr array, at most.
_ZARR_BYTES = 1 << 22


@dataclass(frozen=True)
class SeriesLayout:
    """What a time series is.

    Arguments:
        trajectories, frames: how many of each.
        shape: of the coordinates of one trajectory.
        interval: ps between two frames; the first is at this time.
        dtype: of the numbers.
        velocities: whether velocities are kept.
        about: the config of the run, kept with the numbers.
    """

    trajectories: int
    frames: int
    shape: tuple[int, ...]
    interval: float
    dtype: np.dtype
    velocities: bool = True
    about: dict[str, Any] = field(default_factory=dict)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every array but the times."""
        whole, scalar = (self.trajectories, self.frames, *self.shape), (self.trajectories, self.frames)
        arrays = {"positions": whole, "velocities": whole, "potential": scalar, "temperature": scalar}
        return arrays if self.velocities else {name: s for name, s in arrays.items() if name != "velocities"}

    def times(self, first: int = 0, last: int | None = None) -> np.ndarray:
        """Times of frames ``first`` to ``last``, ps."""
        return self.interval * np.arange(first + 1, (self.frames if last is None else last) + 1)


class RawArray:
    """A NumPy array on disk (``.npy``), filled block by block along its second axis with plain writes.

    Arguments:
        path: the file; one of this shape that is there is gone on with.
        shape: (rows, frames, ...).
        dtype: of the numbers.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: np.dtype):
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
        self._row = int(np.prod(shape[2:], dtype=np.int64)) * self.dtype.itemsize
        if not path.exists():
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                # A full disk is an error when numbers are written, not before: the file has holes until then.
                file.truncate(file.tell() + shape[0] * shape[1] * self._row)
        with open(path, "rb") as file:
            np.lib.format.read_magic(file)
            found = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        if found != (shape, False, self.dtype):
            raise InputError(f"{path}: is of another run; delete it to start over.")

    def write(self, first: int, values: np.ndarray) -> None:
        """Puts ``values`` (rows, block, ...) at frame ``first``."""
        values = np.ascontiguousarray(values, self.dtype)
        with open(self.path, "r+b") as file:
            for row, block in enumerate(values):
                file.seek(self._start + (row * self.shape[1] + first) * self._row)
                file.write(block.tobytes())

    def read(self) -> np.ndarray:
        """The array, mapped into memory."""
        return np.load(self.path, mmap_mode="r")


class SeriesWriter(ABC):
    """A time series being written; `open_series` makes one.

    Arguments:
        folder: where unfinished files are.
        layout: of the series.
    """

    def __init__(self, folder: Path, layout: SeriesLayout):
        self.folder, self.layout = folder, layout

    @abstractmethod
    def write(self, first: int, frames: Frames) -> None:
        """Writes frames from number ``first`` on; those that were there already are replaced.

        Raises:
            OSError: it cannot be written.
        """

    @abstractmethod
    def finish(self, target: Path) -> list[str]:
        """Puts the finished files into the folder ``target`` and returns their names; may be called again."""


def open_series(kind: str, folder: str | os.PathLike, layout: SeriesLayout) -> SeriesWriter:
    """A writer of a time series that works in ``folder``.

    Arguments:
        kind: ``"npz"``: one file, arrays with leading axes (trajectories, frames); ``"zarr"``: a Zarr 3 group of the
            same arrays in chunks, with units as attributes; ``"xtc"``: a file for each trajectory, to 1e-5 nm.
        folder: made when missing; one of an interrupted run is gone on with.
        layout: of the series.

    Raises:
        InputError: the format cannot hold the series, or needs a package that is not installed.
    """
    writers: dict[str, type[SeriesWriter]] = {"npz": _Npz, "zarr": _Zarr, "xtc": _Xtc}
    if kind not in writers:
        raise InputError(f"format {kind!r} is not known; choose npz, zarr or xtc.")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    return writers[kind](path, layout)


class _Npz(SeriesWriter):
    """Raw arrays while the run goes; at its end they are put together as they are."""

    def __init__(self, folder: Path, layout: SeriesLayout):
        super().__init__(folder, layout)
        self._arrays = {
            name: RawArray(folder / f"{name}.npy", shape, layout.dtype) for name, shape in layout.shapes().items()
        }

    def write(self, first: int, frames: Frames) -> None:
        for name, array in self._arrays.items():
            array.write(first, getattr(frames, name))

    def finish(self, target: Path) -> list[str]:
        path = target / "trajectory.npz"
        with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, array in self._arrays.items():
                with _member(archive, name) as out, open(array.path, "rb") as source:
                    shutil.copyfileobj(source, out, 1 << 20)
            for name, values in (("times", self.layout.times()), ("about", np.array(_about(self.layout)))):
                with _member(archive, name) as out:
                    np.lib.format.write_array(out, values, allow_pickle=False)
        return [path.name]


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    # One date for all: the same run makes the same bytes.
    return archive.open(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), "w", force_zip64=True)


class _Zarr(SeriesWriter):
    """Arrays grow with the run; chunks are replaced as wholes, so a run that is killed leaves whole ones."""

    def __init__(self, folder: Path, layout: SeriesLayout):
        super().__init__(folder, layout)
        try:
            import zarr  # noqa: F401 (to say at once that it is missing)
        except ImportError:
            raise InputError(
                "format zarr needs the package zarr: pip install 'jaxcg[zarr]', or choose format npz."
            ) from None
        self._path = folder / "trajectory.zarr"
        # Opened by the first block: a run that only has to be finished finds nothing here, or all.
        self._group: Any = None

    def _open(self) -> Any:
        import zarr

        group = zarr.open_group(str(self._path), mode="a", zarr_format=3)
        group.attrs.update(json.loads(_about(self.layout)))
        for name, shape in {"times": (self.layout.frames,), **self.layout.shapes()}.items():
            if name in group:
                continue
            axis, dtype = (0, np.dtype("f8")) if name == "times" else (1, self.layout.dtype)
            frame = int(np.prod(shape, dtype=np.int64)) // max(self.layout.frames, 1) * dtype.itemsize
            length = max(min(_ZARR_BYTES // max(frame, 1), self.layout.frames), 1)
            named = ["frame"] if axis == 0 else ["trajectory", "frame", *(f"axis{i}" for i in range(len(shape) - 2))]
            made = group.create_array(
                name,
                shape=(*shape[:axis], 0, *shape[axis + 1 :]),
                chunks=(*shape[:axis], length, *shape[axis + 1 :]),
                dtype=dtype,
                dimension_names=named,
            )
            made.attrs["units"] = UNITS[name]
        return group

    def write(self, first: int, frames: Frames) -> None:
        self._group = self._open() if self._group is None else self._group
        last = first + len(frames.times)
        for name in ("times", *self.layout.shapes()):
            array: Any = self._group[name]
            if name == "times":
                array.resize((last,))
                array[first:last] = self.layout.times(first, last)
            else:
                array.resize((array.shape[0], last, *array.shape[2:]))
                array[:, first:last] = np.asarray(getattr(frames, name))

    def finish(self, target: Path) -> list[str]:
        return [_moved(self._path, target)]


class _Xtc(SeriesWriter):
    """A file for each trajectory, to which blocks are appended; how long it was after each block is kept beside it."""

    def __init__(self, folder: Path, layout: SeriesLayout):
        super().__init__(folder, layout)
        if len(layout.shape) != 2 or layout.shape[1] != 3:
            raise InputError(f"XTC holds particles in space: the shape must be (particles, 3), not {layout.shape}.")
        count = layout.trajectories
        digits = len(str(count - 1))
        names = ["trajectory.xtc"] if count == 1 else [f"trajectory_{i:0{digits}d}.xtc" for i in range(count)]
        self._paths = [folder / name for name in names]
        self._lengths = RawArray(folder / "lengths.npy", (count, layout.frames), np.dtype(np.int64))

    def write(self, first: int, frames: Frames) -> None:
        if not np.abs(frames.positions).max(initial=0.0) * _XTC_PRECISION < _XTC_LARGEST:
            raise ResultError(
                "a coordinate is beyond the 21474 nm that XTC files hold; keep it by a potential, or choose format npz."
            )
        last = first + len(frames.times)
        times, block = self.layout.times(first, last), self.folder / "block.xtc"
        starts = self._lengths.read()[:, first - 1] if first else np.zeros(len(self._paths), np.int64)
        ends = np.zeros((len(self._paths), 1), np.int64)
        for number, (path, positions) in enumerate(zip(self._paths, frames.positions, strict=True)):
            _write_block(block, positions, first, times)
            with open(path, "r+b" if first else "wb") as file, open(block, "rb") as source:
                file.truncate(int(starts[number]))
                file.seek(0, os.SEEK_END)
                shutil.copyfileobj(source, file)
                ends[number] = file.tell()
        self._lengths.write(last - 1, ends)

    def finish(self, target: Path) -> list[str]:
        return [_moved(path, target) for path in self._paths]


def _write_block(path: Path, positions: np.ndarray, first: int, times: np.ndarray) -> None:
    """An XTC file of a few frames."""
    with XtcFile(path, "w") as file:
        for i, (x, time) in enumerate(zip(positions, times)):
            file.write(x, np.zeros((3, 3), np.float32), first + i + 1, float(time), _XTC_PRECISION)
    # The C library does not tell when the disk was full.
    if len(times) and (not path.stat().st_size or len(index_xtc(path).offsets) < len(times)):
        raise OSError("the frames did not reach the disk; it may be full")


def _moved(source: Path, target: Path) -> str:
    """Moves a file or folder into ``target``, over what is there; nothing if that was done before."""
    place = target / source.name
    if source.exists():
        if place.is_dir():
            shutil.rmtree(place)
        os.replace(source, place)
    return source.name


def _about(layout: SeriesLayout) -> str:
    """Units and config as JSON."""
    units = {name: unit for name, unit in UNITS.items() if layout.velocities or name != "velocities"}
    return json.dumps({"units": units, **layout.about}, allow_nan=False)

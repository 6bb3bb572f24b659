"""Gromacs trajectories, XTC and TRR: where the frames are, reading any of them, and writing.

The files are indexed by their headers first, which tells a frame that is cut off from one that is whole without
reading it. XTC frames go through the C library that MDAnalysis is built on, called directly so that threads
work side by side; TRR frames are plain numbers.
"""

from __future__ import annotations

import ctypes
import os
import struct
from array import array
from dataclasses import dataclass
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

_XTC_MAGIC, _XTC_LONG_MAGIC, _TRR_MAGIC = 1995, 2023, 1993
_XTC_HEADER = struct.Struct(">3if9fi")
_XTC_PACKED = struct.Struct(">f7ii")
_TRR_HEADER = struct.Struct(">3i12s13i")


@dataclass(frozen=True)
class FrameIndex:
    """Where the frames of a file are.

    Arguments:
        offsets: (frames,) bytes from the start of the file, of every whole frame with positions.
        n_atoms: atoms in every frame.
        damage: what is wrong behind the last of these frames, or None.
        fields: ``"v"`` and ``"f"``, where every frame has velocities and forces.
        skipped: frames without positions, left out.
    """

    offsets: np.ndarray
    n_atoms: int
    damage: str | None
    fields: str = ""
    skipped: int = 0


def index_xtc(path: str | os.PathLike) -> FrameIndex:
    """Index of an XTC file.

    Raises:
        ValueError: it does not start with a frame of this format.
    """
    size, offsets, n_atoms, damage, at = os.path.getsize(path), array("q"), 0, None, 0
    with open(path, "rb", buffering=256) as file:
        while at < size:
            file.seek(at)
            head = file.read(_XTC_HEADER.size + _XTC_PACKED.size)
            if len(head) >= 8:
                magic, here = struct.unpack_from(">2i", head)
                if magic == _XTC_LONG_MAGIC:
                    raise ValueError("an XTC file of more than 298 million atoms, which is not supported")
                if magic != _XTC_MAGIC or here < 1 or (offsets and here != n_atoms):
                    damage = "no frame starts where one should"
                    break
                n_atoms = here
            # Up to nine atoms are stored as plain numbers.
            if n_atoms <= 9:
                length = _XTC_HEADER.size + 12 * n_atoms
            elif len(head) < _XTC_HEADER.size + _XTC_PACKED.size:
                damage = "the frame is cut off"
                break
            else:
                packed = _XTC_PACKED.unpack_from(head, _XTC_HEADER.size)[-1]
                if packed < 0:
                    damage = "no frame starts where one should"
                    break
                length = _XTC_HEADER.size + _XTC_PACKED.size + (packed + 3) // 4 * 4
            if at + length > size:
                damage = "the frame is cut off"
                break
            offsets.append(at)
            at += length
    if not n_atoms:
        raise ValueError("not an XTC file")
    return FrameIndex(np.frombuffer(offsets, dtype=np.int64), n_atoms, damage)


def index_trr(path: str | os.PathLike) -> FrameIndex:
    """Index of a TRR file.

    Raises:
        ValueError: it does not start with a frame of this format.
    """
    size, offsets, n_atoms, damage, at, skipped = os.path.getsize(path), array("q"), 0, None, 0, 0
    velocities = forces = True
    with open(path, "rb", buffering=256) as file:
        while at < size:
            file.seek(at)
            head = file.read(_TRR_HEADER.size)
            if len(head) < _TRR_HEADER.size:
                damage = "the frame is cut off"
                break
            magic, _, _, tag, *numbers = _TRR_HEADER.unpack(head)
            here, sizes = numbers[10], numbers[:10]
            if magic != _TRR_MAGIC or tag != b"GMX_trn_file" or min(sizes) < 0 or (n_atoms and here != n_atoms):
                damage = "no frame starts where one should"
                break
            n_atoms = here
            length = _TRR_HEADER.size + 2 * _trr_real(sizes, here) + sum(sizes)
            if at + length > size:
                damage = "the frame is cut off"
                break
            if sizes[7]:
                offsets.append(at)
                velocities, forces = velocities and sizes[8] > 0, forces and sizes[9] > 0
            else:
                skipped += 1
            at += length
    if not n_atoms:
        raise ValueError("not a TRR file")
    fields = ("v" if velocities else "") + ("f" if forces else "")
    return FrameIndex(np.frombuffer(offsets, dtype=np.int64), n_atoms, damage, fields, skipped)


class XtcFile:
    """An XTC file open for reading or writing; one for each thread.

    Arguments:
        path: the file.
        mode: ``"r"`` or ``"w"``.
    """

    def __init__(self, path: str | os.PathLike, mode: str = "r"):
        self._library, self._slow = _library(), None
        if self._library is None:
            from MDAnalysis.lib.formats.libmdaxdr import XTCFile

            self._slow = XTCFile(os.fspath(path), mode)
            return
        self._handle = self._library.xdrfile_open(os.fsencode(path), mode.encode())
        if not self._handle:
            raise OSError(f"{os.fspath(path)}: cannot be opened")

    def __enter__(self) -> XtcFile:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._slow is not None:
            self._slow.close()
        elif self._library.xdrfile_close(self._handle):
            raise OSError("the file could not be completed")

    def read(self, offset: int, x: np.ndarray) -> tuple[int, float, np.ndarray]:
        """Reads the frame at ``offset`` into ``x`` (atoms, 3) float32, nm: step, time in ps, box (3, 3) in nm.

        Raises:
            OSError: the frame is damaged.
        """
        if x.dtype != np.float32 or not x.flags.c_contiguous:
            raise ValueError("XtcFile: positions must be a contiguous float32 array.")
        if self._slow is not None:
            self._slow._bytes_seek(int(offset))
            frame = self._slow.read_direct_x(x)
            return frame.step, frame.time, frame.box
        step, time, precision = ctypes.c_int(), ctypes.c_float(), ctypes.c_float()
        box = np.empty((3, 3), np.float32)
        failed = self._library.xdr_seek(self._handle, int(offset), os.SEEK_SET) or self._library.read_xtc(
            self._handle,
            len(x),
            ctypes.byref(step),
            ctypes.byref(time),
            box.ctypes.data,
            x.ctypes.data,
            ctypes.byref(precision),
        )
        if failed:
            raise OSError("the frame is damaged")
        return step.value, time.value, box

    def write(self, x: np.ndarray, box: np.ndarray, step: int, time: float, precision: float = 1000.0) -> None:
        """Appends a frame: positions (atoms, 3) and box (3, 3) in nm, time in ps; distances of 1/precision are kept.

        Raises:
            OSError: it cannot be written.
        """
        x, box = np.ascontiguousarray(x, dtype=np.float32), np.ascontiguousarray(box, dtype=np.float32)
        if self._slow is not None:
            self._slow.write(x, box, step, time, precision=precision)
        elif self._library.write_xtc(self._handle, len(x), step, time, box.ctypes.data, x.ctypes.data, precision):
            raise OSError("a frame could not be written")


@dataclass(frozen=True)
class TrrFrame:
    """A TRR frame: positions nm, velocities nm/ps, forces kJ/mol/nm, box nm (zeros: none), time ps."""

    positions: np.ndarray
    velocities: np.ndarray | None
    forces: np.ndarray | None
    box: np.ndarray
    step: int
    time: float


def read_trr(path: str | os.PathLike, offset: int) -> TrrFrame:
    """Reads the TRR frame at ``offset``, in float32 whatever the file's precision.

    Raises:
        OSError: the frame is damaged.
    """
    with open(path, "rb", buffering=0) as file:
        file.seek(offset)
        head = file.read(_TRR_HEADER.size)
        if len(head) < _TRR_HEADER.size:
            raise OSError("the frame is cut off")
        _, _, _, _, *numbers = _TRR_HEADER.unpack(head)
        sizes, n_atoms, step = numbers[:10], numbers[10], numbers[11]
        real = _trr_real(sizes, n_atoms)
        data = np.empty(2 * real + sum(sizes), np.uint8)
        if file.readinto(data) != data.nbytes:  # pyright: ignore[reportArgumentType]
            raise OSError("the frame is cut off")
    starts = 2 * real + np.cumsum([0, *sizes])

    def block(number: int) -> np.ndarray | None:
        if not sizes[number]:
            return None
        piece = data[starts[number] : starts[number] + sizes[number]]
        return piece.view(f">f{real}").astype(np.float32).reshape(-1, 3)

    positions, box = block(7), block(2)
    if positions is None:
        raise OSError("the frame has no positions")
    time = float(data[:real].view(f">f{real}")[0])
    return TrrFrame(positions, block(8), block(9), np.zeros((3, 3), np.float32) if box is None else box, step, time)


def pack_trr(frame: TrrFrame) -> bytes:
    """A frame as the bytes of a TRR file in single precision."""
    arrays = [frame.box, frame.positions, frame.velocities, frame.forces]
    packed = [b"" if a is None else np.asarray(a, dtype=">f4").tobytes() for a in arrays]
    box, x, v, f = (len(block) for block in packed)
    numbers = (0, 0, box, 0, 0, 0, 0, x, v, f, len(frame.positions), frame.step, 0)
    head = _TRR_HEADER.pack(_TRR_MAGIC, 13, 12, b"GMX_trn_file", *numbers) + struct.pack(">2f", frame.time, 0.0)
    return b"".join([head, *packed])


def _trr_real(sizes, n_atoms: int) -> int:
    """Bytes of a number: 4 in single, 8 in double precision."""
    if sizes[2]:
        return sizes[2] // 9
    return next((size // (3 * n_atoms) for size in sizes[7:10] if size), 4)


@cache
def _library() -> Any:
    """The C library of XTC files, out of MDAnalysis' extension module, or None where it shows only its Python side.

    Calls through ctypes run without Python's lock, so threads decompress side by side; the module's own hold it. The
    package itself is not imported.
    """
    spec = find_spec("MDAnalysis")
    folder = Path(next(iter(spec.submodule_search_locations or ("",)))) if spec else Path()
    modules = [folder / "lib" / "formats" / f"libmdaxdr{suffix}" for suffix in EXTENSION_SUFFIXES]
    pointer, integer, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
    try:
        library = ctypes.CDLL(str(next(path for path in modules if path.is_file())))
        library.xdrfile_open.restype = pointer
        library.xdrfile_open.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
        library.xdrfile_close.argtypes = [pointer]
        library.xdr_seek.argtypes = [pointer, ctypes.c_int64, integer]
        counters = [ctypes.POINTER(integer), ctypes.POINTER(real)]
        library.read_xtc.argtypes = [pointer, integer, *counters, pointer, pointer, ctypes.POINTER(real)]
        library.write_xtc.argtypes = [pointer, integer, integer, real, pointer, pointer, real]
    except (StopIteration, OSError, AttributeError):
        return None
    return library

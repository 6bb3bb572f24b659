"""Coordinates along time from tables: NPZ, NPY, Zarr, CSV, XVG, PLUMED's COLVAR and other columns of text."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import InputError
from ..beads import first_line
from .coordinates import Series, frame_spacing

Unit = Literal["nm", "angstrom", "rad", "degree"]
#: Unit kept, and what a number is multiplied by.
_UNITS: dict[str, tuple[str, float]] = {
    "nm": ("nm", 1.0),
    "angstrom": ("nm", 0.1),
    "rad": ("rad", 1.0),
    "degree": ("rad", np.pi / 180),
}
_ARRAYS = (".npz", ".npy", ".zarr")
_TEXTS = (".csv", ".dat", ".txt", ".xvg", ".colvar", ".tsv")
_TIMES = ("times", "time", "t")


def is_table(path: str | os.PathLike) -> bool:
    """Whether a file is read as a table rather than as a trajectory of atoms, by its name."""
    name = Path(path).name.lower()
    return Path(name).suffix in _ARRAYS + _TEXTS or name.startswith("colvar")


def read_series(
    paths: Sequence[str | os.PathLike],
    *,
    column: str | None = None,
    unit: Unit = "nm",
    periodic: bool = False,
    spacing: float | None = None,
) -> Series:
    """A coordinate along time from one or more tables.

    Arrays (NPZ, Zarr, NPY) hold ``positions`` (frames,), (trajectories, frames), (trajectories, frames, components) or
    (trajectories, frames, atoms, 3), and perhaps ``velocities`` of that shape and ``times`` (frames,), ps, as
    `jaxcg gle` writes them. Text has a column a quantity, named in a header (CSV, ``#! FIELDS``, XVG legends) or
    counted from 1, and times in the first column or one called time.

    Arguments:
        paths: files of one coordinate; each is a run of its own.
        column: name or number of the column, name of the array; None: the only one, or ``positions``.
        unit: of the numbers.
        periodic: the coordinate is an angle that goes round.
        spacing: between frames, ps, instead of the file's times.

    Raises:
        InputError: a file cannot be read, has no such column, unequal spacing or numbers that are not finite.
    """
    kept, factor = _UNITS[unit]
    if periodic and kept != "rad":
        raise InputError("--periodic is for angles; say --unit rad or --unit degree.")
    found = [_read(os.fspath(path), column, spacing) for path in paths]
    shortest = min(x.shape[1] for x, *_ in found)
    notes = []
    if any(x.shape[1] != shortest for x, *_ in found):
        notes.append(f"files of different lengths: the first {shortest} frames of each are used")
    steps = [step for *_, step, _ in found]
    for path, step in zip(paths, steps, strict=True):
        if abs(step - steps[0]) > 1e-3 * steps[0]:
            raise InputError(
                f"{path}: frames {step:g} ps apart, but those of {paths[0]} {steps[0]:g} ps; give files with the same "
                "spacing."
            )
    positions = factor * _cut([x for x, *_ in found], shortest, paths)
    if periodic:
        positions = np.unwrap(positions, axis=1)
    rates = [v for _, v, *_ in found if v is not None]
    velocities = factor * _cut(rates, shortest, paths) if len(rates) == len(found) else None
    name = found[0][-1]
    return Series(
        positions=positions,
        velocities=velocities,
        spacing=steps[0],
        mass=None,
        kind="dihedral" if periodic else "column" if positions.shape[2] == 1 else "particles",
        name=name,
        unit=kept,
        period=2 * np.pi if periodic else None,
        notes=tuple(notes),
    )


def _cut(arrays: Sequence[np.ndarray], frames: int, paths: Sequence) -> np.ndarray:
    if len({a.shape[2] for a in arrays}) > 1:
        raise InputError(f"{', '.join(map(str, paths))}: have different numbers of components; read them one by one.")
    return np.concatenate([a[:, :frames] for a in arrays])


def _read(path: str, column: str | None, spacing: float | None) -> tuple[np.ndarray, np.ndarray | None, float, str]:
    """Positions and velocities (trajectories, frames, components), spacing and name of one file."""
    if not Path(path).exists():
        raise InputError(f"{path}: there is no such file.")
    ending = Path(path).suffix.lower()
    if Path(path).is_dir() and ending != ".zarr":
        raise InputError(f"{path}: is a folder, not a file.")
    if ending in _ARRAYS:
        x, v, times, name = _from_arrays(path, _arrays(path, ending), column)
    else:
        x, v, times, name = _from_text(path, column, timed=spacing is None)
    for what, values in (("position", x), ("velocity", v)):
        if values is not None and not np.isfinite(values).all():
            trajectory, frame, _ = np.argwhere(~np.isfinite(values))[0]
            which = f" of trajectory {trajectory}" if len(values) > 1 else ""
            raise InputError(f"{path}, frame {frame}{which}: the {what} is not a number; repair the file or cut it.")
    if times is None and spacing is None:
        raise InputError(f"{path}: does not say when its frames were taken; give --spacing PS.")
    return x, v, frame_spacing(path, np.zeros(0) if times is None else times, spacing), name


def _arrays(path: str, ending: str) -> Mapping[str, np.ndarray]:
    try:
        if ending == ".zarr":
            try:
                import zarr
            except ImportError:
                raise InputError(f"{path}: reading Zarr needs the package zarr: pip install 'jaxcg[zarr]'.") from None
            group: Any = zarr.open_group(path, mode="r")
            return {name: np.asarray(group[name][...]) for name in group.array_keys()}
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"positions": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except InputError:
        raise
    except Exception as error:  # damaged archives raise anything
        raise InputError(f"{path}: cannot be read as {ending[1:].upper()} ({first_line(error)}).") from error


def _from_arrays(path: str, arrays: Mapping[str, np.ndarray], column: str | None):
    name = column or "positions"
    if name not in arrays:
        have = ", ".join(arrays) or "nothing"
        raise InputError(f"{path}: holds no array '{name}' but {have}; name the coordinate with --column.")
    times = next((np.asarray(arrays[key], np.float64).ravel() for key in _TIMES if key in arrays), None)
    x = _shaped(path, name, arrays[name], times)
    velocities = arrays.get("velocities") if name == "positions" else None
    v = None
    if velocities is not None and np.shape(velocities) == np.shape(arrays[name]):
        v = _shaped(path, "velocities", velocities, times)
    return x, v, times, f"{name} of {Path(path).name}"


def _shaped(path: str, name: str, array: np.ndarray, times: np.ndarray | None) -> np.ndarray:
    """(trajectories, frames, components) float64."""
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: array '{name}' holds {array.dtype}, not numbers.")
    x = np.asarray(array, np.float64)
    if x.ndim == 1:
        x = x[None, :, None]
    elif x.ndim == 2:
        x = x[:, :, None]
    elif x.ndim == 4:
        # Every atom is a trajectory of its own.
        x = x.transpose(0, 2, 1, 3).reshape(-1, x.shape[1], x.shape[3])
    if x.ndim != 3:
        raise InputError(
            f"{path}: array '{name}' has shape {array.shape}; give (frames,), (trajectories, frames), (trajectories, "
            "frames, components) or (trajectories, frames, atoms, 3)."
        )
    if times is not None and len(times) != x.shape[1]:
        raise InputError(
            f"{path}: array '{name}' has shape {array.shape}, but there are {len(times)} times; frames are on the "
            "second axis (on the only one of a single trajectory)."
        )
    return x


def _from_text(path: str, column: str | None, *, timed: bool):
    """A column of a text file, with its times."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    lines = text.splitlines()
    names, first, factor = _header(path, lines)
    table = _table(path, lines, first)
    names = names if len(names) == table.shape[1] else [""] * table.shape[1]
    time = next((i for i, n in enumerate(names) if re.match(r"t(ime)?\b", n.strip(), re.IGNORECASE)), None)
    if time is None and timed:
        if table.shape[1] < 2:
            raise InputError(f"{path}: has one column and no times; give --spacing PS.")
        time = 0
    chosen = _column(path, column, names, table.shape[1], time)
    times = None if time is None else table[:, time] * factor
    label = names[chosen] or f"column {chosen + 1}"
    return table[None, :, chosen, None], None, times, f"{label} of {Path(path).name}"


def _header(path: str, lines: Sequence[str]) -> tuple[list[str], int, float]:
    """Names of the columns, the first line of numbers, and ps in a unit of time."""
    names: list[str] = []
    legends: dict[int, str] = {}
    label, factor, first = None, 1.0, 0
    for number, line in enumerate(lines):
        text = line.strip()
        if text.startswith("#! FIELDS"):
            names = text.split()[2:]
        elif text.startswith("@"):
            if found := re.match(r'@\s*s(\d+)\s+legend\s+"(.*)"', text):
                legends[int(found[1])] = found[2]
            elif found := re.match(r'@\s*xaxis\s+label\s+"(.*)"', text):
                label = found[1]
        elif text and not text.startswith("#"):
            first = number
            words = _words(text)
            if any(_number(word) is None for word in words):
                names, first = [word.strip("\"'") for word in words], number + 1
            break
    if label is not None:
        width = len(_words(lines[first])) if first < len(lines) else 0
        names = [label, *(legends.get(k, "") for k in range(width - 1))]
        if not label.lower().startswith("t"):
            names[0] = ""
    if names and (found := re.search(r"\((fs|ps|ns|us|µs)\)", names[0])):
        factor = {"fs": 1e-3, "ps": 1.0, "ns": 1e3, "us": 1e6, "µs": 1e6}[found[1]]
    return names, first, factor


def _words(line: str) -> list[str]:
    return [word.strip() for word in line.split(",")] if "," in line else line.split()


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _table(path: str, lines: Sequence[str], first: int) -> np.ndarray:
    """All numbers below the header, (rows, columns)."""
    kept = [
        (i, line) for i, line in enumerate(lines[first:], first + 1) if line.strip() and line.lstrip()[0] not in "#@"
    ]
    if not kept:
        raise InputError(f"{path}: holds no numbers.")
    separator = "," if "," in kept[0][1] else None
    try:
        return np.loadtxt([line for _, line in kept], delimiter=separator, comments="#", ndmin=2)
    except ValueError:
        width = len(_words(kept[0][1]))
        for number, line in kept:
            words = _words(line.split("#")[0])
            if len(words) != width or any(_number(word) is None for word in words):
                raise InputError(
                    f"{path}, line {number}: expected {width} numbers, found {line.strip()[:60]!r}."
                ) from None
        raise InputError(f"{path}: cannot be read as a table of numbers.") from None


def _column(path: str, column: str | None, names: Sequence[str], width: int, time: int | None) -> int:
    """Index of the column wanted."""
    others = [i for i in range(width) if i != time]
    have = ", ".join(names[i] or f"{i + 1}" for i in others)
    if column is None:
        if len(others) != 1:
            raise InputError(f"{path}: has {len(others)} columns ({have}); choose one with --column.")
        return others[0]
    if column in names:
        return list(names).index(column)
    if column.isdigit() and 1 <= int(column) <= width:
        return int(column) - 1
    raise InputError(f"{path}: has no column '{column}'; it has {have}.")

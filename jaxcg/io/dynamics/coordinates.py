"""Coordinates along trajectories: tagged particles, distances, angles, read block by block and unwrapped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ...errors import InputError
from ...mapping.formats.model import Atoms
from ...space import BondWalk, make_whole
from ..frames import frame_numbers
from ..trajectories import BrokenFrame, FrameBlock, Trajectory, open_trajectory
from .coordinate_groups import Groups
from .unwrapping import Unwrapping, nearest_images

Kind = Literal["particles", "distance", "angle", "dihedral"]
#: How many groups each kind of coordinate is made of; None: any number.
POINTS: dict[Kind, int | None] = {"particles": None, "distance": 2, "angle": 3, "dihedral": 4}
_AXES = "xyz"
#: Formats that do not say when a frame was taken.
_TIMELESS = (".pdb", ".ent", ".xyz", ".pqr", ".mol2", ".cif", ".pdbx", ".crd")
#: Most numbers that are kept: 4 GB.
_LARGEST = 500_000_000
#: Drift is what a centre of mass does whose moves stray from a straight line by no more than this share of them; of
#: fewer particles, or in fewer frames, it is motion like any other.
_STEADY, _FEWEST_OF_DRIFT = 0.02, 10


@dataclass(frozen=True)
class Series:
    """A coordinate along trajectories, at equally spaced times.

    Arguments:
        positions: (trajectories, frames, components); in ``unit``.
        velocities: the same shape, ``unit``/ps, or None where the files have none.
        spacing: between frames, ps.
        mass: amu, where the topology says it; else None.
        kind: ``"particles"``, ``"distance"``, ``"component"``, ``"angle"``, ``"dihedral"`` or ``"column"``.
        name: what it is, in words.
        unit: ``"nm"`` or ``"rad"``.
        period: after which the coordinate repeats, 2π for a dihedral angle; None for others.
        rounding: to which the file rounds positions, nm; 0 where it does not.
        damage: why a file could not be read to its end, or None.
        notes: what was decided, for the user.
    """

    positions: np.ndarray
    velocities: np.ndarray | None
    spacing: float
    mass: float | None
    kind: str
    name: str
    unit: str = "nm"
    period: float | None = None
    rounding: float = 0.0
    damage: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Frames in each trajectory."""
        return self.positions.shape[1]


def read_coordinates(
    trajectories: Sequence[str | os.PathLike],
    atoms: Atoms,
    groups: Groups,
    *,
    kind: Kind = "particles",
    component: str | None = None,
    frames: str | None = None,
    spacing: float | None = None,
    unwrap: bool = True,
    progress: Callable[[str, int, int], None] | None = None,
) -> Series:
    """A coordinate along one or more trajectory files, read block by block.

    Particles are followed across periodic boundaries from frame to frame, atom by atom, with the box of the later
    frame; so the centre of a molecule moves steadily although the box cuts it. Distances are those of nearest images.
    Where the particles are the whole system and its momentum is constant, they are followed relative to the centre of
    mass: ``N`` particles that all drift with it add kT/(N m) to ⟨v(t) v(0)⟩ at every time, and its integral diverges.

    Arguments:
        trajectories: files of one system; each is a run of its own.
        atoms: of the topology.
        groups: the particles, or the 2, 3 or 4 points of a distance, angle or dihedral angle.
        kind: of the coordinate.
        component: ``"x"``, ``"y"`` or ``"z"``: only that part of the particles' positions, or of the vector between
            the two points of a distance.
        frames: ``"start:stop:step"``; None: all.
        spacing: between frames, ps, instead of what the files say.
        unwrap: follow particles across periodic boundaries; False takes positions as they are.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The `Series`; its trajectories are the particles of every file. A file that breaks off is read as far as it is
        whole: see ``damage``. Files of different lengths are cut to the shortest.

    Raises:
        InputError: a file cannot be used: wrong number of atoms, unequal spacing, numbers that are not finite, or a
            move too long to follow; the message names the frame.

    Source: von Bülow, Bullerjahn & Hummer, J. Chem. Phys. 153, 021101 (2020) (unwrapping with a box that changes).
    """
    wanted = POINTS[kind]
    if wanted is not None and len(groups) != wanted:
        raise ValueError(f"read_coordinates: a {kind} is made of {wanted} points, not {len(groups)}.")
    report = progress or (lambda stage, done, total: None)
    sources = [open_trajectory(path, atoms.n_atoms) for path in trajectories]
    chosen = []
    for source in sources:
        if source.n_atoms != atoms.n_atoms:
            raise InputError(
                f"{source.path}: {source.n_atoms} atoms per frame but {atoms.path} has {atoms.n_atoms}; "
                "give the topology that belongs to this trajectory."
            )
        chosen.append(frame_numbers(frames, source.n_frames, source.path))
    total = sum(map(len, chosen))
    if total * len(groups) * 3 > _LARGEST:
        raise InputError(
            f"{total} frames of {len(groups)} particles do not fit into memory; select fewer particles, or frames with "
            "--frames."
        )
    runs, done = [], 0
    for source, numbers in zip(sources, chosen, strict=True):
        runs.append(_read(source, numbers, atoms, groups, kind, unwrap, done, total, report))
        done += len(numbers)
    return _joined(runs, groups, kind, component, spacing)


@dataclass
class _Run:
    """What one file gave: the points (frames, groups, 3), for a distance those of nearest images."""

    path: str
    points: np.ndarray
    velocities: np.ndarray | None
    boxes: np.ndarray
    times: np.ndarray
    damage: str | None
    rounding: float
    notes: list[str]


def _read(
    source: Trajectory,
    numbers: Sequence[int],
    atoms: Atoms,
    groups: Groups,
    kind: Kind,
    unwrap: bool,
    before: int,
    total: int,
    report: Callable[[str, int, int], None],
) -> _Run:
    """The points of every frame of one file."""
    points = np.empty((len(numbers), len(groups), 3))
    velocities = np.empty_like(points) if source.has_velocities else None
    boxes, times = np.zeros((len(numbers), 3, 3)), np.zeros(len(numbers))
    damage = source.damage if numbers[-1] == source.n_frames - 1 else None
    follow = Unwrapping(source.path, groups.atoms) if unwrap else None
    # Of all particles or of some: the mean of those followed tells only where they hold all the mass.
    whole = kind == "particles" and unwrap and groups.masses.sum() > 0.999 * atoms.masses.sum()
    rounding, length, done, broken = 0.0, source.block_length(), 0, False
    while done < len(numbers) and not broken:
        wanted = numbers[done : done + length]
        try:
            block = source.read(wanted)
        except BrokenFrame as error:
            block, broken = error.block, True
            damage = f"frame {error.number} cannot be read ({error.reason})"
        if not len(block):
            break
        _require_finite(source.path, block, groups.atoms, wanted, atoms)
        x = block.positions[:, groups.atoms].astype(np.float64)
        if done == 0:
            rounding = _rounding(source.path, x[0])
        if follow is not None:
            start = _whole(block, atoms, groups) if done == 0 and kind != "particles" else x[0]
            x = follow(x, block.boxes, wanted, start)
        here = slice(done, done + len(block))
        points[here] = _means(groups, x)
        if velocities is not None and block.velocities is not None:
            velocities[here] = _means(groups, block.velocities[:, groups.atoms].astype(np.float64))
        boxes[here], times[here] = block.boxes, block.times
        done += len(block)
        report("reading", before + done, total)
    if not done:
        raise InputError(f"{source.path}: not one whole frame in this file ({damage}).")
    notes = []
    if np.ptp(boxes[:done], axis=0).max() > 1e-4 and unwrap and kind == "particles":
        notes.append(
            "the box changes from frame to frame (constant pressure): particles are followed by adding up their moves, "
            "each with the box of its later frame"
        )
    points, velocities = points[:done], None if velocities is None else velocities[:done]
    if whole and min(len(groups), done) >= _FEWEST_OF_DRIFT:
        notes += _without_drift(points, velocities, groups.masses, times[:done])
    return _Run(
        source.path,
        points,
        velocities,
        boxes[:done],
        times[:done],
        damage,
        rounding,
        notes,
    )


def _whole(block: FrameBlock, atoms: Atoms, groups: Groups) -> np.ndarray:
    """Atoms of the groups in the first frame, molecules whole."""
    box = block.boxes[0].astype(np.float64)
    x = block.positions[0].astype(np.float64)
    if box.any() and atoms.bonds is not None and len(atoms.bonds):
        x = np.asarray(make_whole(x, box, BondWalk.of(atoms.bonds, atoms.n_atoms)))
    return x[groups.atoms]


def _means(groups: Groups, x: np.ndarray) -> np.ndarray:
    """(frames, groups, 3) weighted means of (frames, used, 3)."""
    frames, used = x.shape[:2]
    flat = groups.weights @ x.transpose(1, 0, 2).reshape(used, -1)
    return np.asarray(flat).reshape(len(groups), frames, 3).transpose(1, 0, 2)


def _without_drift(
    points: np.ndarray, velocities: np.ndarray | None, masses: np.ndarray, times: np.ndarray
) -> list[str]:
    """Takes away, in place, a motion of the centre of mass that is steady; returns what to tell of it."""
    center = np.einsum("fgk,g->fk", points, masses / masses.sum())
    steps = np.linspace(0.0, 1.0, len(center))[:, None]
    way = center[-1] - center[0]
    strays = np.abs(center - center[0] - steps * way).max()
    length = float(np.linalg.norm(way))
    # Less than single precision holds is no drift.
    if strays > _STEADY * length or length < 1e-6 * float(np.abs(points).max()):
        return []
    points -= (steps * way)[:, None]
    if velocities is not None:
        velocities -= np.einsum("fgk,g->k", velocities, masses / masses.sum()) / len(velocities)
    duration = float(times[-1] - times[0])
    speed = f"{length / duration:.2g} nm/ps" if duration > 0 else f"{length:.2g} nm in all"
    return [f"the whole system drifts ({speed}): particles are followed relative to its centre of mass"]


def _require_finite(path: str, block: FrameBlock, indices: np.ndarray, numbers: Sequence[int], atoms: Atoms) -> None:
    for what, values in (("coordinate", block.positions), ("velocity", block.velocities)):
        if values is None:
            continue
        bad = ~np.isfinite(values[:, indices]).all(axis=2)
        if bad.any():
            frame, atom = np.argwhere(bad)[0]
            raise InputError(
                f"{path}, frame {numbers[frame]}: atom {atoms.names[indices[atom]]} ({indices[atom] + 1}) has a {what} "
                "that is not a number; leave this frame out (--frames) or repair it."
            )


def _rounding(path: str, x: np.ndarray) -> float:
    """Step to which an XTC file rounds positions, nm; 0 for other formats."""
    if Path(path).suffix.lower() != ".xtc":
        return 0.0
    for digits in range(2, 6):
        if np.abs(x * 10.0**digits - np.round(x * 10.0**digits)).max() < 10.0**digits * 1e-6 + 1e-3:
            return 10.0**-digits
    return 0.0


def _joined(runs: list[_Run], groups: Groups, kind: Kind, component: str | None, spacing: float | None) -> Series:
    """One series from the runs of all files."""
    frames = min(len(run.times) for run in runs)
    notes = [note for run in runs for note in run.notes]
    if any(len(run.times) != frames for run in runs):
        notes.append(f"files of different lengths: the first {frames} frames of each are used")
    found = [frame_spacing(run.path, run.times, spacing) for run in runs]
    for run, step in zip(runs, found, strict=True):
        if abs(step - found[0]) > 1e-3 * found[0]:
            raise InputError(
                f"{run.path}: frames {step:g} ps apart, but those of {runs[0].path} {found[0]:g} ps; give files with "
                "the same spacing."
            )
    measured = [_measure(run, kind, component) for run in runs]
    positions = np.concatenate([x[:, :frames] for x, _ in measured])
    rates = [v for _, v in measured if v is not None]
    damages = [f"{run.path}: {run.damage}" for run in runs if run.damage is not None]
    series = Series(
        positions=positions,
        velocities=np.concatenate([v[:, :frames] for v in rates]) if len(rates) == len(runs) else None,
        spacing=found[0],
        mass=groups.mass() if kind == "particles" else None,
        kind="component" if component is not None else kind,
        name=_name(groups, kind, component),
        unit="rad" if kind in ("angle", "dihedral") else "nm",
        period=2 * np.pi if kind == "dihedral" else None,
        rounding=max(run.rounding for run in runs),
        damage="; ".join(damages) or None,
        notes=tuple(dict.fromkeys(notes)),
    )
    return series if series.velocities is None or np.any(series.velocities) else replace(series, velocities=None)


def frame_spacing(path: str, times: np.ndarray, given: float | None) -> float:
    """Time between frames, ps.

    Raises:
        InputError: the file says none, or the frames are not equally spaced.
    """
    if given is not None:
        return float(given)
    if Path(path).suffix.lower() in _TIMELESS:
        raise InputError(f"{path}: this format does not say when its frames were taken; give --spacing PS.")
    if len(times) < 2:
        raise InputError(f"{path}: only {len(times)} frame; give a trajectory.")
    steps = np.diff(times)
    typical = float(np.median(steps))
    # Times are single precision in most files: late ones are known to few digits.
    slack = 1e-3 * abs(typical) + 4 * float(np.finfo(np.float32).eps) * float(np.abs(times).max())
    wrong = np.flatnonzero(~(np.abs(steps - typical) <= slack))
    if typical <= 0 or not np.isfinite(typical):
        raise InputError(f"{path}: the times of its frames do not rise; give --spacing PS.")
    if wrong.size:
        k = int(wrong[0])
        raise InputError(
            f"{path}, frame {k + 1}: {steps[k]:g} ps after the frame before, the others {typical:g} ps; choose frames "
            "that are equally spaced with --frames, or give --spacing PS if only the times are wrong."
        )
    # Times are stored in single precision: 0.02 ps, not 0.01999999966.
    return float(f"{float(times[-1] - times[0]) / (len(times) - 1):.6g}")


def _measure(run: _Run, kind: Kind, component: str | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Coordinate and rate, (trajectories, frames, components), of one run."""
    x, v = run.points, run.velocities
    if kind == "particles":
        chosen = slice(None) if component is None else [_AXES.index(component)]
        x = x.transpose(1, 0, 2)[:, :, chosen]
        return x, None if v is None else v.transpose(1, 0, 2)[:, :, chosen]
    if kind == "distance":
        d = x[:, 1] - x[:, 0]
        rate = None if v is None else v[:, 1] - v[:, 0]
        if component is not None:
            # Steady from the nearest image of the first frame on.
            d = d + (nearest_images(d[:1], run.boxes[:1]) - d[:1])
            axis = _AXES.index(component)
            return d[None, :, axis, None], None if rate is None else rate[None, :, axis, None]
        d = nearest_images(d, run.boxes)
        length = np.linalg.norm(d, axis=1)
        along = None if rate is None else np.einsum("fk,fk->f", rate, d) / np.maximum(length, 1e-12)
        return length[None, :, None], None if along is None else along[None, :, None]
    arms = [nearest_images(x[:, k + 1] - x[:, k], run.boxes) for k in range(x.shape[1] - 1)]
    value = _angle(-arms[0], arms[1]) if kind == "angle" else np.unwrap(_dihedral(*arms))
    return value[None, :, None], None


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.einsum("fk,fk->f", a, b))


def _dihedral(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Dihedral angles of successive bond vectors, positive as in the IUPAC convention."""
    first, second = np.cross(a, b), np.cross(b, c)
    sine = np.einsum("fk,fk->f", np.linalg.norm(b, axis=1, keepdims=True) * a, second)
    return np.arctan2(sine, np.einsum("fk,fk->f", first, second))


def _name(groups: Groups, kind: Kind, component: str | None) -> str:
    part = f", {component} component" if component is not None else ""
    if kind == "particles":
        return f"{len(groups)} particles like {groups.names[0]}{part}"
    return f"{kind} of {', '.join(groups.names)}{part}"

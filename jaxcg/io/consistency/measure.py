"""One pass through an ensemble: radial and bonded distributions, density, size of molecules, pressure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...consistency.statistics import Estimate, block_average
from ...consistency.structure import (
    BondedAccumulator,
    BondedDistribution,
    RadialAccumulator,
    RadialDistribution,
    bond_angles,
    bond_lengths,
)
from ...consistency.structure.cells import box_widths
from ...errors import InputError
from ...space import BondWalk, make_whole
from .coordinates import BondedGroup
from .ensembles import BeadFrames, BeadTable, Ensemble

#: Pressure (kJ/mol/nm³) of positions (beads, 3) nm in a box (3, 3) nm.
PressureOf = Callable[[np.ndarray, np.ndarray], float]
#: Largest default of r_max, nm, and share of half the box that it may be at most: boxes breathe.
_FARTHEST, _MARGIN = 1.5, 0.95
#: Frames that set the range of bonds, and by how much of what they span it is widened.
_PROBED, _WIDER = 20, 0.5


@dataclass(frozen=True)
class Plan:
    """What to measure, the same for all ensembles.

    Arguments:
        pairs: of kinds of beads, whose g(r) is wanted.
        r_max: nm.
        bins: of g(r).
        groups: bonds, angles and dihedrals.
        limits: (lower, upper) of each group; nm or rad.
        bonded_bins: of their histograms.
        between: pairs between different molecules only.
    """

    pairs: Sequence[tuple[str, str]]
    r_max: float
    bins: int
    groups: Sequence[BondedGroup]
    limits: Sequence[tuple[float, float] | None]
    bonded_bins: int
    between: bool


@dataclass(frozen=True)
class Measured:
    """What one ensemble has.

    Arguments:
        radial: g(r) by pair of kinds.
        bonded: distributions by the title of their group.
        density: beads per nm³, mean; None without boxes.
        volume: nm³, mean; None without boxes.
        gyration: radius of gyration of the molecules, nm, mean; None where all are single beads or pairs.
        pressure: kJ/mol/nm³, mean; None where it was not asked for.
        frames: that were read.
        constant_volume: all frames have the same volume.
    """

    radial: Mapping[tuple[str, str], RadialDistribution]
    bonded: Mapping[str, BondedDistribution]
    density: Estimate | None
    volume: float | None
    gyration: Estimate | None
    pressure: Estimate | None
    frames: int
    constant_volume: bool


def default_r_max(blocks: Sequence[BeadFrames]) -> float:
    """As far as g(r) goes unless asked for: 1.5 nm, or nearly half the smallest box of the first frames.

    Arguments:
        blocks: the first of each ensemble.

    Raises:
        InputError: a first frame has no box.
    """
    widths = []
    for block in blocks:
        _, box = _frame(block, 0)
        if box is None:
            raise _boxless(block.place(0))
        widths.append(float(box_widths(box).min()))
    return min(_FARTHEST, float(f"{_MARGIN * 0.5 * min(widths):.3g}"))


def bonded_limits(blocks: Sequence[BeadFrames], groups: Sequence[BondedGroup]) -> list[tuple[float, float] | None]:
    """Range of each group's histogram: what the first frames of all ensembles span, and half as much more.

    Arguments:
        blocks: the first of each ensemble.
        groups: bonds, angles and dihedrals; None is the range of dihedrals, the full circle.
    """
    found: list[tuple[float, float] | None] = [None] * len(groups)
    wanted = {"bond": bond_lengths, "angle": bond_angles}
    spans: dict[int, list[float]] = {}
    for block in blocks:
        for frame in range(min(len(block), _PROBED)):
            x, box = _frame(block, frame)
            for number, group in enumerate(groups):
                if group.kind in wanted:
                    values = np.asarray(wanted[group.kind](x, group.beads, box))
                    spans.setdefault(number, []).extend([float(values.min()), float(values.max())])
    for number, values in spans.items():
        low, high = min(values), max(values)
        width = max(_WIDER * (high - low), 0.02)
        top = np.pi if groups[number].kind == "angle" else np.inf
        found[number] = (max(low - width, 0.0), min(high + width, top))
    return found


def measure(
    ensemble: Ensemble,
    plan: Plan,
    *,
    pressure: PressureOf | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Measured:
    """Measures an ensemble, frame by frame.

    Arguments:
        ensemble: whose beads are known.
        plan: what to measure.
        pressure: of one frame; None: not asked for.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: a frame has no box where one is needed, or one too small for ``r_max``, or cannot be read.
    """
    beads = ensemble.beads
    assert beads is not None
    radial = None
    if plan.pairs:
        radial = RadialAccumulator(
            plan.r_max,
            bins=plan.bins,
            types=np.array(beads.kinds),
            pairs=plan.pairs,
            molecules=beads.molecule,
            keep="between" if plan.between else "all",
        )
    bonded = {
        group.title: BondedAccumulator(group.kind, group.beads, bins=plan.bonded_bins, limits=limits)
        for group, limits in zip(plan.groups, plan.limits, strict=True)
    }
    size = _Gyration(beads)
    volumes: list[float] = []
    pressures: list[float] = []
    sizes: list[float] = []
    done = 0
    for block in ensemble.blocks():
        for frame in range(len(block)):
            x, box = _frame(block, frame)
            if box is not None:
                volumes.append(abs(float(np.linalg.det(box))))
            elif plan.pairs or pressure is not None:
                raise _boxless(block.place(frame))
            try:
                if radial is not None:
                    assert box is not None
                    _require_room(block.place(frame), plan.r_max, box)
                    radial.add(x, box)
                for accumulator in bonded.values():
                    accumulator.add(x, box)
                if size.molecules:
                    sizes.append(size(x, box))
                if pressure is not None and box is not None:
                    pressures.append(pressure(x, box))
            except ValueError as error:
                raise InputError(f"{block.place(frame)}: {error}") from error
            done += 1
            if progress is not None:
                progress(ensemble.role, done, ensemble.frames)
    known = len(volumes) == done
    return Measured(
        radial={} if radial is None else radial.results(),
        bonded={title: next(iter(found.results().values())) for title, found in bonded.items()},
        density=_estimate(len(beads) / np.array(volumes)) if known else None,
        volume=float(np.mean(volumes)) if known else None,
        gyration=_estimate(np.array(sizes)) if sizes else None,
        pressure=_estimate(np.array(pressures)) if pressures else None,
        frames=done,
        constant_volume=known and bool(np.ptp(volumes) <= 1e-4 * np.mean(volumes)),
    )


def _frame(block: BeadFrames, frame: int) -> tuple[np.ndarray, np.ndarray | None]:
    box = block.boxes[frame]
    return np.asarray(block.positions[frame], np.float64), box if box.any() else None


def _estimate(series: np.ndarray) -> Estimate:
    return block_average(series)


def _boxless(place: str) -> InputError:
    return InputError(
        f"{place}: has no periodic box, which g(r) and pressures need; give trajectories with boxes, or add --no-pairs "
        "to compare bonded distributions alone."
    )


def _require_room(place: str, r_max: float, box: np.ndarray) -> None:
    half = 0.5 * float(box_widths(box).min())
    if r_max > half * (1 + 1e-6):
        raise InputError(
            f"{place}: g(r) up to {r_max:.4g} nm is asked for, but half the smallest width of the box is {half:.4g} "
            f"nm; give --r-max {np.floor(half * 100) / 100:.2f} or less."
        )


class _Gyration:
    """Mean radius of gyration of all molecules of three beads or more."""

    def __init__(self, beads: BeadTable):
        self._walk = BondWalk.of(beads.bonds, len(beads))
        sizes = np.bincount(self._walk.molecule)
        # Of what bonds connect: other beads of a molecule cannot be put together.
        self._inside = np.flatnonzero(sizes[self._walk.molecule] > 2)
        self._number = np.unique(self._walk.molecule[self._inside], return_inverse=True)[1]
        masses = np.ones(len(beads)) if beads.masses is None or not np.all(beads.masses > 0) else beads.masses
        self._masses = np.asarray(masses)[self._inside]
        self.molecules = int(self._number.max(initial=-1)) + 1

    def __call__(self, x: np.ndarray, box: np.ndarray | None) -> float:
        if box is not None:
            x = np.asarray(make_whole(x, box, self._walk))
        x, count = x[self._inside], self.molecules
        total = np.bincount(self._number, self._masses, count)
        centre = np.stack([np.bincount(self._number, self._masses * x[:, k], count) for k in range(3)], axis=1)
        off = x - (centre / total[:, None])[self._number]
        square = np.bincount(self._number, self._masses * np.sum(off**2, axis=1), count)
        return float(np.mean(np.sqrt(square / total)))

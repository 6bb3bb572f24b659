"""The force map of a trajectory file: the basic one, or the optimal one fitted to its frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..mapping.base import AbstractLinearMap
from ..mapping.constraints import constrained_pairs
from ..mapping.force_maps import ForceMap, aggregating_force_map
from ..mapping.formats.model import Atoms, CoarseModel
from ..mapping.optimal_force_maps import ForceMoments, bonded_neighbours
from .trajectories import BrokenFrame, Trajectory

#: Frames that show which bonds are constrained, and bonds from a bead within which its optimal row has coefficients.
_FRAMES, _REACH = 24, 3
#: Frames that a fit needs at least.
_FEWEST = 10


@dataclass(frozen=True)
class FittedForceMap:
    """A force map and what to tell the user of it."""

    force_map: ForceMap
    notes: tuple[str, ...]


def force_map_of(
    kind: str,
    source: Trajectory,
    numbers: Sequence[int],
    atoms: Atoms,
    model: CoarseModel,
    progress: Callable[[str, int, int], None],
) -> FittedForceMap:
    """The force map of ``kind`` for a trajectory.

    Arguments:
        kind: ``"basic"``: that of the mapping file, else the aggregating map; ``"optimal"``: fitted to all ``numbers``.
            Both respect the distances that the trajectory shows to be constrained.
        source: the trajectory.
        numbers: frames to use.
        atoms: their names and bonds.
        model: the map of the positions.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: the trajectory has no forces, or no force map can be made.
    """
    if not source.has_forces:
        raise InputError(f"{source.path}: not every frame has forces; leave --force-map out, or give a TRR with them.")
    mapping = model.mapping
    if not isinstance(mapping, AbstractLinearMap):
        raise InputError("forces can be mapped for linear maps only; leave --force-map out.")
    try:
        if kind == "basic":
            if model.force_map is not None:
                return FittedForceMap(model.force_map, ())
            if len(numbers) < _FEWEST:
                note = f"constraints cannot be told from {len(numbers)} frames; forces are mapped as if there were none"
                return FittedForceMap(aggregating_force_map(mapping), (note,))
            constraints = _constraints(source, _samples(numbers), _bonds(atoms))
            notes = (f"{len(constraints)} constrained distances found; atoms they join share their force coefficients",)
            return FittedForceMap(aggregating_force_map(mapping, constraints), notes if len(constraints) else ())
        return _optimal(source, numbers, atoms, mapping, progress)
    except ValueError as error:
        raise InputError(f"{source.path}: {error}") from error


def _optimal(source, numbers, atoms: Atoms, mapping: AbstractLinearMap, progress) -> FittedForceMap:
    if len(numbers) < _FEWEST:
        raise InputError(f"{source.path}: {len(numbers)} frames are too few for an optimal force map; use basic.")
    bonds = _bonds(atoms)
    constraints = _constraints(source, _samples(numbers), bonds)
    moments = ForceMoments.start(mapping, constraints, bonded_neighbours(mapping, bonds, _REACH))
    length = source.block_length()
    for start in range(0, len(numbers), length):
        progress("force map", start, len(numbers))
        try:
            block, broken = source.read(numbers[start : start + length]), False
        except BrokenFrame as error:
            block, broken = error.block, True
        if block.forces is not None:
            moments = moments.update(block.forces)
        if broken:
            break
    fit = moments.result()
    gain = 100 * (1 - float(np.mean(fit.reduction)))
    note = (
        f"optimal force map fitted to {fit.frames} frames, {len(constraints)} constrained distances found; "
        f"variance of the mapped forces {gain:.0f} % below that of the basic map"
    )
    return FittedForceMap(fit.force_map, (note,))


def _samples(numbers: Sequence[int]) -> list[int]:
    """Frames spread over the trajectory."""
    return [numbers[i] for i in np.unique(np.linspace(0, len(numbers) - 1, _FRAMES).astype(int))]


def _bonds(atoms: Atoms) -> np.ndarray:
    return np.zeros((0, 2), dtype=int) if atoms.bonds is None else atoms.bonds


def _constraints(source: Trajectory, numbers: Sequence[int], bonds: np.ndarray) -> np.ndarray:
    """Bonds and angles' ends whose length the chosen frames show to be fixed, one frame in memory at a time."""
    positions, boxes = [], []
    atoms = np.unique(bonds)
    for number in numbers:
        try:
            block = source.read([number])
        except BrokenFrame:
            break
        positions.append(block.positions[0, atoms])
        boxes.append(block.boxes[0])
    if not len(atoms):
        return np.zeros((0, 2), dtype=int)
    box = np.array(boxes) if np.all([b.any() for b in boxes]) else None
    return atoms[constrained_pairs(np.array(positions), box=box)]

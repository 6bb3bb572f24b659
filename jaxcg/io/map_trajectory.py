"""From an all-atom trajectory file to one of beads: read, made whole, mapped and written block by block."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..mapping.base import AbstractLinearMap
from ..mapping.formats.model import Atoms, CoarseModel
from ..mapping.many_frames import FrameMapper, VectorMapper
from .atoms import read_atoms, selector
from .bead_labels import bead_label, bead_labels, unmapped_notes
from .force_fit import force_map_of
from .frames import frame_numbers
from .trajectories import BrokenFrame, FrameBlock, Trajectory, open_trajectory
from .trajectory_writers import check_ending, open_writer

#: Called as ``progress(stage, done, total)``.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MappedTrajectory:
    """What a mapping run did.

    Arguments:
        output: file of the beads; the ending is its format.
        frames: frames written.
        atoms, beads: numbers of them.
        damage: why the trajectory could not be read to its end, or None.
        forces: which forces were mapped: ``"basic"``, ``"optimal"`` or None.
        notes: what was guessed, left out or chosen, for the user.
    """

    output: str
    frames: int
    atoms: int
    beads: int
    damage: str | None
    forces: str | None
    notes: tuple[str, ...]


def map_trajectory(
    trajectory: str | os.PathLike | Trajectory,
    output: str | os.PathLike,
    *,
    topology: str | os.PathLike | Atoms | None = None,
    mapping: str | os.PathLike | CoarseModel = "martini3",
    frames: str | None = None,
    whole: bool = True,
    force_map: str | None = None,
    structure: str | os.PathLike | None = None,
    progress: Report | None = None,
    threads: int | None = None,
) -> MappedTrajectory:
    """Maps a trajectory file to a file of beads, in constant memory.

    Arguments:
        trajectory: XTC, TRR, DCD or any other file MDAnalysis reads; a structure file is a trajectory of its models.
        output: file to write: XTC (to 0.001 nm), TRR, DCD, GRO or PDB by its ending. It appears when it is complete.
        topology: file that says what the atoms are; None: the trajectory itself does (PDB, GRO).
        mapping: ``"martini3"``, ``"calpha"`` ... or a mapping file of any format, or the model made from one.
        frames: ``"start:stop:step"`` or numbers with commas; None: all.
        whole: put molecules that the box has cut together along their bonds first.
        force_map: ``"basic"`` (the sum of the forces on the atoms of a bead) or ``"optimal"`` (the linear map whose
            mapped forces scatter least, fitted to the frames); the output must be TRR. None: no forces.
        structure: PDB or GRO file to write the first frame to, with the names of the beads.
        progress: called as ``progress(stage, done, total)``.
        threads: that read and map at once; None: one for each processor, four at most.

    Returns:
        What was done. A trajectory that breaks off is mapped as far as it is whole: see ``damage``.

    Raises:
        InputError: the input cannot be used; nothing is written.

    Examples:
        >>> map_trajectory("traj.xtc", "cg.xtc", topology="aa.pdb", mapping="martini3")  # doctest: +SKIP
    """
    report = progress or _silent
    for path in (output, *(() if structure is None else (structure,))):
        check_ending(path)
    if force_map is not None and check_ending(output) != "trr":
        raise InputError(f"{os.fspath(output)}: forces are written to TRR files only; choose a name ending with .trr.")
    atoms, model = load_model(trajectory, topology, mapping, report)
    source = trajectory if isinstance(trajectory, Trajectory) else open_trajectory(trajectory, atoms.n_atoms)
    numbers = chosen_frames(source, atoms, frames)
    notes = [*atoms.notes, *model.notes, *unmapped_notes(atoms, model)]

    forces = None
    if force_map is not None:
        fitted = force_map_of(force_map, source, numbers, atoms, model, report)
        forces = VectorMapper(fitted.force_map)
        notes += fitted.notes
    mapper = _BlockMapper(atoms, model, forces, whole=whole, path=source.path)
    labels = bead_labels(atoms, model)
    done = 0
    with ExitStack() as stack:
        writer = stack.enter_context(open_writer(output, labels, len(numbers)))
        damage = source.damage if numbers[-1] == source.n_frames - 1 or frames is None else None
        try:
            for block in _mapped_blocks(source, numbers, mapper, threads):
                writer.write(block)
                if not done and structure is not None:
                    first = stack.enter_context(open_writer(structure, labels, 1))
                    first.write(block.head(1))
                done += len(block)
                report("mapping", done, len(numbers))
        except BrokenFrame as broken:
            damage = f"frame {broken.number} cannot be read ({broken.reason})"
        if not done:
            raise InputError(f"{source.path}: not one whole frame in this file ({damage}).")
    return MappedTrajectory(
        output=os.fspath(output),
        frames=done,
        atoms=atoms.n_atoms,
        beads=model.n_beads,
        damage=damage,
        forces=force_map,
        notes=tuple(dict.fromkeys(notes)),
    )


def load_model(
    trajectory: str | os.PathLike | Trajectory,
    topology: str | os.PathLike | Atoms | None,
    mapping: str | os.PathLike | CoarseModel,
    progress: Report | None = None,
    *,
    hydrogens: bool | None = None,
    source: str | None = None,
) -> tuple[Atoms, CoarseModel]:
    """The atoms and the map of `map_trajectory`'s arguments of these names.

    ``hydrogens`` and ``source`` are those of `jaxcg.mapping.formats.build_model`.

    Raises:
        InputError: a file cannot be read, or the mapping does not fit the atoms.
    """
    report = progress or _silent
    report("topology", 0, 1)
    atoms = read_topology(trajectory, topology)
    report("mapping rules", 0, 1)
    if isinstance(mapping, CoarseModel):
        model = mapping
    else:
        from ..mapping.formats.build import build_model

        model = build_model(atoms, mapping, hydrogens=hydrogens, source=source, select=selector(atoms.path))
    if model.mapping.n_atoms != atoms.n_atoms:
        raise InputError(f"{atoms.path}: {atoms.n_atoms} atoms, but the mapping is for {model.mapping.n_atoms}.")
    return atoms, model


def read_topology(trajectory: str | os.PathLike | Trajectory, topology: str | os.PathLike | Atoms | None) -> Atoms:
    """The atoms of ``topology`` or, where that is None, of a trajectory file that says what its atoms are.

    Raises:
        InputError: the file cannot be read, or does not say.
    """
    if topology is None:
        topology = trajectory.path if isinstance(trajectory, Trajectory) else trajectory
    if isinstance(topology, Atoms):
        return topology
    if Path(topology).suffix.lower() in (".xtc", ".trr", ".dcd", ".nc", ".ncdf"):
        raise InputError(
            f"{os.fspath(topology)}: does not say what its atoms are; give a file that does with --topology."
        )
    return read_atoms(topology)


def chosen_frames(source: Trajectory, atoms: Atoms, selection: str | None) -> list[int]:
    """Numbers of the frames to read.

    Raises:
        InputError: the trajectory has another number of atoms than the topology, or no frame is chosen.
    """
    if source.n_atoms != atoms.n_atoms:
        raise InputError(
            f"{source.path}: {source.n_atoms} atoms per frame but {atoms.path} has {atoms.n_atoms}; "
            "give the topology that belongs to this trajectory."
        )
    return frame_numbers(selection, source.n_frames, source.path)


def mapped_blocks(
    source: Trajectory, numbers: Sequence[int], atoms: Atoms, model: CoarseModel, *, threads: int | None = None
) -> Iterator[FrameBlock]:
    """Blocks of the beads of an all-atom trajectory in order, molecules whole.

    Arguments:
        source: the trajectory.
        numbers: of the frames, ascending.
        atoms: of its topology.
        model: the map.
        threads: that read and map at once; None: one for each processor, four at most.

    Raises:
        BrokenFrame: a frame cannot be read; what is before it has been given.
        InputError: a bead has a coordinate that is not finite.
    """
    return _mapped_blocks(source, numbers, _BlockMapper(atoms, model, None, whole=True, path=source.path), threads)


class _BlockMapper:
    """Turns a block of atoms into a block of beads; any thread may call it."""

    def __init__(self, atoms: Atoms, model: CoarseModel, forces: VectorMapper | None, *, whole: bool, path: str):
        self._positions = FrameMapper(model.mapping, atoms.bonds if whole else None)
        self._velocities = VectorMapper(model.mapping) if isinstance(model.mapping, AbstractLinearMap) else None
        self._forces, self._model, self._path = forces, model, path

    def __call__(self, block: FrameBlock, numbers: Sequence[int]) -> FrameBlock:
        positions = self._positions(block.positions, block.boxes)
        velocities = forces = None
        if block.velocities is not None and self._velocities is not None:
            velocities = self._velocities(block.velocities)
        if block.forces is not None and self._forces is not None:
            forces = self._forces(block.forces)
        for what, values in (("coordinate", positions), ("force", forces)):
            if values is not None and not np.isfinite(values).all():
                frame, bead = np.argwhere(~np.isfinite(values).all(axis=2))[0]
                raise InputError(
                    f"{self._path}, frame {numbers[frame]}: bead {bead_label(self._model, bead)} has a {what} that is "
                    "not a number; leave this frame out (--frames) or repair it."
                )
        return replace(block, positions=positions, velocities=velocities, forces=forces)


def _mapped_blocks(
    source: Trajectory, numbers: Sequence[int], mapper: _BlockMapper, threads: int | None
) -> Iterator[FrameBlock]:
    """Blocks of beads in order; a few blocks ahead are read and mapped by other threads."""

    def one(chosen: Sequence[int]) -> tuple[FrameBlock | None, BrokenFrame | None]:
        try:
            return mapper(source.read(chosen), chosen), None
        except BrokenFrame as broken:
            return (mapper(broken.block, chosen) if len(broken.block) else None), broken

    threads = threads or min(available_processors(), 4)
    length = source.block_length()
    starts = iter(range(0, len(numbers), length))
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        while True:
            while len(waiting) <= threads and (start := next(starts, None)) is not None:
                waiting.append(pool.submit(one, numbers[start : start + length]))
            if not waiting:
                return
            block, broken = waiting.popleft().result()
            if block is not None:
                yield block
            if broken is not None:
                raise broken
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def available_processors() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total

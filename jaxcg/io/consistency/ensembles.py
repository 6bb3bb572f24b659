"""Ensembles of beads to compare: a mapped all-atom reference and a coarse-grained model, read block by block."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...mapping.formats.model import CoarseModel
from ..atoms import open_topology
from ..bead_labels import bead_label, bead_molecules
from ..bonds import molecules, unique_bonds
from ..frames import frame_numbers
from ..map_trajectory import chosen_frames, load_model, mapped_blocks
from ..trajectories import BrokenFrame, FrameBlock, Trajectory, open_trajectory

#: Formats that do not say what their particles are.
_NAMELESS = (".xtc", ".trr", ".dcd", ".nc", ".ncdf", ".lammpstrj")
#: Called as ``progress(stage, done, total)``.
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class BeadTable:
    """What the beads of a system are.

    Arguments:
        names, residue_names, kinds: (beads,) names, residues, and the kinds by which pairs are told apart.
        labels: (beads,) how messages call each.
        molecule: (beads,) number of the molecule each is in.
        bonds: (bonds, 2) beads that are bonded.
        masses: (beads,) amu, or None where the file has none.
    """

    names: tuple[str, ...]
    residue_names: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    molecule: np.ndarray
    bonds: np.ndarray
    masses: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class BeadFrames:
    """Successive frames of beads.

    Arguments:
        path: the file they are from.
        numbers: (frames,) their numbers in the file.
        positions: (frames, beads, 3) nm.
        boxes: (frames, 3, 3) box vectors as rows, nm; zeros where a frame has none.
    """

    path: str
    numbers: Sequence[int]
    positions: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def place(self, frame: int) -> str:
        """How messages call a frame of this block."""
        return f"{self.path}, frame {self.numbers[frame]}"


@dataclass(frozen=True)
class Ensemble:
    """Configurations of beads, in one or more files.

    Arguments:
        role: ``"reference"`` or ``"model"``.
        paths: the files.
        beads: what the beads are; None where no file says.
        n_beads: their number.
        frames: number of frames that will be read.
        notes: what was guessed or left out, for the user.
    """

    role: str
    paths: tuple[str, ...]
    beads: BeadTable | None
    n_beads: int
    frames: int
    notes: tuple[str, ...]
    _read: Callable[[], Iterator[BeadFrames]]
    _chosen: np.ndarray | None = None

    def blocks(self) -> Iterator[BeadFrames]:
        """All frames in order, from the start at every call.

        Raises:
            InputError: a frame cannot be read, or has coordinates that are not finite.
        """
        for block in self._read():
            bad = ~np.isfinite(block.positions).all(axis=2)
            if bad.any():
                frame, bead = np.argwhere(bad)[0]
                name = f"bead {bead + 1}" if self.beads is None else f"bead {self.beads.labels[bead]}"
                raise InputError(
                    f"{block.place(frame)}: {name} has a coordinate that is not a number; leave this frame out "
                    "(--frames, --model-frames) or repair it."
                )
            # After the check, whose labels are those of all beads.
            yield block if self._chosen is None else replace(block, positions=block.positions[:, self._chosen])


def read_reference(
    trajectories: Sequence[str | os.PathLike],
    topology: str | os.PathLike | None = None,
    mapping: str | os.PathLike | CoarseModel | None = None,
    frames: str | None = None,
    progress: Report | None = None,
) -> Ensemble:
    """The reference: all-atom trajectories seen through a map, or coarse-grained ones as they are.

    Arguments:
        trajectories: files of one system.
        topology: what their particles are; None: the first trajectory says it (PDB, GRO).
        mapping: ``"martini3"``, ``"com"`` ... or a mapping file of any format; None: the particles are beads already.
        frames: ``"start:stop:step"``; None: all.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: a file cannot be used, or the mapping does not fit the atoms.
    """
    paths = tuple(os.fspath(path) for path in trajectories)
    if mapping is None:
        return _as_they_are("reference", paths, topology, frames, "--topology")
    atoms, model = load_model(paths[0], topology, mapping, progress)
    sources = [open_trajectory(path, atoms.n_atoms) for path in paths]
    chosen = [chosen_frames(source, atoms, frames) for source in sources]
    beads = BeadTable(
        names=model.bead_names,
        residue_names=model.residue_names,
        kinds=tuple(kind or name for kind, name in zip(model.bead_types, model.bead_names, strict=True)),
        labels=tuple(bead_label(model, bead) for bead in range(model.n_beads)),
        molecule=bead_molecules(atoms, model),
        bonds=unique_bonds(model.bonds),
        masses=np.asarray(model.masses, np.float64),
    )

    def read() -> Iterator[BeadFrames]:
        for source, numbers in zip(sources, chosen, strict=True):
            done = 0
            for block in _whole_frames(source.path, mapped_blocks(source, numbers, atoms, model)):
                yield _frames(source.path, numbers[done : done + len(block)], block)
                done += len(block)

    notes = (*atoms.notes, *model.notes, *_damages(sources))
    return Ensemble("reference", paths, beads, len(beads), sum(map(len, chosen)), notes, read)


def read_model(
    trajectories: Sequence[str | os.PathLike],
    topology: str | os.PathLike | None = None,
    frames: str | None = None,
) -> Ensemble:
    """The model: coarse-grained trajectories as they are.

    Arguments:
        trajectories: files of one system.
        topology: what their beads are; None: the first trajectory says it, or nothing does.
        frames: ``"start:stop:step"``; None: all.

    Raises:
        InputError: a file cannot be used.
    """
    paths = tuple(os.fspath(path) for path in trajectories)
    return _as_they_are("model", paths, topology, frames, "--model-topology")


def matched(reference: Ensemble, model: Ensemble, *, by_order: bool = False) -> Ensemble:
    """The model with the beads of the reference, which it must have in the same order.

    Arguments:
        reference: whose beads are known.
        model: whose beads are compared with them, by name where it has names.
        by_order: compare numbers only.

    Raises:
        InputError: they have different numbers of beads, or different names; the message names the first.
    """
    assert reference.beads is not None
    if model.n_beads != reference.n_beads:
        raise InputError(
            f"{model.paths[0]}: {model.n_beads} beads per frame but the reference has {reference.n_beads} (of "
            f"{reference.paths[0]}); simulate the same system, or choose the mapping that the model was made for."
        )
    table = model.beads
    if table is not None and not by_order:
        for bead, (mine, wanted) in enumerate(zip(table.names, reference.beads.names, strict=True)):
            if mine != wanted:
                raise InputError(
                    f"{model.paths[0]}: bead {bead + 1} is {table.labels[bead]} but {reference.beads.labels[bead]} in "
                    "the reference; put the beads into the same order, or add --by-order if only their names differ."
                )
    beads = reference.beads
    if table is not None and not len(beads.bonds) and len(table.bonds):
        beads = replace(beads, bonds=table.bonds, molecule=molecules(table.bonds, len(beads)))
    return replace(model, beads=beads)


def selected(ensemble: Ensemble, select: str) -> Ensemble:
    """The ensemble of some of its beads.

    Arguments:
        ensemble: whose beads are known.
        select: names, kinds or RESIDUE:NAME, with commas.

    Raises:
        InputError: no bead goes by one of these names.
    """
    beads = ensemble.beads
    assert beads is not None
    own = [
        {name, kind, f"{residue}:{name}"}
        for name, kind, residue in zip(beads.names, beads.kinds, beads.residue_names, strict=True)
    ]
    wanted = {word.strip() for word in select.split(",") if word.strip()}
    missing = sorted(wanted - set().union(*own)) if wanted else [select]
    if missing:
        have = ", ".join(sorted({f"{r}:{n}" for r, n in zip(beads.residue_names, beads.names, strict=True)})[:8])
        raise InputError(f"--select {select}: no bead is called '{missing[0]}'; there are {have}.")
    chosen = np.flatnonzero([bool(words & wanted) for words in own])
    place = np.full(len(beads), -1)
    place[chosen] = np.arange(len(chosen))
    bonds = place[beads.bonds]
    table = BeadTable(
        names=tuple(beads.names[i] for i in chosen),
        residue_names=tuple(beads.residue_names[i] for i in chosen),
        kinds=tuple(beads.kinds[i] for i in chosen),
        labels=tuple(beads.labels[i] for i in chosen),
        molecule=np.unique(beads.molecule[chosen], return_inverse=True)[1],
        bonds=bonds[(bonds >= 0).all(axis=1)],
        masses=None if beads.masses is None else beads.masses[chosen],
    )
    read = ensemble._read
    return replace(ensemble, beads=table, n_beads=len(chosen), _read=read, _chosen=chosen)


def _as_they_are(role: str, paths: Sequence[str], topology, frames: str | None, option: str) -> Ensemble:
    """An ensemble of the particles of files."""
    named = os.fspath(topology) if topology is not None else paths[0]
    beads = None
    if topology is not None or Path(named).suffix.lower() not in _NAMELESS:
        beads = _beads_of(named)
    elif role == "reference":
        raise InputError(f"{named}: does not say what its particles are; give a file that does with {option}.")
    sources = [open_trajectory(path, None if beads is None else len(beads)) for path in paths]
    wanted = sources[0].n_atoms if beads is None else len(beads)
    for source in sources:
        if source.n_atoms != wanted:
            raise InputError(
                f"{source.path}: {source.n_atoms} particles per frame but {named} has {wanted}; give the topology that "
                f"belongs to this trajectory with {option}."
            )
    chosen = [frame_numbers(frames, source.n_frames, source.path) for source in sources]

    def read() -> Iterator[BeadFrames]:
        for source, numbers in zip(sources, chosen, strict=True):
            yield from _raw_blocks(source, numbers)

    return Ensemble(role, tuple(paths), beads, wanted, sum(map(len, chosen)), tuple(_damages(sources)), read)


def _raw_blocks(source: Trajectory, numbers: Sequence[int]) -> Iterator[BeadFrames]:
    length = source.block_length()
    for start in range(0, len(numbers), length):
        some = numbers[start : start + length]
        for block in _whole_frames(source.path, iter([some]), source.read):
            yield _frames(source.path, some, block)


def _whole_frames(path: str, blocks: Iterator[Any], read: Callable | None = None) -> Iterator[FrameBlock]:
    """The blocks; a frame that cannot be read is an error, as averages over a part of a file would be no surprise."""
    try:
        for block in blocks:
            yield block if read is None else read(block)
    except BrokenFrame as broken:
        raise InputError(
            f"{path}: frame {broken.number} cannot be read ({broken.reason}); use the frames before it (--frames, "
            f"--model-frames :{broken.number})."
        ) from broken


def _frames(path: str, numbers: Sequence[int], block: FrameBlock) -> BeadFrames:
    return BeadFrames(path, numbers, np.asarray(block.positions), np.asarray(block.boxes, np.float64))


def _damages(sources: Sequence[Trajectory]) -> list[str]:
    return [f"{source.path}: {source.damage}" for source in sources if source.damage is not None]


def _beads_of(path: str) -> BeadTable:
    """The particles of a coarse-grained topology; nothing is guessed, since beads are no atoms."""
    universe = open_topology(path)
    atoms: Any = universe.atoms
    n = len(atoms)
    names = tuple(str(name).strip() for name in _attribute(atoms, "names", [""] * n))
    residues = tuple(str(name).strip() for name in _attribute(atoms, "resnames", [""] * n))
    types = tuple(str(kind).strip() for kind in _attribute(atoms, "types", [""] * n))
    labels = tuple(f"{name} of {r} {i}" for name, r, i in zip(names, residues, _attribute(atoms, "resids", range(n))))
    bonds = unique_bonds(universe.bonds.indices if hasattr(atoms, "bonds") else [])
    molecule = molecules(bonds, n)
    # Only files with an interaction list say what the types are; others have them from the names at best.
    named = hasattr(atoms, "moltypes") and all(types)
    masses = np.asarray(atoms.masses, np.float64) if hasattr(atoms, "masses") and np.all(atoms.masses > 0) else None
    return BeadTable(names, residues, types if named else names, labels, molecule, bonds, masses)


def _attribute(group, name: str, default: Any) -> Any:
    return getattr(group, name) if hasattr(group, name) else default

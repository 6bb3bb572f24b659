"""From coarse-grained files to a sampling problem: the molecule, its frames, and independent starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ...backmap._molecule import cast
from ...backmap.engine import BEAD_NOISE, BeadMode, Engine
from ...backmap.pipeline import IN_VACUO, better_mapping, worthwhile_width
from ...energy.base import SumEnergy
from ...errors import InputError, ResultError
from ...lockstep import alone, together
from ...posterior import Posterior
from ...typing import PRNGKeyArray
from ..frames import read_frames
from ..molecule import Molecule, build_molecule
from ..trajectories import open_trajectory
from ..whole import make_whole
from ..writers import write_pdb
from .problem import SamplingProblem
from .settings import SampleSettings

Report = Callable[[str, int, int], None]
#: Beads of given starts may be so far from their places, nm, to count as held exactly.
_ON_FIBRE = 0.005
_STRUCTURES = (".pdb", ".cif", ".ent", ".mmcif")


@dataclass(frozen=True)
class _Given:
    """What the files say: molecule, frames (number, beads) and how beads are held."""

    molecule: Molecule
    frames: list[tuple[int, np.ndarray]]
    notes: list[str]


def prepare(settings: SampleSettings, folder: Path, report: Report) -> SamplingProblem:
    """The problem of a run; relaxed starts are kept frame by frame in ``folder``, and found there again.

    Arguments:
        settings: of the run.
        folder: of the unfinished run.
        report: called as ``report(stage, done, total)``.

    Raises:
        InputError: the files cannot be used.
        ResultError: no start of a frame is sound.
    """
    report("building the molecule", 0, 1)
    given = _read(settings)
    report("building the molecule", 1, 1)
    dtype = np.dtype(settings.precision)
    if settings.start is not None:
        molecule, noise, starts, notes = _given_starts(settings, given)
        energy = cast(molecule.energy, dtype.type).rebuild(starts[0, 0])
        prior = None
    else:
        engine, mode, starts, notes = _relaxed_starts(settings, given, folder, report)
        molecule, noise = engine.molecule, mode.noise
        energy = SumEnergy(engine.energy.terms()).rebuild(np.asarray(starts[0, 0], dtype))
        prior = engine.prior(soft=noise is not None).terms()[len(engine.energy.terms()) :]
    if settings.backbone_prior > 0:
        if prior is None:
            raise InputError("--backbone-prior goes with relaxed starts; leave --start out.")
        energy = SumEnergy((*energy.terms(), *prior))
    beads = np.stack([y for _, y in given.frames])
    posterior = Posterior(energy, molecule.mapping, beads[0].astype(dtype), settings.temperature, noise)
    write_pdb(folder / "topology.pdb", molecule, starts[0, 0])
    return SamplingProblem(
        posterior=posterior,
        system=molecule.system,
        frames=tuple(number for number, _ in given.frames),
        beads=beads,
        starts=starts.astype(dtype),
        bead_labels=molecule.bead_labels,
        pdb=(folder / "topology.pdb").read_text(encoding="utf-8"),
        notes=(*molecule.notes, *notes),
    )


def _read(settings: SampleSettings) -> _Given:
    """Molecule and frames."""
    assert settings.structure is not None
    reference = settings.reference
    if reference is None and settings.start is not None and Path(settings.start).suffix.lower() in _STRUCTURES:
        reference = settings.start
    vacuum = settings.solvent == "none"
    screened = IN_VACUO["dielectric"] if vacuum else 1.0
    molecule = build_molecule(
        settings.structure,
        mapping=settings.mapping,
        forcefield=settings.forcefield,
        solvent=settings.solvent,
        reference=reference,
        protonation=settings.protonation,
        nonbonded_cutoff=IN_VACUO["nonbonded_cutoff"] if vacuum else None,
        dielectric=screened if settings.dielectric is None else settings.dielectric,
    )
    found = [(0, molecule.y, None)]
    if settings.trajectory is not None:
        found = list(read_frames(molecule.beads, settings.trajectory, settings.frames))
    return _Given(molecule, [(number, make_whole(y, molecule.beads, box)) for number, y, box in found], [])


def _given_starts(settings: SampleSettings, given: _Given) -> tuple[Molecule, float | None, np.ndarray, list[str]]:
    """Molecule, noise and starts (frames, starts, atoms, 3) from structures of the user's."""
    path, molecule, frames = str(settings.start), given.molecule, len(given.frames)
    if Path(path).suffix.lower() in _STRUCTURES:
        x = np.asarray(molecule.reference_positions)[None]
        if settings.reference is not None:
            x = open_all(path, molecule.system.n_atoms)
    else:
        x = open_all(path, molecule.system.n_atoms)
    if len(x) % frames:
        raise InputError(
            f"{path}: {len(x)} structures cannot be shared out over {frames} frames; give as many for each frame, "
            "those of the first frame first."
        )
    starts = x.reshape(frames, -1, *x.shape[1:])
    noise = (settings.noise or BEAD_NOISE) if settings.beads == "soft" else None
    notes = []
    if noise is None and molecule.alternative_mapping is not None:
        # Nothing in the files says whether hydrogens count in the beads; the starts do.
        other = molecule.with_alternative_mapping()
        if _largest_gap(other, starts, given) < _largest_gap(molecule, starts, given):
            molecule = other
            words = "with hydrogens" if molecule.hydrogens else "of heavy atoms only"
            notes.append(f"mapping: by the starts, beads are centres {words}")
    return molecule, noise, starts, notes


def open_all(path: str, n_atoms: int) -> np.ndarray:
    """(structures, atoms, 3) nm of every frame of a trajectory, or every model of a structure file.

    Raises:
        InputError: the file cannot be read, or has another number of atoms.
    """
    source = open_trajectory(path, n_atoms)
    if source.n_atoms != n_atoms:
        raise InputError(
            f"{path}: has {source.n_atoms} atoms, the molecule {n_atoms}; give structures with all atoms of the "
            "molecule, in the order of its topology (--reference)."
        )
    return np.asarray(source.read(range(source.n_frames)).positions, dtype=np.float64)


def _largest_gap(molecule: Molecule, starts: np.ndarray, given: _Given) -> float:
    matrix = molecule.mapping.matrix().tocsr()
    return max(
        float(np.abs(matrix @ x - y).max()) for (_, y), mine in zip(given.frames, starts, strict=True) for x in mine
    )


def _relaxed_starts(
    settings: SampleSettings, given: _Given, folder: Path, report: Report
) -> tuple[Engine, BeadMode, np.ndarray, list[str]]:
    """The engine, how beads are held, and starts (frames, starts, atoms, 3) from independent relaxations."""
    engine = Engine(
        given.molecule,
        temperature=settings.temperature,
        beads=settings.beads,
        bead_noise=settings.noise,
        backbone_prior=settings.backbone_prior or None,
        dtype=np.dtype(settings.precision).type,
    )
    key = jax.random.fold_in(jax.random.key(settings.seed), 0)
    number, y = given.frames[0]
    report("choosing the model", 0, 1)
    first = alone(engine.structure(number, y, jax.random.fold_in(key, number)))
    engine, first, notes = better_mapping(
        engine, first, lambda other: other.structure(number, y, jax.random.fold_in(key, number))
    )
    mode = BeadMode(first.bead_noise, first.bead_reason)
    notes = [*notes, f"beads {mode.name}: {mode.reason}"]
    total = len(given.frames) * settings.starts
    starts = []
    for place, (number, y) in enumerate(given.frames):
        report("relaxing starts", place * settings.starts, total)
        path = folder / "starts" / f"frame-{number:06d}.npy"
        if not path.exists():
            found = _relax(engine, mode, y, jax.random.fold_in(key, number), settings.starts, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            with open(temporary, "wb") as file:
                np.save(file, found)
            temporary.replace(path)
        starts.append(np.load(path))
    report("relaxing starts", total, total)
    return engine, mode, np.stack(starts), notes


def _relax(engine: Engine, mode: BeadMode, y: np.ndarray, key: PRNGKeyArray, count: int, frame: int) -> np.ndarray:
    """(starts, atoms, 3) independent minima of one frame."""
    programs = (engine.minimum(y, jax.random.fold_in(key, start), mode) for start in range(count))
    found: list[Any] = []
    for minimum in together(programs, width=worthwhile_width(count)):
        x = np.asarray(minimum.estimate.x)
        if not np.isfinite(x).all():
            raise ResultError(
                f"frame {frame}: start {len(found)} did not relax to finite positions; try another --seed."
            )
        # Names of atoms that are alike, such as the two hydrogens of a CH2 group, are settled here once and for all.
        found.append(engine.nomenclature.named(engine.on_fibre(x, y, mode)))
    return np.stack(found)

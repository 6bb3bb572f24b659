"""`backmap`: from a coarse-grained structure or trajectory to all-atom structures and ensembles."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ..batching import batch_width
from ..errors import InputError, ResultError
from ..lockstep import Program, alone, together
from ..mapping.linear import LinearMap
from ..sampling import EnsembleResult, find_torsions, heavy_hydrogen_masses, sample
from ..typing import PRNGKeyArray
from .engine import BeadMode, Engine
from .isomers import proline_peptides
from .result import BackmapResult, FrameResult

#: Called as ``progress(stage, done, total)``.
ProgressCallback = Callable[[str, int, int], None]

#: The force field without a solvent: cutoff in nm (a reaction field beyond), and the relative permittivity that screens
#: charges. With bare charges, side chains fold back onto the molecule in vacuo.
IN_VACUO = {"nonbonded_cutoff": 0.9, "dielectric": 4.0}
#: Relative rms bond strain of an exact MAP structure above which the other map (with or without hydrogens) is tried.
SUSPICIOUS_STRAIN = 0.011
#: Most chains of an ensemble; each starts from an independent relaxation.
MAX_CHAINS = 8
#: From this many structures on, compiling the programs for batches too is repaid.
ENOUGH_FOR_BATCHES = 40
#: Share of the memory an ensemble may take.
MEMORY_SHARE = 0.5


def backmap(
    structure: str | os.PathLike,
    *,
    trajectory: str | os.PathLike | None = None,
    frames: str | None = None,
    reference: str | os.PathLike | None = None,
    start_from_reference: bool = False,
    protonation: str | os.PathLike | None = None,
    mapping: str | os.PathLike = "martini3",
    forcefield: Sequence[str] = ("amber14",),
    solvent: str = "none",
    dielectric: float | None = None,
    temperature: float = 300.0,
    beads: str = "auto",
    bead_noise: float | None = None,
    backbone_prior: float | None = None,
    samples: int = 0,
    seed: int = 0,
    precision: str = "float32",
    progress: ProgressCallback | None = None,
) -> BackmapResult:
    """Back-maps a coarse-grained structure, or frames of a trajectory, to all-atom MAP structures and an ensemble.

    Arguments:
        structure: coarse-grained PDB or GRO file.
        trajectory: trajectory of the same beads, in any format MDAnalysis reads.
        frames: ``"start:stop:step"`` of the trajectory; all when None.
        reference: all-atom structure of the same molecule; its topology, names, protonation and stereo are used.
        start_from_reference: also start from its coordinates instead of relaxing from nothing.
        protonation: file of protonation states, lines such as ``A:68 HIP``.
        mapping: name or file of the forward map.
        forcefield: force fields of OpenMM by short name, or XML files.
        solvent: ``"none"``, ``"obc2"`` or ``"gbn2"``.
        dielectric: relative permittivity that screens charges; None: 4 without a solvent, 1 with one.
        temperature: K.
        beads: ``"exact"`` holds M(x) = y, ``"soft"`` takes them as noisy, ``"auto"`` decides for each frame.
        bead_noise: σ of noisy beads, nm.
        backbone_prior: weight of the knowledge-based backbone prior, kT; None: 5 for noisy beads, 1 for exact ones.
        samples: posterior samples of the first frame.
        seed: random seed; the same seed gives the same result on the same machine.
        precision: ``"float32"`` or ``"float64"`` (needs JAX's x64 mode) of the MAP search and the samples.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        A `BackmapResult`.

    Raises:
        InputError: the input cannot be used.
        ResultError: no finite structure was found, or one failed the checks; its ``result`` holds what there is.
    """
    from ..io import build_molecule, make_whole, read_frames

    report = progress or (lambda stage, done, total: None)
    report("building the molecule", 0, 1)
    molecule = build_molecule(
        structure,
        mapping=mapping,
        forcefield=forcefield,
        solvent=solvent,
        reference=reference,
        protonation=protonation,
        nonbonded_cutoff=IN_VACUO["nonbonded_cutoff"] if solvent == "none" else None,
        dielectric=(IN_VACUO["dielectric"] if solvent == "none" else 1.0) if dielectric is None else dielectric,
    )
    settings = {
        "structure": Path(structure).name,
        "mapping": str(mapping),
        "forcefield": list(forcefield),
        "solvent": solvent,
        "dielectric": dielectric,
        "temperature": temperature,
        "beads": beads,
        "bead_noise": bead_noise,
        "backbone_prior": backbone_prior,
        "samples": samples,
        "seed": seed,
        "precision": precision,
    }
    if samples:
        _check_memory(samples, molecule.system.n_atoms)
    if start_from_reference and molecule.reference_positions is None:
        raise InputError("start_from_reference needs a reference structure; give one with reference=.")
    chosen = [(0, molecule.y, None)] if trajectory is None else list(read_frames(molecule.beads, trajectory, frames))
    chosen = [(number, make_whole(y, molecule.beads, box)) for number, y, box in chosen]
    report("building the molecule", 1, 1)
    result = BackmapResult(molecule=molecule, settings=settings, notes=list(molecule.notes))
    dtype = np.dtype(precision).type
    engine = Engine(
        molecule,
        temperature=temperature,
        beads=beads,
        bead_noise=bead_noise,
        backbone_prior=backbone_prior,
        dtype=dtype,
    )
    key = jax.random.key(seed)

    def to_make(engine: Engine, number: int, y: np.ndarray) -> Program[FrameResult]:
        target = None
        if molecule.reference_positions is not None:
            target = superposed(molecule.reference_positions, engine.mapping, y)
        start = target if start_from_reference else None
        return engine.structure(number, y, jax.random.fold_in(key, number), start=start, reference=target)

    try:
        report("MAP structures", 0, len(chosen))
        first = alone(to_make(engine, *chosen[0]))
        engine, first, note = better_mapping(engine, first, lambda other: to_make(other, *chosen[0]))
        result.molecule, result.notes = engine.molecule, list(engine.molecule.notes) + note
        result.frames.append(first)
        if len(chosen) > 1:
            engine.prepare(first)
        others = (to_make(engine, number, y) for number, y in chosen[1:])
        for frame in together(others, width=worthwhile_width(len(chosen) - 1)):
            report("MAP structures", len(result.frames), len(chosen))
            result.frames.append(frame)
        report("MAP structures", len(chosen), len(chosen))
        result.notes += _isomer_notes(engine, result.frames)
        _check(result)
        if samples:
            result.samples = ensemble(engine, result.frames[0], jax.random.fold_in(key, 2**30), samples, report)
            result.notes.append(f"ensemble: {result.samples.verdict}")
            if len(chosen) > 1:
                result.notes.append(f"the ensemble belongs to frame {result.frames[0].frame}, the first")
    except ResultError as error:
        error.result = result  # type: ignore[attr-defined]
        raise
    return result


def ensemble(
    engine: Engine, frame: FrameResult, key: PRNGKeyArray, samples: int, report: ProgressCallback
) -> EnsembleResult:
    """Samples of the posterior of ``frame``, from chains that start at independent relaxations.

    Arguments:
        engine: of the molecule.
        frame: whose beads and bead mode count; its MAP structure starts the first chain.
        key: random key.
        samples: how many.
        report: progress callback.
    """
    mode = BeadMode(frame.bead_noise, frame.bead_reason)
    chains = min(samples, MAX_CHAINS)
    starts = [frame.positions]
    relaxations = (
        engine.minimum(frame.y, jax.random.fold_in(key, chain), mode, cis=frame.cis_prolines)
        for chain in range(1, chains)
    )
    for found in together(relaxations, width=worthwhile_width(chains - 1)):
        report("starting chains", len(starts), chains)
        starts.append(engine.on_fibre(np.asarray(found.estimate.x), frame.y, mode))
    report("starting chains", chains, chains)
    drawn = sample(
        engine.posterior(frame.y, mode, cis_angles(engine, frame.cis_prolines)),
        jnp.asarray(np.stack(starts).astype(engine.dtype)),
        jax.random.fold_in(key, 0),
        samples=samples,
        masses=heavy_hydrogen_masses(engine.system),
        torsions=find_torsions(engine.system),
        progress=report,
    )
    # The run's y may be float32; the samples are of the beads as given.
    return replace(
        drawn,
        positions=np.stack([engine.nomenclature.named(engine.on_fibre(x, frame.y, mode)) for x in drawn.positions]),
    )


def cis_angles(engine: Engine, prolines: Sequence[int]) -> np.ndarray:
    """Double-bond angles (radians) of the system with the peptides before ``prolines`` cis."""
    angles = engine.system.double_bond_angles.copy()
    angles[list(proline_peptides(engine.relaxer, prolines).values())] = 0.0
    return angles


def worthwhile_width(count: int) -> int:
    """Structures of one batch when there are ``count`` to make: 1 where compiling for batches would cost more."""
    return batch_width() if count >= ENOUGH_FOR_BATCHES else 1


def better_mapping(
    engine: Engine, frame: FrameResult, structure: Callable[[Engine], Program[FrameResult]]
) -> tuple[Engine, FrameResult, list[str]]:
    """Whether hydrogens count in the beads: mapped beads that strain the bonds are tried with the other map too.

    The same all-atom model gives other beads with and without hydrogens, and nothing in a file says which was used. The
    wrong map shows: held exactly, it strains the bonds to twice what the right one needs.

    Arguments:
        engine: of the molecule.
        frame: a structure of its.
        structure: the program that makes the same structure with another engine.

    Returns:
        The engine and the frame to go on with, and notes for the user.
    """
    molecule = engine.molecule
    if frame.bead_mode != "exact" or molecule.alternative_mapping is None or frame.bond_strain < SUSPICIOUS_STRAIN:
        return engine, frame, []
    other = engine.with_molecule(molecule.with_alternative_mapping())
    tried = alone(structure(other))
    words = {True: "with hydrogens", False: "of heavy atoms only"}
    strains = f"{100 * frame.bond_strain:.1f} % of bond strain against {100 * tried.bond_strain:.1f} %"
    if tried.bond_strain < frame.bond_strain:
        return other, tried, [f"mapping: beads turned out to be centres {words[other.molecule.hydrogens]} ({strains})"]
    return engine, frame, [f"mapping: beads are centres {words[molecule.hydrogens]}; the other choice needs {strains}"]


def _isomer_notes(engine: Engine, frames: list[FrameResult]) -> list[str]:
    """One line for each proline that came out cis."""
    found = sorted({p for frame in frames for p in frame.cis_prolines})
    counts = [sum(p in frame.cis_prolines for frame in frames) for p in found]
    several = len(frames) > 1
    return [
        f"cis peptide before {engine.system.residue_label(p)}" + (f" in {n} of {len(frames)} frames" if several else "")
        for p, n in zip(found, counts, strict=True)
    ]


def superposed(x: np.ndarray, mapping: LinearMap, y: np.ndarray) -> np.ndarray:
    """``x`` (atoms, 3) turned and shifted as a whole so that its beads come closest to ``y`` (Kabsch 1976)."""
    beads = np.asarray(mapping.matrix() @ x)
    center, target = beads.mean(axis=0), y.mean(axis=0)
    u, _, vt = np.linalg.svd((beads - center).T @ (y - target))
    flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return (x - center) @ (u @ flip @ vt) + target


def _check(result: BackmapResult) -> None:
    """Raises when a frame's structure is not finite or has defects left."""
    for frame in result.frames:
        if frame.quality is None or not np.isfinite(frame.energy):
            raise ResultError(f"frame {frame.frame}: the energy is not finite; try another --seed or --beads soft.")
        if frame.quality.errors:
            found = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in frame.quality.errors.items())
            first = next(o.label for name in frame.quality.errors for o in frame.quality.offenders[name])
            raise ResultError(f"frame {frame.frame}: {found} left after every repair (first: {first}).")


def _check_memory(samples: int, n_atoms: int) -> None:
    """Refuses an ensemble that would not fit into memory."""
    needed = samples * n_atoms * 3 * 8 * 3
    try:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return
    if needed > MEMORY_SHARE * available:
        most = int(MEMORY_SHARE * available / (n_atoms * 3 * 8 * 3))
        raise InputError(
            f"{samples} samples of {n_atoms} atoms need {needed / 2**30:.0f} GiB and the machine has "
            f"{available / 2**30:.0f} GiB; ask for at most {most} samples."
        )

"""A run of `jaxcg sample`: problem, campaign, files; what was done before an interruption is found again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from ...errors import InputError, ResultError
from ...sampling import heavy_hydrogen_masses
from ...sampling.campaign.campaign import Campaign
from ...sampling.campaign.settings import SamplingSettings
from ...sampling.diagnostics.torsions import Torsions, find_torsions
from ..writers import atomic_path, write_text
from .draws import FrameFigures, write_draws
from .problem import SamplingProblem
from .settings import SampleSettings
from .tempered import sample_tempered

#: Folder of an unfinished run within that of its results, and the topology of the trajectories.
RUNNING, TOPOLOGY, PROBLEM, ENERGIES = "running", "topology.pdb", "problem.npz", "energies.npz"
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class SampleResult:
    """What came of a run.

    Arguments:
        problem: what was sampled.
        frames: figures of each frame, in order.
        torsions: of the molecule.
        files: written, but for the report.
    """

    problem: SamplingProblem
    frames: list[FrameFigures]
    torsions: Torsions
    files: list[str]


def load_or_prepare(settings: SampleSettings, working: Path, report: Report) -> SamplingProblem:
    """The problem of a run: the file given, that of the unfinished run, or one made now and kept there."""
    if settings.problem is not None:
        return SamplingProblem.load(settings.problem)
    path = working / PROBLEM
    if not path.exists():
        from .prepare import prepare

        prepare(settings, working, report).save(path)
    # As it will be read after an interruption.
    return SamplingProblem.load(path)


def run_sampling(
    settings: SampleSettings, problem: SamplingProblem, target: Path, report: Report, *, memory: float | None = None
) -> SampleResult:
    """Samples every frame and writes a trajectory for each.

    Arguments:
        settings: of the run.
        problem: from `load_or_prepare`.
        target: folder of the results; what is unfinished is in a folder within it.
        report: called as ``report(stage, done, total)``.
        memory: GiB the run may take; what is free when None.

    Raises:
        InputError: the settings cannot be used, or do not fit into memory or on the disk.
        ResultError: an energy is not finite, or a file cannot be written: what was done is kept.
    """
    temperature = float(problem.posterior.temperature)
    if settings.tempering is not None and settings.tempering <= temperature:
        raise InputError(f"--tempering {settings.tempering:g} is not above the {temperature:g} K that are sampled.")
    working = target / RUNNING
    system, dtype = problem.system, np.dtype(settings.precision)
    half = settings.burn_in // 2
    torsions = find_torsions(system)
    masses = system.masses if settings.mass == "physical" else heavy_hydrogen_masses(system)
    try:
        campaign = Campaign(
            problem.posteriors(),
            settings.chains,
            masses=masses,
            group=system.atom_residue,
            settings=SamplingSettings(
                draws=settings.draws,
                thin=settings.thin,
                sampler=settings.sampler,  # pyright: ignore[reportArgumentType]
                masses="bonded" if settings.mass == "bonded" else "given",
                step_size=settings.step_size,
                steps=settings.steps,
                heat=half,
                hold=settings.burn_in - half,
                warmup=settings.warmup,
            ),
            frames=problem.frames,
            dtype=dtype,
            memory=None if memory is None else int(memory * 2**30),
            # Replicas of one frame fill the devices by themselves.
            widest=None if settings.tempering is None else settings.chains,
        )
    except ValueError as error:
        raise InputError(str(error).removeprefix("campaign: ")) from error
    names = {frame: f"frame-{frame:06d}.{settings.format}" for frame in problem.frames}
    key = jax.random.fold_in(jax.random.key(settings.seed), 1)
    done: list[FrameFigures] = []
    for number, chosen in enumerate(campaign.batches):
        frames = [problem.frames[i] for i in chosen]
        kept = [working / f"figures-{frame:06d}.npz" for frame in frames]
        if not all(path.exists() for path in kept):
            _require_room(target, campaign, settings, len(problem.frames) - chosen.start, system.n_atoms)
            starts = problem.starts[chosen.start : chosen.stop]
            starts = starts[:, np.arange(settings.chains) % starts.shape[1]]
            part = working / f"batch-{number:04d}"
            try:
                if settings.tempering is None:
                    found = campaign.run(
                        number,
                        starts,
                        key,
                        folder=part,
                        beads=problem.beads[chosen.start : chosen.stop],
                        bead_labels=problem.bead_labels,
                        progress=report,
                    )
                    told = [(samples, "") for samples in found]
                else:
                    told = [
                        sample_tempered(
                            frame,
                            campaign.posteriors[i],
                            x,
                            key,
                            masses,
                            settings,
                            system,
                            folder=part,
                            progress=report,
                        )
                        for frame, i, x in zip(frames, chosen, starts, strict=True)
                    ]
                for (samples, note), path in zip(told, kept, strict=True):
                    write_draws(target / names[samples.frame], samples.positions)
                    FrameFigures.of(samples, torsions, system.masses, note).save(path)
            except ValueError as error:
                raise InputError(str(error).removeprefix("campaign: ")) from error
            except OSError as error:
                raise ResultError(
                    f"{target}: cannot be written ({error.strerror or error}); what was done is kept: the same command "
                    "goes on."
                ) from error
            del told
            shutil.rmtree(part, ignore_errors=True)
        done += [FrameFigures.load(path) for path in kept]
    write_text(target / TOPOLOGY, problem.pdb)
    arrays = {
        "frames": np.array(problem.frames),
        **{name: np.stack([getattr(f, name) for f in done]) for name in ("energies", "potentials", "angles")},
        "torsions": np.array(torsions.names),
    }
    with atomic_path(target / ENERGIES) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
    return SampleResult(problem, done, torsions, [*names.values(), TOPOLOGY, ENERGIES])


def _require_room(target: Path, campaign: Campaign, settings: SampleSettings, frames: int, n_atoms: int) -> None:
    """Refuses a run whose files would not fit on the disk."""
    draws = settings.chains * settings.draws * n_atoms * 3
    needed = draws * (campaign.frames_at_once * np.dtype(settings.precision).itemsize + frames * 4)
    free = shutil.disk_usage(target).free
    if needed > free:
        raise InputError(
            f"{target}: the draws need up to {needed / 2**30:.2g} GiB of disk and {free / 2**30:.2g} GiB are free; ask "
            "for fewer --draws or --chains, or choose another disk with -o."
        )

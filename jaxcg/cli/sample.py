"""`jaxcg sample`: samples of all-atom structures for frames of beads, with the verdict on how far to trust them."""

import argparse
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError, ResultError
from .claims import RUNNING, claimed, interrupted
from .environment import configure_jax
from .interrupts import Terminated
from .options import add_model, add_output, count, frame_range, non_negative, positive, seed
from .progress import Progress

_EXAMPLES = """\
examples:
  jaxcg sample cg.xtc --topology cg.pdb --mapping martini3 --chains 64 --frames 0:100 -o out/
  jaxcg sample cg.pdb --start aa.pdb --solvent obc2 --draws 500 -o out/
  jaxcg sample cg.xtc --topology cg.pdb --prepare -o out/    then, where there is a GPU and nothing else:
  jaxcg sample out/problem.npz --chains 1024 --format trr -o there/
A run that was interrupted goes on when the same command is given again, and ends with the same numbers.
"""
#: Files such a run may write, but for the trajectories.
_OUTPUTS = ("topology.pdb", "energies.npz", "frames.csv", "report.html", "report.json", "problem.npz")

#: Options of the model, which a prepared problem brings along, and what they are when not given.
_MODEL = {
    "mapping": "martini3",
    "forcefield": None,
    "solvent": "none",
    "dielectric": None,
    "temperature": 300.0,
    "beads": "auto",
    "noise": None,
    "backbone_prior": 0.0,
}


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "sample",
        help="many all-atom structures for each frame of beads, drawn from p(x|y), and how far to trust them",
        description="Samples of the posterior p(x|y) of all-atom structures for each frame of a coarse-grained "
        "structure or trajectory: many chains from independent starts, with the diagnostics that say how far they may "
        "be trusted.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)

    given = parser.add_argument_group("input")
    given.add_argument(
        "beads_file",
        nargs="?",
        metavar="CG",
        help="coarse-grained structure (PDB, GRO), trajectory (with --topology), or a prepared problem (.npz)",
    )
    given.add_argument("--example", metavar="NAME", help="a structure of the package: ubiquitin, villin, ubiquitin-md")
    given.add_argument("--topology", metavar="FILE", help="coarse-grained structure that the trajectory CG belongs to")
    given.add_argument("--frames", type=frame_range, metavar="A:B:C", help="frames, as a Python slice (default: all)")
    given.add_argument(
        "--reference", metavar="FILE", help="all-atom structure of the same molecule: topology and names"
    )
    given.add_argument(
        "--start",
        metavar="FILE",
        help="start from these all-atom structures (PDB, or XTC, TRR, DCD with --reference) instead of relaxing",
    )
    given.add_argument("--protonation", metavar="FILE", help="protonation states that differ from those at pH 7")

    model = add_model(parser)
    model.add_argument(
        "--beads",
        default="auto",
        choices=("auto", "exact", "soft"),
        help="hold the beads exactly, to a Gaussian, or decide for the first frame (%(default)s)",
    )
    model.add_argument("--noise", type=positive, metavar="NM", help="standard deviation of soft beads in nm (0.023)")
    model.add_argument(
        "--backbone-prior",
        type=non_negative,
        default=0.0,
        metavar="W",
        help="weight of the knowledge-based backbone prior in what is sampled, in kT (0: the force field alone)",
    )

    chains = parser.add_argument_group("chains")
    chains.add_argument("--chains", type=count, default=8, metavar="N", help="chains of each frame (8)")
    chains.add_argument("--starts", type=count, metavar="N", help="independent relaxations they start from (--chains)")
    chains.add_argument("--draws", type=count, default=100, metavar="N", help="draws of each chain (100)")
    chains.add_argument("--thin", type=count, default=5, metavar="N", help="trajectories between two draws (5)")
    chains.add_argument(
        "--sampler",
        default="hmc",
        choices=("hmc", "ghmc", "langevin"),
        help="Hamiltonian Monte Carlo, with velocities refreshed in part, or Langevin dynamics without a Metropolis "
        "test (%(default)s)",
    )
    chains.add_argument(
        "--mass",
        default="heavy-hydrogens",
        choices=("physical", "heavy-hydrogens", "bonded"),
        help="masses of the sampler, which change its speed alone; bonded: matrices from bonded terms (%(default)s)",
    )
    chains.add_argument(
        "--steps", type=count, metavar="N", help="mean steps of a trajectory (40; 15 with --mass bonded, 10 with ghmc)"
    )
    chains.add_argument(
        "--step-size", type=positive, default=1.0, metavar="FS", help="first step size, and that of the burn-in, fs (1)"
    )
    chains.add_argument("--burn-in", type=count, default=1500, metavar="N", help="steps that heat the starts (1500)")
    chains.add_argument("--warmup", type=count, default=40, metavar="N", help="trajectories that tune the step (40)")
    chains.add_argument(
        "--tempering",
        type=positive,
        metavar="K",
        help="replica exchange up to this temperature, a ladder of its own for each chain: for basins that no chain "
        "leaves (off)",
    )

    work = parser.add_argument_group("run")
    work.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same numbers (0)")
    work.add_argument(
        "--precision", default="float32", choices=("float32", "float64"), help="of the sampling (%(default)s)"
    )
    work.add_argument("--memory", type=positive, metavar="GIB", help="memory to use (default: most of what is free)")
    work.add_argument("--prepare", action="store_true", help="stop when the problem is ready, and write problem.npz")

    add_output(parser, resumes=True).add_argument(
        "--format", default="xtc", choices=("xtc", "dcd", "trr"), help="of the trajectories (%(default)s)"
    )


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code.

    Raises:
        InputError: the input cannot be used, or the folder holds something else.
        ResultError: the run ended badly; what was done is kept.
    """
    files = _files(options)
    progress = Progress(quiet=options.quiet)
    try:
        with progress:
            progress("loading", 0, 1)
            configure_jax()
            summary, finished = _run(options, files, progress)
    except OSError as error:
        where = f"{options.output}: " if error.filename is None else f"{error.filename}: "
        raise ResultError(
            f"{where}{error.strerror or error}; what was done is kept: the same command goes on."
        ) from error
    except (KeyboardInterrupt, Terminated) as interruption:
        return interrupted(options, terminated=isinstance(interruption, Terminated))
    if options.json:
        seconds = {} if finished else progress.seconds
        # The statistics of every torsion are in report.json.
        shown = {name: value for name, value in summary.items() if name != "quantities"}
        shown |= {"output": str(Path(options.output)), "already_finished": finished, "seconds": seconds}
        print(json.dumps(shown, allow_nan=False))
    elif not options.quiet:
        if finished:
            print(f"{options.output}: this run is finished already; nothing was done.")
        if options.prepare:
            print(f"{options.output}: problem.npz is ready; sample it with: jaxcg sample {options.output}/problem.npz")
        else:
            from ..report.sampling_campaign import sampling_lines

            print("\n".join(sampling_lines(summary)))
            print(f"files: {options.output}/: {', '.join(summary['files'])}")
    return 0


def _files(options: argparse.Namespace) -> dict[str, str | None]:
    """Which file is what.

    Raises:
        InputError: options that do not go together, or a file that is not there.
    """
    if (options.beads_file is None) == (options.example is None):
        raise InputError("give either coarse-grained beads or --example NAME (see jaxcg sample --help).")
    for name in ("chains", "draws", "thin", "steps"):
        if getattr(options, name) == 0:
            raise InputError(f"--{name} must be at least 1.")
    if options.starts is not None and not 1 <= options.starts <= options.chains:
        raise InputError(f"--starts is {options.starts}; give 1 to {options.chains}, the number of chains.")
    if options.start is not None and options.starts is not None:
        raise InputError("--starts counts relaxations, and --start brings its own structures; leave one of them out.")
    if options.noise is not None and options.beads == "exact":
        raise InputError("--noise is the width of soft beads, and --beads exact has none; leave one of them out.")
    if options.tempering is not None:
        if options.sampler != "hmc" or options.mass == "bonded":
            raise InputError("--tempering goes with --sampler hmc and one mass for each atom; leave the others out.")
        # A prepared problem has a temperature of its own.
        if not str(options.beads_file).endswith(".npz") and options.tempering <= options.temperature:
            raise InputError(f"--tempering {options.tempering:g} is not above the {options.temperature:g} K sampled.")
    if not options.prepare and options.format != "trr" and find_spec("MDAnalysis") is None:
        raise InputError(f"--format {options.format} needs MDAnalysis, which is not installed here; give --format trr.")
    for name in (options.beads_file, options.topology, options.reference, options.start, options.protonation):
        if name is not None and not Path(name).is_file():
            what = "is a folder, not a file" if Path(name).is_dir() else "there is no such file"
            raise InputError(f"{name}: {what}.")
    structure, trajectory = options.beads_file, None
    if options.example is not None:
        from ..data import example

        if options.topology is not None:
            raise InputError("--example brings its own files; leave --topology out.")
        found = example(options.example)
        structure, trajectory = str(found.structure), None if found.trajectory is None else str(found.trajectory)
    elif options.topology is not None:
        structure, trajectory = options.topology, options.beads_file
    problem = None
    if structure is not None and structure.endswith(".npz"):
        structure, problem = None, structure
        for name in ("reference", "start", "protonation", "frames", "starts"):
            if getattr(options, name) is not None:
                raise InputError(f"{problem}: brings its own molecule, frames and starts; leave --{name} out.")
        for name, usual in _MODEL.items():
            if getattr(options, name) != usual:
                raise InputError(f"{problem}: brings its own model; leave --{name.replace('_', '-')} out.")
        if options.prepare:
            raise InputError(f"{problem}: is prepared already; leave --prepare out.")
    elif trajectory is None:
        if options.frames is not None:
            raise InputError("--frames chooses from a trajectory; give that and its structure with --topology.")
        if Path(str(structure)).suffix.lower() in (".xtc", ".trr", ".dcd"):
            raise InputError(f"{structure}: is a trajectory; name the structure it belongs to with --topology.")
    return {"structure": structure, "trajectory": trajectory, "problem": problem}


def _run(options: argparse.Namespace, files: dict[str, Any], progress: Progress) -> tuple[dict[str, Any], bool]:
    """The summary, and whether the run had been finished before."""
    from ..io.sampling.run import PROBLEM, load_or_prepare, run_sampling
    from ..io.sampling.settings import SampleSettings
    from ..io.writers import write_text
    from ..report.sampling_campaign import write_sampling

    settings = SampleSettings(
        **files,
        frames=options.frames,
        reference=options.reference,
        start=options.start,
        protonation=options.protonation,
        mapping=options.mapping,
        forcefield=tuple(options.forcefield or ["amber14"]),
        solvent=options.solvent,
        dielectric=options.dielectric,
        temperature=options.temperature,
        beads=options.beads,
        noise=options.noise,
        backbone_prior=options.backbone_prior,
        chains=options.chains,
        starts=options.chains if options.starts is None else options.starts,
        sampler=options.sampler,
        mass=options.mass,
        draws=options.draws,
        thin=options.thin,
        steps=options.steps or (10 if options.sampler == "ghmc" else 15 if options.mass == "bonded" else 40),
        step_size=0.001 * options.step_size,
        burn_in=options.burn_in,
        tempering=options.tempering,
        warmup=options.warmup,
        seed=options.seed,
        precision=options.precision,
        format=options.format,
    )
    target, identity = Path(options.output), json.loads(json.dumps(settings.identity()))
    with claimed(target):
        running = target / RUNNING
        finished = None if options.force else _found(target, identity, prepared=options.prepare)
        if finished is not None:
            shutil.rmtree(running)
            return finished, True
        if options.force:
            _clear(target)
        write_text(running / "config.json", json.dumps(identity, indent=1))
        if (target / PROBLEM).exists() and not (running / PROBLEM).exists():
            # Prepared by the same command with --prepare.
            shutil.copyfile(target / PROBLEM, running / PROBLEM)
        problem = load_or_prepare(settings, running, progress)
        if options.prepare:
            (running / PROBLEM).replace(target / PROBLEM)
            summary = {"frames": len(problem.frames), "starts": problem.starts.shape[1], "files": [PROBLEM]}
        else:
            result = run_sampling(settings, problem, target, progress, memory=options.memory)
            progress("report", 0, 1)
            first = Path(str(files["problem"] or files["trajectory"] or files["structure"])).name
            summary = write_sampling(target, result, title=first, settings=settings.shown())
        # Last: where it stands, everything else does.
        write_text(target / "run.json", json.dumps({**identity, "summary": summary}, indent=1, allow_nan=False) + "\n")
        shutil.rmtree(running)
        return summary, False


def _found(target: Path, identity: dict[str, Any], *, prepared: bool) -> dict[str, Any] | None:
    """The summary of this run, if it is finished in the folder.

    Raises:
        InputError: the folder holds another run or other files.
    """
    from ..io.sampling.settings import difference

    known = {*_OUTPUTS, "run.json", RUNNING}
    foreign = sorted(p.name for p in target.iterdir() if p.name not in known and not _is_draws(p))
    if foreign:
        raise InputError(
            f"{target}: already holds other files ({foreign[0]}{', …' if len(foreign) > 1 else ''}); "
            "choose another folder with -o, or add --force to write into it."
        )
    for path in (target / "run.json", target / RUNNING / "config.json"):
        if not path.exists() or os.listdir(path.parent) == [path.name]:
            # A run that was refused before it did anything is none.
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            there = {name: found[name] for name in identity}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path}: cannot be read; add --force to start anew.") from None
        if there != identity:
            raise InputError(
                f"{target}: holds another run ({difference(there, identity)}); choose another folder with -o, or add "
                "--force to start anew."
            )
        if path.name == "run.json" and prepared == (found["summary"].get("files") == ["problem.npz"]):
            return found["summary"]
    return None


def _is_draws(path: Path) -> bool:
    return path.name.startswith("frame-") and path.suffix in (".xtc", ".dcd", ".trr")


def _clear(target: Path) -> None:
    """Removes what an earlier run has written; other files stay."""
    for path in target.iterdir():
        if path.name in (*_OUTPUTS, "run.json") or _is_draws(path):
            path.unlink()
    for path in (target / RUNNING).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

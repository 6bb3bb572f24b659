"""`jaxcg backmap`: from coarse-grained beads to all-atom structures."""

import argparse
import json
from pathlib import Path

from ..errors import InputError, ResultError
from .environment import configure_jax
from .options import add_model, add_output, count, frame_range, non_negative, positive, seed
from .progress import Progress
from .staging import StagedFolder

#: Every file the verb may write.
OUTPUTS = (
    "map.pdb",
    "map.xtc",
    "ensemble.pdb",
    "ensemble.xtc",
    "system.xml",
    "topology.pdb",
    "report.html",
    "report.json",
)
#: Options that change the result, in the order the report lists them.
SETTINGS = (
    "trajectory",
    "frames",
    "reference",
    "start_from_reference",
    "protonation",
    "mapping",
    "forcefield",
    "solvent",
    "dielectric",
    "temperature",
    "beads",
    "bead_noise",
    "backbone_prior",
    "samples",
    "seed",
    "precision",
)

_EXAMPLES = """\
examples:
  jaxcg backmap --example ubiquitin
  jaxcg backmap cg.pdb --mapping martini3 --forcefield amber14 --samples 16 --seed 1 -o out/
  jaxcg backmap cg.gro --trajectory cg.xtc --frames 0:100:10 -o out/
"""


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "backmap",
        help="all-atom structures (and an ensemble) from a coarse-grained structure or trajectory",
        description="All-atom structures, and an ensemble of them, from a coarse-grained structure or trajectory.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)

    given = parser.add_argument_group("input")
    given.add_argument("beads_file", nargs="?", metavar="CG", help="coarse-grained structure, PDB or GRO")
    given.add_argument("--example", metavar="NAME", help="a structure of the package: ubiquitin, villin, ubiquitin-md")
    given.add_argument("--trajectory", metavar="FILE", help="coarse-grained trajectory, any format MDAnalysis reads")
    given.add_argument(
        "--frames",
        type=frame_range,
        metavar="A:B:C",
        help="frames of the trajectory, as a Python slice (default: all)",
    )
    given.add_argument(
        "--reference", metavar="FILE", help="all-atom structure of the same molecule: topology and names"
    )
    given.add_argument(
        "--start-from-reference", action="store_true", help="also start from the coordinates of the reference"
    )
    given.add_argument("--protonation", metavar="FILE", help="protonation states that differ from those at pH 7")

    model = add_model(parser)
    model.add_argument(
        "--beads",
        default="auto",
        choices=("auto", "exact", "soft"),
        help="hold the beads exactly, to a Gaussian, or decide for each frame (%(default)s)",
    )
    model.add_argument(
        "--bead-noise", type=positive, metavar="NM", help="standard deviation of soft beads in nm (0.023)"
    )
    model.add_argument(
        "--backbone-prior",
        type=non_negative,
        metavar="W",
        help="weight of the knowledge-based backbone prior, in kT; 0 turns it off "
        "(default: 5 for soft beads, 1 for exact ones)",
    )

    work = parser.add_argument_group("run")
    work.add_argument("--samples", type=count, default=0, metavar="N", help="draws from the posterior (0)")
    work.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same files (0)")
    work.add_argument(
        "--precision", default="float32", choices=("float32", "float64"), help="of the minimisation (%(default)s)"
    )

    add_output(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code.

    Raises:
        InputError: the input cannot be used; nothing is written.
    """
    structure, trajectory = _input_files(options)
    options.trajectory = trajectory
    options.forcefield = options.forcefield or ["amber14"]
    settings = {name: getattr(options, name) for name in SETTINGS}
    staged, progress = StagedFolder(options.output, OUTPUTS, force=options.force), Progress(quiet=options.quiet)
    with staged as folder, progress:
        result, error = _compute(structure, settings, progress)
        progress("writing", 0, 1)
        try:
            report = _write(folder.path, result, title=structure.name, settings=_shown(settings), error=error)
            written = sorted(path.name for path in folder.path.iterdir())
            folder.commit(last="report.json")
        except OSError as problem:
            raise InputError(f"{options.output}: cannot be written ({problem.strerror}).") from problem
    if options.json:
        summary = {**report, "output": str(folder.target), "files": written, "seconds": progress.seconds}
        print(json.dumps(summary, allow_nan=False))
    elif not options.quiet:
        from .summary import print_summary

        print_summary(report, written, Path(options.output), progress.seconds)
    if report["outcome"] == "bad":
        raise ResultError(f"{report['error'] or 'defects remain'}; see {Path(options.output) / 'report.html'}")
    return 0


def _input_files(options: argparse.Namespace) -> tuple[Path, Path | None]:
    """The structure and the trajectory asked for."""
    if (options.beads_file is None) == (options.example is None):
        raise InputError("give either a coarse-grained structure or --example NAME (see jaxcg backmap --help).")
    if options.frames is not None and options.trajectory is None and options.example is None:
        raise InputError("--frames chooses from a trajectory; give one with --trajectory FILE.")
    if options.start_from_reference and options.reference is None:
        raise InputError("--start-from-reference needs a reference; give one with --reference FILE.")
    if options.bead_noise is not None and options.beads == "exact":
        raise InputError("--bead-noise is the width of soft beads, and --beads exact has none; leave one of them out.")
    for name in (options.beads_file, options.trajectory, options.reference, options.protonation):
        if name is not None and not Path(name).is_file():
            what = "is a folder, not a file" if Path(name).is_dir() else "there is no such file"
            raise InputError(f"{name}: {what}.")
    if options.example is None:
        return Path(options.beads_file), Path(options.trajectory) if options.trajectory else None
    from ..data import example

    found = example(options.example)
    if options.trajectory is not None:
        raise InputError("--example brings its own files; leave --trajectory out.")
    if options.frames is not None and found.trajectory is None:
        raise InputError(f"--frames chooses from a trajectory, and the example {options.example} has none.")
    return found.structure, found.trajectory


def _compute(structure: Path, settings: dict, progress: Progress):
    """The result of the run and why it ended badly: ``(result or None, error or None)``."""
    progress("loading", 0, 1)
    configure_jax()
    from ..backmap import backmap

    try:
        return backmap(structure, **settings, progress=progress), None
    except ResultError as error:
        return getattr(error, "result", None), str(error)


def _write(folder: Path, result, *, title: str, settings: dict, error: str | None) -> dict:
    """Writes every output into ``folder`` and returns the report."""
    from ..report import write_report
    from .outputs import write_structures

    if result is not None:
        write_structures(folder, result)
    return write_report(folder, result, title=title, settings=settings, error=error)


def _shown(settings: dict) -> dict:
    """Settings as the report shows them: file names without their folders, so that a copied input changes nothing."""
    files = ("trajectory", "reference", "protonation")
    return {name: Path(value).name if value and name in files else value for name, value in settings.items()}

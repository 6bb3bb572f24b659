"""`jaxcg check`: is a coarse-grained model right? Its structure and pressures beside those of a reference."""

import argparse
from pathlib import Path

from ..errors import InputError
from .environment import configure_jax
from .options import add_output, count, frame_range, non_negative, positive, seed
from .progress import Progress
from .reported import run_reported

#: Every file the verb may write.
OUTPUTS = ("consistency.json", "curves.npz", "report.html")
#: Options that change the result, in the order the report lists them.
SETTINGS = (
    "reference",
    "topology",
    "mapping",
    "frames",
    "model",
    "model_topology",
    "model_frames",
    "by_order",
    "potential",
    "temperature",
    "pressure",
    "equation",
    "model_equation",
    "run_steps",
    "time_step",
    "select",
    "pairs",
    "no_pairs",
    "within",
    "r_max",
    "bins",
    "tolerance",
    "curve_tolerance",
    "pressure_tolerance",
    "level",
    "seed",
)
#: Of these, the ones that name files.
_FILES = ("reference", "topology", "model", "model_topology", "equation", "model_equation")

_EXAMPLES = """\
examples:
  jaxcg check --reference aa.xtc --topology aa.pdb --mapping martini3 --model cg.xtc --model-topology cg.gro -o report/
  jaxcg check --reference aa.xtc --topology topol.tpr --mapping water.xml --model cg.xtc --potential W.pot \\
      --temperature 300 --pressure 1 5 -o report/
"""


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "check",
        help="whether a coarse-grained model has the structure and the pressures of its reference",
        description="Structure and thermodynamics of a coarse-grained model beside those of an all-atom reference seen "
        "through the map, with confidence intervals and a verdict for each criterion.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_input(parser)

    state = parser.add_argument_group("thermodynamics")
    state.add_argument(
        "--potential",
        action="append",
        metavar="[A-B=]FILE",
        help="table of a pair potential of the model: r (nm), u (kJ/mol), or of Gromacs or VOTCA; may be repeated",
    )
    state.add_argument(
        "--temperature", type=positive, metavar="K", help="of both, in K; for pressures and free energies"
    )
    state.add_argument(
        "--pressure",
        nargs="+",
        type=float,
        metavar="BAR",
        help="pressure of the reference at its density, and its standard error, in bar",
    )
    state.add_argument("--equation", metavar="FILE", help="equation of state of the reference: nm⁻³, bar, error")
    state.add_argument("--model-equation", metavar="FILE", help="that of the model")
    state.add_argument(
        "--run-steps",
        type=count,
        default=0,
        metavar="N",
        help="else simulate the potential so many steps at each density (0)",
    )
    state.add_argument("--time-step", type=positive, default=0.002, metavar="PS", help="of these runs (0.002)")

    what = parser.add_argument_group("comparison")
    what.add_argument("--select", metavar="NAMES", help="beads to compare: names, kinds or RESIDUE:NAME with commas")
    what.add_argument("--pairs", metavar="A-B,...", help="kinds of beads whose g(r) is compared (the most numerous)")
    what.add_argument("--no-pairs", action="store_true", help="no g(r); boxes are not needed then")
    what.add_argument("--within", action="store_true", help="count pairs within molecules in g(r) too")
    what.add_argument("--r-max", type=positive, metavar="NM", help="g(r) as far as this (1.5, or nearly half the box)")
    what.add_argument("--bins", type=count, default=150, metavar="N", help="bins of g(r) (150)")
    what.add_argument(
        "--tolerance",
        type=positive,
        default=0.01,
        metavar="NATS",
        help="Jensen–Shannon divergence that is right (0.01)",
    )
    what.add_argument(
        "--curve-tolerance",
        type=positive,
        default=0.05,
        metavar="R",
        help="relative difference of g(r) that is right (0.05)",
    )
    what.add_argument(
        "--pressure-tolerance", type=positive, default=100.0, metavar="BAR", help="difference that is right (100)"
    )
    what.add_argument("--level", type=non_negative, default=0.95, metavar="P", help="of confidence intervals (0.95)")
    what.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same files (0)")

    add_output(parser)


def _add_input(parser) -> None:
    given = parser.add_argument_group("input")
    given.add_argument(
        "--reference",
        nargs="+",
        required=True,
        metavar="AA",
        help="trajectories of the reference; several are replicas",
    )
    given.add_argument("--topology", metavar="FILE", help="what its atoms are: PDB, GRO, TPR, PSF, PRMTOP, mmCIF ...")
    given.add_argument(
        "--mapping", metavar="NAME", help="martini3, com, ... or a file; without one the reference has beads already"
    )
    given.add_argument("--frames", type=frame_range, metavar="A:B:C", help="of the reference, as a Python slice (all)")
    given.add_argument("--model", nargs="+", required=True, metavar="CG", help="trajectories of the model")
    given.add_argument("--model-topology", metavar="FILE", help="what its beads are (default: those of the reference)")
    given.add_argument(
        "--model-frames", type=frame_range, metavar="A:B:C", help="of the model, as a Python slice (all)"
    )
    given.add_argument("--by-order", action="store_true", help="beads of the two correspond whatever their names")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code.

    Raises:
        InputError: the input cannot be used; nothing is written.
    """
    _check(options)

    def compute(progress: Progress):
        configure_jax()
        return _compare(options, progress)

    def lines(summary):
        from ..report.consistency_summary import consistency_lines

        return consistency_lines(summary)

    run_reported(
        options,
        OUTPUTS,
        last="consistency.json",
        compute=compute,
        write=lambda folder, found: _write(folder, found, options),
        lines=lines,
    )
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises `InputError` for what is wrong before any file is read."""
    names = [getattr(options, name) for name in _FILES]
    for name in [each for value in names if value for each in (value if isinstance(value, list) else [value])]:
        if not Path(name).is_file():
            what = "is a folder, not a file" if Path(name).is_dir() else "there is no such file"
            raise InputError(f"{name}: {what}.")
    if not 0.5 <= options.level < 1:
        raise InputError(f"--level {options.level:g}: give a probability from 0.5 to below 1, e.g. 0.95.")
    if options.bins < 10:
        raise InputError(f"--bins {options.bins}: g(r) needs 10 bins at least.")
    if options.no_pairs:
        for name in ("pairs", "potential", "equation"):
            if getattr(options, name) is not None:
                raise InputError(f"--no-pairs and --{name} exclude each other; leave one out.")
    if options.pressure is not None:
        value = options.pressure
        if len(value) > 2 or (len(value) == 2 and value[1] < 0) or any(not abs(x) < 1e9 for x in value):
            raise InputError("--pressure: give the pressure in bar, and after it its standard error if it has one.")
    if options.model_equation is not None and options.equation is None:
        raise InputError("--model-equation: give that of the reference too, with --equation.")
    if options.run_steps and not (options.potential and options.equation):
        raise InputError("--run-steps: runs need --potential, and the densities of --equation.")
    if options.run_steps and options.run_steps < 100:
        raise InputError(f"--run-steps {options.run_steps}: too short for an average; give 100 or more.")
    if options.temperature is None:
        for name in ("potential", "equation"):
            if getattr(options, name) is not None:
                raise InputError(f"--{name}: pressures need the temperature; give --temperature K.")


def _compare(options: argparse.Namespace, progress: Progress):
    """The check, from the files named."""
    from ..consistency.statistics import Estimate
    from ..io.consistency.check import CheckSettings, check_model
    from ..io.consistency.ensembles import matched, read_model, read_reference, selected
    from ..io.consistency.potentials import read_pair_potentials
    from ..io.consistency.states import read_states
    from ..units import BAR

    states = None if options.equation is None else read_states(options.equation)
    model_states = None if options.model_equation is None else read_states(options.model_equation)
    reference = read_reference(options.reference, options.topology, options.mapping, options.frames, progress)
    model = read_model(options.model, options.model_topology, options.model_frames)
    model = matched(reference, model, by_order=options.by_order)
    if options.select is not None:
        reference, model = selected(reference, options.select), selected(model, options.select)
    potentials = None
    if options.potential:
        if options.select is not None:
            raise InputError("--select and --potential exclude each other: the pressure is that of all beads.")
        assert reference.beads is not None
        potentials = read_pair_potentials(options.potential, reference.beads.kinds)
    pressure = None
    if options.pressure is not None:
        value, error = [*options.pressure, 0.0][:2]
        pressure = Estimate(value * BAR, error * BAR)
    settings = CheckSettings(
        temperature=options.temperature,
        pressure=pressure,
        pairs=options.pairs,
        r_max=options.r_max,
        bins=options.bins,
        compare_pairs=not options.no_pairs,
        within=options.within,
        distribution_tolerance=options.tolerance,
        curve_tolerance=options.curve_tolerance,
        pressure_tolerance=options.pressure_tolerance * BAR,
        level=options.level,
        steps=options.run_steps,
        time_step=options.time_step,
        seed=options.seed,
    )
    return check_model(
        reference,
        model,
        settings,
        potentials=potentials,
        states=states,
        model_states=model_states,
        progress=progress,
    )


def _write(folder: Path, found, options: argparse.Namespace) -> dict:
    """Writes every output into ``folder`` and returns what ``consistency.json`` holds."""
    from ..report.consistency import write_consistency

    settings = {name: getattr(options, name) for name in SETTINGS}
    # Names without their folders, so that a copied input changes nothing.
    for name in _FILES:
        value = settings[name]
        settings[name] = [Path(n).name for n in value] if isinstance(value, list) else value and Path(value).name
    if options.potential:
        settings["potential"] = [_shortened(word) for word in options.potential]
    if options.mapping is not None and Path(options.mapping).is_file():
        settings["mapping"] = Path(options.mapping).name
    title = f"{Path(options.model[0]).name} beside {Path(options.reference[0]).name}"
    return write_consistency(folder, found, title=title, settings=settings)


def _shortened(word: str) -> str:
    """``A-B=FILE`` or ``FILE`` without the file's folder."""
    pair, mark, path = word.partition("=")
    if not mark or Path(word).is_file():
        return Path(word).name
    return f"{pair}={Path(path).name}"

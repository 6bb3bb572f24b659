"""`jaxcg memory`: from trajectories to a memory kernel, a passive fit of it, and a verdict on its motion."""

import argparse
from pathlib import Path
from typing import Any

from ..errors import InputError, ResultError
from .environment import configure_jax
from .options import add_output, count, frame_range, positive, seed
from .progress import Progress
from .reported import run_reported

#: Every file the verb may write.
OUTPUTS = ("kernel.json", "profile.json", "memory.npz", "memory.json", "gle.yaml", "report.html")
#: Options that change the result, in the order the report lists them.
SETTINGS = (
    "trajectories",
    "topology",
    "select",
    "per",
    "mapping",
    "beads",
    "distance",
    "angle",
    "dihedral",
    "component",
    "column",
    "unit",
    "periodic",
    "frames",
    "spacing",
    "no_unwrap",
    "temperature",
    "mass",
    "window",
    "method",
    "free",
    "potential",
    "fit_order",
    "tolerance",
    "blocks",
    "no_validate",
    "seed",
)
#: Kinds of coordinates that are free unless a potential is given.
_FREE = ("particles",)

_EXAMPLES = """\
examples:
  jaxcg memory traj.trr --topology topol.tpr --select "name OW" --temperature 300 -o out/
  jaxcg memory a.xtc b.xtc --topology top.pdb --distance "resid 1" "resid 20" --temperature 300 -o out/
  jaxcg memory COLVAR --column phi --unit rad --periodic --temperature 300 --window 2 -o out/
  jaxcg gle out/gle.yaml -o again/
"""


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "memory",
        help="memory kernel of a coordinate from trajectories, ready for jaxcg gle",
        description="Memory kernel of particles, distances, angles or columns of a table, with error bars; a passive "
        "fit of it that simulations can use; and a comparison of the motion it gives with the data.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    _add_coordinate(parser)

    model = parser.add_argument_group("model")
    model.add_argument("--temperature", type=positive, required=True, metavar="K", help="temperature of the data in K")
    model.add_argument(
        "--mass", type=positive, metavar="AMU", help="mass in amu (default: of the topology; else from ⟨v²⟩ = kT/m)"
    )
    model.add_argument(
        "--window", type=positive, metavar="PS", help="how long a memory to extract, in ps (default: by ⟨v(t) v(0)⟩)"
    )
    model.add_argument(
        "--method",
        default="integral",
        choices=("integral", "first kind", "second kind", "fourier"),
        help="how the kernel is extracted (%(default)s, which bears coarse frames best)",
    )
    model.add_argument(
        "--free", action="store_true", help="no mean force (default for particles; others: profile from the data)"
    )
    model.add_argument(
        "--potential", metavar="FILE", help="potential of mean force: JSON or columns of x (nm) and u (kJ/mol)"
    )

    work = parser.add_argument_group("run")
    work.add_argument("--fit-order", type=count, default=10, metavar="N", help="most auxiliary variables (10)")
    work.add_argument("--tolerance", type=positive, default=1e-4, metavar="R", help="residual to aim at (1e-4)")
    work.add_argument("--blocks", type=count, default=20, metavar="N", help="blocks for the error bars, at least (20)")
    work.add_argument("--no-validate", action="store_true", help="do not compare the fitted motion with the data")
    work.add_argument("--seed", type=seed, default=0, metavar="S", help="same seed, same files (0)")

    add_output(parser)


def _add_coordinate(parser) -> None:
    given = parser.add_argument_group("input")
    given.add_argument(
        "trajectories",
        nargs="+",
        metavar="DATA",
        help="trajectories (XTC, TRR, DCD ...) or tables (NPZ, NPY, Zarr, CSV, XVG, COLVAR ...); several are replicas",
    )
    given.add_argument("--topology", metavar="FILE", help="what the atoms are: PDB, GRO, TPR, PSF, PRMTOP, mmCIF ...")
    given.add_argument("--frames", type=frame_range, metavar="A:B:C", help="frames, as a Python slice (default: all)")
    given.add_argument("--spacing", type=positive, metavar="PS", help="time between frames, instead of what files say")
    given.add_argument("--no-unwrap", action="store_true", help="do not follow particles across periodic boundaries")

    what = parser.add_argument_group("coordinate")
    what.add_argument("--select", metavar="SEL", help="particles to follow, in MDAnalysis' language: 'name OW'")
    what.add_argument(
        "--per", choices=("atom", "residue", "molecule"), default="atom", help="one particle (%(default)s)"
    )
    what.add_argument("--mapping", metavar="NAME", help="follow beads: martini3, com, ... or a mapping file")
    what.add_argument("--beads", metavar="NAMES", help="which beads: names, types or RESIDUE:NAME with commas")
    what.add_argument("--distance", nargs=2, metavar="SEL", help="distance of two centres of mass")
    what.add_argument("--angle", nargs=3, metavar="SEL", help="angle of three centres of mass")
    what.add_argument("--dihedral", nargs=4, metavar="SEL", help="dihedral angle of four centres of mass")
    what.add_argument("--component", choices=("x", "y", "z"), help="one component of particles or of a distance")
    what.add_argument("--column", metavar="NAME", help="column (name, or number from 1) or array of a table")
    what.add_argument(
        "--unit", choices=("nm", "angstrom", "rad", "degree"), default="nm", help="of a table (%(default)s)"
    )
    what.add_argument("--periodic", action="store_true", help="the angle in the table goes round")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code.

    Raises:
        InputError: the input cannot be used; nothing is written.
        ResultError: a trajectory breaks off; what is whole has been analysed.
    """
    _check(options)

    def compute(progress: Progress):
        configure_jax()
        _check_kinds(options)
        return _analyze(options, progress)

    def lines(summary):
        from ..report.memory_summary import memory_lines

        return memory_lines(summary)

    found = run_reported(
        options,
        OUTPUTS,
        last="memory.json",
        compute=compute,
        write=lambda folder, found: _write(folder, found, options),
        lines=lines,
    )
    if found.series.damage is not None:
        raise ResultError(f"{found.series.damage}; what is whole is in {options.output}.")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Raises `InputError` for what is wrong before any file is read."""
    chosen = [name for name in ("distance", "angle", "dihedral", "mapping") if getattr(options, name) is not None]
    if options.select is not None and chosen:
        raise InputError(f"--select and --{chosen[0]} name two coordinates; choose one.")
    if len(chosen) > 1:
        raise InputError(f"--{chosen[0]} and --{chosen[1]} name two coordinates; choose one.")
    if options.beads is not None and options.mapping is None:
        raise InputError("--beads names beads of a mapping; give one with --mapping.")
    if options.component is not None and chosen and chosen[0] in ("angle", "dihedral"):
        raise InputError(f"--component is of particles or of a distance; an {chosen[0]} has none.")
    if options.free and options.potential is not None:
        raise InputError("--free means that there is no mean force; leave --potential out.")
    if options.fit_order < 1 or options.blocks < 2:
        raise InputError("--fit-order must be at least 1 and --blocks at least 2.")
    for name in (*options.trajectories, options.topology, options.potential):
        if name is not None and not Path(name).exists():
            raise InputError(f"{name}: there is no such file.")


def _check_kinds(options: argparse.Namespace) -> None:
    """Raises `InputError` for options that do not go with the kind of the files."""
    from ..io.dynamics.series_tables import is_table

    chosen = [name for name in ("distance", "angle", "dihedral", "mapping") if getattr(options, name) is not None]
    tables = [name for name in options.trajectories if is_table(name)]
    if tables and len(tables) < len(options.trajectories):
        raise InputError("tables and trajectories of atoms are read apart; give files of one kind.")
    if tables:
        for name in ("topology", "select", "component", "frames", *chosen):
            if getattr(options, name) is not None:
                raise InputError(f"{tables[0]}: is a table, to which --{name} does not apply; leave it out.")
    else:
        for name, value in (("column", options.column), ("periodic", options.periodic or None)):
            if value is not None:
                raise InputError(f"--{name} is for tables; {options.trajectories[0]} is a trajectory of atoms.")
        if options.select is None and not chosen:
            raise InputError("name a coordinate: --select, --distance, --angle, --dihedral or --mapping.")


def _analyze(options: argparse.Namespace, progress: Progress):
    """The analysis of the coordinate asked for."""
    series = _series(options, progress)
    from ..io.dynamics.kernels import read_energy
    from ..io.dynamics.trajectory_memory import analyze_memory

    energy: Any = None
    if options.potential is not None:
        energy = read_energy(options.potential)
    elif not options.free and series.kind not in _FREE:
        energy = "profile"
    return analyze_memory(
        series,
        options.temperature,
        window=options.window,
        mass=options.mass,
        energy=energy,
        method=options.method,
        largest_order=options.fit_order,
        tolerance=options.tolerance,
        blocks=options.blocks,
        check=not options.no_validate,
        seed=options.seed,
        progress=progress,
    )


def _series(options: argparse.Namespace, progress: Progress):
    """The coordinate along the trajectories."""
    from ..io.dynamics.series_tables import is_table, read_series

    progress("reading", 0, 1)
    if is_table(options.trajectories[0]):
        return read_series(
            options.trajectories,
            column=options.column,
            unit=options.unit,
            periodic=options.periodic,
            spacing=options.spacing,
        )
    from ..io.atoms import selector
    from ..io.dynamics.coordinate_groups import bead_groups, particle_groups, selection_groups
    from ..io.dynamics.coordinates import read_coordinates
    from ..io.map_trajectory import load_model, read_topology

    kind: Any = next((k for k in ("distance", "angle", "dihedral") if getattr(options, k) is not None), "particles")
    if options.mapping is not None:
        atoms, model = load_model(options.trajectories[0], options.topology, options.mapping, progress)
        groups = bead_groups(model, options.beads)
    else:
        atoms = read_topology(options.trajectories[0], options.topology)
        select = selector(atoms.path)
        if kind == "particles":
            groups = particle_groups(atoms, select, options.select, options.per)
        else:
            groups = selection_groups(atoms, select, getattr(options, kind))
    return read_coordinates(
        options.trajectories,
        atoms,
        groups,
        kind=kind,
        component=options.component,
        frames=options.frames,
        spacing=options.spacing,
        unwrap=not options.no_unwrap,
        progress=progress,
    )


def _write(folder: Path, found, options: argparse.Namespace) -> dict:
    """Writes every output into ``folder`` and returns what ``memory.json`` holds."""
    from ..report.memory import write_memory

    settings = {name: getattr(options, name) for name in SETTINGS}
    # Names without their folders, so that a copied input changes nothing.
    settings["trajectories"] = [Path(name).name for name in options.trajectories]
    for name in ("topology", "potential"):
        settings[name] = Path(settings[name]).name if settings[name] else None
    title = ", ".join(settings["trajectories"][:3]) + (" …" if len(options.trajectories) > 3 else "")
    return write_memory(folder, found, title=title, settings=settings)

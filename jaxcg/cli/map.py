"""`jaxcg map`: from an all-atom structure or trajectory to coarse-grained beads."""

import argparse
import gc
import json
import os
from pathlib import Path

from ..errors import InputError, ResultError
from .environment import configure_jax
from .options import frame_range
from .progress import Progress

_EXAMPLES = """\
examples:
  jaxcg map aa.pdb --mapping martini3 -o cg.pdb
  jaxcg map traj.xtc --topology aa.pdb --mapping martini3 -o cg.xtc --structure cg.pdb
  jaxcg map traj.trr --topology topol.tpr --mapping water.xml --force-map optimal -o cg.trr
  jaxcg map aa.pdb --mapping martini3 --explain --check
"""


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "map",
        help="coarse-grained beads of an all-atom structure or trajectory",
        description="Coarse-grained beads of an all-atom structure or trajectory of any length.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)

    given = parser.add_argument_group("input")
    given.add_argument("trajectory", metavar="AA", help="XTC, TRR, DCD ... or a structure (PDB, GRO, mmCIF ...)")
    given.add_argument("--topology", metavar="FILE", help="what the atoms are: PDB, GRO, TPR, PSF, PRMTOP, mmCIF ...")
    given.add_argument(
        "--frames", type=frame_range, metavar="A:B:C", help="frames to map, as a Python slice (default: all)"
    )

    model = parser.add_argument_group("map")
    model.add_argument(
        "--mapping", default="martini3", metavar="NAME", help="martini3, martini2, calpha, com, or a file (%(default)s)"
    )
    model.add_argument(
        "--from",
        dest="source",
        choices=("amber", "charmm"),
        help="force field whose names martinize2 would map from (its -from; default: charmm, as there)",
    )
    model.add_argument(
        "--heavy-atoms", action="store_true", help="leave hydrogens out of the beads (default: all atoms count)"
    )
    model.add_argument("--no-whole", action="store_true", help="leave molecules that the box cuts as they are")
    model.add_argument(
        "--force-map", choices=("basic", "optimal"), help="map the forces too (TRR): summed, or with least scatter"
    )
    model.add_argument(
        "--explain", action="store_true", help="print what the map keeps and loses, of the motion of a trajectory too"
    )
    model.add_argument("--check", action="store_true", help="print which consistency conditions the map meets")

    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", metavar="FILE", help="beads: XTC, TRR, DCD, GRO or PDB by the ending")
    output.add_argument("--structure", metavar="FILE", help="first frame as PDB or GRO, with the names of the beads")
    output.add_argument("--quiet", action="store_true", help="only errors")
    output.add_argument("--json", action="store_true", help="a summary for machines on standard output")


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code.

    Raises:
        InputError: the input cannot be used; nothing is written.
        ResultError: the trajectory breaks off; what is whole has been mapped.
    """
    _check(options)
    with Progress(quiet=options.quiet) as progress:
        atoms, model = _load(options, progress)
        loss, reason = _fluctuations(options, atoms, model, progress)
        from ..io.map_trajectory import map_trajectory

        done = None
        if options.output is not None:
            done = map_trajectory(
                options.trajectory,
                options.output,
                topology=atoms,
                mapping=model,
                frames=options.frames,
                whole=not options.no_whole,
                force_map=options.force_map,
                structure=options.structure,
                progress=progress,
            )
    texts = _texts(atoms, model, loss, options)
    if reason is not None:
        texts["explain"] += ["", f"Motion lost: not counted ({reason})."]
    if options.json:
        print(json.dumps(_summary(atoms, model, done, texts, options, progress.seconds), allow_nan=False))
    else:
        if not options.quiet:
            _print(atoms, model, done, options)
        for lines in texts.values():
            print("\n".join(lines))
    if done is not None and done.damage is not None:
        raise ResultError(f"{options.trajectory}: {done.damage}; {done.frames} frames are in {options.output}.")
    return 0


def _load(options: argparse.Namespace, progress: Progress):
    """The atoms and the model; nothing made on the way is garbage, and looking for it takes a tenth of the time."""
    gc.disable()
    try:
        configure_jax()
        from ..io.map_trajectory import load_model

        hydrogens = False if options.heavy_atoms else None
        return load_model(
            options.trajectory,
            options.topology,
            options.mapping,
            progress,
            hydrogens=hydrogens,
            source=options.source,
        )
    finally:
        gc.freeze()
        gc.enable()


def _check(options: argparse.Namespace) -> None:
    """Raises `InputError` for what is wrong before any file is read."""
    if options.output is None:
        if not (options.explain or options.check):
            raise InputError("name the file to write with -o, or ask for --explain or --check.")
        for name in ("structure", "frames", "force_map"):
            if getattr(options, name) is not None and not (name == "frames" and options.explain):
                raise InputError(f"--{name.replace('_', '-')} needs a file to write; name it with -o.")
    for name in (options.trajectory, options.topology):
        if name is not None and not Path(name).is_file():
            what = "is a folder, not a file" if Path(name).is_dir() else "there is no such file"
            raise InputError(f"{name}: {what}.")
    inputs = [name for name in (options.trajectory, options.topology, options.mapping) if name and os.path.exists(name)]
    for written in (options.output, options.structure):
        if written and os.path.exists(written) and any(os.path.samefile(written, name) for name in inputs):
            raise InputError(f"{written}: is read and would be written over; choose another name.")
    if options.output is not None and options.structure is not None:
        if Path(options.structure).suffix.lower() not in (".pdb", ".gro"):
            raise InputError(f"{options.structure}: --structure writes PDB or GRO files; choose such an ending.")
        if Path(options.structure).absolute() == Path(options.output).absolute():
            raise InputError(f"{options.structure}: is named by -o too; leave --structure out or choose another name.")


def _fluctuations(options: argparse.Namespace, atoms, model, progress: Progress):
    """What the beads lose of the motion in the trajectory, or None and, where the user may wonder, why."""
    if not options.explain:
        return None, None
    from ..io.fluctuations import trajectory_loss
    from ..io.map_trajectory import chosen_frames
    from ..io.trajectories import open_trajectory

    source = open_trajectory(options.trajectory, atoms.n_atoms)
    numbers = chosen_frames(source, atoms, options.frames)
    if len(numbers) < 2:
        return None, None
    return trajectory_loss(source, numbers, atoms, model, progress)


def _texts(atoms, model, loss, options: argparse.Namespace) -> dict[str, list[str]]:
    """What ``--explain`` and ``--check`` print."""
    if not (options.explain or options.check):
        return {}
    from ..mapping.base import AbstractLinearMap

    if not isinstance(model.mapping, AbstractLinearMap):
        raise InputError(f"{options.mapping}: --explain and --check are for linear maps; leave them out.")
    texts = {}
    try:
        if options.explain:
            from ..mapping.explain import explain_model

            table = explain_model(model, atoms, loss)
            texts["explain"] = table.text(most_rows=None if options.json else 200).splitlines()
        if options.check:
            from ..mapping.conditions import check_conditions

            found = check_conditions(model.mapping, atoms.masses, bead_masses=model.masses, force_map=model.force_map)
            texts["check"] = [str(condition) for condition in found]
    except ValueError as error:
        raise InputError(str(error)) from error
    return texts


def _print(atoms, model, done, options: argparse.Namespace) -> None:
    """What a user sees at the end."""
    from ..io.bead_labels import unmapped_notes

    notes = done.notes if done is not None else (*atoms.notes, *model.notes, *unmapped_notes(atoms, model))
    for note in notes:
        print(f"note: {note}")
    if done is not None:
        also = f" and {options.structure}" if options.structure else ""
        print(f"{done.frames} frames, {done.atoms} atoms to {done.beads} beads: {done.output}{also}")


def _summary(atoms, model, done, texts: dict, options: argparse.Namespace, seconds: dict) -> dict:
    """What ``--json`` prints."""
    summary = {"atoms": atoms.n_atoms, "beads": model.n_beads, "mapping": options.mapping, **texts}
    if done is not None:
        summary |= {
            "frames": done.frames,
            "output": done.output,
            "structure": options.structure,
            "force_map": done.forces,
            "damage": done.damage,
            "notes": list(done.notes),
        }
    return {**summary, "unmapped_atoms": len(model.unmapped), "seconds": seconds}

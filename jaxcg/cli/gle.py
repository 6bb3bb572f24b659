"""`jaxcg gle`: trajectories of the generalised Langevin equation, from a config."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from ..errors import InputError
from .claims import claimed, interrupted
from .environment import configure_jax
from .gle_example import EXAMPLE
from .interrupts import Terminated
from .options import add_output
from .progress import Progress

_EXAMPLES = """\
examples:
  jaxcg gle --example > config.yaml
  jaxcg gle config.yaml -o out/
A run that was interrupted goes on when the same command is given again, and ends with the same numbers.
"""


def add_parser(verbs) -> None:
    """Adds the verb to the subparsers ``verbs``."""
    parser = verbs.add_parser(
        "gle",
        help="trajectories with memory: the generalised Langevin equation of coarse coordinates",
        description="Trajectories of coarse coordinates with a memory kernel: the generalised Langevin equation.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    given = parser.add_argument_group("input")
    given.add_argument("config", nargs="?", metavar="CONFIG", help="what to simulate, YAML (see --example)")
    given.add_argument("--example", action="store_true", help="print a config that explains every setting")
    add_output(parser, resumes=True)


def run(options: argparse.Namespace) -> int:
    """Runs the verb; returns the exit code.

    Raises:
        InputError: the config cannot be run, or the folder holds something else.
        ResultError: the run ended badly; what was done is kept.
    """
    if options.example:
        if options.config is not None:
            raise InputError("--example prints a config; leave the other one out.")
        print(EXAMPLE, end="")
        return 0
    if options.config is None:
        raise InputError("name a config (jaxcg gle --example prints one that explains itself).")
    progress = Progress(quiet=options.quiet)
    try:
        with progress:
            progress("loading", 0, 1)
            configure_jax()
            summary, finished = _run(options, progress)
    except (KeyboardInterrupt, Terminated) as interruption:
        return interrupted(options, terminated=isinstance(interruption, Terminated))
    seconds = {} if finished else progress.seconds
    if options.json:
        report = {**summary, "output": str(Path(options.output)), "already_finished": finished, "seconds": seconds}
        print(json.dumps(report, allow_nan=False))
    elif not options.quiet:
        _print(summary, options.output, finished)
    return 0


def _run(options: argparse.Namespace, progress: Progress) -> tuple[dict[str, Any], bool]:
    """The summary, and whether the run had been finished before."""
    from ..io.dynamics.gle_config import read_gle_config
    from ..io.dynamics.gle_run import RUNNING, identity, prepare, run_gle
    from ..io.writers import write_text
    from ..report.gle import draw_trajectory

    config, target = read_gle_config(options.config), Path(options.output)
    wanted = json.loads(json.dumps(identity(config)))
    with claimed(target):
        finished = None if options.force else _found(target, wanted)
        if finished is not None:
            _clear(target / RUNNING)
            return finished, True
        # Before anything of an earlier run is removed.
        prepared = prepare(config)
        if options.force:
            _clear(target / RUNNING, *_own_files(target))
        write_text(target / RUNNING / "config.json", json.dumps(wanted, indent=1))
        return run_gle(config, prepared, target, draw=draw_trajectory, progress=progress), False


def _found(target: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The summary of this run, if it is finished in the folder.

    Raises:
        InputError: the folder holds another run or other files.
    """
    from ..io.dynamics.gle_run import RUNNING, SUMMARY

    foreign = sorted({path.name for path in target.iterdir()} - {path.name for path in _own_files(target)} - {RUNNING})
    if foreign:
        raise InputError(
            f"{target}: already holds other files ({foreign[0]}{', …' if len(foreign) > 1 else ''}); "
            "choose another folder with -o, or add --force to write into it."
        )
    for path in (target / SUMMARY, target / RUNNING / "config.json"):
        if not path.exists():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            there = {key: found[key] for key in wanted}
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path}: cannot be read; add --force to start anew.") from None
        if there != wanted:
            raise InputError(
                f"{target}: holds a run of another config ({_difference(there, wanted)}); choose another folder with "
                "-o, or add --force to start anew."
            )
        if path.name == SUMMARY:
            return {key: value for key, value in found.items() if key not in wanted}
    return None


def _clear(running: Path, *files: Path) -> None:
    """Empties the folder of an unfinished run and removes files of a finished one."""
    for path in (*running.iterdir(), *files):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _own_files(target: Path) -> list[Path]:
    """Files of such a run."""
    from ..io.dynamics.gle_run import FIGURE, SUMMARY

    names = ("trajectory.npz", "trajectory.zarr", FIGURE, SUMMARY)
    return [path for path in (target / name for name in names) if path.exists()] + sorted(
        target.glob("trajectory*.xtc")
    )


def _difference(there: dict, here: dict) -> str:
    """The first setting in which two configs differ."""
    for part in ("settings", "input_files"):
        for key in dict.fromkeys([*there[part], *here[part]]):
            old, new = there[part].get(key), here[part].get(key)
            if old != new:
                if part == "input_files":
                    return f"the file {key} has changed"
                return f"{key}: {_short(old)} there, {_short(new)} here"
    return "it differs"


def _short(value) -> str:
    text = "not given" if value is None else f"{value:g}" if isinstance(value, float) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _print(summary: dict[str, Any], output: str, finished: bool) -> None:
    """What a user sees at the end."""
    if finished:
        print(f"{output}: this run is finished already; nothing was done.")
    temperature = summary["temperature_K"]
    error = "" if temperature["error"] is None else f" ± {temperature['error']:.2f}"
    noun = "trajectory" if summary["trajectories"] == 1 else "trajectories"
    print(
        f"{summary['trajectories']} {noun} of {summary['time_ps']:g} ps ({summary['steps']} steps, "
        f"{summary['frames']} frames written)"
    )
    print(f"kinetic temperature: {temperature['mean']:.2f}{error} K, target {temperature['target']:g} K")
    friction = summary["total_friction_amu_per_ps"]
    if isinstance(friction, float):
        print(f"friction of slow motion, ∫Γ dt: {friction:.6g} amu/ps")
    elif not isinstance(friction[0], list):
        print(f"friction of slow motion, ∫Γ dt: {', '.join(f'{one:.6g}' for one in friction)} amu/ps")
    if summary.get("ps_per_second"):
        print(f"speed: {summary['ps_per_second']:.4g} ps per second, in each trajectory")
    for note in summary["notes"]:
        print(f"note: {note}")
    for warning in summary["warnings"]:
        print(f"warning: {warning}")
    print(f"files: {', '.join(str(Path(output) / name) for name in summary['files'])}")

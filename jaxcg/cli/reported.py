"""The frame of a verb that ends in a report: compute, write every file or none, say what was found."""

import argparse
import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..errors import InputError
from .progress import Progress
from .staging import StagedFolder

Found = TypeVar("Found")


def run_reported(
    options: argparse.Namespace,
    outputs: Collection[str],
    *,
    last: str,
    compute: Callable[[Progress], Found],
    write: Callable[[Path, Found], Mapping[str, Any]],
    lines: Callable[[Mapping[str, Any]], list[str]],
) -> Found:
    """Runs a verb whose outputs go into a folder.

    Arguments:
        options: of the verb; ``output``, ``force``, ``quiet`` and ``json`` are used here.
        outputs: every file that it may write.
        last: the one that is put in place last.
        compute: what is reported, from the progress to tell; called before anything is written.
        write: writes the files into a folder and returns the summary for machines.
        lines: what a user sees of the summary.

    Returns:
        What ``compute`` returned.

    Raises:
        InputError: the output folder cannot be used or written.
    """
    staged, progress = StagedFolder(options.output, outputs, force=options.force), Progress(quiet=options.quiet)
    with staged as folder, progress:
        progress("loading", 0, 1)
        found = compute(progress)
        progress("report", 0, 1)
        try:
            summary = write(folder.path, found)
            written = sorted(path.name for path in folder.path.iterdir())
            folder.commit(last=last)
        except OSError as problem:
            raise InputError(f"{options.output}: cannot be written ({problem.strerror}).") from problem
    if options.json:
        shown = {**summary, "output": str(folder.target), "files": written, "seconds": progress.seconds}
        print(json.dumps(shown, allow_nan=False))
    elif not options.quiet:
        print("\n".join(lines(summary)))
        print(f"{options.output}: {', '.join(written)}; {sum(progress.seconds.values()):.1f} s")
    return found

"""Output folders of runs that can be taken up again: one process in each, and what an interrupted one says."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import InputError
from .exit_codes import INTERRUPTED, TERMINATED

#: Folder of an unfinished run within that of its results.
RUNNING = "running"


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Keeps a second process out of the folder for as long as this one works in it.

    Raises:
        InputError: the folder cannot be used, or another process is at work in it.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file, not a folder; choose another name with -o.")
    made = not target.exists()
    try:
        (target / RUNNING).mkdir(parents=True, exist_ok=True)
        handle = os.open(target / RUNNING, os.O_RDONLY)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror}); choose another with -o.") from None
    try:
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{target}: another process is running in this folder.") from None
        yield
    finally:
        os.close(handle)
        # What holds nothing was not begun.
        for folder in (target / RUNNING, target) if made else (target / RUNNING,):
            if folder.is_dir() and not os.listdir(folder):
                folder.rmdir()


def interrupted(options: argparse.Namespace, *, terminated: bool) -> int:
    """Says that the same command goes on later; returns the exit code."""
    line = f"{'terminated' if terminated else 'interrupted'}; the same command goes on from the last checkpoint."
    print(f"jaxcg: {line}", file=sys.stderr)
    code = TERMINATED if terminated else INTERRUPTED
    if options.json:
        print(json.dumps({"error": line, "exit_code": code}))
    return code

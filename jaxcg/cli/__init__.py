"""The command line: one thin command for each verb. It parses, calls the package and writes; nothing is computed here.

`main` is the entry point. Nothing heavy is imported until a command runs, so help and version answer at once.
"""

from .main import main

__all__ = ["main"]

"""Reading the lines of a text file."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import InputError


def read_lines(path: str | os.PathLike) -> list[str]:
    """Lines of a text file, without their ends.

    Raises:
        InputError: the file cannot be read, or is not text.
    """
    try:
        return Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{os.fspath(path)}: cannot be read ({error}).") from error

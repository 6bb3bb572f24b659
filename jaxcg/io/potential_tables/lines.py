"""Rows of numbers in text files, with the lines they came from."""

from pathlib import Path

from ...errors import InputError
from ..beads import first_line


def text_lines(path: str) -> list[str]:
    """The lines of a text file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}).") from error


def numbers(path: str, line: int, words: list[str], count: int, what: str) -> list[float]:
    """``count`` numbers of a line.

    Raises:
        InputError: there are more, fewer, or others.
    """
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count:
        raise InputError(f"{path}, line {line}: expected {what}, not {' '.join(words)[:60]!r}.")
    return values

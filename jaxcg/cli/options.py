"""Command-line options that verbs share: types, which turn a word into a value or say what they expected; groups."""

import argparse
import math


def positive(text: str) -> float:
    """A finite number above zero."""
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return value


def non_negative(text: str) -> float:
    """A finite number, zero or above."""
    value = _number(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below zero")
    return value


def count(text: str) -> int:
    """A whole number, zero or above."""
    value = _integer(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below zero")
    return value


def seed(text: str) -> int:
    """A seed of the random numbers: 0 to 2³² − 1."""
    value = _integer(text)
    if not 0 <= value < 2**32:
        raise argparse.ArgumentTypeError(f"{text} is outside 0 … 4294967295")
    return value


def frame_range(text: str) -> str:
    """Frames as a Python slice ``a:b:c`` or a single number; returned as written."""
    parts = text.split(":")
    try:
        if len(parts) > 3:
            raise ValueError
        numbers = [int(part) if part else None for part in parts]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form A:B:C, e.g. 0:100:10") from None
    if len(parts) == 1 and numbers[0] is None:
        raise argparse.ArgumentTypeError("names no frame; e.g. 0:100:10")
    if len(parts) == 3 and numbers[2] == 0:
        raise argparse.ArgumentTypeError("a step of 0 takes no frame; e.g. 0:100:10")
    return text


def add_model(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Adds the options that say what the molecule is and how its energy is computed; returns their group."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--mapping", default="martini3", metavar="NAME", help="martini3, martini2, calpha, com, or a file (%(default)s)"
    )
    model.add_argument(
        "--forcefield",
        action="append",
        metavar="NAME",
        help="force field of OpenMM by short name or XML file; repeat for several (amber14)",
    )
    model.add_argument(
        "--solvent", default="none", choices=("none", "obc2", "gbn2"), help="implicit solvent (%(default)s)"
    )
    model.add_argument(
        "--dielectric",
        type=positive,
        metavar="E",
        help="relative permittivity that screens charges (4 without a solvent, 1 with one)",
    )
    model.add_argument("--temperature", type=positive, default=300.0, metavar="K", help="temperature in K (300)")
    return model


def add_output(parser: argparse.ArgumentParser, *, resumes: bool = False) -> argparse._ArgumentGroup:
    """Adds the options of a verb that writes a folder, ``resumes`` if it goes on with an earlier run; the group."""
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", default="out", metavar="OUT", help="folder to write (%(default)s)")
    force = "start anew, over an earlier run; write beside other files" if resumes else _FORCE
    output.add_argument("--force", action="store_true", help=force)
    output.add_argument("--quiet", action="store_true", help="only errors")
    output.add_argument("--json", action="store_true", help="a summary for machines on standard output")
    return output


_FORCE = "write into a folder that holds other files"


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is not finite")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None

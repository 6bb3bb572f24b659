"""Types of command-line options: each turns a word into a value or says what it expected."""

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

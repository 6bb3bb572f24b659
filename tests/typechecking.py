"""The run-time type checker of the tests."""

from beartype import beartype
from beartype.roar import BeartypeDecorHintPep673Exception


def checked(function):
    """`beartype.beartype`, except for methods that return ``Self``, which it takes on whole classes only."""
    try:
        return beartype(function)
    except BeartypeDecorHintPep673Exception:
        return function

"""The run-time type checker of the tests: dtypes and shapes of arrays, where a function states them."""

import typing

from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

_CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checked(function):
    """`beartype.beartype` for the hints that state a shape; other hints are the static checker's."""
    hints = getattr(function, "__annotations__", {})
    stated = {name: hint for name, hint in hints.items() if _states_shape(hint)}
    if not stated:
        return function
    function.__annotations__ = stated
    return _CHECK(function)


def _states_shape(hint) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(_states_shape(part) for part in typing.get_args(hint))

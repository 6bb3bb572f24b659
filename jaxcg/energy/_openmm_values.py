"""Numbers out of OpenMM objects, without importing OpenMM."""

import numpy as np


def plain(quantity):
    """The number behind an OpenMM quantity (OpenMM returns its own units: nm, ps, kJ/mol, rad, e), or the number."""
    return getattr(quantity, "_value", quantity)


def columns(force, count: int, getter: str) -> list[np.ndarray]:
    """Parameters of all entries of a force, one array per parameter."""
    get = getattr(force, getter)
    rows = [[plain(v) for v in get(i)] for i in range(count)]
    return [np.array(c) for c in zip(*rows)]


def formula(expression: str) -> str:
    """An expression without blanks and final semicolon, for comparison."""
    return "".join(expression.split()).rstrip(";")


def discrete_table(function) -> np.ndarray:
    """A Discrete2DFunction f(x, y) as an array indexed [x, y]."""
    width, height, values = function.getFunctionParameters()
    return np.asarray(values, dtype=np.float64).reshape(height, width).T

"""Bond lengths, angles and dihedrals across periodic boundaries; differentiable for JAX arrays."""

from itertools import pairwise
from typing import Any

import jax.numpy as jnp
import numpy as np

from ...space import nearest_image
from ...typing import Array, Float, Int

Positions = Float[Array | np.ndarray, "points 3"]
Values = Float[Array | np.ndarray, " terms"]


def bond_lengths(
    x: Positions, atoms: Int[np.ndarray, "terms 2"], box: Float[Array | np.ndarray, "3 3"] | None = None
) -> Values:
    """Distances of pairs of points.

    Arguments:
        x: (points, 3) positions, nm.
        atoms: (terms, 2) indices.
        box: (3, 3) box vectors as rows, nm: nearest images are taken; None for positions as they are.

    Returns:
        (terms,) nm; NumPy if all arguments are.
    """
    d = _steps(x, atoms, box)[0]
    return _namespace(d).sqrt(_dot(d, d))


def bond_angles(
    x: Positions, atoms: Int[np.ndarray, "terms 3"], box: Float[Array | np.ndarray, "3 3"] | None = None
) -> Values:
    """Angles at the middle one of three points; arguments as of `bond_lengths`.

    Returns:
        (terms,) rad in [0, π]; gradients are not finite where the three are exactly in line.
    """
    before, after = _steps(x, atoms, box)
    xp = _namespace(before)
    normal = xp.cross(before, after)
    return xp.arctan2(xp.sqrt(_dot(normal, normal)), -_dot(before, after))


def dihedral_angles(
    x: Positions, atoms: Int[np.ndarray, "terms 4"], box: Float[Array | np.ndarray, "3 3"] | None = None
) -> Values:
    """Dihedral angles about the middle two of four points; arguments as of `bond_lengths`.

    Returns:
        (terms,) rad in (−π, π], 0 for cis, IUPAC sign.
    """
    before, axis, after = _steps(x, atoms, box)
    xp = _namespace(before)
    first, second = xp.cross(before, axis), xp.cross(axis, after)
    return xp.arctan2(xp.sqrt(_dot(axis, axis)) * _dot(before, second), _dot(first, second))


def _steps(x, atoms, box) -> list[Any]:
    """Displacements from each point of the terms to the next."""
    points = [x[atoms[:, k]] for k in range(atoms.shape[1])]
    steps = [b - a for a, b in pairwise(points)]
    if box is None:
        return steps
    return [nearest_image(d, box if isinstance(d, np.ndarray) else jnp.asarray(box, d.dtype)) for d in steps]


def _namespace(a) -> Any:
    return np if isinstance(a, np.ndarray) else jnp


def _dot(a, b):
    return (a * b).sum(axis=-1)

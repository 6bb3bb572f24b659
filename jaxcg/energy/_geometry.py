"""Vectors as triples of arrays (structure of arrays), the layout in which bonded terms vectorise."""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ..typing import Array, AtomVectors

#: x, y and z components as separate arrays of one shape.
Triple = tuple[Array, Array, Array]

#: Floor of squared cross products (nm⁴): keeps angles and dihedrals of collinear atoms finite.
_TINY = 1e-13


def subtract(a: Triple, b: Triple) -> Triple:
    """a − b."""
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2])


def dot(a: Triple, b: Triple) -> Array:
    """a · b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Triple, b: Triple) -> Triple:
    """a × b."""
    return (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


def scale(s: Array, a: Triple) -> Triple:
    """s a."""
    return (s * a[0], s * a[1], s * a[2])


def add(*vectors: Triple) -> Triple:
    """Sum of vectors."""
    total = vectors[0]
    for v in vectors[1:]:
        total = (total[0] + v[0], total[1] + v[1], total[2] + v[2])
    return total


def corners(x: AtomVectors, atoms: Array) -> list[Triple]:
    """Positions of the atoms of each term: one triple of (terms,) arrays per column of ``atoms`` (terms, k)."""
    # One gather for all: several of them compile slowly and run no faster.
    points = jnp.asarray(x).T.at[:, atoms.T].get(mode="promise_in_bounds")
    return [(points[0, k], points[1, k], points[2, k]) for k in range(atoms.shape[1])]


def angle(a: Triple, b: Triple) -> tuple[Array, Triple, Triple]:
    """Angle (rad) between vectors ``a`` and ``b`` and its gradients with respect to both.

    Finite for collinear vectors, where the gradient (which has no direction there) is zero.
    """
    normal = cross(a, b)
    squared = jnp.maximum(dot(normal, normal), _TINY)
    length = jnp.sqrt(squared)
    theta = positive_angle(length, dot(a, b))
    gradient_a = scale(1.0 / (length * jnp.maximum(dot(a, a), _TINY)), cross(a, normal))
    gradient_b = scale(1.0 / (length * jnp.maximum(dot(b, b), _TINY)), cross(normal, b))
    return theta, gradient_a, gradient_b


def positive_angle(sine: Array, cosine: Array) -> Array:
    """arctan2(sine, cosine) for sine ≥ 0, not both zero, to round-off in either precision.

    The library function is a scalar call on a CPU, ten times the cost of the rest of an angle. Here the argument is
    halved twice, below tan(π/16), where eleven terms of the series suffice; everything vectorises.
    """
    opposite, adjacent = jnp.abs(sine), jnp.abs(cosine)
    steep = opposite > adjacent
    z = jnp.minimum(opposite, adjacent) / jnp.maximum(opposite, adjacent)
    for _ in range(2):
        z = z / (1.0 + jnp.sqrt(1.0 + z * z))
    square = z * z
    series = jnp.zeros_like(z)
    for n in range(10, -1, -1):
        series = series * square + (-1.0) ** n / (2 * n + 1)
    octant = 4.0 * z * series
    quadrant = jnp.where(steep, 0.5 * math.pi - octant, octant)
    return jnp.where(cosine < 0, math.pi - quadrant, quadrant)


def dihedral(
    p0: Triple, p1: Triple, p2: Triple, p3: Triple
) -> tuple[Array, Array, tuple[Triple, Triple, Triple, Triple]]:
    """Cosine and sine of the dihedral angle (IUPAC sign) and the angle's gradients at its four atoms.

    No arc function is evaluated. Finite for collinear atoms.

    Source: Blondel & Karplus, J. Comput. Chem. 17, 1132 (1996).
    """
    f, g, h = subtract(p0, p1), subtract(p1, p2), subtract(p3, p2)
    a, b = cross(f, g), cross(h, g)
    aa, bb = jnp.maximum(dot(a, a), _TINY), jnp.maximum(dot(b, b), _TINY)
    gg = jnp.maximum(dot(g, g), _TINY)
    g_length = jnp.sqrt(gg)
    inverse = 1.0 / jnp.sqrt(aa * bb)
    cosine = dot(a, b) * inverse
    sine = dot(cross(b, a), g) * inverse / g_length
    first = scale(-g_length / aa, a)
    last = scale(g_length / bb, b)
    p, q = dot(f, g) / gg, dot(h, g) / gg
    # The middle gradients follow from the outer ones by invariance to translation and rotation.
    shared = add(scale(p, first), scale(q, last))
    second = subtract(scale(jnp.ones_like(p) * -1.0, first), shared)
    third = subtract(shared, last)
    return cosine, sine, (first, second, third, last)


def dihedral_angle(
    p0: Triple, p1: Triple, p2: Triple, p3: Triple
) -> tuple[Array, tuple[Triple, Triple, Triple, Triple]]:
    """Dihedral angle (rad, in (−π, π], zero for cis) and its gradients at its four atoms."""
    cosine, sine, gradients = dihedral(p0, p1, p2, p3)
    # arctan2 has no derivative where both vanish (collinear atoms).
    flat = (cosine == 0) & (sine == 0)
    return jnp.arctan2(sine, jnp.where(flat, 1.0, cosine)), gradients


def as_indices(atoms: Sequence | np.ndarray, width: int, n_atoms: int, what: str) -> np.ndarray:
    """``atoms`` as an (terms, width) int32 array, checked.

    Raises:
        ValueError: wrong shape, an index outside the molecule, or an atom repeated within a term.
    """
    table = np.asarray(atoms, dtype=np.int32).reshape(-1, width)
    if table.size and (table.min() < 0 or table.max() >= n_atoms):
        raise ValueError(f"{what}: atom indices must be between 0 and {n_atoms - 1}.")
    return table

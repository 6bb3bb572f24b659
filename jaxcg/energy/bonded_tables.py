"""Bonds, angles and torsions given by tables."""

import math
from functools import lru_cache

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from ..typing import Array, AtomVectors, Float, Int, Scalar
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import add, angle, as_indices, corners, dihedral_angle, dot, scale, subtract
from ._incidence import Incidence
from .pair_tables import _interpolate, _table


class TabulatedBond(AbstractAnalyticEnergy):
    """Bonds that share one table, U = Σ u(r), with u piecewise cubic.

    Beyond either end of the table u goes on along its tangent, if that drives the bond back into the table; a slope
    that does so by less than ``restoring``, or drives it on, is replaced by ``restoring``, and the force has a step
    there. The energy is linear in the values (and the slopes, if given), except beyond an end whose slope is replaced.

    Arguments:
        atoms: (bonds, 2) atom indices.
        distances: (points,) equally spaced, ascending, nm.
        values: (points,) u, kJ/mol.
        slopes: (points,) du/dr, kJ/mol/nm; those of the twice continuously differentiable spline through the values
            (not a knot at the ends), whatever they are at the time, when None.
        restoring: the least force that drives a bond back from beyond the table, kJ/mol/nm.
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range, too few points, not equally spaced or not finite, or a restoring force
            that is not positive.
    """

    atoms: Int[Array, "bonds 2"]
    values: Float[Array, " points"]
    slopes: Float[Array, " points"] | None
    incidence: Incidence
    start: float = eqx.field(static=True)
    spacing: float = eqx.field(static=True)
    restoring: float = eqx.field(static=True)

    def __init__(self, atoms, distances, values, *, n_atoms: int, slopes=None, restoring: float = 250.0):
        table = as_indices(atoms, 2, n_atoms, "TabulatedBond")
        self.values, self.slopes, self.start, self.spacing = _leaves(distances, values, slopes, "TabulatedBond")
        self.restoring = _positive(restoring, "TabulatedBond")
        self.atoms, self.incidence = leaf(table), Incidence(table, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        start, end = corners(x, self.atoms)
        d = subtract(start, end)
        # The floor keeps two atoms on one spot finite; their force, which has no direction, is zero.
        r = jnp.sqrt(jnp.maximum(dot(d, d), 1e-14))
        energy, slope = _returning(r, self.start, self.spacing, self.values, self.slopes, self.restoring)
        g = scale(slope / r, d)
        return jnp.sum(energy), self.incidence.total((g, (-g[0], -g[1], -g[2])))


class TabulatedAngle(AbstractAnalyticEnergy):
    """Angles that share one table, U = Σ u(θ), with u piecewise cubic.

    Beyond either end of the table u goes on as that of a `TabulatedBond` does. A table from 0 to π has no beyond.

    Arguments:
        atoms: (angles, 3) atom indices, the vertex in the middle.
        angles: (points,) equally spaced, ascending, between 0 and π, rad.
        values: (points,) u, kJ/mol.
        slopes: (points,) du/dθ, kJ/mol/rad; those of the twice continuously differentiable spline through the values
            (not a knot at the ends), whatever they are at the time, when None.
        restoring: the least torque that drives an angle back from beyond the table, kJ/mol/rad.
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range, too few points, not equally spaced, not finite or beyond π, or a restoring
            torque that is not positive.
    """

    atoms: Int[Array, "angles 3"]
    values: Float[Array, " points"]
    slopes: Float[Array, " points"] | None
    incidence: Incidence
    start: float = eqx.field(static=True)
    spacing: float = eqx.field(static=True)
    restoring: float = eqx.field(static=True)

    def __init__(self, atoms, angles, values, *, n_atoms: int, slopes=None, restoring: float = 25.0):
        table = as_indices(atoms, 3, n_atoms, "TabulatedAngle")
        self.values, self.slopes, self.start, self.spacing = _leaves(angles, values, slopes, "TabulatedAngle")
        if np.max(angles) > math.pi * (1 + 1e-6):
            raise ValueError("TabulatedAngle: angles lie between 0 and π; give them in rad.")
        self.restoring = _positive(restoring, "TabulatedAngle")
        self.atoms, self.incidence = leaf(table), Incidence(table, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        start, vertex, end = corners(x, self.atoms)
        theta, first, last = angle(subtract(start, vertex), subtract(end, vertex))
        energy, slope = _returning(theta, self.start, self.spacing, self.values, self.slopes, self.restoring)
        first, last = scale(slope, first), scale(slope, last)
        middle = add(first, last)
        return jnp.sum(energy), self.incidence.total((first, (-middle[0], -middle[1], -middle[2]), last))


class TabulatedTorsion(AbstractAnalyticEnergy):
    """Torsions that share one table, U = Σ u(φ), with u the periodic cubic spline; φ is zero for cis.

    The energy is linear in the values.

    Arguments:
        atoms: (torsions, 4) atom indices.
        angles: (points,) equally spaced over one full turn, ascending, its end (the start again) not repeated, rad.
        values: (points,) u, kJ/mol.
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range, too few points, not finite, or angles that are not one turn in equal
            steps.
    """

    atoms: Int[Array, "torsions 4"]
    values: Float[Array, " points"]
    incidence: Incidence
    start: float = eqx.field(static=True)

    def __init__(self, atoms, angles, values, *, n_atoms: int):
        table = as_indices(atoms, 4, n_atoms, "TabulatedTorsion")
        phi, u = np.asarray(angles, np.float64), np.asarray(values, np.float64)
        if phi.ndim != 1 or phi.shape != u.shape or len(phi) < 3:
            raise ValueError("TabulatedTorsion: give three or more angles and a value for each.")
        if not np.allclose(np.diff(phi), 2 * math.pi / len(phi), rtol=1e-3, atol=0.0):
            raise ValueError("TabulatedTorsion: angles (rad) must ascend over a turn in equal steps, without its end.")
        if not np.isfinite(u).all():
            raise ValueError("TabulatedTorsion: values must be finite; fill in angles that were never visited.")
        self.values, self.start = leaf(u), float(phi[0])
        self.atoms, self.incidence = leaf(table), Incidence(table, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        phi, gradients = dihedral_angle(*corners(x, self.atoms))
        values = self.values.astype(phi.dtype)
        points = values.shape[0]
        slopes = jnp.matmul(jnp.asarray(_periodic_slopes(points), phi.dtype), values, precision="highest")
        values, slopes = (jnp.concatenate([row, row[:1]]) for row in (values, slopes))
        step = 2 * math.pi / points
        position = jnp.mod((phi - self.start) / step, points)
        energy, slope = _interpolate(position, 0.0, 1.0, math.inf, values, slopes)
        return jnp.sum(energy), self.incidence.total([scale(slope / step, g) for g in gradients])


def _leaves(points, values, slopes, what: str) -> tuple[Array, Array | None, float, float]:
    q, u = _table(points, values, what)
    if slopes is not None:
        slopes = np.asarray(slopes, np.float64)
        if slopes.shape != u.shape or not np.isfinite(slopes).all():
            raise ValueError(f"{what}: give one finite slope for every value.")
    return leaf(u), None if slopes is None else leaf(slopes), float(q[0]), float(q[-1] - q[0]) / (len(q) - 1)


def _positive(restoring: float, what: str) -> float:
    if not 0 < restoring < math.inf:
        raise ValueError(f"{what}: the restoring slope of {restoring:g} must be positive.")
    return float(restoring)


def _returning(
    q: Array, start: float, spacing: float, values: Array, slopes: Array | None, restoring: float
) -> tuple[Array, Array]:
    """u and du/dq from a table, and straight back into it from beyond."""
    values = values.astype(q.dtype)
    if slopes is None:
        matrix = jnp.asarray(_open_slopes(values.shape[0]), q.dtype)
        slopes = jnp.matmul(matrix, values, precision="highest") / spacing
    slopes = slopes.astype(q.dtype)
    end = start + spacing * (values.shape[0] - 1)
    inside = jnp.clip(q, start, end)
    energy, slope = _interpolate(inside, start, spacing, math.inf, values, slopes)
    before, after = jnp.minimum(slopes[0], -restoring), jnp.maximum(slopes[-1], restoring)
    energy = energy + jnp.minimum(q - start, 0.0) * before + jnp.maximum(q - end, 0.0) * after
    return energy, jnp.where(q < start, before, jnp.where(q > end, after, slope))


@lru_cache(maxsize=32)
def _open_slopes(points: int) -> np.ndarray:
    """Slopes, per step, of the spline through values in equal steps, not a knot at the ends."""
    steps = np.arange(points, dtype=np.float64)
    return np.asarray(CubicSpline(steps, np.eye(points))(steps, 1))


@lru_cache(maxsize=32)
def _periodic_slopes(points: int) -> np.ndarray:
    """Slopes, per step, of the periodic spline through values in equal steps."""
    steps = np.arange(points + 1, dtype=np.float64)
    values = np.eye(points)
    spline = CubicSpline(steps, np.concatenate([values, values[:1]]), bc_type="periodic")
    return np.asarray(spline(steps[:-1], 1))

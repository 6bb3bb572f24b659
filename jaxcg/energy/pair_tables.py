"""Pair potentials given by numbers: tables, and splines through knots."""

from functools import lru_cache
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.linalg import solve_banded

from ..typing import Array, Float
from ._arrays import leaf
from .pair_potentials import AbstractPairPotential


class TabulatedPair(AbstractPairPotential):
    """u(r) interpolated in a table, zero from its last distance on.

    The table ought to end at zero: a last value that is not makes a step of u at the cutoff, as truncation does.
    Below its first distance u goes on along the straight line of its end. The force is exactly the derivative of the
    interpolated energy, also in the linear table, whose force has steps.

    Arguments:
        distances: (points,) equally spaced, ascending, nm.
        values: (points,) u, kJ/mol.
        interpolation: "linear", or "cubic": piecewise cubic through values and slopes.
        slopes: (points,) du/dr, kJ/mol/nm, for "cubic"; those of the twice continuously differentiable spline (not a
            knot at the ends) when None.

    Raises:
        ValueError: too few points, not equally spaced, not finite, or slopes for a linear table.
    """

    values: Float[Array, " points"]
    slopes: Float[Array, " points"] | None
    start: float = eqx.field(static=True)
    spacing: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)

    def __init__(self, distances, values, *, interpolation: Literal["linear", "cubic"] = "cubic", slopes=None):
        r, u = _table(distances, values, "TabulatedPair")
        if interpolation not in ("linear", "cubic"):
            raise ValueError(f"TabulatedPair: interpolation is 'linear' or 'cubic', not {interpolation!r}.")
        if interpolation == "linear" and slopes is not None:
            raise ValueError("TabulatedPair: a linear table takes no slopes; ask for 'cubic' or leave them out.")
        self.values = leaf(u)
        self.start, self.spacing, self.cutoff = float(r[0]), float(r[-1] - r[0]) / (len(r) - 1), float(r[-1])
        self.slopes = None
        if interpolation == "cubic":
            slopes = CubicSpline(r, u)(r, 1) if slopes is None else np.asarray(slopes, np.float64)
            if slopes.shape != u.shape or not np.isfinite(slopes).all():
                raise ValueError("TabulatedPair: give one finite slope for every value.")
            self.slopes = leaf(slopes)

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        slopes = None if self.slopes is None else self.slopes.astype(r.dtype)
        return _interpolate(r, self.start, self.spacing, self.cutoff, self.values.astype(r.dtype), slopes)


class SplinePair(AbstractPairPotential):
    """The cubic spline through knots, whose values are the parameters; u and u′ vanish at the cutoff.

    Twice continuously differentiable between the knots, linear in the values, and differentiable in them. At the first
    knot the spline has no curvature, and below it u goes on along its tangent.

    Arguments:
        start: the first knot, nm.
        cutoff: where u ends, nm.
        values: (knots,) u at knots in equal steps from ``start``; a last one, at the cutoff, is zero and not among
            them: knot k lies at start + k (cutoff − start)/knots.

    Raises:
        ValueError: fewer than three values, or the cutoff is not beyond the start.
    """

    values: Float[Array, " knots"]
    start: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)

    def __init__(self, start: float, cutoff: float, values):
        if not 0 <= start < cutoff:
            raise ValueError("SplinePair: the cutoff must lie beyond the first knot, and both be positive.")
        self.values = leaf(values)
        if self.values.ndim != 1 or self.values.shape[0] < 3:
            raise ValueError("SplinePair: give three or more values, in one row.")
        self.start, self.cutoff = float(start), float(cutoff)

    @property
    def spacing(self) -> float:
        """Distance between knots, nm."""
        return (self.cutoff - self.start) / self.values.shape[0]

    @property
    def knots(self) -> np.ndarray:
        """(knots,) where the values are, nm."""
        return self.start + self.spacing * np.arange(self.values.shape[0])

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        values = jnp.append(self.values.astype(r.dtype), jnp.zeros((), r.dtype))
        matrix = jnp.asarray(_slope_matrix(values.shape[0]), r.dtype)
        slopes = jnp.matmul(matrix, values, precision="highest") / self.spacing
        return _interpolate(r, self.start, self.spacing, self.cutoff, values, slopes)

    @staticmethod
    def through(distances, values, start: float, cutoff: float, knots: int) -> "SplinePair":
        """The spline that fits a table best: least squares of u over its points between ``start`` and ``cutoff``.

        Arguments:
            distances, values: (points,) nm and kJ/mol, in any order.
            start, cutoff: nm.
            knots: number of values of the spline.

        Raises:
            ValueError: fewer points than knots between start and cutoff.
        """
        r, u = np.asarray(distances, np.float64), np.asarray(values, np.float64)
        inside = (r >= start) & (r <= cutoff) & np.isfinite(u)
        if inside.sum() < knots:
            raise ValueError(
                f"SplinePair: {inside.sum()} points of the table lie in the range, fewer than {knots} knots."
            )
        position = np.clip((r[inside] - start) / (cutoff - start) * knots, 0.0, knots)
        left = np.minimum(position.astype(np.int64), knots - 1)
        h00, h10, h01, h11 = _hermite(position - left)
        slope = _slope_matrix(knots + 1)[:, :-1]
        value = np.eye(knots + 1)[:, :-1]
        design = h00[:, None] * value[left] + h01[:, None] * value[left + 1]
        design += h10[:, None] * slope[left] + h11[:, None] * slope[left + 1]
        return SplinePair(start, cutoff, np.linalg.lstsq(design, u[inside], rcond=None)[0])


def _table(distances, values, what: str) -> tuple[np.ndarray, np.ndarray]:
    r, u = np.asarray(distances, np.float64), np.asarray(values, np.float64)
    if r.ndim != 1 or r.shape != u.shape or len(r) < 4:
        raise ValueError(f"{what}: give four or more distances and a value for each.")
    steps = np.diff(r)
    if not (r[0] >= 0 and steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3)):
        raise ValueError(f"{what}: distances must ascend in equal steps; interpolate the table first.")
    if not np.isfinite(u).all():
        raise ValueError(f"{what}: values must be finite; leave out the distances that were never visited.")
    return r, u


def _interpolate(
    r: Array, start: float, spacing: float, cutoff: float, values: Array, slopes: Array | None
) -> tuple[Array, Array]:
    """u and du/dr from values, and slopes or straight lines; straight below the start, zero from the cutoff on."""
    position = (r - start) / spacing
    segments = values.shape[0] - 1
    inside = jnp.clip(position, 0.0, segments)
    left = jnp.clip(inside.astype(jnp.int32), 0, segments - 1)
    t, below = inside - left.astype(r.dtype), jnp.minimum(position, 0.0)
    u0, u1 = values[left], values[left + 1]
    if slopes is None:
        slope = u1 - u0
        energy = u0 + t * slope
    else:
        m0, m1 = slopes[left] * spacing, slopes[left + 1] * spacing
        c2, c3 = 3.0 * (u1 - u0) - 2.0 * m0 - m1, 2.0 * (u0 - u1) + m0 + m1
        energy = u0 + t * (m0 + t * (c2 + t * c3))
        slope = m0 + t * (2.0 * c2 + 3.0 * t * c3)
    energy = energy + below * slope
    beyond = r >= cutoff  # NaN stays in sight
    return jnp.where(beyond, 0.0, energy), jnp.where(beyond, 0.0, slope / spacing)


def _hermite(t: np.ndarray):
    """Cubic Hermite weights of the left value, the left slope, the right value and the right slope."""
    return 1 - t * t * (3 - 2 * t), t * (1 - t) ** 2, t * t * (3 - 2 * t), t * t * (t - 1)


@lru_cache(maxsize=32)
def _slope_matrix(points: int) -> np.ndarray:
    """Slopes, per step, of the spline through values in equal steps: no curvature at the start, no slope at the end."""
    bands = np.ones((3, points))
    bands[1] = 4.0
    right = np.zeros((points, points))
    inner = np.arange(1, points - 1)
    right[inner, inner + 1], right[inner, inner - 1] = 3.0, -3.0
    bands[1, 0], right[0, 0], right[0, 1] = 2.0, -3.0, 3.0
    bands[1, -1], bands[2, -2] = 1.0, 0.0
    return solve_banded((1, 1), bands, right)

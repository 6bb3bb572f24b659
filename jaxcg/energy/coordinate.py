"""Potentials of single coordinates: what a free-energy profile is to dynamics along it."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.interpolate import CubicSpline

from ..typing import Array, Coordinates, Float, Scalar
from ._arrays import leaf
from .base import AbstractEnergy


class SplinePotential(AbstractEnergy):
    """U(x) = Σ u(x_i) over all coordinates, with u a cubic spline through a table, and parabolas outside of it.

    Twice continuously differentiable. Outside the table u goes on with the value, slope and, where that is positive,
    curvature of its end, so that trajectories come back.

    Arguments:
        positions: (points,) equally spaced, ascending, nm.
        values: (points,) kJ/mol.
        least_curvature: of the parabolas outside, kJ/mol/nm².

    Raises:
        ValueError: fewer than four points, or not equally spaced.
    """

    start: Float[Array, ""]
    spacing: Float[Array, ""]
    coefficients: Float[Array, "segments 4"]
    least_curvature: Float[Array, ""]

    def __init__(self, positions, values, *, least_curvature: float = 0.0):
        x, u = np.asarray(positions, np.float64), np.asarray(values, np.float64)
        if x.ndim != 1 or x.shape != u.shape or len(x) < 4:
            raise ValueError("SplinePotential: give four or more positions and a value for each.")
        steps = np.diff(x)
        if not (steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6)):
            raise ValueError("SplinePotential: positions must ascend in equal steps; interpolate the table first.")
        if not np.isfinite(u).all():
            raise ValueError("SplinePotential: values must be finite; leave out what was never visited.")
        spline = CubicSpline(x, u)
        # In units of a segment, so that its four numbers are of one size.
        scale = steps[0] ** np.arange(4)
        self.coefficients = leaf(spline.c[::-1].T * scale)
        self.start, self.spacing = leaf(x[0]), leaf(steps[0])
        self.least_curvature = leaf(least_curvature)

    def __call__(self, x: Coordinates) -> Scalar:
        """Sum of u over ``x`` (any shape), kJ/mol."""
        return jnp.sum(self.profile(x))

    def profile(self, x: Coordinates) -> Array:
        """u at every coordinate of ``x``, kJ/mol, in its shape."""
        x = jnp.asarray(x)
        start, spacing = self.start.astype(x.dtype), self.spacing.astype(x.dtype)
        table = self.coefficients.astype(x.dtype)
        segments = table.shape[0]
        position = (x - start) / spacing
        inside = jnp.clip(position, 0.0, segments)
        left = jnp.clip(jnp.floor(inside).astype(jnp.int32), 0, segments - 1)
        t, c = inside - left, table[left]
        value = ((c[..., 3] * t + c[..., 2]) * t + c[..., 1]) * t + c[..., 0]
        slope = (3 * c[..., 3] * t + 2 * c[..., 2]) * t + c[..., 1]
        curvature = jnp.maximum(6 * c[..., 3] * t + 2 * c[..., 2], self.least_curvature.astype(x.dtype) * spacing**2)
        beyond = position - inside
        return value + (slope + 0.5 * curvature * beyond) * beyond


class HarmonicPotential(AbstractEnergy):
    """U(x) = Σ ½ k (x_i − x₀)² over all coordinates.

    Arguments:
        stiffness: k, kJ/mol/nm²; not negative.
        center: x₀, nm.

    Raises:
        ValueError: the stiffness is negative.
    """

    stiffness: Float[Array, ""]
    center: Float[Array, ""]

    def __init__(self, stiffness, center=0.0):
        if not isinstance(stiffness, Tracer) and float(stiffness) < 0:
            raise ValueError(f"HarmonicPotential: the stiffness {float(stiffness):g} is negative.")
        self.stiffness, self.center = leaf(stiffness), leaf(center)

    def __call__(self, x: Coordinates) -> Scalar:
        """Sum over ``x`` (any shape), kJ/mol."""
        x = jnp.asarray(x)
        return 0.5 * self.stiffness.astype(x.dtype) * jnp.sum((x - self.center.astype(x.dtype)) ** 2)


class DoubleWell(AbstractEnergy):
    """U(x) = Σ B ((x_i − x₀)²/a² − 1)² over all coordinates: minima at x₀ ± a, a barrier of height B at x₀.

    The curvature is 8B/a² at the minima and −4B/a² at the barrier.

    Arguments:
        barrier: B, kJ/mol, positive.
        half_distance: a, nm, positive.
        center: x₀, nm.

    Raises:
        ValueError: barrier or half distance is not positive.
    """

    barrier: Float[Array, ""]
    half_distance: Float[Array, ""]
    center: Float[Array, ""]

    def __init__(self, barrier, half_distance, center=0.0):
        for name, value in (("barrier", barrier), ("half distance", half_distance)):
            if not isinstance(value, Tracer) and not float(value) > 0:
                raise ValueError(f"DoubleWell: the {name} {float(value):g} is not positive.")
        self.barrier, self.half_distance, self.center = leaf(barrier), leaf(half_distance), leaf(center)

    def __call__(self, x: Coordinates) -> Scalar:
        """Sum over ``x`` (any shape), kJ/mol."""
        x = jnp.asarray(x)
        reduced = (x - self.center.astype(x.dtype)) / self.half_distance.astype(x.dtype)
        return self.barrier.astype(x.dtype) * jnp.sum((reduced**2 - 1) ** 2)

"""Umbrellas: harmonic restraints of a collective coordinate."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ...energy.base import AbstractEnergy
from ...typing import Array, Coordinates, Float, Scalar


class HarmonicUmbrella(AbstractEnergy):
    """The bias ½ k (ξ(x) − c)² of a collective coordinate ξ: an energy, to be added to that of the molecule.

    Arguments:
        coordinate: ξ(x), a differentiable function from positions (atoms, 3) in nm to a number; a module-level function
            or an Equinox module, so that windows share what is compiled.
        center: c, in the unit of ξ.
        stiffness: k, kJ/mol per unit of ξ squared, not negative.
        period: of ξ, e.g. 2π for a torsion in radians; None for coordinates without one.

    Raises:
        ValueError: a negative stiffness, a period that is not positive.
    """

    coordinate: Callable[[Array], Array]
    center: Float[Array, ""]
    stiffness: Float[Array, ""]
    period: float | None = eqx.field(static=True)

    def __init__(self, coordinate: Callable[[Array], Array], center, stiffness, *, period: float | None = None):
        if not isinstance(stiffness, Tracer) and not (np.isfinite(stiffness) and stiffness >= 0):
            raise ValueError(f"HarmonicUmbrella: the stiffness is {stiffness}; it must not be negative.")
        if period is not None and not period > 0:
            raise ValueError(f"HarmonicUmbrella: the period is {period}; it must be positive, or None.")
        self.coordinate, self.period = coordinate, period
        self.center, self.stiffness = jnp.asarray(center, float), jnp.asarray(stiffness, float)

    def __call__(self, x: Coordinates) -> Scalar:
        """The bias at ``x`` (atoms, 3), kJ/mol."""
        apart = self.coordinate(jnp.asarray(x)) - self.center.astype(x.dtype)
        if self.period is not None:
            apart = apart - self.period * jnp.round(apart / self.period)
        return 0.5 * self.stiffness.astype(x.dtype) * apart**2


def harmonic_biases(
    values: np.ndarray, centers: np.ndarray, stiffness: float | np.ndarray, period: float | None = None
) -> np.ndarray:
    """Biases ½ k (ξ − c)² of all windows at values of the coordinate, (windows, ...) kJ/mol.

    Arguments:
        values: (...) ξ.
        centers: (windows,) c.
        stiffness: k, kJ/mol per unit of ξ squared, a number or (windows,).
        period: of ξ; None for coordinates without one.
    """
    values = np.asarray(values, np.float64)
    shape = (-1, *[1] * values.ndim)
    centers = np.asarray(centers, np.float64)
    apart = values[None] - centers.reshape(shape)
    if period is not None:
        apart -= period * np.round(apart / period)
    return 0.5 * np.broadcast_to(np.asarray(stiffness, np.float64), centers.shape).reshape(shape) * apart**2

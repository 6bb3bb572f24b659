"""The kinetic energy of one mass per atom, shared by the geometries that use it."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...typing import Array, AtomScalars, AtomVectors, PRNGKeyArray, Scalar
from .base import AbstractGeometry


class AbstractDiagonalGeometry(AbstractGeometry):
    """A geometry whose mass metric is diagonal with ``masses`` (atoms,), amu."""

    masses: eqx.AbstractVar[Array]

    def acceleration(self, gradient: AtomVectors) -> Array:
        """−m⁻¹ ∇U (nm/ps²), not projected."""
        return jnp.asarray(-gradient / self._mass(gradient))

    def thermal_velocities(self, key: PRNGKeyArray, thermal_energy: Scalar | float, x: AtomVectors) -> Array:
        """Tangent Maxwell-Boltzmann velocities (nm/ps) for ``thermal_energy`` kT (kJ/mol), shape and dtype of ``x``.

        The projection of a Gaussian of covariance kT m⁻¹, orthogonal in the mass metric, has the
        Maxwell-Boltzmann law of the constrained system exactly.
        """
        noise = jax.random.normal(key, x.shape, x.dtype)
        return self.project(x, jnp.sqrt(thermal_energy / self._mass(x)).astype(x.dtype) * noise)

    def kinetic_energy(self, velocity: AtomVectors) -> Scalar:
        """½ Σ m v², kJ/mol."""
        return 0.5 * jnp.sum(self._mass(velocity) * velocity**2)

    def kinetic_differences(self, velocity: AtomVectors, new_velocity: AtomVectors) -> Array:
        """½ m (w − v)(w + v) of every coordinate, kJ/mol."""
        difference = (new_velocity - velocity) * (new_velocity + velocity)
        return cast(Array, 0.5 * self._mass(velocity) * difference).ravel()

    def _mass(self, like) -> Array:
        return self.masses.astype(like.dtype)[:, None]


def sampler_masses(masses: AtomScalars, n_atoms: int) -> np.ndarray:
    """``masses`` as a NumPy array.

    Raises:
        ValueError: not one per atom, or not positive and finite.
    """
    masses = np.asarray(masses)
    if masses.shape != (n_atoms,):
        raise ValueError(f"masses: shape {masses.shape}, expected ({n_atoms},).")
    if not (np.all(np.isfinite(masses)) and np.all(masses > 0)):
        raise ValueError("masses: every mass must be finite and positive.")
    return masses

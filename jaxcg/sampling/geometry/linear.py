"""The fibre of a linear map with one mass per atom, or all of space for the soft posterior."""

from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...mapping.base import AbstractFibre
from ...posterior import Posterior
from ...typing import Array, AtomScalars, AtomVectors, BeadVectors, PRNGKeyArray, Scalar
from .base import AbstractGeometry


class LinearGeometry(AbstractGeometry):
    """Configuration space of a posterior with a linear map: projections, retraction, thermal velocities.

    On the exact fibre velocities lie in the null space of the map, orthogonally in the mass metric, and positions are
    brought back to M(x) = y. The soft posterior is not constrained and both do nothing.

    Arguments:
        posterior: decides which of the two it is.
        masses: (atoms,) positive masses, amu; any will do for sampling, they change efficiency only.
    """

    masses: Array
    fibre: AbstractFibre | None
    dimension: int = eqx.field(static=True)

    def __init__(self, posterior: Posterior, masses: AtomScalars):
        masses = np.asarray(masses)
        mapping = posterior.mapping
        if masses.shape != (mapping.n_atoms,):
            raise ValueError(f"masses: shape {masses.shape}, expected ({mapping.n_atoms},).")
        if not (np.all(np.isfinite(masses)) and np.all(masses > 0)):
            raise ValueError("masses: every mass must be finite and positive.")
        self.masses = jnp.asarray(masses, dtype=posterior.y.dtype)
        self.fibre = mapping.fibre(masses) if posterior.exact else None
        self.dimension = mapping.nullity if posterior.exact else 3 * mapping.n_atoms

    def retract(self, x: AtomVectors, y: BeadVectors) -> Array:
        """Nearest allowed position to ``x``."""
        return jnp.asarray(x if self.fibre is None else self.fibre.retract(x, y))

    def project(self, x: AtomVectors, velocity: AtomVectors) -> Array:
        """Component of ``velocity`` that keeps the beads where they are, the same at every ``x``."""
        del x
        return jnp.asarray(velocity if self.fibre is None else self.fibre.tangent(velocity))

    def acceleration(self, gradient: AtomVectors) -> Array:
        """−m⁻¹ ∇U (nm/ps²), not projected."""
        return jnp.asarray(-gradient / self._mass(gradient))

    def thermal_velocities(self, key: PRNGKeyArray, thermal_energy: Scalar | float, x: AtomVectors) -> Array:
        """Maxwell-Boltzmann velocities (nm/ps) at ``thermal_energy`` kT (kJ/mol), shape and dtype of ``x``.

        The projection of a Gaussian of covariance kT m⁻¹, orthogonal in the mass metric, has the
        Maxwell-Boltzmann law of the constrained system exactly.
        """
        noise = jax.random.normal(key, x.shape, x.dtype)
        return self.project(x, jnp.sqrt(thermal_energy / self._mass(x)).astype(x.dtype) * noise)

    def drift(
        self, x: AtomVectors, velocity: AtomVectors, time: Scalar | float, y: BeadVectors
    ) -> tuple[Array, Array, Array]:
        """A straight line, and a retraction that takes away what round-off gathers."""
        return self.retract(x + time * velocity, y), jnp.asarray(velocity), jnp.asarray(True)

    def kinetic_energy(self, velocity: AtomVectors) -> Scalar:
        """½ Σ m v², kJ/mol."""
        return 0.5 * jnp.sum(self._mass(velocity) * velocity**2)

    def kinetic_differences(self, velocity: AtomVectors, new_velocity: AtomVectors) -> Array:
        """½ m (w − v)(w + v) of every coordinate, kJ/mol."""
        difference = (new_velocity - velocity) * (new_velocity + velocity)
        return cast(Array, 0.5 * self._mass(velocity) * difference).ravel()

    def log_volume(self, x: AtomVectors) -> Scalar:
        """Zero: the Gram determinant is the same everywhere."""
        return jnp.zeros((), x.dtype)

    def _mass(self, like) -> Array:
        return self.masses.astype(like.dtype)[:, None]

"""Where a sampler moves: the exact fibre, or all of space for the soft posterior."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..mapping.base import AbstractFibre
from ..posterior import Posterior
from ..typing import Array, AtomScalars, AtomVectors, BeadVectors, PRNGKeyArray, Scalar


class Geometry(eqx.Module):
    """Configuration space of a posterior with masses: projections, retraction, thermal velocities.

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

    def project(self, velocity: AtomVectors) -> Array:
        """Component of ``velocity`` that keeps the beads where they are."""
        return jnp.asarray(velocity if self.fibre is None else self.fibre.tangent(velocity))

    def retract(self, x: AtomVectors, y: BeadVectors) -> Array:
        """Nearest allowed position to ``x``."""
        return jnp.asarray(x if self.fibre is None else self.fibre.retract(x, y))

    def acceleration(self, gradient: AtomVectors) -> Array:
        """−m⁻¹ ∇U (nm/ps²), not projected."""
        return jnp.asarray(-gradient / self._mass(gradient))

    def thermal_velocities(self, key: PRNGKeyArray, thermal_energy: Scalar | float, like: AtomVectors) -> Array:
        """Maxwell-Boltzmann velocities (nm/ps) at ``thermal_energy`` kT (kJ/mol), shape and dtype of ``like``.

        The projection of a Gaussian of covariance kT m⁻¹, orthogonal in the mass metric, has the
        Maxwell-Boltzmann law of the constrained system exactly.
        """
        noise = jax.random.normal(key, like.shape, like.dtype)
        return self.project(jnp.sqrt(thermal_energy / self._mass(like)).astype(like.dtype) * noise)

    def kinetic_energy(self, velocity: AtomVectors) -> Scalar:
        """½ Σ m v², kJ/mol."""
        return 0.5 * jnp.sum(self._mass(velocity) * velocity**2)

    def _mass(self, like) -> Array:
        return self.masses.astype(like.dtype)[:, None]

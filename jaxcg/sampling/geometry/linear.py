"""The fibre of a linear map with one mass per atom, or all of space for the soft posterior."""

import equinox as eqx
import jax.numpy as jnp

from ...mapping.base import AbstractFibre
from ...posterior import Posterior
from ...typing import Array, AtomScalars, AtomVectors, BeadArray, Scalar
from ._diagonal import AbstractDiagonalGeometry, sampler_masses


class LinearGeometry(AbstractDiagonalGeometry):
    """Configuration space of a posterior with a linear map: projections, retraction, thermal velocities.

    On the exact fibre velocities lie in the null space of the map, orthogonally in the mass metric, and positions are
    brought back to M(x) = y. The soft posterior is not constrained, whatever its map, and both do nothing.

    Arguments:
        posterior: decides which of the two it is.
        masses: (atoms,) positive masses, amu; any will do for sampling, they change efficiency only.

    Raises:
        ValueError: masses that do not fit, or a posterior with curved constraints.
    """

    masses: Array
    fibre: AbstractFibre | None
    dimension: int = eqx.field(static=True)

    def __init__(self, posterior: Posterior, masses: AtomScalars):
        masses = sampler_masses(masses, posterior.mapping.n_atoms)
        if not posterior.linear:
            raise ValueError("LinearGeometry: rigid bonds or a nonlinear map are held by ConstrainedGeometry.")
        mapping = posterior.linear_map("LinearGeometry") if posterior.exact else None
        self.masses = jnp.asarray(masses, dtype=posterior.y.dtype)
        self.fibre = None if mapping is None else mapping.fibre(masses)
        self.dimension = 3 * posterior.mapping.n_atoms if mapping is None else mapping.nullity

    def retract(self, x: AtomVectors, y: BeadArray) -> Array:
        """Nearest allowed position to ``x``."""
        return jnp.asarray(x if self.fibre is None else self.fibre.retract(x, y))

    def project(self, x: AtomVectors, velocity: AtomVectors) -> Array:
        """Component of ``velocity`` that keeps the beads where they are, the same at every ``x``."""
        del x
        return jnp.asarray(velocity if self.fibre is None else self.fibre.tangent(velocity))

    def drift(
        self, x: AtomVectors, velocity: AtomVectors, time: Scalar | float, y: BeadArray
    ) -> tuple[Array, Array, Array]:
        """A straight line, and a retraction that takes away what round-off gathers."""
        return self.retract(x + time * velocity, y), jnp.asarray(velocity), jnp.asarray(True)

    def log_volume(self, x: AtomVectors) -> Scalar:
        """Zero: the Gram determinant is the same everywhere."""
        return jnp.zeros((), x.dtype)

"""The fibre of a linear map, or all of space, with a mass matrix that is dense within blocks of atoms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...mapping.base import AbstractFibre, AbstractLinearMap
from ...mapping.information import null_space
from ...posterior import Posterior
from ...typing import Array, AtomVectors, BeadVectors, PRNGKeyArray, Scalar
from .atom_blocks import AtomBlocks
from .base import AbstractGeometry


class BlockGeometry(AbstractGeometry):
    """Configuration space of a posterior with a linear map and a mass matrix M that couples the atoms of a block.

    Within a block the tangent space has an orthonormal basis Z, and ZᵀMZ = L Lᵀ. With F = Z L⁻ᵀ and G = Lᵀ Zᵀ a
    tangent velocity is v = F ξ and ξ = G v, its kinetic energy ½|ξ|², the acceleration −F Fᵀ ∇U, and thermal ξ are
    independent with variance kT: all exact, with small batched matrix products. What M says across the fibre is
    without effect.

    Arguments:
        posterior: on its exact fibre positions and velocities are constrained; a soft posterior leaves them free.
        blocks: which atoms M couples.
        matrix: (blocks, 3 × atoms, 3 × atoms) symmetric M of each block, amu; positive on the tangent space. What it
            has in padded places is not used. Any will do for sampling; it changes efficiency only.

    Raises:
        ValueError: a matrix of another shape, one that is not positive on the tangent space, a map that is not linear.
    """

    blocks: AtomBlocks
    fibre: AbstractFibre | None
    inverse: Array
    root: Array
    whitener: Array
    dimension: int = eqx.field(static=True)

    def __init__(self, posterior: Posterior, blocks: AtomBlocks, matrix: Array | np.ndarray):
        if tuple(matrix.shape) != blocks.shape:
            raise ValueError(f"BlockGeometry: matrix has shape {tuple(matrix.shape)}, expected {blocks.shape}.")
        mapping = posterior.mapping
        if posterior.rigid_bonds is not None:
            raise ValueError("BlockGeometry: does not hold rigid bonds; give masses, or leave the bonds to the energy.")
        if not isinstance(mapping, AbstractLinearMap):
            raise ValueError("BlockGeometry: the map is not linear; its tangent space is another at every position.")
        basis = blocks.basis(null_space(mapping) if posterior.exact else None)
        matrix = np.asarray(matrix, np.float64)
        reduced = np.swapaxes(basis, 1, 2) @ (0.5 * (matrix + np.swapaxes(matrix, 1, 2))) @ basis
        real = np.square(basis).sum(axis=1) > 0.5  # which of the padded directions are there
        reduced += np.where(real, 0.0, 1.0)[:, :, None] * np.eye(real.shape[1])
        lowest = np.linalg.eigvalsh(reduced)[:, 0] if np.all(np.isfinite(reduced)) else np.full(len(reduced), np.nan)
        if not np.all(lowest > 0):
            block = int(np.flatnonzero(~(lowest > 0))[0])
            raise ValueError(
                f"BlockGeometry: the mass matrix of block {block} has the eigenvalue {lowest[block]:.3g} on the "
                "tangent space; it must be positive there."
            )
        lower = np.linalg.cholesky(reduced)
        root = np.swapaxes(np.linalg.solve(lower, np.swapaxes(basis, 1, 2)), 1, 2)
        dtype = posterior.y.dtype
        self.blocks = blocks
        self.fibre = mapping.fibre() if posterior.exact else None
        self.root = jnp.asarray(root, dtype)
        self.whitener = jnp.asarray(np.swapaxes(basis @ lower, 1, 2), dtype)
        self.inverse = jnp.asarray(root @ np.swapaxes(root, 1, 2), dtype)
        self.dimension = int(real.sum())

    def retract(self, x: AtomVectors, y: BeadVectors) -> Array:
        """The allowed position nearest to ``x``, in the plain metric: it only takes round-off away from a path."""
        return jnp.asarray(x if self.fibre is None else self.fibre.retract(x, y))

    def project(self, x: AtomVectors, velocity: AtomVectors) -> Array:
        """The tangent component, orthogonally in the plain metric: M is defined on tangent vectors alone."""
        del x
        return jnp.asarray(velocity if self.fibre is None else self.fibre.tangent(velocity))

    def acceleration(self, gradient: AtomVectors) -> Array:
        """−Z (ZᵀMZ)⁻¹ Zᵀ ∇U (nm/ps²), tangent."""
        return -self.blocks.join(_product(self.inverse, self.blocks.split(gradient)))

    def thermal_velocities(self, key: PRNGKeyArray, thermal_energy: Scalar | float, x: AtomVectors) -> Array:
        """Maxwell-Boltzmann velocities (nm/ps) at ``thermal_energy`` kT (kJ/mol): covariance kT Z (ZᵀMZ)⁻¹ Zᵀ."""
        noise = jax.random.normal(key, self.root.shape[::2], x.dtype)
        return self.blocks.join(_product(self.root, jnp.sqrt(thermal_energy).astype(x.dtype) * noise))

    def drift(
        self, x: AtomVectors, velocity: AtomVectors, time: Scalar | float, y: BeadVectors
    ) -> tuple[Array, Array, Array]:
        """A straight line, and a retraction that takes away what round-off gathers."""
        return self.retract(x + time * velocity, y), jnp.asarray(velocity), jnp.asarray(True)

    def kinetic_energy(self, velocity: AtomVectors) -> Scalar:
        """½ |G v|², kJ/mol."""
        return 0.5 * jnp.sum(self.whiten(velocity) ** 2)

    def kinetic_differences(self, velocity: AtomVectors, new_velocity: AtomVectors) -> Array:
        """½ G(w − v) · G(w + v), direction by direction, kJ/mol."""
        difference, total = self.whiten(new_velocity - velocity), self.whiten(new_velocity + velocity)
        return (0.5 * difference * total).ravel()

    def log_volume(self, x: AtomVectors) -> Scalar:
        """Zero: the Gram determinant is the same everywhere."""
        return jnp.zeros((), x.dtype)

    def whiten(self, velocity: AtomVectors) -> Array:
        """ξ = G v of a tangent vector, (blocks, directions): vᵀMv = |ξ|²; zero where padded."""
        return _product(self.whitener, self.blocks.split(velocity))


def _product(matrices, vectors):
    """Of every block; in the dtype of the vectors, with full precision on any device."""
    return jnp.einsum("bij,bj->bi", matrices.astype(vectors.dtype), vectors, precision=lax.Precision.HIGHEST)

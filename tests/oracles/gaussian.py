"""A quadratic energy and the closed form of its posterior on the fibre of a linear map."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT


class Quadratic(AbstractEnergy):
    """U = ½ (x − c)ᵀ H (x − c) + constant over the flattened coordinates."""

    hessian: Array
    centre: Array
    constant: float = eqx.field(default=0.0)

    def __call__(self, x):
        d = x.ravel() - self.centre.astype(x.dtype)
        return 0.5 * d @ jnp.matmul(self.hessian.astype(x.dtype), d, precision="highest") + jnp.asarray(
            self.constant, x.dtype
        )


class Gaussian:
    """A Gaussian problem with overlapping beads: ``posterior``, its exact mean and covariance, a basis of the fibre."""

    def __init__(self, n_atoms=8, seed=0, noise=None, dtype=np.float32, stiffness=(20.0, 2000.0), temperature=300.0):
        rng = np.random.default_rng(seed)
        # Overlapping beads, an atom in no bead, uneven weights.
        groups = [[0, 1, 2], [2, 3], [3, 4, 5]] if n_atoms >= 7 else [[0, 1], [1, 2]]
        bead = np.repeat(np.arange(len(groups)), [len(g) for g in groups])
        atom = np.concatenate(groups)
        weight = rng.uniform(0.5, 2, len(atom))
        weight /= np.bincount(bead, weight)[bead]
        self.mapping = LinearMap.from_weights(bead, atom, weight, len(groups), n_atoms)
        size = 3 * n_atoms
        axes, _ = np.linalg.qr(rng.normal(size=(size, size)))
        spectrum = np.geomspace(*stiffness, size)
        # One digit lost to rounding here would show: the closed form uses what the energy holds.
        self.hessian = ((axes * spectrum) @ axes.T).astype(dtype).astype(np.float64)
        self.hessian = 0.5 * (self.hessian + self.hessian.T)
        self.centre = rng.normal(scale=0.3, size=size)
        self.matrix = np.kron(self.mapping.matrix().toarray(), np.eye(3))
        self.y = (self.matrix @ rng.normal(scale=0.3, size=size)).reshape(-1, 3)
        self.noise, self.kT = noise, GAS_CONSTANT * temperature
        self.masses = rng.uniform(1, 16, n_atoms)
        energy = Quadratic(jnp.asarray(self.hessian, dtype), jnp.asarray(self.centre, dtype))
        self.posterior = Posterior(energy, self.mapping, jnp.asarray(self.y, dtype), temperature, noise)
        # p(x|y) for a soft likelihood is the Gaussian product; for an exact one the conditional (noise² → 0).
        inverse = np.linalg.inv(self.hessian)
        gram = self.matrix @ inverse @ self.matrix.T
        if noise is not None:
            gram = gram + noise**2 / self.kT * np.eye(len(gram))
        gain = inverse @ self.matrix.T @ np.linalg.inv(gram)
        self.mean = self.centre + gain @ (self.y.ravel() - self.matrix @ self.centre)
        self.covariance = self.kT * (inverse - gain @ self.matrix @ inverse)
        if noise is None:
            _, singular, right = np.linalg.svd(self.matrix)
            self.basis = right[len(singular) :].T
        else:
            self.basis = np.eye(size)
        self.dimension = self.basis.shape[1]

    @property
    def mode(self):
        return self.mean.reshape(-1, 3)

    def exact_draws(self, count, seed=0, dtype=None):
        """Independent draws of the exact posterior, (count, atoms, 3)."""
        reduced = self.basis.T @ self.covariance @ self.basis
        noise = np.random.default_rng(seed).normal(size=(count, self.dimension))
        x = self.mean + noise @ np.linalg.cholesky(reduced).T @ self.basis.T
        return x.reshape(count, -1, 3).astype(dtype or self.posterior.y.dtype)

    def whiten(self, x):
        """Coordinates in which the exact posterior is a standard normal: (..., atoms, 3) → (..., dimension)."""
        reduced = self.basis.T @ self.covariance @ self.basis
        flat = np.asarray(x, dtype=np.float64).reshape(*x.shape[:-2], -1) - self.mean
        return flat @ self.basis @ np.linalg.inv(np.linalg.cholesky(reduced)).T

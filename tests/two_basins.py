"""Two basins of one fibre, a barrier of 15 kT between them, and the weight of one of them by quadrature."""

import jax.numpy as jnp
import numpy as np

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

KT = GAS_CONSTANT * 300.0


class Barrier(AbstractEnergy):
    """Double well with a tilt along the distance of two of three atoms in x."""

    height: Array
    tilt: Array

    def __call__(self, x):
        d = x[0, 0] - x[1, 0]
        return self.height.astype(x.dtype) * ((d / 0.1) ** 2 - 1) ** 2 + self.tilt.astype(x.dtype) * d


class Springs(AbstractEnergy):
    """Harmonic in everything but the distance of the first two atoms in x."""

    stiffness: Array

    def __call__(self, x):
        across = jnp.sum((x[0, 1:] - x[1, 1:]) ** 2)
        return 0.5 * self.stiffness.astype(x.dtype) * (across + jnp.sum((x[2] - 0.5 * (x[0] + x[1])) ** 2))


def two_basins(dtype=np.float32, height=15 * KT):
    """Posterior on the fibre of one bead, and a start in the lighter basin."""
    energy = Barrier(jnp.asarray(height, dtype), jnp.asarray(5 * KT, dtype)) + Springs(jnp.asarray(1000.0, dtype))
    mapping = LinearMap.center_of_mass([[0, 1, 2]], np.ones(3))
    start = np.zeros((3, 3), dtype)
    start[0, 0], start[1, 0] = 0.05, -0.05
    return Posterior(energy, mapping, jnp.zeros((1, 3), dtype), 300.0), start


def weight_of_start(height=15 * KT):
    """Probability of d > 0, the basin of the start: the other coordinates do not depend on d."""
    d = np.linspace(-0.25, 0.25, 200001)
    density = np.exp(-(height * ((d / 0.1) ** 2 - 1) ** 2 + 5 * KT * d) / KT)
    return density[d > 0].sum() / density.sum()


def in_start(position):
    """Whether configurations (..., 3, 3) lie in the basin of the start."""
    return np.asarray(position[..., 0, 0] - position[..., 1, 0] > 0)

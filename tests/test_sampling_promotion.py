"""Kernels in float32 beside enabled float64, without implicit promotions: traced only, nothing is compiled."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap, RigidBonds
from jaxcg.posterior import Posterior
from jaxcg.sampling import HMC, GeneralizedHMC, Ladder, Langevin, ReplicaExchange
from jaxcg.typing import Array

MASSES = np.array([1.0, 3.0, 2.0], np.float32)
X = np.array([[0.1, 0, 0], [0, 0, 0], [0, 0.1, 0]], np.float32)


class Well(AbstractEnergy):
    """Harmonic."""

    stiffness: Array

    def __call__(self, x):
        return self.stiffness * jnp.sum(x**2)


def test_nothing_is_promoted_implicitly():
    mapping = LinearMap.center_of_mass([(0, 1, 2)], MASSES)
    y = np.average(X, axis=0, weights=MASSES).astype(np.float32)[None]
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        well = Well(jnp.asarray(500.0, jnp.float32))
        flat = Posterior(well, mapping, jnp.asarray(y))
        curved = Posterior(well, mapping, jnp.asarray(y), rigid_bonds=RigidBonds.at([[0, 1]], X))
        kernels = [kind(p, MASSES) for p in (flat, curved) for kind in (HMC, GeneralizedHMC, Langevin)]
        cases = [(kernel, X) for kernel in kernels]
        cases.append((ReplicaExchange(HMC(flat, MASSES), Ladder([300.0, 400.0])), np.stack([[X, X]])))
        for kernel, x in cases:
            state = jax.eval_shape(kernel.init, jax.random.key(0), jnp.asarray(x))
            after = jax.eval_shape(kernel.step, jax.random.key(0), state)[0]
            assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)

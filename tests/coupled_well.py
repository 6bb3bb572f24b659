"""Trajectories in a double well with friction that depends on the position: data for its extraction."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcg.dynamics import FrictionTerm, PositionDependentGLE, SplineProfile
from jaxcg.energy.base import AbstractEnergy
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT
TABLE = np.linspace(-2, 2, 41)
SPACING = 0.02


class Well(AbstractEnergy):
    def __call__(self, x):
        return jnp.sum((x**2 - 1) ** 2 + 0.3 * x)


def coupling(x):
    return 0.5 + 0.35 * (1 + np.tanh(2 * x))


def simulated(kernel, profile, trajectories=256, frames=4000):
    """Positions and velocities, (trajectories, frames), one frame of two steps."""
    term = FrictionTerm(kernel, SplineProfile(TABLE, profile(TABLE)))
    model = PositionDependentGLE(Well(), term, 1.0, time_step=SPACING / 2, temperature=TEMPERATURE)

    @jax.jit
    def go(state):
        def frame(state, i):
            for j in range(2):
                state, _ = model.step(jax.random.fold_in(jax.random.key(1), 2 * i + j), state)
            return state, (state.position, state.velocity)

        return jax.lax.scan(frame, state, jnp.arange(frames + 500))[1]

    x, v = go(model.init(jax.random.key(0), jnp.linspace(-1.3, 1.3, trajectories)))
    return x[500:].T, v[500:].T

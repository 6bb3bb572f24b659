"""Gradients through trajectories: right, with the noise of the forward pass, in memory that grows like a root."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import GLE, PronyKernel, rollout
from jaxcg.energy.base import AbstractEnergy
from jaxcg.run import run
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

KEY = jax.random.key(3)


class DoubleWell(AbstractEnergy):
    height: Array

    def __call__(self, x):
        return self.height * jnp.sum((x**2 - 1) ** 2)


def gle(height=1.0, strengths=(2.0, 5.0), rates=(1.0, 9.0), mass=1.5, temperature=1 / GAS_CONSTANT):
    kernel = PronyKernel(jnp.asarray(strengths), jnp.asarray(rates))
    return GLE(DoubleWell(jnp.asarray(height)), kernel, mass, time_step=0.05, temperature=temperature)


@pytest.mark.parametrize(
    ("every", "segment"),
    [(2, None), (2, 8), (12, 5)],  # whole segments, a shorter last one, several between observations
)
def test_it_is_the_trajectory_of_a_run(x64, every, segment):
    dynamics = gle()
    state = dynamics.init(jax.random.key(0), jnp.ones(3))
    expected = run(dynamics, state, KEY, 36, every=every, chunk=36, observe=_position)
    made = jax.jit(lambda state: rollout(dynamics, state, KEY, 36, every=every, segment=segment))(state)
    np.testing.assert_allclose(made.observations, expected.observations, rtol=1e-10)
    np.testing.assert_allclose(made.state.auxiliaries, expected.state.auxiliaries, rtol=1e-9)


def test_gradients_are_those_of_finite_differences(x64):
    start = {
        "height": 1.0,
        "strengths": jnp.array([2.0, 5.0]),
        "rates": jnp.array([1.0, 9.0]),
        "mass": 1.5,
        "temperature": 1 / GAS_CONSTANT,
        "x": jnp.array([0.9, -1.2]),
    }
    flat, unravel = jax.flatten_util.ravel_pytree(start)

    @jax.jit
    def loss(flat):
        values = unravel(flat)
        x = values.pop("x")
        dynamics = gle(**values)
        made = rollout(dynamics, dynamics.init(jax.random.key(0), x), KEY, 23, every=1, segment=5)
        return jnp.mean(made.observations**2) + jnp.sum(made.state.velocity * made.state.auxiliaries)

    gradient = jax.jit(jax.grad(loss))(flat)
    assert np.all(np.abs(gradient) > 1e-8)
    steps = 1e-5 * np.maximum(np.abs(flat), 0.1)
    for i, h in enumerate(steps):
        change = (loss(flat.at[i].add(h)) - loss(flat.at[i].add(-h))) / (2 * h)
        assert float(gradient[i]) == pytest.approx(float(change), rel=1e-6, abs=1e-9)


@pytest.mark.slow
def test_memory_of_a_gradient_grows_like_the_root_of_the_length():
    def bytes_of(steps, segment=None):
        def loss(height, x):
            dynamics = gle(height)
            state = dynamics.init(jax.random.key(0), x)
            return jnp.sum(rollout(dynamics, state, KEY, steps, every=steps, segment=segment).observations)

        compiled = jax.jit(jax.grad(loss)).lower(jnp.ones(()), jnp.ones(1000)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    short, long = bytes_of(100), bytes_of(1600)
    assert long < 5 * short  # the root of 16, and the lists of steps; all states would be 16 times as much
    assert bytes_of(1600, segment=1600) > 4 * long


def test_wrong_lengths_are_refused():
    dynamics = gle()
    state = dynamics.init(KEY, jnp.ones(1))
    for settings in ({"steps": 10, "every": 3}, {"steps": 0}, {"steps": 10, "segment": 0}):
        with pytest.raises(ValueError, match="rollout: steps"):
            rollout(dynamics, state, KEY, **settings)


def _position(state):
    return state.position

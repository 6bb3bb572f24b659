"""The explicit history: against the embedding, against its own block version, and its limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import (
    DeltaKernel,
    HistoryGLE,
    PronyKernel,
    SumKernel,
    TabulatedKernel,
    history_trajectory,
    longest_window,
)
from jaxcg.energy.base import AbstractEnergy
from jaxcg.run import run
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


class Harmonic(AbstractEnergy):
    stiffness: Array

    def __call__(self, x):
        return 0.5 * self.stiffness * jnp.sum(x**2)


def dynamics(kernel, steps, count, window, energy=None, dt=0.05):
    return HistoryGLE.of(
        energy,
        kernel,
        1.0,
        jax.random.key(0),
        steps=steps,
        shape=(count,),
        time_step=dt,
        temperature=TEMPERATURE,
        window=window,
    )


def test_velocities_and_positions_come_to_equilibrium(x64):
    kernel, count, steps = SumKernel(PronyKernel([2.0], [1.0]), DeltaKernel(0.3)), 400, 1200
    made = dynamics(kernel, steps, count, 256, Harmonic(jnp.asarray(2.0)))
    _, (x, v) = history_trajectory(made, made.init(jax.random.key(1), jnp.zeros(count)), 12, 64)
    assert x.shape == (768, count)
    x, v = x[300:], v[300:]
    for values, exact in ((x, 0.5), (v, 1.0)):
        each = np.mean(np.asarray(values) ** 2, axis=0)
        # Independent copies give the error; the step's own bias is of order (ω dt)² = 0.005.
        assert abs(each.mean() - exact) < 4 * each.std() / np.sqrt(count) + 0.005 * exact


def test_blocks_and_single_steps_are_the_same_trajectory(x64):
    made = dynamics(TabulatedKernel(np.exp(-0.1 * np.arange(60)), 0.05), 96, 3, 64, Harmonic(jnp.asarray(1.0)))
    start = made.init(jax.random.key(1), jnp.ones(3))
    single = run(made, start, jax.random.key(2), 96, chunk=96, observe=_position)
    state, (x, _) = history_trajectory(made, start, 3, 32)
    np.testing.assert_allclose(x, single.observations, atol=1e-10)
    np.testing.assert_allclose(state.past, single.state.past, atol=1e-10)
    # And a trajectory may go on from where another ended.
    middle, (first, _) = history_trajectory(made, start, 1, 32)
    _, (second, _) = history_trajectory(made, middle, 2, 32)
    np.testing.assert_allclose(np.concatenate([first, second]), x, atol=1e-12)


def test_the_window_of_a_kernel(x64):
    assert longest_window(PronyKernel([2.0], [1.0]), 0.05) == pytest.approx(np.log(1e4) / 0.05, abs=1)
    with pytest.raises(ValueError, match="give the window yourself"):
        longest_window(PronyKernel([2.0], [1e-6]), 0.05, longest=1000)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: dynamics(PronyKernel([2.0, -1.9], [1.0, 0.5]), 10, 1, 4), "not positive-real"),
        (lambda: dynamics(PronyKernel([2.0], [1.0]), 10, 1, 0), r"window \(0\)"),
        (lambda: dynamics(PronyKernel([2.0], [1.0]), 10, 1, 4, dt=-1.0), "time step -1 is not positive"),
    ],
)
def test_wrong_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def test_a_window_that_is_no_multiple_of_the_block():
    made = dynamics(PronyKernel([2.0], [1.0]), 20, 1, 10)
    with pytest.raises(ValueError, match="no multiple of the block"):
        history_trajectory(made, made.init(jax.random.key(0), jnp.zeros(1)), 1, 4)


def _position(state):
    return state.position

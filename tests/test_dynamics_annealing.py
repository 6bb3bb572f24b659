"""Changes of temperature: the bath is in equilibrium at once, and nothing is compiled anew."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxcg.dynamics import GLE, Annealing, PassiveKernel, PronyKernel, change_temperature, simulate
from jaxcg.energy.base import AbstractEnergy
from jaxcg.run import run
from jaxcg.units import GAS_CONSTANT

KEY = jax.random.key(0)
COLD, HOT = 200.0, 350.0


def oscillating():
    return PassiveKernel([3.0, 0.0], [[0.0, 2.0], [0.0, 0.0]], np.diag([0.1, 1.0]))


def covariance_after(kernel, *, rescaled: bool, velocities: bool, steps: int = 1):
    """Exact covariance of (√m v, s) of free motion, over kT of the new bath, after a change of temperature."""
    gle = GLE(None, kernel, 4.0, time_step=0.2, temperature=COLD)
    state = gle.init(KEY, jnp.zeros(()))
    flat, unravel = ravel_pytree(state)

    def change(flat):
        new = change_temperature(gle, unravel(flat), HOT, velocities=velocities)[1] if rescaled else unravel(flat)
        return jnp.concatenate([2.0 * new.velocity[None], new.auxiliaries])

    # What the change makes of √m v and s: its Jacobian, with the units of the state taken out.
    jacobian = np.asarray(jax.jacfwd(change)(flat))
    columns = [1, *range(3, len(flat))]
    scale = jacobian[:, columns] @ np.diag([0.5, *np.ones(len(columns) - 1)])
    covariance = COLD / HOT * scale @ scale.T
    new, _ = change_temperature(gle, state, HOT)
    step, noise = np.asarray(new.step_matrix), np.asarray(new.noise_matrix)
    assert float(new.temperature) == HOT
    for _ in range(steps):
        covariance = step @ covariance @ step.T + noise @ noise.T
    return covariance


@pytest.mark.parametrize("kernel", [lambda: PronyKernel([2.0, 30.0], [1.0, 9.0]), oscillating])
def test_the_joint_law_is_stationary_at_once(x64, kernel):
    both = covariance_after(kernel(), rescaled=True, velocities=True)
    np.testing.assert_allclose(both, np.eye(3), atol=1e-12)
    for settings in ({"rescaled": False, "velocities": False}, {"rescaled": True, "velocities": False}):
        other = covariance_after(kernel(), **settings)
        assert np.abs(other - np.eye(3)).max() > 0.01


def test_a_bath_that_is_not_scaled_stays_cold_for_its_memory(x64):
    slow = PronyKernel([0.5], [0.01])
    left = [covariance_after(slow, rescaled=rescaled, velocities=True, steps=50) for rescaled in (True, False)]
    assert np.abs(left[0] - np.eye(2)).max() < 1e-12
    assert np.abs(left[1] - np.eye(2)).max() > 0.2


def test_schedules_change_the_temperature_step_by_step(x64):
    traced = []

    class Well(AbstractEnergy):
        def __call__(self, x):
            traced.append(1)
            return 0.5 * jnp.sum(x**2)

    gle = GLE(Well(), PronyKernel([2.0], [1.0]), 1.0, time_step=0.1, temperature=COLD)
    ramp = Annealing(gle, [0.0, 0.5], [COLD, HOT])
    np.testing.assert_allclose([ramp.temperature_at(n) for n in (0, 2, 5, 9)], [200, 260, 350, 350])
    state = ramp.init(KEY, jnp.ones(3))
    step, stay = jax.jit(lambda d, k, s: d.step(k, s)), jax.jit(change_temperature)
    done = run(ramp, state, KEY, 8, chunk=4)
    dynamics, one = gle, state.gle
    for index in range(8):
        dynamics, one = stay(dynamics, one, ramp.temperature_at(index + 1))
        one, _ = step(dynamics, jax.random.fold_in(KEY, index), one)
    np.testing.assert_allclose(done.state.gle.auxiliaries, one.auxiliaries, rtol=1e-12)
    np.testing.assert_allclose(done.state.position, one.position, rtol=1e-12)
    # Another schedule is the same program.
    count = len(traced)
    other = Annealing(gle, [0.0, 0.7], [HOT, COLD])
    run(other, other.init(KEY, jnp.ones(3)), KEY, 8, chunk=4)
    assert len(traced) <= count + 1  # the start's own force


def test_a_heated_ensemble_arrives_at_its_temperature():
    gle = GLE(None, PronyKernel([20.0], [4.0]), 1.0, time_step=0.1, temperature=COLD)
    done = simulate(Annealing(gle, [0.0, 2.0], [COLD, HOT]), jnp.zeros((2000, 1)), 100, KEY, every=100)
    squares = done.velocities[:, -1, 0] ** 2 / GAS_CONSTANT
    assert abs(squares.mean() - HOT) < 4 * squares.std() / np.sqrt(2000)


@pytest.mark.parametrize(
    ("times", "temperatures", "message"),
    [([0.0, 0.0], [1.0, 2.0], "increasing times"), ([0.0], [1.0, 2.0], "as many"), ([0.0], [-1.0], "not positive")],
)
def test_wrong_schedules_are_refused(times, temperatures, message):
    gle = GLE(None, PronyKernel([2.0], [1.0]), 1.0, time_step=0.1, temperature=COLD)
    with pytest.raises(ValueError, match=message):
        Annealing(gle, times, temperatures)
    with pytest.raises(ValueError, match="not positive"):
        change_temperature(gle, gle.init(KEY, jnp.zeros(1)), 0.0)

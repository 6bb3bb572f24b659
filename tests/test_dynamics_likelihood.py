"""The likelihood of trajectories: against the joint Gaussian by brute force, and parameters found again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from jaxcg.dynamics import GLE, Embedding, PronyKernel, fit_likelihood, log_likelihood
from jaxcg.energy.base import AbstractEnergy
from jaxcg.run import run
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1
DT, MASS, STIFFNESS = 0.3, 2.0, 1.5


class Harmonic(AbstractEnergy):
    stiffness: Array

    def __call__(self, x):
        return 0.5 * self.stiffness * jnp.sum(x**2)


def joint(kernel, frames, start):
    """Mean and covariance of the positions after ``start``: the steps as one linear map of noises."""
    step, noise = (np.asarray(m) for m in Embedding.of(kernel).propagator(MASS, DT))
    size = step.shape[0]
    total = size + size * frames  # first (u, s), then the noise of every step
    x, z = np.zeros(total + 1), np.zeros((size, total + 1))
    x[-1] = start  # the last column holds constants
    z[:, :size] = np.eye(size)
    rows = []
    for n in range(frames):
        z[0] += 0.5 * DT * -STIFFNESS * x / np.sqrt(MASS)
        x = x + 0.5 * DT * z[0] / np.sqrt(MASS)
        z = step @ z
        z[:, size * (n + 1) : size * (n + 2)] += noise
        x = x + 0.5 * DT * z[0] / np.sqrt(MASS)
        z[0] += 0.5 * DT * -STIFFNESS * x / np.sqrt(MASS)
        rows.append(x)
    rows = np.stack(rows)
    return rows[:, -1], rows[:, :-1] @ rows[:, :-1].T


@pytest.mark.slow
def test_the_filter_is_the_joint_gaussian(x64):
    kernel = PronyKernel([2.0, 0.7], [1.0, 6.0])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 9)).cumsum(axis=1) * 0.1
    exact = 0.0
    for trajectory in x:
        mean, covariance = joint(kernel, 8, trajectory[0])
        exact += multivariate_normal(mean, covariance).logpdf(trajectory[1:])
    energy = Harmonic(jnp.asarray(STIFFNESS))
    found = log_likelihood(x, energy, kernel, MASS, time_step=DT, temperature=TEMPERATURE)
    # The joint covariance has a condition number of 10⁶, which costs the brute force its last digits.
    assert float(found) == pytest.approx(exact, rel=1e-8)


def test_gradients_of_the_likelihood(x64):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(2, 12)).cumsum(axis=1) * 0.1)

    @jax.jit
    def value(p):
        kernel = PronyKernel(jnp.exp(p[:1]), jnp.exp(p[1:2]))
        energy = Harmonic(p[2])
        return log_likelihood(x, energy, kernel, jnp.exp(p[3]), time_step=DT, temperature=TEMPERATURE)

    p, h = jnp.asarray([0.5, 0.1, 1.4, 0.6]), 1e-5
    gradient = jax.jit(jax.grad(value))(p)
    for i in range(4):
        change = (value(p.at[i].add(h)) - value(p.at[i].add(-h))) / (2 * h)
        assert gradient[i] == pytest.approx(float(change), rel=1e-6)


@pytest.mark.slow
def test_parameters_of_a_simulation_are_found_within_their_errors(x64):
    truth = {"strength": np.log(2.0), "rate": 0.0, "stiffness": np.log(1.5)}

    def model(p):
        return (
            Harmonic(jnp.exp(p["stiffness"])),
            PronyKernel(jnp.exp(p["strength"])[None], jnp.exp(p["rate"])[None]),
            1.0,
        )

    energy, kernel, mass = model(jax.tree.map(jnp.asarray, truth))
    gle = GLE(energy, kernel, mass, time_step=0.1, temperature=TEMPERATURE)
    state = gle.init(jax.random.key(0), jnp.zeros(10))
    done = run(gle, state, jax.random.key(1), 700, chunk=700, observe=_position)
    x = jnp.asarray(np.asarray(done.observations)[100:].T)
    start = jax.tree.map(lambda v: jnp.asarray(v + 0.4), truth)
    fit = fit_likelihood(x, model, start, time_step=0.1, temperature=TEMPERATURE, steps=40)
    assert fit.history[-1] > fit.history[0]
    for name, exact in truth.items():
        assert abs(fit.parameters[name] - exact) < 4 * fit.errors[name]
        assert fit.errors[name] < 0.25


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="3 or more frames"):
        log_likelihood(jnp.ones((2, 2)), None, PronyKernel([1.0], [1.0]), 1.0, time_step=0.1, temperature=300.0)


def _position(state):
    return state.position

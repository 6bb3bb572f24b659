"""Trajectories of the generalised Langevin equation: exact stationary laws of the step, and statistics of runs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from jaxcg.dynamics import (
    GLE,
    CaldeiraLeggett,
    DeltaKernel,
    DrudeLorentz,
    Embedding,
    PassiveKernel,
    PronyKernel,
    discretize,
    langevin,
)
from jaxcg.energy.base import AbstractEnergy
from jaxcg.run import run
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT


class Harmonic(AbstractEnergy):
    stiffness: Array

    def __call__(self, x):
        return 0.5 * jnp.sum(self.stiffness * x**2)


@eqx.filter_jit
def one_step_matrix(gle, vector):
    """Jacobian of a step in (x, v, s); the dynamics is an argument, so that all of one size share a program."""
    key = jax.random.key(0)

    def step(vector):
        state = gle.init(key, vector[0], vector[1])
        state = eqx.tree_at(lambda s: s.auxiliaries, state, vector[2:])
        new, _ = gle.step(key, state)
        return jnp.concatenate([jnp.stack([new.position, new.velocity]), new.auxiliaries])

    return jax.jacfwd(step)(vector)


def stationary(kernel, dt, mass=1.0, omega=1.0):
    """Covariance of (x, v) under the very step of `GLE`, from its linear map by a Lyapunov equation (kT = 1)."""
    gle = GLE(Harmonic(jnp.asarray(mass * omega**2)), kernel, mass, time_step=dt, temperature=TEMPERATURE)
    count = gle.step_matrix.shape[0] - 1
    size = 2 + count
    # One step is affine in the state: its matrix is the Jacobian, its noise what the noise matrix makes of the rest.
    matrix = np.asarray(one_step_matrix(gle, jnp.ones(size)))
    after = np.eye(size)
    after[0, 1] = 0.5 * dt  # half a drift, then half a kick, come after the noise
    kick = np.eye(size)
    kick[1, 0] = -0.5 * dt * omega**2
    noise = np.zeros((size, size - 1))
    noise[1:] = np.asarray(gle.noise_matrix)
    noise[1] /= np.sqrt(mass)
    noise = kick @ after @ noise
    return solve_discrete_lyapunov(matrix, noise @ noise.T)


def stiff():
    return PronyKernel([2.0, 300.0, 0.05], [1.0, 100.0, 0.02])


@pytest.mark.parametrize("kernel", [lambda: PronyKernel([2.0], [1.0]), stiff, lambda: DeltaKernel(3.0)])
@pytest.mark.parametrize("dt", [0.1, 0.7])
def test_positions_are_exact_and_velocities_low_by_a_known_share(x64, kernel, dt):
    covariance = stationary(kernel(), dt)
    assert covariance[0, 0] == pytest.approx(1.0, abs=1e-12)
    assert covariance[1, 1] == pytest.approx(1 - dt**2 / 4, abs=1e-12)
    assert covariance[0, 1] == pytest.approx(0.0, abs=1e-12)


def test_an_oscillating_kernel_heats_nothing(x64):
    # Where splittings that treat the memory apart are 1.7 to 58 % too hot.
    kernel = PassiveKernel([3.0, 0.0], [[0.0, 20.0], [0.0, 0.0]], np.diag([0.1, 1.0]))
    for dt in (0.01, 0.05, 0.2):
        covariance = stationary(kernel, dt, mass=2.0, omega=1.5)
        assert covariance[0, 0] == pytest.approx(1 / (2 * 1.5**2), rel=1e-11)
        assert 2 * covariance[1, 1] == pytest.approx(1 - (1.5 * dt) ** 2 / 4, rel=1e-11)


@pytest.mark.parametrize("masses", [1.0, "each"])
def test_free_particles_have_the_exact_velocity_correlation(x64, masses):
    # Γ = e^{−t}, m = 1: C_vv = [(s₁+λ) e^{s₁t} − (s₂+λ) e^{s₂t}]/(s₁−s₂), s² + λ s + c = 0.
    count, steps, dt = 4000, 60, 0.1
    masses = np.ones(count) if masses == "each" else masses
    gle = GLE(None, PronyKernel([1.0], [1.0]), masses, time_step=dt, temperature=TEMPERATURE)
    state = gle.init(jax.random.key(1), jnp.zeros(count))
    done = run(gle, state, jax.random.key(2), steps, chunk=steps, observe=_velocity)
    velocities = np.concatenate([np.asarray(state.velocity)[None], done.observations])
    measured = velocities @ velocities[0] / count
    s1, s2 = np.roots([1, 1, 1])
    t = dt * np.arange(steps + 1)
    exact = (((s1 + 1) * np.exp(s1 * t) - (s2 + 1) * np.exp(s2 * t)) / (s1 - s2)).real
    error = np.sqrt((1 + exact**2) / count)
    assert np.abs((measured - exact) / error).max() < 4


def test_the_finite_bath_gives_the_same_trajectory_statistics(x64):
    density, dt, steps, count = DrudeLorentz(1.0, 1.0), 0.1, 60, 3000
    bath = discretize(density, 150, 50.0)
    exact = CaldeiraLeggett(None, bath, 1.0, time_step=dt, temperature=TEMPERATURE)
    state = exact.init(jax.random.key(3), jnp.zeros(count))
    done = run(exact, state, jax.random.key(4), steps, chunk=steps, observe=_velocity)
    total = done.infos.total
    assert np.ptp(total) / count < 1e-3
    velocities = np.concatenate([np.asarray(state.velocity)[None], done.observations])
    measured = velocities @ velocities[0] / count
    s1, s2 = np.roots([1, 1, 1])
    t = dt * np.arange(steps + 1)
    closed = (((s1 + 1) * np.exp(s1 * t) - (s2 + 1) * np.exp(s2 * t)) / (s1 - s2)).real
    # Four standard errors and the error of the finite bath.
    assert np.abs(measured - closed).max() < 4 * np.sqrt(2 / count) + 0.02


def test_coupled_coordinates_and_particles_in_space(x64):
    rng = np.random.default_rng(0)
    kernel = PassiveKernel(rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=(3, 3)))
    gle = GLE(None, kernel, np.array([1.0, 4.0]), time_step=0.3, temperature=TEMPERATURE)
    step, noise = np.asarray(gle.step_matrix), np.asarray(gle.noise_matrix)
    np.testing.assert_allclose(step @ step.T + noise @ noise.T, np.eye(5), atol=1e-12)
    state, _ = start_and_step(gle, jnp.zeros(2))
    assert state.auxiliaries.shape == (3,)
    space = GLE(Harmonic(jnp.asarray(1.0)), stiff(), np.ones(5), time_step=0.01, temperature=TEMPERATURE)
    new, info = start_and_step(space, jnp.ones((5, 3)))
    assert new.auxiliaries.shape == (3, 5, 3)
    assert np.isfinite(info.potential)
    # Many auxiliaries take another path of the same sum.
    many = PronyKernel(np.ones(14), np.linspace(1, 9, 14))
    other = GLE(None, many, 1.0, time_step=0.1, temperature=300.0)
    assert other.step_matrix.shape == (15, 15)
    assert np.isfinite(start_and_step(other, jnp.zeros(4))[0].velocity).all()


@eqx.filter_jit
def start_and_step(gle, position):
    return gle.step(jax.random.key(1), gle.init(jax.random.key(0), position))


def test_langevin_dynamics_is_the_special_case(x64):
    gle = langevin(None, 2.0, time_step=0.1, temperature=TEMPERATURE, collision_rate=3.0)
    np.testing.assert_allclose(gle.step_matrix, [[np.exp(-0.3)]], rtol=1e-12)
    assert Embedding.of(DeltaKernel(6.0)).auxiliaries == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_step": 0.0}, "time step must be positive"),
        ({"temperature": -1.0}, "temperature must be positive"),
        ({"masses": [1.0, 0.0]}, "mass must be positive"),
    ],
)
def test_wrong_input_is_refused(change, message):
    settings = {"masses": 1.0, "time_step": 0.1, "temperature": 300.0} | change
    with pytest.raises(ValueError, match=message):
        GLE(None, PronyKernel([1.0], [1.0]), **settings)


def _velocity(state):
    return state.velocity

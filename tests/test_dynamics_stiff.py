"""A stiff kernel over six decades of time: five exponentials of a peptide, in a double well."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from jaxcg.dynamics import GLE, Embedding, PronyKernel, first_passage_distribution, simulate
from jaxcg.energy import DoubleWell, HarmonicPotential
from jaxcg.units import GAS_CONSTANT

#: The published memory of the end-to-end distance of Ala9: γ in amu/ps, τ in ps, mass in amu, kT in kJ/mol.
FRICTIONS = np.array([2153.047, 11519.97, 42295.49, 236354.6, 57311.56])
TIMES = np.array([6.792e-3, 4.556, 40.34, 399.26, 4965.8])
MASS, THERMAL_ENERGY = 31.34617, 2.494
TEMPERATURE = THERMAL_ENERGY / GAS_CONSTANT


def ala9():
    """Γ = Σ (γ_i/τ_i) e^{−t/τ_i}."""
    return PronyKernel(FRICTIONS / TIMES, 1 / TIMES)


def test_the_kernel_and_its_friction(x64):
    assert float(ala9().total_friction()) == pytest.approx(FRICTIONS.sum(), rel=1e-12)
    step, noise = (np.asarray(m) for m in Embedding.of(ala9()).propagator(MASS, 1e-3))
    np.testing.assert_allclose(step @ step.T + noise @ noise.T, np.eye(6), atol=1e-12)


@pytest.mark.parametrize("dt", [1e-3, 4e-3, 1.6e-2, 6e-2])
def test_the_stationary_law_of_the_step_in_a_harmonic_well(x64, dt):
    # From the linear map of one step, by a Lyapunov equation: ⟨x²⟩ and the auxiliaries' kT to round-off at any step.
    stiffness = 16000.0
    gle = GLE(HarmonicPotential(stiffness), ala9(), MASS, time_step=dt, temperature=TEMPERATURE)
    matrix, noise = one_step(gle)
    # In units of the thermal widths, where the law is the identity but for the velocity.
    covariance = solve_discrete_lyapunov(matrix, noise @ noise.T)
    wanted = np.eye(7)
    wanted[1, 1] = 1 - stiffness / MASS * dt**2 / 4
    # The slowest mode takes 10⁷ steps; round-off adds up over as many.
    np.testing.assert_allclose(covariance, wanted, atol=1e-7)


def one_step(gle):
    """Matrix and noise of a step about the minimum, state (x, v, s) in units of the thermal widths."""
    stiffness = float(gle.energy.stiffness)
    widths = np.sqrt(THERMAL_ENERGY) * np.concatenate([[stiffness**-0.5, MASS**-0.5], np.ones(5)])
    key, dt = jax.random.key(0), float(gle.time_step)

    def step(vector):
        state = gle.init(key, vector[0], vector[1])
        state = eqx.tree_at(lambda s: s.auxiliaries, state, vector[2:])
        new, _ = gle.step(key, state)
        return jnp.concatenate([jnp.stack([new.position, new.velocity]), new.auxiliaries])

    matrix = np.asarray(jax.jacfwd(step)(jnp.zeros(7))) * widths / widths[:, None]
    noise = np.zeros((7, 6))
    noise[1:] = np.sqrt(THERMAL_ENERGY) * np.asarray(gle.noise_matrix)
    noise[1] /= np.sqrt(MASS)
    after, kick = np.eye(7), np.eye(7)
    after[0, 1], kick[1, 0] = 0.5 * dt, -0.5 * dt * stiffness / MASS
    return matrix, kick @ after @ noise / widths[:, None]


@pytest.mark.slow
def test_a_double_well_at_several_time_steps(x64):
    well, count, duration = DoubleWell(5.0, 0.05), 600, 120.0
    grid = np.linspace(-0.12, 0.12, 20001)
    weight = np.exp(-5.0 * ((grid / 0.05) ** 2 - 1) ** 2 / THERMAL_ENERGY)
    width = np.sum(grid**2 * weight) / np.sum(weight)
    means = []
    for number, dt in enumerate((1e-3, 4e-3, 1.6e-2)):
        uniform = np.random.default_rng(number).uniform(size=count)
        starts = np.interp(uniform, np.cumsum(weight) / np.sum(weight), grid)
        gle = GLE(well, ala9(), MASS, time_step=dt, temperature=TEMPERATURE)
        made = simulate(gle, jnp.asarray(starts), round(duration / dt), jax.random.key(number), every=round(0.016 / dt))
        x, v = np.asarray(made.positions), np.asarray(made.velocities)
        # Kinetic energy by the step's law: ⟨U″⟩ dt²/4 below that of equipartition.
        for values, exact, bias in (
            (x**2, width, 0.01 * (dt / 1.6e-2) ** 2),
            (MASS * v**2 / THERMAL_ENERGY, 1.0, 0.04 * (dt / 1.6e-2) ** 2),
        ):
            each = values.mean(axis=1)
            assert abs(each.mean() / exact - 1) < 4 * each.std() / np.sqrt(count) / exact + bias
        squares = np.asarray(made.state.auxiliaries) ** 2 / THERMAL_ENERGY
        assert squares.shape == (count, 5)
        assert np.abs(squares.mean(axis=0) - 1).max() < 4 * np.sqrt(2 / count)
        passage = first_passage_distribution(x, -0.05, 0.05, 0.016)
        means.append((passage.mean, passage.mean_error, passage.completed))
    means = np.array(means)
    assert means[:, 2].min() > 300
    differences = means[1:, 0] - means[0, 0]
    assert (np.abs(differences) < 4 * np.hypot(means[1:, 1], means[0, 1])).all(), means

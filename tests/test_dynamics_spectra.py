"""Velocity spectra, frequency-dependent friction and diffusion: normalisation, exact models, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import (
    GLE,
    DeltaKernel,
    PassiveKernel,
    PronyKernel,
    diffusion_coefficient,
    friction_spectrum,
    linear_correlations,
    model_spectrum,
    simulate,
    velocity_spectrum,
    wavenumbers,
)
from jaxcg.energy import HarmonicPotential
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT
#: Oscillates at about 3/ps.
KERNEL = PassiveKernel([2.0, 0.0], [[0.0, 3.0], [0.0, 0.0]], [[0.8, 0.0], [0.0, 0.8]])
SPACING = 0.1


@pytest.fixture(scope="module")
def free():
    with jax.enable_x64(True):
        gle = GLE(None, KERNEL, 1.0, time_step=SPACING / 2, temperature=TEMPERATURE)
        return simulate(gle, jnp.zeros(64), 8192, jax.random.key(1), every=2)


@pytest.mark.parametrize("stiffness", [0.0, 2.0])
def test_the_models_spectrum_is_the_transform_of_its_correlation(x64, stiffness):
    omega, times = jnp.asarray([0.3, 1.0, 2.5]), jnp.linspace(0, 200, 20001)
    c = linear_correlations(KERNEL, 2.0, times, TEMPERATURE, stiffness or None).velocity
    integrand = c[None] * jnp.cos(omega[:, None] * times)
    direct = 2 / np.pi * jnp.trapezoid(integrand, times, axis=1)
    assert np.allclose(model_spectrum(KERNEL, 2.0, omega, TEMPERATURE, stiffness), direct, rtol=1e-4)
    grid = jnp.linspace(0, 400, 400001)
    spectrum = model_spectrum(KERNEL, 2.0, grid, TEMPERATURE, stiffness)
    assert jnp.trapezoid(spectrum, grid) == pytest.approx(0.5, rel=1e-3)
    at_rest = 0.0 if stiffness else 2 / np.pi / float(KERNEL.total_friction())
    assert float(spectrum[0]) == pytest.approx(at_rest, abs=1e-12)


def test_the_datas_spectrum_is_that_of_its_model(x64, free):
    found = velocity_spectrum(free.velocities, SPACING, segment=1024)
    mean_square = np.mean(free.velocities**2)
    assert np.trapezoid(found.values, found.omega) == pytest.approx(mean_square, rel=0.02)
    # Well below the Nyquist frequency, beyond which is folded back.
    low = (found.omega < 10) & (found.omega > 0)
    exact = np.asarray(model_spectrum(KERNEL, 1.0, jnp.asarray(found.omega[low]), TEMPERATURE))
    deviations = (found.values[low] - exact) / found.error[low]
    assert np.abs(deviations).max() < 4.5
    assert 0.7 < deviations.std() < 1.3


def test_a_line_is_where_it_should_be_and_holds_its_power(x64):
    omega = 7.0
    v = np.sqrt(2) * np.cos(omega * 0.02 * np.arange(8000) + np.arange(4)[:, None])
    found = velocity_spectrum(v, 0.02)
    assert np.trapezoid(found.values, found.omega) == pytest.approx(1.0, rel=1e-3)
    line = abs(found.omega - omega) < 1.5 * found.resolution
    assert np.trapezoid(found.values[line], found.omega[line]) > 0.98
    assert wavenumbers(2 * np.pi / 1e-3) == pytest.approx(33356.41, rel=1e-6)


def test_friction_at_a_frequency(x64):
    omega = jnp.asarray([0.0, 1.0, 4.0])
    assert np.allclose(friction_spectrum(PronyKernel([6.0], [2.0]), omega), 6 * 2 / (4 + omega**2))
    assert np.allclose(friction_spectrum(DeltaKernel(1.5), omega), 1.5)


@pytest.mark.parametrize("method", ["velocities", "positions"])
def test_diffusion_both_ways(x64, free, method):
    friction = float(KERNEL.total_friction())
    found = diffusion_coefficient(
        SPACING, TEMPERATURE, lags=300, plateau=(12.0, 29.0), **{method: getattr(free, method)}
    )
    assert found.error < 0.15 * found.coefficient
    assert abs(found.coefficient - 1 / friction) < 4 * found.error
    assert found.friction == pytest.approx(1 / found.coefficient)
    assert found.friction_error == pytest.approx(found.friction * found.error / found.coefficient)
    # The running integral is that of the exact correlation function.
    exact = linear_correlations(KERNEL, 1.0, jnp.asarray(found.times), TEMPERATURE)
    slope = 0.5 * np.gradient(np.asarray(exact.displacement), SPACING)
    assert np.all(np.abs(found.running - slope)[1:-1] < 4.5 * found.running_error[1:-1] + 1e-3)


def test_what_makes_no_spectrum():
    with pytest.raises(ValueError, match="at least two segments"):
        velocity_spectrum(np.ones(100), 0.1, segment=80)
    with pytest.raises(ValueError, match="matrix-valued"):
        model_spectrum(DeltaKernel(jnp.eye(2)), 1.0, jnp.ones(2), 300.0)


def test_what_makes_no_diffusion_coefficient():
    v = np.ones((10, 300))
    with pytest.raises(ValueError, match="one of the two"):
        diffusion_coefficient(0.1, 300.0, velocities=v, positions=v, lags=10)
    with pytest.raises(ValueError, match="diffusion_coefficient: 10 trajectories of 300 frames are too short"):
        diffusion_coefficient(0.1, 300.0, velocities=v, lags=200)
    with pytest.raises(ValueError, match="no frame between"):
        diffusion_coefficient(0.1, 300.0, velocities=v, lags=20, plateau=(50.0, 60.0))


def test_harmonic_motion_has_the_spectrum_of_its_trap(x64):
    kernel = PronyKernel([8.0], [2.0])
    gle = GLE(HarmonicPotential(4.0), kernel, 1.0, time_step=0.05, temperature=TEMPERATURE)
    data = simulate(gle, jnp.zeros(64), 8192, jax.random.key(2), every=2)
    found = velocity_spectrum(data.velocities[:, 1000:], SPACING, segment=1024)
    some = (found.omega < 6) & (found.omega > 0)
    exact = model_spectrum(kernel, 1.0, jnp.asarray(found.omega[some]), TEMPERATURE, 4.0)
    # The width of the tapers and the time step are felt at the peak.
    assert np.all(np.abs(found.values[some] - exact) < 4.5 * found.error[some] + 0.01 * exact.max())

"""Coloured noise, the fluctuation-dissipation test, rates, and fits of passive kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import jv

from jaxcg.dynamics import (
    BrownianOscillator,
    DeltaKernel,
    PassiveKernel,
    PronyKernel,
    SumKernel,
    TabulatedKernel,
    auxiliary_noise,
    colored_noise,
    fit_passive_kernel,
    fluctuation_dissipation_test,
    is_positive_real,
)
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


def test_noise_has_the_covariance_of_the_kernel_and_the_test_notices_when_not(x64):
    kernel = PronyKernel([2.0], [1.0])
    noise = colored_noise(kernel, jax.random.key(0), 2048, 0.05, TEMPERATURE, shape=(200,))
    found = fluctuation_dissipation_test(noise.T, kernel, 0.05, TEMPERATURE, lags=80)
    assert found.p_value > 0.01
    assert np.abs((found.measured - found.expected) / found.error).max() < 4
    assert fluctuation_dissipation_test(1.05 * noise.T, kernel, 0.05, TEMPERATURE, lags=80).p_value < 1e-6
    other = PronyKernel([2.0], [1.2])
    assert fluctuation_dissipation_test(noise.T, other, 0.05, TEMPERATURE, lags=80).p_value < 1e-6


@pytest.mark.slow
def test_auxiliary_variables_make_the_same_noise(x64):
    kernel = SumKernel(
        PassiveKernel([1.5, 0.0], [[0.0, 2.0], [0.0, 0.0]], np.diag([0.6, 0.9])), PronyKernel([1.0], [0.4])
    )
    make = jax.jit(lambda key: auxiliary_noise(kernel, key, 1000, 0.3, TEMPERATURE, shape=(400,)))
    found = fluctuation_dissipation_test(make(jax.random.key(1)).T, kernel, 0.3, TEMPERATURE, lags=40)
    assert found.p_value > 0.01
    assert np.abs((found.measured - found.expected) / found.error).max() < 4
    white = auxiliary_noise(DeltaKernel(3.0), jax.random.key(0), 2000, 0.1, TEMPERATURE, shape=(50,))
    assert float(jnp.var(white)) == pytest.approx(2 * 3 / 0.1, rel=0.02)


def test_auxiliary_variables_make_the_noise_of_a_matrix(x64):
    kernel = PassiveKernel([[1.5, 0.5], [0.2, 0.8]], [[0.0, 1.2], [0.0, 0.0]], np.diag([0.6, 0.9]))
    noise = np.asarray(auxiliary_noise(kernel, jax.random.key(2), 200, 0.5, TEMPERATURE, shape=(20_000,)))
    assert noise.shape == (200, 20_000, 2)
    for lag in (0, 1, 3):
        each = np.einsum("tni,tnj->nij", noise[lag:], noise[: 200 - lag]) / (200 - lag)
        error = each.std(axis=0) / np.sqrt(len(each))
        assert (np.abs(each.mean(axis=0) - np.asarray(kernel(0.5 * lag))) < 4 * error).all()


def test_friction_adds_white_noise(x64):
    kernel = SumKernel(PronyKernel([2.0], [1.0]), DeltaKernel(3.0))
    noise = colored_noise(kernel, jax.random.key(0), 4000, 0.1, TEMPERATURE, shape=(50,))
    assert float(jnp.var(noise)) == pytest.approx(2 + 2 * 3 / 0.1, rel=0.03)


def test_noise_that_cannot_be_is_refused(x64):
    with pytest.raises(ValueError, match="negative at ω = 0 1/ps"):
        colored_noise(PronyKernel([2.0, -1.9], [1.0, 0.5]), jax.random.key(0), 100, 0.05, TEMPERATURE)
    matrix = PassiveKernel(np.eye(2), np.zeros((2, 2)), np.eye(2))
    with pytest.raises(ValueError, match="matrix-valued"):
        colored_noise(matrix, jax.random.key(0), 100, 0.05, TEMPERATURE)
    with pytest.raises(ValueError, match="at least 20 trajectories"):
        fluctuation_dissipation_test(jnp.ones((3, 100)), PronyKernel([1.0], [1.0]), 0.1, 300.0, lags=10)


def sampled(function, points, spacing):
    return TabulatedKernel(function(np.arange(points) * spacing), spacing)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "duration", "family", "order", "residual"),
    [
        (lambda: PronyKernel([2.0, 1.0, 0.3], [1.0, 10.0, 0.1]), 20.0, "modes", 3, 1e-8),
        (lambda: sampled(BrownianOscillator(2.0, 3.0, 0.5).memory_kernel, 600, 0.02), None, "modes", 2, 1e-6),
        (lambda: PronyKernel([2.0, -0.3], [1.0, 0.5]), 10.0, "modes", 2, 1e-6),
        (lambda: sampled(lambda t: 2 * (jv(0, t) + jv(2, t)) / 2, 200, 0.1), None, "ladder", None, 2e-2),
    ],
)
def test_passive_fits_of_automatic_order(x64, kernel, duration, family, order, residual):
    fit = fit_passive_kernel(kernel(), duration=duration, largest_order=8)
    assert fit.family == family
    assert fit.residual < residual
    assert order is None or fit.order == order
    assert is_positive_real(fit.kernel)


def test_noise_in_the_data_does_not_raise_the_order(x64):
    rng = np.random.default_rng(0)
    t = np.arange(500) * 0.02
    data = TabulatedKernel(2 * np.exp(-t) + np.exp(-10 * t) + 0.02 * rng.normal(size=500), 0.02)
    assert fit_passive_kernel(data).order == 2
    fit = fit_passive_kernel(data, errors=0.02, criterion="aic")
    assert fit.order == 2
    exact = 2 * np.exp(-t) + np.exp(-10 * t)
    assert np.abs(fit.kernel(jnp.asarray(t)) - exact).max() < 0.03


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["held out", "aic"])
def test_a_kernel_that_rings_in_many_tones_is_followed_through_the_noise(x64, criterion):
    # One auxiliary more gains nothing here, and two leave most of the misfit, which is that of the other tones.
    t, noise = np.arange(500) * 0.02, 0.05
    tones = zip(np.linspace(0.4, 0.9, 6), np.linspace(3, 25, 6), strict=True)
    exact = sum(np.exp(-rate * t) * np.cos(frequency * t) for rate, frequency in tones)
    data = TabulatedKernel(exact + noise * np.random.default_rng(0).normal(size=500), 0.02)
    fit = fit_passive_kernel(data, errors=noise, criterion=criterion, families=("modes",), largest_order=14)
    assert 12 <= fit.order <= (13 if criterion == "held out" else 14)  # AIC takes one too many now and then
    assert np.sqrt(np.mean((np.asarray(fit.kernel(jnp.asarray(t))) - exact) ** 2)) < noise


@pytest.mark.slow
def test_the_total_friction_can_be_held(x64):
    # Correlated noise pulls the tail below zero: alone, that makes a kernel without friction.
    t = np.arange(100) * 0.05
    data = TabulatedKernel(4 * np.exp(-2 * t) - 0.03 * (t / 5), 0.05)
    loose = fit_passive_kernel(data)
    assert float(loose.kernel.total_friction()) < 1
    held = fit_passive_kernel(data, friction=1.95, friction_error=0.05)
    assert float(held.kernel.total_friction()) == pytest.approx(1.95, abs=0.06)
    assert held.residual < 0.03
    with pytest.raises(ValueError, match="error of the friction 0 is not positive"):
        fit_passive_kernel(data, friction=1.95, friction_error=0.0)


@pytest.mark.parametrize("seed", range(4))
def test_a_tail_of_noise_gets_no_friction_without_end(x64, seed):
    # A table that has not come to zero: a mode slower than the table by far would fit it as well, with any integral.
    noise = np.convolve(np.random.default_rng(seed).normal(size=120), np.ones(6) / 6, "valid")[:100]
    table = TabulatedKernel(4 * np.exp(-0.1 * np.arange(100)) + 0.05 * noise + 0.08, 0.05)
    fit = fit_passive_kernel(table)
    assert 2 < float(fit.kernel.total_friction()) < 2 + 0.08 * 5 / 0.05 + 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: fit_passive_kernel(PronyKernel([1.0], [1.0])), "give a duration"),
        (lambda: fit_passive_kernel(PronyKernel([1.0], [1.0]), duration=1.0, criterion="aic"), "standard errors"),
        (lambda: fit_passive_kernel(DeltaKernel(np.eye(2)), duration=1.0), "nothing to fit"),
    ],
)
def test_wrong_input_of_fits(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()

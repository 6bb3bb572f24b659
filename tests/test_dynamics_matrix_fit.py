"""Passive kernels of coupled coordinates fitted to tables of matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import (
    GLE,
    DeltaKernel,
    PassiveKernel,
    TabulatedKernel,
    fit_passive_kernel,
    is_positive_real,
    memory_from_velocities,
    simulate,
)
from jaxcg.dynamics.kernels import _modes, matrix_fit
from jaxcg.dynamics.kernels.matrix_fit import MatrixModes, Modes
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


def table(times, parts):
    """Σ C g(t) by its formula: parts of a matrix, a rate, and a frequency."""
    return sum(
        np.asarray(c) * (np.exp(-rate * times) * np.cos(omega * times))[:, None, None] for c, rate, omega in parts
    )


def of_rank(size, rank, seed):
    factor = np.random.default_rng(seed).normal(size=(size, rank))
    return factor @ factor.T


def test_slopes_are_those_of_differences(x64):
    rng = np.random.default_rng(0)
    family = MatrixModes(np.array([1.0, 2.0, 0.5]))
    shapes = np.array([[0.1, 0.0, 0.0], [0.3, 1.0, 0.2]])
    modes = matrix_fit._turned(Modes((rng.normal(size=(3, 3)), rng.normal(size=(3, 2))), shapes, (False, True)))
    numbers, times = matrix_fit._numbers(modes), np.linspace(0, 3, 7)
    assert family.free_parameters(modes) == len(numbers) == 6 + 5 + 1 + 3
    slopes = family._slopes(modes, lambda mode, k: _modes.one_mode(times, mode, k))
    totals = family._slopes(modes, _modes.one_total)
    for i in range(len(numbers)):
        change = 1e-6 * (np.arange(len(numbers)) == i)
        high, low = (matrix_fit._with_numbers(modes, numbers + sign * change) for sign in (1, -1))
        difference = (family.evaluate(times, high) - family.evaluate(times, low)) / 2e-6
        np.testing.assert_allclose(slopes[i], difference, atol=1e-7)
        np.testing.assert_allclose(totals[i], (family.total(high) - family.total(low)) / 2e-6, atol=1e-7)
    # What is fitted is what the kernel does.
    kernel = family.kernel(modes)
    assert kernel.couplings.shape == (family.order(modes), 3) == (3 + 4, 3)
    np.testing.assert_allclose(family.entries(kernel(times)), family.evaluate(times, modes), atol=1e-12)
    np.testing.assert_allclose(family.entries(kernel.total_friction()), family.total(modes), atol=1e-12)


@pytest.mark.parametrize(
    ("size", "parts", "order"),
    [
        (2, [(of_rank(2, 2, 0), 1.0, 0.0), (of_rank(2, 2, 1), 5.0, 0.0)], 4),
        (3, [(of_rank(3, 3, 2), 1.0, 0.0), (of_rank(3, 3, 3), 5.0, 0.0)], 6),
        (2, [(of_rank(2, 2, 4), 1.0, 0.0), (of_rank(2, 1, 5), 0.7, 3.0)], 4),
        (2, [(of_rank(2, 2, 6), 2.0, 9.0), (of_rank(2, 2, 7), 0.7, 3.0)], 8),
    ],
)
def test_modes_are_found_exactly(x64, size, parts, order):
    times = 0.03 * np.arange(160)
    exact = table(times, parts)
    fit = fit_passive_kernel(TabulatedKernel(exact, 0.03), points=160)
    assert isinstance(fit.kernel, PassiveKernel)
    assert fit.kernel.coordinates == size
    assert (fit.family, fit.order) == ("modes", order)
    assert fit.kernel.couplings.shape == (order, size)
    np.testing.assert_allclose(fit.kernel(times), exact, atol=1e-6 * np.abs(exact).max())
    assert is_positive_real(fit.kernel)
    GLE(None, fit.kernel, 1.0, time_step=0.01, temperature=300.0)


def test_units_of_single_coordinates_do_not_matter(x64):
    times, scale = 0.03 * np.arange(160), np.array([1.0, 1e-2])
    exact = table(times, [(of_rank(2, 2, 0), 1.0, 0.0), (of_rank(2, 2, 1), 5.0, 0.0)]) * np.outer(scale, scale)
    fit = fit_passive_kernel(TabulatedKernel(exact, 0.03), points=160)
    assert fit.order == 4
    np.testing.assert_allclose(fit.kernel(times) / np.outer(scale, scale), exact / np.outer(scale, scale), atol=1e-6)


def test_baths_that_are_coupled_among_each_other_are_approached(x64):
    # Residues of such a kernel are not positive: no finite sum of these modes has it.
    couplings = np.array([[2.0, 0.5], [-0.5, 1.5], [0.0, 0.0], [0.0, 0.0]])
    skew = np.zeros((4, 4))
    skew[:2, 2:] = [[2.0, 0.8], [-0.5, 4.0]]
    kernel = PassiveKernel(couplings, skew, np.diag(np.sqrt([0.5, 2.0, 1.0, 0.4])))
    fit = fit_passive_kernel(kernel, duration=5.0, points=160, largest_order=6, tolerance=0.01)
    assert fit.residual < 0.05
    assert is_positive_real(fit.kernel)


@pytest.mark.parametrize("criterion", ["aic", "held out"])
def test_noise_in_the_table_does_not_raise_the_order(x64, criterion):
    rng = np.random.default_rng(1)
    times, error = 0.05 * np.arange(120), 0.05
    exact = table(times, [(np.array([[4.0, 2.0], [2.0, 1.0]]), 1.0, 0.0), (np.eye(2) * 3, 8.0, 0.0)])
    noise = error * rng.normal(size=exact.shape)
    fit = fit_passive_kernel(TabulatedKernel(exact + noise, 0.05), errors=error, criterion=criterion, points=80)
    # The first mode has one direction, the second two.
    assert 3 <= fit.order <= (4 if criterion == "aic" else 6)
    assert np.sqrt(np.mean((np.asarray(fit.kernel(times)) - exact) ** 2)) < 0.5 * error
    assert is_positive_real(fit.kernel)


def test_the_total_friction_can_be_held(x64):
    times = 0.05 * np.arange(100)
    strength = np.array([[4.0, 1.0], [1.0, 2.0]])
    drift = TabulatedKernel(table(times, [(strength, 2.0, 0.0)]) - 0.02 * np.eye(2) * times[:, None, None] / 5, 0.05)
    few = {"errors": 0.02, "points": 50, "largest_order": 2}
    loose = fit_passive_kernel(drift, **few)
    assert np.abs(np.asarray(loose.kernel.total_friction()) - strength / 2).max() > 0.02
    for options in ({"friction_error": 0.001}, {}):
        held = fit_passive_kernel(drift, friction=strength / 2, **few, **options)
        np.testing.assert_allclose(held.kernel.total_friction(), strength / 2, atol=0.004 if options else 0.03)


@pytest.mark.slow
def test_from_a_trajectory_of_coupled_coordinates_to_their_kernel(x64):
    slow, fast = np.array([[4.0, 1.5], [1.5, 1.0]]), np.diag([1.0, 6.0])
    spacing, lags = 0.05, 60
    factors = tuple(np.linalg.cholesky(c) for c in (slow, fast))
    shapes = np.array([[np.log(1.5), 0.0, 0.0], [np.log(4.0), 0.0, 0.0]])
    true = MatrixModes(np.ones(2)).kernel(Modes(factors, shapes, (False, False)))
    gle = GLE(None, true, jnp.ones(2), time_step=spacing, temperature=TEMPERATURE)
    done = simulate(gle, jnp.zeros((40, 2)), 1500, jax.random.key(0))
    velocities = np.asarray(done.velocities)
    memory = memory_from_velocities(velocities, 1.0, spacing, lags=lags, blocks=40, resamples=40)
    times = spacing * np.arange(len(memory.kernel_error))
    last = memory.extracted.integral[-1], memory.integral_error[-1]
    fit = fit_passive_kernel(
        memory.extracted.kernel, errors=memory.kernel_error, friction=last[0], friction_error=last[1], points=40
    )
    exact = table(times, [(slow, 1.5, 0.0), (fast, 4.0, 0.0)])
    np.testing.assert_allclose(true(times), exact, atol=1e-12)
    off = np.asarray(fit.kernel(times)) - exact
    # The first frames of an extraction have a discretisation error of the order of (rate · spacing)².
    assert (np.abs(off)[1:] < 4 * memory.kernel_error[1:] + 0.01 * exact[0].max()).all()
    raw = np.asarray(memory.extracted.kernel.values) - exact
    assert np.sqrt(np.mean(off**2)) < 0.8 * np.sqrt(np.mean(raw**2))
    total = slow / 1.5 + fast / 4.0
    assert (np.abs(np.asarray(fit.kernel.total_friction()) - total) < 4 * last[1] + 0.02 * total.max()).all()
    assert is_positive_real(fit.kernel)


def test_what_cannot_be_fitted_is_refused(x64):
    times = 0.1 * np.arange(20)
    good = table(times, [(np.eye(2), 1.0, 0.0)])
    turning = good.copy()
    turning[:, 0, 1] += 0.1 * np.exp(-times)
    for kernel, options, message in (
        (DeltaKernel(np.eye(2)), {"duration": 1.0}, "nothing to fit"),
        (TabulatedKernel(turning, 0.1), {}, "antisymmetric part of the kernel is 0.05 of it.*give errors"),
        (TabulatedKernel(turning, 0.1), {"errors": 1e-3}, "of its standard errors"),
        (TabulatedKernel(good, 0.1), {"families": ("ladder",)}, "there are modes only"),
        (TabulatedKernel(good, 0.1), {"friction": 1.0}, r"give \(2, 2\)"),
        (TabulatedKernel(good, 0.1), {"friction": np.eye(2), "friction_error": 0.0}, "error of the friction 0 is not"),
        (TabulatedKernel(good, 0.1), {"errors": np.ones((2, 2))}, r"errors of shape \(2, 2\)"),
        (TabulatedKernel(good, 0.1), {"criterion": "aic"}, "needs the standard errors"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_passive_kernel(kernel, **options)
    # Noise is not refused.
    assert fit_passive_kernel(TabulatedKernel(turning, 0.1), errors=0.1).kernel.coordinates == 2

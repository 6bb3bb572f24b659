"""Memory kernels recovered: noise-free, from sampled trajectories, coupled coordinates, and the frames' spacing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import linear_gle

from jaxcg.dynamics import (
    GLE,
    Correlation,
    Embedding,
    PassiveKernel,
    PronyKernel,
    correlation,
    extract_kernel,
    mean_square_displacement,
)
from jaxcg.dynamics.extraction.volterra import solve_convolution
from jaxcg.run import run
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


def velocity_correlation(t, c=2.0, rate=1.0):
    """Of a free particle of unit mass with Γ = c e^{−λt} at kT = 1."""
    first, second = np.roots([1, rate, c])
    return (((first + rate) * np.exp(first * t) - (second + rate) * np.exp(second * t)) / (first - second)).real


# Published for midpoints 3.5e-3 and 2.2e-4, for the second kind 1.3e-2 and 8.4e-4 at these spacings.
@pytest.mark.parametrize(
    ("method", "coarse", "fine"),
    [
        ("integral", 5e-3, 8e-4),
        ("first kind", 1.1e-3, 7e-5),
        ("second kind", 8e-3, 5e-4),
        ("fourier", 2e-2, 2.2e-3),
    ],
)
def test_noise_free_correlation_functions_give_the_kernel_back(x64, method, coarse, fine):
    for spacing, bound in ((0.1, coarse), (0.025, fine)):
        t = np.arange(0, 5 + 2 * spacing, spacing)
        kernel, times, integral = extract_kernel(velocity_correlation(t), None, 1.0, spacing, method=method)
        np.testing.assert_allclose(integral, 2 * (1 - np.exp(-times)), atol=5 * bound)
        exact = 2 * np.exp(-np.arange(len(kernel.values)) * spacing)
        assert np.linalg.norm(kernel.values - exact) / np.linalg.norm(exact) < bound


def test_with_a_mean_force_the_kernel_is_the_same(x64):
    # Harmonic well: C_xx and C_vv of the exact joint dynamics of (x, v, s).
    omega2, spacing = 4.0, 0.02
    embedding = Embedding.of(PronyKernel([2.0], [1.0]))
    a = np.array(embedding.generator(1.0))
    drift = np.zeros((3, 3))
    drift[0, 1], drift[1, 0] = -1.0, omega2
    drift[1:, 1:] += a
    from scipy.linalg import expm

    covariance = np.diag([1 / omega2, 1.0, 1.0])
    step, now, vv, fv = expm(-drift * spacing), covariance, [], []
    for _ in range(300):
        vv.append(now[1, 1])
        fv.append(-omega2 * now[0, 1])
        now = step @ now
    kernel = extract_kernel(np.array(vv), np.array(fv), 1.0, spacing).kernel
    exact = 2 * np.exp(-np.arange(len(kernel.values)) * spacing)
    assert np.linalg.norm(kernel.values - exact) / np.linalg.norm(exact) < 1e-3


def test_the_default_does_not_hang_on_the_spacing_of_frames(x64):
    # As of a Lennard-Jones liquid: Γ(0) = 272, ∫Γ = 22.8, frames so coarse that differentiating twice loses it.
    exact = 272.4 / 11.95
    for spacing, error in ((0.008, 1e-4), (0.032, 3e-4), (0.064, 3e-3)):
        c = velocity_correlation(np.arange(0, 2.5, spacing), c=272.4, rate=11.95)
        assert extract_kernel(c, None, 1.0, spacing).integral[-1] == pytest.approx(exact, rel=error)
    popular = extract_kernel(c, None, 1.0, spacing, method="second kind").integral[-1]
    assert abs(popular - exact) > 0.5 * exact


def test_two_time_scales_of_which_frames_resolve_one(x64):
    # As in the trap of a Lennard-Jones liquid: the fast half of the friction decays within a frame.
    strengths, rates = np.array([250.0, 20.0]), np.array([30.0, 2.0])
    exact = np.sum(strengths / rates)
    for spacing, error in ((0.032, 1e-3), (0.064, 5e-3)):
        c = linear_gle.velocity_correlation(strengths, rates, np.arange(0, 4, spacing))
        assert extract_kernel(c, None, 1.0, spacing).integral[-1] == pytest.approx(exact, rel=error)
        assert extract_kernel(c, None, 1.0, spacing, method="first kind").integral[-1] < 0.995 * exact
    c = linear_gle.velocity_correlation(strengths, rates, np.arange(0, 4, 0.032))
    assert extract_kernel(c, None, 1.0, 0.032, method="second kind").integral[-1] > 1.9 * exact


@pytest.mark.slow
def test_coupled_coordinates_give_the_matrix_kernel_back(x64):
    rng = np.random.default_rng(2)
    kernel = PassiveKernel(rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=(3, 3)))
    masses, spacing = np.array([1.0, 3.0]), 0.02
    step, _ = (np.asarray(m) for m in Embedding.of(kernel).propagator(masses, spacing))
    now, c = np.eye(5), []
    for _ in range(250):
        c.append(now[:2, :2] / np.sqrt(masses) / np.sqrt(masses)[:, None])
        now = step @ now
    whole = np.asarray(kernel(spacing * jnp.arange(250)))
    for method in ("integral", "first kind", "second kind", "fourier"):
        found = extract_kernel(np.array(c), None, np.diag(masses), spacing, method=method).kernel
        exact = whole[: len(found.values)]
        # Γ at zero is extrapolated by the methods for the integral.
        first = 2 if method in ("integral", "fourier") else 0
        assert np.abs(found.values - exact)[first:].max() < 2e-3 * np.abs(exact).max()
        assert np.abs(found.values - exact).max() < 4e-2 * np.abs(exact).max()
    again = extract_kernel(np.array(c), None, masses, spacing, method=method).kernel.values
    np.testing.assert_array_equal(again, found.values)


def test_long_windows_are_solved_in_blocks_to_the_same_result(x64):
    rng = np.random.default_rng(0)
    kernel = np.exp(-0.02 * np.arange(700))[:, None, None] * (np.eye(2) + 0.3 * rng.normal(size=(2, 2)))
    rhs = rng.normal(size=(700, 2, 2)).cumsum(axis=0)
    whole = np.asarray(solve_convolution(jnp.asarray(rhs), jnp.asarray(kernel), block=1000))
    product = np.stack([np.einsum("kab,kbc->ac", whole[: i + 1], kernel[i::-1]) for i in (0, 1, 350, 699)])
    np.testing.assert_allclose(product, rhs[[0, 1, 350, 699]], atol=1e-10)
    for block in (64, 350):
        found = solve_convolution(jnp.asarray(rhs), jnp.asarray(kernel), block=block)
        np.testing.assert_allclose(found, whole, atol=1e-10 * np.abs(whole).max())


def test_single_precision_is_enough_for_the_integral():
    c = velocity_correlation(np.arange(0, 6, 0.02)).astype(np.float32)
    kernel, times, integral = extract_kernel(c, None, 1.0, 0.02)
    assert integral.dtype == jnp.float32
    np.testing.assert_allclose(integral, 2 * (1 - np.exp(-times)), atol=2e-4)
    exact = 2 * np.exp(-0.02 * np.arange(len(kernel.values)))
    assert np.linalg.norm(kernel.values - exact) < 5e-3 * np.linalg.norm(exact)


def test_the_kernel_is_differentiable_in_the_data(x64):
    c, direction = velocity_correlation(np.arange(0, 2, 0.1)), np.cos(np.arange(20))

    def friction(share):
        return extract_kernel(jnp.asarray(c) + share * direction, None, 1.0, 0.1).integral[-1]

    slope = (friction(1e-6) - friction(-1e-6)) / 2e-6
    assert jax.grad(friction)(0.0) == pytest.approx(float(slope), rel=1e-6)


def test_a_sampled_trajectory_gives_the_kernel_to_its_noise(x64):
    gle = GLE(None, PronyKernel([2.0], [1.0]), 1.0, time_step=0.05, temperature=TEMPERATURE)
    count, frames = 100, 2000
    state = gle.init(jax.random.key(0), jnp.zeros(count))
    done = run(gle, state, jax.random.key(1), frames, chunk=frames, observe=_velocity)
    v = np.moveaxis(done.observations, 1, 0)[..., None]
    found = Correlation.start(80, 1).update(v, v)
    kernel = extract_kernel(found.value()[:, 0, 0], None, 1.0, 0.05).kernel
    exact = 2 * np.exp(-0.05 * np.arange(len(kernel.values)))
    # 2·10⁵ frames: ten times fewer than the 2·10⁶ that give 0.5 %.
    assert np.linalg.norm(kernel.values - exact) / np.linalg.norm(exact) < 0.03


def test_correlation_functions_by_fft_are_those_by_hand(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 40)), rng.normal(size=(3, 40))
    by_hand = [np.mean(a[:, k:] * b[:, : 40 - k]) for k in range(7)]
    np.testing.assert_allclose(correlation(a, b, lags=7), by_hand, atol=1e-13)
    # Streaming over trajectories gives the same.
    found = Correlation.start(7, 1)
    for one, other in zip(a, b, strict=True):
        found = found.update(one[None, :, None], other[None, :, None])
    np.testing.assert_allclose(found.value()[:, 0, 0], by_hand, atol=1e-13)
    x = rng.normal(size=(2, 50, 3)).cumsum(axis=1) + 100
    by_hand = [np.mean(np.sum((x[:, k:] - x[:, : 50 - k]) ** 2, axis=-1)) for k in range(9)]
    np.testing.assert_allclose(mean_square_displacement(x, lags=9), by_hand, atol=1e-10)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: extract_kernel(np.ones(5), None, 1.0, 0.1), "5 lags are too few"),
        (lambda: extract_kernel(np.ones(50), None, 1.0, 0.1, method="magic"), "choose integral"),
        (lambda: extract_kernel(np.ones((50, 2)), None, 1.0, 0.1), r"give \(lags,\) or"),
        (lambda: extract_kernel(np.ones(50), np.ones(40), 1.0, 0.1), "force correlation has shape"),
        (lambda: extract_kernel(np.ones(50), None, 1.0, -0.1), "spacing -0.1 is not positive"),
        (lambda: correlation(np.ones(5), lags=9), "5 frames are too short for 9 lags"),
    ],
)
def test_wrong_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()


def _velocity(state):
    return state.velocity

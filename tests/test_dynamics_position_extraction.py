"""Position-dependent memory from trajectories whose memory is known."""

import jax.numpy as jnp
import numpy as np
import pytest
from coupled_well import SPACING, TEMPERATURE, Well, coupling, simulated

from jaxcg.dynamics import DeltaKernel, PronyKernel, position_dependent_memory
from jaxcg.dynamics.extraction.position_extraction import hat_functions

GRID = np.linspace(-1.5, 1.3, 6)


def deviations(found, error, expected):
    return (found - expected) / error


@pytest.mark.slow
def test_a_memory_that_does_not_depend_on_the_position_is_found_constant(x64):
    x, v = simulated(PronyKernel([6.0], [2.0]), np.ones_like)
    found = position_dependent_memory(
        x, v, 1.0, SPACING, lags=120, energy=Well(), grid=GRID, plateau=(2.0, 2.4), resamples=50
    )
    assert found.kernel.shape == found.kernel_error.shape == (119, 6)
    assert found.blocks == 256
    exact = 3 * (1 - np.exp(-2 * found.integral_times))
    at_plateau = exact[(found.integral_times >= 2.0) & (found.integral_times <= 2.4)].mean()
    assert np.abs(deviations(found.friction, found.friction_error, at_plateau)).max() < 4
    assert found.friction_error.max() < 0.5
    assert np.abs(deviations(found.integral, found.integral_error, exact[:, None]))[::10].max() < 4.5
    kernel = deviations(found.kernel, found.kernel_error, 6 * np.exp(-2 * found.times)[:, None])
    assert np.abs(kernel[::10]).max() < 4.5
    # The error bars are neither far too small nor too large.
    assert 0.5 < np.sqrt(np.mean(kernel**2)) < 1.6


@pytest.mark.slow
def test_friction_that_varies_with_the_position_is_recovered(x64):
    x, v = simulated(DeltaKernel(jnp.asarray(3.0)), coupling)
    found = position_dependent_memory(x, v, 1.0, SPACING, lags=25, energy=Well(), grid=GRID, plateau=(0.05, 0.3))
    # What hat functions make of g²: their least-squares fit over the positions visited.
    visited = np.asarray(x)[:, ::50].ravel()
    expected = np.linalg.lstsq(np.asarray(hat_functions(visited, jnp.asarray(GRID))), 3 * coupling(visited) ** 2)[0]
    assert np.abs(deviations(found.friction, found.friction_error, expected)).max() < 4
    assert found.friction_error.max() < 0.4
    assert found.friction[-2:].mean() / found.friction[:2].mean() > 3
    # The profile that the integrator takes, normalised to the mean over the frames.
    profile = found.coupling()
    mean = np.sum(found.friction * found.frames) / np.sum(found.frames)
    np.testing.assert_allclose(profile(jnp.asarray(GRID[[0, -1]])) ** 2, found.friction[[0, -1]] / mean, rtol=1e-6)


@pytest.mark.slow
def test_a_long_memory_starts_with_the_local_coupling(x64):
    # Γ(0, x) = g² K(0), whatever the coordinate does within the memory time.
    x, v = simulated(PronyKernel([6.0], [2.0]), coupling)
    found = position_dependent_memory(x, v, 1.0, SPACING, lags=25, energy="profile", temperature=TEMPERATURE, grid=GRID)
    # The first of the kernel's values is an average over the first frame.
    assert np.abs(deviations(found.kernel[0], found.kernel_error[0], 6 * coupling(GRID) ** 2)).max() < 4
    assert found.plateau[0] > 0.3


def test_hat_functions_add_up_to_one_and_interpolate(x64):
    grid = jnp.asarray([-1.0, 0.0, 0.5, 2.0])
    x = jnp.linspace(-3, 3, 61)
    hats = hat_functions(x, grid)
    np.testing.assert_allclose(hats.sum(axis=-1), 1.0, atol=1e-12)
    np.testing.assert_allclose(hat_functions(grid, grid), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(hats @ jnp.sin(grid), np.interp(x, grid, np.sin(grid)), atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lags": 40}, "too short for 40 lags"),
        ({"lags": 4}, "at least 8"),
        ({"grid": [0.0, 1.0, 8.0, 9.0]}, "at 9 nm sees 0 frames"),
        ({"grid": [0.0, 1.0, 0.5]}, "must ascend"),
        ({"grid": 1}, "two or more"),
        ({"velocities": np.zeros((4, 99))}, r"positions \(4, 400\) and velocities \(4, 99\)"),
        ({"velocities": np.full((4, 400), np.nan)}, "velocities are not finite in trajectory 0, frame 0"),
        ({"mass": 0.0}, "mass 0 is not positive"),
        ({"energy": "profile"}, "give the temperature"),
        ({"plateau": (5.0, 6.0), "grid": 2}, "no time of the integral"),
    ],
)
def test_mistakes_are_named(change, message):
    rng = np.random.default_rng(0)
    data = {"positions": rng.normal(size=(4, 400)), "velocities": rng.normal(size=(4, 400)), "lags": 10}
    data = data | {"mass": 1.0, "spacing": 0.1, "energy": None} | change
    with pytest.raises(ValueError, match=message):
        position_dependent_memory(**data)

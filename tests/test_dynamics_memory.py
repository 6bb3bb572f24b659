"""Memory of a trajectory in one call, with error bars; free-energy profiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import GLE, PronyKernel, free_energy_profile, memory_from_velocities
from jaxcg.energy import SplinePotential
from jaxcg.run import run
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1
DT = 0.05


def double_well():
    grid = np.linspace(-3, 3, 121)
    return SplinePotential(grid, 1.2 * (grid**2 - 1) ** 2 / 2)


@pytest.fixture(scope="module")
def trajectory():
    """Positions and velocities (40, 6000) in a double well with Γ = 4 e^{−2t}."""
    with jax.enable_x64(True):
        gle = GLE(double_well(), PronyKernel([4.0], [2.0]), 1.0, time_step=DT, temperature=TEMPERATURE)
        state = gle.init(jax.random.key(0), jnp.ones(40))
        done = run(gle, state, jax.random.key(1), 6400, chunk=6400, observe=_phase)
        return tuple(np.moveaxis(np.asarray(part)[400:], 1, 0) for part in done.observations)


def test_the_profile_of_a_double_well(x64, trajectory):
    x, _ = trajectory
    profile = free_energy_profile(x, TEMPERATURE)
    points = np.linspace(-1.6, 1.6, 33)
    exact = np.asarray(double_well().profile(points))
    found = np.asarray(profile.profile(points))
    difference = found - exact
    # 2·10⁵ frames with some 2000 crossings: a tenth of kT.
    assert np.ptp(difference) < 0.2
    with pytest.raises(ValueError, match="many more"):
        free_energy_profile(x[0, :50], TEMPERATURE)
    with pytest.raises(ValueError, match="all finite"):
        free_energy_profile(np.full(1000, np.nan), TEMPERATURE)


def test_the_kernel_is_found_within_its_error_bars(x64, trajectory):
    x, v = trajectory
    lags = 50
    found = memory_from_velocities(v, 1.0, DT, lags=lags, positions=x, energy=double_well(), blocks=80)
    assert found.blocks == 80
    values = np.asarray(found.extracted.kernel.values)
    exact = 4 * np.exp(-2 * DT * np.arange(len(values)))
    # Γ(0) is extrapolated; everywhere else the discretisation error is far below the statistical one.
    deviation = np.abs(values - exact)[1:] / found.kernel_error[1:]
    assert (deviation < 4.5).all()
    assert np.sqrt(np.mean(deviation**2)) < 2
    assert np.linalg.norm(values - exact) / np.linalg.norm(exact) < 0.06
    plateau = np.asarray(found.extracted.integral)[-1]
    assert abs(plateau - 2.0) < 4 * found.integral_error[-1] + 0.03
    # Error bars shrink with the square root of the data.
    half = memory_from_velocities(v[:20], 1.0, DT, lags=lags, positions=x[:20], energy=double_well(), blocks=40)
    ratio = np.median(half.kernel_error / found.kernel_error)
    assert 1.1 < ratio < 1.8


def test_leaving_out_the_mean_force_gives_another_kernel(x64, trajectory):
    _, v = trajectory
    wrong = memory_from_velocities(v, 1.0, DT, lags=50, resamples=10)
    exact = 4 * np.exp(-2 * DT * np.arange(len(wrong.extracted.kernel.values)))
    assert np.linalg.norm(wrong.extracted.kernel.values - exact) > 0.3 * np.linalg.norm(exact)


def test_wrong_input_is_refused(trajectory):
    x, v = trajectory
    with pytest.raises(ValueError, match="too short for 2000 lags"):
        memory_from_velocities(v, 1.0, DT, lags=2000, blocks=80)
    with pytest.raises(ValueError, match="belong together"):
        memory_from_velocities(v, 1.0, DT, lags=20, positions=x)


def test_the_smoothing_is_found_whatever_the_units(x64):
    # A double well sampled exactly; in nm its bins are 0.06 wide, in which the search once lost its way.
    grid = np.linspace(-2.5, 2.5, 20001)
    cumulative = np.cumsum(np.exp(-1.5 * (grid**2 - 1) ** 2))
    x = np.interp(np.random.default_rng(0).uniform(size=1_000_000), cumulative / cumulative[-1], grid)
    points = np.linspace(-1.6, 1.6, 21)
    for scale in (1.0, 100.0):
        found = np.asarray(free_energy_profile(scale * x, TEMPERATURE).profile(scale * points))
        assert np.ptp(found - 1.5 * (points**2 - 1) ** 2) < 0.1


def _phase(state):
    return state.position, state.velocity

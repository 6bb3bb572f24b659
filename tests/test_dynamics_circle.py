"""The whole circle: spectral density, kernel, finite bath, trajectories, and the kernel extracted from them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import (
    GLE,
    CaldeiraLeggett,
    DrudeLorentz,
    PronyKernel,
    correlation,
    cosine_transform,
    discretize,
    extract_kernel,
    fit_passive_kernel,
    memory_from_velocities,
    simulate,
)
from jaxcg.energy import DoubleWell
from jaxcg.units import GAS_CONSTANT

pytestmark = pytest.mark.slow
TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


def relative(found, exact):
    return np.linalg.norm(np.asarray(found) - exact) / np.linalg.norm(exact)


def test_from_the_spectral_density_to_trajectories_and_back(x64):
    density = DrudeLorentz(friction=2.0, cutoff=1.0)
    bath = discretize(density, 300, highest=80.0)
    spacing, copies, frames, lags = 0.1, 10_000, 200, 52
    t = spacing * np.arange(lags)
    exact = np.asarray(density.memory_kernel(t))
    np.testing.assert_allclose(exact, 2 * np.exp(-t), rtol=1e-13)
    np.testing.assert_allclose(density.kernel()(t), exact, rtol=1e-13)
    transform, _ = cosine_transform(lambda w: float(density.reduced(w)), t[::10])
    np.testing.assert_allclose(transform, exact[::10], atol=1e-8)
    assert relative(bath.memory_kernel(t), exact) < 5e-3
    # Many short copies, all begun in equilibrium: the few slow oscillators of a bath neither bring a particle there nor
    # let a long trajectory forget its energy.
    well = DoubleWell(1.5, 3.0)
    grid = np.linspace(-6, 6, 20001)
    cumulative = np.cumsum(np.exp(-1.5 * ((grid / 3) ** 2 - 1) ** 2))
    starts = np.interp(np.random.default_rng(0).uniform(size=copies), cumulative / cumulative[-1], grid)
    everything = CaldeiraLeggett(well, bath, 1.0, time_step=spacing / 2, temperature=TEMPERATURE)
    made = simulate(everything, jnp.asarray(starts), 2 * frames, jax.random.key(0), every=2)
    # All that is used from here on are positions and velocities of the particle, and the temperature.
    found = memory_from_velocities(
        made.velocities,
        1.0,
        spacing,
        lags=lags,
        positions=made.positions,
        energy="profile",
        temperature=TEMPERATURE,
        method="first kind",
        blocks=copies,
        resamples=20,
    )
    kernel = found.extracted.kernel
    assert relative(kernel.values, exact[: len(kernel.values)]) < 0.01
    assert abs(found.extracted.integral[-1] - 2 * (1 - np.exp(-5))) < 4 * found.integral_error[-1] + 0.01
    # A few auxiliary variables do the work of three hundred oscillators.
    fit = fit_passive_kernel(kernel, errors=found.kernel_error, criterion="aic", families=("modes",), largest_order=4)
    assert relative(fit.kernel(t), exact) < 0.01


@pytest.mark.parametrize("method", ["integral", "first kind"])
def test_two_million_sampled_frames_give_the_kernel_to_one_percent(x64, method):
    gle = GLE(None, PronyKernel([2.0], [1.0]), 1.0, time_step=0.05, temperature=TEMPERATURE)
    made = simulate(gle, jnp.zeros(1000), 2000, jax.random.key(1))
    c = correlation(made.velocities, lags=102)
    values = np.asarray(extract_kernel(c, None, 1.0, 0.05, method=method).kernel.values)
    assert relative(values, 2 * np.exp(-0.05 * np.arange(len(values)))) < 0.01

"""Passive kernels from correlation functions: known kernels come back within their errors, better than the table."""

import numpy as np
import pytest
from oracles.linear_gle import sample, velocity_correlation

from jaxcg.dynamics import fit_correlations, is_positive_real, memory_from_positions, memory_from_velocities
from jaxcg.dynamics.extraction._correlation_misfit import Exponentials, VelocityMisfit, VolterraMisfit
from jaxcg.energy import SplinePotential
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1
STRENGTHS, RATES, SPACING = np.array([250.0, 20.0]), np.array([30.0, 2.0]), 0.032
MODES = {"families": ("modes",), "largest_order": 4, "regularizations": (0.0, 0.1)}


def off(values):
    """Relative L2 distance from the exact kernel at the frames."""
    exact = np.exp(-np.outer(np.arange(len(values)) * SPACING, RATES)) @ STRENGTHS
    return np.linalg.norm(values - exact) / np.linalg.norm(exact)


def test_the_exact_kernel_leaves_nothing_though_frames_do_not_resolve_it():
    # The fast exponential decays to 38 % within a frame, which costs the extracted table 8 %.
    times = SPACING * np.arange(60)
    tables = {"vv": velocity_correlation(STRENGTHS, RATES, times)[:, None, None], "mass": np.ones((1, 1))}
    kernel = Exponentials.of(np.sqrt(STRENGTHS), np.zeros((2, 2)), np.diag(np.sqrt(RATES)))
    wrong = Exponentials(1.05 * kernel.strengths, kernel.rates)
    for misfit, bound in ((VolterraMisfit(tables, SPACING), 4e-4), (VelocityMisfit(tables, SPACING, 0.0), 1e-12)):
        assert np.abs(misfit.of(kernel)).max() < bound
        assert np.abs(misfit.of(wrong)).max() > max(5 * bound, 1e-3)
    tables["vv"] = velocity_correlation(STRENGTHS, RATES, times, square=9.0)[:, None, None]
    assert np.abs(VelocityMisfit(tables, SPACING, 9.0).of(kernel)).max() < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("match", ["volterra", "velocity"])
def test_a_fit_to_noisy_data_beats_the_table(x64, match):
    _, v, _ = sample(STRENGTHS, RATES, SPACING, 40, 1500, seed=1)
    memory = memory_from_velocities(v, 1.0, SPACING, lags=80, blocks=40, resamples=40)
    found = fit_correlations(memory, match=match, **MODES)
    frames = SPACING * np.arange(len(memory.kernel_error))
    values = np.asarray(found.kernel(frames))
    assert off(values) < 0.7 * off(np.asarray(memory.extracted.kernel.values))
    exact = np.exp(-np.outer(frames, RATES)) @ STRENGTHS
    assert np.median(np.abs(values - exact) / found.kernel_error) < 2
    assert abs(found.friction - np.sum(STRENGTHS / RATES)) < 4 * found.friction_error
    assert found.friction_error < 2 * memory.integral_error[-1]
    assert is_positive_real(found.kernel)
    assert found.residual < 1.3
    assert found.held_out < 1.5
    assert found.covariance.shape[0] >= 2 * (found.order + 1) // 2
    assert {name for name, *_ in found.tried} == {"modes"}


def test_positions_in_a_well_give_the_kernel_too(x64):
    x, _, _ = sample(STRENGTHS, RATES, SPACING, 40, 1500, square=9.0, seed=2)
    grid = np.linspace(-3, 3, 121)
    well = SplinePotential(grid, 4.5 * grid**2)
    memory = memory_from_positions(
        x, None, SPACING, temperature=TEMPERATURE, lags=80, blocks=40, resamples=40, energy=well
    )
    found = fit_correlations(memory, **MODES)
    values = np.asarray(found.kernel(SPACING * np.arange(len(memory.kernel_error))))
    assert off(values) < 0.7 * off(np.asarray(memory.extracted.kernel.values))
    assert abs(found.friction - np.sum(STRENGTHS / RATES)) < 4 * found.friction_error
    with pytest.raises(ValueError, match="needs its stiffness"):
        fit_correlations(memory, match="velocity")


def test_what_cannot_be_fitted_is_refused():
    rng = np.random.default_rng(0)
    v = rng.normal(size=(4, 400, 2))
    with pytest.raises(ValueError, match="matrix-valued"):
        fit_correlations(memory_from_velocities(v, 1.0, 0.1, lags=10, blocks=12, resamples=4))
    few = memory_from_velocities(v[..., 0], 1.0, 0.1, lags=10, blocks=4, resamples=4)
    with pytest.raises(ValueError, match="4 blocks are too few"):
        fit_correlations(few)

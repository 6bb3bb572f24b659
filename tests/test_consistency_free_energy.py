"""Free energies of several states against closed forms, with errors that cover for correlated samples too."""

import importlib.util
import sys

import jax
import numpy as np
import pytest

from jaxcg.consistency.free_energy import (
    bennett_acceptance_ratio,
    differentiable_free_energies,
    multistate_free_energies,
    thermodynamic_integration,
    umbrella_profile,
)
from jaxcg.consistency.free_energy.multistate import covariance_of_sum
from jaxcg.errors import InputError
from jaxcg.io.multistate_solver import numpy_pymbar
from jaxcg.units import GAS_CONSTANT

pytestmark = pytest.mark.skipif(importlib.util.find_spec("pymbar") is None, reason="pymbar is not installed")

T = 300.0
KT = GAS_CONSTANT * T
#: Springs ½ k (x − c)²: sampled ones and one more.
STIFFNESS, CENTRES = np.array([100.0, 300.0, 150.0, 200.0]), np.array([0.0, 0.1, 0.25, 0.15])
EXACT = 0.5 * np.log(STIFFNESS / STIFFNESS[0])


def springs(x):
    return 0.5 * STIFFNESS.reshape(-1, *[1] * x.ndim) * (x - CENTRES.reshape(-1, *[1] * x.ndim)) ** 2


def draws_of(rng, state, shape, memory=0.0):
    """Draws (chains, draws) of a spring, of an autoregressive process that starts in equilibrium."""
    noise = rng.normal(size=shape)
    x = noise.copy()
    for i in range(1, shape[1]):
        x[:, i] = memory * x[:, i - 1] + np.sqrt(1 - memory**2) * noise[:, i]
    return CENTRES[state] + np.sqrt(KT / STIFFNESS[state]) * x


def solve(rng, sizes=(600, 400, 800), memory=0.0, chains=2):
    return multistate_free_energies([springs(draws_of(rng, k, (chains, n), memory)) for k, n in enumerate(sizes)], T)


def test_springs_equal_the_closed_form():
    found = solve(np.random.default_rng(0))
    assert found.reduced[0] == 0 == found.error[0]
    assert (np.abs(found.reduced - EXACT)[1:] < 4 * found.error[1:]).all()
    assert (found.error[1:] < 0.05).all()
    for first, second in ((0, 2), (1, 3), (3, 0)):
        apart = found.difference(first, second)
        assert apart.value == pytest.approx(KT * (EXACT[second] - EXACT[first]), abs=4 * apart.error)
        assert 0.3 * 3600 < apart.effective_sample_size < 3 * 3600
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, atol=1e-7)
    least, first, second = found.bottleneck()
    assert (first, second) == (1, 2)
    assert least == pytest.approx(found.overlap[1, 2], rel=0.5)
    # The share of samples of one spring that look like the other's, by quadrature.
    x = np.linspace(-1, 1, 4001)
    density = np.exp(-springs(x) / KT) * np.sqrt(STIFFNESS)[:, None]
    share = np.sum(density[1] * density[2] / (density[1] + density[2])) / density[1].sum()
    assert found.overlap[1, 2] == pytest.approx(share, abs=0.03)


def test_errors_of_independent_samples_are_those_of_pymbar():
    rng = np.random.default_rng(1)
    parts = [springs(draws_of(rng, k, (1, n))) for k, n in enumerate((300, 500, 400))]
    found = multistate_free_energies(parts, T)
    pymbar = numpy_pymbar()
    u = np.concatenate([part.reshape(4, -1) for part in parts], axis=1) / KT
    theirs = pymbar.MBAR(u, [300, 500, 400, 0], solver_protocol="robust").compute_free_energy_differences()
    np.testing.assert_allclose(found.reduced, theirs["Delta_f"][0], atol=1e-7)
    # The sum of squares of the influences is the variance where samples are independent; theirs is equal in the limit
    # of many, for it takes the expected variance of the weights and not the one seen.
    ours = sum(np.sum(part[:, 0] ** 2, axis=1) for part in found.influences) ** 0.5
    np.testing.assert_allclose(ours, theirs["dDelta_f"][0], rtol=0.05, atol=1e-6)
    np.testing.assert_allclose(np.diag(covariance_of_sum(found.influences)), found.error**2, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("memory", [pytest.param(0.0, marks=pytest.mark.slow), 0.9])
def test_errors_cover(memory):
    z = []
    for seed in range(50):
        found = solve(np.random.default_rng(seed), (500, 500, 500), memory)
        z.append(((found.reduced - EXACT) / np.where(found.error > 0, found.error, 1))[1:])
    # Three numbers of one solution are correlated: about a hundred independent ones.
    assert np.sqrt(np.mean(np.square(z))) == pytest.approx(1, abs=0.25)


def test_temperatures_may_differ():
    rng = np.random.default_rng(2)
    temperatures = np.array([300.0, 400.0])
    x = [np.sqrt(GAS_CONSTANT * t / 50.0) * rng.normal(size=2000) for t in temperatures]
    found = multistate_free_energies([np.stack([25 * s**2, 25 * s**2]) for s in x], temperatures)
    exact = -0.5 * np.log(400 / 300)
    assert found.reduced_difference(0, 1).value == pytest.approx(exact, abs=4 * found.error[1])
    with pytest.raises(ValueError, match="reduced_difference"):
        found.difference(0, 1)


def test_acceptance_ratio_of_gaussian_work():
    # Work N(ΔF + σ²/2, σ²) one way is N(−ΔF + σ²/2, σ²) the other, in units of kT.
    rng = np.random.default_rng(3)
    exact, spread = 2.0, 1.5
    forward = KT * rng.normal(exact + spread**2 / 2, spread, (2, 1000))
    reverse = KT * rng.normal(-exact + spread**2 / 2, spread, (2, 1500))
    found = bennett_acceptance_ratio(forward, reverse, T)
    assert found.value == pytest.approx(KT * exact, abs=4 * found.error)
    assert found.error < 0.15
    back = bennett_acceptance_ratio(reverse, forward, T)
    assert back.value == pytest.approx(-found.value, abs=1e-6)
    theirs = numpy_pymbar().bar(forward.ravel() / KT, reverse.ravel() / KT, uncertainty_method="MBAR")
    assert found.value == pytest.approx(KT * theirs["Delta_f"], abs=1e-6)
    assert found.error == pytest.approx(KT * theirs["dDelta_f"], rel=0.25)


def test_states_that_do_not_overlap_are_told_of():
    rng = np.random.default_rng(4)
    x = [c + 0.05 * rng.normal(size=200) for c in (0.0, 0.5)]
    with pytest.warns(UserWarning, match="states 0 and 1 overlap by"):
        multistate_free_energies([np.stack([500 * s**2, 500 * (s - 0.5) ** 2]) for s in x], T)


def test_the_process_stays_as_it_was():
    before = jax.config.jax_enable_x64, np.geterr()
    solve(np.random.default_rng(5))
    bennett_acceptance_ratio(np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.0, -2.0]), T)
    assert (jax.config.jax_enable_x64, np.geterr()) == before
    assert sys.modules["jax"] is jax


def test_without_pymbar(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymbar", None)
    numpy_pymbar.cache_clear()
    with pytest.raises(InputError, match=r"jaxcg\[free-energy\]"):
        solve(np.random.default_rng(5))
    assert sys.modules["jax"] is jax


def test_bad_input():
    good = springs(np.zeros((1, 5)))
    with pytest.raises(ValueError, match="sampled ones first"):
        multistate_free_energies([good, good[:3]], T)
    with pytest.raises(ValueError, match="not finite"):
        multistate_free_energies([good * np.nan], T)
    with pytest.raises(ValueError, match="no sample lies where state 3"):
        multistate_free_energies([np.concatenate([good[:3], np.full((1, 1, 5), np.inf)])], T)
    with pytest.raises(ValueError, match="positive"):
        multistate_free_energies([good], -1.0)
    with pytest.raises(ValueError, match="forward must be finite"):
        bennett_acceptance_ratio(np.array([np.nan]), np.ones(3), T)
    with pytest.raises(ValueError, match="as many centers"):
        umbrella_profile([np.ones(3)], np.linspace(0, 1, 3), T, centers=np.ones(2), stiffness=1.0)
    with pytest.raises(ValueError, match="ascend"):
        umbrella_profile([np.ones(3)], np.ones(3), T, centers=np.ones(1), stiffness=1.0)


def test_derivatives(x64):
    rng = np.random.default_rng(6)
    x = np.concatenate([draws_of(rng, k, (1, 40))[0] for k in range(3)])

    def energies(theta):
        return springs(x) * (1 + theta * np.array([0.5, 1.0, -1.0, 2.0])[:, None])

    def solved(theta):
        u = np.asarray(energies(theta))
        return multistate_free_energies([u[:, 40 * k : 40 * k + 40] for k in range(3)], T)

    at = solved(0.1)
    function = jax.jit(lambda theta: differentiable_free_energies(energies(theta), at))
    np.testing.assert_allclose(function(0.1), at.reduced, atol=1e-8)
    step = 1e-4
    slope = (solved(0.1 + step).reduced - solved(0.1 - step).reduced) / (2 * step)
    np.testing.assert_allclose(jax.jacfwd(function)(0.1), slope, rtol=1e-4, atol=1e-5)
    assert np.abs(slope[1:]).min() > 0.01


def test_umbrella_of_a_double_well():
    rng = np.random.default_rng(7)
    grid = np.linspace(-0.5, 0.5, 20001)
    well = 30.0 * ((grid / 0.25) ** 2 - 1) ** 2 + 6.0 * grid / 0.25  # 12 kT high: no simulation would cross it
    centres, stiffness = np.linspace(-0.35, 0.35, 15), 2000.0
    windows = []
    for c in centres:
        weight = np.exp(-(well + 0.5 * stiffness * (grid - c) ** 2 - well.min()) / KT)
        windows.append(rng.choice(grid, size=600, p=weight / weight.sum()))
    edges = np.linspace(-0.3, 0.3, 31)
    found = umbrella_profile(windows, edges, T, centers=centres, stiffness=stiffness)
    place = np.searchsorted(edges, grid, side="right") - 1
    exact = np.array([-KT * np.log(np.exp(-well[place == b] / KT).mean()) for b in range(30)])
    lowest = np.argmin(found.value)
    assert found.value[lowest] == 0 == found.error[lowest]
    z = ((found.value - exact + exact[lowest]) / np.where(found.error > 0, found.error, 1))[found.error > 0]
    assert np.abs(z).max() < 4
    assert 0.02 < found.error.max() < 1.0
    assert found.difference(-0.25, 0.25).value == pytest.approx(12.0, abs=4 * found.difference(-0.25, 0.25).error + 0.2)
    both = found.basin_difference((-0.3, 0.0), (0.0, 0.3))
    inside = np.exp(-well / KT) * (np.abs(grid) < 0.3)
    assert both.value == pytest.approx(KT * np.log(inside[grid < 0].sum() / inside[grid > 0].sum()), abs=4 * both.error)
    # Unbiased runs of the same length do not know the barrier; a bias given as numbers is the same.
    biases = [0.5 * stiffness * (w - centres[:, None]) ** 2 for w in windows]
    np.testing.assert_allclose(umbrella_profile(windows, edges, T, biases=biases).value, found.value, atol=1e-9)


def test_umbrella_of_an_angle():
    rng = np.random.default_rng(8)
    grid = np.linspace(-np.pi, np.pi, 7201)[:-1]
    energy = 4.0 * np.cos(3 * grid) + 3.0 * np.sin(grid)
    centres = np.linspace(-np.pi, np.pi, 13)[:-1]
    windows = []
    for c in centres:
        apart = grid - c - 2 * np.pi * np.round((grid - c) / (2 * np.pi))
        weight = np.exp(-(energy + 10 * apart**2) / KT)
        windows.append(rng.choice(grid, size=500, p=weight / weight.sum()) + 2 * np.pi * rng.integers(-1, 2, 500))
    edges = np.linspace(-np.pi, np.pi, 37)
    found = umbrella_profile(windows, edges, T, centers=centres, stiffness=20.0, period=2 * np.pi)
    exact = -KT * np.log(np.exp(-energy / KT).reshape(36, -1).mean(axis=1))
    lowest = np.argmin(found.value)
    z = (found.value - exact + exact[lowest]) / np.where(found.error > 0, found.error, np.inf)
    assert np.abs(z).max() < 4
    assert found.error.max() < 0.8


def test_empty_bins_are_infinite():
    found = umbrella_profile([np.array([0.1, 0.1, 0.3, 0.9])], np.linspace(0, 2, 11), T, centers=[0.0], stiffness=0.0)
    assert np.isinf(found.value).sum() == 7
    assert np.isnan(found.error[np.isinf(found.value)]).all()
    assert found.value[1] - found.value[0] == pytest.approx(KT * np.log(2))


def test_thermodynamic_integration_of_a_stiffening_spring():
    rng = np.random.default_rng(9)
    couplings = np.linspace(0, 1, 9)
    first, last = 100.0, 400.0
    stiffness = first * (last / first) ** couplings
    rate = np.log(last / first)
    series = [0.5 * k * rate * KT / k * rng.normal(size=(2, 500)) ** 2 for k in stiffness]
    found = thermodynamic_integration(couplings, series, T)
    whole = found.difference(0, 1)
    assert whole.value == pytest.approx(0.5 * KT * rate, abs=4 * whole.error)
    assert whole.error < 0.06
    half = found.difference(0.5, 1.0)
    assert half.error < whole.error
    assert half.value == pytest.approx(0.25 * KT * rate, abs=4 * half.error)
    with pytest.raises(ValueError, match="9 couplings"):
        thermodynamic_integration(couplings, series[:-1], T)

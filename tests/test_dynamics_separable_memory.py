"""The coupling and the kernel of position-dependent memory, from trajectories that have them."""

import jax.numpy as jnp
import numpy as np
import pytest
from coupled_well import SPACING, Well, coupling, simulated

from jaxcg.dynamics import PronyKernel, position_dependent_memory, separable_memory

GRID = np.linspace(-1.7, 1.5, 7)


@pytest.mark.slow
def test_coupling_and_kernel_are_recovered_also_for_a_memory_that_outlasts_the_motion(x64):
    x, v = simulated(PronyKernel([6.0], [2.0]), coupling, trajectories=128)
    found = separable_memory(x, v, 1.0, SPACING, lags=50, energy=Well(), grid=GRID, resamples=60)
    norm = float(np.mean(coupling(np.asarray(x)) ** 2))
    exact = coupling(GRID) / np.sqrt(norm)
    # A spline through seven points is not the function itself: a hundredth.
    assert (np.abs(found.coupling - exact) < 4 * found.coupling_error + 0.01).all()
    assert (found.coupling_error < 0.1).all()
    assert found.coupling[-2:].mean() / found.coupling[:2].mean() > 2
    np.testing.assert_allclose(found.profile(jnp.asarray(GRID)), found.coupling, rtol=1e-12)
    times, integral = np.asarray(found.extracted.times), np.asarray(found.extracted.integral)
    expected = 3 * norm * (1 - np.exp(-2 * times))
    assert (np.abs(integral - expected)[::5] < 4 * found.integral_error[::5] + 0.01).all()
    assert found.integral_error[-1] < 0.1
    kernel = np.asarray(found.extracted.kernel.values)
    expected = 6 * norm * np.exp(-2 * SPACING * np.arange(len(kernel)))
    assert (np.abs(kernel - expected)[::5] < 4 * found.kernel_error[::5] + 0.02).all()
    assert 0.1 < found.deviation < 3
    assert found.blocks == 32
    # The local form sees another friction where the memory outlasts the motion, and knows it less well.
    local = position_dependent_memory(x, v, 1.0, SPACING, lags=50, energy=Well(), grid=GRID, resamples=20)
    share = local.friction_error / local.friction
    assert share[2:5].min() > 2 * (found.coupling_error / found.coupling)[2:5].max()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": [-0.5, 0.0, 1.0]}, "equal steps"),
        ({"lags": 60}, "separable_memory: blocks of 80 frames are too short"),
        ({"positions": np.zeros((4, 3))}, "separable_memory: positions"),
    ],
)
def test_mistakes_are_named(change, message):
    rng = np.random.default_rng(0)
    data = {"positions": rng.normal(size=(4, 400)), "velocities": rng.normal(size=(4, 400)), "lags": 10}
    with pytest.raises(ValueError, match=message):
        separable_memory(**(data | {"mass": 1.0, "spacing": 0.1, "energy": None} | change))

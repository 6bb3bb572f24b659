"""Rates of escape: Grote and Hynes from a profile, and the exact mean passage time of overdamped motion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_banded

from jaxcg.dynamics import (
    GLE,
    DeltaKernel,
    PronyKernel,
    barrier_rate,
    first_passage_distribution,
    grote_hynes_frequency,
    grote_hynes_rate,
    overdamped_passage_time,
    simulate,
)
from jaxcg.energy import DoubleWell, HarmonicPotential, SplinePotential
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT


@pytest.mark.parametrize(("tau", "transmission"), [(0.01, 0.0991), (0.1, 0.1000), (1.0, 0.1096), (10.0, 0.4331)])
def test_transmission_of_an_exponential_kernel(x64, tau, transmission):
    # No. 7 of the closed forms: curvature −1 at the barrier, M = 1.
    kernel = PronyKernel([10 / tau], [1 / tau])
    assert grote_hynes_frequency(kernel, 1.0, 1.0) == pytest.approx(transmission, abs=5e-5)
    energy = DoubleWell(8.0, np.sqrt(32.0))
    found = barrier_rate(energy, kernel, 1.0, TEMPERATURE, start=-5.0, end=5.0)
    assert found.transmission == pytest.approx(transmission, abs=5e-5)
    assert found.well == pytest.approx(-np.sqrt(32.0), abs=1e-5)
    assert found.top == pytest.approx(0.0, abs=1e-5)
    assert found.barrier == pytest.approx(8.0, rel=1e-9)
    assert found.well_frequency == pytest.approx(np.sqrt(2), rel=1e-5)
    by_hand = grote_hynes_rate(
        kernel, 1.0, well_frequency=np.sqrt(2), barrier_frequency=1.0, barrier=8.0, temperature=TEMPERATURE
    )
    assert found.harmonic_rate == pytest.approx(by_hand, rel=1e-4)
    # The well is softer outside than inside; at this height it matters by some per cent.
    assert found.rate == pytest.approx(found.harmonic_rate, rel=0.1)


def test_kramers_is_the_markovian_case(x64):
    friction, omega = 5.0, 1.5
    exact = np.sqrt(omega**2 + friction**2 / 4) - friction / 2
    assert grote_hynes_frequency(DeltaKernel(friction), 1.0, omega) == pytest.approx(exact, rel=1e-10)


def test_a_spline_through_the_profile_has_the_same_rate(x64):
    energy, kernel = DoubleWell(6.0, 1.0, 0.3), PronyKernel([20.0], [2.0])
    grid = np.linspace(-1.5, 2.1, 181)
    spline = SplinePotential(grid, np.asarray(jax.vmap(energy)(jnp.asarray(grid))))
    one, other = (barrier_rate(e, kernel, 2.0, TEMPERATURE, start=1.2, end=-0.8) for e in (energy, spline))
    assert other.rate == pytest.approx(one.rate, rel=1e-3)
    assert other.well == pytest.approx(1.3, abs=1e-4)


def test_high_barriers_and_strong_friction_are_the_overdamped_limit(x64):
    friction, height = 200.0, 16.0
    energy = DoubleWell(height, 1.0)
    rate = barrier_rate(energy, DeltaKernel(friction), 1.0, TEMPERATURE, start=-1.0, end=1.0).rate
    time = overdamped_passage_time(energy, friction, TEMPERATURE, start=-1.0, end=1.0)
    # What is left is the anharmonic barrier, 3 kT/(16 ΔU), and inertia.
    assert rate * time == pytest.approx(1.0, abs=0.02)


def test_overdamped_passage_solves_the_backward_equation(x64):
    # (kT/γ) τ″ − (u′/γ) τ′ = −1 with τ(end) = 0 and a wall far behind, by finite differences.
    friction, start, end = 3.0, -0.9, 0.8
    energy = DoubleWell(2.0, 1.0, 0.1)
    x = np.linspace(-4.0, end, 8001)
    h = x[1] - x[0]
    force = -np.asarray(jax.vmap(jax.grad(energy))(jnp.asarray(x)))
    lower, upper = 1 / h**2 - force / (2 * h), 1 / h**2 + force / (2 * h)
    matrix = np.zeros((3, len(x)))
    matrix[1] = -2 / h**2
    matrix[0, 1:], matrix[2, :-1] = upper[:-1], lower[1:]
    matrix[0, 1] = 2 / h**2
    matrix[1, -1], matrix[2, -2] = 1.0, 0.0
    right = np.full(len(x), -friction)
    right[-1] = 0.0
    times = solve_banded((1, 1), matrix, right)
    exact = float(np.interp(start, x, times))
    assert overdamped_passage_time(energy, friction, TEMPERATURE, start=start, end=end) == pytest.approx(
        exact, rel=1e-4
    )
    # In the mirror it is the same.
    assert overdamped_passage_time(
        DoubleWell(2.0, 1.0, -0.1), friction, TEMPERATURE, start=-start, end=-end
    ) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (HarmonicPotential(1.0), "no barrier"),
        (SplinePotential(np.linspace(-1, 1, 9), 5 - 8 * np.linspace(-1, 1, 9) ** 2), "does not confine"),
    ],
)
def test_what_has_no_rate(x64, energy, message):
    with pytest.raises(ValueError, match=message):
        barrier_rate(energy, DeltaKernel(1.0), 1.0, TEMPERATURE, start=-0.9, end=0.9)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [PronyKernel([40.0], [4.0]), PronyKernel([150.0], [10.0])])
def test_simulated_escape_is_that_of_grote_and_hynes(x64, kernel):
    energy = DoubleWell(5.0, 1.0)
    theory = barrier_rate(energy, kernel, 1.0, TEMPERATURE, start=-1.0, end=1.0)
    gle = GLE(energy, kernel, 1.0, time_step=0.02, temperature=TEMPERATURE)
    duration = 5.0 / theory.rate
    steps = 10 * int(duration / 0.2)
    data = simulate(gle, jnp.full(200, -1.0), steps, jax.random.key(5), every=10)
    found = first_passage_distribution(data.positions, -1.0, 1.0, 0.2)
    # The theory's own error at barriers of 5 kT, where the barrier is no parabola over ±2 kT, is a tenth. (Where little
    # friction is left at the frequency of the well the exchange of energy limits the rate, and it is far off.)
    assert abs(found.mean * theory.rate - 1) < 4 * found.mean_error * theory.rate + 0.12
    assert found.mean_error < 0.1 * found.mean

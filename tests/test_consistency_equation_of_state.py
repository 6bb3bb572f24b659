"""Equations of state: tables, fits, and the integrated squared difference with its error."""

import numpy as np
import pytest

from jaxcg.consistency.thermodynamics import (
    TabulatedEquationOfState,
    VirialEquationOfState,
    integrated_squared_difference,
)
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE


def gas(densities, b2, b3, temperature=TEMPERATURE):
    kt = GAS_CONSTANT * np.asarray(temperature)
    return densities * kt * (1 + b2 * densities + b3 * densities**2)


def test_table_is_straight_between_states():
    table = TabulatedEquationOfState([2.0, 1.0, 4.0], TEMPERATURE, [20.0, 10.0, 60.0], [0.2, 0.1, 0.6])
    found = table.pressure(np.array([1.0, 1.5, 4.0]), TEMPERATURE)
    np.testing.assert_allclose(found.value, [10.0, 15.0, 60.0])
    np.testing.assert_allclose(found.error, [0.1, np.hypot(0.05, 0.1), 0.6])


def test_fit_finds_virial_coefficients_and_their_errors():
    rng = np.random.default_rng(0)
    densities = np.linspace(0.5, 5, 12)
    exact = gas(densities, -0.08, 0.02)
    errors = 0.05 + 0.01 * densities
    pulls = []
    for _ in range(200):
        noisy = exact + errors * rng.normal(size=12)
        fit = VirialEquationOfState(TabulatedEquationOfState(densities, TEMPERATURE, noisy, errors), 2)
        found = fit.pressure(np.array([2.2]), TEMPERATURE)
        pulls.append((found.value[0] - gas(2.2, -0.08, 0.02)) / found.error[0])
    assert np.std(pulls) == pytest.approx(1, abs=0.2)
    assert abs(np.mean(pulls)) < 4 / np.sqrt(200)
    fit = VirialEquationOfState(TabulatedEquationOfState(densities, TEMPERATURE, exact, errors), 2)
    np.testing.assert_allclose(fit.pressure(np.array([2.2]), TEMPERATURE).value, gas(2.2, -0.08, 0.02), rtol=1e-10)
    slope = KT * (1 - 2 * 0.08 * 2.2 + 3 * 0.02 * 2.2**2)
    np.testing.assert_allclose(fit.compressibility(2.2, TEMPERATURE).value, 1 / (2.2 * slope), rtol=1e-7)


def test_surface_over_density_and_temperature():
    densities, temperatures = (a.ravel() for a in np.meshgrid(np.linspace(0.5, 4, 6), [250.0, 300.0, 400.0]))
    pressures = gas(densities, 0.1 - 40 / temperatures, 0.02, temperatures)
    table = TabulatedEquationOfState(densities, temperatures, pressures, np.full(len(densities), 0.01))
    fit = VirialEquationOfState(table, 2, powers_of_temperature=1)
    expected = gas(3.0, 0.1 - 40 / 350, 0.02, 350.0)
    np.testing.assert_allclose(fit.pressure(np.array([3.0]), 350.0).value, expected, rtol=1e-8)


def test_integrated_squared_difference_of_straight_lines():
    densities = np.array([1.0, 2.0, 3.0])
    first = TabulatedEquationOfState(densities, TEMPERATURE, densities, np.zeros(3))
    second = TabulatedEquationOfState(densities[::2], TEMPERATURE, 3 * densities[::2] - 2, np.zeros(2))
    found = integrated_squared_difference(first, second, 1.0, 3.0, TEMPERATURE)
    np.testing.assert_allclose(found.value, 4 * 8 / 3)  # ∫ (2ρ − 2)² dρ
    assert found.error == 0
    part = integrated_squared_difference(second, first, 1.5, 2.5, TEMPERATURE)
    np.testing.assert_allclose(part.value, 4 * (1.5**3 - 0.5**3) / 3)


def test_integrated_squared_difference_of_equal_models_is_zero_within_its_error():
    rng = np.random.default_rng(1)
    densities = np.linspace(1, 4, 7)
    exact, errors = gas(densities, 0.1, 0.0), np.full(7, 0.5)
    values, sizes = [], []
    for shift in (0.0, 0.8):
        found = []
        for _ in range(400):
            pair = [
                TabulatedEquationOfState(densities, TEMPERATURE, exact + s + errors * rng.normal(size=7), errors)
                for s in (0.0, shift)
            ]
            found.append(integrated_squared_difference(*pair, 1.0, 4.0, TEMPERATURE))
        values.append([f.value for f in found])
        sizes.append(np.sqrt(np.mean([f.error**2 for f in found])))
    for value, size, expected in zip(values, sizes, (0.0, 3 * 0.8**2), strict=True):
        assert abs(np.mean(value) - expected) < 4 * np.std(value) / 20
        # The error is estimated at the noisy difference, which overstates it where there is none.
        assert 0.8 * np.std(value) < size < 2 * np.std(value)


def test_refusals():
    with pytest.raises(ValueError, match="twice"):
        TabulatedEquationOfState([1.0, 1.0], TEMPERATURE, [1.0, 2.0], [0.1, 0.1])
    with pytest.raises(ValueError, match="finite"):
        TabulatedEquationOfState([1.0, 2.0], TEMPERATURE, [1.0, np.nan], [0.1, 0.1])
    table = TabulatedEquationOfState([1.0, 2.0], TEMPERATURE, [1.0, 2.0], [0.1, 0.1])
    with pytest.raises(ValueError, match="known are 1 to 2"):
        table.pressure(np.array([3.0]), TEMPERATURE)
    with pytest.raises(ValueError, match="there are 300 K"):
        table.pressure(np.array([1.0]), 310.0)
    with pytest.raises(ValueError, match="empty"):
        integrated_squared_difference(table, table, 2.0, 1.0, TEMPERATURE)
    with pytest.raises(ValueError, match="lower the order"):
        VirialEquationOfState(table, 3)

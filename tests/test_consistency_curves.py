"""Curves compared: one test for all points, the area between them."""

import numpy as np
import pytest

from jaxcg.consistency.statistics import compare_curves, curve_difference

R = np.linspace(0.2, 1.0, 40)
SHAPE = 1 + np.exp(-((R - 0.4) ** 2) / 0.01)


def blocks(rng, count, shift=0.0):
    return SHAPE + shift * np.exp(-((R - 0.6) ** 2) / 0.005) + 0.02 * rng.standard_normal((count, len(R)))


def test_equal_curves_pass_and_different_ones_are_placed():
    rng = np.random.default_rng(0)
    passed = [compare_curves(blocks(rng, 20), blocks(rng, 16), R, name="g(r)", seed=seed).passed for seed in range(40)]
    assert abs(np.mean(passed) - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 40)
    found = compare_curves(blocks(rng, 20), blocks(rng, 16, 0.1), R, name="g(r)")
    assert not found.passed
    assert found.place == pytest.approx(0.6, abs=0.05)
    assert found.deviation > 5
    assert "most at 0." in found.verdict
    assert compare_curves(blocks(rng, 20), blocks(rng, 16, 0.1), R, name="g(r)", slack=0.12).passed


def test_area_between_curves():
    rng = np.random.default_rng(1)
    exact = 0.3 * np.trapezoid(np.exp(-((R - 0.6) ** 2) / 0.005), R) / np.trapezoid(SHAPE, R)
    found = curve_difference(blocks(rng, 40), blocks(rng, 40, 0.3), R)
    assert found.value - found.bias == pytest.approx(exact, abs=4 * found.error + 0.002)
    squared = curve_difference(blocks(rng, 40), SHAPE[None] + 0.5, R, power=2, relative=False)
    assert squared.value == pytest.approx(0.25 * 0.8, abs=4 * squared.error)
    assert squared.lower < 0.2 < squared.upper


def test_bad_curves_are_refused():
    good = np.ones((5, len(R)))
    with pytest.raises(ValueError, match="at least 4 blocks"):
        compare_curves(good[:3], good, R, name="g(r)")
    with pytest.raises(ValueError, match="not finite"):
        compare_curves(good, good * np.nan, R, name="g(r)")
    with pytest.raises(ValueError, match="model has 2 blocks"):
        curve_difference(good, good[:2], R)

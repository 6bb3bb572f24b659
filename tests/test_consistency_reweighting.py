"""χ² with its error and bias, and maximum-entropy weights: closed forms, an independent optimiser, calibration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from jaxcg.consistency.experiment import (
    CollapsedWeights,
    chi_squared,
    compare_with_data,
    confidence_curve,
    maximum_entropy_weights,
    reweight_to_data,
    reweighted_average,
    scale_and_background,
)


def test_scale_and_background_are_least_squares(x64):
    rng = np.random.default_rng(0)
    computed, errors = rng.uniform(1, 2, 30), rng.uniform(0.1, 0.3, 30)
    measured = 3 * computed + 0.7 + errors * rng.normal(size=30)
    columns = {"s": computed, "b": np.ones(30)}
    for scale, background in ((True, True), (True, False), (False, True)):
        used = [columns[name] for name, on in (("s", scale), ("b", background)) if on]
        target = measured - (0 if scale else computed)
        solution = np.linalg.lstsq(np.stack(used, 1) / errors[:, None], target / errors, rcond=None)
        found = scale_and_background(computed, measured, errors, scale=scale, background=background)
        kept = [value for value, on in zip(found, (scale, background), strict=True) if on]
        np.testing.assert_allclose(kept, solution[0], rtol=1e-9)
        freedom = 30 - len(used)
        value = chi_squared(computed, measured, errors, scale=scale, background=background)
        np.testing.assert_allclose(value, solution[1][0] / freedom, rtol=1e-9)
    slope = jax.grad(lambda c: chi_squared(c, measured, errors, scale=True, background=True))(jnp.asarray(computed))
    step = 1e-6 * np.eye(30)[3]
    sides = [chi_squared(computed + s, measured, errors, scale=True, background=True) for s in (-step, step)]
    np.testing.assert_allclose(slope[3], (sides[1] - sides[0]) / 2e-6, rtol=1e-5)


def test_the_error_and_bias_of_chi_squared_are_those_of_repetitions(x64):
    rng = np.random.default_rng(1)
    truth, errors = np.array([1.0, 2.0, 3.0, 4.0]), np.full(4, 0.05)
    measured = truth + np.array([0.1, -0.05, 0.0, 0.05])
    exact = np.mean(((truth - measured) / errors) ** 2)
    found = [compare_with_data(truth + 0.3 * rng.normal(size=(256, 4)), measured, errors) for _ in range(60)]
    values = np.array([each.chi_squared.value for each in found])
    assert np.mean([each.bias for each in found]) == pytest.approx(0.3**2 / 256 / 0.05**2, rel=0.1)
    np.testing.assert_allclose(values.mean() - found[0].bias, exact, atol=4 * values.std() / np.sqrt(60))
    # To first order; at small χ² the square adds to the scatter.
    assert np.mean([each.chi_squared.error for each in found]) == pytest.approx(values.std(), rel=0.35)
    assert found[0].p_value < 0.3


def test_p_values_are_those_of_chi_squared():
    series = np.tile(np.arange(1.0, 6.0), (8, 1))
    measured = np.arange(1.0, 6.0) + 0.1 * np.array([1, -1, 2, 0, 1])
    found = compare_with_data(series, measured, np.full(5, 0.1))
    assert found.chi_squared.value == pytest.approx(7 / 5, rel=1e-5)
    assert found.chi_squared.error == 0
    assert found.p_value == pytest.approx(chi2.sf(7, 5), rel=1e-4)
    assert found.scale == 1


def test_transforms_of_averages():
    series = np.random.default_rng(3).uniform(0.9, 1.1, size=(64, 2))
    found = compare_with_data(series, np.array([1.0, 1.0]), np.array([0.1, 0.1]), transform=lambda mean: mean**2)
    np.testing.assert_allclose(found.deviations, (series.mean(axis=0) ** 2 - 1) / 0.1, atol=1e-5)


def test_two_states_have_the_closed_form(x64):
    # F is 0 or 1: the share of state 1 solves (p − F_exp)/σ² + θ ln[p (1 − p₀)/(p₀ (1 − p))] = 0.
    frames = np.repeat([[0.0], [1.0]], [280, 120], axis=0)
    for theta in (0.1, 1.0, 50.0):
        found = reweight_to_data(frames, np.array([0.6]), np.array([0.05]), theta)
        p = found.averages[0]
        balance = (p - 0.6) / 0.05**2 + theta * np.log(p * 0.7 / (0.3 * (1 - p)))
        assert abs(balance) < 1e-6 / 0.05**2
        expected = p * np.log(p / 0.3) + (1 - p) * np.log((1 - p) / 0.7)
        assert found.relative_entropy == pytest.approx(expected, abs=1e-9)
        assert found.chi_squared <= found.initial_chi_squared


def _objective(weights, frames, measured, errors, theta, prior):
    z = (weights @ frames - measured) / errors
    return 0.5 * z @ z + theta * np.sum(weights * np.log(weights / prior))


def test_the_weights_minimise_what_they_should(x64):
    rng = np.random.default_rng(4)
    frames, measured, errors = rng.normal(size=(20, 3)), np.array([0.4, -0.3, 0.2]), np.array([0.1, 0.2, 0.15])
    prior = rng.uniform(0.5, 1.5, 20)
    prior /= prior.sum()

    def by_logits(logits):
        weights = np.exp(logits - logits.max())
        return _objective(weights / weights.sum(), frames, measured, errors, 2.0, prior)

    reference = minimize(by_logits, np.log(prior), method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-10})
    weights = reweight_to_data(frames, measured, errors, 2.0, prior=prior).weights
    value = _objective(np.asarray(weights), frames, measured, errors, 2.0, prior)
    assert value <= reference.fun + 1e-12
    assert value == pytest.approx(reference.fun, rel=1e-6)


def test_bounds_act_only_where_they_are_broken(x64):
    frames = np.random.default_rng(5).normal(size=(200, 3))
    measured, errors = np.array([0.3, 0.3, 0.3]), np.full(3, 0.02)
    found = reweight_to_data(frames, measured, errors, 1.0, bounds=["lower", "upper", "value"])
    assert found.averages[0] == pytest.approx(0.3, abs=0.02)
    assert found.multipliers[1] == 0
    assert found.averages[2] == pytest.approx(0.3, abs=0.02)
    alone = reweight_to_data(frames[:, ::2], measured[::2], errors[::2], 1.0)
    np.testing.assert_allclose(alone.weights, found.weights, atol=1e-10)


def test_weights_are_differentiable(x64):
    rng = np.random.default_rng(6)
    frames, measured, errors = rng.normal(size=(30, 3)), np.array([0.3, -0.2, 0.5]), np.full(3, 0.2)
    other = rng.normal(size=30)

    def average(shift, theta):
        weights, _ = maximum_entropy_weights(
            frames + shift, measured, errors, theta, bounds=["value", "value", "upper"]
        )
        return weights @ other

    shift, rest = rng.normal(size=(30, 3)), np.zeros((30, 3))

    def all_at(at, theta):
        value, slopes = jax.value_and_grad(average, argnums=(0, 1))(at, theta)
        return value, *slopes, jax.jvp(lambda s: average(s, theta), (at,), (shift,))[1]

    # Without costly optimisations: the test spends its time compiling.
    all_at = jax.jit(all_at, compiler_options={"xla_backend_optimization_level": 0})
    sides = [all_at(h * shift, 2.0)[0] for h in (-1e-5, 1e-5)]
    expected = (sides[1] - sides[0]) / 2e-5
    _, backward, by_theta, forward = all_at(rest, 2.0)
    np.testing.assert_allclose(np.sum(backward * shift), expected, rtol=1e-5)
    np.testing.assert_allclose(forward, expected, rtol=1e-5)
    sides = [all_at(rest, 2.0 + h)[0] for h in (-1e-5, 1e-5)]
    np.testing.assert_allclose(by_theta, (sides[1] - sides[0]) / 2e-5, rtol=1e-5)


@pytest.mark.slow
def test_single_precision_comes_near(x64):
    rng = np.random.default_rng(7)
    frames, measured, errors = rng.normal(size=(500, 4)), np.array([0.3, -0.2, 0.1, 0.0]), np.full(4, 0.1)
    double, _ = maximum_entropy_weights(frames, measured, errors, 1.0)
    single, _ = maximum_entropy_weights(*(a.astype(np.float32) for a in (frames, measured, errors)), 1.0)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, double, rtol=2e-3, atol=1e-6)


def test_a_collapse_is_told():
    frames = np.random.default_rng(8).normal(size=(400, 1))
    with pytest.warns(CollapsedWeights, match=r"carried by .* of 400 frames .* larger theta"):
        found = reweight_to_data(frames, np.array([2.8]), np.array([0.01]), 0.01)
    assert found.status == "collapsed"
    assert found.effective_frames < 50
    curve = confidence_curve(frames, np.array([2.8]), np.array([0.01]), [1e5, 1e3, 10.0, 0.1])
    assert np.all(np.diff(curve.chi_squared) < 0)
    assert np.all(np.diff(curve.share) < 0)
    assert np.all(np.diff(curve.relative_entropy) > 0)


def test_errors_of_reweighted_averages_are_those_of_repetitions():
    # A normal ensemble moved by data on its first coordinate; the second goes with it.
    rng = np.random.default_rng(9)
    measured, errors, theta = np.array([0.5]), np.array([0.1]), 1.0
    values, told = [], []
    for _ in range(60):
        x = rng.normal(size=400)
        g = 0.7 * x + 0.5 * rng.normal(size=400)
        ensemble = reweight_to_data(x[:, None], measured, errors, theta)
        found = reweighted_average(g, x[:, None], errors, theta, ensemble)
        values.append(found.value)
        told.append(found.error)
    # λ = ⟨z⟩/θ with ⟨x⟩ = −λ/σ for a unit normal: ⟨x⟩ (1 + θ σ²) = F_exp.
    assert np.mean(values) == pytest.approx(0.7 * 0.5 / 1.01, abs=4 * np.std(values) / np.sqrt(60) + 0.003)
    assert np.mean(told) == pytest.approx(np.std(values), rel=0.3)


def test_correlated_frames_leave_fewer_samples():
    rng = np.random.default_rng(10)
    slow = np.repeat(rng.normal(size=40), 10)[:, None]
    found = reweight_to_data(slow, np.array([0.1]), np.array([0.2]), 10.0)
    # Of four hundred frames forty are independent; known to a factor from one series.
    assert 15 < found.effective_sample_size < 90
    parts = reweight_to_data([slow[:200], slow[200:]], np.array([0.1]), np.array([0.2]), 10.0)
    np.testing.assert_allclose(parts.weights, found.weights, rtol=1e-5)


def test_wrong_input_is_refused():
    frames, measured, errors = np.ones((5, 2)), np.array([1.0, 1.0]), np.array([0.1, 0.1])
    with pytest.raises(ValueError, match=r"datum 1 is 1\.0 ± 0\.0"):
        reweight_to_data(frames, measured, np.array([0.1, 0.0]), 1.0)
    with pytest.raises(ValueError, match="expected \\(frames, 2\\)"):
        reweight_to_data(frames[:, :1], measured, errors, 1.0)
    with pytest.raises(ValueError, match="theta is 0"):
        reweight_to_data(frames, measured, errors, 0.0)
    with pytest.raises(ValueError, match="5 positive numbers"):
        reweight_to_data(frames, measured, errors, 1.0, prior=np.zeros(5))
    with pytest.raises(ValueError, match="for each of 2 data"):
        reweight_to_data(frames, measured, errors, 1.0, bounds=["upper"])
    with pytest.raises(ValueError, match="frame 3 is not finite"):
        reweight_to_data(np.where(np.arange(5)[:, None] == 3, np.nan, frames), measured, errors, 1.0)
    with pytest.raises(ValueError, match="cannot fix"):
        compare_with_data(frames, measured, errors, scale=True, background=True)
    with pytest.raises(ValueError, match="give one error for each"):
        compare_with_data(frames, measured[:0], errors[:0])

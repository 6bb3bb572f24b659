"""Two distributions compared: intervals cover, equal ones pass, different ones do not, correlations are seen."""

import json

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import norm

from jaxcg.consistency.statistics import (
    compare_distributions,
    compare_histograms,
    hellinger_distance,
    jensen_shannon_divergence,
    kl_divergence,
    wasserstein_distance,
)

EDGES = np.concatenate([[-9.0], np.linspace(-2.2, 2.6, 17), [10.0]])


def series(rng, frames, phi, mean=0.0, width=1.0, values=()):
    noise = rng.standard_normal((frames, *values)) * np.sqrt(1 - phi**2)
    noise[0] /= np.sqrt(1 - phi**2)
    return mean + width * lfilter([1.0], [1.0, -phi], noise, axis=0)


def truth(mean, width):
    p, q = np.diff(norm.cdf(EDGES)), np.diff(norm.cdf(EDGES, mean, width))
    return {
        "Kullback–Leibler": kl_divergence(p, q),
        "reverse Kullback–Leibler": kl_divergence(q, p),
        "Jensen–Shannon": jensen_shannon_divergence(p, q),
        "Hellinger": hellinger_distance(p, q),
        "Wasserstein": wasserstein_distance(p, q, EDGES),
    }


def coverage(frames, phi, mean, width, repeats):
    """Share of intervals that hold the truth, mean of the values, and share of verdicts that they agree."""
    rng = np.random.default_rng(7)
    exact = truth(mean, width)
    held, values, agreed = dict.fromkeys(exact, 0), dict.fromkeys(exact, 0.0), 0
    for seed in range(repeats):
        first, second = series(rng, frames, phi), series(rng, frames, phi, mean, width)
        found = compare_distributions(first, second, edges=EDGES, seed=seed)
        agreed += found.agree
        for name, value in exact.items():
            held[name] += found[name].lower <= value <= found[name].upper
            values[name] += found[name].value / repeats
    return {name: count / repeats for name, count in held.items()}, values, agreed / repeats


@pytest.mark.slow
# With 2000 independent frames the rarest bin has nine counts, and reverse Kullback–Leibler covers only 92 to 93 %.
@pytest.mark.parametrize(("frames", "phi"), [(8000, 0.0), (4000, 0.7)])
def test_intervals_cover_the_truth(monkeypatch, frames, phi):
    monkeypatch.setattr("jaxcg.dynamics.observables.comparison._DRAWS", 50)  # the test is not of interest here
    held, values, agreed = coverage(frames, phi, 0.4, 1.2, 500)
    assert agreed < 0.01
    exact = truth(0.4, 1.2)
    for name, share in held.items():
        assert 0.93 <= share <= 0.97, (name, share)
        assert values[name] == pytest.approx(exact[name], rel=0.05)


@pytest.mark.slow
def test_equal_distributions_are_found_equal(monkeypatch):
    monkeypatch.setattr("jaxcg.dynamics.observables.comparison._DRAWS", 400)
    held, values, agreed = coverage(4000, 0.7, 0.0, 1.0, 300)
    assert 0.91 <= agreed <= 0.99
    # At zero there is nothing below, so an interval can only fail above it.
    for name, share in held.items():
        assert share >= 0.94, (name, share)
    # Without the correction of the bias it would be 17/(2 n) from each side, n ≈ 1000.
    assert values["Kullback–Leibler"] < 0.006


def test_distributions_that_never_change_and_never_meet():
    """A rigid angle: every frame of either side in one bin, and not in the same."""
    reference, model = np.zeros((20, 16)), np.zeros((12, 16))
    reference[:, 3], model[:, 9] = 50, 30
    found = compare_histograms(reference, model, edges=np.linspace(0, 1.6, 17), name="angle")
    assert not found.agree
    assert found.p_value < 0.01
    assert 1 < abs(found.deviation) < 100
    same = compare_histograms(reference, reference[:12], edges=np.linspace(0, 1.6, 17), name="angle")
    assert same.agree
    assert same.deviation == 0


def test_table_verdict_and_json():
    rng = np.random.default_rng(0)
    first, second = series(rng, 3000, 0.5), series(rng, 4000, 0.5, 0.5)
    found = compare_distributions(first, second, name="bond A–B", unit="nm", seed=1)
    assert not found.agree
    assert found.verdict.startswith("they differ (p < 0.0001), most at ")
    exact = kl_divergence(np.diff(norm.cdf(found.edges[0])), np.diff(norm.cdf(found.edges[0], 0.5)))
    forward = found["Kullback–Leibler"]
    assert forward.direction == "D(reference‖model)"
    assert abs(forward.value - exact) < 4 * forward.error
    assert forward.bias > 0
    assert found["Wasserstein"].value == pytest.approx(0.5, abs=4 * found["Wasserstein"].error)
    assert found["Wasserstein"].unit == "nm"
    assert 600 < found.reference.effective_sample_size < 3000
    assert np.sum(found.model.value * np.diff(found.edges[0])) == pytest.approx(1)
    assert len(found.table().splitlines()) == 5
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["agree"] is False
    with pytest.raises(KeyError, match="Jensen"):
        found["chi squared"]


def test_correlations_widen_the_intervals_and_spare_equal_distributions():
    rng = np.random.default_rng(1)
    first, second = series(rng, 20_000, 0.95), series(rng, 20_000, 0.95)
    found = compare_distributions(first, second, edges=EDGES)
    assert found.agree
    assert "no difference beyond chance" in found.verdict
    assert found["Jensen–Shannon"].lower == 0
    assert 500 < found.reference.effective_sample_size < 6000
    # As independent samples they would count for more.
    rng.shuffle(first)
    shuffled = compare_distributions(first, second, edges=EDGES)
    assert shuffled.reference.effective_sample_size == pytest.approx(20_000, rel=0.3)


def test_values_of_a_frame_stay_together():
    rng = np.random.default_rng(2)
    common = series(rng, 4000, 0.0)
    many = np.repeat(common[:, None], 30, axis=1)
    found = compare_distributions(many, series(rng, 4000, 0.0), edges=EDGES)
    assert found.reference.effective_sample_size == pytest.approx(4000, rel=0.35)
    independent = compare_distributions(series(rng, 4000, 0.0, values=(30,)), common, edges=EDGES)
    assert independent.reference.effective_sample_size == pytest.approx(120_000, rel=0.35)


def test_ramachandran():
    rng = np.random.default_rng(3)

    def angles(frames, shift):
        phi = -1.2 + 0.3 * series(rng, frames, 0.3)
        psi = np.where(rng.random(frames) < 0.6, -0.8, 2.9 + shift) + 0.3 * series(rng, frames, 0.3)
        return np.stack([phi, psi], axis=-1)

    options = {"dimensions": 2, "bins": 18, "periods": 2 * np.pi, "axes": ("φ", "ψ"), "unit": "rad"}
    same = compare_distributions(angles(4000, 0.0), angles(4000, 0.0), **options)
    assert same.agree
    assert same.reference.value.shape == (18, 18)
    area = (2 * np.pi / 18) ** 2
    assert same.reference.value.sum() * area == pytest.approx(1)
    other = compare_distributions(angles(4000, 0.0), angles(4000, 0.5), **options)
    assert not other.agree
    assert len(other.place) == 2
    # 2.9 + 0.5 lies beyond π: 40 % of the mass moved by half a radian, the shorter way.
    moved = other["Wasserstein ψ"]
    assert moved.value == pytest.approx(0.2, abs=4 * moved.error + 0.01)
    assert other["Wasserstein φ"].lower == 0


def test_where_one_side_has_nothing_the_divergence_is_a_lower_bound():
    rng = np.random.default_rng(4)
    first, second = rng.uniform(0, 2, 1000), rng.uniform(0, 1, 1000)
    found = compare_distributions(first, second, edges=np.linspace(0, 2, 9))
    forward, backward = found["Kullback–Leibler"], found["reverse Kullback–Leibler"]
    assert forward.lower_bound
    assert 1 < forward.value < np.inf
    assert not backward.lower_bound
    assert backward.value == pytest.approx(np.log(2), abs=4 * backward.error)
    assert any("lower bound" in words for words in found.warnings)


def test_few_samples_warn_and_fewer_are_refused():
    rng = np.random.default_rng(5)
    found = compare_distributions(rng.normal(size=60), rng.normal(size=2000))
    assert any("effective samples" in words for words in found.warnings)
    with pytest.raises(ValueError, match="4 are needed"):
        compare_distributions(rng.normal(size=3), rng.normal(size=2000))
    with pytest.raises(ValueError, match="too few to tell"):
        compare_histograms(np.ones((4, 2)), np.eye(2)[[0, 1, 0, 1]] * 2, np.arange(3.0))


def test_bad_input_is_refused():
    good = np.random.default_rng(6).normal(size=200)
    bad = good.copy()
    bad[17] = np.nan
    with pytest.raises(ValueError, match="first in frame 17"):
        compare_distributions(good, bad, name="angle")
    with pytest.raises(ValueError, match="selection empty"):
        compare_distributions(good, np.zeros((200, 0)))
    with pytest.raises(ValueError, match="outside the edges"):
        compare_distributions(good, good, edges=np.linspace(-1, 1, 5))
    with pytest.raises(ValueError, match="expected"):
        compare_distributions(good, good, dimensions=2)
    with pytest.raises(ValueError, match="go round"):
        compare_distributions(good, good, edges=np.linspace(-9, 9, 5), periods=2 * np.pi)
    with pytest.raises(ValueError, match="increasing"):
        compare_distributions(good, good, edges=np.array([0.0, 2, 1]))
    with pytest.raises(ValueError, match="negative"):
        compare_histograms(-np.ones((5, 4)), np.ones((5, 4)), np.arange(5.0))
    with pytest.raises(ValueError, match="edges make bins"):
        compare_histograms(np.ones((5, 3)), np.ones((5, 4)), np.arange(5.0))

"""Block bootstrap: intervals of functions of averages cover, errors are those of the delta method."""

import numpy as np
import pytest

from jaxcg.consistency.statistics import block_bootstrap


def test_error_of_a_ratio_is_that_of_the_delta_method():
    rng = np.random.default_rng(0)
    a, b = rng.normal(3, 1, 400), rng.normal(2, 0.5, 300)
    found = block_bootstrap(lambda x, y: x / y, a, b)
    exact = a.mean() / b.mean() * np.sqrt(a.var() / 400 / a.mean() ** 2 + b.var() / 300 / b.mean() ** 2)
    assert found.value == pytest.approx(a.mean() / b.mean())
    assert found.error == pytest.approx(exact, rel=4 / np.sqrt(2000))
    assert found.lower < found.value < found.upper
    assert found.blocks == 300
    assert found.estimate.error == found.error


def test_leaves_of_one_sample_are_drawn_together():
    count = np.random.default_rng(1).uniform(1, 9, 50)
    found = block_bootstrap(lambda both: both["sum"] / both["count"], {"sum": 2.5 * count, "count": count})
    assert found.value == pytest.approx(2.5)
    assert found.error < 1e-12


def test_arrays_and_vectorized_functions_agree():
    x = np.random.default_rng(2).normal(1, 1, (40, 3))
    one = block_bootstrap(lambda m: m**2, x, resamples=200)
    many = block_bootstrap(lambda m: m**2, x, resamples=200, vectorized=True)
    assert one.value.shape == (3,)
    for a, b in zip(one, many, strict=True):
        assert np.allclose(a, b)
    # E[m²] is above E[m]² by the variance of the mean.
    assert np.allclose(one.bias, x.var(axis=0) / 40, rtol=0.6)


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_intervals_of_a_skewed_function_cover(method):
    rng = np.random.default_rng(3)
    covered = 0
    for seed in range(500):
        x = rng.exponential(1.0, (60, 5)).mean(axis=1)
        found = block_bootstrap(np.log, x, resamples=600, method=method, vectorized=True, seed=seed)
        covered += found.lower <= 0 <= found.upper
    assert 0.93 <= covered / 500 <= 0.97


def test_bad_samples_are_refused():
    with pytest.raises(ValueError, match="4 at least"):
        block_bootstrap(np.sum, np.zeros(3))
    with pytest.raises(ValueError, match="same number"):
        block_bootstrap(np.sum, {"a": np.zeros(5), "b": np.zeros(6)})
    with pytest.raises(ValueError, match="not finite for"):
        block_bootstrap(lambda m: m - np.inf, np.zeros(8))
    with pytest.raises(ValueError, match="unknown method"):
        block_bootstrap(np.sum, np.zeros(8), method="studentized")
    with pytest.raises(ValueError, match="leading axis"):
        block_bootstrap(np.sum, np.zeros(8), vectorized=True)

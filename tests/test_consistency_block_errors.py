"""Blocking: errors of correlated averages are right, and their intervals cover."""

import numpy as np
import pytest
from scipy.signal import lfilter

from jaxcg.consistency.statistics import (
    Estimate,
    block_average,
    block_length,
    block_means,
    blocking_curve,
    decorrelated_frames,
    statistical_inefficiency,
    too_uncertain,
)


def ar1(rng, frames, phi, copies=()):
    """Stationary series of variance one whose correlation is phi^t; statistical inefficiency (1 + phi)/(1 − phi)."""
    noise = rng.standard_normal((frames, *copies)) * np.sqrt(1 - phi**2)
    noise[0] = rng.standard_normal(copies)
    return lfilter([1.0], [1.0, -phi], noise, axis=0)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_error_and_effective_sample_size_of_a_known_correlation(phi):
    series = ar1(np.random.default_rng(0), 20_000, phi, (200,))
    found = block_average(series)
    inefficiency = (1 + phi) / (1 - phi)
    exact = np.sqrt(inefficiency / 20_000)
    assert np.allclose(found.value, series.mean(axis=0))
    assert np.mean(found.error) == pytest.approx(exact, rel=0.03)
    assert np.median(found.effective_sample_size) == pytest.approx(20_000 / inefficiency, rel=0.08)
    # The errors are those by which the means really scatter.
    assert np.std(found.value) == pytest.approx(exact, rel=4 / np.sqrt(400))


@pytest.mark.parametrize(("frames", "phi"), [(2000, 0.0), (2000, 0.9), (8000, 0.95)])
def test_intervals_cover(frames, phi):
    series = ar1(np.random.default_rng(1), frames, phi, (4000,))
    lower, upper = block_average(series).interval(0.95)
    covered = np.mean((lower <= 0) & (upper >= 0))
    assert 0.93 <= covered <= 0.97


def test_independent_runs_are_one_series_and_blocks_do_not_cross():
    rng = np.random.default_rng(2)
    runs = [ar1(rng, frames, 0.8, (50,)) for frames in (3000, 5000)]
    found = block_average(runs)
    assert np.allclose(found.value, np.concatenate(runs).mean(axis=0))
    assert np.mean(found.error) == pytest.approx(np.sqrt(9 / 8000), rel=0.06)
    # Runs that do not mix are seen where there are many.
    apart = [run + offset for run, offset in zip([runs[0][:100]] * 20, rng.standard_normal(20) * 5, strict=True)]
    assert np.mean(block_average(apart).error) > 4 * np.mean(block_average([runs[0][:100]] * 20).error)


def test_what_never_changes_has_no_error_and_short_series_have_none_known():
    assert block_average(np.full(100, 3.0))[:2] == (3.0, 0.0)
    short = block_average(np.array([1.0, 2.0, 3.0]))
    assert short.value == 2.0
    assert np.isnan(short.error)
    mixed = block_average(np.stack([np.full(64, 2.0), np.random.default_rng(0).standard_normal(64)], axis=1))
    assert mixed.error[0] == 0 < mixed.error[1]
    assert np.isnan(mixed.effective_sample_size[0])


def test_curve_rises_to_the_plateau():
    curve = blocking_curve(ar1(np.random.default_rng(3), 2**16, 0.9))
    assert list(curve.lengths[:4]) == [1, 2, 4, 8]
    assert curve.errors[0] == pytest.approx(2**-8, rel=0.05)
    plateau = np.abs(curve.errors[8:11] - np.sqrt(19) / 2**8) < 4 * curve.uncertainties[8:11]
    assert plateau.all()


def test_blocks_are_independent_and_frames_decorrelated():
    series = ar1(np.random.default_rng(4), 30_000, 0.9)
    length = block_length(series)
    assert 19 < length < 3000
    means = block_means(series)
    assert len(means) == 30_000 // length
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 4 / np.sqrt(len(means)) + 19 / length
    kept = decorrelated_frames(series)
    assert kept[-1] == 29_999
    assert len(kept) == pytest.approx(30_000 / 19, rel=0.25)
    assert statistical_inefficiency(series) == pytest.approx(19, rel=0.25)
    assert block_length(np.zeros(50)) == 1
    assert len(decorrelated_frames(np.zeros(50))) == 50


def test_uncertain_estimates_say_what_is_missing():
    estimate = Estimate(1.0, 0.2, 50.0)
    assert too_uncertain("pressure", estimate, 0.3) is None
    words = too_uncertain("pressure", estimate, 0.1)
    assert "4.0 times" in words
    assert "50 effective samples" in words
    assert estimate.samples_for(0.1) == pytest.approx(200)
    assert str(Estimate(1.2345, 0.021)) == "1.234 ± 0.021"
    lower, upper = Estimate(0.0, 1.0).interval()
    assert (lower, upper) == pytest.approx((-1.95996, 1.95996), rel=1e-4)


def test_bad_series_are_refused():
    with pytest.raises(ValueError, match="frame 3 of run 0 is not finite"):
        block_average(np.array([1.0, 2, 3, np.nan, 5]))
    with pytest.raises(ValueError, match="trailing shape"):
        block_average([np.zeros((5, 2)), np.zeros((5, 3))])
    with pytest.raises(ValueError, match="no frames"):
        block_average(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="longest run"):
        block_means(np.zeros(10), 11)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Estimate(0.0, 1.0).interval(95)

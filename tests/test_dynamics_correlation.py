"""Correlation functions: by hand, streamed in segments, in single precision, about the mean."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import Correlation, CorrelationStream, correlation


def by_hand(a, b, lags):
    frames = a.shape[1]
    return np.stack(
        [np.einsum("nti,ntj->ij", a[:, k:], b[:, : frames - k]) / len(a) / (frames - k) for k in range(lags)]
    )


def test_segments_of_any_length_give_what_the_whole_gives(x64):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 200, 2)), rng.normal(size=(3, 200, 1))
    expected = by_hand(a, b, 23)
    np.testing.assert_allclose(Correlation.start(23, 2, 1).update(a, b).value(), expected, atol=1e-14)
    stream = CorrelationStream.start(23, 3, 2, 1)
    for low, high in ((0, 5), (5, 60), (60, 70), (70, 199), (199, 200)):  # shorter and longer than the lags
        stream = stream.update(a[:, low:high], b[:, low:high])
    np.testing.assert_allclose(stream.value(), expected, atol=1e-14)
    assert stream.past.shape == (3, 22, 1)
    np.testing.assert_array_equal(stream.found.pairs, 3 * (200 - np.arange(23)))


def test_many_updates_in_single_precision_lose_nothing():
    rng = np.random.default_rng(1)
    part = (rng.normal(size=(1, 64, 1)) + 1.0).astype(np.float32)
    found = Correlation.start(8, 1, dtype=jnp.float32)
    once = found.update(part, part).value()

    def more(now, _):
        return now.update(part, part), None

    # 3·10⁴ equal parts: plain sums in float32 would be off by 1e-4 or more.
    found = jax.lax.scan(more, found, length=30_000)[0]
    assert found.total.dtype == jnp.float32
    np.testing.assert_allclose(found.value(), once, rtol=3e-7)
    exact = by_hand(part.astype(np.float64), part.astype(np.float64), 8)
    np.testing.assert_allclose(found.value(), exact, rtol=2e-6)


def test_fluctuations_about_the_mean(x64):
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 300)) + 50.0
    centered = (x - x.mean())[..., None]
    expected = by_hand(centered, centered, 5)[:, 0, 0]
    np.testing.assert_allclose(correlation(x, lags=5, subtract_mean=True), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Correlation.start(9, 1).update(np.ones((1, 5, 1)), np.ones((1, 5, 1))), "give at most 5 lags"),
        (
            lambda: Correlation.start(3, 1).update(np.ones((1, 5, 1)), np.ones((1, 6, 1))),
            "same trajectories and frames",
        ),
        (lambda: CorrelationStream.start(3, 2, 1).update(np.ones((1, 5, 1)), np.ones((1, 5, 1))), "the stream has 2"),
    ],
)
def test_wrong_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()

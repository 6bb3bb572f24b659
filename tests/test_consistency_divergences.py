"""Divergences against closed forms and scipy; directions, gradients, bias."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import norm, vonmises
from scipy.stats import wasserstein_distance as scipy_wasserstein

from jaxcg.consistency.statistics import (
    hellinger_distance,
    jensen_shannon_divergence,
    kl_divergence,
    sample_wasserstein_distance,
    wasserstein_distance,
)
from jaxcg.consistency.statistics.divergences import JENSEN_SHANNON, KL, REVERSE_KL, SQUARED_HELLINGER

EDGES = np.linspace(-12, 12, 2401)
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
P, Q = norm.pdf(CENTRES), norm.pdf(CENTRES, 0.5, 1.5)


def test_closed_forms_of_normal_distributions():
    forward = np.log(1.5) + (1 + 0.25) / (2 * 1.5**2) - 0.5
    backward = -np.log(1.5) + (1.5**2 + 0.25) / 2 - 0.5
    assert kl_divergence(P, Q) == pytest.approx(forward, rel=1e-4)
    assert kl_divergence(Q, P) == pytest.approx(backward, rel=1e-4)
    affinity = np.sqrt(2 * 1.5 / (1 + 1.5**2)) * np.exp(-0.25 / (4 * (1 + 1.5**2)))
    assert hellinger_distance(P, Q) == pytest.approx(np.sqrt(1 - affinity), rel=1e-4)
    shifted = norm.pdf(CENTRES, 0.7, 1.0)
    assert wasserstein_distance(P, shifted, EDGES) == pytest.approx(0.7, rel=1e-6)
    p, q = P / P.sum(), Q / Q.sum()
    middle = (p + q) / 2
    exact = (rel_entr(p, middle).sum() + rel_entr(q, middle).sum()) / 2
    assert jensen_shannon_divergence(P, Q) == pytest.approx(exact, rel=1e-12)


def test_extremes():
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    half = np.array([1, 1])
    assert kl_divergence(p, q) == np.inf
    assert kl_divergence(p, half) == pytest.approx(np.log(2))
    assert kl_divergence(half, p) == np.inf
    assert jensen_shannon_divergence(p, q) == pytest.approx(np.log(2))
    assert hellinger_distance(p, q) == pytest.approx(1.0)
    assert kl_divergence(P, 7 * P) == pytest.approx(0.0, abs=1e-12)
    assert kl_divergence(P.reshape(40, 60), Q.reshape(40, 60)) == pytest.approx(kl_divergence(P, Q))
    with pytest.raises(ValueError, match="same bins"):
        kl_divergence(p, np.ones(3))


def test_wasserstein_goes_the_shorter_way_round():
    edges = np.linspace(-np.pi, np.pi, 721)
    near, across = (np.diff(vonmises.cdf(edges, 60, loc=m)) for m in (3.0, -3.0))
    apart = 2 * np.pi - 6
    assert wasserstein_distance(near, across, edges, period=2 * np.pi) == pytest.approx(apart, rel=1e-2)
    assert wasserstein_distance(near, across, edges) > 2
    with pytest.raises(ValueError, match="go round"):
        wasserstein_distance(near, across, edges, period=3.0)


def test_wasserstein_of_samples_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, 30), rng.normal(1, 2, 47)
    assert sample_wasserstein_distance(x, y) == pytest.approx(scipy_wasserstein(x, y), rel=1e-12)


def test_gradients(x64):
    rng = np.random.default_rng(1)
    both = rng.uniform(0.5, 1.5, (2, 8))
    p, q = jnp.asarray(both)
    edges = np.linspace(0.0, 2.0, 9)
    functions = (
        kl_divergence,
        jensen_shannon_divergence,
        hellinger_distance,
        lambda a, b: wasserstein_distance(a, b, edges),
        lambda a, b: wasserstein_distance(a, b, edges, period=2.0),
        sample_wasserstein_distance,
    )
    for f in functions:
        slopes = np.concatenate(jax.jit(jax.grad(f, (0, 1)))(p, q))
        steps = 1e-6 * np.eye(16).reshape(16, 2, 8)
        numerical = [(f(*(both + step)) - f(*(both - step))) / 2e-6 for step in steps]
        assert np.allclose(slopes, np.array(numerical), rtol=1e-6, atol=1e-8)
    # Empty bins and equal distributions have finite derivatives.
    holes = p.at[2].set(0.0)
    for f in (jensen_shannon_divergence, hellinger_distance):
        assert np.isfinite(jax.grad(f)(holes, q)).all()
    assert np.isfinite(jax.grad(kl_divergence)(holes, q)).all()
    assert (jax.grad(hellinger_distance)(p, p) == 0).all()


def test_precision_follows_the_input():
    assert kl_divergence(jnp.asarray(P, jnp.float32), jnp.asarray(Q, jnp.float32)).dtype == jnp.float32
    assert jensen_shannon_divergence(P.astype(np.float32), Q.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("kind", [KL, REVERSE_KL, JENSEN_SHANNON, SQUARED_HELLINGER])
def test_bias_is_what_finite_samples_add(kind):
    rng = np.random.default_rng(2)
    p, q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.25, 0.25, 0.3, 0.2])
    m, n, repeats = 400, 300, 20_000
    drawn = kind.of_shares(rng.multinomial(m, p, repeats) / m, rng.multinomial(n, q, repeats) / n)
    added = drawn.mean() - kind.of_shares(p, q)
    expected = kind.bias(p, q, p * (1 - p) / m, q * (1 - q) / n)
    assert added == pytest.approx(expected, abs=4 * drawn.std() / np.sqrt(repeats) + 0.03 * expected)
    assert expected > 8 * drawn.std() / np.sqrt(repeats)

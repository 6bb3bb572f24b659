import numpy as np
import pytest

from jaxcg.sampling.diagnostics.convergence import (
    bulk_effective_sample_size,
    mean_effective_sample_size,
    rank_normalised_r_hat,
)


def autoregressive(rho, chains=4, draws=500, seed=0, shift=0.0):
    rng = np.random.default_rng(seed)
    x = np.empty((chains, draws))
    x[:, 0] = rng.normal(size=chains)
    for i in range(1, draws):
        x[:, i] = rho * x[:, i - 1] + np.sqrt(1 - rho**2) * rng.normal(size=chains)
    return x + shift * np.arange(chains)[:, None]


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_effective_sample_size_of_an_autoregressive_chain(rho):
    x = autoregressive(rho, chains=8, draws=4000)
    exact = x.size * (1 - rho) / (1 + rho)
    assert mean_effective_sample_size(x) == pytest.approx(exact, rel=0.12)
    assert bulk_effective_sample_size(np.exp(x)) == pytest.approx(exact, rel=0.15)  # ranks: any monotone function
    assert rank_normalised_r_hat(x) < 1.01


def test_r_hat_sees_chains_that_differ_in_place_or_spread():
    x = autoregressive(0.3)
    assert rank_normalised_r_hat(x) < 1.01
    assert rank_normalised_r_hat(autoregressive(0.3, shift=0.5)) > 1.1
    x[0] *= 5
    assert rank_normalised_r_hat(x) > 1.1  # only the folded version sees this
    drift = autoregressive(0.3) + np.linspace(-1, 1, 500)
    assert rank_normalised_r_hat(drift) > 1.1  # only the split sees this


def test_agrees_with_arviz():
    arviz = pytest.importorskip("arviz")
    for draws in (
        autoregressive(0.8),
        autoregressive(-0.5, draws=37),
        autoregressive(0.9, chains=2, draws=20, shift=1.0),
        autoregressive(0.95, chains=2, draws=101),
        np.random.default_rng(0).integers(0, 5, (3, 40)).astype(float),
    ):
        assert rank_normalised_r_hat(draws) == pytest.approx(arviz.rhat(draws, method="rank"), rel=1e-8)
        assert bulk_effective_sample_size(draws) == pytest.approx(arviz.ess(draws, method="bulk"), rel=1e-6)
        assert mean_effective_sample_size(draws) == pytest.approx(arviz.ess(draws, method="mean"), rel=1e-6)


def test_too_little_to_judge():
    assert np.isnan(rank_normalised_r_hat(np.zeros((4, 3))))
    assert np.isnan(bulk_effective_sample_size(np.ones((4, 100))))
    assert np.isnan(bulk_effective_sample_size(np.full((4, 100), np.nan)))
    with pytest.raises(ValueError, match="chains, draws"):
        rank_normalised_r_hat(np.zeros(10))

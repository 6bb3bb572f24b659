from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import (
    HMC,
    Chains,
    bulk_effective_sample_size,
    circular_convergence,
    convergence,
    energy_fraction,
    mean_effective_sample_size,
    mean_standard_error,
    quantile_effective_sample_size,
    quantile_standard_error,
    rank_normalised_r_hat,
    sampler_health,
    sd_effective_sample_size,
    sd_standard_error,
    tail_effective_sample_size,
)
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT


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
    # The squares of the chain are autoregressive with the square of its coefficient.
    assert sd_effective_sample_size(x) == pytest.approx(x.size * (1 - rho**2) / (1 + rho**2), rel=0.15)
    assert rank_normalised_r_hat(x) < 1.01


def test_errors_are_those_of_repeated_runs():
    # Sixty runs of four chains: the spread of their answers is what each one says its error is.
    runs = autoregressive(0.6, chains=240, draws=400, seed=3).reshape(60, 4, 400)
    draws = np.moveaxis(runs, 0, 2)
    for answer, error in (
        (draws.mean(axis=(0, 1)), mean_standard_error(draws)),
        (draws.std(axis=(0, 1), ddof=1), sd_standard_error(draws)),
        (np.quantile(draws, 0.9, axis=(0, 1)), quantile_standard_error(draws, 0.9)),
    ):
        # The spread of 60 numbers is known to a part of 1/√118.
        assert answer.std(ddof=1) == pytest.approx(np.sqrt((error**2).mean()), rel=4 / np.sqrt(118))


def test_r_hat_sees_chains_that_differ_in_place_or_spread():
    x = autoregressive(0.3)
    assert rank_normalised_r_hat(x) < 1.01
    assert rank_normalised_r_hat(autoregressive(0.3, shift=0.5)) > 1.1
    x[0] *= 5
    assert rank_normalised_r_hat(x) > 1.1  # only the folded version sees this
    drift = autoregressive(0.3) + np.linspace(-1, 1, 500)
    assert rank_normalised_r_hat(drift) > 1.1  # only the split sees this


CASES = {
    "slow": autoregressive(0.8),
    "antithetic": autoregressive(-0.5, draws=37),
    "apart": autoregressive(0.9, chains=2, draws=20, shift=1.0),
    "odd": autoregressive(0.95, chains=2, draws=101),
    "ties": np.random.default_rng(0).integers(0, 5, (3, 40)).astype(float),
    "heavy": np.random.default_rng(1).standard_cauchy((4, 90)),
}
MEASURES = {
    "r_hat": (rank_normalised_r_hat, lambda az, x: az.rhat(x, method="rank")),
    "bulk": (bulk_effective_sample_size, lambda az, x: az.ess(x, method="bulk")),
    "tail": (tail_effective_sample_size, lambda az, x: az.ess(x, method="tail")),
    "mean": (mean_effective_sample_size, lambda az, x: az.ess(x, method="mean")),
    "sd": (sd_effective_sample_size, lambda az, x: az.ess(x, method="sd")),
    "quantile": (
        lambda x: quantile_effective_sample_size(x, 0.3),
        lambda az, x: az.ess(x, method="quantile", prob=0.3),
    ),
    "mean_error": (mean_standard_error, lambda az, x: az.mcse(x, method="mean")),
    "sd_error": (sd_standard_error, lambda az, x: az.mcse(x, method="sd")),
    "quantile_error": (
        lambda x: quantile_standard_error(x, 0.3),
        lambda az, x: az.mcse(x, method="quantile", prob=0.3),
    ),
}
#: From ArviZ 0.23.4, in the order of `MEASURES`.
REFERENCE = {
    "slow": [1.0167923, 222.37488, 432.4266, 222.29489, 421.0265, 296.61976, 0.069311747, 0.036485381, 0.074497207],
    "antithetic": [0.98963821, 310.8042, 131.33645, 310.8042, 103.0471, 310.8042, 0.053159528, 0.06360777, 0.069677615],
    "apart": [2.100038, 4.2612341, 30.508475, 3.8260209, 8.8452223, 5.7438551, 0.58152684, 0.1394918, 0.87270492],
    "odd": [1.2317685, 7.2714004, 43.375109, 7.1102955, 33.268987, 7.7042801, 0.3041739, 0.08294268, 0.3666867],
    "ties": [0.985341, 115.6835, 79.030675, 114.68541, 97.846181, 117.71099, 0.13054779, 0.059649043, 0],
    "heavy": [1.0018069, 345.3792, 348.32342, 378.80755, 377.3522, 326.16772, 19.729774, 178.6995, 0.11097563],
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_arviz(case):
    ours = [measure(CASES[case]) for measure, _ in MEASURES.values()]
    np.testing.assert_allclose(ours, REFERENCE[case], rtol=1e-6, atol=1e-12)
    arviz = pytest.importorskip("arviz")
    theirs = [float(reference(arviz, CASES[case])) for _, reference in MEASURES.values()]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def test_many_quantities_at_once_are_those_one_by_one():
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(3, 60, 2, 4)).cumsum(axis=1)
    draws[..., 0, 1] = 7.0  # never changes
    draws[1, 3, 1, 2] = np.nan
    draws[..., 1, 3] = [[1.0], [2.0], [3.0]]  # no chain moves
    found = convergence(draws)
    for index in np.ndindex(2, 4):
        one = convergence(draws[(..., *index)])
        for name in vars(found):
            assert getattr(found, name)[index] == pytest.approx(getattr(one, name), nan_ok=True), name
    assert np.isnan(found.r_hat[0, 1])
    assert np.isnan(found.bulk[1, 2])
    assert np.isinf(found.r_hat[1, 3])
    assert found.bulk[1, 3] < 4
    coin = np.random.default_rng(0).integers(0, 2, (4, 200))
    assert rank_normalised_r_hat(coin) < 1.02  # folded about its median it is one number
    assert found.mean[0, 1] == 7
    assert isinstance(convergence(draws[..., 0, 0]).mean, float)


def test_too_little_to_judge():
    assert np.isnan(rank_normalised_r_hat(np.zeros((4, 3))))
    assert np.isnan(bulk_effective_sample_size(np.ones((4, 100))))
    assert np.isnan(bulk_effective_sample_size(np.full((4, 100), np.nan)))
    with pytest.raises(ValueError, match="chains, draws"):
        rank_normalised_r_hat(np.zeros(10))
    with pytest.raises(ValueError, match="between 0 and 1"):
        quantile_standard_error(np.zeros((2, 10)), 5)


def test_angles_do_not_know_where_the_circle_is_cut():
    x = 0.5 * autoregressive(0.5)
    wrapped = (x + np.pi + np.pi) % (2 * np.pi) - np.pi  # around 180°
    here, there = circular_convergence(x), circular_convergence(wrapped)
    assert there.r_hat == pytest.approx(here.r_hat)
    assert there.bulk == pytest.approx(here.bulk)
    assert abs(np.angle(np.exp(1j * (there.mean - here.mean - np.pi)))) < 1e-12
    assert there.sd == pytest.approx(here.sd)
    assert rank_normalised_r_hat(wrapped) > 0.99  # the cut angle may say anything
    # For a narrow distribution angles are numbers.
    narrow, plain = circular_convergence(0.01 * x), convergence(0.01 * x)
    assert narrow.sd == pytest.approx(plain.sd, rel=2e-3)
    assert narrow.mean_error == pytest.approx(plain.mean_error, rel=2e-3)
    assert narrow.sd_error == pytest.approx(plain.sd_error, rel=2e-2)
    # Chains in opposite wells that cosine alone (or sine alone) cannot tell apart.
    for angle in (0.0, np.pi / 2):
        ends = 0.1 * autoregressive(0.0) + angle + np.pi * (np.arange(4) % 2)[:, None]
        assert circular_convergence(ends).r_hat > 1.1
    assert np.isnan(circular_convergence(np.ones((2, 50))).r_hat)


class Student(AbstractEnergy):
    """Multivariate Student law of the distance to the origin: Gaussian for many degrees of freedom."""

    freedom: Array

    def __call__(self, x):
        thermal = jnp.asarray(GAS_CONSTANT * 300, x.dtype)
        scale = jnp.sum(x**2) / 0.01
        return 0.5 * thermal * (self.freedom + x.size - 3) * jnp.log1p(scale / self.freedom)


def test_energy_fraction_of_heavy_tails_is_small():
    mapping = LinearMap.from_weights([0, 0, 0], [0, 1, 2], [1 / 3] * 3, 1, 3)
    fractions = {}
    for freedom in (1.0, 1e5):
        posterior = Posterior(Student(jnp.float32(freedom)), mapping, jnp.zeros((1, 3), jnp.float32), 300.0)
        kernel = Chains(HMC(posterior, np.ones(3), step_size=0.03, steps=8))
        start = jnp.asarray(np.random.default_rng(0).normal(scale=0.1, size=(16, 3, 3)), jnp.float32)
        infos = run(kernel, kernel.init(jax.random.key(0), start), jax.random.key(1), 400).infos
        health = sampler_health(infos)
        assert health.acceptance.mean() > 0.8
        assert health.trajectories == 400
        assert health.divergences.sum() == 0
        fractions[freedom] = health.e_bfmi
        # H after a trajectory minus H before it is the energy error, and then the velocities are new.
        potential = np.asarray(infos.potential, np.float64)
        assert np.all(infos.total_energy[1:] > potential[:-1])
    assert np.median(fractions[1e5]) > 0.7
    assert np.median(fractions[1.0]) < 0.3


def test_energy_fraction_closed_forms():
    rng = np.random.default_rng(0)
    white, walk = rng.normal(size=(2, 20000)), rng.normal(size=(2, 20000)).cumsum(axis=1)
    np.testing.assert_allclose(energy_fraction(white), 2, rtol=0.05)  # differences of independent numbers
    assert np.all(energy_fraction(walk) < 0.01)
    assert np.isnan(energy_fraction(np.ones((1, 9)))).all()
    assert np.isnan(energy_fraction(np.ones((3, 2)))).all()
    with pytest.raises(ValueError, match="trajectories"):
        energy_fraction(np.ones(5))
    arviz = pytest.importorskip("arviz")
    np.testing.assert_allclose(energy_fraction(walk), arviz.bfmi(walk), rtol=1e-9)


def test_health_of_one_chain():
    draws = np.linspace(0, 1, 8)
    flags = draws > 0.9
    infos = SimpleNamespace(
        acceptance=draws, divergent=flags, irreversible=~flags, total_energy=draws, step_size=draws + 1
    )
    health = sampler_health(infos)
    assert health.acceptance == pytest.approx([0.5])
    assert (health.divergences, health.irreversible, health.step_size) == ([1], [7], [2])

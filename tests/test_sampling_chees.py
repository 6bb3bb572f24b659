import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian
from test_sampling_hmc import check_moments

from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, GeneralizedHMC, SelfTuningChains

KEY = jax.random.key(6)


def observe(state):
    return state.chains.position


def tuned_kernel(problem, **options):
    kernel = GeneralizedHMC(problem.posterior, problem.masses, step_size=0.05, persistence=0.0)
    return SelfTuningChains(Chains(kernel, vectorized=True), **options)


def tuned(problem, length, warmup=120, steps=120, chains=16, **options):
    kernel = tuned_kernel(problem, warmup=warmup, length=length, **options)
    start = jnp.asarray(problem.exact_draws(chains, seed=3))
    return kernel, run(kernel, kernel.init(KEY, start), KEY, steps, observe=observe)


def test_length_is_found_from_both_sides_and_then_fixed():
    problem = Gaussian()
    found = []
    for length in (0.05, 0.8):
        _, result = tuned(problem, length, steps=130)
        found.append(float(jnp.exp(result.state.length.log_average)))
        assert np.all(np.ptp(result.infos.step_size[120:], axis=0) == 0)
        assert float(result.state.averaging.count) == 120
        assert float(result.state.moments.count) == 120 * 16
        assert result.infos.acceptance[60:].mean() == pytest.approx(0.8, abs=0.1)
    print(found)
    assert 0.4 < found[0] / found[1] < 2.5
    # A quarter of the softest period is (π/2)/ω; jittered trajectories need not be longer than a few of these.
    slowest = np.sqrt(np.linalg.eigvalsh(problem.covariance)[-1] / problem.kT * problem.masses.max())
    assert 0.1 * slowest < found[0] < 5 * slowest


def test_derivative_of_the_criterion():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        problem = Gaussian(dtype=np.float64)
        kernel = GeneralizedHMC(problem.posterior, problem.masses, step_size=0.05, persistence=0.0)
        kernel = SelfTuningChains(Chains(kernel))
        old, new, velocity, mean = (jnp.asarray(rng.normal(size=(8, 3))) for _ in range(4))
        _, slope = kernel._criterion(old, new, velocity, mean)
        h = 1e-6
        ahead, behind = (kernel._criterion(old, new + s * h * velocity, velocity, mean)[0] for s in (1, -1))
        assert float(slope) == pytest.approx(float(ahead - behind) / (2 * h), rel=1e-6)
        masses = problem.masses[:, None]
        distance = [float(jnp.sum(masses * (x - mean) ** 2)) for x in (old, new)]
        benefit = kernel._criterion(old, new, velocity, mean)[0]
        assert float(benefit) == pytest.approx(0.25 * (distance[1] - distance[0]) ** 2, rel=1e-10)


@pytest.mark.slow
def test_samples_after_tuning_are_right():
    problem = Gaussian()
    _, result = tuned(problem, 0.3, warmup=60, steps=560, chains=32)
    infos = jax.tree.map(lambda leaf: leaf[60:], result.infos)
    check_moments(problem, result.observations[60:], infos.potential)


def test_length_may_be_kept_and_is_capped():
    problem = Gaussian()
    _, result = tuned(problem, 0.3, warmup=30, steps=30, tune_length=False)
    assert float(jnp.exp(result.state.length.log_length)) == pytest.approx(0.3, rel=1e-5)
    _, result = tuned(problem, 3.0, warmup=30, steps=30, longest=8)
    assert result.infos.steps.max() <= 15  # 1 … 2 · 8 − 1


def test_search_stays_within_its_bounds():
    problem = Gaussian()
    # From far below and far above: alone the search would end near 0.27 ps.
    for length, bounds in ((0.05, (0.5, 0.6)), (0.3, (0.06, 0.07))):
        kernel, result = tuned(problem, length, warmup=30, steps=40, bounds=bounds)
        step_size = result.infos.step_size[-1, 0]
        steps = float(kernel.mean_steps(result.state.length.log_average, result.state.chains.step_size[0]))
        assert bounds[0] - 0.5 * step_size <= steps * step_size <= bounds[1] + 0.5 * step_size or steps == 3
    steps = [int(kernel.mean_steps(jnp.log(jnp.float32(t)), jnp.float32(0.001))) for t in (1e-4, 0.065, 9.0)]
    assert steps == [60, 65, 70]
    free, few, fixed = (tuned_kernel(problem, **o) for o in ({}, {"longest": 2}, {"tune_length": False}))
    steps = [int(k.mean_steps(jnp.log(jnp.float32(0.1)), jnp.float32(0.1))) for k in (free, few, fixed)]
    assert steps == [3, 2, 1]


def test_bad_settings_are_refused():
    problem = Gaussian()
    chains = Chains(GeneralizedHMC(problem.posterior, problem.masses))
    with pytest.raises(ValueError, match="between 0 and 1"):
        SelfTuningChains(chains, target=1.0)
    with pytest.raises(ValueError, match="must be positive"):
        SelfTuningChains(chains, length=0.0)
    with pytest.raises(ValueError, match="must be in order"):
        SelfTuningChains(chains, bounds=(0.2, 0.1))
    with pytest.raises(ValueError, match="GeneralizedHMC"):
        SelfTuningChains(Chains(HMC(problem.posterior, problem.masses)))

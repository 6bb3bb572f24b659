import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.run import run
from jaxcg.sampling import HMC, AdaptiveChains, Chains, DualAveraging

KEY = jax.random.key(2)


@pytest.mark.parametrize("first", [0.02, 0.3])
def test_dual_averaging_finds_the_target(first):
    # Acceptance erfc(ε²)-like, with noise.
    rng = np.random.default_rng(0)
    state = DualAveraging.start(jnp.asarray(first))
    update = jax.jit(DualAveraging.update)
    for _ in range(300):
        acceptance = np.clip(np.exp(-((np.exp(state.log_step) / 0.1) ** 2)) + rng.normal(scale=0.1), 0, 1)
        state = update(state, jnp.asarray(acceptance, jnp.float32), jnp.asarray(0.8), jnp.log(jnp.asarray(first)))
    assert np.exp(-((np.exp(state.log_average) / 0.1) ** 2)) == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("pooled", [True, False])
def test_step_size_reaches_the_target_acceptance_and_is_then_fixed(pooled):
    problem = Gaussian()
    chains = Chains(HMC(problem.posterior, problem.masses, step_size=0.01, steps=6))
    kernel = AdaptiveChains(chains, warmup=60, target=0.7, pooled=pooled)
    result = run(kernel, kernel.init(KEY, jnp.asarray(problem.exact_draws(8))), KEY, 160, chunk=80)
    steps, acceptance = result.infos.step_size, result.infos.acceptance
    assert steps[0] == pytest.approx(0.01)
    assert np.all(np.ptp(steps[60:], axis=0) == 0)
    assert np.all(np.ptp(steps[:60], axis=0) > 0)
    assert (np.ptp(steps[60]) == 0) == pooled
    assert acceptance[60:].mean() == pytest.approx(0.7, abs=0.12)
    np.testing.assert_allclose(result.state.chains.step_size, steps[-1])


def test_target_must_be_a_probability():
    problem = Gaussian()
    with pytest.raises(ValueError, match="between 0 and 1"):
        AdaptiveChains(Chains(HMC(problem.posterior, problem.masses)), target=1.0)

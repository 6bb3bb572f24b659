"""φ and ψ of alanine dipeptide on its fibre: our samplers against each other and against mici."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alanine_fibre import alanine_fibre, phi_psi
from oracles.mici_reference import TABLE, histogram

from jaxcg.run import run
from jaxcg.sampling import HMC, AdaptiveChains, Chains, Langevin, burn_in, mean_effective_sample_size
from jaxcg.sampling.adaptation.curvature import mean_hessian
from jaxcg.sampling.adaptation.metric import stiffness_geometry
from jaxcg.sampling.geometry.atom_blocks import AtomBlocks

pytestmark = pytest.mark.slow

CHAINS = 64


def observe_torsions(state):
    angles = phi_psi(getattr(state, "chains", state).position)
    return jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1).reshape(len(angles), 4)


def counts_of(observations):
    """(chains, 6, 6) of (draws, chains, 4)."""
    return np.stack([histogram(observations[:, chain]) for chain in range(observations.shape[1])])


def divergence(counts, other):
    """KL divergence Σ p ln(p/q) of two histograms, half a count added to every cell."""
    p, q = (c.ravel() + 0.5 for c in (counts, other))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p * np.log(p / q)))


def compared(draw, other, seed=0, resamples=400):
    """KL divergence without its bias, and its standard error, from functions that draw bootstrap histograms."""
    rng = np.random.default_rng(seed)
    again = [divergence(draw(rng), other(rng)) for _ in range(resamples)]
    plain = divergence(draw(None), other(None))
    # Resampling adds as much noise, and so as much bias, as sampling did.
    return 2 * plain - np.mean(again), np.std(again)


def by_chain(counts):
    """Bootstrap over chains, which are independent."""
    return lambda rng: (counts if rng is None else counts[rng.integers(len(counts), size=len(counts))]).sum(axis=0)


def by_size(counts, size):
    """Bootstrap of one chain worth ``size`` independent draws."""
    counts = np.asarray(counts, float) / np.sum(counts) * size
    return lambda rng: counts if rng is None else rng.multinomial(int(size), counts.ravel() / size).reshape(6, 6)


@pytest.fixture(scope="module")
def drawn():
    """Observations (draws, chains, 4) of HMC and of Langevin dynamics with a small step, and energies of HMC in kT."""
    problem = alanine_fibre()
    posterior = problem.posterior()
    warm = burn_in(posterior, problem.starts(CHAINS), jax.random.key(0), masses=problem.masses, heat=300, hold=700)
    blocks = AtomBlocks(posterior.mapping)
    stiffness = mean_hessian(posterior, blocks, warm.positions[:16], jax.random.key(1))
    geometry = stiffness_geometry(posterior, blocks, stiffness)
    chains = Chains(HMC(posterior, geometry, step_size=0.001, steps=10), vectorized=True)
    hmc = AdaptiveChains(chains, warmup=40)
    tuned = run(hmc, hmc.init(jax.random.key(2), warm.positions), jax.random.key(3), 40, observe=observe_torsions)
    found = run(hmc, tuned.state, jax.random.key(4), 200, observe=observe_torsions)
    langevin = Chains(Langevin(posterior, problem.masses, step_size=0.0005, friction=5.0), vectorized=True)
    state = langevin.init(jax.random.key(5), warm.positions)
    other = run(langevin, state, jax.random.key(6), 6000, every=20, observe=observe_torsions, chunk=1000)
    return found.observations, other.observations[50:], found.infos.energy / float(posterior.thermal_energy)


def test_hmc_agrees_with_langevin_dynamics_of_small_steps(drawn):
    hmc, langevin, _ = (np.asarray(part) for part in drawn)
    for column in range(4):
        assert mean_effective_sample_size(hmc[:, :, column].T) > 500
        assert mean_effective_sample_size(langevin[:, :, column].T) > 300
    ours, theirs = counts_of(hmc), counts_of(langevin)
    value, error = compared(by_chain(ours), by_chain(theirs))
    assert error < 0.03
    assert abs(value) < 4 * error
    # Three degrees would be seen.
    turn = np.deg2rad(3.0)
    turned = hmc @ np.kron(np.eye(2), np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]))
    value, error = compared(by_chain(counts_of(turned)), by_chain(theirs))
    assert value > 4 * error


@pytest.mark.parametrize("form", ["reduced", "constrained"])
def test_hmc_agrees_with_mici(drawn, form):
    hmc, _, energy = (np.asarray(part) for part in drawn)
    reference = json.loads(TABLE.read_text())[form]
    size = min(reference["ess"][1:])
    assert size > 200
    value, error = compared(by_chain(counts_of(hmc)), by_size(reference["counts"], size))
    assert abs(value) < 4 * error < 0.2
    mean, spread = reference["energy_kT"]
    own = energy.std() / np.sqrt(mean_effective_sample_size(energy.T))
    assert abs(energy.mean() - mean) < 4 * np.hypot(own, spread / np.sqrt(reference["ess"][0]))

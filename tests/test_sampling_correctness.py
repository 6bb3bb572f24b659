"""Samplers leave the joint law of atoms and beads as it is; samplers broken on purpose do not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian
from oracles.getting_it_right import Joint, deviations, joint_deviations, rank_p_values, worst
from test_sampling_constrained import Switched

from jaxcg.run import AbstractKernel
from jaxcg.sampling import HMC, ConstrainedGeometry, GeneralizedHMC, Langevin
from jaxcg.sampling.geometry.atom_blocks import AtomBlocks
from jaxcg.sampling.geometry.blocks import BlockGeometry
from jaxcg.sampling.kernels import hmc
from jaxcg.sampling.tempering.exchange import ReplicaExchange
from jaxcg.sampling.tempering.ladder import Ladder

#: Deviations in standard errors: what no right sampler reaches among fifty functions, and what every wrong one passes.
ACCIDENT, WRONG = 4.5, 8.0


def compiled_anew():
    """A function that reads a state's position, another one every time: code that was patched is traced again."""
    return lambda state: state.position


def hmc_on(problem, step_size=0.06, steps=3):
    return HMC(problem.posterior, problem.masses, step_size=step_size, steps=steps)


def test_hmc_on_the_fibre():
    problem = Joint()
    kernel = hmc_on(problem)
    assert worst(joint_deviations(problem, kernel)) < ACCIDENT
    # Velocities projected in another metric than that of the kinetic energy.
    skewed = eqx.tree_at(lambda k: k.geometry.fibre, kernel, problem.mapping.fibre(np.ones(4)))
    assert worst(joint_deviations(problem, skewed)) > WRONG


def test_hmc_with_soft_beads():
    problem = Joint(noise=0.05)
    kernel = hmc_on(problem)
    assert worst(joint_deviations(problem, kernel, rounds=4, steps=2)) < ACCIDENT
    # Beads held less tightly than they were drawn.
    loose = eqx.tree_at(lambda k: k.posterior.noise, kernel, 1.1 * kernel.posterior.noise)
    assert worst(joint_deviations(problem, loose, rounds=4, steps=2)) > WRONG


def test_hmc_without_the_metropolis_test_is_found_out(monkeypatch):
    problem = Joint()
    monkeypatch.setattr(hmc, "energy_difference", lambda *arguments: jnp.zeros(()))
    kernel = hmc_on(problem, step_size=0.045)
    assert worst(joint_deviations(problem, kernel, position=compiled_anew())) > WRONG


def test_langevin_of_a_gaussian_has_no_bias():
    problem = Joint(anharmonic=False)
    kernel = Langevin(problem.posterior, problem.masses, step_size=0.05, friction=10.0)
    assert worst(joint_deviations(problem, kernel, steps=40)) < ACCIDENT
    # Noise of 1 − exp(−γ dt) where it must be 1 − exp(−2γ dt): the same as a colder bath.
    factor = np.expm1(-0.5) / np.expm1(-1.0)
    cold = Langevin(problem.posterior, problem.masses, step_size=0.05, friction=10.0, temperature=300.0 * factor)
    assert worst(joint_deviations(problem, cold, steps=40)) > WRONG


def test_langevin_of_wells_that_are_no_parabolas_has_no_bias_to_be_seen():
    problem = Joint()
    kernel = Langevin(problem.posterior, problem.masses, step_size=0.03, friction=10.0)
    assert worst(joint_deviations(problem, kernel, steps=40)) < ACCIDENT


@pytest.mark.slow
def test_curved_constraints():
    problem = Joint(curved=True)
    whole = ConstrainedGeometry(problem.posterior, problem.masses)

    def found(volume):
        geometry = Switched(whole, jnp.float32(volume), jnp.float32(1), dimension=whole.dimension)
        kernel = HMC(problem.posterior, geometry, step_size=0.07, steps=1)
        return worst(joint_deviations(problem, kernel, count=8192))

    assert found(1) < ACCIDENT
    # The way back is for test_sampling_constrained: wells this steep refuse the long steps that it is there for.
    assert found(0) > WRONG


class NeverTurning(AbstractKernel):
    """Generalised HMC broken: the velocity of a refused trajectory goes on as it was."""

    hmc: GeneralizedHMC

    def init(self, key, position):
        return self.hmc.init(key, position)

    def step(self, key, state):
        state, info = self.hmc.step(key, state)
        return state._replace(velocity=jnp.where(info.accepted, state.velocity, -state.velocity)), info


@pytest.mark.slow
def test_generalised_hmc_and_masses_in_blocks():
    problem = Joint()
    rng = np.random.default_rng(0)
    root = rng.normal(size=(12, 12))
    blocks = AtomBlocks(problem.mapping)
    dense = BlockGeometry(problem.posterior, blocks, (root @ root.T / 4 + 2 * np.eye(12))[None])
    settings = {"step_size": 0.05, "steps": 2, "persistence": 0.8}
    assert worst(joint_deviations(problem, GeneralizedHMC(problem.posterior, dense, **settings), steps=20)) < ACCIDENT
    # Single steps, two in five refused, velocities that last: what is refused must matter for the way that chains go.
    plain = GeneralizedHMC(problem.posterior, problem.masses, step_size=0.1, steps=1, persistence=0.98)
    assert worst(joint_deviations(problem, plain, steps=24)) < ACCIDENT
    assert worst(joint_deviations(problem, NeverTurning(plain), steps=24)) > WRONG


@pytest.mark.slow
def test_replica_exchange(monkeypatch):
    problem, ladder, count = Gaussian(), Ladder.geometric(300.0, 450.0, rungs=3), 4096
    kernel = HMC(problem.posterior, problem.masses, step_size=0.04, steps=3)
    draws = problem.exact_draws(3 * count).reshape(count, 3, -1, 3)
    hotter = np.sqrt(np.asarray(ladder.temperatures) / 300.0)[:, None, None]
    start = jnp.asarray((problem.mode + hotter * (draws - problem.mode)).astype(np.float32))

    def moved():
        exchange = ReplicaExchange(kernel, ladder, vectorized=True)
        state = exchange.init(jax.random.key(0), start)
        keys = jax.random.split(jax.random.key(1), 8)
        state, infos = jax.jit(lambda state: jax.lax.scan(lambda s, k: exchange.step(k, s), state, keys))(state)
        before, after = (problem.whiten(np.asarray(x) * 1.0) for x in (start, state.rungs.position))
        changes = {}
        for rung in range(3):
            for i in range(problem.dimension):
                changes[f"z{i} at {rung}"] = after[:, rung, i] - before[:, rung, i]
            changes[f"energy at {rung}"] = np.sum(after[:, rung] ** 2 - before[:, rung] ** 2, axis=1)
        assert 0.1 < float(infos.swapped.sum() / infos.proposed.sum()) < 0.95
        return deviations(changes)

    assert worst(moved()) < ACCIDENT
    right = ReplicaExchange._gain
    monkeypatch.setattr(ReplicaExchange, "_gain", lambda *arguments: -right(*arguments))
    assert worst(moved()) > WRONG


@pytest.mark.slow
def test_ranks_of_the_truth_among_draws_are_uniform(monkeypatch):
    problem = Joint()
    kernel = hmc_on(problem)
    assert min(rank_p_values(problem, kernel).values()) > 1e-4
    monkeypatch.setattr(hmc, "energy_difference", lambda *arguments: jnp.zeros(()))
    assert min(rank_p_values(problem, kernel, position=compiled_anew()).values()) < 1e-8

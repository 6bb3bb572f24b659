"""Samplers leave the joint law of atoms and beads as it is; samplers broken on purpose do not."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.getting_it_right import Joint, joint_deviations, rank_p_values, worst

from jaxcg.sampling import HMC, Langevin
from jaxcg.sampling.kernels import hmc

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
def test_ranks_of_the_truth_among_draws_are_uniform(monkeypatch):
    problem = Joint()
    kernel = hmc_on(problem)
    assert min(rank_p_values(problem, kernel).values()) > 1e-4
    monkeypatch.setattr(hmc, "energy_difference", lambda *arguments: jnp.zeros(()))
    assert min(rank_p_values(problem, kernel, position=compiled_anew()).values()) < 1e-8

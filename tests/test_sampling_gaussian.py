"""Every sampler with every kind of masses against the closed form of a Gaussian posterior under beads that overlap."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.energy.path import AbstractEnergyPath
from jaxcg.run import run
from jaxcg.sampling import (
    HMC,
    AtomBlocks,
    BlockGeometry,
    Chains,
    ConstrainedGeometry,
    GeneralizedHMC,
    Ladder,
    Langevin,
    LinearGeometry,
    Moments,
    ReplicaExchange,
    SwitchingHMC,
    covariance_geometry,
    mean_effective_sample_size,
    mean_hessian,
    stiffness_geometry,
    variance_geometry,
)
from jaxcg.sampling.adaptation.metric import VIBRATION
from jaxcg.sampling.tempering import switching

CHAINS, DRAWS = 64, 300
#: Every sampler draws once more where a number is four errors off: of four thousand numbers one may be, by accident.
KEYS = jax.random.key(0), jax.random.key(1)
# Beads {0 1 2} {2 3} {3 4 5} hang together; atoms 6 and 7 are in none.
GROUP = np.array([0, 0, 0, 0, 0, 0, 1, 1])
PROBLEMS = {"fibre": Gaussian(), "soft": Gaussian(noise=0.05)}

#: Step size (ps) and steps of a trajectory for each kind of masses: some proposals are refused, not most.
MASSES = {
    "unit": (0.025, 6),
    "random": (0.06, 6),
    "heavy": (0.06, 6),
    "diagonal hessian": (1.3e-3, 6),
    "variance": (1.0e-3, 6),
    "hessian": (1.8e-3, 2),
    "covariance": (1.6e-3, 2),
    "dense": (0.07, 6),
    "stiff part": (1.2e-3, 4),
    "stiff part in blocks": (1.2e-3, 4),
    "constrained": (0.06, 6),
}


def geometry_of(problem, kind):
    """Constraints and masses, each made by the function that makes them for molecules."""
    posterior, masses = problem.posterior, problem.masses
    if kind in ("unit", "random", "heavy"):
        return LinearGeometry(posterior, {"unit": np.ones(8), "random": masses, "heavy": np.maximum(masses, 8)}[kind])
    if kind == "constrained":
        return ConstrainedGeometry(posterior, masses, iterations=1)
    if kind == "diagonal hessian":
        return LinearGeometry(posterior, VIBRATION**2 * np.diag(problem.hessian).reshape(-1, 3).mean(axis=1))
    draws = jnp.asarray(problem.exact_draws(400, seed=1))
    if kind == "variance":
        moments = Moments.start(draws.shape[1:], draws.dtype, dense=False).update(draws)
        return variance_geometry(posterior, LinearGeometry(posterior, masses), moments)
    blocks = AtomBlocks(posterior.mapping, GROUP if kind == "stiff part in blocks" else None)
    if kind == "dense":
        raw = np.random.default_rng(4).normal(size=blocks.shape)
        return BlockGeometry(posterior, blocks, raw @ raw.transpose(0, 2, 1) + blocks.diagonal(masses))
    drawn = jax.vmap(blocks.split)(draws)
    moments = Moments.start(drawn.shape[1:], drawn.dtype, dense=True).update(drawn)
    if kind == "covariance":
        return covariance_geometry(posterior, BlockGeometry(posterior, blocks, blocks.diagonal(masses)), moments)
    hessian = np.asarray(mean_hessian(posterior, blocks, draws[:4], jax.random.key(3)), np.float64)
    if kind.startswith("stiff part"):
        # What bonded terms know: stiff directions, and nothing of soft ones.
        values, axes = np.linalg.eigh(hessian)
        hessian = np.einsum("bik,bk,bjk->bij", axes, np.where(values > 300, values, 0), axes)
    return stiffness_geometry(posterior, blocks, hessian, moments)


def kernel_of(sampler, problem, kind):
    """The chains of a sampler, and how many of its steps lie between draws."""
    geometry, (step_size, steps) = geometry_of(problem, kind), MASSES[kind]
    if not problem.posterior.exact:
        step_size *= 0.8
    hmc = HMC(problem.posterior, geometry, step_size=step_size, steps=steps)
    if sampler == "GHMC":
        kernel = GeneralizedHMC(problem.posterior, geometry, step_size=step_size, steps=-(-steps // 2), persistence=0.6)
        return Chains(kernel, vectorized=True), 1
    if sampler == "Langevin":
        kernel = Langevin(problem.posterior, geometry, step_size=step_size, friction=0.2 / step_size)
        return Chains(kernel, vectorized=True), 4
    if sampler == "switching":
        return Chains(SwitchingHMC(hmc, np.eye(8)[:2], excursion=8, coupling=0.6), vectorized=True), 1
    if sampler == "exchange":
        return ReplicaExchange(hmc, Ladder.geometric(300.0, 400.0, rungs=2), vectorized=True), 1
    return Chains(hmc, vectorized=True), 1


class Softened(AbstractEnergyPath):
    """λ weakens the whole well: wells have no terms that `SoluteTempering` knows."""

    region: jax.Array
    separation: float = 0.0

    def __call__(self, energy, coupling):
        return eqx.tree_at(lambda e: e.hessian, energy, coupling * energy.hessian)


def target(state):
    """Positions of all chains; of the first rung of all ladders."""
    return state.rungs.position[:, 0] if hasattr(state, "rungs") else state.position


def sampled(kernel, every, problem, key):
    """Draws (draws, chains, atoms, 3) from the mode, which is no typical point, and infos."""
    start = jnp.asarray(np.repeat(problem.mode[None], CHAINS, axis=0), jnp.float32)
    if isinstance(kernel, ReplicaExchange):
        start = jnp.repeat(start[:, None], 2, axis=1)
    state = kernel.init(key, start)
    result = run(kernel, state, key, every * (DRAWS + 50), observe=target, every=every, chunk=every * (DRAWS + 50))
    return result.observations[50:], result.infos


def deviations(problem, draws):
    """Of mean, variance and covariance with the next of every whitened coordinate, in standard errors."""
    z = problem.whiten(draws).transpose(2, 1, 0)
    numbers = [*z, *(z**2 - 1), *(a * b for a, b in zip(z, np.roll(z, 1, axis=0), strict=True))]
    return np.array([n.mean() / n.std() * np.sqrt(mean_effective_sample_size(n)) for n in numbers])


SAMPLERS = "HMC", "GHMC", "Langevin", "exchange", "switching"
#: Those compiled for blocks of atoms and for curved constraints, which cost most to compile.
DEAR = {"stiff part in blocks": ("HMC",), "constrained": ("HMC", "Langevin")}


def cases():
    """All of them; fast are those that share two compiled samplers."""
    quick = ("HMC", "unit"), ("HMC", "diagonal hessian"), ("HMC", "variance"), ("GHMC", "random")
    for kind in MASSES:
        for sampler in DEAR.get(kind, SAMPLERS):
            yield pytest.param(sampler, kind, "fibre", marks=[] if (sampler, kind) in quick else pytest.mark.slow)
    for sampler in SAMPLERS:
        yield pytest.param(sampler, "random", "soft", marks=pytest.mark.slow)
    yield pytest.param("HMC", "stiff part in blocks", "soft", marks=pytest.mark.slow)


@pytest.mark.parametrize(("sampler", "kind", "likelihood"), list(cases()))
def test_mean_and_covariance(sampler, kind, likelihood, monkeypatch):
    monkeypatch.setattr(switching, "SoluteTempering", Softened)
    problem = PROBLEMS[likelihood]
    kernel, every = kernel_of(sampler, problem, kind)
    for key in KEYS:
        draws, infos = sampled(kernel, every, problem, key)
        found = deviations(problem, draws)
        if np.abs(found).max() < 4:
            break
    acceptance = getattr(getattr(infos, "rungs", infos), "acceptance", None)
    print(sampler, kind, likelihood, np.abs(found).max(), None if acceptance is None else acceptance.mean())
    assert np.abs(found).max() < 4
    # Neither all accepted nor nearly all refused: a missing Metropolis test would be seen.
    assert acceptance is None or 0.4 < acceptance.mean() < 0.97
    least = min(mean_effective_sample_size(n) for n in problem.whiten(draws).transpose(2, 1, 0) ** 2)
    assert least > 300
    if likelihood == "fibre":
        beads = draws.reshape(*draws.shape[:2], -1).astype(np.float64) @ problem.matrix.T
        assert np.abs(beads - problem.y.ravel()).max() < 4e-6

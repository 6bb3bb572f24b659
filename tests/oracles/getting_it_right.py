"""Tests of samplers that need no reference: what they leave unchanged is known because it was drawn first.

Draw x from the prior exp(−U/kT), y from p(y|x), and run a sampler of p(x|y) from x. A right one leaves the joint law of
(x, y) as it is, after any number of steps, mixed or not; a wrong one moves it. The prior here is a sum of wells in one
dimension, drawn by inversion of their distribution function, so nothing is sampled to test a sampler.

Source: Geweke, J. Am. Stat. Assoc. 99, 799 (2004); rank statistics: Talts, Betancourt, Simpson, Vehtari & Gelman,
arXiv:1804.06788 (2018).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap
from jaxcg.mapping.base import AbstractMap
from jaxcg.posterior import Posterior
from jaxcg.sampling import HMC, Langevin
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

KT = GAS_CONSTANT * 300.0
N_ATOMS = 4


class Wells(AbstractEnergy):
    """U = kT Σ (½ q² + cubic q³ + quartic q⁴) over coordinates, q = (x − centre)/length."""

    centre: Array
    length: Array
    cubic: Array
    quartic: Array

    def __call__(self, x):
        centre, length, cubic, quartic = (
            a.astype(x.dtype) for a in (self.centre, self.length, self.cubic, self.quartic)
        )
        q = (x - centre) / length
        return jnp.asarray(KT, x.dtype) * jnp.sum(q * q * (0.5 + q * (cubic + q * quartic)))


class Radii(AbstractMap):
    """One bead that is no mean of atoms: x, y and z of the first two atoms lie on ellipses, its numbers are their half
    axes, squared. The Gram determinant changes along an ellipse."""

    centre: Array
    n_beads: int = 1
    n_atoms: int = N_ATOMS

    def __call__(self, x):
        far = x - self.centre.astype(x.dtype)
        return far[:1] ** 2 + (far[1:2] / 3) ** 2


class Joint:
    """A joint law of atoms and beads that is drawn exactly: wells of uneven width under two beads that overlap.

    Arguments:
        anharmonic: wells that are no parabolas; else the prior is Gaussian.
        noise: of the beads, nm.
        curved: the bead is one of `Radii`.
    """

    def __init__(self, anharmonic: bool = True, noise: float | None = None, seed: int = 0, curved: bool = False):
        rng = np.random.default_rng(seed)
        self.centre = rng.normal(scale=0.2, size=(N_ATOMS, 3))
        self.length = np.geomspace(0.05, 0.15, 3 * N_ATOMS)[rng.permutation(3 * N_ATOMS)].reshape(N_ATOMS, 3)
        self.cubic, self.quartic = (-0.25, 0.08) if anharmonic else (0.0, 0.0)
        self.masses = np.array([1.0, 12.0, 4.0, 16.0])
        weights = [0.3, 0.7, 0.2, 0.8]
        self.mapping = LinearMap.from_weights([0, 0, 1, 1], [0, 1, 1, 2], weights, 2, N_ATOMS)
        if curved:
            self.mapping = Radii(jnp.asarray(self.centre, jnp.float32))
        self.noise = noise
        arrays = (self.centre, self.length, np.full((), self.cubic), np.full((), self.quartic))
        energy = Wells(*(jnp.asarray(a, jnp.float32) for a in arrays))
        y = jnp.zeros((self.mapping.n_beads, 3), jnp.float32)
        self.posterior = Posterior(energy, self.mapping, y, 300.0, noise)
        grid = np.linspace(-7, 9, 40001)
        log_density = -(grid**2) * (0.5 + grid * (self.cubic + grid * self.quartic))
        density = np.exp(log_density - log_density.max())
        distribution = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
        self.grid, self.distribution = grid, distribution / distribution[-1]

    def draw(self, count: int, seed: int = 0) -> tuple[Array, Array]:
        """Exact draws of atoms (count, 4, 3) and beads (count, 2, 3), nm."""
        rng = np.random.default_rng(seed)
        q = np.interp(rng.uniform(size=(count, N_ATOMS, 3)), self.distribution, self.grid)
        x = jnp.asarray(self.centre + self.length * q, jnp.float32)
        return x, self.beads(x, jax.random.key(seed))

    def beads(self, x: Array, key) -> Array:
        """Exact draws of p(y|x) for every x."""
        y = jax.vmap(self.mapping)(x)
        return y if self.noise is None else y + self.noise * jax.random.normal(key, y.shape, y.dtype)

    def functions(self, x, y) -> dict[str, np.ndarray]:
        """Test functions of (x, y), each (count,): moments of first and second order, mixed ones, the energy."""
        q = ((np.asarray(x, np.float64) - self.centre) / self.length).reshape(len(x), -1)
        b = np.asarray(y, np.float64).reshape(len(y), -1)
        b = (b - b.mean(axis=0)) / b.std(axis=0)
        found = {"energy": np.sum(q * q * (0.5 + q * (self.cubic + q * self.quartic)), axis=1)}
        for i, coordinate in enumerate(q.T):
            found[f"q{i}"] = coordinate
            found[f"q{i}²"] = coordinate**2
            found[f"q{i} q{i - 3}"] = coordinate * q[:, i - 3]
            found[f"q{i} y"] = coordinate * b[:, i % b.shape[1]]
        return found


def with_beads(kernel: Any, y: Array) -> Any:
    """The kernel for other beads: every leaf that is its posterior's y is replaced."""
    beads = core(kernel).posterior.y
    return jax.tree.map(lambda leaf: y if leaf is beads else leaf, kernel)


def core(kernel: Any) -> HMC | Langevin:
    """The kernel, or that inside it, which has the posterior."""
    while not isinstance(kernel, HMC | Langevin):
        kernel = kernel.hmc
    return kernel


def position_of(state) -> Array:
    """Where a chain is."""
    return state.position


@eqx.filter_jit
def iterate(kernel, x, y, key, rounds: int, steps: int, beads: Callable | None, position: Callable = position_of):
    """``rounds`` times: beads drawn anew given the atoms (if ``beads`` is given), then ``steps`` steps of the kernel.

    Returns the atoms and the beads after every round: (rounds, count, atoms, 3), (rounds, count, beads, 3).
    """

    def one(key, x, y):
        start, go = jax.random.split(key)
        one_kernel = with_beads(kernel, y)
        state = one_kernel.init(start, x)
        state, _ = jax.lax.scan(lambda s, k: (one_kernel.step(k, s)[0], None), state, jax.random.split(go, steps))
        return position(state)

    def advance(carry, key):
        x, y = carry
        beads_key, key = jax.random.split(key)
        y = y if beads is None else beads(x, beads_key)
        x = jax.vmap(one)(jax.random.split(key, len(x)), x, y)
        return (x, y), (x, y)

    return jax.lax.scan(advance, (x, y), jax.random.split(key, rounds))[1]


def joint_deviations(
    problem: Joint,
    kernel: Any,
    *,
    count: int = 16384,
    rounds: int = 1,
    steps: int = 8,
    position: Callable = position_of,
) -> dict[str, float]:
    """How far a sampler moves the joint law: for each test function the mean change in standard errors.

    Changes are those of independent replicas, so their standard error is exact. With a soft likelihood the beads are
    drawn anew between rounds, Geweke's successive-conditional simulator; exact beads are a function of the atoms and
    stay. Right samplers give standard normal numbers. Another ``position`` function compiles the kernel anew.
    """
    x, y = problem.draw(count)
    beads = None if problem.noise is None else problem.beads
    xs, ys = iterate(kernel, x, y, jax.random.key(1), rounds, steps, beads, position)
    before, after = problem.functions(x, y), problem.functions(xs[-1], ys[-1])
    return deviations({name: after[name] - before[name] for name in before})


def deviations(changes: dict[str, np.ndarray]) -> dict[str, float]:
    """Means of samples (count,) in units of their standard errors."""
    return {name: float(v.mean() / (v.std() / np.sqrt(len(v)) + 1e-12)) for name, v in changes.items()}


def worst(found: dict[str, float]) -> float:
    """The largest deviation; above 4.5 no accident among some fifty functions."""
    assert all(np.isfinite(value) for value in found.values()), found
    return max(abs(value) for value in found.values())


def rank_p_values(
    problem: Joint, kernel: Any, *, count: int = 4096, draws: int = 15, thin: int = 6, position: Callable = position_of
) -> dict[str, float]:
    """Simulation-based calibration: p-values of the χ² test that ranks of the truth among posterior draws are uniform.

    ``thin`` steps must make draws nearly independent of each other and of the truth they start from.
    """
    x, y = problem.draw(count)
    xs, _ = iterate(kernel, x, y, jax.random.key(1), draws, thin, None, position)
    truth = problem.functions(x, y)
    samples = [problem.functions(one, y) for one in xs]
    found = {}
    for name in ("energy", "q0", "q4", "q8", "q11", "q0²", "q8²"):
        rank = sum((one[name] < truth[name]).astype(int) for one in samples)
        observed = np.bincount(rank, minlength=draws + 1)
        expected = count / (draws + 1)
        found[name] = float(chi2.sf(np.sum((observed - expected) ** 2) / expected, draws))
    return found

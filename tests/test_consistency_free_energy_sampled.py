"""The same profile from draws at a fixed distance and from umbrella sampling, both by our own samplers."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency.free_energy import CoordinateMap, HarmonicUmbrella, mean_force_profile, umbrella_profile
from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap, RigidBonds
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, ConstrainedGeometry, CurvedLift, LinearGeometry, mean_force
from jaxcg.units import GAS_CONSTANT

T = 300.0
KT = GAS_CONSTANT * T
MASSES = np.array([12.0, 12.0, 12.0])
CHAINS, STEPS = 8, 1002


class Bent(AbstractEnergy):
    """Two bonds of 0.15 nm between three atoms, and two minima of the angle."""

    def __call__(self, x):
        first, second = x[0] - x[1], x[2] - x[1]
        r, s = jnp.sqrt(jnp.sum(first**2)), jnp.sqrt(jnp.sum(second**2))
        cosine = jnp.sum(first * second) / (r * s)
        return 5000.0 * ((r - 0.15) ** 2 + (s - 0.15) ** 2) + 16.0 * (cosine**2 - 0.25) ** 2 / 0.25


def end_to_end(x):
    return jnp.sqrt(jnp.sum((x[2] - x[0]) ** 2))


def angle(x):
    first, second = x[0] - x[1], x[2] - x[1]
    return jnp.arctan2(jnp.sqrt(jnp.sum(jnp.cross(first, second) ** 2)), jnp.sum(first * second))


def centre(x):
    return x[1]


def positions(state):
    return state.position


def exact_profile(distances):
    """W(d) = −kT ln of the density of the distance, by quadrature over r, s: |∂cos/∂d| = d/(r s), r² s² in all."""
    r = np.linspace(0.08, 0.22, 281)
    out = []
    for d in distances:
        one, two = r[:, None], r[None, :]
        cosine = (one**2 + two**2 - d**2) / (2 * one * two)
        u = 5000.0 * ((one - 0.15) ** 2 + (two - 0.15) ** 2) + 16.0 * (cosine**2 - 0.25) ** 2 / 0.25
        weight = np.where(np.abs(cosine) < 1, np.exp(-u / KT) * one * two * d, 0.0)
        out.append(-KT * np.log(weight.sum()))
    return np.array(out)


def start(d, rng, theta=None):
    middle = np.sqrt(np.maximum(0.15**2 - d**2 / 4, 1e-4)) if theta is None else 0.15 * np.cos(theta / 2)
    x = np.array([[-d / 2, middle, 0.0], [0.0, 0.0, 0.0], [d / 2, middle, 0.0]])
    turns = np.linalg.qr(rng.normal(size=(CHAINS, 3, 3)))[0]
    return jnp.asarray(np.einsum("ax,cxy->cay", x, turns))


def sampled(kernel, x, seed):
    chains = Chains(kernel, vectorized=True)
    state = chains.init(jax.random.key(seed), x)
    observed = run(chains, state, jax.random.key(seed + 100), STEPS, every=3, observe=positions, chunk=STEPS)
    return np.swapaxes(observed.observations, 0, 1)[:, 100:]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pymbar") is None, reason="pymbar is not installed")
def test_constrained_and_biased_sampling_agree(x64):
    rng = np.random.default_rng(0)
    held = np.linspace(0.16, 0.27, 10)
    forces = []
    lift = CurvedLift(end_to_end, MASSES, centre)
    for seed, d in enumerate(held):
        # The energy does not know where the molecule is: its middle atom may be held.
        bond = RigidBonds.of([[0, 2]], [d], 3)
        posterior = Posterior(Bent(), LinearMap.slice([1], 3), jnp.zeros((1, 3)), T, rigid_bonds=bond)
        kernel = HMC(posterior, ConstrainedGeometry(posterior, MASSES), step_size=0.004, steps=12)
        forces.append(mean_force(sampled(kernel, start(d, rng), seed), posterior, lift))
    by_force = mean_force_profile(held, forces, T)
    centres, stiffness = np.linspace(0.16, 0.27, 8), 8000.0
    windows = []
    for seed, c in enumerate(centres):
        biased = Bent() + HarmonicUmbrella(end_to_end, c, stiffness)
        posterior = Posterior(biased, LinearMap.slice([1], 3), jnp.zeros((1, 3)), T)
        kernel = HMC(posterior, LinearGeometry(posterior, MASSES), step_size=0.004, steps=12)
        x = sampled(kernel, start(c, rng), seed)
        windows.append(np.linalg.norm(x[:, :, 2] - x[:, :, 0], axis=-1))
    edges = np.linspace(0.15, 0.28, 40)
    by_bias = umbrella_profile(windows, edges, T, centers=centres, stiffness=stiffness)

    fine = np.linspace(0.15, 0.28, 39 * 8 + 1)
    fine = 0.5 * (fine[1:] + fine[:-1])
    binned = -KT * np.log(np.exp(-exact_profile(fine) / KT).reshape(39, 8).mean(axis=1))
    known = np.isfinite(by_bias.value) & (by_bias.error > 0)
    lowest = np.argmin(by_bias.value)
    z = (by_bias.value - binned + binned[lowest])[known] / by_bias.error[known]
    assert np.abs(z).max() < 4.5
    exact = exact_profile(held)
    z = (by_force.value - exact + exact[0])[1:] / by_force.error[1:]
    assert np.abs(z).max() < 4
    assert by_force.error.max() < 0.3
    assert np.ptp(exact) > 2
    apart, other = by_force.difference(held[0], held[-1]), by_bias.difference(held[0], held[-1])
    assert apart.value == pytest.approx(other.value, abs=4 * np.hypot(apart.error, other.error) + 0.3)


@pytest.mark.slow
def test_an_angle_is_held(x64):
    # The bonds do not know of it: W(θ) = u(cos θ) − kT ln sin θ.
    rng = np.random.default_rng(1)
    held = np.linspace(0.8, 2.4, 9)
    mapping = CoordinateMap(angle, 3, anchor=1)
    forces = []
    for seed, theta in enumerate(held):
        posterior = Posterior(Bent(), mapping, mapping.bead(theta), T)
        assert posterior.y.dtype == jnp.float64
        kernel = HMC(posterior, ConstrainedGeometry(posterior, MASSES), step_size=0.003, steps=12)
        x = sampled(kernel, start(0.3 * np.sin(theta / 2), rng, theta), seed)
        np.testing.assert_allclose(np.asarray(jax.vmap(jax.vmap(angle))(x[:2, :5])), theta, atol=1e-7)
        forces.append(mean_force(x, posterior, mapping.lift(MASSES)))
    found = mean_force_profile(held, forces, T)
    exact = 64.0 * (np.cos(held) ** 2 - 0.25) ** 2 - KT * np.log(np.sin(held))
    assert (np.abs(found.value - exact + exact[0])[1:] < 4 * found.error[1:] + 0.05).all()  # and the spline
    assert np.ptp(exact) > 2
    assert found.error.max() < 0.2

"""Curved constraints at work: the soft limit, virtual sites, frames of molecules, rigid bonds to hydrogen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from alanine_fibre import alanine_fibre
from test_sampling_constrained import GROUPS, KT, MASSES, SHAPE, Ellipses, Slope, Springs, Switched, moved

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap, ReferenceFrameMap, RigidBonds
from jaxcg.mapping.base import AbstractMap
from jaxcg.mapping.virtual_sites import Site, VirtualSites, with_virtual_sites
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import HMC, Chains, ConstrainedGeometry, expectation

KEY = jax.random.key(0)


# -- a soft likelihood about a curved fibre ---------------------------------------------------------------------------


def ellipse_averages(noise):
    """E[x₀] and E[x₁²] of one component of the soft posterior on `Ellipses`, by quadrature of its density."""
    r, t = np.linspace(1 - 6 * noise, 1 + 6 * noise, 161), np.linspace(0, 2 * np.pi, 241)[:-1]
    # M = r² with x = (r cos t, 3 r sin t); the other two components stay at t = 0.
    x = np.zeros((len(r), len(t), 2, 3))
    x[..., 0, 1:] = 1.0
    x[..., 0, 0], x[..., 1, 0] = r[:, None] * np.cos(t), 3 * r[:, None] * np.sin(t)
    posterior = Posterior(Slope(), Ellipses(), jnp.ones((1, 3)), noise=noise)
    logarithm = np.asarray(jax.jit(jax.vmap(jax.vmap(posterior.log_density)))(jnp.asarray(x)))
    weight = np.exp(logarithm - logarithm.max()) * r[:, None]
    weight /= weight.sum()
    return np.array([np.sum(weight * x[..., 0, 0]), np.sum(weight * x[..., 1, 0] ** 2)])


def test_a_soft_likelihood_tends_to_the_fibre(x64):
    t = np.linspace(0, 2 * np.pi, 4001)[:-1]
    values = np.stack([np.cos(t), 9 * np.sin(t) ** 2])
    weight = np.exp(-np.cos(t))
    exact = values @ weight / weight.sum()
    # The same without the volume term: uniform in the arc length.
    weight = weight * np.sqrt(np.sin(t) ** 2 + 9 * np.cos(t) ** 2)
    by_length = values @ weight / weight.sum()
    away = np.array([ellipse_averages(noise) - exact for noise in (0.1, 0.05)])
    np.testing.assert_allclose(away[0], 4 * away[1], rtol=0.1)  # it goes with σ²
    assert np.all(np.abs(by_length - exact) > 20 * np.abs(away[1]))


# -- a virtual site held ----------------------------------------------------------------------------------------------

REACH, FORCE, STIFFNESS, REST = 0.1, 40.0, 2000.0, 0.15


class Site2fd(AbstractMap):
    """The site alone, 0.1 nm from atom 0 towards atom 1."""

    sites: VirtualSites
    n_beads: int = 1
    n_atoms: int = 2

    def __call__(self, x):
        return self.sites(x)[2:]


class Dumbbell(AbstractEnergy):
    """A spring, and a force on atom 0 along z."""

    def __call__(self, x):
        r = jnp.linalg.norm(x[1] - x[0])
        return 0.5 * STIFFNESS * (r - REST) ** 2 + FORCE * x[0, 2]


def site_map():
    return with_virtual_sites(LinearMap.slice([0, 1], 2), [Site(2, "2fd", (0, 1), (REACH,))])


@pytest.mark.slow
@pytest.mark.parametrize("volume", [1.0, 0.0])
def test_a_virtual_site_is_held(x64, volume):
    """With s = r₀ + a r/|r| fixed, r = r₁ − r₀ has the density exp(−U) d³r: ∂s/∂r₀ at fixed r is the identity."""
    rng, count = np.random.default_rng(0), 4000
    grid = np.linspace(0.02, 0.4, 4001)
    weight = grid**2 * np.exp(-0.5 * STIFFNESS * (grid - REST) ** 2 / KT)
    length = np.interp(rng.random(count), np.cumsum(weight) / weight.sum(), grid)
    tilt = REACH * FORCE / KT
    # cos θ of density exp(tilt cos θ), by inversion.
    cosine = np.log(np.exp(-tilt) + rng.random(count) * 2 * np.sinh(tilt)) / tilt
    angle = rng.uniform(0, 2 * np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    unit = np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)
    x = np.stack([-REACH * unit, (length[:, None] - REACH) * unit], axis=1)
    posterior = Posterior(Dumbbell(), Site2fd(site_map()), jnp.zeros((1, 3)))
    masses = np.array([1.0, 20.0])
    geometry = Switched(ConstrainedGeometry(posterior, masses), jnp.asarray(volume), jnp.asarray(1.0))
    x, accepted, _ = (np.asarray(a) for a in moved(posterior, geometry, jnp.asarray(0.02), jnp.asarray(x)))
    assert accepted.mean() > 0.3
    apart = x[:, 1] - x[:, 0]
    found = np.linalg.norm(apart, axis=1)
    assert np.abs(x[:, 0] + REACH * apart / found[:, None]).max() < 1e-11
    cosine = apart[:, 2] / found
    exact = (grid * weight).sum() / weight.sum(), 1 / np.tanh(tilt) - 1 / tilt
    z = [(v.mean() - e) / (v.std() / np.sqrt(count)) for v, e in zip((found, cosine), exact, strict=True)]
    assert np.abs(z).max() < 4 if volume else abs(z[0]) > 10


def test_sites_beside_the_beads_they_are_made_of_are_refused():
    posterior = Posterior(Dumbbell(), site_map(), jnp.zeros((3, 3)))
    with pytest.raises(ValueError, match="follow from the beads"):
        ConstrainedGeometry(posterior, np.ones(2))


# -- frames -----------------------------------------------------------------------------------------------------------


def observed(state):
    return state.position


def stretch(x):
    """Distances between a bead and atoms outside it, and of two atoms in no bead: they feel the measure."""
    return jnp.stack([jnp.linalg.norm(x[i] - x[j]) for i, j in ((0, 8), (4, 9), (10, 11))])


@pytest.mark.slow
@pytest.mark.parametrize("kind", [ReferenceFrameMap])
def test_hmc_with_frames(x64, kind):
    """Frames and a rigid bond held, and averages that do not depend on the masses, as the volume term does."""
    x = jnp.asarray(SHAPE)
    mapping = kind.of(GROUPS, MASSES, SHAPE)
    posterior = Posterior(Springs(x), mapping, mapping(x), rigid_bonds=RigidBonds.at([[9, 10]], SHAPE))
    found = []
    for masses in (MASSES, np.where(np.arange(12) % 2, 1.0, 30.0)):
        kernel = Chains(HMC(posterior, masses, step_size=0.005, steps=8))
        result = run(kernel, kernel.init(KEY, jnp.stack([x] * 4)), KEY, 160, observe=observed, chunk=80)
        assert result.infos.acceptance[20:].mean() > 0.7
        assert not result.infos.irreversible.any()
        draws = np.swapaxes(result.observations[20:], 0, 1)
        geometry = kernel.kernel.geometry
        off = np.array([geometry.residual(jnp.asarray(at), posterior.y) for at in draws[:, -1]])
        assert np.abs(off).max() < 1e-12
        found.append(expectation(stretch, draws))
    z = (found[0].value - found[1].value) / np.hypot(found[0].error, found[1].error)
    assert np.abs(z).max() < 4
    assert np.all(found[0].error < 0.01)


# -- a real molecule with its bonds to hydrogen rigid -----------------------------------------------------------------


def hydrogen_bonds(system):
    bonds = np.asarray(system.bonds)
    return bonds[~np.asarray(system.heavy)[bonds].all(axis=1)]


@pytest.mark.slow
def test_alanine_dipeptide_with_rigid_hydrogens():
    """Three centres of mass and twelve bonds in float32, from 1 to 6 fs."""
    fibre = alanine_fibre(solvent=False)
    flexible = fibre.posterior()
    pairs = hydrogen_bonds(fibre.system)
    assert len(pairs) == 12
    bonds = RigidBonds.at(pairs, fibre.minimum.astype(np.float32))
    posterior = Posterior(flexible.energy, flexible.mapping, flexible.y, rigid_bonds=bonds)
    kernel = Chains(HMC(posterior, fibre.masses, step_size=0.001, steps=8))
    assert kernel.kernel.geometry.dimension == 66 - 9 - 12
    state = kernel.init(KEY, fibre.starts(4))
    state = run(kernel, state, KEY, 30, chunk=30).state  # warm
    for femtoseconds, least, most in ((1, 0.9, 0.0), (2, 0.7, 0.01), (6, 0.0, 1.0)):
        state = state._replace(step_size=jnp.full(4, femtoseconds * 1e-3, jnp.float32))
        result = run(kernel, state, jax.random.key(femtoseconds), 30, observe=observed, chunk=30)
        infos = result.infos
        assert infos.acceptance.mean() >= least
        assert infos.irreversible.mean() <= most
        draws = result.observations.astype(np.float64)
        between = draws[:, :, pairs[:, 0]] - draws[:, :, pairs[:, 1]]
        lengths = np.linalg.norm(between, axis=-1)
        assert np.abs(lengths - bonds.lengths).max() < 2e-6
        beads = np.stack(
            [np.average(draws[:, :, list(g)], axis=2, weights=fibre.masses[list(g)]) for g in fibre.groups], axis=2
        )
        assert np.abs(beads - np.asarray(posterior.y)).max() < 2e-6
    assert infos.irreversible.mean() > 0.1  # at 6 fs the check has something to do

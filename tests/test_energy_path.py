"""Softened energies: the true one at λ = 1, the promised factors elsewhere, right forces."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import molecule, quick

from jaxcg.energy import (
    GeneralizedBorn,
    HarmonicAngle,
    HarmonicBond,
    Nonbonded,
    PeriodicTorsion,
    ScaledTerms,
    SoluteTempering,
    StereoFence,
    SumEnergy,
    from_openmm,
)
from jaxcg.system import System


@pytest.fixture(scope="module")
def fragment():
    """Energy of three residues with OBC2, positions, a region of 12 atoms."""
    with jax.enable_x64(True):
        system, x = molecule("fragment", "amber14-all.xml", "implicit/obc2.xml")
        region = np.zeros(len(x))
        region[5:17] = 1
        # No surface term: it knows no charges.
        parts = [
            eqx.tree_at(lambda t: t.surface_energy, term, jnp.zeros(())) if isinstance(term, GeneralizedBorn) else term
            for term in from_openmm(system).terms()
        ]
        energy = SumEnergy(tuple(parts))
        return energy, jnp.asarray(x), region


@pytest.fixture(scope="module")
def values(fragment):
    """Compiled: the terms of a `SoluteTempering` energy, also of λ."""
    energy, x, _ = fragment

    def terms(path, coupling):
        return jnp.stack([term(x) for term in path(energy, coupling).terms()])

    return quick(terms)


def test_the_true_energy_at_one(fragment, x64):
    energy, _, region = fragment
    same = SoluteTempering(region, separation=0.1)(energy, 1.0)
    # All parameters are the same to the last bit, and distances are shifted by nothing.
    for term, true in zip(same.terms(), energy.terms(), strict=True):
        if isinstance(term, Nonbonded):
            assert not np.any(term.softening)
            term = eqx.tree_at(lambda t: t.softening, term, None)
        for new, old in zip(jax.tree.leaves(term), jax.tree.leaves(true), strict=True):
            np.testing.assert_array_equal(new, old)
    assert all(
        term.factor == 1 and term.energy is true
        for term, true in zip(ScaledTerms((HarmonicBond,))(energy, 1.0).terms(), energy.terms(), strict=True)
        if isinstance(true, HarmonicBond)
    )


def test_a_region_of_everything_scales_its_energy(fragment, values, x64):
    energy, _, region = fragment
    everything = SoluteTempering(np.ones_like(region))
    true, scaled = np.asarray(values(everything, 1.0)), np.asarray(values(everything, 0.49))
    kinds = [type(term) for term in energy.terms()]
    for kind, before, after in zip(kinds, true, scaled, strict=True):
        if kind in (PeriodicTorsion, Nonbonded, GeneralizedBorn, HarmonicAngle):
            assert after == pytest.approx(0.49 * before, rel=1e-9)
        else:
            assert after == before
    assert {PeriodicTorsion, Nonbonded, GeneralizedBorn, HarmonicAngle, HarmonicBond} <= set(kinds)


def test_regions_interact_by_the_square_root():
    pair = Nonbonded([0.4, -0.3], [0.3, 0.32], [0.5, 0.6])
    quartets = [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 5]]
    torsion = PeriodicTorsion(quartets, [1, 2, 3], [0.0] * 3, [8.0, 4.0, 2.0], n_atoms=6)
    x = jnp.asarray([[0.0, 0, 0], [0.31, 0.05, 0]])
    half = SoluteTempering(np.array([1.0, 0.0]))(pair, 0.25)
    assert float(half(x)) == pytest.approx(0.5 * float(pair(x)), rel=1e-6)
    (weaker,) = SoluteTempering(np.array([0.0, 0, 0, 1, 1, 1]))(torsion, 0.25).terms()
    assert isinstance(weaker, PeriodicTorsion)
    np.testing.assert_allclose(weaker.stiffness, [8.0, 2.0, 0.5])
    scaled = ScaledTerms((Nonbonded,))(pair + pair, 0.3)
    assert float(scaled(x)) == pytest.approx(0.6 * float(pair(x)), rel=1e-6)


def test_softened_pairs_may_overlap_and_forces_fit(x64):
    # The second pair is an exception.
    pairs = Nonbonded([0.4, 0.3, -0.2], [0.3, 0.32, 0.3], [0.5, 0.6, 0.4], [[0, 2]], [0.05], [0.3], [0.2])
    soft = SoluteTempering(np.array([1.0, 0, 0]), separation=0.1)(pairs, 0.1)
    x = jnp.asarray([[0.0, 0, 0], [0.02, 0.01, 0.0], [0.0, 0.03, 0.25]])
    assert float(pairs(x)) > 1e6
    assert abs(float(soft(x))) < 100
    # Shifted separations by hand: one atom of two is in the region.
    r2 = np.array([5e-4, 0.0009 + 0.0625, 0.0004 + 0.0004 + 0.0625]) + np.array([0.045, 0.045, 0.0])
    sigma, depth = np.array([0.31, 0.3, 0.31]), 4 * np.array([np.sqrt(0.3 * 0.1), 0.2 * np.sqrt(0.1), np.sqrt(0.24)])
    charge = np.array([0.12 * np.sqrt(0.1), 0.05 * np.sqrt(0.1), -0.06]) * 138.93545764498226
    six = (sigma**2 / r2) ** 3
    assert float(soft(x)) == pytest.approx((depth * (six**2 - six) + charge / np.sqrt(r2)).sum(), rel=1e-9)
    gradient, h = jax.grad(soft)(x), 1e-6
    push = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))
    slope = float(soft(x + h * push) - soft(x - h * push)) / (2 * h)
    assert float(jnp.vdot(gradient, push)) == pytest.approx(slope, rel=1e-6)


def test_angles_belong_to_their_vertex():
    angle = HarmonicAngle([[0, 1, 2], [1, 2, 3]], [2.0, 2.0], [100.0, 200.0], n_atoms=4)
    region = np.array([0.0, 0, 1, 1])
    weakened, stays = (SoluteTempering(region, angles=on)(angle, 0.25).terms()[0] for on in (True, False))
    assert isinstance(weakened, HarmonicAngle)
    assert isinstance(stays, HarmonicAngle)
    np.testing.assert_allclose(weakened.stiffness, [100, 50])
    np.testing.assert_allclose(stays.stiffness, [100, 200])


def test_the_stereo_fence(x64):
    center = [[0.0, 0, 0], [0.09, 0.09, 0.09], [0.09, -0.09, -0.09], [-0.09, 0.09, -0.09]]
    # A trans bond 4-5-6-7 and its cis form.
    bond = [[1.0, 0.1, 0], [1.0, 0, 0], [1.13, 0, 0], [1.13, -0.1, 0]]
    system = System(
        masses=np.ones(8),
        elements=["C"] * 8,
        atom_names=[f"C{i}" for i in range(8)],
        atom_residue=[0] * 8,
        residue_names=["UNK"],
        residue_ids=["1"],
        chain_ids=["A"],
        bonds=[(0, 1), (0, 2), (0, 3), (4, 5), (5, 6), (6, 7)],
        stereo_centers=[[0, 1, 2, 3]],
        stereo_signs=[np.sign(np.linalg.det(np.array(center[1:])))],
        double_bonds=[[4, 5, 6, 7]],
        double_bond_angles=[np.pi],
    )
    fence, x = StereoFence(system), np.array(center + bond)
    push = np.random.default_rng(0).normal(scale=0.008, size=x.shape)
    assert fence(jnp.asarray(x + push)) == 0
    mirror = np.array(x)
    mirror[:4, 0] *= -1
    assert fence(jnp.asarray(mirror)) > 1000
    cis = np.array(x)
    cis[7, 1] *= -1
    assert fence(jnp.asarray(cis)) > 1000
    flat = np.array(x) + push
    flat[0] += 0.8 * (flat[1:4].mean(axis=0) - flat[0])
    flat[7] = [1.13, 0.02, 0.1]
    gradient, h = jax.grad(fence)(jnp.asarray(flat)), 1e-7
    slope = float(fence(jnp.asarray(flat + h * push)) - fence(jnp.asarray(flat - h * push))) / (2 * h)
    assert abs(slope) > 1
    assert float(jnp.vdot(gradient, push)) == pytest.approx(slope, rel=1e-6)

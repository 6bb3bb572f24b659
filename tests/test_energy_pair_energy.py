"""Sums of pair potentials against NIST's configurations, plain sums and OpenMM."""

from functools import cache
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy import WCA, LennardJones, PairEnergy, SplinePair, SumEnergy, TabulatedPair
from jaxcg.energy.base import energy_and_forces

NIST = Path(__file__).parent / "data" / "nist" / "lennard_jones.npz"
# N of the configuration, and per cutoff U, W = Σ r·f over pairs, U of the tail. Source: NIST, Standard Reference
# Simulation Website, Lennard-Jones fluid reference calculations.
REFERENCE = {
    1: (800, {3.0: (-4351.5, -568.67, -198.49), 4.0: (-4467.5, -1263.9, None)}),
    2: (200, {3.0: (-690.00, -568.46, -24.230), 4.0: (-704.60, -655.99, None)}),
    3: (400, {3.0: (-1146.7, -1164.9, -49.622), 4.0: (-1175.4, -1337.1, None)}),
    4: (30, {3.0: (-16.790, -46.249, -0.54517), 4.0: (-17.060, -47.869, None)}),
}


@cache
def configuration(number: int) -> tuple[np.ndarray, np.ndarray]:
    with np.load(NIST) as data:
        return data[f"positions_{number}"], np.diag(data[f"lengths_{number}"])


def strained(energy, x, box, strain):
    """U of the system deformed by a lower triangular strain."""
    return energy.with_box(box + box @ strain)(x + x @ strain)


evaluate = eqx.filter_jit(lambda energy, x: energy(x))


@eqx.filter_jit
def energy_and_virial(energy, x, box):
    """U and Σ r·f, from isotropic strain: dU/dε = −Σ r·f."""
    energy, slope = jax.jvp(lambda e: strained(energy, x, box, e * jnp.eye(3)), (0.0,), (1.0,))
    return energy, -slope


def plain_sum(u, x, box, cutoff):
    """Energy and virial Σ r·f of all pairs within the cutoff: the sum as it is written, over all images."""
    first, second = np.triu_indices(len(x), 1)
    x = x - np.floor(x @ np.linalg.inv(box)) @ box
    shifts = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ box
    r = np.linalg.norm((x[first] - x[second])[:, None] + shifts, axis=-1)
    r = r[r < cutoff]
    h = 1e-6
    return np.sum(u(r)), -np.sum(r * (u(r + h) - u(r - h)) / (2 * h))


@pytest.mark.parametrize("number", [pytest.param(k, marks=pytest.mark.slow) for k in (1, 2, 3)] + [4])
def test_nist_configurations(x64, number):
    x, box = configuration(number)
    n_atoms, by_cutoff = REFERENCE[number]
    assert len(x) == n_atoms
    for cutoff, (energy, virial, tail) in by_cutoff.items():
        pairs = PairEnergy(LennardJones(1.0, 1.0, cutoff), n_atoms, box=box, skin=0.3, positions=x)
        value, work = energy_and_virial(pairs, x, box)
        assert abs(value - energy) < 0.6 * 10 ** (np.floor(np.log10(abs(energy))) - 4)
        assert abs(work - virial) < 0.6 * 10 ** (np.floor(np.log10(abs(virial))) - 4)
        correction = pairs.tail_correction()
        density = n_atoms / np.prod(np.diag(box))
        if tail is not None:
            assert abs(correction.energy - tail) < 0.6 * 10 ** (np.floor(np.log10(abs(tail))) - 4)
        closed = 16 / 3 * np.pi * density**2 * (2 / 3 * cutoff**-9 - cutoff**-3)
        np.testing.assert_allclose(correction.pressure, closed, rtol=1e-12)


@pytest.mark.slow
def test_table_all_pairs_and_plain_sum_agree_in_a_tilted_box(x64):
    rng = np.random.default_rng(1)
    box = np.array([[3.0, 0, 0], [0.7, 2.9, 0], [-0.5, 0.9, 2.8]])
    x = rng.random((400, 3)) @ box + rng.integers(-1, 2, (400, 3)) @ box
    r = np.linspace(0.05, 0.6, 56)
    table = TabulatedPair(r, 20 * np.exp(-4 * r) * (0.6 - r) ** 2)
    listed = PairEnergy(table, 400, box=box, positions=x)
    everyone = PairEnergy(table, 400, box=box)
    value, forces = eqx.filter_jit(energy_and_forces)(listed, x)
    other, other_forces = eqx.filter_jit(energy_and_forces)(everyone, x)
    np.testing.assert_allclose(value, other, rtol=1e-12)
    np.testing.assert_allclose(forces, other_forces, atol=1e-11)

    def u(distance):
        return np.asarray(table(jnp.asarray(distance))[0])

    energy, virial = plain_sum(u, x, box, 0.6)
    np.testing.assert_allclose(value, energy, rtol=1e-11)
    np.testing.assert_allclose(energy_and_virial(listed, x, box)[1], virial, rtol=1e-6)
    # Shear, at finite strain and by derivative.
    shear = np.zeros((3, 3))
    shear[2, 0], shear[1, 1] = 1.0, 0.5

    @eqx.filter_jit
    def derivatives(energy, amount):
        def of_shear(e):
            return strained(energy, x, box, e * shear)

        slope, curvature = jax.jvp(jax.grad(of_shear), (amount,), (1.0,))
        return of_shear(amount), slope, curvature

    (low, low_slope, _), (_, slope, curvature), (high, high_slope, _) = (
        derivatives(listed, e) for e in (-1e-5, 0.0, 1e-5)
    )
    np.testing.assert_allclose(slope, (high - low) / 2e-5, rtol=1e-6)
    np.testing.assert_allclose(curvature, (high_slope - low_slope) / 2e-5, rtol=1e-5)


def test_types_exclusions_and_parameters(x64):
    rng = np.random.default_rng(2)
    box = 2.4 * np.eye(3)
    x = np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3) * 0.48 + 0.05 * rng.standard_normal((125, 3))
    types = rng.integers(0, 3, 125)
    spline = SplinePair(0.2, 1.0, np.array([4.0, 0.5, -0.8, -0.2]))
    wca = WCA(0.5, 3.0)
    potentials = {(0, 0): LennardJones(0.4, 1.0, 1.1, switch=0.9), (1, 0): wca, (1, 2): spline}
    excluded = np.array([[0, 1], [5, 4], [7, 100]])
    energy = PairEnergy(potentials, types, box=box, excluded=excluded)
    first, second = np.triu_indices(125, 1)
    d = x[first] - x[second]
    r = np.linalg.norm(d - np.round(d / 2.4) * 2.4, axis=1)
    barred = {(0, 1), (4, 5), (7, 100)}
    counted = np.array([pair not in barred for pair in zip(first, second, strict=True)])
    expected = 0.0
    for (a, b), potential in potentials.items():
        of_types = ((types[first] == a) & (types[second] == b)) | ((types[first] == b) & (types[second] == a))
        chosen = r[counted & of_types & (r < potential.cutoff)]
        expected += float(jnp.sum(potential(jnp.asarray(chosen))[0]))
    np.testing.assert_allclose(evaluate(energy, x), expected, rtol=1e-11)
    gradient = eqx.filter_jit(eqx.filter_grad(lambda e: e(x)))(energy)
    bumped = eqx.tree_at(lambda e: e.potentials[1].sigma, energy, wca.sigma + 1e-6)
    np.testing.assert_allclose(gradient.potentials[1].sigma, (evaluate(bumped, x) - expected) / 1e-6, rtol=1e-3)
    hand = jnp.asarray(rng.standard_normal((125, 3)))
    numeric = (evaluate(energy, x + 1e-6 * hand) - evaluate(energy, x - 1e-6 * hand)) / 2e-6
    np.testing.assert_allclose(-jnp.sum(eqx.filter_jit(energy_and_forces)(energy, x)[1] * hand), numeric, rtol=1e-6)


def test_openmm_custom_force_agrees(x64):
    openmm = pytest.importorskip("openmm")
    x, box = configuration(2)
    x = 0.34 * x
    box = 0.34 * box
    system = openmm.System()
    force = openmm.CustomNonbondedForce("4*e*((s/r)^12-(s/r)^6); s=0.34; e=0.996")
    force.setNonbondedMethod(openmm.CustomNonbondedForce.CutoffPeriodic)
    force.setCutoffDistance(1.02)
    force.setUseSwitchingFunction(True)
    force.setSwitchingDistance(0.85)
    force.setUseLongRangeCorrection(False)
    for _ in x:
        system.addParticle(39.948)
        force.addParticle([])
    system.addForce(force)
    system.setDefaultPeriodicBoxVectors(*box)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(x)
    state = context.getState(getEnergy=True, getForces=True)
    ours = PairEnergy(LennardJones(0.34, 0.996, 1.02, switch=0.85), len(x), box=box)
    value, forces = eqx.filter_jit(energy_and_forces)(ours, x)
    np.testing.assert_allclose(value, state.getPotentialEnergy()._value, rtol=1e-9)
    theirs = np.array(state.getForces(asNumpy=True)._value)
    np.testing.assert_allclose(forces, theirs, atol=1e-6 * np.abs(theirs).max())
    # And the long-range correction of the energy, which OpenMM integrates by itself.
    force.setUseLongRangeCorrection(True)
    context.reinitialize(preserveState=True)
    more = context.getState(getEnergy=True).getPotentialEnergy()._value - state.getPotentialEnergy()._value
    np.testing.assert_allclose(ours.tail_correction().energy, more, rtol=1e-5)


def test_list_is_stale_then_made_anew_and_overflow_is_not_a_number():
    x, box = configuration(3)
    x, box = x.astype(np.float32), box.astype(np.float32)
    lennard_jones = LennardJones(1.0, 1.0, 2.5)
    energy = PairEnergy(lennard_jones, 400, box=box, skin=0.3, positions=x)
    assert not energy.stale(x)
    moved = x + np.float32(0.2) * np.eye(3, dtype=np.float32)[0]
    assert energy.stale(moved)
    value = evaluate(energy, x)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(evaluate(energy.rebuild(moved), moved), value, rtol=1e-5)
    tight = PairEnergy(lennard_jones, 400, box=box, skin=0.3, positions=x, room=(8, 1))
    assert np.isnan(evaluate(tight, x))
    np.testing.assert_allclose(evaluate(tight.rebuild(x), x), value, rtol=1e-6)
    both = SumEnergy((energy, energy)).with_box(2 * jnp.asarray(box))
    for part in both.terms():
        assert isinstance(part, PairEnergy)
        assert part.box is not None
        np.testing.assert_allclose(part.box, 2 * box)


def test_refusals():
    lj = LennardJones(1.0, 1.0, 2.5)
    box = 6 * np.eye(3)
    for wrong, words in (
        (lambda: PairEnergy(lj, 5, box=4 * np.eye(3)), "more than half the box"),
        (lambda: PairEnergy(lj, 5, box=box).with_box(jnp.eye(3)), "more than half the box"),
        (lambda: PairEnergy(lj, 5, box=np.ones((3, 3))), "reduced box vectors"),
        (lambda: PairEnergy({(0, 3): lj}, [0, 1]), "no atoms of types 0 and 3"),
        (lambda: PairEnergy({(0, 1): lj, (1, 0): lj}, [0, 1]), "give the pair once"),
        (lambda: PairEnergy({}, 3), "at least one"),
        (lambda: PairEnergy(lj, [-1, 0]), "from 0"),
        (lambda: PairEnergy(lj, 5).tail_correction(), "needs a periodic box"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()

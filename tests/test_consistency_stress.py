"""Stress by strain derivative = explicit virial = finite volume differences: pairs, triplets, whole molecules."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency.thermodynamics import (
    Molecules,
    frame_pressures,
    kinetic_tensor,
    mean_pressure,
    pressure_tensor,
    surface_tension,
    tail_pressures,
    to_bar,
    virial_by_term,
    volume_derivatives,
)
from jaxcg.energy.bonded import HarmonicBond
from jaxcg.energy.pair_energy import PairEnergy
from jaxcg.energy.pair_potentials import LennardJones
from jaxcg.energy.stillinger_weber import MW_WATER, stillinger_weber
from jaxcg.units import GAS_CONSTANT

ORTHORHOMBIC = np.diag([2.2, 2.4, 2.6])
TRICLINIC = np.array([[2.3, 0.0, 0.0], [0.5, 2.2, 0.0], [-0.4, 0.6, 2.4]])
BOXES = pytest.mark.parametrize("box", [ORTHORHOMBIC, TRICLINIC], ids=["orthorhombic", "triclinic"])


def lattice(box, side=4, spread=0.03, seed=0):
    """Disturbed lattice points, some of them in other images of the box."""
    rng = np.random.default_rng(seed)
    points = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return (points + rng.integers(-1, 2, points.shape)) @ box + rng.normal(scale=spread, size=points.shape)


def lennard_jones(x, box, **options):
    potential = LennardJones(0.5, 2.0, 1.05, switch=0.8)
    return PairEnergy(potential, len(x), box=jnp.asarray(box), positions=jnp.asarray(x), **options)


def water(x, box):
    return stillinger_weber(MW_WATER, len(x), box=jnp.asarray(box), positions=jnp.asarray(x))


def nearest(d, box):
    """Nearest image by looking at all of them."""
    shifts = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ box
    images = d + shifts
    return images[np.argmin((images**2).sum(axis=1))]


def explicit_pair_virial(x, box, sigma=0.5, epsilon=2.0, cutoff=1.05, switch=0.8):
    """Σ r ⊗ f over pairs, in plain NumPy."""
    inside = x - np.floor(x @ np.linalg.inv(box)) @ box
    total = np.zeros((3, 3))
    for i in range(len(x)):
        for j in range(i):
            d = nearest(inside[i] - inside[j], box)
            r = np.linalg.norm(d)
            if r >= cutoff:
                continue
            s6 = (sigma / r) ** 6
            u, du = 4 * epsilon * (s6**2 - s6), 4 * epsilon * (6 * s6 - 12 * s6**2) / r
            if r > switch:
                t = (r - switch) / (cutoff - switch)
                factor = 1 - 10 * t**3 + 15 * t**4 - 6 * t**5
                du = du * factor - u * 30 * (t * (1 - t)) ** 2 / (cutoff - switch)
            total -= du / r * np.outer(d, d)
    return total


def explicit_triplet_virial(x, box, p=MW_WATER):
    """Σ (r_ij ⊗ f_j + r_ik ⊗ f_k) over triplets with the centre i, in plain NumPy."""
    inside = x - np.floor(x @ np.linalg.inv(box)) @ box
    reach, total = p.range_ * p.sigma, np.zeros((3, 3))
    for i in range(len(x)):
        ds = [nearest(inside[j] - inside[i], box) for j in range(len(x)) if j != i]
        ds = [d for d in ds if np.linalg.norm(d) < reach * (1 - 1e-9)]
        for a in range(len(ds)):
            for b in range(a):
                da, db = ds[a], ds[b]
                ra, rb = np.linalg.norm(da), np.linalg.norm(db)
                cos = da @ db / (ra * rb)
                ea, eb = (np.exp(p.triplet_decay * p.sigma / (r - reach)) for r in (ra, rb))
                scale = p.triplet_strength * p.epsilon
                delta = cos - p.cosine
                for d, other, r, e, e_other in ((da, db, ra, ea, eb), (db, da, rb, eb, ea)):
                    by_cos = other / (r * np.linalg.norm(other)) - cos * d / r**2
                    by_r = -p.triplet_decay * p.sigma / (r - reach) ** 2 * d / r
                    force = -scale * e * e_other * (2 * delta * by_cos + delta**2 * by_r)
                    total += np.outer(d, force)
    return total


def component_difference(energy, x, box, offsets, i, j):
    """∂U/∂ε_ij by central differences of fourth order; offsets from the centres are not strained."""

    def at(step):
        strain = np.eye(3)
        strain[i, j] += step
        return float(strained(energy, box @ strain, (x - offsets) @ strain + offsets))

    return (8 * (at(1e-4) - at(-1e-4)) - (at(2e-4) - at(-2e-4))) / 12e-4


@eqx.filter_jit
def strained(energy, box, x):
    return energy.with_box(box)(x)


#: Compiled once for all tests of one kind of energy.
virials = eqx.filter_jit(virial_by_term)
volume_slopes = eqx.filter_jit(volume_derivatives)


def derivative(energy, x, box, molecules=None):
    return -virials(energy, x, box, molecules)[0]


def volume_difference(energy, x, box, step=1e-4):
    """V ∂U/∂V by central differences of fourth order, scaling everything."""

    def at(k):
        factor = np.exp(k * step / 3)
        return float(strained(energy, box * factor, x * factor))

    return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)


@BOXES
def test_pairs_three_ways(box, x64):
    x = lattice(box)
    energy = lennard_jones(x, box)
    virial = np.asarray(virials(energy, jnp.asarray(x), jnp.asarray(box)))[0]
    np.testing.assert_allclose(virial, explicit_pair_virial(x, box), rtol=1e-9, atol=1e-8)
    np.testing.assert_allclose(np.trace(virial) / 3, -volume_difference(energy, x, box), rtol=1e-6)
    assert np.abs(virial - np.diag(np.diag(virial))).max() > 1  # the shear parts are tested too


@pytest.mark.parametrize(
    "box", [TRICLINIC, pytest.param(ORTHORHOMBIC, marks=pytest.mark.slow)], ids=["triclinic", "orthorhombic"]
)
def test_triplets_three_ways(box, x64):
    box = box * 0.6
    x = lattice(box, side=4, spread=0.02)
    energy = water(x, box)
    pairs, triplets = np.asarray(virials(energy, jnp.asarray(x), jnp.asarray(box)))
    np.testing.assert_allclose(triplets, explicit_triplet_virial(x, box), rtol=1e-8, atol=1e-6)
    for term, virial in zip(energy.terms(), (pairs, triplets), strict=True):
        np.testing.assert_allclose(np.trace(virial) / 3, -volume_difference(term, x, box), rtol=1e-6)


def test_every_shear_component_by_finite_differences(x64):
    x = lattice(TRICLINIC)
    energy = lennard_jones(x, TRICLINIC)
    found = np.asarray(derivative(energy, jnp.asarray(x), jnp.asarray(TRICLINIC)))
    for i, j in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]:
        slope = component_difference(energy, x, TRICLINIC, 0.0, i, j)
        np.testing.assert_allclose(found[i, j], slope, rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(found[j, i], found[i, j])


@pytest.mark.slow
def test_neighbour_table_gives_the_same_stress(x64):
    box = np.diag([3.6, 3.8, 4.0])
    x = lattice(box, side=7, spread=0.02)
    listed = lennard_jones(x, box)
    unlisted = PairEnergy(listed.potentials[0], len(x), box=jnp.asarray(box))
    assert type(listed.pairs) is not type(unlisted.pairs)
    first, second = (derivative(e, jnp.asarray(x), jnp.asarray(box)) for e in (listed, unlisted))
    np.testing.assert_allclose(first, second, rtol=1e-10, atol=1e-9)


def test_second_volume_derivative(x64):
    x = jnp.asarray(lattice(TRICLINIC))
    box = jnp.asarray(TRICLINIC)
    energy = lennard_jones(x, TRICLINIC)
    first, second = volume_slopes(energy, x, box)
    np.testing.assert_allclose(first, volume_difference(energy, x, TRICLINIC), rtol=1e-6)
    step = 1e-4
    ahead, back = (volume_slopes(energy, x * np.exp(s / 3), box * np.exp(s / 3)).first for s in (step, -step))
    np.testing.assert_allclose(second, (ahead - back) / (2 * step), rtol=1e-5)


@pytest.mark.slow
def test_stress_is_differentiable(x64):
    x, box = jnp.asarray(lattice(TRICLINIC)), jnp.asarray(TRICLINIC)

    def pressure(sigma):
        energy = PairEnergy(LennardJones(sigma, 2.0, 1.05, switch=0.8), len(x), box=box)
        return pressure_tensor(energy, x, box, temperature=300.0).pressure

    pressure = jax.jit(pressure)
    slope = (pressure(0.5 + 1e-5) - pressure(0.5 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(pressure))(0.5), slope, rtol=1e-6)


def dumbbells(box, seed=1):
    """Diatomic molecules, of which some are cut by the box."""
    rng = np.random.default_rng(seed)
    centers = lattice(box, side=3, spread=0.05)
    axes = rng.normal(size=centers.shape)
    half = 0.06 * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    x = np.stack([centers + half, centers - half], axis=1).reshape(-1, 3)
    x = x - np.floor(x @ np.linalg.inv(box)) @ box
    bonds = np.arange(len(x)).reshape(-1, 2)
    masses = np.tile([12.0, 16.0], len(centers))
    return x, bonds, masses


@BOXES
def test_molecular_virial_is_that_of_moved_centres(box, x64):
    x, bonds, masses = dumbbells(box)
    molecules = Molecules(bonds, masses)
    energy = PairEnergy(LennardJones(0.4, 2.0, 1.05, switch=0.8), len(x), box=jnp.asarray(box), excluded=bonds)
    found = np.asarray(derivative(energy, jnp.asarray(x), jnp.asarray(box), molecules))
    offsets = np.asarray(molecules.offsets(jnp.asarray(x), jnp.asarray(box)))
    np.testing.assert_allclose((masses[:, None] * offsets).reshape(-1, 2, 3).sum(axis=1), 0, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(offsets[::2] - offsets[1::2], axis=1), 0.12)
    for i, j in [(0, 0), (1, 0), (2, 1), (2, 2)]:
        slope = component_difference(energy, x, box, offsets, i, j)
        np.testing.assert_allclose(found[i, j], slope, rtol=1e-6, atol=1e-5)


def test_forces_inside_molecules_are_not_in_the_molecular_virial(x64):
    x, bonds, masses = dumbbells(ORTHORHOMBIC)
    whole = x.copy()
    d = whole[1::2] - whole[::2]
    whole[1::2] -= np.round(d / np.diag(ORTHORHOMBIC)) * np.diag(ORTHORHOMBIC)
    energy = HarmonicBond(bonds, np.full(len(bonds), 0.1), np.full(len(bonds), 1e4), n_atoms=len(x))
    box = jnp.asarray(ORTHORHOMBIC)
    molecular = derivative(energy, jnp.asarray(whole), box, Molecules(bonds, masses))
    np.testing.assert_allclose(molecular, 0.0, atol=1e-9)
    assert np.trace(derivative(energy, jnp.asarray(whole), box)) > 10


@pytest.mark.slow
def test_second_volume_derivative_of_triplets(x64):
    x = jnp.asarray(lattice(TRICLINIC * 0.6, spread=0.02))
    box = jnp.asarray(TRICLINIC * 0.6)
    energy = water(x, TRICLINIC * 0.6).terms()[1]
    first, second = volume_slopes(energy, x, box)
    np.testing.assert_allclose(first, volume_difference(energy, x, TRICLINIC * 0.6), rtol=1e-6)
    step = 1e-4
    ahead, back = (volume_slopes(energy, x * np.exp(s / 3), box * np.exp(s / 3)).first for s in (step, -step))
    np.testing.assert_allclose(second, (ahead - back) / (2 * step), rtol=1e-5)


def test_kinetic_part_and_ideal_gas(x64):
    rng = np.random.default_rng(3)
    masses = rng.uniform(1, 20, 2000)
    velocities = rng.normal(size=(2000, 3)) * np.sqrt(GAS_CONSTANT * 300 / masses)[:, None]
    kinetic = np.asarray(kinetic_tensor(jnp.asarray(velocities), jnp.asarray(masses)))
    np.testing.assert_allclose(kinetic, np.einsum("a,ai,aj->ij", masses, velocities, velocities), rtol=1e-12)
    box, x = 5.0 * jnp.eye(3), jnp.asarray(rng.uniform(0, 5, (100, 3)))
    nothing = HarmonicBond(np.zeros((0, 2), int), [], [], n_atoms=100)
    gas = pressure_tensor(nothing, x, box, temperature=300.0)
    np.testing.assert_allclose(gas.pressure, 100 * GAS_CONSTANT * 300 / 125, rtol=1e-12)
    np.testing.assert_allclose(to_bar(gas.pressure), 33.1356, rtol=1e-4)  # 100 atoms in 125 nm³ at 300 K
    np.testing.assert_allclose(gas.stress, -gas.tensor)


def test_ideal_gas_of_molecules_counts_molecules(x64):
    x, bonds, masses = dumbbells(ORTHORHOMBIC)
    molecules = Molecules(bonds, masses)
    nothing = HarmonicBond(np.zeros((0, 2), int), [], [], n_atoms=len(x))
    gas = pressure_tensor(nothing, jnp.asarray(x), jnp.asarray(ORTHORHOMBIC), temperature=300.0, molecules=molecules)
    expected = len(bonds) * GAS_CONSTANT * 300 / np.linalg.det(ORTHORHOMBIC)
    np.testing.assert_allclose(gas.pressure, expected, rtol=1e-12)
    velocities = np.random.default_rng(5).normal(size=x.shape)
    centers = (masses[:, None] * velocities).reshape(-1, 2, 3).sum(axis=1) / 28.0
    kinetic = kinetic_tensor(jnp.asarray(velocities), jnp.asarray(masses), molecules)
    np.testing.assert_allclose(kinetic, 28.0 * centers.T @ centers, rtol=1e-12)


def test_frames_their_parts_and_their_mean(x64):
    box = ORTHORHOMBIC
    frames = np.stack([lattice(box, seed=seed) for seed in range(8)])
    energy = lennard_jones(frames[0], box)
    tails = tail_pressures(energy, np.broadcast_to(box, (8, 3, 3)))
    assert (tails < 0).all()
    found = frame_pressures(energy, frames, box, temperature=300.0, correction=tails)
    one = pressure_tensor(energy, jnp.asarray(frames[2]), jnp.asarray(box), temperature=300.0, correction=tails[2])
    np.testing.assert_allclose(found.tensor[2], one.tensor, rtol=1e-10)
    mean = mean_pressure(found)
    parts = mean.kinetic.value + mean.terms.value.sum() + mean.correction.value
    np.testing.assert_allclose(mean.pressure.value, parts, rtol=1e-10)
    assert mean.kinetic.error == 0 < mean.pressure.error
    np.testing.assert_allclose(np.trace(mean.tensor.value) / 3, mean.pressure.value)


def test_surface_tension_is_the_energy_of_more_area(x64):
    box = np.diag([2.2, 2.2, 5.0])
    x = lattice(np.diag([2.2, 2.2, 2.4]))
    energy = lennard_jones(x, box)
    frames = frame_pressures(energy, np.stack([x] * 4), box, temperature=300.0)
    found = surface_tension(frames, box)

    def at(step):
        strain = np.diag([1 + step, 1 + step, 1 / (1 + step) ** 2])
        return float(strained(energy, box @ strain, x @ strain))

    # Both surfaces gain the area A (1 + s)² − A.
    slope = (at(1e-5) - at(-1e-5)) / 2e-5 / (2 * 2 * 2.2**2)
    np.testing.assert_allclose(found.value, slope, rtol=1e-6)
    assert found.value > 1
    with pytest.raises(ValueError, match="right angles"):
        surface_tension(frames, TRICLINIC)


@pytest.mark.slow
def test_single_precision():
    x = lattice(TRICLINIC).astype(np.float32)
    energy = lennard_jones(x, TRICLINIC.astype(np.float32))
    virial = virials(energy, jnp.asarray(x), jnp.asarray(TRICLINIC, jnp.float32))
    assert virial.dtype == jnp.float32
    expected = explicit_pair_virial(np.asarray(x, np.float64), TRICLINIC)
    np.testing.assert_allclose(virial[0], expected, atol=2e-4 * np.abs(expected).max())


def test_refusals():
    x = lattice(ORTHORHOMBIC).astype(np.float32)
    energy = lennard_jones(x, ORTHORHOMBIC.astype(np.float32))
    with pytest.raises(ValueError, match="no volume"):
        frame_pressures(energy, x[None], np.zeros((3, 3), np.float32))
    with pytest.raises(ValueError, match="boxes of shape"):
        frame_pressures(energy, x[None], np.zeros((2, 3, 3), np.float32))
    with pytest.raises(ValueError, match="need masses"):
        frame_pressures(energy, x[None], ORTHORHOMBIC, velocities=x[None])
    with pytest.raises(ValueError, match="positive mass"):
        Molecules([[0, 1]], [1.0, 0.0])

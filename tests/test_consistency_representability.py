"""What pair potentials can carry of a target: against brute force, finite differences and cases with a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency import (
    pair_pressure,
    pressure_indeterminacy,
    project_forces,
    representability_gap,
)
from jaxcg.consistency.representability._pair_basis import force_sums, potential_sums
from jaxcg.consistency.statistics import Estimate
from jaxcg.units import BAR, GAS_CONSTANT

ATOMS, FRAMES, EDGE = 40, 24, 2.0
BOX = np.array([[EDGE, 0, 0], [0.3, 1.9, 0], [-0.2, 0.4, 2.1]])
KNOTS = np.linspace(0.1, 0.9, 9)
TEMPERATURE = 300.0
THERMAL = GAS_CONSTANT * TEMPERATURE


@pytest.fixture(scope="module")
def positions():
    rng = np.random.default_rng(3)
    return rng.uniform(size=(FRAMES, ATOMS, 3)) @ BOX


def displacements(x, box=BOX):
    """(atoms, atoms, 3) nearest images of x_i − x_j, by trying all."""
    d = x[:, None] - x[None]
    shifts = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ box
    images = d[:, :, None] + shifts
    return np.take_along_axis(images, np.argmin((images**2).sum(-1), axis=2)[:, :, None, None], axis=2)[:, :, 0]


def pair_forces(x, force):
    """Forces (atoms, 3), virial Σ r f and energy-like Σ f of a pair force f(r)."""
    d = displacements(x)
    r = np.sqrt((d**2).sum(-1)) + np.eye(len(x)) * 100
    f = force(r)
    return (f[..., None] * d / r[..., None]).sum(1), 0.5 * (r * f).sum(), 0.5 * f.sum()


def interpolated(values):
    """The function that is linear between the knots, constant before the first and zero from the last on."""
    return lambda r: np.interp(r, KNOTS, [*values, 0.0]) * (r < KNOTS[-1])


def test_sums_of_hats_are_sums_over_pairs(positions, x64):
    x = positions[0]
    values = np.random.default_rng(1).normal(size=8)
    forces, virial, energy = pair_forces(x, interpolated(values))
    normal, right, virials = force_sums(jnp.asarray(x), jnp.asarray(forces), jnp.asarray(BOX), jnp.asarray(KNOTS))
    np.testing.assert_allclose(normal @ values, right, rtol=1e-9)
    np.testing.assert_allclose(values @ right, (forces**2).sum(), rtol=1e-9)
    np.testing.assert_allclose(virials @ values, virial, rtol=1e-9)

    counts, own = potential_sums(jnp.asarray(x), jnp.asarray(BOX), jnp.asarray(KNOTS))
    np.testing.assert_allclose(counts @ values, energy, rtol=1e-9)

    def stretched(by):
        total, _ = potential_sums(jnp.asarray(x * by), jnp.asarray(BOX * by), jnp.asarray(KNOTS))
        return total

    step = 1e-7  # few pairs come across a knot
    np.testing.assert_allclose(own, -(stretched(1 + step) - stretched(1 - step)) / (2 * step), rtol=1e-5, atol=1e-5)


def test_pair_forces_leave_nothing(positions, x64):
    values = np.array([90.0, 40.0, 3.0, -8.0, -5.0, 1.0, 2.0, -1.0])
    made = [pair_forces(x, interpolated(values)) for x in positions]
    forces, virials = np.stack([f for f, _, _ in made]), np.array([w for _, w, _ in made])
    done = project_forces(positions, forces, virials, BOX, KNOTS, blocks=6)
    np.testing.assert_allclose(done.force, [*values, 0.0], atol=1e-6)
    np.testing.assert_allclose(done.potential[-2], 0.5 * 0.1 * values[-1], atol=1e-6)
    assert abs(done.unexplained.value) < 1e-9
    assert abs(done.remainder.value) < 1e-6
    np.testing.assert_allclose(done.target.value, virials.mean() / (3 * np.linalg.det(BOX)), rtol=1e-9)
    np.testing.assert_allclose(done.pair.value, done.target.value, rtol=1e-9)
    per_frame = virials / (3 * np.linalg.det(BOX))
    np.testing.assert_allclose(done.target.error, per_frame.std(ddof=1) / np.sqrt(FRAMES), rtol=0.6)


def test_what_is_no_pair_force_remains(positions, x64):
    values = np.array([90.0, 40.0, 3.0, -8.0, -5.0, 1.0, 2.0, -1.0])
    made = [pair_forces(x, interpolated(values)) for x in positions]
    forces, virials = np.stack([f for f, _, _ in made]), np.array([w for _, w, _ in made])
    noise = np.random.default_rng(2).normal(scale=forces.std(), size=forces.shape)
    done = project_forces(positions, forces + noise, virials + 500.0, BOX, KNOTS, blocks=6)
    # Random forces are no function of the pairs: half of the mean square remains, and the virial that was added.
    assert 0.4 < done.unexplained.value < 0.55
    added = 500.0 / (3 * np.linalg.det(BOX))
    assert abs(done.remainder.value - added) < 4 * done.remainder.error < added
    assert 0 < done.unexplained.error < 0.05


def test_the_pressure_of_an_ideal_gas_and_of_a_step():
    edges = np.linspace(0, 1, 201)
    middles = 0.5 * (edges[1:] + edges[:-1])
    density = 5.0
    ideal = density * THERMAL
    none = pair_pressure(edges, np.ones(200), np.zeros(200), density=density, temperature=TEMPERATURE)
    np.testing.assert_allclose(none, ideal, rtol=1e-6)
    # u = r² with g = 1: P = ρkT − (2π/3) ρ² ∫ 2 r⁴ dr
    harmonic = pair_pressure(edges, np.ones(200), 2 * middles, density=density, temperature=TEMPERATURE)
    np.testing.assert_allclose(harmonic, ideal - 2 * np.pi / 3 * density**2 * 0.4, rtol=1e-4)
    by_rdf = jax.grad(lambda g: pair_pressure(edges, g, 2 * middles, density=density, temperature=TEMPERATURE))(
        jnp.ones(200)
    )
    assert (np.asarray(by_rdf) < 0).all()  # more pairs that attract, less pressure


def test_a_dense_gas_resists_changes_of_the_pressure(positions, x64):
    virials = np.random.default_rng(5).normal(size=FRAMES)
    few = pressure_indeterminacy(positions, virials, BOX, KNOTS, temperature=TEMPERATURE, independent_frames=10)
    many = pressure_indeterminacy(positions, virials, BOX, KNOTS, temperature=TEMPERATURE, independent_frames=1e7)
    assert many.pressure < 0.02 * few.pressure
    # Every knot free by kT, and no data: the length of the derivative in units of kT.
    none = pressure_indeterminacy(positions, virials, BOX, KNOTS, temperature=TEMPERATURE, independent_frames=1e-12)
    assert few.pressure < none.pressure
    sums = [potential_sums(jnp.asarray(x), jnp.asarray(BOX), jnp.asarray(KNOTS)) for x in positions]
    counts, own = np.array([c for c, _ in sums]), np.array([w for _, w in sums])

    def pressure(a):
        """Of the same frames, reweighted to another potential."""
        weights = np.exp(-(counts - counts.mean(0)) @ a / THERMAL)
        return (weights @ (virials + own @ a)) / weights.sum() / (3 * np.linalg.det(BOX))

    slope = np.array([(pressure(1e-5 * row) - pressure(-1e-5 * row)) / 2e-5 for row in np.eye(8)])
    np.testing.assert_allclose(none.pressure, THERMAL * np.linalg.norm(slope), rtol=0.05)  # n and n − 1 frames
    np.testing.assert_allclose(slope @ few.potential[:-1], few.pressure, rtol=0.1)


def test_a_gap_and_no_gap():
    state = {"density": 33.4, "temperature": 298.0}
    wrong = representability_gap(Estimate(50 * BAR, 30 * BAR, 9), Estimate(9000 * BAR, 40 * BAR, 9), **state)
    assert wrong.representable is False
    assert "no pair potential" in wrong.words
    assert "9000 ± 40 bar" in wrong.words
    np.testing.assert_allclose(wrong.gap.value / BAR, -8950)
    np.testing.assert_allclose(wrong.gap.error / BAR, 50)
    np.testing.assert_allclose(wrong.reduced.value, -8950 / 1374, rtol=1e-3)
    right = representability_gap(Estimate(50 * BAR, 10 * BAR, 9), Estimate(70 * BAR, 10 * BAR, 9), **state)
    assert right.representable is True
    assert "has both" in right.words
    noisy = representability_gap(
        Estimate(50 * BAR, 30 * BAR, 9), Estimate(9000 * BAR, 40 * BAR, 9), indeterminacy=4000 * BAR, **state
    )
    assert noisy.representable is None
    assert "do not tell" in noisy.words
    assert "4000 bar open" in noisy.words
    with pytest.raises(ValueError, match="not finite"):
        representability_gap(Estimate(np.nan, 1.0), Estimate(1.0, 1.0), **state)
    with pytest.raises(ValueError, match="positive"):
        representability_gap(Estimate(1.0, 1.0), Estimate(1.0, 1.0), density=0.0, temperature=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knots": np.linspace(0.1, 1.0, 9)}, "beyond half the box, 0.95"),
        ({"knots": np.array([0.1, 0.2, 0.4, 0.5])}, "equal steps"),
        ({"box": np.zeros((3, 3))}, "box"),
        ({"virials": np.full(FRAMES, np.nan)}, "not finite"),
        ({"blocks": 30}, "24 frames for 30 blocks"),
    ],
)
def test_input_that_makes_no_sense(positions, change, message):
    given = {"forces": np.zeros(positions.shape), "virials": np.zeros(FRAMES), "box": BOX, "knots": KNOTS, **change}
    with pytest.raises(ValueError, match=message):
        project_forces(positions, **given)


def test_frames_that_are_not_finite_are_named(positions):
    broken = positions.copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="frame 7"):
        pressure_indeterminacy(broken, np.zeros(FRAMES), BOX, KNOTS, temperature=300.0, independent_frames=1.0)
    with pytest.raises(ValueError, match="more frames"):
        pressure_indeterminacy(positions[:5], np.zeros(5), BOX, KNOTS, temperature=TEMPERATURE, independent_frames=1.0)

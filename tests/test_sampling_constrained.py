"""Curved constraints: closed forms, what breaks without the volume term or the reverse check, round-off, bad input."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy.base import AbstractEnergy
from jaxcg.mapping import LinearMap, ReferenceFrameMap, RigidBonds
from jaxcg.mapping.base import AbstractMap
from jaxcg.posterior import Posterior
from jaxcg.run import run
from jaxcg.sampling import HMC, AbstractGeometry, ConstrainedGeometry, Langevin, LinearGeometry, check_start
from jaxcg.sampling.geometry import as_geometry
from jaxcg.typing import Array
from jaxcg.units import GAS_CONSTANT

KEY = jax.random.key(0)
KT = GAS_CONSTANT * 300.0


class Ellipses(AbstractMap):
    """Two atoms whose x, y and z each lie on an ellipse of their own: y = x₀² + (x₁/3)².

    With x₀ = √y cos t, x₁ = 3 √y sin t the density δ(y − M(x)) dx is uniform in t, the arc length is not.
    """

    n_beads: int = 1
    n_atoms: int = 2

    def __call__(self, x):
        return x[:1] ** 2 + (x[1:] / 3.0) ** 2


class Slope(AbstractEnergy):
    """U = kT Σ x₀: on the ellipse of y = 1 the density in t is exp(−cos t), von Mises."""

    def __call__(self, x):
        return jnp.asarray(KT, x.dtype) * jnp.sum(x[0])


class Switched(AbstractGeometry):
    """A geometry that can be broken: with ``volume`` 0 it leaves out the volume term, with ``check`` 0 the check."""

    whole: ConstrainedGeometry
    volume: Array
    check: Array
    dimension: int = eqx.field(static=True, default=3)

    def retract(self, x, y):
        return self.whole.retract(x, y)

    def project(self, x, velocity):
        return self.whole.project(x, velocity)

    def acceleration(self, gradient):
        return self.whole.acceleration(gradient)

    def thermal_velocities(self, key, thermal_energy, x):
        return self.whole.thermal_velocities(key, thermal_energy, x)

    def drift(self, x, velocity, time, y):
        x, velocity, reversible = self.whole.drift(x, velocity, time, y)
        # Held all the same: what is left out is the way back alone.
        held = jnp.max(jnp.abs(self.whole.residual(x, y))) < float(jnp.finfo(x.dtype).eps) ** 0.75
        return x, velocity, jnp.where(self.check > 0, reversible, held)

    def kinetic_energy(self, velocity):
        return self.whole.kinetic_energy(velocity)

    def kinetic_differences(self, velocity, new_velocity):
        return self.whole.kinetic_differences(velocity, new_velocity)

    def log_volume(self, x):
        return self.volume * self.whole.log_volume(x)


def von_mises(count):
    """Exact draws of t, (count, 3), and the positions on the ellipses (count, 2, 3)."""
    t = np.random.default_rng(0).vonmises(np.pi, 1.0, size=(count, 3))
    return t, np.stack([np.cos(t), 3 * np.sin(t)], axis=1)


@eqx.filter_jit
def moved(posterior, geometry, step_size, x):
    """Where 12 trajectories take every chain, and how many moves were taken and irreversible."""
    kernel = HMC(posterior, geometry, step_size=0.1, steps=2)

    def chain(key, x):
        def body(state, key):
            return kernel.step(key, state)

        state = kernel.init(key, x)._replace(step_size=step_size)
        state, infos = jax.lax.scan(body, state, jax.random.split(key, 12))
        return state.position, infos.accepted, infos.irreversible

    return jax.vmap(chain)(jax.random.split(KEY, len(x)), x)


def deviations(volume, check, step_size, count=8000):
    """How many standard errors the chains, started from exact draws, have moved away from the exact moments."""
    with jax.enable_x64(True):
        posterior = Posterior(Slope(), Ellipses(), jnp.ones((1, 3)))
        whole = ConstrainedGeometry(posterior, np.ones(2) * KT)
        geometry = Switched(whole, jnp.asarray(volume), jnp.asarray(check))
        t, x = von_mises(count)
        x, accepted, irreversible = moved(posterior, geometry, jnp.asarray(step_size), jnp.asarray(x))
        x = np.asarray(x)
        assert np.abs(x[:, 0] ** 2 + (x[:, 1] / 3) ** 2 - 1).max() < 1e-11
        end = np.arctan2(x[:, 1] / 3, x[:, 0])
        grid = np.linspace(0, 2 * np.pi, 4001)[:-1]
        weight = np.exp(-np.cos(grid))
        found = []
        for f in (np.cos, np.sin, lambda t: np.cos(2 * t)):
            exact = (weight * f(grid)).sum() / weight.sum()
            found.append((f(end).mean() - exact) / (f(end).std() / np.sqrt(end.size)))
        print(found, np.mean(accepted), np.mean(irreversible))
        assert np.abs(end - t).mean() > 0.3  # they did move
        return np.abs(found), float(np.mean(irreversible))


@pytest.mark.slow
def test_large_steps_keep_the_density():
    for step_size in (0.2, 0.5, 1.0):
        found, irreversible = deviations(1.0, 1.0, step_size)
        assert found.max() < 4.0
    assert irreversible > 0.2  # the check has something to do


def test_it_is_wrong_without_the_volume_term():
    assert deviations(0.0, 1.0, 0.2)[0].max() > 15


def test_it_is_wrong_without_the_reverse_check():
    assert deviations(1.0, 0.0, 1.0)[0].max() > 7


# -- rigid bonds: the bending angle of a free trimer ------------------------------------------------------------------


class Nothing(AbstractEnergy):
    """No energy at all: what is seen is the measure."""

    def __call__(self, x):
        return jnp.zeros((), x.dtype)


#: A light atom between heavy ones: bonds couple strongly through it.
TRIMER = np.array([10.0, 1.0, 10.0])


def trimers(count):
    """Exact draws of δ(|r₀₁| − l) δ(|r₁₂| − l): two independent directions."""
    directions = np.random.default_rng(1).normal(size=(count, 2, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    x = np.stack([directions[:, 0], np.zeros((count, 3)), directions[:, 1]], axis=1) * 0.1
    return x - np.average(x, axis=1, weights=TRIMER)[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("volume", [1.0, 0.0])
def test_bending_angle_of_a_rigid_trimer(volume):
    """Uniform in cos θ with delta functions of bond lengths; √(1 + c sin²θ) of it in the mass metric (Fixman)."""
    mapping = LinearMap.center_of_mass([[0, 1, 2]], TRIMER)
    bonds = RigidBonds.of([[0, 1], [1, 2]], np.full(2, 0.1, np.float32), 3)
    posterior = Posterior(Nothing(), mapping, jnp.zeros((1, 3), jnp.float32), rigid_bonds=bonds)
    geometry = Switched(ConstrainedGeometry(posterior, TRIMER), jnp.float32(volume), jnp.float32(1), dimension=4)
    x = jnp.asarray(trimers(4000), jnp.float32)
    x, accepted, _ = (np.asarray(a) for a in moved(posterior, geometry, jnp.float32(0.05), x))
    lengths = np.linalg.norm(x[:, :-1] - x[:, 1:], axis=2)
    np.testing.assert_allclose(lengths, 0.1, atol=2e-5)  # what counts as converged in float32
    assert np.abs(np.einsum("a,caj->cj", TRIMER, x) / 21).max() < 2e-6
    cosine = np.sum((x[:, 0] - x[:, 1]) * (x[:, 2] - x[:, 1]), axis=1) / 0.01
    error = np.array([(cosine**k).std() / np.sqrt(len(x)) for k in (1, 2)])
    off = np.abs(np.array([cosine.mean(), (cosine**2).mean() - 1 / 3])) / error
    # In the mass metric det(J m⁻¹ Jᵀ) = (1/10 + 1)² − cos²θ.
    grid = np.linspace(-1, 1, 20001)
    metric = np.sqrt(1.21 - grid**2)
    wrong = (metric * grid**2).sum() / metric.sum()
    assert accepted.mean() > 0.2
    if volume:
        assert off.max() < 4
    else:
        assert abs((cosine**2).mean() - wrong) < 4 * error[1]
        assert abs(wrong - 1 / 3) > 10 * error[1]


# -- a small molecule with frames, rigid bonds and atoms in no bead ---------------------------------------------------


class Springs(AbstractEnergy):
    """Harmonic distances between all pairs of atoms, which hold the shape of ``reference``."""

    reference: Array

    def __call__(self, x):
        i, j = np.triu_indices(len(self.reference), 1)
        rest = jnp.sqrt(jnp.sum((self.reference[i] - self.reference[j]) ** 2, axis=1)).astype(x.dtype)
        return 2000.0 * jnp.sum((jnp.sqrt(jnp.sum((x[i] - x[j]) ** 2, axis=1)) - rest) ** 2)


SHAPE = np.random.default_rng(3).uniform(0, 0.3, (12, 3)) + np.array([3.0, -2.0, 5.0])
MASSES = np.random.default_rng(4).uniform(1, 16, 12)
GROUPS = [[0, 1, 2, 3], [4, 5, 6, 7]]
BONDS = [[0, 8], [9, 10]]


def frames(dtype):
    """Two bead frames, a rigid bond into one of them, another between atoms in no bead, an atom that is free."""
    x = jnp.asarray(SHAPE, dtype)
    mapping = ReferenceFrameMap.of(GROUPS, MASSES, SHAPE)
    return Posterior(Springs(x), mapping, mapping(x), rigid_bonds=RigidBonds.at(BONDS, SHAPE.astype(dtype))), x


def bent(dtype):
    x = jnp.asarray(SHAPE, dtype)
    mapping = Bent(LinearMap.center_of_mass([*GROUPS, [8, 9]], MASSES))
    return Posterior(Springs(x), mapping, mapping(x), rigid_bonds=RigidBonds.at(BONDS, SHAPE.astype(dtype))), x


class Bent(AbstractMap):
    """A map of unknown kind: every bead may depend on every atom."""

    base: LinearMap
    n_beads: int = 3
    n_atoms: int = 12

    def __call__(self, x):
        y = self.base(x)
        return y + 0.3 * jnp.sin(y[::-1])


def dense(geometry, posterior, x):
    """J in the metric of the masses, (constraints, 3 atoms), by forward mode."""
    jacobian = jax.jacfwd(lambda at: geometry.residual(at, posterior.y))(x)
    return np.asarray(jacobian / np.sqrt(MASSES)[:, None]).reshape(len(jacobian), -1)


@pytest.mark.parametrize("problem", [pytest.param(frames, marks=pytest.mark.slow), bent])
def test_projection_and_volume_against_dense_algebra(x64, problem):
    posterior, x = problem(np.float64)
    geometry = as_geometry(posterior, MASSES)
    assert isinstance(geometry, ConstrainedGeometry)
    j = dense(geometry, posterior, x)
    assert geometry.dimension == 36 - len(j)
    assert len(geometry.groups.buckets) == (3 if problem is frames else 1)
    v = jax.random.normal(KEY, x.shape)
    scaled = np.asarray(v * np.sqrt(MASSES)[:, None]).ravel()
    expected = scaled - j.T @ np.linalg.solve(j @ j.T, j @ scaled)
    projected = eqx.filter_jit(geometry.project)(x, v)
    np.testing.assert_allclose(projected * np.sqrt(MASSES)[:, None], expected.reshape(-1, 3), atol=1e-12)
    volume = jax.jit(jax.value_and_grad(geometry.log_volume))
    value, gradient = volume(x)
    assert float(value) == pytest.approx(0.5 * np.linalg.slogdet(j @ j.T)[1], rel=1e-12)
    for seed in range(3):
        d = jax.random.normal(jax.random.key(seed), x.shape)
        h = 1e-5
        numeric = (volume(x + h * d)[0] - volume(x - h * d)[0]) / (2 * h)
        assert float(jnp.sum(gradient * d)) == pytest.approx(float(numeric), rel=1e-6, abs=1e-7)


@pytest.mark.slow
def test_trajectories_are_reversible_and_of_second_order(x64):
    posterior, x = frames(np.float64)
    kernel = HMC(posterior, MASSES)
    geometry, kT = kernel.geometry, posterior.thermal_energy
    v = geometry.thermal_velocities(KEY, kT, x)
    trajectory = eqx.filter_jit(kernel.trajectory)

    def energy(x, v):
        return float(posterior.potential(x) + kT * geometry.log_volume(x) + geometry.kinetic_energy(v))

    errors = []
    for halvings in range(3):
        steps, dt = 16 * 2**halvings, 0.004 / 2**halvings
        end, w, reversible = trajectory(x, v, jnp.asarray(dt), jnp.asarray(steps))
        assert reversible
        errors.append(energy(end, w) - energy(x, v))
    np.testing.assert_allclose(np.array(errors[:-1]) / np.array(errors[1:]), 4, rtol=0.15)
    assert np.abs(end - x).max() > 0.01
    back, u, reversible = trajectory(end, -w, jnp.asarray(dt), jnp.asarray(steps))
    assert reversible
    np.testing.assert_allclose(back, x, atol=1e-12)
    np.testing.assert_allclose(u, -v, atol=1e-9)


def test_no_time_changes_nothing(x64):
    posterior, x = bent(np.float64)
    geometry = as_geometry(posterior, MASSES)
    off = x + 1e-3  # not even on the surface
    v = jax.random.normal(KEY, x.shape)
    moved, kept, reversible = eqx.filter_jit(geometry.drift)(off, v, 0.0, posterior.y)
    np.testing.assert_array_equal(moved, off)
    np.testing.assert_array_equal(kept, v)
    assert reversible


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frames_and_bonds_are_held_for_a_thousand_steps(dtype):
    with jax.enable_x64(dtype == np.float64):
        posterior, x = frames(dtype)
        kernel = Langevin(posterior, MASSES, step_size=0.002)
        result = run(kernel, kernel.init(KEY, x), KEY, 1000, observe=lambda s: s.position, every=50)
        temperature = result.infos.temperature[200:]
    assert result.observations.dtype == dtype
    draws = result.observations.astype(np.float64)
    with jax.enable_x64(True):
        exact, _ = frames(np.float64)
        y = posterior.y.astype(np.float64)
        off = np.array([ConstrainedGeometry(exact, MASSES).residual(jnp.asarray(one), y) for one in draws])
    assert np.abs(draws - draws[0]).max() > 0.01
    # Positions some nm from the origin: their last digit, and for the angles that over the size of a bead.
    assert np.abs(off).max() < (2e-5 if dtype == np.float32 else 1e-13)
    assert np.abs(off[:, [0, 1, 2, 6, 7, 8, 12, 13]]).max() < (2e-6 if dtype == np.float32 else 1e-14)
    assert temperature.mean() == pytest.approx(300, rel=0.1)


# -- which path, and bad input ----------------------------------------------------------------------------------------


def test_flat_problems_take_the_straight_path():
    mapping = LinearMap.center_of_mass(GROUPS, MASSES)
    y, bonds = jnp.zeros((2, 3)), RigidBonds.at(BONDS, SHAPE)
    assert isinstance(as_geometry(Posterior(Nothing(), mapping, y), MASSES), LinearGeometry)
    soft = Posterior(Nothing(), Bent(mapping), jnp.zeros((3, 3)), noise=0.1)
    assert isinstance(as_geometry(soft, MASSES), LinearGeometry)
    assert as_geometry(soft, MASSES).dimension == 36
    held = as_geometry(Posterior(Nothing(), mapping, y, noise=0.1, rigid_bonds=bonds), MASSES)
    assert isinstance(held, ConstrainedGeometry)
    assert held.dimension == 34


@pytest.mark.slow
def test_starts_off_the_fibre_are_refused():
    posterior, x = frames(np.float32)
    x = np.asarray(x)
    check_start(posterior, np.stack([x, x + 1e-4]))
    wrong = x.copy()
    wrong[10] += 0.05
    with pytest.raises(
        ValueError, match=r"chain 1 .*its rigid bond between atoms 9 and 10 is 0\.\d+ nm from its length"
    ):
        check_start(posterior, np.stack([x, wrong]))
    with pytest.raises(ValueError, match=r"bead 0 \(A\) is 0\.02 nm from .*2 of 2 chains"):
        check_start(posterior, np.stack([x, x - 1e-4]) + np.array([0.02, 0, 0]), bead_labels=["A", "B"])
    turned = x.copy()
    centre = np.average(x[4:8], axis=0, weights=MASSES[4:8])
    turned[4:8] = (x[4:8] - centre) @ np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1.0]]) + centre
    with pytest.raises(ValueError, match=r"bead 1, in its orientation, is 0\.6\d* rad from where"):
        check_start(posterior, turned[None])
    with pytest.raises(ValueError, match=r"chain 0 .* atom 3 .* not finite"):
        check_start(posterior, np.where(np.arange(12)[:, None] == 3, np.nan, x)[None])


def test_constraints_that_depend_on_each_other_are_refused():
    line = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.2, 0, 0]])
    mapping = LinearMap.slice([0], 3)
    bonds = RigidBonds.at([[0, 1], [1, 2], [0, 2]], line)
    posterior = Posterior(Nothing(), mapping, jnp.zeros((1, 3)), rigid_bonds=bonds)
    with pytest.raises(ValueError, match="depend on each other"):
        check_start(posterior, line[None])
    with pytest.raises(ValueError, match="hold fewer"):
        as_geometry(
            Posterior(Nothing(), LinearMap.slice([0, 1, 2], 3), jnp.zeros((3, 3)), rigid_bonds=bonds), np.ones(3)
        )
    twice = LinearMap.from_weights([0, 1], [0, 0], [1, 1], 2, 3)
    with pytest.raises(ValueError, match="redundant"):
        ConstrainedGeometry(Posterior(Nothing(), twice, jnp.zeros((2, 3)), rigid_bonds=bonds), np.ones(3))
    with pytest.raises(ValueError, match="nothing exactly"):
        ConstrainedGeometry(Posterior(Nothing(), mapping, jnp.zeros((1, 3)), noise=0.1), np.ones(3))
    with pytest.raises(ValueError, match="ConstrainedGeometry"):
        LinearGeometry(posterior, np.ones(3))

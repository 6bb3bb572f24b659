"""Mie's potential and potentials made of others: closed forms, finite differences, ends, cores and integrals."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxcg.energy import (
    WCA,
    BSplinePair,
    LennardJones,
    Mie,
    PairEnergy,
    RepulsiveCore,
    SplinePair,
    SwitchedPair,
    TabulatedPair,
    energy_and_forces,
)

DISTANCES = np.linspace(0.21, 1.1, 60)
TABLE = np.linspace(0.3, 0.9, 31)


def potentials():
    u = 3.0 * np.exp(-6 * TABLE) * np.cos(8 * TABLE)
    spline = SplinePair(0.35, 0.9, np.array([-4.0, -1.0, -0.5, 0.1]))
    return {
        "truncated": Mie(0.3, 2.0, 0.9, 14.0, 7.5),
        "switched": Mie(0.3, 2.0, 0.9, 14.0, 7.5, switch=0.7),
        "energy": Mie(0.3, 2.0, 0.9, 9.0, 6.0, shift="energy"),
        "force": Mie(0.3, 2.0, 0.9, 9.0, 6.0, shift="force"),
        "switched table": SwitchedPair(TabulatedPair(TABLE, u), 0.6),
        "core of a spline": RepulsiveCore(spline, 0.4),
        "core": RepulsiveCore(LennardJones(0.3, 2.0, 0.9, switch=0.7), 0.28, decay=0.05),
        "both": SwitchedPair(RepulsiveCore(Mie(0.3, 2.0, 0.9), 0.29), 0.6),
        "b-spline": BSplinePair(0.3, 0.9, np.array([5.0, 3.0, -1.0, -0.5, 0.2, 0.1, 0.05])),
    }


@pytest.mark.parametrize("name", potentials())
def test_slope_is_the_derivative_and_the_end_is_the_cutoff(x64, name):
    potential = potentials()[name]
    r = jnp.asarray(DISTANCES)
    u, slope = potential(r)
    numeric = (potential(r + 1e-6)[0] - potential(r - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slope, jax.grad(lambda s: jnp.sum(potential(s)[0]))(r), rtol=1e-9, atol=1e-11)
    assert not np.any(potential(jnp.asarray([potential.cutoff, 2 * potential.cutoff])))
    assert np.all(np.isfinite(potential(jnp.asarray([2e-3]))))
    single = potential(r.astype(jnp.float32))
    assert single[0].dtype == single[1].dtype == jnp.float32
    np.testing.assert_allclose(single[0], u, rtol=2e-4, atol=2e-6 * np.abs(u).max())


@pytest.mark.parametrize("name", ["switched", "switched table", "core of a spline", "both", "b-spline"])
def test_pair_energies_have_forces_that_are_finite_differences(x64, name):
    energy = PairEnergy(potentials()[name], 4, box=2.0 * np.eye(3))
    x = jnp.asarray([[0.0, 0.0, 0.0], [0.3, 0.1, 0.0], [0.1, 0.5, 0.2], [1.9, 1.8, 0.1]])
    value = eqx.filter_jit(energy)
    forces = energy_and_forces(energy, x)[1]
    numeric = np.zeros(x.shape)
    for i in np.ndindex(*x.shape):
        numeric[i] = -(value(x.at[i].add(1e-6)) - value(x.at[i].add(-1e-6))) / 2e-6
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(forces, numeric, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["truncated", "force", "switched table", "core of a spline", "both"])
def test_derivatives_by_the_parameters(x64, name):
    potential = potentials()[name]
    r = jnp.asarray([0.25, 0.33, 0.5, 0.7])
    weights = jnp.asarray([0.3, 1.0, -2.0, 3.0])
    numbers, rest = eqx.partition(potential, eqx.is_array)

    @jax.jit
    def value(numbers):
        u, slope = eqx.combine(numbers, rest)(r)
        return jnp.sum(weights * u) + 0.1 * jnp.sum(weights * slope)

    leaves, tree = jax.tree.flatten(numbers)
    for k, gradient in enumerate(jax.tree.leaves(jax.grad(value)(numbers))):
        for i in np.ndindex(*gradient.shape):

            def moved(step, k=k, i=i):
                return jax.tree.unflatten(tree, [a.at[i].add(step) if j == k else a for j, a in enumerate(leaves)])

            numeric = (value(moved(1e-6)) - value(moved(-1e-6))) / 2e-6
            np.testing.assert_allclose(gradient[i], numeric, rtol=1e-5, atol=1e-5)


def test_mie_with_twelve_and_six_is_lennard_jones(x64):
    r = jnp.asarray(DISTANCES)
    cases: tuple[dict[str, Any], ...] = ({}, {"switch": 0.7}, {"shift": "energy"}, {"shift": "force"})
    for how in cases:
        ours, theirs = Mie(0.3, 2.0, 0.9, **how), LennardJones(0.3, 2.0, 0.9, **how)
        for a, b in zip(ours(r), theirs(r)):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
        if "shift" not in how:
            np.testing.assert_allclose(ours.tail(), theirs.tail(), rtol=1e-11)


def test_a_switched_potential_is_the_one_that_switches_itself(x64):
    r = jnp.asarray(DISTANCES)
    ours, theirs = SwitchedPair(LennardJones(0.3, 2.0, 0.9), 0.7), LennardJones(0.3, 2.0, 0.9, switch=0.7)
    for a, b in zip(ours(r), theirs(r)):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(ours.tail(), theirs.tail(), rtol=1e-9)


def test_mie_is_as_deep_as_epsilon_and_its_tail_is_what_is_missing(x64):
    n, m, sigma, epsilon = 14.0, 7.5, 0.3, 2.0
    lowest = sigma * (n / m) ** (1 / (n - m))
    np.testing.assert_allclose(potentials()["truncated"](jnp.asarray(lowest))[0], -epsilon, rtol=1e-12)
    np.testing.assert_allclose(potentials()["truncated"](jnp.asarray(sigma))[0], 0.0, atol=1e-12)

    def whole(r):
        size = epsilon * n / (n - m) * (n / m) ** (m / (n - m))
        return size * ((sigma / r) ** n - (sigma / r) ** m)

    def whole_slope(r):
        size = epsilon * n / (n - m) * (n / m) ** (m / (n - m))
        return size * (m * (sigma / r) ** m - n * (sigma / r) ** n) / r

    for name in ("truncated", "switched"):
        potential = eqx.filter_jit(potentials()[name])

        def missing(r, k, potential=potential):
            return (whole, whole_slope)[k](r) - float(potential(jnp.asarray(r))[k])

        pieces = ((0.7, 0.9), (0.9, 8.0), (8.0, 100.0))
        expected = [sum(quad(lambda r, k=k: r ** (2 + k) * missing(r, k), *p)[0] for p in pieces) for k in (0, 1)]
        np.testing.assert_allclose(potentials()[name].tail(), expected, rtol=1e-6)


def test_switching_ends_smoothly(x64):
    table = TabulatedPair(TABLE, 2.0 + np.sin(9 * TABLE))
    switched = SwitchedPair(table, 0.6)
    inner = jnp.asarray([0.2, 0.4, 0.6])
    np.testing.assert_array_equal(switched(inner)[0], table(inner)[0])
    np.testing.assert_array_equal(switched(inner)[1], table(inner)[1])
    u, slope = switched(jnp.asarray(0.9 - 1e-4))
    # The switching function leaves the cutoff as the third power of the distance to it: 10 (10⁻⁴/0.3)³ u.
    assert 0 < abs(u) < 2e-9
    assert abs(slope) < 1e-4
    assert abs(table(jnp.asarray(0.9 - 1e-4))[0]) > 1


def test_a_core_is_continuous_grows_and_repels(x64):
    attractive = SplinePair(0.35, 0.9, np.array([-9.0, -3.0, -0.5, 0.1]))
    for potential, start in (
        (LennardJones(0.3, 2.0, 0.9), 0.29),
        (LennardJones(0.3, 2.0, 0.9), 0.334),
        (attractive, 0.4),
    ):
        core = RepulsiveCore(potential, start, decay=0.04, force=30.0)
        above = jnp.asarray(np.linspace(start, 1.0, 30))
        np.testing.assert_array_equal(core(above), potential(above))
        edge = np.asarray(core(jnp.asarray([start - 1e-9, start + 1e-9])))
        np.testing.assert_allclose(edge[:, 0], edge[:, 1], rtol=1e-5, atol=1e-5)
        force = -np.asarray(core(jnp.asarray(np.linspace(0.0, start, 400)))[1])
        assert np.all(np.diff(force) < 0)
        assert -core(jnp.asarray(start - 0.04 * math.log(2) - 1e-9))[1] >= -1e-6
        assert -core(jnp.asarray(start - 0.04 * math.log(3) - 1e-9))[1] >= 30.0
    assert float(potential(jnp.asarray(0.2))[1]) > 0  # what the core is for: alone, it pulls inwards for ever
    # Closed form: F₀ exp(s/λ) where the potential already repels.
    potential = LennardJones(0.3, 2.0, 0.9)
    u0, slope0 = potential(jnp.asarray(0.28))
    u, slope = RepulsiveCore(potential, 0.28, decay=0.05, force=1.0)(jnp.asarray(0.1))
    np.testing.assert_allclose(slope, slope0 * math.exp(0.18 / 0.05), rtol=1e-12)
    np.testing.assert_allclose(u, u0 - slope0 * 0.05 * math.expm1(0.18 / 0.05), rtol=1e-12)
    np.testing.assert_allclose(RepulsiveCore(potential, 0.28).tail(), potential.tail())


def test_refusals():
    inner = WCA(0.4, 1.0)
    for wrong, words in (
        (lambda: Mie(0.3, 1.0, 0.0), "must be positive"),
        (lambda: Mie(0.3, 1.0, 0.9, switch=1.0), "between 0 and the cutoff"),
        (lambda: Mie(0.3, 1.0, 0.9, switch=0.8, shift="force"), "not both"),
        (lambda: Mie(0.3, 1.0, 0.9, 6.0, 6.0), "repulsive exponent"),
        (lambda: Mie(0.3, 1.0, 0.9, shift="force").tail(), "no tail correction"),
        (lambda: Mie(0.3, 1.0, 0.9, 9.0, 3.0).tail(), "larger than 3"),
        (lambda: SwitchedPair(inner, 0.5), "between 0 and the cutoff"),
        (lambda: RepulsiveCore(inner, 0.5), "between 0 and the cutoff"),
        (lambda: RepulsiveCore(inner, 0.3, decay=-1.0), "must be positive"),
        (lambda: RepulsiveCore(inner, 0.3, decay=0.001), "too short"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()

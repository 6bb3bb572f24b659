"""Derivatives of every term: against plain differentiation of its energy and against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import quick

from jaxcg.energy import (
    CMAPTorsion,
    GeneralizedBorn,
    HarmonicAngle,
    HarmonicBond,
    HarmonicTorsion,
    Neck,
    Nonbonded,
    PeriodicTorsion,
    TypedLennardJones,
)

N = 14
POSITIONS = np.random.default_rng(0).normal(scale=0.25, size=(N, 3))
CHARGES = np.random.default_rng(1).normal(size=N)


def bond():
    return HarmonicBond([[0, 1], [1, 2], [1, 3]], [0.1, 0.15, 0.12], [1e3, 2e3, 1e3], n_atoms=N)


def bend():
    return HarmonicAngle([[0, 1, 2], [3, 1, 2]], [1.9, 2.0], [400.0, 300.0], n_atoms=N)


def torsion():
    # The first two share a quartet (one read backwards), the last repeats a periodicity of another.
    atoms = [[0, 1, 2, 3], [3, 2, 1, 0], [4, 5, 6, 7], [4, 5, 6, 7], [1, 5, 2, 9]]
    return PeriodicTorsion(atoms, [1, 3, 2, 2, 0], [0.3, np.pi, 0.0, 1.0, 0.4], [2.0, 3.0, 5.0, 1.0, 0.7], n_atoms=N)


def improper():
    return HarmonicTorsion([[0, 1, 2, 3], [4, 5, 6, 7]], [0.1, 3.0], [50.0, 30.0], n_atoms=N)


def typed():
    rng = np.random.default_rng(2)
    table = rng.uniform(0.5, 1.0, (3, 3))
    types = rng.integers(0, 3, N)
    return TypedLennardJones(types, 1e-8 * (table + table.T), 1e-4 * table @ table.T, [[0, 1]], cutoff=0.6, switch=0.4)


def cmap():
    rng = np.random.default_rng(2)
    grids = rng.normal(size=(2, 6, 6))
    return CMAPTorsion([[0, 1, 2, 3, 1, 2, 3, 4], [5, 6, 7, 8, 6, 7, 8, 9]], [1, 0], grids, n_atoms=N)


def nonbonded():
    rng = np.random.default_rng(2)
    return Nonbonded(
        CHARGES,
        rng.uniform(0.1, 0.3, N),
        rng.uniform(0.2, 1.0, N),
        [[0, 1], [2, 5]],
        [0.3, 0.0],
        [0.2, 0.1],
        [0.4, 0.0],
    )


def nonbonded_periodic():
    rng = np.random.default_rng(2)
    return Nonbonded(
        CHARGES,
        rng.uniform(0.1, 0.3, N),
        rng.uniform(0.2, 1.0, N),
        [[0, 1]],
        [0.3],
        [0.2],
        [0.4],
        cutoff=0.45,
        switch=0.35,
        box=[[1.0, 0, 0], [0.2, 1.0, 0], [-0.1, 0.3, 1.0]],
        dispersion=True,
    )


def born():
    rng = np.random.default_rng(2)
    radii = rng.uniform(0.1, 0.2, N)
    return GeneralizedBorn(CHARGES, radii, 0.8 * radii, screening=0.5, cutoff=0.8)


def born_with_necks():
    rng = np.random.default_rng(2)
    radii = rng.uniform(0.1, 0.2, N)
    neck = Neck(
        jnp.asarray(rng.uniform(0.2, 0.4, (3, 3))),
        jnp.asarray(rng.uniform(0.1, 0.6, (3, 3))),
        jnp.asarray(rng.integers(0, 3, N)),
        jnp.asarray(0.8),
        jnp.asarray(0.68),
    )
    shape = (rng.uniform(0.5, 1.0, N), rng.uniform(0.3, 0.8, N), rng.uniform(0.2, 0.4, N))
    return GeneralizedBorn(
        CHARGES, radii, 0.8 * radii, offset=0.0195141, alpha=shape[0], beta=shape[1], gamma=shape[2], neck=neck
    )


TERMS = [bond, bend, torsion, improper, cmap, nonbonded, nonbonded_periodic, typed, born, born_with_necks]
each_term = pytest.mark.parametrize("make", TERMS, ids=lambda m: m.__name__)


evaluate = quick(lambda term, x: jax.value_and_grad(term)(x))


def value(term, x):
    return evaluate(term, x)[0]


def gradient(term, x):
    return evaluate(term, x)[1]


@each_term
def test_gradient_is_the_derivative_of_the_energy(x64, make):
    term = make()
    plain = quick(lambda term, x: jax.grad(lambda x: term.energy_and_gradient(x)[0])(x))
    expected = plain(term, POSITIONS)
    np.testing.assert_allclose(gradient(term, POSITIONS), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


@each_term
def test_second_derivatives(x64, make):
    term, v = make(), np.random.default_rng(1).normal(size=(N, 3))

    forward = quick(lambda term, x, v: jax.jvp(jax.grad(term), (x,), (v,))[1])(term, POSITIONS, v)
    step = 1e-6
    expected = (gradient(term, POSITIONS + step * v) - gradient(term, POSITIONS - step * v)) / (2 * step)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(forward, expected, rtol=1e-5, atol=1e-6 * scale)


def test_reverse_over_reverse(x64):
    term, v = nonbonded(), np.random.default_rng(1).normal(size=(N, 3))
    reverse = quick(lambda term, x, v: jax.grad(lambda x: jnp.vdot(jax.grad(term)(x), v))(x))(term, POSITIONS, v)
    forward = quick(lambda term, x, v: jax.jvp(jax.grad(term), (x,), (v,))[1])(term, POSITIONS, v)
    np.testing.assert_allclose(reverse, forward, rtol=1e-9, atol=1e-9 * np.abs(forward).max())


@each_term
def test_every_parameter(x64, make):
    term = make()
    parameters, rest = eqx.partition(term, eqx.is_inexact_array)
    got = quick(lambda p, x: jax.grad(lambda p: eqx.combine(p, rest)(x))(p))(parameters, POSITIONS)
    leaves, structure = jax.tree.flatten(parameters)
    assert leaves
    for k, (leaf, g) in enumerate(zip(leaves, jax.tree.leaves(got), strict=True)):
        direction = np.random.default_rng(k).normal(size=leaf.shape) * (0.1 + np.abs(leaf))
        if leaf.shape == (3, 3) and make is nonbonded_periodic:
            direction = np.tril(direction)

        def at(step, k=k, leaf=leaf, direction=direction):
            moved = [*leaves[:k], leaf + step * direction, *leaves[k + 1 :]]
            return value(eqx.combine(jax.tree.unflatten(structure, moved), rest), POSITIONS)

        expected = (at(1e-6) - at(-1e-6)) / 2e-6
        np.testing.assert_allclose(np.vdot(g, direction), expected, rtol=1e-5, atol=1e-6, err_msg=str(k))


@each_term
def test_single_precision(x64, make):
    term, x = make(), POSITIONS.astype(np.float32)
    energy, slope = evaluate(term, x)
    assert energy.dtype == slope.dtype == np.float32
    exact = gradient(term, x.astype(float))
    np.testing.assert_allclose(energy, value(term, x.astype(float)), rtol=2e-5, atol=1e-3)
    np.testing.assert_allclose(slope, exact, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


@each_term
@pytest.mark.parametrize("precision", [False, True], ids=["32 bits", "64 bits"])
def test_no_implicit_promotion(make, precision):
    with jax.enable_x64(precision), jax.numpy_dtype_promotion("strict"):
        term = make()
        energy, slope = jax.eval_shape(jax.value_and_grad(term), jnp.asarray(POSITIONS, np.float32))
        assert energy.dtype == slope.dtype == np.float32


@pytest.mark.parametrize("make", [torsion, nonbonded_periodic, born_with_necks], ids=lambda m: m.__name__)
def test_batches(x64, make):
    term, x = make(), np.stack([POSITIONS, POSITIONS[::-1]])
    energies, gradients = quick(lambda term, x: jax.vmap(jax.value_and_grad(term))(x))(term, x)
    for k in range(2):
        energy, slope = evaluate(term, x[k])
        np.testing.assert_allclose(energies[k], energy, rtol=1e-12)
        np.testing.assert_allclose(gradients[k], slope, rtol=1e-9, atol=1e-9 * np.abs(slope).max())


@each_term
@pytest.mark.parametrize("x", [np.zeros((N, 3)), np.arange(N)[:, None] * [0.1, 0, 0]], ids=["one spot", "a line"])
def test_finite_where_geometry_is_degenerate(x64, make, x):
    term = make()
    for dtype in (np.float32, np.float64):
        energy, slope = evaluate(term, x.astype(dtype))
        assert np.isfinite(energy)
        assert np.isfinite(slope).all()


@each_term
def test_not_a_number_in_is_not_a_number_out(x64, make):
    x = POSITIONS.copy()
    x[1, 2] = np.nan
    assert np.isnan(value(make(), x))


def test_zero_well_depth_has_finite_derivatives(x64):
    term = eqx.tree_at(lambda t: t.epsilons, nonbonded(), jnp.zeros(N))
    slopes = quick(jax.grad(lambda e, x: eqx.tree_at(lambda t: t.epsilons, term, e)(x)))(term.epsilons, POSITIONS)
    assert np.isfinite(slopes).all()

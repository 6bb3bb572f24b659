"""Potentials of a coordinate: values, gradients, and what lies beyond the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.energy import DoubleWell, HarmonicPotential, SplinePotential

GRID = np.linspace(-1.0, 1.0, 41)


def double_well(x):
    return 8.0 * (x**2 - 0.36) ** 2


def test_the_spline_follows_the_table_and_its_gradient(x64):
    u = SplinePotential(GRID, double_well(GRID))
    x = np.linspace(-0.99, 0.99, 67)
    np.testing.assert_allclose(u.profile(x), double_well(x), atol=2e-4)
    np.testing.assert_allclose(u.profile(GRID), double_well(GRID), atol=1e-12)
    gradient = jax.grad(u)(jnp.asarray(x))
    np.testing.assert_allclose(gradient, 32 * x * (x**2 - 0.36), atol=2e-2)
    h = 1e-6
    change = (u.profile(x + h) - u.profile(x - h)) / (2 * h)
    np.testing.assert_allclose(gradient, change, atol=1e-6)
    assert u(jnp.ones((2, 3)) * 0.3) == pytest.approx(6 * double_well(0.3), rel=1e-3)


@pytest.mark.slow
def test_beyond_the_table_it_goes_on_smoothly_and_confines(x64):
    u = SplinePotential(GRID, double_well(GRID), least_curvature=5.0)
    force = jax.vmap(jax.grad(lambda q: u(q[None])))
    near = jnp.asarray([1 - 1e-7, 1 + 1e-7, -1 + 1e-7, -1 - 1e-7])
    values, slopes = u.profile(near), force(near)
    np.testing.assert_allclose(values[0], values[1], atol=1e-5)
    np.testing.assert_allclose(slopes[::2], slopes[1::2], rtol=1e-5)
    far = jnp.asarray([1.5, 3.0])
    assert (force(far) > 0).all()
    assert (force(-far) < 0).all()
    change = (u.profile(far + 1e-6) - u.profile(far - 1e-6)) / 2e-6
    np.testing.assert_allclose(force(far), change, rtol=1e-6)
    # A table that ends on a concave slope still confines.
    hill = SplinePotential(GRID, np.cos(2 * GRID), least_curvature=50.0)
    assert jax.grad(hill)(jnp.asarray([2.0]))[0] > 0


def test_parameters_are_leaves_and_single_precision_works():
    u = SplinePotential(GRID, double_well(GRID))
    assert u.profile(jnp.asarray([0.1], jnp.float32)).dtype == jnp.float32
    gradient = jax.grad(lambda energy: energy(jnp.asarray([0.1])))(u)
    assert np.abs(np.asarray(gradient.coefficients)).sum() > 0


@pytest.mark.parametrize(
    ("positions", "values", "message"),
    [
        ([0, 1, 2], [0, 1, 2], "four or more"),
        ([0, 1, 2, 4], [0, 1, 2, 3], "equal steps"),
        ([3, 2, 1, 0], [0, 1, 2, 3], "equal steps"),
        ([0, 1, 2, 3], [0, np.inf, 1, 2], "finite"),
    ],
)
def test_wrong_input_is_refused(positions, values, message):
    with pytest.raises(ValueError, match=message):
        SplinePotential(positions, values)


def test_the_harmonic_well_and_the_double_well(x64):
    spring, wells = HarmonicPotential(30.0, 0.1), DoubleWell(5.0, 0.2, -0.1)
    assert float(spring(jnp.array([[0.3, 0.1]]))) == pytest.approx(0.5 * 30 * 0.04)
    assert float(wells(jnp.array([-0.1]))) == pytest.approx(5.0)
    np.testing.assert_allclose([float(wells(jnp.array([x]))) for x in (0.1, -0.3)], 0, atol=1e-12)
    curvature = jax.vmap(jax.grad(jax.grad(lambda q: wells(q[None]))))(jnp.array([0.1, -0.1]))
    np.testing.assert_allclose(curvature, [8 * 5 / 0.04, -4 * 5 / 0.04])
    assert spring(jnp.zeros(2, jnp.float32)).dtype == wells(jnp.zeros(2, jnp.float32)).dtype == jnp.float32
    with pytest.raises(ValueError, match="stiffness -1 is negative"):
        HarmonicPotential(-1.0)
    with pytest.raises(ValueError, match="barrier 0 is not positive"):
        DoubleWell(0.0, 1.0)


def test_wells_are_differentiable_by_what_makes_them(x64):
    x = jnp.array([0.07, -0.2])
    by = jax.jit(jax.grad(lambda k, b, a: HarmonicPotential(k)(x) + DoubleWell(b, a)(x), argnums=(0, 1, 2)))
    reduced = np.asarray(x) ** 2 / 0.04 - 1
    exact = (
        0.5 * np.sum(np.asarray(x) ** 2),
        np.sum(reduced**2),
        np.sum(2 * 5 * reduced * -2 * np.asarray(x) ** 2 / 0.008),
    )
    np.testing.assert_allclose(by(30.0, 5.0, 0.2), exact, rtol=1e-12)

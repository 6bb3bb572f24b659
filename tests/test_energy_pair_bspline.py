"""B-spline pair potentials against SciPy's B-splines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from jaxcg.energy import BSplinePair

COEFFICIENTS = np.array([5.0, 3.0, -1.0, -0.5, 0.2, 0.1, 0.05])
START, CUTOFF = 0.3, 0.9


def reference(degree):
    """SciPy's spline: the same knots, and zero for the coefficients that the potential leaves out."""
    n = len(COEFFICIENTS)
    knots = START + (CUTOFF - START) / n * np.arange(-degree, n + degree + 1)
    return BSpline(knots, np.append(COEFFICIENTS, np.zeros(degree)), degree)


@pytest.mark.parametrize("degree", [2, 3, 4, 5])
def test_values_and_slopes_are_those_of_scipy(x64, degree):
    potential, spline = BSplinePair(START, CUTOFF, COEFFICIENTS, degree), reference(degree)
    r = np.linspace(START, CUTOFF - 1e-9, 57)
    u, slope = potential(jnp.asarray(r))
    np.testing.assert_allclose(u, spline(r), atol=1e-12)
    np.testing.assert_allclose(slope, spline(r, 1), atol=1e-10)
    # Below the start, along the tangent.
    r = np.array([0.0, 0.1, 0.29])
    u, slope = potential(jnp.asarray(r))
    np.testing.assert_allclose(slope, spline(START, 1), atol=1e-10)
    np.testing.assert_allclose(u, spline(START) + (r - START) * spline(START, 1), atol=1e-11)


def test_three_derivatives_end_at_the_cutoff(x64):
    potential = BSplinePair(START, CUTOFF, COEFFICIENTS)
    gap = 1e-3
    u, slope = potential(jnp.asarray(CUTOFF - gap))
    curvature = jax.grad(lambda r: potential(r)[1])(jnp.asarray(CUTOFF - gap))
    # Only the last spline reaches there, as t³/6.
    t = gap / potential.spacing
    np.testing.assert_allclose(u, 0.05 * t**3 / 6, rtol=1e-8)
    np.testing.assert_allclose(slope, -0.05 * t**2 / 2 / potential.spacing, rtol=1e-8)
    np.testing.assert_allclose(curvature, 0.05 * t / potential.spacing**2, rtol=1e-8)
    assert not np.any(potential(jnp.asarray([CUTOFF, 1.0])))


def test_basis_is_linear_local_and_the_gradient(x64):
    potential = BSplinePair(START, CUTOFF, COEFFICIENTS)
    r = jnp.asarray(np.linspace(0.2, 1.0, 90).reshape(9, 10))
    rows, slopes = potential.basis(r), potential.basis_slopes(r)
    assert rows.shape == slopes.shape == (9, 10, 7)
    u, slope = potential(r)
    np.testing.assert_allclose(rows @ COEFFICIENTS, u, atol=1e-12)
    np.testing.assert_allclose(slopes @ COEFFICIENTS, slope, atol=1e-10)
    by_coefficients = jax.jacobian(lambda c: BSplinePair(START, CUTOFF, c)(r)[0])(potential.coefficients)
    np.testing.assert_allclose(rows, by_coefficients, atol=1e-12)
    step = potential.spacing
    k = np.arange(7)
    inside = np.asarray(r)[..., None] > START
    support = (np.asarray(r)[..., None] > START + (k - 3) * step) & (np.asarray(r)[..., None] < START + (k + 1) * step)
    assert np.all(np.where(inside, (np.asarray(rows) > 0) == support, True))
    # They sum to one where none is left out.
    whole = (np.asarray(r) >= START) & (np.asarray(r) <= CUTOFF - 3 * step)
    np.testing.assert_allclose(np.asarray(rows).sum(-1)[whole], 1.0, atol=1e-12)
    single = potential(r.astype(jnp.float32))
    assert single[0].dtype == single[1].dtype == potential.basis(r.astype(jnp.float32)).dtype == jnp.float32
    np.testing.assert_allclose(single[0], u, atol=2e-5)


def test_least_squares(x64):
    r = np.linspace(0.25, 1.0, 80)
    inside = (r >= START) & (r <= CUTOFF)
    for degree in (3, 4):
        table = np.where(inside, reference(degree)(np.clip(r, START, CUTOFF)), 99.0)
        again = BSplinePair.through(r, table, START, CUTOFF, 7, degree)
        np.testing.assert_allclose(again.coefficients, COEFFICIENTS, atol=1e-9)
    # A smooth function that ends smoothly, from 20 splines.
    table = np.where(r < CUTOFF, (CUTOFF - r) ** 3 * np.cos(9 * r), 0.0)
    table[40] = np.nan
    fit = BSplinePair.through(r, table, START, CUTOFF, 20)
    left = np.isfinite(table) & inside
    np.testing.assert_allclose(fit(jnp.asarray(r[left]))[0], table[left], atol=1e-5)


def test_refusals():
    for wrong, words in (
        (lambda: BSplinePair(0.9, 0.3, COEFFICIENTS), "beyond the start"),
        (lambda: BSplinePair(0.3, 0.9, COEFFICIENTS, 1), "the degree is"),
        (lambda: BSplinePair(0.3, 0.9, 1.0), "in one row"),
        (lambda: BSplinePair.through([0.4, 0.5], [1.0, 1.0], 0.3, 0.9, 5), "fewer than 5 coefficients"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()

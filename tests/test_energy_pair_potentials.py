"""Pair potentials: values, derivatives, ends and integrals."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import CubicSpline

from jaxcg.energy import WCA, LennardJones, SplinePair, StillingerWeberPair, TabulatedPair

DISTANCES = np.linspace(0.25, 1.1, 60)


def _lennard_jones(r, sigma=0.3, epsilon=2.0):
    return 4 * epsilon * ((sigma / r) ** 12 - (sigma / r) ** 6)


def potentials():
    r = np.linspace(0.2, 1.0, 41)
    u = 3.0 * np.exp(-6 * r) * np.cos(8 * r) * (1 - r) ** 2
    return {
        "truncated": LennardJones(0.3, 2.0, 0.9),
        "switched": LennardJones(0.3, 2.0, 0.9, switch=0.7),
        "energy": LennardJones(0.3, 2.0, 0.9, shift="energy"),
        "force": LennardJones(0.3, 2.0, 0.9, shift="force"),
        "wca": WCA(0.4, 2.0),
        "stillinger-weber": StillingerWeberPair(25.0, 0.24, 7.05, 0.602, (4, 1), 1.8),
        "linear": TabulatedPair(r, u, interpolation="linear"),
        "cubic": TabulatedPair(r, u),
        "spline": SplinePair(0.3, 1.0, np.array([5.0, 1.0, -1.0, -0.5, 0.1])),
    }


@pytest.mark.parametrize("name", potentials())
def test_slope_is_the_derivative_and_the_end_is_the_cutoff(x64, name):
    potential = potentials()[name]
    r = jnp.asarray(DISTANCES)
    u, slope = potential(r)
    np.testing.assert_allclose(slope, jax.vmap(jax.grad(lambda s: potential(s)[0]))(r), rtol=1e-9, atol=1e-12)
    middle = np.abs(DISTANCES - potential.cutoff) > 1e-5
    numeric = (potential(r + 1e-6)[0] - potential(r - 1e-6)[0]) / 2e-6
    np.testing.assert_allclose(slope[middle], numeric[middle], rtol=1e-5, atol=1e-6)
    beyond = jnp.asarray([potential.cutoff * (1 + 1e-9), 2 * potential.cutoff])
    assert not np.any(potential(beyond))
    assert np.all(np.isfinite(potential(jnp.asarray([2e-3]))))
    single = potential(r.astype(jnp.float32))
    assert single[0].dtype == single[1].dtype == jnp.float32
    np.testing.assert_allclose(single[0], u, rtol=2e-4, atol=2e-4 * np.abs(u).max())


def test_lennard_jones_ends_as_it_says(x64):
    r, end = jnp.asarray(DISTANCES[DISTANCES < 0.9]), jnp.asarray(0.9 * (1 - 1e-9))
    kinds = potentials()
    np.testing.assert_allclose(kinds["truncated"](r)[0], _lennard_jones(r), rtol=1e-12)
    np.testing.assert_allclose(kinds["energy"](r)[0], _lennard_jones(r) - _lennard_jones(0.9), rtol=1e-10)
    for name in ("switched", "energy", "force"):
        assert abs(kinds[name](end)[0]) < 1e-7
    for name in ("switched", "force"):
        assert abs(kinds[name](end)[1]) < 1e-6
    assert abs(kinds["energy"](end)[1]) > 1e-3
    np.testing.assert_allclose(kinds["wca"](jnp.asarray(0.4))[0], 2.0)


def test_tails_are_what_is_missing(x64):
    for name in ("truncated", "switched"):
        potential = potentials()[name]
        pieces = ((0.7, 0.9), (0.9, 8.0), (8.0, 100.0))

        def missing(r, potential=potential):
            return _lennard_jones(r) - float(potential(jnp.asarray(r))[0])

        def missing_slope(r, potential=potential):
            whole = float(jax.grad(lambda s: _lennard_jones(s))(r))
            return whole - float(potential(jnp.asarray(r))[1])

        energy = sum(quad(lambda r: r**2 * missing(r), *piece)[0] for piece in pieces)
        virial = sum(quad(lambda r: r**3 * missing_slope(r), *piece)[0] for piece in pieces)
        np.testing.assert_allclose(potential.tail(), [energy, virial], rtol=1e-5)
    with pytest.raises(ValueError, match="no tail correction"):
        potentials()["force"].tail()


def test_tables_go_through_their_points(x64):
    r = np.linspace(0.2, 1.0, 41)
    u = np.sin(7 * r) * (1 - r)
    for interpolation in ("linear", "cubic"):
        table = TabulatedPair(r, u, interpolation=interpolation)
        np.testing.assert_allclose(table(jnp.asarray(r[:-1] + 1e-12))[0], u[:-1], atol=1e-9)
    between = np.linspace(0.21, 0.99, 97)
    table = TabulatedPair(r, u)
    np.testing.assert_allclose(table(jnp.asarray(between))[0], CubicSpline(r, u)(between), atol=1e-12)
    np.testing.assert_allclose(table(jnp.asarray(between))[1], CubicSpline(r, u)(between, 1), atol=1e-10)
    # A parabola with its slopes is a cubic: exact.
    exact = TabulatedPair(r, (1 - r) ** 2, slopes=-2 * (1 - r))
    np.testing.assert_allclose(exact(jnp.asarray(between))[0], (1 - between) ** 2, atol=1e-12)


def test_spline_through_knots(x64):
    values = np.array([5.0, 1.0, -1.0, -0.5, 0.1])
    spline = SplinePair(0.3, 1.0, values)
    knots = np.append(spline.knots, 1.0)
    bounds: Any = ((2, 0.0), (1, 0.0))
    reference = CubicSpline(knots, np.append(values, 0.0), bc_type=bounds)
    r = np.linspace(0.301, 0.999, 80)
    np.testing.assert_allclose(spline(jnp.asarray(r))[0], reference(r), atol=1e-12)
    np.testing.assert_allclose(spline(jnp.asarray(r))[1], reference(r, 1), atol=1e-10)
    # Linear in its values, so its gradient by them rebuilds it.
    gradient = jax.vmap(lambda s: eqx.filter_grad(lambda p: p(s)[0])(spline).values)(jnp.asarray(r))
    np.testing.assert_allclose(gradient @ values, reference(r), atol=1e-11)
    refit = SplinePair.through(r, reference(r), 0.3, 1.0, 5)
    np.testing.assert_allclose(refit.values, values, atol=1e-9)


def test_refusals():
    r, u = np.linspace(0.1, 1, 10), np.zeros(10)
    for wrong, words in (
        (lambda: LennardJones(0.3, 1.0, 0.0), "must be positive"),
        (lambda: LennardJones(0.3, 1.0, 0.9, switch=1.0), "between 0 and the cutoff"),
        (lambda: LennardJones(0.3, 1.0, 0.9, switch=0.8, shift="force"), "not both"),
        (lambda: WCA(0.3, 1.0, reach=0.3), "shorter than the potential"),
        (lambda: TabulatedPair(r**2, u), "equal steps"),
        (lambda: TabulatedPair(r, u + np.nan), "finite"),
        (lambda: TabulatedPair(r, u, interpolation="linear", slopes=u), "no slopes"),
        (lambda: SplinePair(1.0, 0.5, u), "beyond the first knot"),
        (lambda: SplinePair.through(r, u, 0.5, 0.6, 5), "fewer than 5 knots"),
    ):
        with pytest.raises(ValueError, match=words):
            wrong()


def test_second_virial_coefficient(x64):
    # B2 = −2π ∫ (exp(−u/kT) − 1) r² dr of the whole potential; and its Boyle temperature.
    potential = LennardJones(1.0, 1.0, 60.0)
    nodes, weights = np.polynomial.legendre.leggauss(300)
    edges = ((1e-3, 0.9), (0.9, 2.0), (2.0, 10.0), (10.0, 60.0))
    r = np.concatenate([0.5 * (b - a) * nodes + 0.5 * (a + b) for a, b in edges])
    w = np.concatenate([0.5 * (b - a) * weights for a, b in edges])
    u = np.asarray(potential(jnp.asarray(r))[0])
    for temperature, expected in ((0.85, -7.043701), (1.0, -5.315745), (2.0, -1.314495), (3.417928, 0.0)):
        beyond = -2 * np.pi * 4.0 / temperature / (3 * 60.0**3)  # u = −4 r⁻⁶ from 60 on
        b2 = -2 * np.pi * np.sum(w * np.expm1(-u / temperature) * r**2) + beyond
        assert abs(b2 - expected) < 2e-6

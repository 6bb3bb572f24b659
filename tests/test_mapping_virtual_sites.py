"""Virtual sites against GROMACS and OpenMM, their gradients, and what happens where they are undefined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.mapping import LinearMap
from jaxcg.mapping.virtual_sites import Site, VirtualSites, with_virtual_sites

#: Four beads (masses 10, 12, 14, 16) and the sites that GROMACS 2022.5 (mdrun) built on them, nm.
BEADS = np.array([[1.1, 1.2, 1.3], [1.45, 1.33, 1.21], [1.62, 1.71, 1.44], [1.25, 1.58, 1.86]])
GROMACS = [
    (Site(4, "2", (0, 1), (0.3,)), (1.20500, 1.23900, 1.27300)),
    (Site(5, "2fd", (0, 1), (0.17,)), (1.25492, 1.25754, 1.26016)),
    (Site(6, "3", (0, 1, 2), (0.2, 0.35)), (1.35200, 1.40450, 1.33100)),
    (Site(7, "3fd", (0, 1, 2), (0.4, 0.21)), (1.27409, 1.31745, 1.30083)),
    (Site(8, "3fad", (0, 1, 2), (115.0, 0.19)), (1.01058, 1.29779, 1.43616)),
    (Site(9, "3out", (0, 1, 2), (0.25, 0.33, 2.5)), (1.51935, 1.16130, 1.60095)),
    (Site(10, "4fdn", (0, 1, 2, 3), (0.6, 0.8, -0.23)), (0.903414, 1.25975, 1.19663)),
    (Site(11, "n", (0, 1, 3)), (1.26667, 1.37000, 1.45667)),
    (Site(12, "n", (0, 1, 3), (10.0, 12.0, 16.0)), (1.27368, 1.40105, 1.50737)),
    (Site(13, "n", (0, 1, 3), (0.5, 1.5, 2.0)), (1.30625, 1.43875, 1.54625)),
]
SITES = [site for site, _ in GROMACS]
FOUR = LinearMap.slice(range(4), 4)


@pytest.fixture(scope="module")
def mapping():
    return with_virtual_sites(FOUR, SITES)


def test_positions_are_those_of_gromacs(x64, mapping):
    y = np.asarray(mapping(BEADS))
    np.testing.assert_allclose(y[:4], BEADS, atol=1e-15)
    np.testing.assert_allclose(y[4:], [position for _, position in GROMACS], atol=6e-6)
    assert not np.any(mapping.degenerate(BEADS))
    assert [SITES[bead - 4].kind for bead in mapping.sites] == ["2fd", "3fd", "3fad", "3out", "4fdn"]


def test_positions_are_those_of_openmm(x64):
    openmm = pytest.importorskip("openmm")
    a, b, c, d = 0.4, 0.35, 2.5, 0.21
    pairs = [
        (Site(4, "2", (0, 1), (a,)), openmm.TwoParticleAverageSite(0, 1, 1 - a, a)),
        (Site(5, "3", (2, 0, 1), (a, b)), openmm.ThreeParticleAverageSite(2, 0, 1, 1 - a - b, a, b)),
        (Site(6, "3out", (3, 0, 1), (a, b, c)), openmm.OutOfPlaneSite(3, 0, 1, a, b, c)),
        (
            Site(7, "3fd", (0, 1, 3), (a, d)),
            openmm.LocalCoordinatesSite([0, 1, 3], [1, 0, 0], [-1, 1 - a, a], [-1, 0, 1], [d, 0, 0]),
        ),
        (
            Site(8, "2fd", (1, 2), (d,)),
            openmm.LocalCoordinatesSite([1, 2, 0], [1, 0, 0], [-1, 1, 0], [-1, 0, 1], [d, 0, 0]),
        ),
    ]
    system = openmm.System()
    for _ in range(4):
        system.addParticle(10.0)
    for _, site in pairs:
        system.setVirtualSite(system.addParticle(0.0), site)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    mapping = with_virtual_sites(FOUR, [site for site, _ in pairs])
    for x in np.random.default_rng(0).normal(size=(3, 4, 3)):
        context.setPositions(np.concatenate([x, np.zeros((5, 3))]))
        context.computeVirtualSites()
        expected = context.getState(getPositions=True).getPositions(asNumpy=True)._value
        np.testing.assert_allclose(mapping(x), expected, atol=1e-12)


def test_gradients_and_equivariance(x64, mapping):
    weights = np.random.default_rng(1).normal(size=(14, 3))
    apply = jax.jit(lambda x: mapping(x))
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(weights * mapping(x))))(jnp.asarray(BEADS))
    for atom, axis in np.ndindex(4, 3):
        step = np.zeros((4, 3))
        step[atom, axis] = 1e-5
        difference = np.sum(weights * np.asarray(apply(BEADS + step) - apply(BEADS - step))) / 2e-5
        assert gradient[atom, axis] == pytest.approx(difference, rel=1e-7, abs=1e-8)
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    rotation *= np.linalg.det(rotation)
    np.testing.assert_allclose(apply(BEADS @ rotation + 3), np.asarray(apply(BEADS)) @ rotation + 3, atol=1e-12)


LINE = np.outer(np.arange(4), [0.1, 0.2, 0.3])
UNDEFINED = {
    "collinear": (LINE, ["3fad", "4fdn"]),
    "coincident": (np.ones((4, 3)), ["2fd", "3fd", "3fad", "4fdn"]),
    "nearly collinear": (LINE + 1e-9 * BEADS, ["3fad", "4fdn"]),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_undefined_sites_are_reported_and_finite(x64, mapping, dtype):
    @jax.jit
    def everything(beads):
        def value(x):
            y, defined = mapping(x), mapping.definedness(x)
            return jnp.sum(jnp.sin(y)) + jnp.sum(defined), (y, mapping.degenerate(x))

        return jax.grad(value, has_aux=True)(beads)

    for beads, undefined in UNDEFINED.values():
        gradient, (y, flags) = everything(jnp.asarray(beads, dtype))
        assert y.dtype == gradient.dtype == dtype
        assert np.all(np.isfinite(y))
        assert np.all(np.isfinite(gradient))
        assert [SITES[bead - 4].kind for bead, flag in zip(mapping.sites, flags, strict=True) if flag] == undefined


def test_linear_sites_make_a_linear_map(x64):
    """Sites on sites, among the beads and in any order: one matrix, the product of both."""
    groups = [[0, 1], [2, 3], [3, 4]]
    base = LinearMap.center_of_geometry(groups, 6)
    # Beads 0, 2, 4 are the base's.
    sites = [Site(1, "3", (3, 0, 4), (0.25, 0.5)), Site(3, "2", (0, 2), (0.4,)), Site(5, "n", (1, 3))]
    mapping = with_virtual_sites(base, sites)
    assert isinstance(mapping, LinearMap)
    x = np.random.default_rng(3).normal(size=(6, 3))
    y = np.asarray(mapping(x))
    np.testing.assert_allclose(y[[0, 2, 4]], base(x), atol=1e-15)
    np.testing.assert_allclose(y[3], 0.6 * y[0] + 0.4 * y[2], atol=1e-15)
    np.testing.assert_allclose(y[1], 0.25 * y[3] + 0.25 * y[0] + 0.5 * y[4], atol=1e-15)
    np.testing.assert_allclose(y[5], (y[1] + y[3]) / 2, atol=1e-15)
    # Sites add nothing that the beads did not say.
    assert mapping.rank == base.rank == 9


def test_sites_on_nonlinear_sites(x64):
    sites = [Site(3, "n", (2, 0), (1.0, 3.0)), Site(2, "2fd", (0, 1), (0.5,)), Site(4, "3", (2, 3, 1), (0.2, 0.3))]
    mapping = with_virtual_sites(LinearMap.slice([0, 1], 2), sites)
    assert isinstance(mapping, VirtualSites)
    assert (mapping.n_beads, mapping.n_atoms, mapping.sites) == (5, 2, (2,))
    x = np.array([[0.0, 0, 0], [2.0, 0, 0]])
    np.testing.assert_allclose(np.asarray(mapping(x))[:, 0], [0, 2, 0.5, 0.125, 0.25 + 0.025 + 0.6], atol=1e-15)
    moved = jax.vmap(mapping)(np.stack([x, x + 1]))
    np.testing.assert_allclose(moved[1], moved[0] + 1, atol=1e-14)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ([Site(4, "3fdx", (0, 1), (1.0,))], r"bead 4: kind '3fdx' is not known; use one of 2, 3, n, 2fd"),
        ([Site(4, "2", (0, 1, 2), (1.0,))], "bead 4: 3 constructing beads; kind 2 takes 2"),
        ([Site(4, "3fd", (0, 1, 2), (1.0,))], "bead 4: 1 parameters; kind 3fd takes 2"),
        ([Site(4, "n", (), ())], "bead 4: 0 constructing beads; kind n takes one or more"),
        ([Site(4, "n", (0, 1), (1.0, -1.0))], "bead 4: the sum of its weights must be positive"),
        ([Site(4, "2", (0, 1), (np.nan,))], "bead 4: parameters must be finite"),
        ([Site(4, "2", (0, 9), (0.5,))], r"bead 4: bead 9 is outside 0\.\.4"),
        ([Site(4, "2", (0, 1), (0.5,)), Site(4, "2", (0, 2), (0.5,))], "bead 4 is defined twice"),
        ([Site(4, "2fd", (0, 5), (0.5,)), Site(5, "2", (0, 4), (0.5,))], "bead 4 is defined by itself"),
        ([Site(4, "2", (0, 5), (0.5,)), Site(5, "2", (0, 4), (0.5,))], "bead 4 is defined by itself"),
    ],
)
def test_bad_sites_say_what_is_wrong(sites, message):
    with pytest.raises(ValueError, match=message):
        with_virtual_sites(FOUR, sites)

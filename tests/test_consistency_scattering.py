"""Scattering: Debye's sum in plain NumPy, spheres with a closed form, the average over directions, derivatives."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency.experiment import (
    HEAVY_WATER_LENGTH_DENSITY,
    ScatteringProfile,
    SquaredRadiusOfGyration,
    bead_amplitudes,
    form_factor,
    guinier_fit,
    neutron_profile,
    scattering_length,
    xray_profile,
)
from jaxcg.consistency.experiment.directions import bandlimit, half_sphere

ELEMENTS = np.array(["C", "N", "O", "H", "S"])


def quick(function):
    """Compiled without costly optimisations: tests spend their time compiling."""
    return jax.jit(lambda *x: function(*x), compiler_options={"xla_backend_optimization_level": 0})


def _cloud(count, radius, seed=0):
    """Points in a ball and their elements."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    x *= radius * rng.random((count, 1)) ** (1 / 3) / np.linalg.norm(x, axis=1, keepdims=True)
    return x, ELEMENTS[rng.integers(len(ELEMENTS), size=count)]


def _debye(x, amplitudes, q):
    """The sum over all pairs with nothing clever."""
    distance = np.linalg.norm(x[:, None] - x[None], axis=-1)
    return np.array([f @ np.sinc(k * distance / np.pi) @ f for k, f in zip(q, amplitudes.T, strict=True)])


def _in_solution(elements, q, density=334.0):
    volumes = {"H": 5.15e-3, "C": 16.44e-3, "N": 2.49e-3, "O": 9.13e-3, "S": 19.86e-3}
    hole = [density * volumes[e] * np.exp(-(q**2) * volumes[e] ** (2 / 3) / (4 * np.pi)) for e in elements]
    return np.array([form_factor(e, q) for e in elements]) - np.array(hole)


@pytest.mark.parametrize(
    "q", [np.linspace(0, 20, 21), np.array([0.0, 0.3, 1.0, 7.5])], ids=["equal steps", "any steps"]
)
def test_pairs_and_directions_are_debyes_sum(x64, q):
    x, elements = _cloud(300, 1.5)
    exact = _debye(x, _in_solution(elements, q), q)
    pairs = quick(xray_profile(elements, q))(x)
    np.testing.assert_allclose(pairs, exact, rtol=1e-10)
    # The origin does not matter, only the size.
    directions = quick(xray_profile(elements, q, radius=1.6))(x + 100.0)
    np.testing.assert_allclose(directions, exact, rtol=2e-7)


@pytest.mark.slow
def test_single_precision():
    x, elements = _cloud(300, 1.5)
    q = np.linspace(0, 20, 21)
    exact = _debye(x, _in_solution(elements, q), q)
    for radius in (None, 1.6):
        found = quick(xray_profile(elements, q, radius=radius))(x.astype(np.float32))
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=2e-4)


def test_a_larger_molecule_is_not_answered():
    x, elements = _cloud(50, 1.5)
    assert np.all(np.isnan(quick(xray_profile(elements, np.array([1.0, 2.0]), radius=0.7))(x.astype(np.float32))))


def test_directions_average_products_of_waves_exactly():
    reach = 20.0
    vectors, weights = half_sphere(reach)
    assert len(vectors) < bandlimit(reach) ** 2
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-14)
    # ⟨cos(q·r)⟩ = sin(qr)/(qr) for two atoms at opposite ends, in any direction.
    for axis in np.random.default_rng(1).normal(size=(5, 3)):
        phase = 2 * reach * vectors @ (axis / np.linalg.norm(axis))
        np.testing.assert_allclose(weights @ np.cos(phase), np.sin(2 * reach) / (2 * reach), atol=1e-8)


@pytest.mark.slow
def test_a_sphere_scatters_as_rayleigh_found(x64):
    radius, step = 2.0, 0.2
    axis = np.arange(-radius + step / 2, radius, step)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    grid = grid[np.linalg.norm(grid, axis=1) < radius]
    q = np.linspace(0.1, 3.0, 30)
    found = ScatteringProfile(q, np.ones((1, 30)), np.zeros(len(grid)), radius=2.0)
    found = quick(found)(grid)
    z = q * radius
    expected = (3 * (np.sin(z) - z * np.cos(z)) / z**3) ** 2 * len(grid) ** 2
    np.testing.assert_allclose(found, expected, atol=4e-3 * len(grid) ** 2)
    gyration, start = guinier_fit(q, np.asarray(found), largest=0.8)
    assert gyration == pytest.approx(np.sqrt(0.6) * radius, rel=0.02)
    assert start == pytest.approx(len(grid) ** 2, rel=0.01)
    assert gyration == pytest.approx(float(jnp.sqrt(SquaredRadiusOfGyration()(grid))), rel=0.01)


def test_amplitudes_of_atoms():
    for element, electrons in (("H", 1), ("C", 6), ("O", 8), ("S", 16), ("Na1+", 10), ("Zn2+", 28)):
        assert form_factor(element, np.array(0.0)) == pytest.approx(electrons, abs=0.01)
    # Far out carbon is half what it is at the start: International Tables, sin θ/λ = 0.25 Å⁻¹ is q = 31.4 nm⁻¹.
    assert form_factor("C", np.array(10 * np.pi)) == pytest.approx(2.95, abs=0.02)
    assert scattering_length("H") == pytest.approx(-3.74, abs=0.01)
    assert scattering_length("D") == pytest.approx(6.67, abs=0.01)
    with pytest.raises(ValueError, match="'Xx' is not in the table"):
        form_factor("Xx", np.array(0.0))


def test_neutrons_and_exchanged_hydrogens():
    x, _ = _cloud(20, 0.5)
    x = x.astype(np.float32)
    q = np.array([0.0])
    light = quick(neutron_profile(["H"] * 20, q, solvent_density=0.0))(x)
    heavy = neutron_profile(["D"] * 20, q, solvent_density=HEAVY_WATER_LENGTH_DENSITY, volumes=np.full(20, 0.005))
    heavy = quick(heavy)(x)
    np.testing.assert_allclose(light, (20 * scattering_length("H")) ** 2, rtol=1e-5)
    np.testing.assert_allclose(heavy, (20 * (scattering_length("D") - 0.005 * 636)) ** 2, rtol=1e-5)


@pytest.mark.slow
def test_hydrogens_that_are_counted_scatter_nearly_like_those_that_are_there(x64):
    # Methane in vacuo: the hydrogens as atoms, or counted at the carbon.
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.1 / np.sqrt(3)
    q = np.linspace(0, 5, 6)
    full = xray_profile(["C", "H", "H", "H", "H"], q, solvent_density=0.0)
    counted = xray_profile(["C"], q, solvent_density=0.0, hydrogens=[4])
    full, counted = quick(full)(np.concatenate([np.zeros((1, 3)), corners])), quick(counted)(np.zeros((1, 3)))
    np.testing.assert_allclose(full[0], counted[0], rtol=1e-10)
    np.testing.assert_allclose(full, counted, rtol=0.002)


@pytest.mark.parametrize("radius", [None, 0.8], ids=["pairs", "directions"])
def test_derivatives(x64, radius):
    x, elements = _cloud(12, 0.6)
    q = np.linspace(0, 6, 4)
    direction = np.random.default_rng(3).normal(size=x.shape)

    def total(x, density):
        return jnp.sum(jnp.log(xray_profile(elements, q, radius=radius, solvent_density=density)(x)))

    @quick
    def all_at(x, density):
        value, slopes = jax.value_and_grad(total, argnums=(0, 1))(x, density)
        return value, *slopes, jax.jvp(lambda x: total(x, density), (x,), (direction,))[1]

    _, gradient, slope, forward = all_at(x, 334.0)
    moved = [all_at(x + h * direction, 334.0)[0] for h in (-1e-6, 1e-6)]
    denser = [all_at(x, density)[0] for density in (333.99, 334.01)]
    np.testing.assert_allclose(np.sum(gradient * direction), (moved[1] - moved[0]) / 2e-6, rtol=1e-6)
    np.testing.assert_allclose(forward, np.sum(gradient * direction), rtol=1e-9)
    np.testing.assert_allclose(slope, (denser[1] - denser[0]) / 0.02, rtol=1e-5)


def test_atoms_on_one_point_have_finite_derivatives():
    q = np.linspace(0, 6, 4)
    gradient = quick(jax.grad(lambda x: jnp.sum(xray_profile(["C", "O"], q)(x))))(jnp.zeros((2, 3)))
    assert np.all(np.asarray(gradient) == 0)


@pytest.mark.slow
def test_beads_scatter_like_their_atoms_at_small_q(x64):
    rng = np.random.default_rng(5)
    centers = rng.normal(size=(40, 3)) * 1.5
    bead = np.repeat(np.arange(40), 4)
    x = centers[bead] + 0.12 * rng.normal(size=(160, 3))
    elements = ELEMENTS[rng.integers(3, size=160)]
    q = np.linspace(0, 6, 7)
    profile = xray_profile(elements, q)
    amplitudes = bead_amplitudes(profile, x[None], bead)
    middle = np.stack([x[bead == b].mean(axis=0) for b in range(40)])
    beads = quick(ScatteringProfile(q, amplitudes, np.arange(40)))(middle)
    atoms = quick(profile)(x)
    np.testing.assert_allclose(beads[0], atoms[0], rtol=1e-10)
    np.testing.assert_allclose(beads[:4], atoms[:4], rtol=0.05)
    points = quick(ScatteringProfile(q, np.repeat(np.asarray(amplitudes)[:, :1], 7, axis=1), np.arange(40)))(middle)
    assert np.abs(points - atoms)[-1] > 3 * np.abs(beads - atoms)[-1]


#: I(q) of the atoms of ubiquitin (PDB 1UBQ, no waters, no hydrogens) by AUSAXS: pyausaxs 1.3.0, model "fraser", volumes
#: "traube", distances in bins of 0.002 nm, 334 e/nm³ of water; q = 0.5, 1, ... 10 nm⁻¹.
AUSAXS = [1816684.4, 1255424.3, 662391.7, 251971.3, 61198.7, 15460.3, 25602.8, 37435.6, 36629.6, 29680.8,
          23121.2, 17725.7, 13116.0, 9978.1, 8595.3, 8359.1, 8598.7, 8946.7, 9131.4, 8949.5]  # fmt: skip


@pytest.mark.parametrize("radius", [None, 3.0], ids=["pairs", "directions"])
def test_a_protein_scatters_as_a_published_program_says(radius):
    file = Path(__file__).parent / "data" / "frames" / "ubiquitin" / "aa.pdb"
    lines = [line for line in file.read_text().splitlines() if line.startswith("ATOM")]
    x = np.array([[float(line[k : k + 8]) for k in (30, 38, 46)] for line in lines], np.float32) / 10
    profile = xray_profile([line[76:78].strip() for line in lines], np.linspace(0.5, 10, 20), radius=radius)
    assert len(x) == 602
    np.testing.assert_allclose(quick(profile)(x), AUSAXS, rtol=5e-4)


def test_wrong_input_is_refused():
    q = np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="rising"):
        ScatteringProfile(q[::-1], np.ones((1, 2)), [0])
    with pytest.raises(Exception, match="points=2"):
        ScatteringProfile(q, np.ones((1, 3)), [0])
    with pytest.raises(ValueError, match="kinds must lie"):
        ScatteringProfile(q, np.ones((1, 2)), [1])
    with pytest.raises(ValueError, match="radius"):
        ScatteringProfile(q, np.ones((1, 2)), [0], radius=-1.0)
    with pytest.raises(ValueError, match="no volume is tabulated for 'Zn'"):
        xray_profile(["Zn"], q)
    with pytest.raises(ValueError, match="one for each of 1 atoms"):
        xray_profile(["Zn"], q, volumes=[0.01, 0.02])
    with pytest.raises(ValueError, match="2 atoms, the profile 1"):
        xray_profile(["C"], q)(np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="smaller q"):
        guinier_fit(np.linspace(1, 2, 10), np.exp(-(np.linspace(1, 2, 10) ** 2) * 30))

"""NOEs, scalar couplings, FRET, DEER and paramagnetic relaxation: closed forms, conventions, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import constants
from scipy.special import fresnel

from jaxcg.consistency.experiment import (
    KARPLUS,
    DistanceDistribution,
    FretEfficiency,
    LabelDistances,
    NuclearOverhauserRates,
    ParamagneticRelaxation,
    ScalarCouplings,
    SquaredRadiusOfGyration,
    dipolar_kernel,
    dipolar_signal,
    ensemble_average,
    function_of_averages,
    intensity_ratio,
    noe_average,
    noe_distance,
    observe,
)
from jaxcg.consistency.experiment.distances import DIPOLAR_CONSTANT, RELAXATION_CONSTANT


def _slope_is_right(observable, x, rtol=1e-6):
    """Forward and reverse mode against differences; compiled once, without costly optimisations."""
    direction = np.random.default_rng(9).normal(size=x.shape)

    def all_at(x):
        value, forward = jax.jvp(observable, (x,), (direction,))
        weights = jnp.arange(1.0, 1 + value.size).reshape(value.shape)
        backward = jax.grad(lambda x: jnp.sum(weights * observable(x)))(x)
        return value, forward, jnp.sum(backward * direction), jnp.sum(weights * forward)

    at = jax.jit(all_at, compiler_options={"xla_backend_optimization_level": 0})
    _, forward, backward, expected = at(x)
    sides = [at(x + h * direction)[0] for h in (-1e-6, 1e-6)]
    np.testing.assert_allclose(forward, (sides[1] - sides[0]) / 2e-6, rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(backward, expected, rtol=1e-9)


def test_noe_distances_of_groups(x64):
    x = np.array([[0, 0, 0], [0.3, 0, 0], [0, 0.4, 0], [0, 0, 0.5]])
    groups = [([0], [1]), ([0], [1, 2, 3])]
    summed, mean = (NuclearOverhauserRates(groups, how) for how in ("sum", "mean"))
    powers = np.array([0.3, 0.4, 0.5]) ** -6
    np.testing.assert_allclose(summed(x), [powers[0], powers.sum()], rtol=1e-12)
    np.testing.assert_allclose(mean(x), [powers[0], powers.mean()], rtol=1e-12)
    np.testing.assert_allclose(noe_distance(summed(x))[0], 0.3, rtol=1e-12)
    np.testing.assert_allclose(NuclearOverhauserRates(groups, power=3)(x)[0], 0.3**-3, rtol=1e-12)
    _slope_is_right(summed, x)
    average, error = noe_average(0.3, 0.003)
    assert noe_distance(average) == pytest.approx(0.3)
    assert noe_distance(average - error) - 0.3 == pytest.approx(0.003, rel=0.05)
    with pytest.raises(ValueError, match="restraint 1 has an empty group"):
        NuclearOverhauserRates([([0], [1]), ([0], [])])


def test_a_rare_contact_makes_the_noe():
    near, far = np.array([[0, 0, 0], [0.2, 0, 0]]), np.array([[0, 0, 0], [1.0, 0, 0]])
    frames = np.stack([near, *[far] * 9] * 40).astype(np.float32)
    series = observe(NuclearOverhauserRates([([0], [1])]), frames)
    found = function_of_averages(noe_distance, series)
    assert found.value[0] == pytest.approx(0.2 * 0.1 ** (-1 / 6), rel=1e-4)
    assert found.error[0] >= 0


def test_errors_of_functions_of_averages():
    # Independent normal series: the error of ⟨a⟩/⟨b⟩ is known.
    rng = np.random.default_rng(2)
    series = np.stack([2 + 0.3 * rng.normal(size=4096), 4 + 0.5 * rng.normal(size=4096)], axis=1)
    found = function_of_averages(lambda mean: mean[0] / mean[1], series)
    expected = 0.5 * np.sqrt((0.3 / 2) ** 2 + (0.5 / 4) ** 2) / 64
    assert found.value == pytest.approx(0.5, abs=4 * expected)
    assert found.error == pytest.approx(expected, rel=0.3)
    assert function_of_averages(lambda mean: mean[0] / mean[1], [series[:2000], series[2000:]]).value == found.value


def test_couplings_follow_the_karplus_curve(x64):
    # A dihedral of 100° about the z axis, IUPAC sign.
    angle = np.deg2rad(100.0)
    x = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 1], [np.cos(angle), np.sin(angle), 1.2]])
    relation = KARPLUS["HN-HA (Hu & Bax 1997)"]
    turned = np.deg2rad(100.0 - 60.0)
    expected = relation.a * np.cos(turned) ** 2 + relation.b * np.cos(turned) + relation.c
    np.testing.assert_allclose(ScalarCouplings([[0, 1, 2, 3]], relation)(x), expected, rtol=1e-12)
    _slope_is_right(ScalarCouplings([[0, 1, 2, 3]]), x)


@pytest.mark.slow
def test_karplus_is_that_of_mdtraj(x64):
    mdtraj = pytest.importorskip("mdtraj")
    rng = np.random.default_rng(4)
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(3):
        residue = topology.add_residue("ALA", chain)
        for name in ("N", "CA", "C", "CB"):
            topology.add_atom(name, mdtraj.element.Element.getBySymbol(name[0]), residue)
    frames = rng.normal(size=(5, 12, 3)).astype(np.float32)
    trajectory = mdtraj.Trajectory(frames, topology)
    for name, function, model in (
        ("HN-HA (Vögeli et al. 2007)", mdtraj.compute_J3_HN_HA, "Bax2007"),
        ("HN-HA (Hu & Bax 1997)", mdtraj.compute_J3_HN_HA, "Bax1997"),
        ("HN-HA (Schmidt et al. 1999)", mdtraj.compute_J3_HN_HA, "Ruterjans1999"),
        ("HN-C' (Vögeli et al. 2007)", mdtraj.compute_J3_HN_C, "Bax2007"),
        ("HN-CB (Vögeli et al. 2007)", mdtraj.compute_J3_HN_CB, "Bax2007"),
    ):
        atoms, expected = function(trajectory, model=model)
        found = observe(ScalarCouplings(atoms, KARPLUS[name]), frames)
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_constants_of_nature():
    magneton, permeability = constants.physical_constants["Bohr magneton"][0], constants.mu_0 / (4 * np.pi)
    squared = (2.00232 * magneton) ** 2
    assert permeability * squared / constants.h * 1e-6 * 1e27 == pytest.approx(DIPOLAR_CONSTANT, rel=1e-3)
    gamma = constants.physical_constants["proton gyromag. ratio"][0]
    solomon = 0.75 / 15 * permeability**2 * gamma**2 * squared * 1e54
    assert solomon == pytest.approx(RELAXATION_CONSTANT, rel=0.01)


def test_dipolar_kernel_is_the_one_of_fresnel(x64):
    times, r = np.linspace(0.01, 4, 40), np.linspace(1.5, 8, 30)
    phase = 2 * np.pi * DIPOLAR_CONSTANT * times[:, None] / r**3
    sine, cosine = fresnel(np.sqrt(6 * phase / np.pi))
    expected = (np.cos(phase) * cosine + np.sin(phase) * sine) * np.sqrt(np.pi / (6 * phase))
    np.testing.assert_allclose(dipolar_kernel(times, r), expected, atol=1e-9)
    np.testing.assert_allclose(dipolar_kernel(np.zeros(1), r), 1.0, rtol=1e-12)


@pytest.mark.slow
def test_distributions_of_distances(x64):
    rng = np.random.default_rng(7)
    frames = np.zeros((50, 2, 3))
    frames[:, 1, 0] = 3 + 0.4 * rng.normal(size=50)
    r = np.linspace(0.5, 6, 551)
    observable = DistanceDistribution([[0, 1]], r, 0.3)
    found = ensemble_average(observable, frames)
    distribution = found.value[0]
    step = r[1] - r[0]
    assert distribution.sum() * step == pytest.approx(1, abs=1e-6)
    mean = (r * distribution).sum() * step
    assert mean == pytest.approx(frames[:, 1, 0].mean(), abs=1e-6)
    assert ((r - mean) ** 2 * distribution).sum() * step == pytest.approx(frames[:, 1, 0].var() + 0.09, rel=1e-4)
    signal = dipolar_signal(found.value, r, np.array([0.0, 2.0]), modulation_depth=0.3, background_rate=0.1)
    assert signal.shape == (1, 2)
    assert float(signal[0, 0]) == pytest.approx(1, abs=1e-5)
    assert float(signal[0, 1]) == pytest.approx(0.7 * np.exp(-0.2), abs=0.03)
    _slope_is_right(observable, jnp.asarray(frames[0]))
    np.testing.assert_allclose(observe(LabelDistances([[0, 1]]), frames)[:, 0], frames[:, 1, 0])
    assert np.all(jax.jacrev(LabelDistances([[0, 1]]))(jnp.zeros((2, 3))) == 0)


def test_transfer_efficiency(x64):
    x = np.array([[0, 0, 0], [5.4, 0, 0], [0, 2.7, 0]])
    observable = FretEfficiency([[0, 1], [0, 2]], 5.4)
    np.testing.assert_allclose(observable(x), [0.5, 64 / 65], rtol=1e-12)
    _slope_is_right(observable, x)


def test_paramagnetic_relaxation(x64):
    x = np.array([[0, 0, 0], [1.5, 0, 0]])
    observable = ParamagneticRelaxation([[0, 1]], 5000.0, 600.0)
    turn = 2 * np.pi * 600e6 * 5e-9
    expected = 1.23e-32 * 1e42 / 1.5**6 * (4 * 5e-9 + 3 * 5e-9 / (1 + turn**2))
    np.testing.assert_allclose(observable(x), expected, rtol=1e-9)
    np.testing.assert_allclose(ParamagneticRelaxation([[0, 1]], 5000.0)(x.astype(np.float32)), expected, rtol=1e-5)
    _slope_is_right(observable, x)
    assert intensity_ratio(0.0, 20.0, 0.01) == 1
    assert float(intensity_ratio(20.0, 20.0, 0.01)) == pytest.approx(0.5 * np.exp(-0.2))


def test_radius_of_gyration(x64):
    x = jnp.asarray(np.random.default_rng(1).normal(size=(20, 3)) + 50)
    masses = np.random.default_rng(2).uniform(1, 16, size=20)
    center = masses @ np.asarray(x) / masses.sum()
    expected = (masses @ ((np.asarray(x) - center) ** 2).sum(axis=1)) / masses.sum()
    np.testing.assert_allclose(SquaredRadiusOfGyration(masses)(x), expected, rtol=1e-12)
    _slope_is_right(SquaredRadiusOfGyration(masses), x)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="different atoms"):
        LabelDistances([[1, 1]])
    with pytest.raises(ValueError, match="expected \\(couplings, 4\\)"):
        ScalarCouplings([[0, 1, 2]])
    with pytest.raises(ValueError, match="expected \\(frames, atoms, 3\\)"):
        observe(LabelDistances([[0, 1]]), np.zeros((0, 2, 3)))
    frames = np.zeros((4, 2, 3))
    frames[:, 1] = 1
    frames[2, 1] = np.nan
    with pytest.raises(ValueError, match="frame 2 is not finite"):
        observe(LabelDistances([[0, 1]]), frames)
    with pytest.raises(ValueError, match="sum zero"):
        SquaredRadiusOfGyration(np.array([1.0, -1.0]))

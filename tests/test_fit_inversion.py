"""Pair potentials from g(r), where the simulation is replaced by equations that can be solved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.fft import dst

from jaxcg.consistency import pair_pressure
from jaxcg.errors import ResultError
from jaxcg.fit import BoltzmannInversion, Measured, invert
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 120.0
THERMAL = GAS_CONSTANT * TEMPERATURE
SIGMA, EPSILON = 0.34, 0.996
SPACING = 0.01
R = SPACING * (np.arange(512) + 0.5)
#: Points of the table, within 3σ.
SHORT = slice(0, 102)


def lennard_jones(r):
    s6 = (SIGMA / r) ** 6
    return 4 * EPSILON * (s6**2 - s6)


def hypernetted(potential, density, rounds=3000):
    """g(r) on ``R`` of the hypernetted-chain equation, by Picard iteration; a map from u to g like a simulation's."""
    wave = np.pi / (SPACING * 512) * (np.arange(512) + 0.5)
    boltzmann = np.exp(-np.minimum(potential / THERMAL, 300))
    indirect = np.zeros_like(R)
    for _ in range(rounds):
        direct = boltzmann * np.exp(indirect) - 1 - indirect
        transformed = 2 * np.pi * SPACING / wave * np.asarray(dst(R * direct, 4))
        new = transformed / (1 - density * transformed) - transformed
        new = np.asarray(dst(wave * new, 4)) * (wave[1] - wave[0]) / (4 * np.pi**2 * R)
        if np.abs(new - indirect).max() < 1e-9:
            break
        indirect = 0.7 * indirect + 0.3 * new
    return boltzmann * np.exp(indirect)


def table(potential):
    """A table, zero from its end on, over all of ``R``."""
    whole = np.zeros_like(R)
    whole[SHORT] = potential
    return whole


@pytest.fixture(scope="module")
def fluid():
    """The truth, cut and shifted, its density and its g(r): a gas far above its critical temperature."""
    density = 0.3 / SIGMA**3
    truth = 0.5 * (lennard_jones(R[SHORT]) - lennard_jones(R[SHORT][-1]))
    return truth, density, hypernetted(table(truth), density)[SHORT]


@pytest.fixture
def inversion(fluid, x64):
    return BoltzmannInversion(R[SHORT], fluid[2], temperature=TEMPERATURE, least=1e-6)


def test_the_right_potential_stays(fluid, inversion):
    seen = slice(inversion.settings.first, None)
    new, step = inversion.step(jnp.asarray(fluid[0]), Measured(fluid[2]))
    np.testing.assert_allclose(new[seen], fluid[0][seen], atol=1e-12)
    assert step.misfit == 0
    assert step.change < 1e-12
    assert step.pressure_change == 0


def test_a_dilute_gas_takes_one_step(x64):
    truth = lennard_jones(R[SHORT]) - lennard_jones(R[SHORT][-1])
    inversion = BoltzmannInversion(R[SHORT], np.exp(-truth / THERMAL), temperature=TEMPERATURE, least=1e-6)
    wrong = truth + 0.3 * np.cos(9 * R[SHORT])
    new, _ = inversion.step(jnp.asarray(wrong), Measured(np.exp(-wrong / THERMAL)))
    seen = slice(inversion.settings.first + 1, None)
    # g(r) is known up to a factor only: the shift to zero at the cutoff takes it away.
    np.testing.assert_allclose(new[seen], truth[seen], atol=1e-6)


def test_lennard_jones_comes_back_from_its_own_rdf(fluid, inversion):
    truth, density, _ = fluid
    done = invert(
        inversion,
        lambda u, _: Measured(hypernetted(table(np.asarray(u)), density)[SHORT]),
        jax.random.key(0),
        12,
    )
    seen = slice(inversion.settings.first + 1, None)
    start = np.abs(inversion.init() - truth)[seen].max()
    assert done.best == 11
    assert done.misfit[-1] < 1e-3 < 0.01 < done.misfit[0]
    assert np.abs(done.potential - truth)[seen].max() < 0.01 * start
    assert np.isnan(done.pressure).all()


def test_the_ramp_closes_the_gap_of_the_pressure(fluid, x64):
    truth, density, rdf = fluid
    edges = jnp.asarray(SPACING * np.arange(103))

    def pressure(potential):
        slope = jnp.asarray(jnp.gradient(potential, SPACING))
        return pair_pressure(edges, jnp.asarray(rdf), slope, density=density, temperature=TEMPERATURE)

    now = pressure(jnp.asarray(truth))
    wanted = now + 0.01 * density * THERMAL
    inversion = BoltzmannInversion(
        R[SHORT], rdf, temperature=TEMPERATURE, density=density, pressure=float(wanted), least=1e-6
    )
    new, step = inversion.step(jnp.asarray(truth), Measured(rdf, now))
    assert 0 < step.pressure_change < 0.1 * THERMAL  # repulsive: the pressure was too low
    ramp = step.pressure_change * (1 - jnp.asarray(R[SHORT]) / R[SHORT][-1])
    np.testing.assert_allclose(pressure(truth + ramp) - now, wanted - now, rtol=0.01)
    seen = slice(inversion.settings.first, None)
    np.testing.assert_allclose(new[seen], (truth + ramp)[seen], atol=1e-9)
    with pytest.raises(ValueError, match="give the pressure"):
        inversion.step(jnp.asarray(truth), Measured(rdf))


def test_the_core_repels_whatever_the_noise(fluid):
    noisy = fluid[2] * np.exp(np.random.default_rng(1).normal(size=102))
    inversion = BoltzmannInversion(R[SHORT], noisy, temperature=TEMPERATURE, smoothing=1)
    core = np.asarray(inversion.init())[: inversion.settings.first + 1]
    assert inversion.settings.first > 20
    assert (np.diff(core) < 0).all()
    assert core[0] > 100 * THERMAL
    assert np.isfinite(core).all()
    new, _ = inversion.step(inversion.init(), Measured(np.zeros(102)))  # a simulation that saw nothing
    assert np.isfinite(new).all()


def test_what_is_not_finite_stops_the_iteration(fluid, inversion):
    del fluid
    answers = iter([np.asarray(inversion.target), np.full(102, np.nan)])
    with pytest.raises(ResultError, match=r"simulation 1 gave a g.r. .*last good misfit was 0"):
        invert(inversion, lambda u, key: Measured(next(answers)), jax.random.key(0), 3)
    with pytest.raises(ResultError, match=r"simulation 0 .*already the first"):
        invert(inversion, lambda u, key: Measured(inversion.target, np.inf), jax.random.key(0), 1)
    with pytest.raises(ValueError, match="0 iterations"):
        invert(inversion, lambda u, key: Measured(inversion.target), jax.random.key(0), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": R[SHORT] ** 2}, "equal steps"),
        ({"target": np.full(102, np.nan)}, "not finite"),
        ({"target": -np.ones(102)}, "negative"),
        ({"target": np.zeros(102)}, "does not reach"),
        ({"target": np.ones(7)}, "eight or more"),
        ({"rate": 0.0}, "rate"),
        ({"pressure": 1.0}, "density"),
    ],
)
def test_targets_that_cannot_be_inverted(change, message):
    given = {"r": R[SHORT], "target": np.ones(102), "temperature": 300.0, **change}
    with pytest.raises(ValueError, match=message):
        BoltzmannInversion(given.pop("r"), given.pop("target"), **given)

"""Inverse Monte Carlo: on a gas of pairs, whose fluctuations are known, and on a Lennard-Jones liquid run here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency import frame_pressures, mean_pressure, simulate_fluid
from jaxcg.consistency.structure import radial_distribution
from jaxcg.energy import LennardJones, PairEnergy, TabulatedPair
from jaxcg.fit import InverseMonteCarlo, Measured, invert
from jaxcg.units import GAS_CONSTANT

SPACING, POINTS, EDGE = 0.02, 60, 4.0
R = SPACING * (np.arange(50) + 0.5)
DENSITY = POINTS / EDGE**3
PAIRS = POINTS * (POINTS - 1) // 2
#: Pairs in each shell if they do not interact; the exact volume of the shells.
IDEAL = PAIRS * 4 / 3 * np.pi * ((R + SPACING / 2) ** 3 - (R - SPACING / 2) ** 3) / EDGE**3
TEMPERATURE = 300.0
THERMAL = GAS_CONSTANT * TEMPERATURE
CUTOFF = 30
TRUTH = np.where(R[CUTOFF] > R, 6 * (1 - R / R[CUTOFF]) ** 2 + 1.5 * np.cos(12 * R) * (1 - R / R[CUTOFF]), 0.0)


def gas_of_pairs(potential):
    """g(r) and pressure if every pair were alone: a multinomial distribution of the pairs over the shells."""
    weight = IDEAL * np.exp(-potential / THERMAL)
    share = weight / (weight.sum() + PAIRS - IDEAL.sum())
    rdf = PAIRS * share / IDEAL
    virial = -np.gradient(potential[: CUTOFF + 1], SPACING) * R[: CUTOFF + 1]
    return share, rdf, DENSITY * THERMAL + (virial @ (PAIRS * share)[: CUTOFF + 1]) / (3 * EDGE**3)


def measure(potential, key, frames=1000):
    """Frames whose mean is exact; their fluctuations are drawn."""
    potential = np.asarray(potential, np.float64)
    share, rdf, pressure = gas_of_pairs(potential)
    rng = np.random.default_rng(int(jax.random.randint(key, (), 0, 1 << 30)))
    counts = rng.multinomial(PAIRS, [*share, 1 - share.sum()], size=frames)[:, :-1]
    virial = -np.gradient(potential[: CUTOFF + 1], SPACING) * R[: CUTOFF + 1]
    pressures = DENSITY * THERMAL + (counts[:, : CUTOFF + 1] @ virial) / (3 * EDGE**3)
    return Measured(rdf, pressure, counts / IDEAL, pressures)


def method(**options):
    given = {"temperature": TEMPERATURE, "density": DENSITY, "points": POINTS, "cutoff": R[CUTOFF]}
    return InverseMonteCarlo(R, gas_of_pairs(TRUTH)[1], **given, **options)


def test_a_gas_of_pairs_comes_back(x64):
    inversion = method()
    # From a potential without attraction, and without what −kT ln g* knows.
    done = invert(inversion, measure, jax.random.key(0), 8, potential=np.where(R[CUTOFF] > R, 0.1 * TRUTH, 0.0))
    seen = slice(4, CUTOFF)
    off = np.abs(done.potentials[-1] - TRUTH)[seen]
    assert np.abs(done.potentials[0] - TRUTH)[seen].max() > THERMAL
    assert off.max() < 0.03 * THERMAL
    # Nearer than this the shells are so small that 1000 frames see a few pairs in all.
    apart = np.abs(done.rdf - gas_of_pairs(TRUTH)[1])[:, seen].max(axis=1)
    assert apart[-1] < 0.01 < 0.3 < apart[0]
    np.testing.assert_allclose(done.pressure[-1], gas_of_pairs(TRUTH)[2], rtol=2e-3)


def test_the_right_potential_stays(x64):
    inversion = method()
    new, step = inversion.step(TRUTH, measure(TRUTH, jax.random.key(1)))
    assert step.misfit < 1e-12
    seen = slice(inversion.settings.first, None)
    np.testing.assert_allclose(new[seen], TRUTH[seen], atol=1e-9)


def test_errors_are_those_of_repeated_targets(x64):
    """Scatter of what is found for targets that were sampled, against the error that is told."""
    frames, inversion = 50, method(target_frames=50)
    measured = measure(TRUTH, jax.random.key(2), frames=4000)
    told = inversion.uncertainty(measured)
    share = gas_of_pairs(TRUTH)[0]
    rng = np.random.default_rng(3)
    found, pressures = [], []
    for _ in range(60):
        counts = rng.multinomial(PAIRS * frames, [*share, 1 - share.sum()])[:-1] / frames
        target = counts / IDEAL
        given = {"temperature": TEMPERATURE, "density": DENSITY, "points": POINTS, "cutoff": R[CUTOFF]}
        one = InverseMonteCarlo(R, np.where(R < 0.1, inversion.target, target), target_frames=frames, **given)
        new, _ = one.step(TRUTH, measured)
        found.append(np.asarray(new) - TRUTH)
        pressures.append(gas_of_pairs(np.asarray(new))[2])
    scatter, seen = np.std(found, axis=0), slice(8, CUTOFF)
    # The told error also holds what the prior leaves open: never less than the scatter, and not much more.
    assert (scatter[seen] < 1.3 * told.error[seen]).all()
    assert np.median(told.error[seen] / scatter[seen]) < 2
    assert 0.6 * np.std(pressures) < told.pressure < 2 * np.std(pressures)


def test_a_pressure_is_reached_at_the_least_cost(x64):
    now = gas_of_pairs(TRUTH)[2]
    wanted = now + 0.02 * DENSITY * THERMAL
    inversion = method(pressure=wanted, target_frames=200)
    new, step = inversion.step(TRUTH, measure(TRUTH, jax.random.key(4), frames=4000))
    np.testing.assert_allclose(gas_of_pairs(np.asarray(new))[2] - now, wanted - now, rtol=0.1)
    assert 0 < step.pressure_change < 0.5 * THERMAL
    # A ramp that does the same costs more of g(r).
    ramp = np.where(R[CUTOFF] > R, 1 - R / R[CUTOFF], 0.0)
    height = (wanted - now) / ((gas_of_pairs(TRUTH + 1e-4 * ramp)[2] - now) / 1e-4)
    by_ramp = TRUTH + height * ramp
    np.testing.assert_allclose(gas_of_pairs(by_ramp)[2] - now, wanted - now, rtol=0.1)

    def entropy(potential):
        share, model = gas_of_pairs(TRUTH)[0], gas_of_pairs(np.asarray(potential))[0]
        outside = (1 - share.sum()) * np.log((1 - share.sum()) / (1 - model.sum()))
        return np.sum(share * np.log(share / model)) + outside

    assert 0 < entropy(new) < 0.8 * entropy(by_ramp)


def test_no_change_is_larger_than_twice_the_thermal_energy(x64, monkeypatch):
    far = np.where(R[CUTOFF] > R, 5 * TRUTH, 0.0)
    measured = measure(far, jax.random.key(5))
    new, step = method().step(far, measured)
    np.testing.assert_allclose(step.change, 2 * THERMAL, rtol=1e-6)
    assert np.isfinite(new).all()
    monkeypatch.setattr("jaxcg.fit.inverse_monte_carlo._MOST", 100.0)
    assert method().step(far, measured)[1].change > 3 * THERMAL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rdf_series": None}, "every frame"),
        ({"rdf_series": np.ones((3, 50))}, "16 frames or more"),
        ({"rdf_series": np.ones((100, 49))}, r"shape \(100, 49\) and pressures of 100; give \(frames, 50\)"),
        ({"pressure_series": np.ones(200)}, "pressures of 200; .* blocks of several frames"),
        ({"pressure_series": np.full(100, np.nan)}, "not finite"),
        ({"pressure_series": None}, "pressure of every frame"),
        ({"pressure": None}, "give the pressure"),
    ],
)
def test_what_is_missing_is_asked_for(change, message):
    measured = measure(TRUTH, jax.random.key(6), frames=100)._replace(**change)
    with pytest.raises(ValueError, match=message):
        method(pressure=1.0).step(TRUTH, measured)
    with pytest.raises(ValueError, match="two or more points"):
        method(target_frames=0.0)


@pytest.mark.slow
def test_lennard_jones_comes_back_from_its_own_rdf():
    """256 atoms at ρ* = 0.8 and T* = 1: u to 0.05 ε, and the pressure within what the target leaves open."""
    atoms, kelvin = 256, 1 / GAS_CONSTANT
    edge = (atoms / 0.8) ** (1 / 3)
    box = (edge * np.eye(3)).astype(np.float32)
    corners = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    cells = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 1, 3)
    crystal = ((cells + corners).reshape(-1, 3) * edge / 4).astype(np.float32)
    truth = LennardJones(1.0, 1.0, 2.5, shift="energy")

    def run(potential, start, key, steps):
        energy = PairEnergy(potential, atoms, box=box)
        done = simulate_fluid(
            energy, start, box, 1.0, temperature=kelvin, time_step=0.005, steps=steps, every=20, equilibration=1000,
            collision_rate=1.0, key=key,
        )  # fmt: skip
        pressures = frame_pressures(done.energy, done.positions, box, temperature=kelvin)
        rdf = radial_distribution(((x, box) for x in done.positions), 3.0, bins=120)
        return done, rdf, mean_pressure(pressures).pressure, pressures.pressure

    liquid, rdf, pressure, _ = run(truth, crystal, jax.random.key(7), 40_000)
    r = rdf.centers

    def simulate(potential, key):
        inside = slice(20, np.flatnonzero(potential)[-1] + 2)
        table = TabulatedPair(r[inside], np.asarray(potential)[inside])
        _, found, mean, series = run(table, liquid.positions[-1], key, 10_000)
        return Measured(found.value, mean.value, found.series, series)

    inversion = InverseMonteCarlo(
        r, rdf.value, temperature=kelvin, density=0.8, points=atoms, cutoff=2.5,
        target_frames=pressure.effective_sample_size,
    )  # fmt: skip
    kept = {}
    done = invert(
        inversion, simulate, jax.random.key(8), 6, progress=lambda i, step, measured: kept.update(last=measured)
    )
    exact = np.asarray(truth(jnp.asarray(r))[0])
    seen = (rdf.value > 0.1) & (r < 2.5)
    off = np.sqrt(np.mean((done.potentials - exact)[:, seen] ** 2, axis=1))
    assert off[0] > 0.3
    assert off[-1] < 0.05
    assert done.misfit[-1] < 0.01
    open_pressure = inversion.uncertainty(kept["last"]).pressure
    assert open_pressure < 0.5
    assert abs(done.pressure[-1] - pressure.value) < 4 * open_pressure

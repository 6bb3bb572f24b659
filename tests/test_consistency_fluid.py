"""Runs of a periodic fluid: ideal gas, constant pressure, lists that stay right, published Lennard-Jones states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency.statistics import block_average
from jaxcg.consistency.thermodynamics import (
    Barostat,
    Molecules,
    compressibility_from_virial,
    compressibility_from_volume,
    frame_pressures,
    frame_volume_derivatives,
    mean_pressure,
    simulate_fluid,
    simulate_isotherm,
    tail_pressures,
    to_bar,
)
from jaxcg.energy.bonded import HarmonicBond
from jaxcg.energy.pair_energy import PairEnergy
from jaxcg.energy.pair_potentials import WCA, LennardJones
from jaxcg.energy.stillinger_weber import MW_WATER, stillinger_weber
from jaxcg.errors import ResultError
from jaxcg.units import BAR, GAS_CONSTANT, KILOCALORIE

#: Temperature at which kT is 1 kJ/mol: reduced units of a fluid with σ = 1 nm, ε = 1 kJ/mol, m = 1 amu.
ONE = 1 / GAS_CONSTANT


def grid(side, length):
    points = np.stack(np.meshgrid(*[np.arange(side) + 0.5] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    return jnp.asarray(points * length / side, jnp.float32)


def ideal_gas(atoms):
    return HarmonicBond(np.zeros((0, 2), int), np.zeros(0), np.zeros(0), n_atoms=atoms)


def test_ideal_gas_at_constant_pressure():
    """⟨V⟩ = (N + 1) kT/p and Var(V) = (N + 1)(kT/p)², for N atoms or molecules."""
    count, pressure = 8, 2.0
    x, box = grid(2, 2.0), 2.0 * jnp.eye(3)
    run = simulate_fluid(
        ideal_gas(count),
        x,
        box,
        1.0,
        temperature=ONE,
        time_step=0.01,
        steps=1200,
        every=1,
        equilibration=60,
        key=jax.random.key(1),
        collision_rate=100.0,
        barostat=Barostat(pressure, every=1, amplitude=0.5),
    )
    assert 0.2 < run.accepted < 0.9
    mean = block_average(run.volumes)
    assert abs(mean.value - (count + 1) / pressure) < 4 * mean.error
    assert mean.error < 0.15 * mean.value
    kappa = compressibility_from_volume(run.volumes, ONE)
    assert abs(kappa.value - 1 / pressure) < 4 * kappa.error
    assert run.temperature.mean() == pytest.approx(ONE, rel=0.05)


def test_rigid_scaling_keeps_bonds():
    x = grid(2, 2.0)
    x = x.at[1::2].set(x[::2] + 0.2)
    bonds = np.arange(8).reshape(-1, 2)
    molecules = Molecules(bonds, np.ones(8))
    run = simulate_fluid(
        ideal_gas(8),
        x,
        2.0 * jnp.eye(3),
        1.0,
        temperature=1e-12,
        time_step=1e-6,
        steps=20,
        every=5,
        key=jax.random.key(0),
        barostat=Barostat(1e-12, every=5, amplitude=0.3, molecules=molecules),
    )
    assert np.ptp(run.volumes) > 0.1
    lengths = np.linalg.norm(run.positions[:, ::2] - run.positions[:, 1::2], axis=-1)
    np.testing.assert_allclose(lengths, 0.2 * np.sqrt(3), rtol=1e-4)


def test_lists_are_renewed_in_time_and_runs_do_not_depend_on_frames():
    length = 7.0
    x, box = grid(7, length), length * jnp.eye(3)

    def run(skin, every, positions):
        energy = PairEnergy(WCA(1.0, 1.0), 343, box=box, skin=skin, positions=positions)
        return simulate_fluid(
            energy, x, box, 1.0, temperature=ONE, time_step=0.005, steps=60, every=every, key=jax.random.key(2)
        )

    narrow, wide = run(0.1, 20, x), run(1.0, 60, x)
    # Chaos multiplies rounding by a few in 60 steps; a missed pair would give a difference of order one.
    np.testing.assert_allclose(narrow.positions[-1], wide.positions[-1], atol=2e-3)
    assert not np.array_equal(narrow.positions[-1], narrow.positions[0])


@pytest.mark.slow
def test_lennard_jones_fluid_compressibility_by_two_routes():
    """The slope of the pressure between two densities, and the fluctuations of the virial at one."""
    length, temperature = 4.4, 1.5 * ONE
    x, box = grid(4, length), length * jnp.eye(3)
    energy = PairEnergy(LennardJones(1.0, 1.0, 2.1, switch=1.5), 64, box=box)
    run = simulate_fluid(
        energy, x, box, 1.0, temperature=temperature, time_step=0.005, steps=200, every=20, key=jax.random.key(3)
    )
    derivatives = frame_volume_derivatives(energy, run.positions, run.boxes)
    frames = frame_pressures(energy, run.positions, run.boxes, temperature=temperature)
    np.testing.assert_allclose(-derivatives.first / run.volumes, frames.virial_pressures[:, 0], rtol=2e-4, atol=1e-3)


def test_what_cannot_run_is_refused():
    x, box = grid(2, 2.0), 2.0 * jnp.eye(3)
    given = {"temperature": ONE, "time_step": 0.01, "key": jax.random.key(0)}
    with pytest.raises(ValueError, match="multiple of every"):
        simulate_fluid(ideal_gas(8), x, box, 1.0, steps=10, every=3, **given)
    with pytest.raises(ValueError, match="barostat"):
        simulate_fluid(ideal_gas(8), x, box, 1.0, steps=10, every=5, barostat=Barostat(1.0, amplitude=2.0), **given)
    with pytest.raises(ResultError, match="not finite"):
        simulate_fluid(ideal_gas(8), x.at[0, 0].set(jnp.nan), box, 1.0, steps=10, every=5, **given)


def test_an_atom_that_outruns_its_list_is_reported():
    x, box = grid(7, 10.0), 10.0 * jnp.eye(3)
    energy = PairEnergy(WCA(1.0, 1.0), 343, box=box, skin=0.01, positions=x)
    with pytest.raises(ResultError, match="crosses half the skin"):
        simulate_fluid(energy, x, box, 1.0, temperature=ONE, time_step=0.05, steps=5, every=5, key=jax.random.key(0))


@pytest.mark.slow
def test_lennard_jones_equation_of_state():
    """Published Monte Carlo of NIST at T* = 0.85 and cutoff 3σ with corrections: ρ* = 0.776 and 0.86."""
    side, densities, temperature = 7, [0.776, 0.86], 0.85 * ONE
    length = (side**3 / densities[0]) ** (1 / 3)
    x, box = grid(side, length), jnp.eye(3) * length
    energy = PairEnergy(LennardJones(1.0, 1.0, 3.0), side**3, box=box, skin=0.4, positions=x)
    found = simulate_isotherm(
        energy,
        x,
        box,
        1.0,
        densities,
        temperature=temperature,
        time_step=0.004,
        steps=6000,
        equilibration=1500,
        every=25,
        key=jax.random.key(5),
        tail=True,
    )
    table = found.equation_of_state
    # 343 atoms and a time step of 0.004 leave a little more than the scatter: 0.01 in the pressure.
    np.testing.assert_array_less(np.abs(table.pressures - [6.7714e-3, 1.2660]), 4 * table.errors + 0.01)
    assert (table.errors < 0.1).all()
    tails = [float(energy.with_box(box * (densities[0] / d) ** (1 / 3)).tail_correction().energy) for d in densities]
    potential = (found.potential.value + tails) / side**3
    errors = found.potential.error / side**3
    np.testing.assert_array_less(np.abs(potential - [-5.5121, -6.0305]), 4 * errors + 0.003)


@pytest.mark.slow
def test_mw_water_is_held_by_its_triplets():
    """512 mW molecules at 0.9988 g/cc and 298 K: two-body −39.9 kbar, three-body +38.6 kbar, energy −10.08 kcal/mol."""
    mass, count = 18.01528, 512
    length = (count * mass * 1.66053906660e-3 / 0.9988) ** (1 / 3)
    x, box = grid(8, length), jnp.eye(3) * length
    energy = stillinger_weber(MW_WATER, count, box=box, positions=x)
    given = {"time_step": 0.01, "every": 20, "temperature": 298.0}
    hot = simulate_fluid(energy, x, box, mass, steps=20, key=jax.random.key(1), collision_rate=20.0, **given)
    run = simulate_fluid(
        hot.energy,
        jnp.asarray(hot.positions[-1]),
        box,
        mass,
        steps=2000,
        equilibration=1500,
        collision_rate=2.0,
        key=jax.random.key(2),
        **given,
    )
    frames = frame_pressures(run.energy, run.positions, run.boxes, temperature=298.0)
    mean = mean_pressure(frames)
    two, three = to_bar(mean.terms.value)
    errors = mean.terms.error / BAR
    assert abs(two + 39_943) < 4 * errors[0] + 150
    assert abs(three - 38_581) < 4 * errors[1] + 150
    assert (errors < 400).all()
    assert abs(to_bar(mean.pressure.value) - 49) < 4 * to_bar(mean.pressure.error) + 130
    assert run.potential.mean() / count / KILOCALORIE == pytest.approx(-10.08, abs=0.03)


@pytest.mark.slow
def test_compressibility_from_the_virial_and_from_the_slope():
    """1/κ of a dense WCA-like fluid from virial fluctuations = −V ΔP/ΔV between neighbouring volumes."""
    side, temperature = 5, 1.5 * ONE
    length = (side**3 / 0.6) ** (1 / 3)
    x, box = grid(side, length), length * jnp.eye(3)
    energy = PairEnergy(LennardJones(1.0, 1.0, 2.5, switch=1.8), side**3, box=box)
    given = {"temperature": temperature, "time_step": 0.005, "steps": 20_000, "equilibration": 1000, "every": 10}
    run = simulate_fluid(energy, x, box, 1.0, key=jax.random.key(0), **given)
    derivatives = frame_volume_derivatives(energy, run.positions, run.boxes)
    kappa = compressibility_from_virial(derivatives, side**3, float(run.volumes[0]), temperature)
    isotherm = simulate_isotherm(energy, x, box, 1.0, [0.57, 0.63], key=jax.random.key(1), **given).equation_of_state
    slope = 0.6 * np.diff(isotherm.pressures)[0] / 0.06
    error = 0.6 * np.hypot(*isotherm.errors) / 0.06
    inverse_error = kappa.error / kappa.value**2
    assert abs(1 / kappa.value - slope) < 4 * np.hypot(error, inverse_error)
    assert np.hypot(error, inverse_error) < 0.25 * slope


def test_energies_of_the_last_frame_come_back():
    x, box = grid(2, 2.0), 2.0 * jnp.eye(3)
    energy = PairEnergy(LennardJones(0.3, 1.0, 0.9), 8, box=box)
    run = simulate_fluid(
        energy, x, box, np.arange(1.0, 9.0), temperature=ONE, time_step=0.005, steps=10, every=5, key=jax.random.key(0)
    )
    potential = eqx.filter_jit(run.energy)(jnp.asarray(run.positions[-1]))
    np.testing.assert_allclose(potential, run.potential[-1], rtol=1e-5)
    assert tail_pressures(run.energy, run.boxes).shape == (2,)

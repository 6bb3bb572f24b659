"""Runs of a fluid are in the ensemble they claim: energy kept without friction, Maxwell's velocities with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.consistency.statistics import block_average
from jaxcg.consistency.thermodynamics import Barostat, compressibility_from_volume, simulate_fluid
from jaxcg.energy.pair_energy import PairEnergy
from jaxcg.energy.pair_potentials import LennardJones
from jaxcg.units import GAS_CONSTANT

#: Temperature at which kT is 1 kJ/mol: reduced units of a fluid with σ = 1 nm, ε = 1 kJ/mol, m = 1 amu.
ONE = 1 / GAS_CONSTANT
COUNT, LENGTH = 343, 7.7


@pytest.fixture(scope="module")
def liquid():
    """A Lennard-Jones liquid in equilibrium whose force has no step at the cutoff: ρ* = 0.75."""
    points = np.stack(np.meshgrid(*[np.arange(7) + 0.5] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x, box = jnp.asarray(points * LENGTH / 7, jnp.float32), LENGTH * jnp.eye(3)
    energy = PairEnergy(LennardJones(1.0, 1.0, 2.5, shift="force"), COUNT, box=box, skin=0.3, positions=x)
    run = simulate_fluid(
        energy,
        x,
        box,
        1.0,
        temperature=ONE,
        time_step=0.005,
        steps=1,
        equilibration=3000,
        key=jax.random.key(0),
        every=1,
    )
    return energy, jnp.asarray(run.positions[-1]), box


def run_from(liquid, time_step, steps, every, seed, collision_rate, **more):
    energy, x, box = liquid
    return simulate_fluid(
        energy,
        x,
        box,
        1.0,
        temperature=ONE,
        time_step=time_step,
        steps=steps,
        every=every,
        key=jax.random.key(seed),
        collision_rate=collision_rate,
        **more,
    )


@pytest.mark.slow
def test_without_friction_the_energy_is_kept(liquid, x64):
    """Velocity Verlet: no drift beyond its error, and fluctuations that fall with the square of the time step.

    In double precision: in single precision rounded positions walk the energy at random, by 0.01 in these 3000 steps.
    """
    x = jnp.asarray(liquid[1], jnp.float64)
    box = LENGTH * jnp.eye(3, dtype=jnp.float64)
    energy = PairEnergy(LennardJones(1.0, 1.0, 2.5, shift="force"), COUNT, box=box, skin=0.3, positions=x)
    liquid = energy, x, box
    spread = []
    for time_step in (0.004, 0.002):
        steps = round(12 / time_step)
        run = run_from(liquid, time_step, steps, 10, 1, 0.0)
        total = run.potential + 1.5 * COUNT * GAS_CONSTANT * run.temperature
        half = len(total) // 2
        first, last = block_average(total[:half]), block_average(total[half:])
        moved = last.value - first.value
        # 12 time units.
        assert abs(moved) < 4 * np.hypot(first.error, last.error)
        assert abs(moved) < 2e-5 * COUNT
        # The potential alone moves more than fifty times as much.
        assert np.std(total) < 0.02 * np.std(run.potential)
        spread.append(np.std(total))
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.25)


@pytest.mark.slow
def test_with_friction_velocities_are_those_of_maxwell(liquid):
    """⟨v²⟩ = kT/m and ⟨v⁴⟩ = 3 (kT/m)², the same in every direction, and no more correlation than friction leaves."""
    run = run_from(liquid, 0.005, 12000, 40, 2, 2.0)
    v2 = (run.velocities.astype(np.float64) ** 2).mean(axis=1)
    v4 = (run.velocities.astype(np.float64) ** 4).mean(axis=(1, 2))
    for direction in range(3):
        mean = block_average(v2[:, direction])
        assert mean.error < 0.01
        # The middle of BAOAB's step has Maxwell's velocities; at its end they are (ω dt)²/4 too cold, ω² ≈ 300 here.
        assert abs(mean.value - 1) < 4 * mean.error + 300 * 0.005**2 / 4
    fourth = block_average(v4)
    assert abs(fourth.value - 3) < 4 * fourth.error + 6 * 300 * 0.005**2 / 4
    kinetic = 1.5 * COUNT * GAS_CONSTANT * run.temperature.astype(np.float64)
    # The kinetic energy of N atoms fluctuates as χ² with 3N degrees of freedom: variance 3N/2 (kT)².
    wanted = 1.5 * COUNT
    squares = block_average((kinetic - kinetic.mean()) ** 2)
    assert abs(squares.value - wanted) < 4 * squares.error
    assert squares.error < 0.2 * wanted


@pytest.mark.slow
def test_volume_fluctuations_are_those_of_the_equation_of_state(liquid):
    """κ_T from the variance of the volume at one pressure, and from the mean volumes at two others."""
    runs = {
        p: run_from(
            liquid, 0.005, 16000, 20, 3, 1.0, equilibration=2000, barostat=Barostat(p, every=10, amplitude=0.02)
        )
        for p in (1.0, 1.5, 2.0)
    }
    kappa = compressibility_from_volume(runs[1.5].volumes, ONE)
    low, high = (block_average(runs[p].volumes) for p in (1.0, 2.0))
    slope = (low.value - high.value) / runs[1.5].volumes.mean()
    error = np.hypot(low.error, high.error) / runs[1.5].volumes.mean()
    assert kappa.error < 0.25 * kappa.value
    # The chord over ±0.5 differs from the slope at its middle by a third-order term, a few per cent here.
    assert abs(kappa.value - slope) < 4 * np.hypot(kappa.error, error) + 0.05 * slope

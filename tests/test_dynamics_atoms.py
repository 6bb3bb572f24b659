"""Memory kernels of atoms that were simulated: a harmonic chain with an exact answer, and liquid argon by OpenMM."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles.argon import trajectory
from oracles.memory import rubin_kernel
from scipy.integrate import cumulative_simpson

from jaxcg.dynamics import (
    GLE,
    DeltaKernel,
    extract_kernel,
    mean_square_displacement,
    memory_from_positions,
    memory_from_velocities,
    simulate,
)
from jaxcg.energy import HarmonicBond
from jaxcg.mapping import LinearMap
from jaxcg.units import GAS_CONSTANT

pytestmark = pytest.mark.slow
TEMPERATURE = 1 / GAS_CONSTANT  # kT = 1


def thermal_ring(atoms, stiffness, copies, seed):
    """Positions (copies, atoms, 3) of a ring of springs of no length at kT = 1, without its centre of mass."""
    rng = np.random.default_rng(seed)
    wave = np.arange(atoms // 2 + 1)
    squared = 4 * stiffness * np.sin(np.pi * wave / atoms) ** 2
    white = np.fft.rfft(rng.normal(size=(copies, atoms, 3)), axis=1)
    return np.fft.irfft(white / np.sqrt(np.where(wave, squared, np.inf))[:, None], atoms, axis=1)


def test_atoms_of_a_chain_mapped_to_a_tagged_one_have_the_bessel_kernel(x64):
    # Rubin's chain with k = m = 1: ω_L = 2. Ten atoms of each copy are tagged, far from one another.
    atoms, copies, dt, every, frames = 400, 24, 0.05, 2, 1000
    ring = np.stack([np.arange(atoms), (np.arange(atoms) + 1) % atoms], axis=1)
    chain = HarmonicBond(ring, np.zeros(atoms), np.ones(atoms), n_atoms=atoms)
    newton = GLE(chain, DeltaKernel(0.0), 1.0, time_step=dt, temperature=TEMPERATURE)
    mapping = LinearMap.slice(np.arange(0, atoms, 40), atoms)
    mapped = jax.jit(jax.vmap(jax.vmap(mapping)))
    kept = []
    simulate(
        newton,
        jnp.asarray(thermal_ring(atoms, 1.0, copies, 0)),
        frames * every,
        jax.random.key(1),
        every=every,
        chunk=100 * every,
        writer=lambda _, made: kept.append(np.asarray(mapped(jnp.asarray(made.velocities)))),
    )
    # (copies, frames, tagged, 3) to one trajectory for each number.
    velocities = np.moveaxis(np.concatenate(kept, axis=1), 1, -1).reshape(-1, frames)
    spacing = dt * every
    memory = memory_from_velocities(velocities, 1.0, spacing, lags=100, blocks=len(velocities))
    values = np.asarray(memory.extracted.kernel.values)
    exact = rubin_kernel(spacing * np.arange(len(values)), 1.0, 2.0)
    assert np.linalg.norm(values - exact) / np.linalg.norm(exact) < 0.03
    deviation = np.abs(values - exact) / (memory.kernel_error + 5e-3 * exact[0])
    assert deviation.max() < 4


@pytest.fixture(scope="module")
def argon():
    """Positions and velocities (864, 4000, 3) in reduced units, 128 τ with frames 0.032 τ apart."""
    with jax.enable_x64(True):
        yield tuple(trajectory(4000))


def test_the_friction_of_tagged_argon_is_kt_over_d(x64, argon):
    x, v = argon
    spacing, lags = 0.032, 100
    x = x - x.mean(axis=0)
    v = v - v.mean(axis=0)
    temperature = np.mean(v**2)
    assert temperature == pytest.approx(0.70, abs=0.03)
    # Diffusion twice: slope of the displacements about the last lag and integral of the velocities.
    displacement = np.asarray(mean_square_displacement(x, lags=200)) / 6
    t = spacing * np.arange(200)
    diffusion = np.polyfit(t[60:140], displacement[60:140], 1)[0]
    assert diffusion == pytest.approx(0.030, abs=0.002)
    memory = memory_from_velocities(v, 1.0, spacing, lags=lags, isotropic=True, blocks=20)
    c = memory.velocity_correlation
    green_kubo = cumulative_simpson(c, dx=spacing)[-1]
    found = memory.extracted.integral[-1]
    assert found == pytest.approx(temperature / diffusion, rel=0.02)
    assert found == pytest.approx(temperature / green_kubo, rel=0.02)
    assert float(memory.extracted.kernel.values[0]) == pytest.approx(272, rel=0.08)
    # What most programs do loses it at this spacing of frames.
    popular = extract_kernel(c, None, 1.0, spacing, method="second kind").integral[-1]
    assert abs(popular * diffusion / temperature - 1) > 0.3


def test_positions_alone_give_the_friction_of_argon(x64, argon):
    x, v = argon
    x = x - x.mean(axis=0)
    thermal = float(np.mean((v - v.mean(axis=0)) ** 2))
    spacing = 0.032
    displacement = np.asarray(mean_square_displacement(x, lags=200)) / 6
    diffusion = np.polyfit(spacing * np.arange(60, 140), displacement[60:140], 1)[0]
    memory = memory_from_positions(
        x, None, spacing, temperature=thermal * TEMPERATURE, lags=100, isotropic=True, resamples=10
    )
    assert memory.extracted.integral[-1] == pytest.approx(thermal / diffusion, rel=0.02)

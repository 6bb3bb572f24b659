"""Compressibility and heat capacities from fluctuations, on series whose answer is known."""

import numpy as np
import pytest

from jaxcg.consistency.thermodynamics import (
    VolumeDerivatives,
    compressibility_from_structure,
    compressibility_from_virial,
    compressibility_from_volume,
    heat_capacity,
    heat_capacity_at_constant_pressure,
    thermal_expansion,
)
from jaxcg.units import GAS_CONSTANT

TEMPERATURE = 300.0
KT = GAS_CONSTANT * TEMPERATURE


def correlated(rng, shape, time=5.0):
    """Normal numbers of unit variance with correlation time ``time`` along the last axis."""
    decay = np.exp(-1 / time)
    out = np.empty(shape)
    out[..., 0] = rng.normal(size=shape[:-1])
    for t in range(1, shape[-1]):
        out[..., t] = decay * out[..., t - 1] + np.sqrt(1 - decay**2) * rng.normal(size=shape[:-1])
    return out


def pulls(estimates, truth):
    return np.array([(e.value - truth) / e.error for e in estimates])


def test_heat_capacity_of_harmonic_oscillators_with_calibrated_errors():
    """U of f harmonic coordinates: C_V = f R/2 + f R/2."""
    rng, f = np.random.default_rng(0), 20
    potential = 0.5 * KT * (correlated(rng, (100, f, 2000)) ** 2).sum(axis=1)
    found = [heat_capacity(u, TEMPERATURE, f) for u in potential]
    z = pulls(found, f * GAS_CONSTANT)
    assert 0.75 < z.std() < 1.3
    assert abs(z.mean()) < 0.5
    assert found[0].effective_sample_size < 2000


def test_ideal_gas_at_constant_pressure():
    """V ~ Γ(N + 1): κ = 1/p, C_p = f R/2 + (N + 1) R, α = 1/T."""
    rng, count, pressure = np.random.default_rng(1), 30, 0.5
    volumes = rng.gamma(count + 1, KT / pressure, size=40_000)
    nothing = np.zeros_like(volumes)
    kappa = compressibility_from_volume(volumes, TEMPERATURE)
    assert abs(kappa.value - 1 / pressure) < 4 * kappa.error < 0.2 / pressure
    heat = heat_capacity_at_constant_pressure(nothing, volumes, pressure, TEMPERATURE, 3 * count)
    assert abs(heat.value - (1.5 * count + count + 1) * GAS_CONSTANT) < 4 * heat.error
    alpha = thermal_expansion(nothing, volumes, pressure, TEMPERATURE)
    assert abs(alpha.value - 1 / TEMPERATURE) < 4 * alpha.error < 0.2 / TEMPERATURE


def test_virial_fluctuations_of_a_linear_system():
    """Σ ½ k (V^a x_i)² : u′ = 2a u, u″ = 4a² u, and V^a x is normal, so 1/κ = (N kT − 2a·½f kT)/V … exactly.

    With u = ½ Σ k V^{2a} x²: ⟨u′⟩ = a f kT, ⟨u″⟩ = 2a² f kT, Var(u′)/kT = 2a² f kT; so 1/κ = (N − a f) kT/V.
    """
    rng, f, a, count, volume = np.random.default_rng(2), 12, -0.3, 10, 7.0
    u = 0.5 * KT * (rng.normal(size=(100_000, f)) ** 2).sum(axis=1)
    found = compressibility_from_virial(VolumeDerivatives(2 * a * u, 4 * a**2 * u), count, volume, TEMPERATURE)
    expected = volume / ((count - a * f) * KT)
    assert abs(found.value - expected) < 4 * found.error < 0.1 * expected
    gas = compressibility_from_virial(VolumeDerivatives(np.zeros(8), np.zeros(8)), count, volume, TEMPERATURE)
    np.testing.assert_allclose(gas.value, volume / (count * KT))


def test_compressibility_from_the_structure_factor():
    rng = np.random.default_rng(3)
    q = np.repeat(np.sqrt([1.0, 2, 3, 4, 5, 6, 8, 9]), 3)
    errors = np.full(len(q), 0.002)
    found = []
    for _ in range(200):
        s = 0.06 + 0.01 * q**2 + 0.001 * q**4 * (q > 2.5) + errors * rng.normal(size=len(q))
        found.append(compressibility_from_structure(q, s, errors, density=33.0, temperature=TEMPERATURE))
    z = pulls(found, 0.06 / (33.0 * KT))
    assert z.std() == pytest.approx(1, abs=0.2)
    assert abs(z.mean()) < 4 / np.sqrt(200)
    with pytest.raises(ValueError, match="fewer than three"):
        compressibility_from_structure(q, q, errors, density=33.0, temperature=TEMPERATURE, largest=1.5)

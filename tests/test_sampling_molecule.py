"""Sampling a real molecule: alanine dipeptide on the fibre of three centres of mass."""

import jax
import numpy as np
import pytest
from alanine_fibre import DIMENSION, alanine_fibre

from jaxcg.sampling import sample
from jaxcg.units import GAS_CONSTANT


@pytest.mark.slow
def test_alanine_dipeptide():
    problem = alanine_fibre()
    with jax.enable_x64(True):
        posterior = problem.posterior(np.float32)
        start = problem.starts(4)
        result = sample(posterior, start, jax.random.key(0), samples=80, masses=problem.masses, thin=2, steps=20)
        mapping = posterior.mapping
    assert result.dimension == DIMENSION
    assert result.trace.shape == (4, 40)
    assert 0.65 < result.acceptance.mean() < 0.95
    assert result.burn_in_temperature.mean() == pytest.approx(300, rel=0.1)
    np.testing.assert_allclose(
        np.einsum("ij,sjk->sik", mapping.matrix().toarray(), result.positions),
        np.broadcast_to(np.asarray(posterior.y, np.float64), (80, 3, 3)),
        atol=1e-12,
    )
    for x, energy in zip(result.positions[::16], result.energies[::16], strict=True):
        assert energy == pytest.approx(problem.openmm_energy(x), abs=0.02)  # the samples' coordinates are float32
    # The typical set lies d/2 kT above the minimum; torsions make the well softer than harmonic by little.
    excess = (result.trace.mean() - result.start_potentials.mean()) / (0.5 * DIMENSION * GAS_CONSTANT * 300)
    assert excess == pytest.approx(1, abs=0.12)
    # Nothing turned inside out.
    center, a, b, c = (result.positions[:, i] for i in (8, 6, 14, 10))
    volume = np.einsum("si,si->s", a - center, np.cross(b - center, c - center))
    assert np.all(np.abs(volume) > 1e-3)
    assert np.ptp(np.sign(volume)) == 0

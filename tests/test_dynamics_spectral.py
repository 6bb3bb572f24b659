"""Spectral densities and baths: J(ω) → Γ(t) → J(ω), by closed forms, quadrature and finite baths."""

import jax
import numpy as np
import pytest

from jaxcg.dynamics import (
    BrownianOscillator,
    DrudeLorentz,
    PowerLaw,
    TabulatedSpectralDensity,
    cosine_transform,
    discretize,
    spectral_density,
)

TIMES = np.linspace(0, 4, 6)
DENSITIES = {
    "drude": lambda: DrudeLorentz(2.0, 3.0),
    "ohmic": lambda: PowerLaw(2.0, 3.0),
    "super-ohmic": lambda: PowerLaw(2.0, 3.0, 2.5),
    "sub-ohmic": lambda: PowerLaw(2.0, 3.0, 0.6),
    "underdamped": lambda: BrownianOscillator(2.0, 3.0, 0.5),
    "critical": lambda: BrownianOscillator(2.0, 3.0, 6.0),
    "overdamped": lambda: BrownianOscillator(2.0, 3.0, 9.0),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_the_kernel_is_the_cosine_transform(x64, name):
    density = DENSITIES[name]()
    reduced = jax.jit(lambda w: density.reduced(w))
    values, errors = cosine_transform(lambda w: float(reduced(max(w, 1e-300))), TIMES, tolerance=1e-7)
    assert errors.max() < 1e-6
    np.testing.assert_allclose(density.memory_kernel(TIMES), values, atol=2e-7)
    assert density.reorganization_energy() == pytest.approx(0.5 * values[0], rel=1e-6)


@pytest.mark.parametrize("name", ["drude", "underdamped", "critical", "overdamped"])
def test_kernels_with_an_embedding_lead_back_to_the_density(x64, name):
    density = DENSITIES[name]()
    np.testing.assert_allclose(density.kernel()(TIMES), density.memory_kernel(TIMES), atol=1e-9)
    np.testing.assert_allclose(spectral_density(density.kernel(), TIMES), density(TIMES), rtol=1e-10, atol=1e-12)


def test_a_table_of_the_density_has_its_kernel(x64):
    density = DENSITIES["ohmic"]()
    omega = np.linspace(0, 90, 30001)
    table = TabulatedSpectralDensity(omega, density.reduced(omega))
    np.testing.assert_allclose(table.memory_kernel(TIMES), density.memory_kernel(TIMES), atol=2e-6)
    np.testing.assert_allclose(table(0.5 * (omega[5] + omega[6])), density(0.5 * (omega[5] + omega[6])), rtol=1e-6)
    # Segments that are long compared with a period, where the integral is oscillatory.
    coarse = TabulatedSpectralDensity([0.0, 2.0], [1.0, 0.0])
    t = 7.3
    exact = 2 / np.pi * (1 - np.cos(2 * t)) / (2 * t**2)
    np.testing.assert_allclose(coarse.memory_kernel(t), exact, rtol=1e-10)


def test_quadrature_that_cannot_be_done_is_said():
    with pytest.raises(ValueError, match="at t = 0 ps the error"):
        cosine_transform(lambda w: 1.0 / max(w, 1e-300), [0.0])


@pytest.mark.parametrize(("oscillators", "error"), [(200, 0.012), (1000, 0.0052)])
def test_finite_baths_of_evenly_spaced_frequencies(x64, oscillators, error):
    density, times = DrudeLorentz(1.0, 1.0), np.linspace(0, 10, 300)
    bath = discretize(density, oscillators, 4 * np.sqrt(oscillators))
    assert bath.error(density, times) < error
    # Root mean square, relative: the design's own figures.
    exact = np.asarray(density.memory_kernel(times))
    difference = np.asarray(bath.memory_kernel(times)) - exact
    assert np.sqrt(np.mean(difference**2)) < {200: 1.9e-3, 1000: 6.2e-4}[oscillators]
    assert bath.recurrence_time == pytest.approx(2 * np.pi * oscillators / (4 * np.sqrt(oscillators)))


@pytest.mark.parametrize(("rule", "error"), [("logarithmic", 0.02), ("equal", 0.06)])
def test_other_rules_for_the_frequencies(x64, rule, error):
    density = DrudeLorentz(1.0, 1.0)
    bath = discretize(density, 200, 1000.0, rule=rule)
    assert bath.error(density, np.linspace(0, 10, 300)) < error
    assert bath.recurrence_time > 400


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: DrudeLorentz(-1.0, 1.0), "friction -1 is not positive"),
        (lambda: PowerLaw(1.0, 1.0, 0.0), "exponent 0 is not positive"),
        (lambda: TabulatedSpectralDensity([0.0, 2.0, 1.0], [1.0, 1.0, 1.0]), "must increase"),
        (lambda: discretize(DrudeLorentz(1.0, 1.0), 0, 1.0), "at least one"),
        (lambda: discretize(DrudeLorentz(1.0, 1.0), 9, 1.0, rule="random"), "choose midpoint"),
    ],
)
def test_wrong_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()

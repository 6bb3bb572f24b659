"""Exact correlation functions of free and harmonic motion under a memory kernel."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import DeltaKernel, PassiveKernel, PronyKernel, SumKernel, TabulatedKernel, linear_correlations
from jaxcg.units import GAS_CONSTANT

#: kT = 1.
TEMPERATURE = 1 / GAS_CONSTANT


def test_free_motion_with_an_exponential_kernel(x64):
    strength, rate, times = 2.0, 3.0, jnp.linspace(0, 20, 50)
    found = linear_correlations(PronyKernel([strength], [rate]), 1.0, times, TEMPERATURE)
    one, two = np.roots([1, rate, strength])
    exact = ((one + rate) * np.exp(one * times) - (two + rate) * np.exp(two * times)) / (one - two)
    assert np.allclose(found.velocity, exact, atol=1e-13)
    assert found.position is None
    # Einstein: 2 D t, D = kT λ / c, and at short times (kT/m) t².
    slope = (found.displacement[-1] - found.displacement[-2]) / (times[1] - times[0])
    assert slope == pytest.approx(2 * rate / strength, rel=1e-6)
    early = linear_correlations(PronyKernel([strength], [rate]), 1.0, jnp.asarray([1e-6]), TEMPERATURE).displacement
    assert early[0] == pytest.approx(1e-12, rel=1e-9)


@pytest.mark.parametrize("t", [0.4, 3.0])
def test_harmonic_motion_is_the_inverse_of_its_laplace_transform(x64, t):
    # No. 3 of the closed forms: Ĉ_vv = (kT/m) s / (s² + ω² + s Γ̂/m), brought back by the sum of Abate and Whitt.
    mass, stiffness = 1.5, 2.0
    kernel = SumKernel(PassiveKernel([1.0, 0.5], [[0, 2.0], [0, 0]], [[0.3, 0], [0.1, 0.6]]), DeltaKernel(0.2))
    found = linear_correlations(kernel, mass, jnp.asarray([0.0, t]), TEMPERATURE, stiffness)

    def inverse(transform):
        terms, discretization = 40, 18.4
        s = (discretization + 2j * np.pi * np.arange(terms + 12)) / (2 * t)
        parts = np.asarray(transform(jnp.asarray(s))).real * (-1.0) ** np.arange(len(s))
        parts[0] /= 2
        partial = np.cumsum(parts)[terms:]
        weights = np.array([1, 11, 55, 165, 330, 462, 462, 330, 165, 55, 11, 1]) / 2048
        return np.exp(discretization / 2) / t * float(weights @ partial)

    def below(s):
        return s**2 + stiffness / mass + s * kernel.laplace(s) / mass

    assert found.velocity[1] == pytest.approx(inverse(lambda s: s / below(s) / mass), abs=1e-6)
    position = inverse(lambda s: (s + kernel.laplace(s) / mass) / below(s) / stiffness)
    assert found.position[1] == pytest.approx(position, abs=1e-6)
    assert found.displacement[1] == pytest.approx(2 * float(found.position[0] - found.position[1]), rel=1e-12)
    assert found.velocity[0] == pytest.approx(1 / mass)
    assert found.position[0] == pytest.approx(1 / stiffness)


def test_coupled_coordinates_of_equal_kernels_are_the_scalar_one(x64):
    kernel, times = PronyKernel([2.0], [1.0]), jnp.linspace(0, 3, 7)
    coupled = PassiveKernel(jnp.sqrt(2.0) * jnp.eye(2), jnp.zeros((2, 2)), jnp.eye(2))
    both = linear_correlations(coupled, jnp.asarray([1.0, 4.0]), times, TEMPERATURE, 3.0)
    for i, mass in enumerate((1.0, 4.0)):
        one = linear_correlations(kernel, mass, times, TEMPERATURE, 3.0)
        for name in ("velocity", "displacement", "position"):
            assert np.allclose(getattr(both, name)[:, i, i], getattr(one, name), atol=1e-12)
    assert np.allclose(both.velocity[:, 0, 1], 0, atol=1e-13)


def test_long_times_of_stiff_kernels_are_finite_and_precision_is_the_kernels():
    found = linear_correlations(PronyKernel([3e5, 1.0], [1e3, 1e-3]), 30.0, jnp.asarray([1.0, 1e4]), 300.0)
    assert found.velocity.dtype == jnp.float32
    assert np.isfinite(found.displacement).all()


def test_a_table_has_no_embedding():
    with pytest.raises(ValueError, match="no exact embedding"):
        linear_correlations(TabulatedKernel(jnp.ones(4), 0.1), 1.0, jnp.ones(2), 300.0)

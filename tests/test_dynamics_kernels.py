"""Memory kernels, their transforms, embeddings and passivity, against closed forms and quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.linalg import expm

from jaxcg.dynamics import (
    DeltaKernel,
    Embedding,
    PassiveKernel,
    PronyKernel,
    SumKernel,
    TabulatedKernel,
    is_positive_real,
)
from jaxcg.dynamics.kernels.passivity import require_positive_real

TIMES = np.linspace(0, 3, 7)


def oscillating(coordinates=None):
    rng = np.random.default_rng(1)
    shape = (3,) if coordinates is None else (3, coordinates)
    return PassiveKernel(rng.normal(size=shape), 2 * rng.normal(size=(3, 3)), rng.normal(size=(3, 3)))


def tabulated():
    t = np.arange(200) * 0.05
    return TabulatedKernel(np.exp(-t) * np.cos(2 * t), 0.05)


@pytest.mark.parametrize("make", [lambda: PronyKernel([2.0, 1.0], [1.0, 5.0]), oscillating, tabulated])
def test_laplace_transform_is_that_of_the_kernel(x64, make):
    kernel = make()
    # Gauss-Legendre on panels that end where a table has its corners.
    end = 9.95 if isinstance(kernel, TabulatedKernel) else 60.0
    edges = np.linspace(0, end, 200)
    nodes, weights = np.polynomial.legendre.leggauss(12)
    half = 0.5 * np.diff(edges)[:, None]
    t = (half * nodes + edges[:-1, None] + half).ravel()
    value = np.asarray(kernel(jnp.asarray(t))) * (half * weights).ravel()
    for s in (0.0, 0.7, 0.3 + 1.1j):
        np.testing.assert_allclose(kernel.laplace(jnp.asarray(s)), value @ np.exp(-s * t), atol=1e-8)
    assert kernel.total_friction() == pytest.approx(float(kernel.laplace(jnp.zeros(())).real))


def test_a_table_interpolates_and_ends(x64):
    kernel = TabulatedKernel([2.0, 1.0, 4.0], 0.5)
    np.testing.assert_allclose(kernel(jnp.asarray([0.0, 0.25, 0.5, 0.75, 1.0, 1.01])), [2, 1.5, 1, 2.5, 4, 0])
    # The transform near zero frequency, where its closed form cancels, joins that of larger ones.
    s = jnp.asarray([1e-9, 0.59, 0.61])
    first, second = 0.5 * (2 + 1) / 2 + 0.5 * (1 + 4) / 2, kernel.laplace(s)
    np.testing.assert_allclose(second[0], first, rtol=1e-8)
    exact = [
        quad(lambda t, s=s: float(kernel(jnp.asarray(t))) * np.exp(-s * t), 0, 1, points=[0.5])[0] for s in (0.59, 0.61)
    ]
    np.testing.assert_allclose(second[1:], exact, rtol=1e-9)


@pytest.mark.parametrize("coordinates", [None, 2])
def test_passive_kernels_are_positive_real_for_any_parameters(x64, coordinates):
    kernel = oscillating(coordinates)
    assert is_positive_real(kernel)
    spectrum = kernel.spectrum(jnp.linspace(0, 20, 50))
    if coordinates is None:
        assert (spectrum >= 0).all()
    else:
        assert np.linalg.eigvalsh(spectrum).min() >= -1e-12
        assert kernel(jnp.asarray(TIMES)).shape == (7, 2, 2)


def test_a_kernel_without_a_noise_is_named_with_its_frequency(x64):
    kernel = PronyKernel([2.0, -1.9], [1.0, 0.5])  # Γ̂(0) = 2 − 3.8
    found = is_positive_real(kernel)
    assert not found
    assert found.spectrum == pytest.approx(-3.6)
    assert found.frequency == 0
    with pytest.raises(ValueError, match=r"not positive-real: its spectrum is -3.6 amu/ps at ω = 0"):
        require_positive_real(kernel, "test")
    assert is_positive_real(PronyKernel([2.0, -0.3], [1.0, 0.5]))


@pytest.mark.parametrize(
    "kernel",
    [
        lambda: PronyKernel([2.0, 1.0], [1.0, 5.0]),
        oscillating,
        lambda: oscillating(2),
        lambda: SumKernel(PronyKernel([2.0], [1.0]), oscillating(), DeltaKernel(0.3)),
    ],
)
def test_the_embedding_has_the_kernel(x64, kernel):
    kernel = kernel()
    embedding = Embedding.of(kernel)
    a, s = np.asarray(embedding.couplings), np.asarray(embedding.drift)
    value = np.stack([a.T @ expm(-s * t) @ a for t in TIMES])
    expected = np.asarray(kernel(jnp.asarray(TIMES)))
    np.testing.assert_allclose(value[:, 0, 0] if expected.ndim == 1 else value, expected, atol=1e-12)
    assert np.linalg.eigvalsh(s + s.T).min() >= -1e-12


def test_the_joint_step_keeps_the_equilibrium(x64):
    embedding = Embedding.of(SumKernel(oscillating(), DeltaKernel(0.2)))
    for dt in (1e-3, 0.1, 3.0):
        step, noise = (np.asarray(m) for m in embedding.propagator(2.0, dt))
        np.testing.assert_allclose(step @ step.T + noise @ noise.T, np.eye(4), atol=1e-13)
    half, _ = embedding.propagator(2.0, 0.05)
    whole, _ = embedding.propagator(2.0, 0.1)
    np.testing.assert_allclose(half @ half, whole, atol=1e-13)


def test_gradients_reach_through_the_propagator(x64):
    @jax.jit
    def scalar(rate, dt=0.1):
        step, noise = Embedding.of(PronyKernel([2.0, 1.0], rate)).propagator(1.5, dt)
        return (
            jnp.sum(jnp.sin(step)) + jnp.sum(jnp.arange(9.0).reshape(3, 3) * noise @ noise) + noise[1, 2] * noise[0, 1]
        )

    rate, h = jnp.asarray([1.0, 5.0]), 1e-5
    gradient = jax.jit(jax.grad(scalar))(rate)
    for i in range(2):
        change = (scalar(rate.at[i].add(h)) - scalar(rate.at[i].add(-h))) / (2 * h)
        assert gradient[i] == pytest.approx(float(change), rel=1e-6)
    # Equal rates: equal eigenvalues of the noise covariance must not give NaN.
    assert np.isfinite(jax.grad(scalar)(jnp.asarray([2.0, 2.0]))).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: PronyKernel([1.0], [-2.0]), "rate -2 is not positive"),
        (lambda: PronyKernel([1.0, 2.0], [1.0]), "equal length"),
        (lambda: PassiveKernel([1.0], np.zeros((2, 2)), np.eye(2)), "do not fit"),
        (lambda: TabulatedKernel([1.0], 0.1), "two or more values"),
        (lambda: TabulatedKernel([1.0, 0.5], 0.0), "spacing 0 is not positive"),
        (lambda: SumKernel(PronyKernel([1.0], [1.0]), oscillating(2)), "same number of coordinates"),
        (lambda: DeltaKernel([1.0, 2.0]), "number or a square matrix"),
        (lambda: Embedding.of(PronyKernel([1.0, -0.1], [1.0, 2.0])), "negative strength"),
        (lambda: Embedding.of(TabulatedKernel([1.0, 0.5], 0.1)), "no exact embedding"),
    ],
)
def test_wrong_input_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()

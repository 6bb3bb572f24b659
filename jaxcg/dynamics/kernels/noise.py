"""Coloured noise with ⟨η(t) η(0)ᵀ⟩ = kT Γ(t): of any kernel at once, or step by step from auxiliary variables."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm

from ...typing import Array, PRNGKeyArray
from ...units import GAS_CONSTANT
from .embedding import Embedding, noise_factor
from .forms import AbstractMemoryKernel

#: Negative eigenvalues of a covariance that pass for round-off; how often it may be made longer to be rid of others.
_ROUND_OFF, _DOUBLINGS = 1e-7, 6


def colored_noise(
    kernel: AbstractMemoryKernel,
    key: PRNGKeyArray,
    steps: int,
    time_step: float,
    temperature: float,
    *,
    shape: tuple[int, ...] = (),
) -> Array:
    """Gaussian noise with exactly the covariance kT Γ(n Δt), by circulant embedding; friction adds white noise.

    Arguments:
        kernel: scalar kernel whose spectrum is not negative.
        key: random key.
        steps: length.
        time_step: Δt, ps.
        temperature: K.
        shape: of independent copies.

    Returns:
        (steps, *shape), kJ/mol/nm.

    Raises:
        ValueError: the kernel is matrix-valued, or no noise has this covariance: the message names the frequency.

    Source: Dietrich & Newsam, SIAM J. Sci. Comput. 18, 1088 (1997).
    """
    if kernel.coordinates is not None:
        raise ValueError("colored_noise: a matrix-valued kernel needs auxiliary variables; use PassiveKernel and GLE.")
    thermal_energy = GAS_CONSTANT * temperature
    length = max(steps, 2)
    for _ in range(_DOUBLINGS):
        covariance = np.asarray(thermal_energy * kernel(time_step * jnp.arange(length + 1)), np.float64)
        eigenvalues = np.fft.rfft(np.concatenate([covariance, covariance[-2:0:-1]])).real
        worst = int(eigenvalues.argmin())
        if eigenvalues[worst] >= -_ROUND_OFF * eigenvalues.max():
            break
        length *= 2
    else:
        omega = 2 * np.pi * worst / (2 * length * time_step)
        raise ValueError(
            f"colored_noise: the spectrum of the kernel is negative at ω = {omega:.4g} 1/ps, no noise has it; fit a "
            "PassiveKernel to the kernel, or continue a table until it has decayed."
        )
    dtype = jnp.zeros(()).dtype
    root = jnp.asarray(np.sqrt(np.maximum(eigenvalues, 0.0)), dtype).reshape(-1, *(1,) * len(shape))
    first, second = jax.random.split(key)
    # White noise, transformed, scaled and transformed back: a stationary periodic sequence of which a part is used.
    white = jax.random.normal(first, (2 * length, *shape), dtype)
    noise = jnp.fft.irfft(root * jnp.fft.rfft(white, axis=0), 2 * length, axis=0)[:steps]
    strength = jnp.sqrt(2 * thermal_energy * jnp.asarray(kernel.friction, dtype) / time_step)
    return noise + strength * jax.random.normal(second, noise.shape, dtype)


def auxiliary_noise(
    kernel: AbstractMemoryKernel | Embedding,
    key: PRNGKeyArray,
    steps: int,
    time_step: float,
    temperature: float,
    *,
    shape: tuple[int, ...] = (),
) -> Array:
    """The same noise from the auxiliary variables of a kernel, which make it step by step, and of matrices too.

    The variables are an Ornstein-Uhlenbeck process that is in equilibrium from the start, and taken from frame to frame
    exactly: the covariance is kT Γ(n Δt) for every Δt. A delta function adds white noise.

    Arguments:
        kernel: one with an exact embedding, or the embedding.
        key: random key.
        steps: length.
        time_step: Δt, ps.
        temperature: K.
        shape: of independent copies.

    Returns:
        (steps, *shape), kJ/mol/nm; (steps, *shape, coordinates) for a matrix-valued kernel.

    Raises:
        ValueError: the kernel has no exact embedding.

    Source: Ceriotti, Bussi & Parrinello, J. Chem. Theory Comput. 6, 1170 (2010).
    """
    embedding = kernel if isinstance(kernel, Embedding) else Embedding.of(kernel)
    couplings = embedding.couplings
    dtype, root = couplings.dtype, np.sqrt(GAS_CONSTANT * temperature)
    decay = expm(-time_step * embedding.drift)
    kick = noise_factor(decay)
    first, second, third = jax.random.split(key, 3)
    start = jax.random.normal(first, (*shape, embedding.auxiliaries), dtype)

    def step(s, number):
        white = jax.random.normal(jax.random.fold_in(second, number), s.shape, dtype)
        after = jnp.matmul(s, decay.T, precision="highest") + jnp.matmul(white, kick.T, precision="highest")
        return after, s

    states = jax.lax.scan(step, start, jnp.arange(steps))[1]
    noise = -root * jnp.matmul(states, couplings, precision="highest")
    white = jax.random.normal(third, noise.shape, dtype)
    strength = _root(2 / time_step * embedding.friction)
    noise = noise + root * jnp.matmul(white, strength, precision="highest")
    return noise[..., 0] if embedding.scalar else noise


def _root(matrix: Array) -> Array:
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0))) @ vectors.T

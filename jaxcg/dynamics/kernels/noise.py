"""Coloured noise with ⟨η(t) η(0)⟩ = kT Γ(t)."""

import jax
import jax.numpy as jnp
import numpy as np

from ...typing import Array, PRNGKeyArray
from ...units import GAS_CONSTANT
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

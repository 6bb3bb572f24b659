"""Coloured noise with ⟨η(t) η(0)⟩ = kT Γ(t), and the test of that relation on anybody's noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2

from ..typing import Array, PRNGKeyArray
from ..units import GAS_CONSTANT
from .correlation import Correlation
from .kernels import AbstractMemoryKernel

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


class FluctuationDissipation(NamedTuple):
    """Result of `fluctuation_dissipation_test`.

    Fields:
        lags: (lags,) ps.
        measured: ⟨η(t) η(0)⟩, (lags,).
        expected: kT Γ(t), (lags,).
        error: standard error of ``measured``, (lags,).
        p_value: of the hypothesis that the two agree (Hotelling's test on a few lags); below 0.01: they do not.
    """

    lags: np.ndarray
    measured: np.ndarray
    expected: np.ndarray
    error: np.ndarray
    p_value: float


def fluctuation_dissipation_test(
    noise: Array, kernel: AbstractMemoryKernel, time_step: float, temperature: float, *, lags: int, points: int = 8
) -> FluctuationDissipation:
    """The second fluctuation-dissipation theorem, ⟨η(t) η(0)⟩ = kT Γ(t), on a noise with error bars.

    Arguments:
        noise: (trajectories, frames) random force, kJ/mol/nm, of at least 20 independent trajectories (or blocks much
            longer than the memory).
        kernel: scalar kernel; its delta function, if any, must be left out of both.
        time_step: between frames, ps.
        temperature: K.
        lags: number of lags, from 0.
        points: lags that enter the test, spread evenly.

    Raises:
        ValueError: too few trajectories for an error bar.
    """
    noise = jnp.asarray(noise)
    if noise.ndim != 2 or noise.shape[0] < max(20, 2 * points):
        raise ValueError(
            f"fluctuation_dissipation_test: noise of shape {noise.shape}; give (trajectories, frames) with at least "
            f"{max(20, 2 * points)} trajectories, or cut a long one into blocks."
        )
    each = jax.vmap(lambda one: Correlation.start(lags, 1, dtype=noise.dtype).update(one, one).value()[:, 0, 0])(
        noise[:, None, :, None]
    )
    each = np.asarray(each, np.float64)
    times = time_step * np.arange(lags)
    expected = GAS_CONSTANT * temperature * np.asarray(kernel(jnp.asarray(times)), np.float64)
    measured, error = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(len(each))
    chosen = np.unique(np.linspace(0, lags - 1, points).astype(int))
    difference = (measured - expected)[chosen]
    covariance = np.cov(each[:, chosen].T) / len(each)
    statistic = float(difference @ np.linalg.solve(np.atleast_2d(covariance), difference))
    return FluctuationDissipation(times, measured, expected, error, float(chi2.sf(statistic, len(chosen))))

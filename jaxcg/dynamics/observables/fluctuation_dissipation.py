"""The second fluctuation-dissipation theorem, ⟨η(t) η(0)⟩ = kT Γ(t), tested on anybody's noise."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import chi2

from ...typing import Array
from ...units import GAS_CONSTANT
from ..extraction.correlation import Correlation
from ..kernels.forms import AbstractMemoryKernel


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

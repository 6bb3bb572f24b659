"""Curves of a fitted memory kernel for page and files, all from one compiled call."""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..io.dynamics.trajectory_memory import MemoryAnalysis

#: How many points a curve is drawn with, at most, and frequencies of a spectrum.
POINTS, _FREQUENCIES = 500, 300


@dataclass(frozen=True)
class FitCurves:
    """A passive fit beside the kernel it was made for.

    Fields:
        kernel: (times,) at the times of the analysis, amu/ps².
        friction: its total friction, amu/ps.
        rows: which of the times of the extracted integral are drawn.
        integral: ∫₀ᵗ of the fit at these, amu/ps.
        omega: (frequencies,) 1/ps.
        spectrum, data_spectrum: Re Γ̂(iω) of fit and data, amu/ps.
    """

    kernel: np.ndarray
    friction: float
    rows: np.ndarray
    integral: np.ndarray
    omega: np.ndarray
    spectrum: np.ndarray
    data_spectrum: np.ndarray


def fit_curves(found: MemoryAnalysis) -> FitCurves:
    """The curves of an analysis; integrals by Gauss's rule of eight points between the times drawn."""
    ends = np.asarray(found.memory.extracted.times)
    rows = thin(len(ends))
    nodes, weights = np.polynomial.legendre.leggauss(8)
    edges = np.concatenate([[0.0], ends[rows]])
    half = 0.5 * np.diff(edges)
    points = (edges[:-1, None] + half[:, None] * (1 + nodes)).ravel()
    omega = np.geomspace(0.5 / found.times[-1], np.pi / found.series.spacing, _FREQUENCIES)
    values, fitted, data = _evaluate(
        found.fit.kernel,
        found.memory.extracted.kernel,
        jnp.asarray(np.concatenate([found.times, points])),
        jnp.asarray(np.append(0.0, omega)),
    )
    values, fitted = np.asarray(values), np.asarray(fitted)
    count = len(found.times)
    return FitCurves(
        kernel=values[:count],
        friction=float(fitted[0]),
        rows=rows,
        integral=np.cumsum(half * (values[count:].reshape(-1, len(nodes)) @ weights)),
        omega=omega,
        spectrum=fitted[1:],
        data_spectrum=np.asarray(data)[1:],
    )


@eqx.filter_jit
def _evaluate(fitted, extracted, times, omega):
    return fitted(times), fitted.laplace(1j * omega).real, extracted.laplace(1j * omega).real


def thin(count: int) -> np.ndarray:
    """Some of so many indices: the first hundred, then ever sparser."""
    if count <= POINTS:
        return np.arange(count)
    return np.unique(np.concatenate([np.arange(100), np.geomspace(100, count - 1, POINTS - 100).astype(int)]))

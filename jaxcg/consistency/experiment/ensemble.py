"""Observables of every frame of an ensemble, their averages with errors, and functions of the averages."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...sampling.estimators.monte_carlo import over_draws
from ...typing import Array
from ..statistics import Estimate, block_average

#: Frames (frames, atoms, 3) of one run, nm, or a list of such arrays from independent runs.
Frames = Any


def observe(observable: Callable[[Array], Any], frames: Frames) -> Any:
    """An observable of every frame, in blocks of bounded memory.

    Arguments:
        observable: a function of positions (atoms, 3) in nm that returns an array, such as the modules of this room.
        frames: (frames, atoms, 3) nm in the order of time, molecules whole.

    Returns:
        (frames, ...) float64; for a list of runs a list of such arrays.

    Raises:
        ValueError: no frames, or an observable that is not finite; the frame is named.
    """
    if isinstance(frames, list | tuple):
        return [observe(observable, run) for run in frames]
    if frames.ndim != 3 or frames.shape[-1] != 3 or len(frames) == 0:
        raise ValueError(f"observe: frames have shape {tuple(frames.shape)}, expected (frames, atoms, 3), one or more.")
    bad = np.flatnonzero(~np.isfinite(np.asarray(frames)).all(axis=(1, 2)))
    if bad.size:
        raise ValueError(f"observe: frame {bad[0]} is not finite ({bad.size} of {len(frames)}); leave such frames out.")
    return jax.tree.map(lambda leaf: leaf[0], over_draws(_call, observable, frames[None], "observe"))


def ensemble_average(observable: Callable[[Array], Any], frames: Frames) -> Estimate:
    """Average of an observable over an ensemble, with the error of a correlated series.

    Arguments:
        observable, frames: as in `observe`.

    Returns:
        The `Estimate`, of the shape of the observable.

    Raises:
        ValueError: as `observe`.
    """
    return block_average(observe(observable, frames))


def function_of_averages(function: Callable[[Array], Array], series: Any) -> Estimate:
    """A function of averages with its error, to first order in the errors: (⟨r⁻⁶⟩)^(−1/6) from the series of r⁻⁶.

    Arguments:
        function: differentiable, of an array of averages; returns an array.
        series: (frames, ...) in the order of time, or a list of runs.

    Returns:
        The `Estimate`, of the shape of what the function returns; its effective sample size is that of the linearised
        function. The value is the function of the averages: a curved function makes it biased by half its curvature
        times the squared error.

    Raises:
        ValueError: as `block_average`.
    """
    runs = [np.asarray(run, np.float64) for run in _runs(series)]
    mean = np.concatenate(runs).mean(axis=0)
    value, slope = value_and_slope(function, mean)
    influence = [
        np.tensordot(run - mean, slope, axes=(range(1, run.ndim), range(value.ndim, slope.ndim))) for run in runs
    ]
    change = block_average(influence)
    return Estimate(value if value.ndim else float(value), change.error, change.effective_sample_size)


def value_and_slope(function: Callable[[Array], Array], mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``function(mean)`` and its Jacobian, in NumPy."""
    point = jnp.asarray(mean)
    return np.asarray(function(point), np.float64), np.asarray(jax.jacrev(function)(point), np.float64)


def _runs(series) -> Sequence[np.ndarray]:
    return series if isinstance(series, list | tuple) else [series]


def _call(observable, x):
    return observable(x)

"""Functions of several averages of one run, with errors."""

from collections.abc import Callable

import numpy as np

from ..statistics import Estimate, block_average


def function_of_averages(function: Callable, series: tuple[np.ndarray, ...]) -> Estimate:
    """``function`` of the averages of several series of the same frames, with its error.

    The error is that of the average of the series Σ_i (∂f/∂a_i) a_i(t): correlations between the series and in time
    are in it. Right to first order in the scatter of the averages.

    Arguments:
        function: takes a tuple of averages, returns a number; smooth.
        series: each (frames,), in the order of time.

    Source: the linearised (infinitesimal jackknife) error; Flyvbjerg & Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    averages = np.array([np.mean(s, dtype=np.float64) for s in series])
    slopes = np.zeros(len(averages))
    for i, s in enumerate(series):
        step = 1e-4 * max(float(np.std(s)), 1e-12 * abs(averages[i]), 1e-300)
        ahead, back = averages.copy(), averages.copy()
        ahead[i] += step
        back[i] -= step
        slopes[i] = (function(tuple(ahead)) - function(tuple(back))) / (ahead[i] - back[i])
    value = function(tuple(averages))
    influence = sum(
        slope * (np.asarray(s, np.float64) - a) for slope, s, a in zip(slopes, series, averages, strict=True)
    )
    found = block_average(influence)
    return Estimate(float(value), found.error, found.effective_sample_size)

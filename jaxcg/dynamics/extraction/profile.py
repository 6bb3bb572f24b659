"""Free-energy profiles from positions: the potential of mean force of a coordinate, as a smooth energy."""

from typing import Any

import numpy as np
from scipy.interpolate import make_smoothing_spline
from scipy.special import logsumexp

from ...energy.coordinate import SplinePotential
from ...units import GAS_CONSTANT

#: Samples below which a bin says nothing, and bins below which there is no profile.
_FEWEST, _LEAST_BINS = 5, 8
#: Stretches left out in turn, and the smoothings to choose from.
_STRETCHES, _SMOOTHINGS = 8, 10.0 ** np.arange(-4, 6.5, 0.5)


def free_energy_profile(
    positions, temperature: float, *, bins: int = 60, points: int = 200, smoothing: float | None = None
) -> SplinePotential:
    """u(x) = −kT log p(x) of a coordinate, as a smoothing spline through a histogram, weighted by its counts.

    The smoothing is chosen by cross-validation unless given: consecutive stretches of the positions are left out in
    turn, and the smoothing that makes them most likely is taken. Stretches, because neighbouring frames, and so the
    errors of neighbouring bins, are correlated: criteria that take them for independent believe the noise. Beyond the
    positions visited the potential goes on as a parabola that confines.

    Arguments:
        positions: positions of any shape, nm, from equilibrium; flattened, stretches of trajectories in order.
        temperature: K.
        bins: of the histogram, over the range visited.
        points: of the spline's table.
        smoothing: weight of the squared second derivative, lengths counted in bins; None chooses it.

    Raises:
        ValueError: too few positions, or positions that are not finite.

    Source: Wahba, Spline Models for Observational Data (SIAM, 1990), for smoothing splines; Burman, Chow & Nolan,
    Biometrika 81, 351 (1994), for leaving out blocks of dependent data.
    """
    x = np.asarray(positions, np.float64).ravel()
    if len(x) < 20 * _FEWEST or not np.isfinite(x).all() or np.ptp(x) == 0:
        raise ValueError(f"free_energy_profile: {len(x)} positions; give many more, all finite and not all equal.")
    counts, edges = np.histogram(x, bins=bins)
    centers = 0.5 * (edges[1:] + edges[:-1])
    known = counts >= _FEWEST
    if known.sum() < _LEAST_BINS:
        raise ValueError(
            f"free_energy_profile: only {known.sum()} bins hold {_FEWEST} or more positions; use fewer bins."
        )
    thermal_energy = GAS_CONSTANT * temperature
    if smoothing is None:
        stretches = np.array([np.histogram(part, edges)[0] for part in np.array_split(x, _STRETCHES)])
        smoothing = _chosen_smoothing(stretches)
    place, spline = _smooth(counts, smoothing)
    grid = np.linspace(centers[known][0], centers[known][-1], points)
    values = thermal_energy * spline(np.linspace(place[0], place[-1], points))
    confining = thermal_energy / float(np.var(x))
    return SplinePotential(grid, values - values.min(), least_curvature=confining)


def _smooth(counts: np.ndarray, smoothing: float) -> tuple[np.ndarray, Any]:
    """The bins that count, and −log of their counts as a spline of their number."""
    place = np.flatnonzero(counts >= _FEWEST).astype(np.float64)
    known = counts[counts >= _FEWEST]
    # The variance of log n is about 1/n; weights are relative. Lengths are counted in bins, so that the smoothings to
    # look among do not depend on units.
    return place, make_smoothing_spline(place, -np.log(known), w=known / counts.max(), lam=smoothing)


def _chosen_smoothing(stretches: np.ndarray) -> float:
    """The strongest smoothing whose left-out likelihood is within one standard error of the best.

    Source: Hastie, Tibshirani & Friedman, The Elements of Statistical Learning (Springer, 2009), 7.10.
    """
    likelihoods = np.array([_left_out_likelihoods(stretches, smoothing) for smoothing in _SMOOTHINGS])
    short = likelihoods[np.argmax(likelihoods.sum(axis=1))] - likelihoods
    error = np.std(short, axis=1, ddof=1) * np.sqrt(short.shape[1])
    return float(_SMOOTHINGS[np.flatnonzero(short.sum(axis=1) <= error)[-1]])


def _left_out_likelihoods(stretches: np.ndarray, smoothing: float) -> np.ndarray:
    """Log-likelihood of each of the stretches (stretches, bins) under the profile of all the others."""
    whole = stretches.sum(axis=0)
    place = np.flatnonzero(whole >= _FEWEST)
    bins = np.arange(place[0], place[-1] + 1)
    found = np.zeros(len(stretches))
    for number, left_out in enumerate(stretches):
        if np.sum(whole - left_out >= _FEWEST) >= _LEAST_BINS:
            log_share = -_smooth(whole - left_out, smoothing)[1](bins)
            found[number] = np.sum(left_out[bins] * (log_share - logsumexp(log_share)))
    return found

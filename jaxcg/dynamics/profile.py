"""Free-energy profiles from positions: the potential of mean force of a coordinate, as a smooth energy."""

import numpy as np
from scipy.interpolate import make_smoothing_spline

from ..energy.coordinate import SplinePotential
from ..units import GAS_CONSTANT

#: Samples below which a bin says nothing.
_FEWEST = 5


def free_energy_profile(
    positions, temperature: float, *, bins: int = 60, points: int = 200, smoothing: float | None = None
) -> SplinePotential:
    """u(x) = −kT log p(x) of a coordinate, as a smoothing spline through a histogram, weighted by its counts.

    The smoothing is chosen by generalised cross-validation unless given. Beyond the positions visited the potential
    goes on as a parabola that confines.

    Arguments:
        positions: positions of any shape, nm, from equilibrium.
        temperature: K.
        bins: of the histogram, over the range visited.
        points: of the spline's table.
        smoothing: weight of the squared second derivative, lengths counted in bins; None chooses it.

    Raises:
        ValueError: too few positions, or positions that are not finite.

    Source: Wahba, Spline Models for Observational Data (SIAM, 1990), for the cross-validation.
    """
    x = np.asarray(positions, np.float64).ravel()
    if len(x) < 20 * _FEWEST or not np.isfinite(x).all() or np.ptp(x) == 0:
        raise ValueError(f"free_energy_profile: {len(x)} positions; give many more, all finite and not all equal.")
    counts, edges = np.histogram(x, bins=bins)
    centers, width = 0.5 * (edges[1:] + edges[:-1]), edges[1] - edges[0]
    known = counts >= _FEWEST
    if known.sum() < 8:
        raise ValueError(
            f"free_energy_profile: only {known.sum()} bins hold {_FEWEST} or more positions; use fewer bins."
        )
    thermal_energy = GAS_CONSTANT * temperature
    energy = -thermal_energy * np.log(counts[known] / (len(x) * width))
    # The variance of log n is about 1/n; weights are relative, so correlated frames do not matter. Lengths are counted
    # in bins: the search for the smoothing looks among numbers of order one.
    place = np.flatnonzero(known).astype(np.float64)
    spline = make_smoothing_spline(place, energy, w=counts[known] / counts.max(), lam=smoothing)
    grid = np.linspace(centers[known][0], centers[known][-1], points)
    values = spline(np.linspace(place[0], place[-1], points))
    confining = thermal_energy / float(np.var(x))
    return SplinePotential(grid, values - values.min(), least_curvature=confining)

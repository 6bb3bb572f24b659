"""Free-energy profiles from positions: the potential of mean force of a coordinate, as a smooth energy."""

from dataclasses import dataclass
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
#: Cells over which mean forces are averaged where only their fluctuations matter.
_CELLS = 40
#: Share of the smoothing that is left for averages of forces.
_LESS = 0.01


@dataclass(frozen=True)
class EstimatedProfile:
    """A free-energy profile and how it was made, so that it can be made again from other counts.

    Fields:
        potential: the profile.
        rough: the same with a hundredth of the smoothing, for averages of forces: their noise averages out where the
            bias of a smooth profile, too flat at wells and barriers, stays.
        temperature: K.
        edges: (bins + 1,) of the histogram, nm; of one turn where the coordinate is periodic.
        turns: how often the histogram is repeated; one where the coordinate is not periodic.
        period: nm, or None.
        smoothing: weight of the squared second derivative in ``rough``, lengths counted in bins.
        boundaries: (cells + 1,) of the cells that mean forces are averaged over, in numbers of bins.
    """

    potential: SplinePotential
    rough: SplinePotential
    temperature: float
    edges: np.ndarray
    turns: int
    period: float | None
    smoothing: float
    boundaries: np.ndarray

    @property
    def cells(self) -> int:
        """Number of cells."""
        return len(self.boundaries) - 1

    def counts(self, x: np.ndarray) -> np.ndarray:
        """(bins,) histogram of positions of any shape."""
        return _histogram(x, self.edges, self.period)

    def cell(self, x: np.ndarray) -> np.ndarray:
        """Number of the cell that each position lies in, or is nearest to."""
        width = self.edges[1] - self.edges[0]
        if self.period is not None:
            turn = (len(self.edges) - 1) * (self.turns // 2)
            place = np.mod(x, self.period) / width - 0.5 + turn
        else:
            place = (x - self.edges[0]) / width - 0.5
        low, high = self.boundaries[[0, -1]]
        share = (place - low) * (self.cells / (high - low))
        return np.clip(share, 0, self.cells - 1).astype(np.int16)

    def forces(self, counts: np.ndarray) -> np.ndarray | None:
        """(cells,) mean force in each cell, kJ/mol/nm, of the rough profile of other counts; None if they are too few.

        Averages over cells are differences of the profile: whatever its roughness, it is kept at the boundaries.
        """
        repeated = np.tile(counts, self.turns)
        if np.sum(repeated >= _FEWEST) < _LEAST_BINS:
            return None
        place, spline = _smooth(repeated, self.smoothing)
        values = GAS_CONSTANT * self.temperature * spline(np.clip(self.boundaries, place[0], place[-1]))
        return -np.diff(values) / (np.diff(self.boundaries) * (self.edges[1] - self.edges[0]))


def free_energy_profile(
    positions,
    temperature: float,
    *,
    bins: int = 60,
    points: int = 200,
    smoothing: float | None = None,
    period: float | None = None,
) -> SplinePotential:
    """u(x) = −kT log p(x) of a coordinate, as a smoothing spline through a histogram, weighted by its counts.

    The smoothing is chosen by cross-validation unless given: consecutive stretches of the positions are left out in
    turn, and the smoothing that makes them most likely is taken. Stretches, because neighbouring frames, and so the
    errors of neighbouring bins, are correlated: criteria that take them for independent believe the noise. Beyond the
    positions visited the potential goes on as a parabola that confines.

    Arguments:
        positions: positions of any shape, nm, from equilibrium; flattened, stretches of trajectories in order.
        temperature: K.
        bins: of the histogram, over the range visited; over one turn with a period.
        points: of the spline's table; for one turn with a period.
        smoothing: weight of the squared second derivative, lengths counted in bins; None chooses it.
        period: nm; all positions then count in every turn that was visited, and the profile goes on from turn to turn.

    Raises:
        ValueError: too few positions, or positions that are not finite.

    Source: Wahba, Spline Models for Observational Data (SIAM, 1990), for smoothing splines; Burman, Chow & Nolan,
    Biometrika 81, 351 (1994), for leaving out blocks of dependent data.
    """
    return estimate_profile(
        positions, temperature, bins=bins, points=points, smoothing=smoothing, period=period
    ).potential


def estimate_profile(
    positions,
    temperature: float,
    *,
    bins: int = 60,
    points: int = 200,
    smoothing: float | None = None,
    period: float | None = None,
) -> EstimatedProfile:
    """`free_energy_profile` together with how it was made; arguments and errors are the same.

    Source: Goldstein & Messer, Ann. Stat. 20, 1306 (1992), for averages that want less smoothing than the function.
    """
    x = np.asarray(positions, np.float64).ravel()
    if len(x) < 20 * _FEWEST or not np.isfinite(x).all() or np.ptp(x) == 0:
        raise ValueError(f"free_energy_profile: {len(x)} positions; give many more, all finite and not all equal.")
    if period is None:
        first, turns, edges = 0, 1, np.linspace(x.min(), x.max(), bins + 1)
    else:
        first, last = (int(np.floor(edge / period)) for edge in (x.min(), x.max()))
        turns, edges = last - first + 1, np.linspace(0, period, bins + 1)
    counts = np.tile(_histogram(x, edges, period), turns)
    width = edges[1] - edges[0]
    known = np.flatnonzero(counts >= _FEWEST)
    if len(known) < _LEAST_BINS:
        raise ValueError(
            f"free_energy_profile: only {len(known)} bins hold {_FEWEST} or more positions; use fewer bins."
        )
    thermal_energy = GAS_CONSTANT * temperature
    if smoothing is None:
        stretches = np.array([_histogram(part, edges, period) for part in np.array_split(x, _STRETCHES)])
        smoothing = _chosen_smoothing(np.tile(stretches, turns))
    start = edges[0] + 0.5 * width + (0.0 if period is None else first * period)
    grid = np.linspace(start + width * known[0], start + width * known[-1], points * turns)
    spread = float(np.var(x)) if period is None else (turns * period) ** 2 / 12

    def potential(smoothing: float) -> SplinePotential:
        place, spline = _smooth(counts, smoothing)
        values = thermal_energy * spline(np.linspace(place[0], place[-1], points * turns))
        return SplinePotential(grid, values - values.min(), least_curvature=thermal_energy / spread)

    less = _LESS * smoothing
    low, high = known[[0, -1]] if period is None else bins * (turns // 2) - 0.5 + np.array([0, bins])
    boundaries = np.linspace(low, high, _CELLS + 1)
    return EstimatedProfile(potential(smoothing), potential(less), temperature, edges, turns, period, less, boundaries)


def _histogram(x: np.ndarray, edges: np.ndarray, period: float | None) -> np.ndarray:
    # Of data that were thinned to find the edges, a few may lie beyond them.
    inside = np.clip(x, edges[0], edges[-1]) if period is None else np.mod(x, period)
    return np.histogram(inside, bins=len(edges) - 1, range=(edges[0], edges[-1]))[0]


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

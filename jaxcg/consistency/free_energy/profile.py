"""A free-energy profile: the potential of mean force along one coordinate, with the covariance of its errors."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ...energy.coordinate import SplinePotential
from ...units import GAS_CONSTANT
from ..statistics import Estimate


@dataclass(frozen=True)
class FreeEnergyProfile:
    """The potential of mean force W(ξ) of a coordinate, known up to a constant; NumPy float64.

    exp(−W(ξ)/kT) is the density of ξ: the Jacobian of the coordinate is in it, so that of a distance in free space
    falls as −2 kT ln r. Errors are those of the difference to the point where W was set to zero.

    Fields:
        positions: (points,) ξ, ascending.
        value: (points,) W, kJ/mol; infinite where no sample fell.
        covariance: (points, points) of its errors, (kJ/mol)²; nan where no sample fell.
        temperature: K.
    """

    positions: np.ndarray
    value: np.ndarray
    covariance: np.ndarray
    temperature: float

    @property
    def error(self) -> np.ndarray:
        """(points,) standard error of W, kJ/mol; zero at the point of reference."""
        return np.sqrt(np.maximum(np.diag(self.covariance), 0.0))

    @property
    def thermal_energy(self) -> float:
        """kT, kJ/mol."""
        return GAS_CONSTANT * self.temperature

    def relative_to(self, position: float | None = None) -> Self:
        """The same profile with its zero, and that of its error, at the point nearest to ``position``; None: lowest."""
        at = int(np.argmin(self.value)) if position is None else self._nearest(position)
        if not np.isfinite(self.value[at]):
            raise ValueError(f"relative_to: no sample fell at {self.positions[at]:g}.")
        shifted = self.covariance - self.covariance[at] - self.covariance[:, [at]] + self.covariance[at, at]
        return replace(self, value=self.value - self.value[at], covariance=shifted)

    def difference(self, start: float, end: float) -> Estimate:
        """W(end) − W(start) at the points nearest to the two, kJ/mol."""
        first, second = self._nearest(start), self._nearest(end)
        c = self.covariance
        variance = c[first, first] + c[second, second] - 2 * c[first, second]
        return Estimate(float(self.value[second] - self.value[first]), float(np.sqrt(max(variance, 0.0))))

    def basin_difference(self, first: tuple[float, float], second: tuple[float, float]) -> Estimate:
        """F(second) − F(first), kJ/mol, of two regions: −kT ln of the ratio of their populations.

        Arguments:
            first, second: lower and upper end of each; points are counted by their share of the coordinate.

        Raises:
            ValueError: a region without points, or without samples.
        """
        kT, widths = self.thermal_energy, cell_widths(self.positions)
        low = np.min(self.value)
        weights = widths * np.exp(-(self.value - low) / kT)
        shares, slopes = [], []
        for lower, upper in (first, second):
            inside = (self.positions >= lower) & (self.positions <= upper)
            total = weights[inside].sum()
            if not total > 0:
                raise ValueError(f"basin_difference: no sample between {lower:g} and {upper:g}.")
            shares.append(-kT * np.log(total))
            slopes.append(np.where(inside, weights, 0.0) / total)
        return Estimate(float(shares[1] - shares[0]), self._error_along(slopes[1] - slopes[0]))

    def energy(self, least_curvature: float = 0.0) -> SplinePotential:
        """W as an energy of the coordinate, a cubic spline (equally spaced points, all sampled)."""
        return SplinePotential(self.positions, self.value, least_curvature=least_curvature)

    def _error_along(self, slope: np.ndarray) -> float:
        """Standard error of a function of W with this derivative; points it does not depend on need no samples."""
        used = slope != 0
        part = self.covariance[np.ix_(used, used)]
        return float(np.sqrt(max(slope[used] @ part @ slope[used], 0.0)))

    def _nearest(self, position: float) -> int:
        return int(np.argmin(np.abs(self.positions - position)))


def cell_widths(positions: np.ndarray) -> np.ndarray:
    """The stretch of the coordinate that is nearer to each point than to any other; whole cells at the ends."""
    if len(positions) == 1:
        return np.ones(1)
    gaps = np.diff(positions)
    return 0.5 * (np.concatenate([gaps[:1], gaps]) + np.concatenate([gaps, gaps[-1:]]))

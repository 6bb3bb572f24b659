"""Inverse Monte Carlo: Newton's method for the relative entropy of a pair potential."""

import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..consistency.statistics import block_average
from ..typing import Array, Float, Scalar
from .inversion import AbstractInversion, InversionSettings, Measured, float_type

#: Smoothness of a change, and what is known of its size before the frames are asked: length in units of the shortest
#: distance in the data, and kT.
_SMOOTH, _SIZE = 0.15, 1.0
#: A change is at most this many kT anywhere: the response is linear only so far.
_MOST = 2.0
#: Frames below which fluctuations say nothing.
_FEWEST = 16


class InverseMonteCarlo(AbstractInversion):
    """The correction that the fluctuations of the pair counts ask for: Newton's method for the relative entropy.

    A pair potential makes the Boltzmann distribution an exponential family with the pair counts n(r) for sufficient
    statistics. So ⟨n⟩ changes by −cov(n, n) Δu/kT, cross-correlations, slow ramps and all, and the relative entropy
    to the target is convex in u with this covariance for its curvature. Few rounds do what Boltzmann inversion never
    does. Where M frames do not tell, a Gaussian process decides: changes are smooth over 0.15 of the shortest distance
    and of the order of kT, so noise is not amplified and directions that the data leave open stay where they are. The
    change is the most probable one,

        Δu = K (C K/(kT)² + 1/M)⁻¹ (n − n*)/kT,   C = cov(n, n),

    and with a target pressure the most probable one among those that close its gap too, by ∂P/∂u = own virial −
    cov(P, n)/kT. Nothing moves by more than 2 kT at a time.

    Target and simulations should have the same number of points: counts of different sizes differ by 1/N.

    Arguments:
        r, target, temperature, cutoff, rate, least, density, pressure: see `AbstractInversion`; the density is needed.
        points: N of the simulations, where g(r) is counted against N(N − 1)/2 pairs.
        target_frames: independent frames behind the target, such as the effective sample size of its pressure;
            infinite for an exact one.

    Raises:
        ValueError: as `BoltzmannInversion`; points below two.

    Source: Lyubartsev & Laaksonen, Phys. Rev. E 52, 3730 (1995); Shell, J. Chem. Phys. 129, 144108 (2008); that the
    two are one: Murtola, Karttunen & Vattulainen, J. Chem. Phys. 131, 055101 (2009).
    """

    r: Float[Array, " points"]
    target: Float[Array, " points"]
    settings: InversionSettings
    points: int = eqx.field(static=True)
    target_frames: float = eqx.field(static=True)

    def __init__(
        self,
        r,
        target,
        *,
        temperature: float,
        density: float,
        points: int,
        target_frames: float = math.inf,
        cutoff: float | None = None,
        rate: float = 1.0,
        least: float = 0.01,
        pressure: float | None = None,
    ):
        self.settings = InversionSettings(
            r,
            target,
            temperature=temperature,
            cutoff=cutoff,
            rate=rate,
            least=least,
            smoothing=0,
            density=density,
            pressure=pressure,
        )
        if points < 2 or not target_frames > 0:
            raise ValueError("InverseMonteCarlo: give two or more points, and a positive number of target frames.")
        self.points, self.target_frames = points, target_frames
        self.r, self.target = jnp.asarray(r, float_type(r)), jnp.asarray(target, float_type(r))

    def correction(self, measured: Measured) -> tuple[Float[Array, " points"], Scalar]:
        """The most probable change, and the largest part of it that is there for the pressure, kJ/mol."""
        found = self._linearise(measured)
        kt = float(self.settings.thermal_energy)
        change = found.posterior @ (found.counts - found.wanted) / kt
        for_pressure = np.zeros_like(change)
        if found.gap is not None and found.slope is not None:
            direction = found.posterior @ found.slope
            for_pressure = direction * (found.gap - found.slope @ change) / (found.slope @ direction)
        most = np.abs(change + for_pressure)[self.settings.first :].max()
        share = float(self.settings.rate) * min(1.0, _MOST * kt / max(most, 1e-300))
        largest = share * np.abs(for_pressure)[self.settings.first :].max()
        return jnp.asarray(share * (change + for_pressure), self.r.dtype), jnp.asarray(largest, self.r.dtype)

    def uncertainty(self, measured: Measured) -> "PotentialUncertainty":
        """How well the target determines the potential, seen from a simulation of the last one.

        Arguments:
            measured: with series of g(r) and, for the error of the pressure, of the pressure.

        Returns:
            The `PotentialUncertainty`.

        Raises:
            ValueError: something is missing in ``measured``.
        """
        found = self._linearise(measured)
        covariance = found.posterior / found.frames
        pressure = math.nan if found.slope is None else math.sqrt(found.slope @ covariance @ found.slope)
        return PotentialUncertainty(np.sqrt(np.diag(covariance)), covariance, pressure)

    def _linearise(self, measured: Measured) -> "_Linearised":
        s = self.settings
        if measured.rdf_series is None or len(measured.rdf_series) < _FEWEST:
            raise ValueError(
                f"InverseMonteCarlo: give g(r) of every frame (rdf_series), of {_FEWEST} frames or more; the "
                "correction comes from their fluctuations."
            )
        _check_series(measured, len(self.r))
        inside = slice(s.last + 1)
        assert s.density is not None
        r, density = np.asarray(self.r, np.float64)[inside], float(s.density)
        spacing, kt = r[1] - r[0], float(s.thermal_energy)
        shells = 4 / 3 * math.pi * ((r + spacing / 2) ** 3 - (r - spacing / 2) ** 3)
        ideal = 0.5 * density * (self.points - 1) * shells
        series = np.asarray(measured.rdf_series, np.float64)[:, inside] * ideal
        mean = np.asarray(measured.rdf, np.float64)[inside] * ideal
        off = series - series.mean(axis=0)
        covariance = off.T @ off / (len(off) - 1)
        prior = _smooth_prior(r, _SMOOTH * r[s.first]) * (_SIZE * kt) ** 2

        def posterior_of(frames: float) -> tuple[np.ndarray, float]:
            frames = 1 / (1 / frames + 1 / self.target_frames)
            found = prior @ np.linalg.inv(covariance @ prior / kt**2 + np.eye(len(r)) / frames)
            return 0.5 * (found + found.T), frames

        # Frames count as often as they are independent in what they tell worst, a slow collective change.
        posterior, frames = posterior_of(len(off))
        worst = np.linalg.eigh(posterior)[1][:, -1]
        independent = block_average(series @ worst).effective_sample_size
        if np.isfinite(independent):
            posterior, frames = posterior_of(float(independent))
        whole = np.zeros((len(self.r), len(self.r)))
        whole[inside, inside] = posterior

        slope = None
        if measured.pressure_series is not None:
            pressures = np.asarray(measured.pressure_series, np.float64)
            # P = ρkT − (2π/3) ρ² ∫ r³ u′ g dr, and u′ by differences of the table.
            weight = -(2 * math.pi / 3) * density**2 * (1 - 1 / self.points) * r**3 * spacing
            own = np.asarray(np.gradient(np.eye(len(r)), spacing, axis=0)).T @ (weight * mean / ideal)
            slope = np.zeros(len(self.r))
            slope[inside] = own - off.T @ (pressures - pressures.mean()) / (len(off) - 1) / kt
        gap = None
        if s.pressure is not None:
            if slope is None:
                raise ValueError("InverseMonteCarlo: give the pressure of every frame; there is a target for it.")
            gap = float(s.pressure) - float(self._pressure_of(measured))
        counts, wanted = np.zeros(len(self.r)), np.zeros(len(self.r))
        counts[inside], wanted[inside] = mean, np.asarray(self.target, np.float64)[inside] * ideal
        return _Linearised(counts, wanted, whole, frames, slope, gap)


class PotentialUncertainty(NamedTuple):
    """What sampling errors leave open in a potential; NumPy float64.

    Fields:
        error: (points,) standard error at each distance, kJ/mol. Neighbours are correlated.
        covariance: (points, points) kJ²/mol².
        pressure: standard deviation of the pressure among the potentials that fit as well, kJ/mol/nm³; NaN without
            a series of pressures.
    """

    error: np.ndarray
    covariance: np.ndarray
    pressure: float


class _Linearised(NamedTuple):
    """The response of counts and pressure to the potential: counts, their target, posterior covariance times frames."""

    counts: np.ndarray
    wanted: np.ndarray
    posterior: np.ndarray
    frames: float
    slope: np.ndarray | None
    gap: float | None


def _check_series(measured: Measured, points: int) -> None:
    """Raises ValueError unless the series are of the same frames, finite, and g(r) their mean."""
    rdf, pressure = np.asarray(measured.rdf_series), measured.pressure_series
    if rdf.shape[1:] != (points,) or (pressure is not None and np.shape(pressure) != rdf.shape[:1]):
        found = "" if pressure is None else f" and pressures of {len(pressure)}"
        raise ValueError(
            f"InverseMonteCarlo: g(r) has the shape {rdf.shape}{found}; give (frames, {points}) and the pressures of "
            "the same frames. The series of a RadialDistribution holds blocks of several frames from 1024 frames on."
        )
    if not (np.isfinite(rdf).all() and (pressure is None or np.isfinite(pressure).all())):
        raise ValueError("InverseMonteCarlo: g(r) or the pressure of a frame is not finite.")


def _smooth_prior(r: np.ndarray, length: float) -> np.ndarray:
    """Covariance of smooth functions of r, in units of their variance, that are zero at the last point."""
    free = np.exp(-0.5 * ((r[:, None] - r) / length) ** 2)
    return free - np.outer(free[:, -1], free[-1])

"""Diffusion coefficient and effective friction of trajectories, with errors: by Green-Kubo and by displacements."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...units import GAS_CONSTANT
from ._blocks import cut, pieces_of, square_displacements, velocity_correlations

#: Fewest blocks for an error bar.
_FEWEST = 8


@dataclass(frozen=True)
class Diffusion:
    """Result of `diffusion_coefficient`.

    Fields:
        coefficient, error: D of one coordinate and its standard error, nm²/ps.
        friction, friction_error: kT/D, amu/ps: what ∫Γ dt of free motion must be.
        times: (lags,) ps.
        running, running_error: (lags,) D as a function of the longest time used: ∫₀ᵗ C_vv (Green-Kubo), or the local
            slope of the displacement; a plateau shows that the time is long enough.
        method: "velocities" or "displacements".
    """

    coefficient: float
    error: float
    friction: float
    friction_error: float
    times: np.ndarray
    running: np.ndarray
    running_error: np.ndarray
    method: Literal["velocities", "displacements"]


def diffusion_coefficient(
    spacing: float,
    temperature: float,
    *,
    velocities=None,
    positions=None,
    lags: int,
    plateau: tuple[float, float] | None = None,
    blocks: int = 32,
) -> Diffusion:
    """D of free motion from velocities (Green-Kubo integral) or from unwrapped positions (slope of the displacement).

    D = ∫₀^∞ C_vv dt = ½ d⟨[x(t) − x(0)]²⟩/dt for long t, of one coordinate: displacements in three dimensions are
    averaged, not added. The value is the mean of the running one over the plateau; its error is from the
    scatter of blocks.

    Arguments:
        spacing: between frames, ps.
        temperature: K; for the friction kT/D.
        velocities: (trajectories, frames) or (trajectories, frames, coordinates), nm/ps.
        positions: the same of unwrapped positions, nm; give one of the two.
        lags: how far to go, in frames: several times as long as the memory.
        plateau: first and last time of the plateau, ps; None: the last half of the lags.
        blocks: number of blocks to aim at.

    Raises:
        ValueError: both or neither of velocities and positions, trajectories too short, or an empty plateau.

    Source: Green, J. Chem. Phys. 22, 398 (1954); Kubo, J. Phys. Soc. Jpn. 12, 570 (1957); Einstein, Ann. Phys. 17, 549
    (1905).
    """
    if (velocities is None) == (positions is None):
        raise ValueError("diffusion_coefficient: give velocities or positions, one of the two.")
    method: Literal["velocities", "displacements"] = "displacements" if velocities is None else "velocities"
    series = np.asarray(positions if velocities is None else velocities, np.float64)
    if series.ndim not in (2, 3) or not np.isfinite(series).all():
        raise ValueError(
            f"diffusion_coefficient: series of shape {series.shape}; give (trajectories, frames[, coordinates])."
        )
    series = series if series.ndim == 3 else series[..., None]
    series = cut(series, pieces_of(series.shape, lags, blocks, _FEWEST, 0.0, owner="diffusion_coefficient"))
    times = spacing * np.arange(lags)
    if velocities is not None:
        c = velocity_correlations(series, series, lags)
        running = _cumulative(c) * spacing
    else:
        running = 0.5 * np.gradient(square_displacements(series, lags), spacing, axis=1)
    first, last = (times[lags // 2], times[-1]) if plateau is None else plateau
    chosen = (times >= first - 1e-9 * spacing) & (times <= last + 1e-9 * spacing)
    if not chosen.any():
        raise ValueError(
            f"diffusion_coefficient: no frame between {first:g} and {last:g} ps; the lags end at {times[-1]:g} ps."
        )
    each = running[:, chosen].mean(axis=1)
    root = np.sqrt(len(each))
    coefficient, error = float(each.mean()), float(each.std(ddof=1) / root)
    friction = GAS_CONSTANT * temperature / coefficient
    return Diffusion(
        coefficient=coefficient,
        error=error,
        friction=friction,
        friction_error=abs(friction * error / coefficient),
        times=times,
        running=running.mean(axis=0),
        running_error=running.std(axis=0, ddof=1) / root,
        method=method,
    )


def _cumulative(c: np.ndarray) -> np.ndarray:
    """∫ over unit steps up to each lag, by cubics through four neighbours (one-sided at the ends)."""
    middle = np.empty((len(c), c.shape[1] - 1))
    middle[:, 1:-1] = (-c[:, :-3] + 13 * c[:, 1:-2] + 13 * c[:, 2:-1] - c[:, 3:]) / 24
    middle[:, 0] = (9 * c[:, 0] + 19 * c[:, 1] - 5 * c[:, 2] + c[:, 3]) / 24
    middle[:, -1] = (9 * c[:, -1] + 19 * c[:, -2] - 5 * c[:, -3] + c[:, -4]) / 24
    return np.concatenate([np.zeros((len(c), 1)), np.cumsum(middle, axis=1)], axis=1)

"""The model's side of the consistency report: its trajectories, begun where the data's blocks begin."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ..motion.base import AbstractDynamics
from ..motion.gle import GLE
from ..motion.simulation import simulate
from ._blocks import cut

#: The default time step is this share of the fastest time of the model.
_FINE = 0.05
#: Most time steps between two frames by default.
_MOST_STEPS = 100
#: Relative departure from a straight line below which a force is harmonic.
_STRAIGHT = 1e-4


class Series(NamedTuple):
    """Positions and velocities, (trajectories, frames, coordinates) or None; flat: given without coordinates."""

    x: np.ndarray | None
    v: np.ndarray | None
    flat: bool

    @staticmethod
    def of(positions, velocities) -> "Series":
        x, v = (None if a is None else np.asarray(a, np.float64) for a in (positions, velocities))
        given = [a for a in (x, v) if a is not None]
        if not given:
            raise ValueError("validate: give positions, velocities or both.")
        if given[0].ndim not in (2, 3) or given[0].shape != given[-1].shape:
            raise ValueError(
                f"validate: series of shapes {', '.join(str(a.shape) for a in given)}; give (trajectories, frames) or "
                "(trajectories, frames, coordinates), positions and velocities alike."
            )
        if not all(np.isfinite(a).all() for a in given):
            raise ValueError("validate: positions or velocities are not finite.")
        flat = given[0].ndim == 2
        x, v = (a if a is None or not flat else a[..., None] for a in (x, v))
        return Series(x, v, flat)

    @property
    def shape(self) -> tuple[int, ...]:
        known = self.v if self.x is None else self.x
        assert known is not None
        return known.shape

    def cut(self, pieces: int) -> "Series":
        x, v = (None if a is None else cut(a, pieces) for a in (self.x, self.v))
        return Series(x, v, self.flat)

    def speeds(self, spacing: float) -> np.ndarray:
        """Velocities, by central differences if they were not given."""
        if self.v is not None:
            return self.v
        assert self.x is not None
        return (self.x[:, 2:] - self.x[:, :-2]) / (2 * spacing)

    def frame(self, a: np.ndarray) -> np.ndarray:
        """One frame of every trajectory, (trajectories, coordinates), in the shape in which frames were given."""
        return a[..., 0] if self.flat else a


def mimic(
    dynamics: AbstractDynamics, series: Series, spacing: float, factor: int, equilibration: float, seed: int
) -> Series:
    """The model from the first frame of every block, ``factor`` times, without its first ``equilibration`` (ps)."""
    every = round(spacing / float(dynamics.time_step))
    if every < 1 or abs(every * float(dynamics.time_step) / spacing - 1) > 1e-5:
        raise ValueError(
            f"validate: frames are {spacing:g} ps apart, which is no multiple of the time step "
            f"{float(dynamics.time_step):g} ps of the model."
        )
    count, frames, coordinates = series.shape
    x = np.zeros((count, coordinates)) if series.x is None else series.x[:, 0]
    rows = np.tile(np.arange(count), factor)
    starts = jnp.asarray(series.frame(x)[rows])
    speeds = None if series.v is None else jnp.asarray(series.frame(series.v[:, 0])[rows])
    skipped = round(equilibration / spacing)
    run = simulate(dynamics, starts, (skipped + frames) * every, jax.random.key(seed), every=every, velocities=speeds)
    found = Series.of(run.positions[:, skipped:], run.velocities[:, skipped:])
    return Series(found.x, None if series.v is None else found.v, series.flat)


def fine_gle(energy, kernel, mass, spacing, temperature, time_step, series: Series) -> GLE:
    """A GLE with a time step that divides the spacing and resolves the forces and the coupling to the bath."""
    if time_step is None:
        trial = GLE(energy, kernel, mass, time_step=spacing, temperature=temperature)
        fastest = 0.5 * spacing / _FINE
        if energy is not None and series.x is not None:
            some = series.x.reshape(-1, series.shape[2])[:: max(series.x[..., 0].size // 16, 1)]
            fastest = min(0.5 * trial.largest_time_step(jnp.asarray(series.frame(row))) for row in some)
        bath = np.linalg.norm(np.atleast_2d(kernel(jnp.zeros(()))), 2) / np.min(mass)
        drag = np.linalg.norm(np.atleast_2d(kernel.friction), 2) / np.min(mass)
        fastest = min(fastest, 1 / max(np.sqrt(bath), drag, 1e-300))
        steps = int(np.clip(np.ceil(spacing / (_FINE * fastest)), 1, _MOST_STEPS))
        time_step = spacing / steps
    return GLE(energy, kernel, mass, time_step=time_step, temperature=temperature)


def harmonic_stiffness(energy: AbstractEnergy, x: np.ndarray, flat: bool) -> float | None:
    """k if the energy is ½ k (x − x₀)² of every coordinate over the range of the data, else None."""
    some = x.reshape(-1, x.shape[2])[:: max(x[..., 0].size // 200, 1)]
    force = -np.asarray(jax.vmap(jax.grad(energy))(jnp.asarray(some[:, 0] if flat else some))).reshape(some.shape)
    centered, pull = some - some.mean(axis=0), force - force.mean(axis=0)
    stiffness = -float(np.sum(centered * pull) / np.sum(centered**2))
    straight = np.linalg.norm(pull + stiffness * centered) <= _STRAIGHT * np.linalg.norm(pull)
    return stiffness if straight and stiffness > 0 else None

"""Memory that depends on the position, from trajectories: a vector Volterra equation for its values on a grid.

What is inverted is the equation of motion

    M v̇(t) = F(x(t)) − ∫₀ᵗ Γ(s, x(t−s)) v(t−s) ds + ξ(t),      ⟨ξ(t) v(0) b(x(0))⟩ = 0 for every function b,

which a projection on functions of the position, linear in the velocity, gives for any dynamics: memory remembers where
the coordinate *was*. With Γ(s, x) = Σ_l Γ_l(s) b_l(x) in hat functions b_l, multiplied with v(0) b_k(x(0)) and
integrated over time, it is the first-kind equation for G_l(t) = ∫₀ᵗ Γ_l

    M [C_k(t) − C_k(0)] − ∫₀ᵗ ⟨F v(0) b_k⟩ = −∫₀ᵗ Σ_l G_l(s) C_lk(t−s) ds,
    C_lk(t) = ⟨b_l(x(t)) v(t) v(0) b_k(x(0))⟩,   C_k = Σ_l C_lk.

Source: Vroylandt & Monmarché, J. Chem. Phys. 156, 244105 (2022).
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...typing import Array
from ..kernels.forms import require_positive
from ..motion.position_friction import SplineProfile
from .correlation import Correlation
from .profile import free_energy_profile
from .volterra import solve_volterra

#: Frames that a basis function must have, counted with its values.
_FEWEST = 50


@dataclass(frozen=True)
class PositionMemory:
    """Result of `position_dependent_memory`.

    Fields:
        grid: (points,) nm.
        times: (times,) ps, of the kernel.
        kernel, kernel_error: (times, points) Γ(t, x) at the grid, amu/ps², and its standard error.
        integral_times: (times,) ps, halfway between frames.
        integral, integral_error: (times, points) ∫₀ᵗ Γ(s, x) ds, amu/ps.
        friction, friction_error: (points,) γ(x): the average of the integral over ``plateau``, amu/ps.
        plateau: (2,) ps, where the integral was averaged.
        frames: (points,) how many frames each basis function saw.
        blocks: number of independent blocks that were drawn from.
    """

    grid: np.ndarray
    times: np.ndarray
    kernel: np.ndarray
    kernel_error: np.ndarray
    integral_times: np.ndarray
    integral: np.ndarray
    integral_error: np.ndarray
    friction: np.ndarray
    friction_error: np.ndarray
    plateau: tuple[float, float]
    frames: np.ndarray
    blocks: int

    def coupling(self, points: int = 41) -> SplineProfile:
        """g(x) = √(γ(x)/γ̄), γ̄ the average friction over the frames: the profile for a `FrictionTerm`.

        With a kernel of the integral γ̄ its friction is γ(x). Negative γ(x), which noise may give, count as zero.

        Arguments:
            points: of the table, equally spaced over the grid.
        """
        mean = np.sum(self.friction * self.frames) / np.sum(self.frames)
        if not mean > 0:
            raise ValueError(f"PositionMemory: the average friction {mean:g} is not positive; give more frames.")
        positions = np.linspace(self.grid[0], self.grid[-1], points)
        ratio = np.interp(positions, self.grid, np.maximum(self.friction, 0.0) / mean)
        return SplineProfile(positions, jnp.asarray(np.sqrt(ratio)))


def position_dependent_memory(
    positions: Array,
    velocities: Array,
    mass: float,
    spacing: float,
    *,
    lags: int,
    energy: AbstractEnergy | Literal["profile"] | None,
    temperature: float | None = None,
    grid: int | Array = 8,
    plateau: tuple[float, float] | None = None,
    blocks: int = 20,
    resamples: int = 100,
    seed: int = 0,
) -> PositionMemory:
    """Memory kernel Γ(t, x) and friction γ(x) = ∫ Γ(t, x) dt of one coordinate, with errors by block bootstrap.

    The form is that of this module: the memory of where the coordinate was, Γ(s, x(t−s)). It is not that of
    `PositionDependentGLE`, g(x(t)) K(s) g(x(t−s)). For trajectories of the latter Γ(0, x) = g(x)² K(0) exactly, and
    Γ(t, x) = g(x)² K(t) as long as g changes little on the way of one memory time, so γ(x) = g(x)² ∫ K up to
    corrections of that order, and exactly for memory without duration.

    Frames must be closer than the memory is long; C_lk is known at frames only and averaged halfway. Equilibrium is
    reversible: every correlation function is estimated forwards and backwards, which makes Γ at short times an order of
    magnitude less noisy.

    Arguments:
        positions: (trajectories, frames) or (frames,), nm, from equilibrium.
        velocities: the same shape and instants, nm/ps.
        mass: amu.
        spacing: between frames, ps.
        lags: how far to go, in frames.
        energy: potential of mean force, kJ/mol; ``"profile"``: `free_energy_profile` of the positions; None where it is
            flat.
        temperature: K, for ``"profile"``.
        grid: (points,) where Γ is wanted, ascending, nm; or how many points, equally spaced between the 1st and the
            99th percentile of the positions. Γ is linear between them and constant beyond: a least-squares fit, so a
            wide grid smooths, and its values lie beside those of a curved Γ(x).
        plateau: (2,) ps, from when to when the integral is averaged for γ(x); the last third if None.
        blocks: how many blocks in all, at least; each must be several times longer than ``lags``.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: shapes that differ, numbers that are not finite, too few frames for the lags, a grid that does not
            ascend or one with a basis function that hardly any frame visits, or a plateau beyond the lags.

    Source: Vroylandt & Monmarché, J. Chem. Phys. 156, 244105 (2022); Künsch, Ann. Stat. 17, 1217 (1989) (bootstrap).
    """
    x, v, points, energy = basis_trajectories(
        "position_dependent_memory", positions, velocities, mass, spacing, lags, energy, temperature, grid, blocks
    )
    each = _block_correlations(x, v, energy, points, lags)
    window = _window(plateau, lags, spacing)

    def solve(weights: Array) -> tuple[Array, Array, Array]:
        c, f = (jnp.einsum("b,blij->lij", weights, part, precision="highest") for part in each)
        total = jnp.sum(c, axis=1, keepdims=True)
        impulse = spacing * jnp.cumsum(0.5 * (f[1:] + f[:-1]), axis=0)
        integral = solve_volterra(-(mass * (total[1:] - total[:1]) - impulse), 0.5 * (c[1:] + c[:-1]), spacing)[:, 0]
        first = (3.75 * integral[:1] - 2.5 / 3 * integral[1:2] + 0.15 * integral[2:3]) / spacing
        kernel = jnp.concatenate([first, (integral[1:] - integral[:-1]) / spacing])
        return kernel, integral, jnp.mean(integral[window], axis=0)

    count = x.shape[0]
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples) / count
    errors = [np.asarray(part).std(axis=0, ddof=1) for part in jax.lax.map(solve, jnp.asarray(drawn, v.dtype))]
    kernel, integral, friction = (np.asarray(part) for part in jax.jit(solve)(jnp.full(count, 1 / count, v.dtype)))
    times = (np.arange(lags - 1) + 0.5) * spacing
    return PositionMemory(
        grid=np.asarray(points),
        times=np.arange(lags - 1) * spacing,
        kernel=kernel,
        kernel_error=errors[0],
        integral_times=times,
        integral=integral,
        integral_error=errors[1],
        friction=friction,
        friction_error=errors[2],
        plateau=(float(times[window][0]), float(times[window][-1])),
        frames=_visits(x, points),
        blocks=count,
    )


def hat_functions(x: Array, grid: Array) -> Array:
    """Hat functions of an ascending grid, constant beyond its ends: they add up to one everywhere.

    Arguments:
        x: (...) nm.
        grid: (points,) nm.

    Returns:
        (..., points).
    """
    x = jnp.clip(jnp.asarray(x), grid[0], grid[-1])[..., None]
    width = jnp.diff(grid)
    rising = jnp.pad((x - grid[:-1]) / width, [(0, 0)] * (x.ndim - 1) + [(1, 0)], constant_values=1.0)
    falling = jnp.pad((grid[1:] - x) / width, [(0, 0)] * (x.ndim - 1) + [(0, 1)], constant_values=1.0)
    return jnp.clip(jnp.minimum(rising, falling), 0.0, 1.0)


def basis_trajectories(
    owner: str, positions, velocities, mass, spacing, lags: int, energy, temperature, grid, blocks: int
) -> tuple[Array, Array, Array, AbstractEnergy | None]:
    """Checked and cut: positions and velocities (blocks, frames), the grid (points,) and the energy.

    Arguments:
        owner: who asks, for messages; the others as of `position_dependent_memory`.

    Raises:
        ValueError: something does not fit.
    """
    x, v = _checked(owner, positions, velocities)
    for name, value in (("mass", mass), ("spacing", spacing)):
        require_positive(owner, name, value)
    if energy == "profile":
        if temperature is None:
            raise ValueError(f"{owner}: give the temperature with the energy 'profile'.")
        energy = free_energy_profile(x, temperature)
    points = _grid(owner, x, grid)
    x, v = _cut(owner, x, v, lags, blocks)
    visits = _visits(x, points)
    if visits.min() < _FEWEST:
        where = np.asarray(points)[np.argmin(visits)]
        raise ValueError(
            f"{owner}: the basis function at {where:.4g} nm sees {visits.min():.0f} frames; leave that point out of "
            "the grid, or give more frames there."
        )
    return x, v, points, energy


def _visits(x: Array, points: Array) -> np.ndarray:
    return np.asarray(jnp.sum(jax.lax.map(lambda q: jnp.sum(hat_functions(q, points), axis=0), x), axis=0))


def _checked(owner: str, positions, velocities) -> tuple[Array, Array]:
    x, v = jnp.atleast_2d(jnp.asarray(positions)), jnp.atleast_2d(jnp.asarray(velocities))
    if x.shape != v.shape or x.ndim != 2:
        raise ValueError(f"{owner}: positions {x.shape} and velocities {v.shape}; give both as (trajectories, frames).")
    for name, a in (("positions", x), ("velocities", v)):
        wrong = np.argwhere(~np.isfinite(np.asarray(a)))
        if len(wrong):
            raise ValueError(f"{owner}: {name} are not finite in trajectory {wrong[0][0]}, frame {wrong[0][1]}.")
    return x, v


def _grid(owner: str, x: Array, grid) -> Array:
    if isinstance(grid, int):
        if grid < 2:
            raise ValueError(f"{owner}: a grid of {grid} points; give two or more.")
        low, high = np.percentile(np.asarray(x), [1, 99])
        grid = np.linspace(low, high, grid)
    points = np.asarray(grid, np.float64)
    if points.ndim != 1 or len(points) < 2 or not (np.diff(points) > 0).all():
        raise ValueError(f"{owner}: the grid must ascend and have two or more points.")
    return jnp.asarray(points, x.dtype)


def _cut(owner: str, x: Array, v: Array, lags: int, blocks: int) -> tuple[Array, Array]:
    """Trajectories in pieces: (blocks, frames), twice."""
    if lags < 8:
        raise ValueError(f"{owner}: {lags} lags are too few; give at least 8.")
    pieces = max(-(-blocks // x.shape[0]), 1)
    length = x.shape[1] // pieces
    if length < 3 * lags:
        raise ValueError(
            f"{owner}: blocks of {length} frames are too short for {lags} lags; give longer "
            f"trajectories, fewer lags, or fewer blocks (at most {x.shape[0] * (x.shape[1] // (3 * lags))})."
        )
    return x[:, : pieces * length].reshape(-1, length), v[:, : pieces * length].reshape(-1, length)


def _window(plateau: tuple[float, float] | None, lags: int, spacing: float) -> np.ndarray:
    times = (np.arange(lags - 1) + 0.5) * spacing
    if plateau is None:
        return np.arange(len(times)) >= 2 * len(times) // 3
    inside = (times >= plateau[0]) & (times <= plateau[1])
    if not inside.any():
        raise ValueError(
            f"position_dependent_memory: no time of the integral is in the plateau {plateau}; it ends at "
            f"{times[-1]:.4g} ps."
        )
    return inside


def _block_correlations(x: Array, v: Array, energy: AbstractEnergy | None, grid: Array, lags: int):
    """C_lk, (blocks, lags, points, points), and ⟨F v b_k⟩, (blocks, lags, 1, points)."""
    points = grid.shape[0]

    def one(pair):
        q, w = pair
        basis = hat_functions(q, grid) * w[:, None]
        force = jnp.zeros_like(q) if energy is None else -jax.grad(energy)(q)
        both = jnp.concatenate([basis, force[:, None]], axis=1)
        found = Correlation.start(lags, points + 1, dtype=w.dtype).update(both[None], both[None]).value()
        # Equilibrium looks the same backwards in time, with velocities reversed: two estimates of everything.
        back = jnp.swapaxes(found, 1, 2)
        return 0.5 * (found + back)[:, :points, :points], 0.5 * (found - back)[:, points:, :points]

    return jax.lax.map(one, (x, v))

"""How long a time step may be: the limits of the integrators, computed and named."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.sparse.linalg import LinearOperator, eigsh

from ...energy.base import AbstractEnergy
from ...typing import Array
from ..kernels.forms import AbstractMemoryKernel
from .base import AbstractDynamics

#: Coordinates up to which the Hessian is made whole.
_DENSE = 48
#: Relative error of ω² beyond that size; in single precision the iteration need not get to round-off at all.
_CONVERGED = 1e-4
#: Starts beyond the first few are as stiff as those, or the run tells.
_STARTS = 3
#: Growth in a step below which a resonance of a bath is round-off.
_RESONANCE = 1e-6


def highest_squared_frequency(energy: Callable | None, masses, position: Array) -> float:
    """ω², the square of the highest vibration frequency at ``position``, 1/ps²: 0 where nothing vibrates.

    The largest eigenvalue of the mass-weighted Hessian, by Lanczos iteration with Hessian-vector products.

    Arguments:
        energy: U(x), kJ/mol; None for free motion.
        masses: amu: a number, (particles,) for the leading axis of the position, or one for each coordinate.
        position: nm.
    """
    if energy is None:
        return 0.0
    position = jnp.asarray(position)
    if isinstance(energy, AbstractEnergy):
        energy = energy.rebuild(position)
    root = _root_masses(masses, position)
    size = position.size
    if size <= _DENSE:
        hessian = np.asarray(_products(energy, root, position, jnp.eye(size, dtype=position.dtype)), np.float64)
        largest = np.linalg.eigvalsh(0.5 * (hessian + hessian.T))[-1] if np.isfinite(hessian).all() else np.nan
    else:

        def product(v):
            vector = jnp.asarray(v.reshape(1, -1), position.dtype)
            return np.asarray(_products(energy, root, position, vector), np.float64)[0]

        start = np.random.default_rng(0).normal(size=size)
        along = product(start)
        if not np.isfinite(along).all():
            return np.nan
        if not along.any():  # as of particles all beyond their cut-offs
            return 0.0
        operator = LinearOperator((size, size), product)
        settings: dict = {"tol": _CONVERGED, "return_eigenvectors": False}
        largest = eigsh(operator, k=1, which="LA", v0=start, **settings)[0]
    return float(max(largest, 0.0)) if np.isfinite(largest) else np.nan


@eqx.filter_jit
def _products(energy, root, position, vectors):
    """The mass-weighted Hessian times each of ``vectors`` (vectors, coordinates)."""
    gradient = jax.grad(energy)

    def product(v):
        return jax.jvp(gradient, (position,), ((v / root).reshape(position.shape),))[1].ravel() / root

    return jax.vmap(product)(vectors)


def largest_stable_step(energy: AbstractEnergy | Callable | None, masses, position: Array) -> float:
    """2/ω_max, ps: the time step beyond which kick and drift blow up in the stiffest direction at ``position``.

    It is the limit of `GLE` with any kernel, since its memory is propagated exactly.

    Arguments:
        energy: U(x), kJ/mol; None for free motion, which has no limit.
        masses: amu, a number, (particles,) for the leading axis, or one for each coordinate.
        position: nm.
    """
    square = highest_squared_frequency(energy, masses, position)
    return float(2 / np.sqrt(square)) if square != 0 else np.inf


def largest_history_step(
    kernel: AbstractMemoryKernel, square: float, mass: float, window: int, time_step: float
) -> float:
    """The longest stable time step, ps, of the leapfrog of `HistoryGLE` about a minimum.

    An explicit memory is a spring too: for a kernel that changes little in a step the limit is 2/√(ω² + Γ(0)/m). In
    general the step multiplies a perturbation by 1/q for each root q of

        (1 + γ dt/2m)(1 − q) − (1 − γ dt/2m) q (1 − q) + ω² dt² q + (dt²/m)(1 − q) Σ Γ((j+½) dt) q^{j+1} = 0,

    and the limit is the shortest step at which a root enters the unit disc.

    Arguments:
        kernel: scalar.
        square: ω², 1/ps².
        mass: amu.
        window: steps of the past that count, at ``time_step``; their time is kept for other steps.
        time_step: ps, about which the limit is looked for.
    """
    span = window * time_step
    friction = float(kernel.friction)
    zero = max(float(kernel(jnp.zeros(()))), 0.0)
    scale = np.sqrt(square + zero / mass)
    if scale == 0:
        return np.inf

    # Coarsely from well below the limit of the spring up, then by bisection.
    steps = 2 / scale * np.concatenate([np.linspace(0.2, 1.0, 17), np.linspace(1.1, 4.0, 30)])
    # The kernel is evaluated once, finely, and interpolated for every step that is tried.
    fine = steps[0] / 4
    values = np.asarray(kernel(fine * jnp.arange(round(span / fine) + 20)), np.float64)
    table = CubicSpline(fine * np.arange(len(values)), values)

    def stable(step: float) -> bool:
        times = (np.arange(max(round(span / step), 1)) + 0.5) * step
        values, count = np.where(times < span + fine, table(times), 0.0), len(times)
        half = 0.5 * step * friction / mass
        # Without the factor 1 − q of free motion, where it has one.
        memory = np.concatenate([[1 + half, -(1 - half)], np.zeros(count - 1)])
        memory[1:] += step**2 / mass * values
        if square:
            memory = np.convolve(memory, [1.0, -1.0])
            memory[1] += square * step**2
        if np.polyval(memory[::-1], -1.0) <= 0:
            return False
        return _roots_within(memory) == 0

    below = 0.0
    for above in steps:
        if not stable(above):
            break
        below = above
    else:
        return float(below)
    for _ in range(30):
        middle = 0.5 * (below + above)
        below, above = (middle, above) if stable(middle) else (below, middle)
    return float(below)


def _roots_within(coefficients: np.ndarray, radius: float = 1 - 1e-3) -> int:
    """Number of roots of Σ c_k q^k in a disc, by how often its values wind around zero."""
    size = max(1 << 15, 1 << (8 * len(coefficients) - 1).bit_length())
    phases = np.angle(np.fft.fft(coefficients * radius ** np.arange(len(coefficients)), size))
    turns = np.diff(np.concatenate([phases, phases[:1]]))
    # The transform runs around the circle the other way.
    return -round(float(np.sum((turns + np.pi) % (2 * np.pi) - np.pi)) / (2 * np.pi))


def largest_bath_step(
    square: float, mass: float, frequencies: np.ndarray, strengths: np.ndarray, time_step: float
) -> float:
    """The longest stable time step, ps, of `CaldeiraLeggett` about a minimum.

    Every step with ω² dt² + (2 dt/m) Σ (c_j²/ω_j³) tan(ω_j dt/2) < 4 is stable: no oscillator does half a turn in it.
    Beyond lie resonances, which are wide for a strongly coupled bath and narrower than round-off for a weak one; a
    ``time_step`` between them passes.

    Arguments:
        square: ω² of the system alone, 1/ps².
        mass: amu.
        frequencies: ω_j, 1/ps.
        strengths: c_j²/ω_j², amu/ps².
        time_step: ps, the one that is asked about.
    """
    below, above = 0.0, np.pi / float(np.max(frequencies))
    for _ in range(60):
        middle = 0.5 * (below + above)
        bath = np.sum(strengths / frequencies * np.tan(0.5 * frequencies * middle))
        fits = square * middle**2 + 2 * middle / mass * bath < 4
        below, above = (middle, above) if fits else (below, middle)
    if time_step > below and _bath_growth(square, mass, frequencies, strengths, time_step) < _RESONANCE:
        return float(np.nextafter(time_step, np.inf))
    return below


def _bath_growth(square, mass, frequencies, strengths, step) -> float:
    """By how much of itself a perturbation grows in a step of system and bath.

    A step multiplies it by e^{iθ} where y = cos θ solves, with C_j = cos ω_j dt and g_j = dt c_j² sin(ω_j dt)/(m ω_j³),
    2 (y − 1) + ω² dt² + (y − 1) Σ g_j/(y − C_j) = 0: the eigenvalues of an arrow-shaped matrix.
    """
    cosines, shares = np.cos(frequencies * step), step / mass * strengths / frequencies * np.sin(frequencies * step)
    product = 0.5 * shares * (1 - cosines)
    arrow = np.diag(np.concatenate([[1 - 0.5 * (square * step**2 + shares.sum())], cosines]))
    arrow[0, 1:], arrow[1:, 0] = np.sqrt(np.abs(product)), np.sign(product) * np.sqrt(np.abs(product))
    roots = np.linalg.eigvals(arrow).astype(complex)
    return float(np.abs(roots[:, None] + np.sqrt(roots**2 - 1)[:, None] * [1, -1]).max()) - 1


def require_stable(dynamics: AbstractDynamics, position: Array) -> None:
    """Raises ValueError if the time step is beyond the limit of stability at ``position``.

    Arguments:
        dynamics: with concrete numbers.
        position: (*shape) of one system, nm.

    Raises:
        ValueError: it is; the message names both. Or the potential is not finite there.
    """
    limit, name = dynamics.largest_time_step(position), type(dynamics).__name__
    step = float(dynamics.time_step)
    if np.isnan(limit):
        raise ValueError(f"{name}: the potential of mean force has no finite curvature at the start; start elsewhere.")
    if step >= limit:
        raise ValueError(
            f"{name}: the time step of {step:.4g} ps is beyond the limit of stability, {limit:.4g} ps at the start; "
            f"take at most {0.5 * limit:.2g} ps, a smoother potential, or larger masses."
        )


def require_stable_starts(dynamics: AbstractDynamics, positions: Array) -> None:
    """`require_stable` at the first few of ``positions`` (trajectories, *shape)."""
    for position in positions[:_STARTS]:
        require_stable(dynamics, position)


def _root_masses(masses, position: Array) -> Array:
    masses = jnp.asarray(masses, position.dtype)
    if masses.shape != position.shape and masses.ndim:
        masses = masses.reshape((-1, *(1,) * (position.ndim - 1)))
    return jnp.sqrt(jnp.broadcast_to(masses, position.shape)).ravel()

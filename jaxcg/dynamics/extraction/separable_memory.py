"""Memory of the form g(x(t)) K(t−s) g(x(s)) from trajectories: what `PositionDependentGLE` simulates, both g and K.

With h = 1/g the equation of motion, divided by g(x(t)), has a noise that does not know where the coordinate started:

    h(x) (M v̇ − F)(t) = −∫₀ᵗ K(t−s) g(x(s)) v(s) ds + η(t),      ⟨η(t) v(0) b(x(0))⟩ = 0 for every function b.

Integrated over time, with M v̇ h = d(M v h)/dt − M v² h′, its moments with v(0) b_k(x(0)) need no accelerations. One
combination of the b_k, that of g itself, gives G = ∫ K by a scalar Volterra equation of the first kind; g is the
profile for which the others vanish too: weighted least squares (the generalised method of moments).

Source: Hansen, Econometrica 50, 1029 (1982), for the method of moments.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...typing import Array
from ..kernels.forms import TabulatedKernel
from ..motion.position_friction import SplineProfile
from .extraction import ExtractedKernel
from .position_extraction import basis_trajectories, hat_functions
from .volterra import solve_volterra

#: Intervals of the table of g for each of the grid, and blocks that trajectories are put together to.
_FINER, _GROUPS = 4, 32
#: Iterations of Gauss-Newton, halvings of a step that does not help, and the relative change of the sum at the end.
_ITERATIONS, _HALVINGS, _CONVERGED = 30, 6, 1e-5


@dataclass(frozen=True)
class SeparableMemory:
    """Result of `separable_memory`.

    Fields:
        grid: (points,) nm.
        coupling, coupling_error: (points,) g at the grid, with ⟨g²⟩ = 1 over the frames, and its standard error.
        profile: g as a `FrictionTerm` takes it.
        extracted: K, amu/ps², and its integral, as of `extract_kernel`; fit a passive kernel to it to simulate.
        kernel_error, integral_error: (times,) standard errors.
        deviation: root mean square of the moments that ought to vanish, in their standard errors: of order one where
            the form g K g holds (the moments are correlated: 0.4 is as usual as 1), much larger where it does not.
        blocks: number of independent blocks that were drawn from.
    """

    grid: np.ndarray
    coupling: np.ndarray
    coupling_error: np.ndarray
    profile: SplineProfile
    extracted: ExtractedKernel
    kernel_error: np.ndarray
    integral_error: np.ndarray
    deviation: float
    blocks: int


def separable_memory(
    positions: Array,
    velocities: Array,
    mass: float,
    spacing: float,
    *,
    lags: int,
    energy: AbstractEnergy | Literal["profile"] | None,
    temperature: float | None = None,
    grid: int | Array = 8,
    blocks: int = 20,
    resamples: int = 100,
    seed: int = 0,
) -> SeparableMemory:
    """The coupling g(x) and the kernel K of friction −g(x(t)) ∫ K(t−s) g(x(s)) v(s) ds, with errors by block bootstrap.

    Exact for a harmonic bath coupled to one function of the coordinate, however long its memory, where the local form
    of `position_dependent_memory` is not. That one is more general: it needs no such form. The ``deviation`` of the
    result tells whether this one holds.

    Arguments:
        positions: (trajectories, frames) or (frames,), nm, from equilibrium.
        velocities: the same shape and instants, nm/ps.
        mass: amu.
        spacing: between frames, ps.
        lags: how far to go, in frames: about the memory time, or longer.
        energy: potential of mean force, kJ/mol; ``"profile"``: `free_energy_profile` of the positions; None where it is
            flat.
        temperature: K, for ``"profile"``.
        grid: (points,) where g is wanted, equally spaced, nm; or how many points, between the 1st and the 99th
            percentile of the positions. g is the `SplineProfile` through them.
        blocks: how many blocks in all, at least; each must be several times longer than ``lags``.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: as of `position_dependent_memory`, a grid not equally spaced, or moments that no coupling fulfils.
    """
    x, v, points, energy = basis_trajectories(
        "separable_memory", positions, velocities, mass, spacing, lags, energy, temperature, grid, blocks
    )
    size = points.shape[0]
    SplineProfile(points, np.ones(size))  # equally spaced, or it says so
    fine = jnp.linspace(points[0], points[-1], _FINER * (size - 1) + 1)
    tables, shares = _tables(x, v, energy, mass, points, fine, lags, max(blocks, _GROUPS))
    count = len(shares)

    def coupling_of(logarithms: Array) -> Array:
        # Moments shrink as g grows: its scale, which is K's as well, must not be free.
        return jnp.exp(logarithms - jnp.mean(logarithms))

    def averages(logarithms: Array) -> Array:
        """⟨M v h, M v² h′ + F h, g v | v b_k⟩ of every block, (blocks, lags, 3, points)."""
        g = SplineProfile(points, coupling_of(logarithms))(fine)
        momentum = jnp.einsum("blmk,m->blk", tables[0], mass / g, precision="highest")
        impulse = jnp.einsum("blmk,m->blk", tables[1], 1 / g, precision="highest")
        flow = jnp.einsum("blmk,m->blk", tables[0], g, precision="highest")
        return jnp.stack([momentum, impulse, flow], axis=2)

    def moments(table: Array, logarithms: Array) -> tuple[Array, Array]:
        """The moments that ought to vanish, (lags − 1, points), and G, for an average (lags, 3, points)."""
        momentum, impulse, flow = jnp.moveaxis(table, 1, 0)
        change = (momentum[1:] - momentum[:1]) - spacing * jnp.cumsum(0.5 * (impulse[1:] + impulse[:-1]), axis=0)
        middle = 0.5 * (flow[1:] + flow[:-1])
        own = coupling_of(logarithms)[:, None]
        rhs, known = (jnp.matmul(part, own, precision="highest")[..., None] for part in (change, middle))
        integral = solve_volterra(-rhs, known, spacing)[:, 0, 0]
        lag = jnp.arange(lags - 1)
        past = jnp.where((lag[:, None] >= lag)[..., None], middle[jnp.maximum(lag[:, None] - lag, 0)], 0.0)
        return change + spacing * jnp.einsum("j,ijk->ik", integral, past, precision="highest"), integral

    @jax.jit
    def weighted_moments(logarithms, weights):
        each = averages(logarithms)
        return jax.lax.map(
            lambda w: moments(jnp.einsum("b,blij->lij", w, each, precision="highest"), logarithms), weights
        )

    def mean_moments(logarithms):
        return jax.tree.map(lambda part: part[0], weighted_moments(logarithms, shares[None]))

    jacobian = jax.jit(jax.jacfwd(mean_moments))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples) * shares
    drawn = jnp.asarray(drawn / np.sum(drawn, axis=1, keepdims=True), v.dtype)

    logarithms, scale = jnp.zeros(size, v.dtype), np.ones(())
    for _ in range(2):  # the weights of the moments are those of a coupling that is about right
        scale = np.asarray(weighted_moments(logarithms, drawn)[0]).std(axis=0, ddof=1)
        logarithms = _gauss_newton(mean_moments, jacobian, logarithms, scale)
    residual, integral = (np.asarray(part) for part in mean_moments(logarithms))
    slopes = [np.asarray(part) for part in jacobian(logarithms)]
    solve = np.linalg.pinv((slopes[0] / scale[..., None]).reshape(-1, size), rcond=1e-6)
    shifted, integrals = (np.asarray(part) for part in weighted_moments(logarithms, drawn))
    shifts = -((shifted - residual) / scale).reshape(resamples, -1) @ solve.T
    integrals = integrals + shifts @ slopes[1].T

    # The scale of g and K is a convention: ⟨g²⟩ = 1.
    def square(at: Array) -> Array:
        return jnp.mean(SplineProfile(points, coupling_of(at))(x) ** 2)

    norm, trend = float(square(logarithms)), np.asarray(jax.grad(square)(logarithms))
    coupling = np.asarray(coupling_of(logarithms)) / np.sqrt(norm)
    change = shifts @ trend / norm
    coupling_error = (coupling * (shifts - np.mean(shifts, axis=1)[:, None] - 0.5 * change[:, None])).std(
        axis=0, ddof=1
    )
    integrals, integral = norm * (integrals + change[:, None] * integral), norm * integral
    kernels, kernel = _slopes(integrals, spacing), _slopes(integral, spacing)
    times = (np.arange(lags - 1) + 0.5) * spacing
    return SeparableMemory(
        grid=np.asarray(points),
        coupling=coupling,
        coupling_error=coupling_error,
        profile=SplineProfile(points, jnp.asarray(coupling)),
        extracted=ExtractedKernel(TabulatedKernel(kernel, spacing), jnp.asarray(times), jnp.asarray(integral)),
        kernel_error=kernels.std(axis=0, ddof=1),
        integral_error=integrals.std(axis=0, ddof=1),
        deviation=float(np.sqrt(np.mean((residual / scale) ** 2))),
        blocks=count,
    )


def _tables(x, v, energy, mass, points, fine, lags: int, groups: int) -> tuple[tuple[Array, Array], np.ndarray]:
    """⟨v φ_m | v b_k⟩ and ⟨M v² φ_m′ + F φ_m | v b_k⟩ with hat functions φ of the fine grid, and the blocks' shares.

    Each is (blocks, lags, fine points, points): g and h are linear in φ, so the frames are gone through once.
    """

    @jax.jit
    def one(q, w):
        force = jnp.zeros_like(q) if energy is None else -jax.grad(energy)(q)
        hats, slope = jax.jvp(lambda at: hat_functions(at, fine), (q,), (jnp.ones_like(q),))
        a = jnp.concatenate([hats * w[..., None], mass * slope * w[..., None] ** 2 + hats * force[..., None]], axis=-1)
        b = hat_functions(q, points) * w[..., None]
        frames = q.shape[1]
        size = 1 << (frames + lags - 1).bit_length()
        product = jnp.einsum(
            "nfi,nfj->fij", jnp.fft.rfft(a, size, axis=1), jnp.conj(jnp.fft.rfft(b, size, axis=1)), precision="highest"
        )
        both = jnp.fft.irfft(product, size, axis=0)
        pairs = (q.shape[0] * (frames - jnp.arange(lags)))[:, None, None].astype(w.dtype)
        # Backwards in time velocities are reversed: two estimates of everything.
        ahead, back = both[:lags] / pairs, both[-jnp.arange(lags)] / pairs
        even, odd = 0.5 * (ahead + back), 0.5 * (ahead - back)
        return even[:, : fine.shape[0]], odd[:, fine.shape[0] :]

    parts = np.array_split(np.arange(x.shape[0]), min(groups, x.shape[0]))
    found = [one(x[part], v[part]) for part in parts]
    shares = np.asarray([len(part) for part in parts]) / x.shape[0]
    return (jnp.stack([pair[0] for pair in found]), jnp.stack([pair[1] for pair in found])), shares


def _gauss_newton(mean_moments, jacobian, at: Array, scale: np.ndarray) -> Array:
    """The logarithms of g with the least sum of squares of the moments over their errors."""

    def total(where):
        return float(np.sum((np.asarray(mean_moments(where)[0]) / scale) ** 2))

    least = total(at)
    for _ in range(_ITERATIONS):
        residual = (np.asarray(mean_moments(at)[0]) / scale).ravel()
        slopes = (np.asarray(jacobian(at)[0]) / scale[..., None]).reshape(len(residual), -1)
        # The least of all solutions: a common factor of g, which has no effect, stays as it is.
        step = np.clip(-np.linalg.lstsq(slopes, residual, rcond=1e-6)[0], -1.0, 1.0)
        for half in range(_HALVINGS):
            trial = at + jnp.asarray(step * 0.5**half, at.dtype)
            found = total(trial)
            if found < least:
                break
        else:
            return at
        at, before, least = trial, least, found
        if before - least < _CONVERGED * before:
            return at
    raise ValueError("separable_memory: no coupling was found; give more frames, or fewer points of the grid.")


def _slopes(integral: np.ndarray, spacing: float) -> np.ndarray:
    """K at 0, 1, … from G halfway between, along the last axis."""
    first = (3.75 * integral[..., :1] - 2.5 / 3 * integral[..., 1:2] + 0.15 * integral[..., 2:3]) / spacing
    return np.concatenate([first, np.diff(integral, axis=-1) / spacing], axis=-1)

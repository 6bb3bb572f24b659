"""Memory kernels from correlation functions, by inverting the Volterra equation of the generalised Langevin equation.

With ⟨· v(0)ᵀ⟩ of M v̇ = F − ∫ Γ(t−s) v(s) ds + η the noise drops out:

    g(t) ≡ M C_vv′(t) − C_Fv(t) = −∫₀ᵗ Γ(s) C_vv(t−s) ds,      C_vv(t) = ⟨v(t) v(0)ᵀ⟩,  C_Fv(t) = ⟨F(t) v(0)ᵀ⟩,

with F the mean force at the instantaneous coordinates. A first-kind equation solved at midpoints is stable, and depends
far less on the spacing of frames than the popular second-kind form with trapezoids, which differentiates g.

Source: Berkowitz et al., J. Chem. Phys. 75, 2462 (1981); Daldrop, Kowalik & Netz, PNAS 115, 5169 (2018)
(the integral kernel G); Kowalik et al., Phys. Rev. E 100, 012126 (2019); Linz, Analytical and Numerical Methods for
Volterra Equations (SIAM, 1985), ch. 9 (midpoints).
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ...typing import Array
from ..kernels.forms import TabulatedKernel, require_positive
from .volterra import (
    cumulative,
    half_steps,
    second_order_slope,
    slope,
    solve_by_laplace,
    solve_second_kind,
    solve_volterra,
    to_frames,
)

Method = Literal["integral", "first kind", "second kind", "fourier"]


class ExtractedKernel(NamedTuple):
    """Result of `extract_kernel`.

    Fields:
        kernel: Γ at lags 0, 1, …, up to two fewer than the correlation functions have.
        times: (times,) ps, where the integral is known.
        integral: G(t) = ∫₀ᵗ Γ at these times, amu/ps, (times,) or (times, coordinates, coordinates). Its plateau is the
            friction of slow motion; with ``"integral"`` it is what was solved for, and more accurate than the sum of Γ.
    """

    kernel: TabulatedKernel
    times: Array
    integral: Array


def extract_kernel(
    velocity_correlation: Array,
    force_correlation: Array | None,
    mass,
    spacing: float | Array,
    *,
    method: Method = "integral",
    derivative: Array | None = None,
    impulse: Array | None = None,
    initial: Array | None = None,
) -> ExtractedKernel:
    """The memory kernel that belongs to the correlation functions of a trajectory.

    Arguments:
        velocity_correlation: C_vv at lags 0, 1, … (lags,) or (lags, coordinates, coordinates), nm²/ps².
        force_correlation: C_Fv of the mean force, the same shape, kJ/mol nm/(nm ps) = amu nm²/ps³; None without one.
        mass: amu: a number, (coordinates,), or a matrix (coordinates, coordinates).
        spacing: time between frames, ps.
        method: ``"integral"`` (default): for G(t) = ∫₀ᵗ Γ at midpoints, needs no derivative of the data; the kernel is
            its difference quotient. ``"first kind"``: for Γ at midpoints, averaged to the frames. ``"second kind"``:
            differentiated once more, with trapezoids, as most programs do: the friction comes out wrong by factors
            where frames do not resolve the fastest decay of Γ. ``"fourier"``: the integral equation by numerical
            Laplace transforms, fastest for very long windows. It is a trapezoid rule in disguise and smooths G over
            ±1 frame, so Γ(0) is too low and noise is stronger than with midpoints; the last frames of the window are
            the worst. Prefer it only for windows of many thousand well resolved frames.
        derivative: C_vv′, e.g. ⟨a(t) v(0)ᵀ⟩ from accelerations, for first and second kind; by differences of C_vv when
            None.
        impulse: ∫₀ᵗ C_Fv at the frames, for ``"integral"`` and ``"fourier"``, where it is known better than by
            quadrature of C_Fv; amu nm²/ps².
        initial: Γ(0) where it is known, e.g. from the fluctuations of the force; otherwise it is extrapolated.

    Raises:
        ValueError: too few lags, shapes that differ, an unknown method, or a spacing that is not positive.
    """
    c = jnp.asarray(velocity_correlation)
    scalar = c.ndim == 1
    c = c[:, None, None] if scalar else c
    if c.ndim != 3 or c.shape[1] != c.shape[2]:
        raise ValueError(
            f"extract_kernel: a velocity correlation of shape {jnp.shape(velocity_correlation)}; give (lags,) or "
            "(lags, coordinates, coordinates)."
        )
    lags = c.shape[0]
    if lags < 8:
        raise ValueError(f"extract_kernel: {lags} lags are too few; give at least 8.")
    require_positive("extract_kernel", "spacing", spacing)
    if method not in ("integral", "first kind", "second kind", "fourier"):
        raise ValueError(
            f"extract_kernel: method {method!r} is not known; choose integral, first kind, second kind or fourier."
        )
    f = None if force_correlation is None else _table(force_correlation, c, "force correlation")
    change = None if derivative is None else _table(derivative, c, "derivative")
    kick = None if impulse is None else _table(impulse, c, "impulse")
    first = None if initial is None else jnp.asarray(initial, c.dtype).reshape(c.shape[1:])
    step = jnp.asarray(spacing, c.dtype)
    values, times, integral = _solve(c, f, _matrix(mass, c), step, change, kick, first, method)
    if scalar:
        values, integral = values[:, 0, 0], integral[:, 0, 0]
    return ExtractedKernel(TabulatedKernel(values, spacing), times, integral)


@partial(jax.jit, static_argnames="method")
def _solve(c, f, inertia, spacing, change, kick, first, method: Method) -> tuple[Array, Array, Array]:
    """Γ at the frames, times, and ∫Γ at these."""

    def weighed(table: Array) -> Array:
        return jnp.matmul(inertia, table, precision="highest")

    f = jnp.zeros_like(c) if f is None else f
    integral = times = None
    if method in ("integral", "fourier"):
        kick = spacing * cumulative(f) if kick is None else kick
        rhs = -(weighed(c - c[0]) - kick)
        if method == "integral":
            # Plain averages halfway: their error and that of the midpoint rule nearly cancel in the plateau of G.
            integral = solve_volterra(rhs[1:], 0.5 * (c[1:] + c[:-1]), spacing)
            times = (jnp.arange(len(integral)) + 0.5) * spacing
            # G at 0 (zero), spacing/2, 3/2 spacing, …; Γ is its slope at the frames.
            start = (3.75 * integral[:1] - 2.5 / 3 * integral[1:2] + 0.15 * integral[2:3]) / spacing
            values = jnp.concatenate([start, (integral[1:] - integral[:-1]) / spacing])
        else:
            integral = solve_by_laplace(rhs, c, spacing)
            times = jnp.arange(len(integral)) * spacing
            values = to_frames((integral[1:] - integral[:-1]) / spacing)
    else:
        change = slope(c, spacing) if change is None else change
        g = weighed(change) - f
        if method == "first kind":
            values = to_frames(solve_volterra(-g[1:], half_steps(c), spacing))
        else:
            values = solve_second_kind(-second_order_slope(g, spacing), c[0], change, spacing)
    if first is not None:
        values = values.at[0].set(first)
    if integral is None or times is None:
        integral, times = spacing * cumulative(values), jnp.arange(len(values)) * spacing
    return values, times, integral


def _table(values: Array, like: Array, name: str) -> Array:
    values = jnp.asarray(values, like.dtype)
    if values.shape != like.shape and values.shape != like.shape[:1]:
        raise ValueError(
            f"extract_kernel: the {name} has shape {values.shape}, the velocity correlation {like.shape}; "
            "give both at the same lags and for the same coordinates."
        )
    return values.reshape(like.shape)


def _matrix(mass, like: Array) -> Array:
    mass, size = jnp.asarray(mass, like.dtype), like.shape[1]
    if mass.ndim == 2:
        return mass
    return jnp.eye(size, dtype=like.dtype) * jnp.broadcast_to(mass, (size,))

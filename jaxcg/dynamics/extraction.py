"""Memory kernels from correlation functions, by inverting the Volterra equation of the generalised Langevin equation.

With ⟨· v(0)ᵀ⟩ of M v̇ = F − ∫ Γ(t−s) v(s) ds + η the noise drops out:

    g(t) ≡ M C_vv′(t) − C_Fv(t) = −∫₀ᵗ Γ(s) C_vv(t−s) ds,      C_vv(t) = ⟨v(t) v(0)ᵀ⟩,  C_Fv(t) = ⟨F(t) v(0)ᵀ⟩,

with F the mean force at the instantaneous coordinates. A first-kind equation solved at midpoints is stable, and depends
far less on the spacing of frames than the popular second-kind form with trapezoids, which differentiates g.

Source: Berkowitz et al., J. Chem. Phys. 75, 2462 (1981); Daldrop, Kowalik & Netz, PNAS 115, 5169 (2018)
(the integral kernel G); Kowalik et al., Phys. Rev. E 100, 012126 (2019); Linz, Analytical and Numerical Methods for
Volterra Equations (SIAM, 1985), ch. 9 (midpoints).
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ..typing import Array
from .kernels import TabulatedKernel

Method = Literal["integral", "first kind", "second kind"]


class ExtractedKernel(NamedTuple):
    """Result of `extract_kernel`.

    Fields:
        kernel: Γ at lags 0, 1, …, one or two fewer than the correlation functions have.
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
    spacing: float,
    *,
    method: Method = "integral",
    derivative: Array | None = None,
) -> ExtractedKernel:
    """The memory kernel that belongs to the correlation functions of a trajectory.

    Arguments:
        velocity_correlation: C_vv at lags 0, 1, … (lags,) or (lags, coordinates, coordinates), nm²/ps².
        force_correlation: C_Fv of the mean force, the same shape, kJ/mol nm/(nm ps) = amu nm²/ps³; None without one.
        mass: amu: a number, or (coordinates,).
        spacing: time between frames, ps.
        method: ``"integral"`` (default): for G(t) = ∫₀ᵗ Γ at midpoints, needs no derivative of the data; the kernel is
            its difference quotient. ``"first kind"``: for Γ at midpoints, averaged to the frames. ``"second kind"``:
            differentiated once more, with trapezoids, as most programs do.
        derivative: C_vv′, e.g. ⟨a(t) v(0)ᵀ⟩ from accelerations; by differences of C_vv when None.

    Raises:
        ValueError: too few lags, or shapes that differ.
    """
    c = jnp.asarray(velocity_correlation)
    scalar = c.ndim == 1
    c = c[:, None, None] if scalar else c
    lags, coordinates = c.shape[0], c.shape[1]
    if lags < 8:
        raise ValueError(f"extract_kernel: {lags} lags are too few; give at least 8.")
    f = jnp.zeros_like(c) if force_correlation is None else jnp.asarray(force_correlation).reshape(c.shape)
    mass = jnp.broadcast_to(jnp.asarray(mass, c.dtype), (coordinates,))[:, None]
    if method == "integral":
        impulse = spacing * _cumulative(f)
        rhs = -(mass * (c - c[0]) - impulse)[1:]
        # Plain averages halfway: their error and that of the midpoint rule nearly cancel in the plateau of G.
        integral = solve_volterra(rhs, 0.5 * (c[1:] + c[:-1]), spacing)
        times = (jnp.arange(len(integral)) + 0.5) * spacing
        # G at 0 (zero), spacing/2, 3/2 spacing, …; Γ is its slope at the frames.
        first = (3.75 * integral[:1] - 2.5 / 3 * integral[1:2] + 0.15 * integral[2:3]) / spacing
        values = jnp.concatenate([first, (integral[1:] - integral[:-1]) / spacing])
    elif method == "first kind":
        slope = _slope(c, spacing) if derivative is None else jnp.asarray(derivative).reshape(c.shape)
        middle = solve_volterra(-(mass * slope - f)[1:], half_steps(c), spacing)
        values = _to_frames(middle)
    elif method == "second kind":
        slope = _slope(c, spacing) if derivative is None else jnp.asarray(derivative).reshape(c.shape)
        values = _second_kind(mass * slope - f, c, slope, spacing)
    else:
        raise ValueError(f"extract_kernel: method {method!r} is not known; choose integral, first kind or second kind.")
    if method != "integral":
        integral, times = spacing * _cumulative(values), jnp.arange(len(values)) * spacing
    if scalar:
        values, integral = values[:, 0, 0], integral[:, 0, 0]
    return ExtractedKernel(TabulatedKernel(values, spacing), times, integral)


def solve_volterra(rhs: Array, middle: Array, spacing) -> Array:
    """X at (k + ½) spacing with spacing Σ_{k ≤ i} X_k K_{i−k} = rhs_i: a first-kind Volterra equation at midpoints.

    Arguments:
        rhs: (times, d, d), at spacing, 2 spacing, …
        middle: (times, d, d), the convolution kernel K at spacing/2, 3/2 spacing, …
        spacing: time step.

    Returns:
        (times, d, d).
    """
    count = rhs.shape[0]
    inverse = jnp.linalg.inv(middle[0])
    order = jnp.arange(count)

    def step(known, i):
        past = jnp.where((order < i)[:, None, None], middle[jnp.clip(i - order, 0, count - 1)], 0.0)
        total = jnp.einsum("kab,kbc->ac", known, past, precision="highest")
        value = jnp.matmul(rhs[i] / spacing - total, inverse, precision="highest")
        return known.at[i].set(value), None

    return jax.lax.scan(step, jnp.zeros_like(rhs), order)[0]


def half_steps(c: Array) -> Array:
    """Values halfway between frames by cubic interpolation, one-sided at the ends: (lags, …) → (lags − 1, …).

    One-sided because a correlation function, though even, need not be smooth at zero.
    """
    inner = (-c[:-3] + 9 * c[1:-2] + 9 * c[2:-1] - c[3:]) / 16
    first = (5 * c[:1] + 15 * c[1:2] - 5 * c[2:3] + c[3:4]) / 16
    last = (5 * c[-1:] + 15 * c[-2:-1] - 5 * c[-3:-2] + c[-4:-3]) / 16
    return jnp.concatenate([first, inner, last])


def _cumulative(f: Array) -> Array:
    """∫ f over unit steps up to each frame, by Simpson's rule with the values halfway."""
    pieces = (f[:-1] + 4 * half_steps(f) + f[1:]) / 6
    return jnp.concatenate([jnp.zeros_like(f[:1]), jnp.cumsum(pieces, axis=0)])


def _slope(c: Array, spacing) -> Array:
    """Derivative at the frames by differences of fourth order, one-sided at the ends; zero at zero."""
    inner = c[:-4] - 8 * c[1:-3] + 8 * c[3:-1] - c[4:]
    first = -3 * c[:1] - 10 * c[1:2] + 18 * c[2:3] - 6 * c[3:4] + c[4:5]
    before = 3 * c[-1:] + 10 * c[-2:-1] - 18 * c[-3:-2] + 6 * c[-4:-3] - c[-5:-4]
    last = 25 * c[-1:] - 48 * c[-2:-1] + 36 * c[-3:-2] - 16 * c[-4:-3] + 3 * c[-5:-4]
    return jnp.concatenate([jnp.zeros_like(c[:1]), first, inner, before, last]) / (12 * spacing)


def _to_frames(middle: Array) -> Array:
    """Values at 0, 1, … from those at ½, 3/2, …, by cubics."""
    zero = (35 * middle[:1] - 35 * middle[1:2] + 21 * middle[2:3] - 5 * middle[3:4]) / 16
    return jnp.concatenate([zero, half_steps(middle)])


def _second_kind(g: Array, c: Array, slope: Array, spacing) -> Array:
    """g′ = −Γ C(0) − ∫ Γ(s) C′(t−s) ds with trapezoids."""
    first = (-3 * g[:1] + 4 * g[1:2] - g[2:3]) / 2
    last = (3 * g[-1:] - 4 * g[-2:-1] + g[-3:-2]) / 2
    change = jnp.concatenate([first, (g[2:] - g[:-2]) / 2, last]) / spacing
    inverse = jnp.linalg.inv(c[0] + 0.5 * spacing * slope[0])
    order = jnp.arange(len(g))

    def step(known, i):
        weight = jnp.where(order == 0, 0.5, 1.0) * (order < i)
        past = slope[jnp.clip(i - order, 0, len(g) - 1)] * weight[:, None, None]
        total = jnp.einsum("kab,kbc->ac", known, past, precision="highest")
        value = jnp.matmul(-change[i] - spacing * total, inverse, precision="highest")
        return known.at[i].set(value), None

    return jax.lax.scan(step, jnp.zeros_like(g), order)[0]

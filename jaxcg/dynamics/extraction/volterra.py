"""Volterra convolution equations on a grid of times, and the finite differences and sums that go with them.

Matrices at equally spaced times, X_j K_{i−j} summed over the past, are unknown times known. Windows up to `BLOCK` are
solved by forward substitution; longer ones in blocks, the past of a block acting through one FFT, so that memory grows
with the window and time with its logarithm and the number of blocks.
"""

import math

import jax
import jax.numpy as jnp

from ...typing import Array

#: Times solved by plain substitution; longer windows are cut into blocks of this length.
BLOCK = 512


def solve_convolution(rhs: Array, kernel: Array, block: int = BLOCK) -> Array:
    """X with Σ_{j ≤ i} X_j K_{i−j} = rhs_i, by forward substitution.

    Arguments:
        rhs: (times, d, d).
        kernel: (times, d, d) K; K_0 has an inverse.
        block: length of the blocks of long windows.

    Returns:
        (times, d, d).

    Source: Hairer, Lubich & Schlichte, SIAM J. Sci. Stat. Comput. 6, 532 (1985), one level of it.
    """
    count = rhs.shape[0]
    inverse = jnp.linalg.inv(kernel[0])
    if count <= block:
        return _substitute(rhs, kernel, inverse)
    blocks = -(-count // block)
    padded = ((0, blocks * block - count), (0, 0), (0, 0))
    left, near = jnp.pad(rhs, padded), kernel[:block]
    size = 1 << (count + 2 * block - 1).bit_length()
    spectrum = jnp.fft.rfft(kernel, size, axis=0)

    def one_block(left, start):
        own = _substitute(jax.lax.dynamic_slice_in_dim(left, start, block), near, inverse)
        # What this block contributes to all that comes after it: rows start + block, ….
        product = jnp.einsum("fab,fbc->fac", jnp.fft.rfft(own, size, axis=0), spectrum, precision="highest")
        ahead = jnp.fft.irfft(product, size, axis=0)[block : block + left.shape[0]]
        rows = jnp.arange(left.shape[0])[:, None, None]
        shifted = jnp.roll(ahead, start + block, axis=0)
        return left - jnp.where(rows >= start + block, shifted, 0.0).astype(left.dtype), own

    _, solved = jax.lax.scan(one_block, left, jnp.arange(blocks) * block)
    return solved.reshape(-1, *rhs.shape[1:])[:count]


def _substitute(rhs: Array, kernel: Array, inverse: Array) -> Array:
    count = rhs.shape[0]
    order = jnp.arange(count)

    def step(known, i):
        past = jnp.where((order < i)[:, None, None], kernel[jnp.clip(i - order, 0, count - 1)], 0.0)
        total = jnp.einsum("kab,kbc->ac", known, past, precision="highest")
        return known.at[i].set(jnp.matmul(rhs[i] - total, inverse, precision="highest")), None

    return jax.lax.scan(step, jnp.zeros_like(rhs), order)[0]


def solve_volterra(rhs: Array, middle: Array, spacing) -> Array:
    """X at (k + ½) spacing with spacing Σ_{k ≤ i} X_k K_{i−k} = rhs_i: a first-kind Volterra equation at midpoints.

    Arguments:
        rhs: (times, d, d), at spacing, 2 spacing, …
        middle: (times, d, d), the convolution kernel K at spacing/2, 3/2 spacing, …
        spacing: time step.

    Returns:
        (times, d, d).

    Source: Linz, Analytical and Numerical Methods for Volterra Equations (SIAM, 1985), ch. 9.
    """
    return solve_convolution(rhs / spacing, middle)


def solve_second_kind(rhs: Array, initial: Array, kernel: Array, spacing) -> Array:
    """X with X(t) A + ∫₀ᵗ X(s) K(t−s) ds = rhs(t) at the frames, by trapezoids.

    Arguments:
        rhs: (times, d, d), at 0, spacing, 2 spacing, …
        initial: (d, d), A.
        kernel: (times, d, d), K at the same times.
        spacing: time step.

    Returns:
        (times, d, d).
    """
    first = jnp.matmul(rhs[0], jnp.linalg.inv(initial), precision="highest")
    rest = rhs[1:] - 0.5 * spacing * jnp.matmul(first, kernel[1:], precision="highest")
    column = jnp.concatenate([(initial + 0.5 * spacing * kernel[0])[None], spacing * kernel[1:-1]])
    return jnp.concatenate([first[None], solve_convolution(rest, column)])


def solve_by_laplace(rhs: Array, kernel: Array, spacing) -> Array:
    """X at the frames with ∫₀ᵗ X(s) K(t−s) ds = rhs(t), by numerical Laplace transforms; X(0) is zero.

    Tables are weighted by e^{−σt}, padded to four times their length, transformed by FFT (on Re s = σ; half weight at
    the jump t = 0), divided, and transformed back. The weight, undone at the end, keeps the periodic images of the FFT
    out. What a division cannot know, the response at the highest frequency, is removed by a cos² taper in frequency,
    applied as the average (¼, ½, ¼) of neighbouring times with X odd about zero.

    Arguments:
        rhs: (times, d, d), at 0, spacing, …; zero at 0.
        kernel: (times, d, d), K at the same times.
        spacing: time step.

    Returns:
        (times − 1, d, d).
    """
    count = rhs.shape[0]
    size = 1 << (4 * count - 1).bit_length()
    # Images are e^{−σ size}, round-off grows to eps e^{σ count} at the end of the window: both eps^0.8.
    decay = -0.8 * math.log(float(jnp.finfo(rhs.dtype).eps)) / size
    weight = jnp.exp(-decay * jnp.arange(count))[:, None, None].astype(rhs.dtype)
    halved = kernel.at[0].multiply(0.5)
    above, below = (jnp.fft.fft(weight * table, size, axis=0) for table in (rhs / spacing, halved))
    solved = jnp.matmul(above, jnp.linalg.inv(below), precision="highest")
    x = jnp.fft.ifft(solved, axis=0)[:count].real / weight
    x = x.at[0].set(0.0)
    inner = 0.25 * x[:-2] + 0.5 * x[1:-1] + 0.25 * x[2:]
    return jnp.concatenate([x[:1], inner])


def half_steps(c: Array) -> Array:
    """Values halfway between frames by cubic interpolation, one-sided at the ends: (lags, …) → (lags − 1, …).

    One-sided because a correlation function, though even, need not be smooth at zero.
    """
    inner = (-c[:-3] + 9 * c[1:-2] + 9 * c[2:-1] - c[3:]) / 16
    first = (5 * c[:1] + 15 * c[1:2] - 5 * c[2:3] + c[3:4]) / 16
    last = (5 * c[-1:] + 15 * c[-2:-1] - 5 * c[-3:-2] + c[-4:-3]) / 16
    return jnp.concatenate([first, inner, last])


def cumulative(f: Array) -> Array:
    """∫ f over unit steps up to each frame, by Simpson's rule with the values halfway."""
    pieces = (f[:-1] + 4 * half_steps(f) + f[1:]) / 6
    return jnp.concatenate([jnp.zeros_like(f[:1]), jnp.cumsum(pieces, axis=0)])


def slope(c: Array, spacing) -> Array:
    """Derivative at the frames by differences of fourth order, one-sided at the ends; zero at zero."""
    inner = c[:-4] - 8 * c[1:-3] + 8 * c[3:-1] - c[4:]
    first = -3 * c[:1] - 10 * c[1:2] + 18 * c[2:3] - 6 * c[3:4] + c[4:5]
    before = 3 * c[-1:] + 10 * c[-2:-1] - 18 * c[-3:-2] + 6 * c[-4:-3] - c[-5:-4]
    last = 25 * c[-1:] - 48 * c[-2:-1] + 36 * c[-3:-2] - 16 * c[-4:-3] + 3 * c[-5:-4]
    return jnp.concatenate([jnp.zeros_like(c[:1]), first, inner, before, last]) / (12 * spacing)


def to_frames(middle: Array) -> Array:
    """Values at 0, 1, … from those at ½, 3/2, …, by cubics."""
    zero = (35 * middle[:1] - 35 * middle[1:2] + 21 * middle[2:3] - 5 * middle[3:4]) / 16
    return jnp.concatenate([zero, half_steps(middle)])


def second_order_slope(g: Array, spacing) -> Array:
    """Derivative at the frames by differences of second order, one-sided at the ends."""
    first = (-3 * g[:1] + 4 * g[1:2] - g[2:3]) / 2
    last = (3 * g[-1:] - 4 * g[-2:-1] + g[-3:-2]) / 2
    return jnp.concatenate([first, (g[2:] - g[:-2]) / 2, last]) / spacing

"""Time correlation functions of many trajectories at once, by FFT, with memory that does not grow with their number."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..typing import Array


class Correlation(NamedTuple):
    """A correlation function under accumulation: sums over pairs of frames, and how many pairs there were.

    Fields:
        total: (lags, columns, columns) Σ a(t + lag) b(t)ᵀ.
        pairs: (lags,) number of pairs.
    """

    total: Array
    pairs: Array

    @staticmethod
    def start(lags: int, first: int, second: int | None = None, dtype=jnp.float64) -> "Correlation":
        """Nothing yet: for ``lags`` lags and quantities of ``first`` and ``second`` components."""
        second = first if second is None else second
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        return Correlation(jnp.zeros((lags, first, second), dtype), jnp.zeros(lags, dtype))

    def update(self, a: Array, b: Array) -> "Correlation":
        """With more trajectories: ``a`` (trajectories, frames, first) and ``b`` (trajectories, frames, second)."""
        return _update(self, jnp.asarray(a), jnp.asarray(b))

    def value(self) -> Array:
        """⟨a(lag) b(0)ᵀ⟩, (lags, first, second)."""
        return self.total / jnp.maximum(self.pairs, 1)[:, None, None]


@jax.jit
def _update(found: Correlation, a: Array, b: Array) -> Correlation:
    lags, frames = found.total.shape[0], a.shape[1]
    if frames < lags:
        raise ValueError(f"correlation: trajectories of {frames} frames are too short for {lags} lags.")
    size = 1 << (frames + lags - 1).bit_length()
    dtype = found.total.dtype
    spectra = jnp.fft.rfft(a.astype(dtype), size, axis=1), jnp.fft.rfft(b.astype(dtype), size, axis=1)
    # Summed over trajectories before the way back: one inverse transform, whatever their number.
    product = jnp.einsum("nfi,nfj->fij", spectra[0], jnp.conj(spectra[1]), precision="highest")
    total = jnp.fft.irfft(product, size, axis=0)[:lags]
    pairs = a.shape[0] * (frames - jnp.arange(lags))
    return Correlation(found.total + total, found.pairs + pairs.astype(dtype))


def correlation(a: Array, b: Array | None = None, *, lags: int) -> Array:
    """⟨a(t) b(0)⟩ of trajectories of numbers, averaged over times and trajectories.

    Arguments:
        a: (frames,) or (trajectories, frames).
        b: the same shape; ``a`` when None.
        lags: number of lags, from 0.

    Returns:
        (lags,) correlation function.

    Raises:
        ValueError: trajectories shorter than the lags.
    """
    a = jnp.atleast_2d(jnp.asarray(a))
    b = a if b is None else jnp.atleast_2d(jnp.asarray(b))
    return Correlation.start(lags, 1, dtype=a.dtype).update(a[..., None], b[..., None]).value()[:, 0, 0]


def mean_square_displacement(x: Array, *, lags: int) -> Array:
    """⟨|x(t) − x(0)|²⟩ of unwrapped trajectories, by FFT.

    Arguments:
        x: (trajectories, frames, components), nm.
        lags: number of lags, from 0.

    Returns:
        (lags,) nm².

    Source: Calandrini et al., Collection SFN 12, 201 (2011), eqs. for the fast correlation algorithm.
    """
    x = jnp.asarray(x)
    frames = x.shape[1]
    x = x - jnp.mean(x, axis=1, keepdims=True)  # displacements do not change, round-off does
    square = jnp.sum(x**2, axis=-1)
    both = Correlation.start(lags, x.shape[-1], dtype=x.dtype).update(x, x).value()
    ahead = jnp.cumsum(jnp.pad(square, ((0, 0), (1, 0))), axis=1)
    lag = jnp.arange(lags)
    total = ahead[:, frames - lag] + ahead[:, -1:] - ahead[:, lag]
    return jnp.mean(total, axis=0) / (frames - lag) - 2 * jnp.trace(both, axis1=1, axis2=2)

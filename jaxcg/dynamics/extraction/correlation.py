"""Time correlation functions of many trajectories at once, by FFT, with memory that does not grow with their number."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ...typing import Array


class Correlation(NamedTuple):
    """A correlation function under accumulation: sums over pairs of frames, and how many pairs there were.

    Sums are compensated: in float32 many thousand updates lose no more than one does.

    Fields:
        total: (lags, columns, columns) Σ a(t + lag) b(t)ᵀ.
        pairs: (lags,) number of pairs.
        total_rest, pairs_rest: what rounding took from these so far.
    """

    total: Array
    pairs: Array
    total_rest: Array
    pairs_rest: Array

    @staticmethod
    def start(lags: int, first: int, second: int | None = None, dtype=jnp.float64) -> "Correlation":
        """Nothing yet: for ``lags`` lags and quantities of ``first`` and ``second`` components."""
        second = first if second is None else second
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        total, pairs = jnp.zeros((lags, first, second), dtype), jnp.zeros(lags, dtype)
        return Correlation(total, pairs, jnp.zeros_like(total), jnp.zeros_like(pairs))

    def update(self, a: Array, b: Array) -> "Correlation":
        """With more trajectories: ``a`` (trajectories, frames, first) and ``b`` (trajectories, frames, second).

        Raises:
            ValueError: the trajectories are shorter than the lags, or differ in number or length.
        """
        return _update(self, jnp.asarray(a), jnp.asarray(b))

    def value(self) -> Array:
        """⟨a(lag) b(0)ᵀ⟩, (lags, first, second)."""
        total, pairs = self.total + self.total_rest, self.pairs + self.pairs_rest
        return total / jnp.maximum(pairs, 1)[:, None, None]

    def _add(self, total: Array, pairs: Array) -> "Correlation":
        total, lost = _two_sum(self.total, total)
        pairs, missed = _two_sum(self.pairs, pairs.astype(self.pairs.dtype))
        return Correlation(total, pairs, self.total_rest + lost, self.pairs_rest + missed)


class CorrelationStream(NamedTuple):
    """A correlation function of trajectories that are too long for the memory, from one segment after the other.

    Every pair of frames counts, also those in two segments: the result is that of the whole trajectories at once.
    Memory is that of a segment and of as many frames as there are lags. Data with a large mean lose accuracy in
    float32: subtract it (or a guess of it) first.

    Fields:
        found: the sums so far.
        past: (trajectories, lags − 1, second) the last frames of b.
        frames: number of frames so far.
    """

    found: Correlation
    past: Array
    frames: Array

    @staticmethod
    def start(
        lags: int, trajectories: int, first: int, second: int | None = None, dtype=jnp.float64
    ) -> "CorrelationStream":
        """Nothing yet: for ``lags`` lags and ``trajectories`` of ``first`` and ``second`` components."""
        second = first if second is None else second
        found = Correlation.start(lags, first, second, dtype)
        past = jnp.zeros((trajectories, lags - 1, second), found.total.dtype)
        return CorrelationStream(found, past, jnp.zeros((), jnp.int32))

    def update(self, a: Array, b: Array) -> "CorrelationStream":
        """With the next segment: ``a`` (trajectories, frames, first), ``b`` (trajectories, frames, second), any length.

        Raises:
            ValueError: the numbers of trajectories or frames differ.
        """
        return _extend(self, jnp.asarray(a), jnp.asarray(b))

    def value(self) -> Array:
        """⟨a(lag) b(0)ᵀ⟩ so far, (lags, first, second)."""
        return self.found.value()


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b rounded, and what the rounding lost.

    Source: Knuth, The Art of Computer Programming 2, sec. 4.2.2.
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _pair_sums(a: Array, b: Array, lags: int, dtype) -> Array:
    """Σ a(t + lag) b(t)ᵀ over trajectories and frames t, (lags, first, second)."""
    size = 1 << (a.shape[1] + lags - 1).bit_length()
    spectra = jnp.fft.rfft(a.astype(dtype), size, axis=1), jnp.fft.rfft(b.astype(dtype), size, axis=1)
    # Summed over trajectories before the way back: one inverse transform, whatever their number.
    product = jnp.einsum("nfi,nfj->fij", spectra[0], jnp.conj(spectra[1]), precision="highest")
    return jnp.fft.irfft(product, size, axis=0)[:lags]


@jax.jit
def _update(found: Correlation, a: Array, b: Array) -> Correlation:
    _same("correlation", a, b)
    lags, frames = found.total.shape[0], a.shape[1]
    if frames < lags:
        raise ValueError(
            f"correlation: trajectories of {frames} frames are too short for {lags} lags; give at most {frames} lags."
        )
    pairs = a.shape[0] * (frames - jnp.arange(lags))
    return found._add(_pair_sums(a, b, lags, found.total.dtype), pairs)


@jax.jit
def _extend(stream: CorrelationStream, a: Array, b: Array) -> CorrelationStream:
    _same("correlation", a, b)
    found, past, frames = stream
    if a.shape[0] != past.shape[0]:
        raise ValueError(f"correlation: a segment of {a.shape[0]} trajectories; the stream has {past.shape[0]}.")
    lags, new = found.total.shape[0], a.shape[1]
    dtype = found.total.dtype
    # Zeros before a: only pairs whose later frame is new.
    b = jnp.concatenate([past, b.astype(dtype)], axis=1)
    later = jnp.pad(a.astype(dtype), ((0, 0), (lags - 1, 0), (0, 0)))
    pairs = a.shape[0] * jnp.clip(frames + new - jnp.arange(lags), 0, new)
    return CorrelationStream(found._add(_pair_sums(later, b, lags, dtype), pairs), b[:, new:], frames + new)


def _same(owner: str, a: Array, b: Array) -> None:
    if a.ndim != 3 or b.ndim != 3 or a.shape[:2] != b.shape[:2]:
        raise ValueError(
            f"{owner}: quantities of shapes {a.shape} and {b.shape}; give (trajectories, frames, components) with the "
            "same trajectories and frames."
        )


def correlation(a: Array, b: Array | None = None, *, lags: int, subtract_mean: bool = False) -> Array:
    """⟨a(t) b(0)⟩ of trajectories of numbers, averaged over times and trajectories.

    Arguments:
        a: (frames,) or (trajectories, frames).
        b: the same shape; ``a`` when None.
        lags: number of lags, from 0.
        subtract_mean: of fluctuations about the mean over all times and trajectories.

    Returns:
        (lags,) correlation function.

    Raises:
        ValueError: trajectories shorter than the lags, or shapes that differ.
    """
    a = jnp.atleast_2d(jnp.asarray(a))
    b = a if b is None else jnp.atleast_2d(jnp.asarray(b))
    if subtract_mean:
        a, b = a - jnp.mean(a), b - jnp.mean(b)
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

"""Mean and covariance of a stream of draws."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from ...typing import Array


class Moments(NamedTuple):
    """Running mean and covariance of vectors, or of many vectors side by side (blocks of a molecule).

    A stream in which any number of draws arrives at a time, from many chains; nothing is stored, and nothing is lost to
    cancellation in float32. All methods may be compiled.

    Fields:
        count: draws so far.
        mean: (..., n).
        scatter: sum of squared deviations from the mean: (..., n, n), or (..., n) where only variances are kept.

    Source: Welford, Technometrics 4, 419 (1962); Chan, Golub & LeVeque, Am. Stat. 37, 242 (1983).
    """

    count: Array
    mean: Array
    scatter: Array

    @staticmethod
    def start(shape: tuple[int, ...], dtype, *, dense: bool) -> "Moments":
        """Of no draws of the given shape (..., n)."""
        mean = jnp.zeros(shape, dtype)
        return Moments(jnp.zeros((), dtype), mean, jnp.zeros((*shape, shape[-1]) if dense else shape, dtype))

    def update(self, draws: Array) -> "Moments":
        """With ``draws`` (draws, ..., n) taken in."""
        number = draws.shape[0]
        count = self.count + number
        mean = jnp.mean(draws, axis=0)
        step = mean - self.mean
        within, between = self._squares(draws - mean), self._squares(step[None])
        scatter = self.scatter + within + between * (self.count * number / count)
        return Moments(count, self.mean + step * (number / count), scatter)

    def covariance(self) -> Array:
        """Unbiased covariances, or variances; zero for fewer than two draws."""
        return self.scatter / jnp.maximum(self.count - 1, 1)

    def _squares(self, deviations):
        if self.scatter.ndim == self.mean.ndim:
            return jnp.sum(deviations**2, axis=0)
        return jnp.einsum("c...i,c...j->...ij", deviations, deviations, precision=lax.Precision.HIGHEST)

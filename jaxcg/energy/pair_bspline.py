"""Pair potentials linear in the coefficients of B-splines."""

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import BSpline

from ..typing import Array, Float
from ._arrays import leaf
from .pair_potentials import AbstractPairPotential, _within


class BSplinePair(AbstractPairPotential):
    """u = Σ c_k B_k(r), with B-splines on equally spaced knots.

    u and its first degree − 1 derivatives vanish at the cutoff: for cubic splines u, u′ and u″.

    Linear in its coefficients, each of which acts over degree + 1 steps of (cutoff − start)/coefficients only: B_k does
    from (k − degree) to (k + 1) steps beyond the start. Below the start u goes on along its tangent.

    Arguments:
        start: where u begins to be a straight line inwards, nm.
        cutoff: where u ends, nm.
        coefficients: (coefficients,) c_k, kJ/mol; the splines sum to one away from the cutoff, so c_k is about u in the
            middle of B_k.
        degree: of the piecewise polynomials, 2 to 5.

    Raises:
        ValueError: no coefficients, the cutoff is not beyond the start, or another degree.

    Source: de Boor, A Practical Guide to Splines, Springer (1978).
    """

    coefficients: Float[Array, " coefficients"]
    start: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    degree: int = eqx.field(static=True)

    def __init__(self, start: float, cutoff: float, coefficients, degree: int = 3):
        if not 0 <= start < cutoff:
            raise ValueError("BSplinePair: the cutoff must lie beyond the start, and both be positive.")
        if degree not in (2, 3, 4, 5):
            raise ValueError(f"BSplinePair: the degree is 2, 3, 4 or 5, not {degree}.")
        self.coefficients = leaf(coefficients)
        if self.coefficients.ndim != 1 or self.coefficients.shape[0] < 1:
            raise ValueError("BSplinePair: give one or more coefficients, in one row.")
        self.start, self.cutoff, self.degree = float(start), float(cutoff), int(degree)

    @property
    def spacing(self) -> float:
        """Distance between knots, nm."""
        return (self.cutoff - self.start) / self.coefficients.shape[0]

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        left, weights, slopes = self._weights(r)
        # Coefficients beyond the last would belong to splines that do not vanish at the cutoff.
        padded = jnp.concatenate([self.coefficients.astype(r.dtype), jnp.zeros((self.degree,), r.dtype)])
        terms = [padded[left + i] for i in range(self.degree + 1)]
        energy = sum(w * c for w, c in zip(weights, terms))
        slope = sum(w * c for w, c in zip(slopes, terms))
        return _within(r, self.cutoff, jnp.asarray(energy), jnp.asarray(slope))

    def basis(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape coefficients"]:
        """∂u/∂c_k at ``r`` (any shape, nm): u is its product with the coefficients."""
        return self._rows(r)[0]

    def basis_slopes(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape coefficients"]:
        """∂u′/∂c_k at ``r`` (any shape, nm), 1/nm: du/dr is its product with the coefficients."""
        return self._rows(r)[1]

    def _rows(self, r: Array) -> tuple[Array, Array]:
        left, weights, slopes = self._weights(r)
        count = self.coefficients.shape[0]
        hot = [jax.nn.one_hot(left + i, count, dtype=r.dtype) for i in range(self.degree + 1)]
        rows = (sum(w[..., None] * h for w, h in zip(kind, hot)) for kind in (weights, slopes))
        values, by_r = _within(r[..., None], self.cutoff, *(jnp.asarray(row) for row in rows))
        return values, by_r

    def _weights(self, r: Array) -> tuple[Array, list[Array], list[Array]]:
        """The first spline that acts at ``r``, and the values and slopes of it and the next ``degree`` ones."""
        count, spacing = self.coefficients.shape[0], self.spacing
        position = (r - self.start) / spacing
        inside = jnp.clip(position, 0.0, count)
        left = jnp.clip(inside.astype(jnp.int32), 0, count - 1)
        t, below = inside - left.astype(r.dtype), jnp.minimum(position, 0.0)
        values, slopes = [], []
        for piece in _pieces(self.degree):
            value, slope = jnp.zeros_like(t), jnp.zeros_like(t)
            for a in piece[::-1]:
                slope = slope * t + value
                value = value * t + a
            values.append(value + below * slope)
            slopes.append(slope / spacing)
        return left, values, slopes

    @staticmethod
    def through(distances, values, start: float, cutoff: float, n: int, degree: int = 3) -> "BSplinePair":
        """The potential that fits a table best: least squares of u over its points between ``start`` and ``cutoff``.

        Arguments:
            distances, values: (points,) nm and kJ/mol, in any order; values that are not finite are left out.
            start, cutoff: nm.
            n: number of coefficients.
            degree: of the piecewise polynomials.

        Raises:
            ValueError: fewer points than coefficients between start and cutoff.
        """
        blank = BSplinePair(start, cutoff, np.zeros(n), degree)
        r, u = np.asarray(distances, np.float64), np.asarray(values, np.float64)
        inside = (r >= start) & (r <= cutoff) & np.isfinite(u)
        if inside.sum() < n:
            raise ValueError(
                f"BSplinePair: {inside.sum()} points of the table lie in the range, fewer than {n} coefficients."
            )
        position = np.clip((r[inside] - start) / blank.spacing, 0.0, n)
        knots = np.arange(-degree, n + degree + 1, dtype=np.float64)
        # The last splines of the whole basis are those that do not vanish at the cutoff.
        design = BSpline.design_matrix(position, knots, degree).toarray()[:, :n]
        return BSplinePair(start, cutoff, np.linalg.lstsq(design, u[inside], rcond=None)[0], degree)


@lru_cache(maxsize=8)
def _pieces(degree: int) -> tuple[tuple[float, ...], ...]:
    """Polynomials, ascending in t, of the splines that act on one step: first the one that ends there.

    The uniform B-spline of degree p on its step m is ((m + t) P(p − 1, m) + (p + 1 − m − t) P(p − 1, m − 1))/p.
    """
    polynomial = np.polynomial.Polynomial
    pieces = [polynomial([1.0])]
    for p in range(1, degree + 1):
        zero = [polynomial([0.0])]
        rising, falling = pieces + zero, zero + pieces
        pieces = [
            (polynomial([m, 1.0]) * rising[m] + polynomial([p + 1 - m, -1.0]) * falling[m]) / p for m in range(p + 1)
        ]
    return tuple(tuple(float(a) for a in piece.coef) for piece in reversed(pieces))

"""How far two distributions are apart.

Every function takes two arrays of probabilities (or counts) of the same bins, of any shape, which it makes sum to one;
NumPy arrays or arrays of JAX, whose dtype the result follows. They are differentiable: with soft histograms they are
objectives to fit a model to. What is taken over bins is at most what it is over the continuous distributions, since
bins forget (the data-processing inequality); finer bins come closer and need more samples.

Direction: D(p‖q) = Σ p ln(p/q) is the information that is lost where q stands for p. With the reference as p and the
model as q it punishes a model that never goes where the reference is; the other way round, a model that goes where
the reference never is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array as JaxArray

from ...typing import Array, Float

#: A number, of the library of what it was made from.
Number: TypeAlias = Float[Array | np.ndarray, ""]


def kl_divergence(p: Array | np.ndarray, q: Array | np.ndarray) -> Number:
    """Kullback–Leibler divergence D(p‖q) = Σ p ln(p/q): q stands for p.

    Arguments:
        p: probabilities or counts, any shape.
        q: of the same bins.

    Returns:
        Nats, ≥ 0; infinite where q is zero in a bin where p is not.

    Source: Kullback & Leibler, Ann. Math. Stat. 22, 79 (1951).
    """
    return _number(kl_of_shares(*_shares(p, q)))


def jensen_shannon_divergence(p: Array | np.ndarray, q: Array | np.ndarray) -> Number:
    """Jensen–Shannon divergence ½ D(p‖m) + ½ D(q‖m) with m = (p + q)/2. Symmetric.

    Arguments:
        p: probabilities or counts, any shape.
        q: of the same bins.

    Returns:
        Nats, from 0 to ln 2.

    Source: Lin, IEEE Trans. Inf. Theory 37, 145 (1991).
    """
    return _number(jensen_shannon_of_shares(*_shares(p, q)))


def hellinger_distance(p: Array | np.ndarray, q: Array | np.ndarray) -> Number:
    """Hellinger distance √(1 − Σ √(p q)). Symmetric, a metric.

    Arguments:
        p: probabilities or counts, any shape.
        q: of the same bins.

    Returns:
        From 0 to 1. At p = q, where it has a cusp, its derivative is given as zero.
    """
    square = squared_hellinger_of_shares(*_shares(p, q))
    xp = _namespace(square)
    # Rounding makes equal distributions differ in the last digits, where the root has no derivative worth having.
    apart = square > (64 * xp.finfo(square.dtype).eps) ** 2
    return _number(xp.where(apart, xp.sqrt(xp.where(apart, square, 1.0)), xp.zeros_like(square)))


def wasserstein_distance(
    p: Array | np.ndarray, q: Array | np.ndarray, edges: Array | np.ndarray, *, period: float | None = None
) -> Number:
    """Wasserstein-1 (earth mover's) distance ∫ |P(x) − Q(x)| dx of two histograms over one coordinate. Symmetric.

    How far probability has to be carried, on the average. Mass is taken as spread evenly over each bin.

    Arguments:
        p: (bins,) probabilities or counts.
        q: (bins,) of the same bins.
        edges: (bins + 1,) increasing, in the unit of the result.
        period: of the coordinate, e.g. 2π, if the bins go round; probability then takes the shorter way.

    Returns:
        In the unit of the edges.
    """
    return _number(wasserstein_of_shares(*_shares(p, q), edges, periodic=_closes(edges, period)))


def sample_wasserstein_distance(x: Array | np.ndarray, y: Array | np.ndarray) -> Number:
    """Wasserstein-1 distance of two samples of numbers, without bins; differentiable in the numbers.

    Arguments:
        x: (m,) samples of one distribution.
        y: (n,) samples of the other.

    Returns:
        In the unit of the samples.
    """
    xp = _namespace(x, y)
    pooled = xp.sort(xp.concatenate([x, y]))
    between = [xp.searchsorted(xp.sort(each), pooled[:-1], side="right") / len(each) for each in (x, y)]
    apart = xp.abs(between[0] - between[1]).astype(pooled.dtype)
    return _number(xp.sum(apart * xp.diff(pooled)))


class Separable(NamedTuple):
    """A divergence that is a sum over bins, up to a constant: Σ φ(p, q).

    Fields:
        of_shares: the divergence of shares (..., bins) that sum to one.
        curvatures: ∂²φ/∂p² and ∂²φ/∂q² (..., bins), zero where a share is zero.
    """

    of_shares: Callable[[Any, Any], Any]
    curvatures: Callable[[Any, Any], tuple[Any, Any]]

    def bias(self, p: Any, q: Any, variance_p: Any, variance_q: Any) -> Any:
        """What scatter of the shares adds to the divergence on the average, to second order.

        ½ Σ (φ_pp Var p + φ_qq Var q), of which (bins − 1)/(2 n) of independent samples is a special case.

        Arguments:
            p: (..., bins) shares.
            q: (..., bins) shares.
            variance_p: (..., bins) squared standard errors of p.
            variance_q: (..., bins) of q.

        Source: Miller, in Information Theory in Psychology (1955); Roulston, Physica D 125, 285 (1999).
        """
        in_p, in_q = self.curvatures(p, q)
        return (in_p * variance_p + in_q * variance_q).sum(axis=-1) / 2


def kl_of_shares(p: Any, q: Any) -> Any:
    """`kl_divergence` over the last axis of shares."""
    xp = _namespace(p, q)
    inside, both = p > 0, (p > 0) & (q > 0)
    logarithm = xp.log(xp.where(both, p, 1.0)) - xp.log(xp.where(both, q, 1.0))
    return xp.sum(xp.where(both, p * logarithm, xp.where(inside, xp.inf, 0.0).astype(p.dtype)), axis=-1)


def jensen_shannon_of_shares(p: Any, q: Any) -> Any:
    """`jensen_shannon_divergence` over the last axis of shares."""
    middle = (p + q) / 2
    return (kl_of_shares(p, middle) + kl_of_shares(q, middle)) / 2


def squared_hellinger_of_shares(p: Any, q: Any) -> Any:
    """Square of `hellinger_distance` over the last axis of shares, as ½ Σ (√p − √q)²."""
    return _namespace(p, q).sum((_safe_root(p) - _safe_root(q)) ** 2, axis=-1) / 2


def wasserstein_of_shares(p: Any, q: Any, edges: Any, *, periodic: bool = False) -> Any:
    """`wasserstein_distance` over the last axis of shares."""
    xp = _namespace(p, q)
    widths = xp.diff(xp.asarray(edges, dtype=p.dtype))
    before, after = carried(p, q, edges, periodic=periodic)
    size = xp.abs(before) + xp.abs(after)
    # Where the difference changes sign within a bin, two triangles are left of the trapezium.
    crossing = before * after < 0
    height = xp.where(crossing, (before**2 + after**2) / xp.where(crossing, size, 1.0), size) / 2
    return xp.sum(height * widths, axis=-1)


def carried(p: Any, q: Any, edges: Any, *, periodic: bool = False) -> tuple[Any, Any]:
    """P − Q at the lower and the upper edge of every bin (..., bins): what is carried past it, least if it is round."""
    xp = _namespace(p, q)
    after = xp.cumsum(p - q, axis=-1)
    before = after - (p - q)
    if not periodic:
        return before, after
    # Carrying everything round by the same amount costs nothing in the balance; the median costs least.
    widths = xp.diff(xp.asarray(edges, dtype=p.dtype))
    order = xp.argsort(after, axis=-1)
    held = xp.cumsum(widths[order], axis=-1)
    middle = xp.argmax(held >= held[..., -1:] / 2, axis=-1)[..., None]
    level = xp.take_along_axis(xp.take_along_axis(after, order, axis=-1), middle, axis=-1)
    return before - level, after - level


def _kl_curvatures(p, q):
    xp = _namespace(p, q)
    both = (p > 0) & (q > 0)
    p_safe, q_safe = xp.where(both, p, 1.0), xp.where(both, q, 1.0)
    return xp.where(both, 1 / p_safe, 0.0), xp.where(both, p_safe / q_safe**2, 0.0)


def _jensen_shannon_curvatures(p, q):
    xp = _namespace(p, q)
    both = (p > 0) & (q > 0)
    p_safe, q_safe = xp.where(both, p, 1.0), xp.where(both, q, 1.0)
    total = p_safe + q_safe
    return (
        xp.where(both, q_safe / (2 * p_safe * total), 0.0),
        xp.where(both, p_safe / (2 * q_safe * total), 0.0),
    )


def _hellinger_curvatures(p, q):
    xp = _namespace(p, q)
    both = (p > 0) & (q > 0)
    p_safe, q_safe = xp.where(both, p, 1.0), xp.where(both, q, 1.0)
    return (
        xp.where(both, xp.sqrt(q_safe / p_safe) / (4 * p_safe), 0.0),
        xp.where(both, xp.sqrt(p_safe / q_safe) / (4 * q_safe), 0.0),
    )


#: The divergences whose bias is known; that of Hellinger is of the square of the distance.
KL = Separable(kl_of_shares, _kl_curvatures)
REVERSE_KL = Separable(lambda p, q: kl_of_shares(q, p), lambda p, q: _kl_curvatures(q, p)[::-1])
JENSEN_SHANNON = Separable(jensen_shannon_of_shares, _jensen_shannon_curvatures)
SQUARED_HELLINGER = Separable(squared_hellinger_of_shares, _hellinger_curvatures)


def _namespace(*arrays) -> Any:
    return jnp if any(isinstance(array, JaxArray) for array in arrays) else np


def _number(value) -> Any:
    return _namespace(value).asarray(value)


def _safe_root(p):
    xp = _namespace(p)
    inside = p > 0
    return xp.where(inside, xp.sqrt(xp.where(inside, p, 1.0)), 0.0)


def _shares(p, q):
    xp = _namespace(p, q)
    if np.shape(p) != np.shape(q):
        raise ValueError(
            f"divergence: p has bins {np.shape(p)} and q {np.shape(q)}; both need the same bins in the same order."
        )
    p, q = (xp.asarray(each).reshape(-1) for each in (p, q))
    if not xp.issubdtype(p.dtype, xp.floating) or not xp.issubdtype(q.dtype, xp.floating):
        p, q = (each.astype(xp.result_type(float)) for each in (p, q))
    return p / xp.sum(p), q / xp.sum(q)


def _closes(edges, period: float | None) -> bool:
    if period is None:
        return False
    span = float(edges[-1] - edges[0])
    if not np.isclose(span, period, rtol=1e-5):
        raise ValueError(f"wasserstein_distance: edges span {span:g}, the period is {period:g}; bins must go round.")
    return True

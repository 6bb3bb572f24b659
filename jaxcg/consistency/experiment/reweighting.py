"""Weights of an ensemble that agree with data and change it least: maximum entropy with errors of the data.

The weights minimise

    ½ Σ_i ((⟨F_i⟩ − F_i^exp)/σ_i)² + θ Σ_t w_t ln(w_t/w⁰_t),

whose solution is w_t ∝ w⁰_t exp(−Σ_i λ_i z_ti) with z = (F − F^exp)/σ. There are as many multipliers λ as data; they
minimise the convex ln Σ_t w⁰_t exp(−λ·z_t) + ½ θ |λ|². Large θ trusts the ensemble, small θ the data.

Source: Gull & Daniell, Nature 272, 686 (1978); Hummer & Köfinger, J. Chem. Phys. 143, 243150 (2015); Bottaro, Bengtsen
& Lindorff-Larsen, Methods Mol. Biol. 2112, 219 (2020).
"""

import functools
import warnings
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...sampling.estimators.reweighting import COLLAPSED, FEWEST
from ...typing import Array, Float
from ..statistics import Estimate, block_average
from .agreement import checked_data

#: A datum that is measured as such, or is an upper or a lower bound of the average.
Bound = Literal["value", "upper", "lower"]

#: Newton steps at most; they are about ten.
_STEPS = 200
#: Halvings of a step at most.
_HALVINGS = 30


class CollapsedWeights(UserWarning):
    """A few frames carry the weight of a reweighted ensemble: its averages are those of these frames."""


class ReweightedEnsemble(NamedTuple):
    """Result of `reweight_to_data`.

    Fields:
        weights: (frames,) of the frames, sum one.
        multipliers: (data,) λ, in units of the experimental errors; zero for a bound that is kept by itself.
        averages: (data,) reweighted averages.
        initial_chi_squared, chi_squared: mean squared deviation by the errors before and after; of bounds only what
            goes beyond them counts.
        relative_entropy: Σ w ln(w/w⁰) ≥ 0, nats: how far the ensemble was changed. New weights against old.
        effective_frames: Kish's effective number of frames (Σw)²/Σw².
        share: ``effective_frames`` by that of the weights before; one where nothing changed.
        effective_sample_size: independent frames left: that of the averages before, by correlations in time, times
            ``share``.
        status: "trusted", or "collapsed" where a few frames carry the weight.
    """

    weights: np.ndarray
    multipliers: np.ndarray
    averages: np.ndarray
    initial_chi_squared: float
    chi_squared: float
    relative_entropy: float
    effective_frames: float
    share: float
    effective_sample_size: float
    status: Literal["trusted", "collapsed"]


def maximum_entropy_weights(
    computed: Float[Array | np.ndarray, "frames data"],
    measured: Float[Array | np.ndarray, " data"],
    errors: Float[Array | np.ndarray, " data"],
    theta: Any,
    *,
    prior: Float[Array | np.ndarray, " frames"] | None = None,
    bounds: Sequence[Bound] | None = None,
) -> tuple[Array, Array]:
    """Weights of the frames and the multipliers of the data (formulas: see the module).

    Differentiable in everything by the implicit function theorem, forward and reverse; may be jitted.

    Arguments:
        computed: (frames, data) what is averaged to give each datum, of every frame: r⁻⁶ for an NOE.
        measured, errors: (data,) of the same quantity.
        theta: confidence in the ensemble, positive.
        prior: (frames,) weights before, positive; equal ones when None.
        bounds: (data,) "value", or "upper" and "lower" for bounds of the average, which only act where they are broken.

    Returns:
        (frames,) weights of sum one and (data,) multipliers.
    """
    z = (jnp.asarray(computed) - jnp.asarray(measured)) / jnp.asarray(errors)
    dtype = z.dtype
    theta = jnp.asarray(theta, dtype)
    logarithm = jnp.zeros(len(z), dtype) if prior is None else jnp.log(jnp.asarray(prior, dtype))
    logarithm = logarithm - jax.nn.logsumexp(logarithm)
    kinds = ["value"] * z.shape[1] if bounds is None else list(bounds)
    least = np.array([0.0 if kind == "upper" else -np.inf for kind in kinds]).astype(dtype)
    most = np.array([0.0 if kind == "lower" else np.inf for kind in kinds]).astype(dtype)

    def weights(multipliers):
        return jax.nn.softmax(logarithm - jnp.matmul(z, multipliers, precision="highest"))

    def slope(multipliers):
        return theta * multipliers - jnp.matmul(weights(multipliers), z, precision="highest")

    def held(multipliers):
        """Multipliers of bounds that are not broken: they stay at zero."""
        rate = lax.stop_gradient(slope(multipliers))
        at = lax.stop_gradient(multipliers)
        return ((at <= least) & (rate > 0)) | ((at >= most) & (rate < 0))

    def residual(multipliers):
        return jnp.where(held(multipliers), multipliers, slope(multipliers))

    def solve(_, start):
        return _newton(weights, slope, held, z, logarithm, theta, least, most, start)

    def solve_linear(linear, right):
        return jnp.linalg.solve(jax.jacobian(linear)(jnp.zeros_like(right)), right)

    multipliers = lax.custom_root(residual, jnp.zeros(z.shape[1], dtype), solve, solve_linear)
    return weights(multipliers), multipliers


def reweight_to_data(
    computed: Any,
    measured: Float[Array | np.ndarray, " data"],
    errors: Float[Array | np.ndarray, " data"],
    theta: float,
    *,
    prior: Float[Array | np.ndarray, " frames"] | None = None,
    bounds: Sequence[Bound] | None = None,
) -> ReweightedEnsemble:
    """Reweights an ensemble to data and tells whether enough of it is left.

    Arguments:
        computed: (frames, data) from `observe`, in the order of time, or a list of runs.
        measured, errors, theta, prior, bounds: as in `maximum_entropy_weights`. Choose θ with `confidence_curve`.

    Returns:
        The `ReweightedEnsemble`. Its weights are of the frames of all runs one after the other.

    Raises:
        ValueError: shapes that do not fit, values that are not finite; errors, θ or prior that are not positive.

    Warns:
        CollapsedWeights: a few frames carry the weight (see ``status``).
    """
    measured, errors = checked_data(measured, errors, "reweight_to_data")
    frames = _frames(computed, measured.size)
    initial = np.full(len(frames), 1 / len(frames)) if prior is None else np.asarray(prior, np.float64)
    if initial.shape != (len(frames),) or not np.all(initial > 0) or not np.all(np.isfinite(initial)):
        raise ValueError(f"reweight_to_data: prior weights must be {len(frames)} positive numbers, one for each frame.")
    if not theta > 0:
        raise ValueError(f"reweight_to_data: theta is {theta}; it must be positive (large: trust the ensemble).")
    if bounds is not None and (len(bounds) != measured.size or set(bounds) - {"value", "upper", "lower"}):
        raise ValueError(
            f"reweight_to_data: bounds must be 'value', 'upper' or 'lower' for each of {len(measured)} data."
        )
    initial = initial / initial.sum()
    found = _solved(frames, measured, errors, float(theta), initial, None if bounds is None else tuple(bounds))
    weights, multipliers = (np.asarray(each, np.float64) for each in found)
    weights = weights / weights.sum()

    before, after = ((w @ frames - measured) / errors for w in (initial, weights))
    effective, effective_before = (1 / float(w @ w) for w in (weights, initial))
    share = effective / effective_before
    size = float(np.nanmin(np.append(np.asarray(block_average(computed).effective_sample_size), len(frames)))) * share
    collapsed = share < COLLAPSED or effective < min(FEWEST, 0.5 * effective_before)
    if collapsed:
        warnings.warn(
            f"reweight_to_data: the weight is carried by {effective:.3g} of {len(frames)} frames (share {share:.2g}, "
            f"relative entropy {_relative_entropy(weights, initial):.2f} nats) at theta {theta:g}; averages are those "
            "of these frames. Use a larger theta, or sample where the data are.",
            CollapsedWeights,
            stacklevel=2,
        )
    return ReweightedEnsemble(
        weights=weights,
        multipliers=multipliers,
        averages=weights @ frames,
        initial_chi_squared=float(np.mean(_broken(before, bounds) ** 2)),
        chi_squared=float(np.mean(_broken(after, bounds) ** 2)),
        relative_entropy=_relative_entropy(weights, initial),
        effective_frames=effective,
        share=share,
        effective_sample_size=size,
        status="collapsed" if collapsed else "trusted",
    )


def reweighted_average(
    series: Any,
    computed: Any,
    errors: Float[Array | np.ndarray, " data"],
    theta: float,
    ensemble: ReweightedEnsemble,
) -> Estimate:
    """Average of another observable over a reweighted ensemble, with its error.

    The weights are made of the same frames; a longer run would have found others. To first order a frame contributes
    N w_t [(g_t − ⟨g⟩) − Cov(g, z) (Cov(z) + θ)⁻¹ (z_t − ⟨z⟩)], and the error is that of the mean of this series. What
    the errors of the data bring is not in it; nor is what no frame has seen.

    Arguments:
        series: (frames, ...) the other observable of every frame, or a list of runs.
        computed, errors, theta: what the ensemble was reweighted with.
        ensemble: from `reweight_to_data`.

    Returns:
        The `Estimate`, of the trailing shape.

    Raises:
        ValueError: another number of frames.
    """
    errors = np.asarray(errors, np.float64)
    z = _frames(computed, errors.size) / errors
    runs = [np.asarray(run, np.float64) for run in (series if isinstance(series, list | tuple) else [series])]
    g = np.concatenate(runs)
    w = ensemble.weights
    if len(g) != len(w) or len(z) != len(w):
        raise ValueError(f"reweighted_average: {len(g)} and {len(z)} frames, {len(w)} weights; give the same frames.")
    shape = g.shape[1:]
    g = g.reshape(len(g), -1)
    value = w @ g
    g, z = g - value, z - w @ z
    # A bound that is kept has no multiplier, and none that would answer.
    z = z[:, ensemble.multipliers != 0]
    covariance = (w[:, None] * z).T @ z + theta * np.eye(z.shape[1])
    answer = np.linalg.solve(covariance, (w[:, None] * z).T @ g)
    influence = len(w) * w[:, None] * (g - z @ answer)
    ends = np.cumsum([len(run) for run in runs])[:-1]
    moved = block_average(np.split(influence, ends))
    error, size = (np.reshape(each, shape) for each in (moved.error, moved.effective_sample_size))
    return (
        Estimate(value.reshape(shape), error, size) if shape else Estimate(float(value[0]), float(error), float(size))
    )


class ConfidenceCurve(NamedTuple):
    """Result of `confidence_curve`, an array for each.

    Fields:
        theta: confidence in the ensemble.
        chi_squared: after reweighting.
        relative_entropy: nats.
        effective_frames, share: see `ReweightedEnsemble`.
    """

    theta: np.ndarray
    chi_squared: np.ndarray
    relative_entropy: np.ndarray
    effective_frames: np.ndarray
    share: np.ndarray


def confidence_curve(
    computed: Any,
    measured: Float[Array | np.ndarray, " data"],
    errors: Float[Array | np.ndarray, " data"],
    thetas: Sequence[float] | np.ndarray,
    *,
    prior: Float[Array | np.ndarray, " frames"] | None = None,
    bounds: Sequence[Bound] | None = None,
) -> ConfidenceCurve:
    """What agreement costs: χ² and the frames that are left for several θ. A good θ is where χ² stops falling fast.

    Arguments:
        computed, measured, errors, prior, bounds: as in `reweight_to_data`.
        thetas: values of θ to try.

    Returns:
        The `ConfidenceCurve`, in the order of ``thetas``. No warning is given: the shares are in it.

    Raises:
        ValueError: as `reweight_to_data`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollapsedWeights)
        found = [
            reweight_to_data(computed, measured, errors, float(theta), prior=prior, bounds=bounds) for theta in thetas
        ]
    columns = [[getattr(each, name) for each in found] for name in ConfidenceCurve._fields[1:]]
    return ConfidenceCurve(np.asarray(thetas, np.float64), *(np.asarray(column) for column in columns))


@functools.partial(jax.jit, static_argnames="bounds")
def _solved(computed, measured, errors, theta, prior, bounds):
    """Compiled once for all data sets of one size."""
    return maximum_entropy_weights(computed, measured, errors, theta, prior=prior, bounds=bounds)


def _newton(weights, slope, held, z, logarithm, theta, least, most, start):
    """Minimum of the dual: Newton's steps among the multipliers that are free, halved until they go down."""
    tiny = 8 * jnp.finfo(z.dtype).eps

    def dual(multipliers):
        total = jax.nn.logsumexp(logarithm - jnp.matmul(z, multipliers, precision="highest"))
        return total + 0.5 * theta * jnp.sum(multipliers**2)

    def step(state):
        at, value, count, _ = state
        w, rate, fixed = weights(at), slope(at), held(at)
        centered = z - jnp.matmul(w, z, precision="highest")
        hessian = jnp.matmul((w[:, None] * centered).T, centered, precision="highest")
        hessian = hessian + theta * jnp.eye(z.shape[1], dtype=z.dtype)
        free = ~fixed
        hessian = jnp.where(free[:, None] & free[None], hessian, jnp.eye(z.shape[1], dtype=z.dtype))
        direction = -jnp.linalg.solve(hessian, jnp.where(free, rate, 0))

        def lower(size):
            return jnp.clip(at + size * direction, least, most)

        def worse(search):
            size, number = search
            gain = jnp.sum(rate * (lower(size) - at))
            return (dual(lower(size)) > value + 1e-4 * gain) & (number < _HALVINGS)

        size, _ = lax.while_loop(worse, lambda search: (search[0] / 2, search[1] + 1), (jnp.ones((), z.dtype), 0))
        new = lower(size)
        lowered = dual(new)
        # At round-off no step goes down any more: the last full one is taken, for it is the best there is.
        moving = value - lowered > tiny * jnp.maximum(jnp.abs(value), 1)
        better = lowered <= value
        return jnp.where(better, new, at), jnp.minimum(lowered, value), count + 1, moving

    def going(state):
        return state[3] & (state[2] < _STEPS)

    return lax.while_loop(going, step, (start, dual(start), 0, jnp.asarray(True)))[0]


def _frames(computed: Any, data: int) -> np.ndarray:
    runs = computed if isinstance(computed, list | tuple) else [computed]
    frames = np.concatenate([np.asarray(run, np.float64) for run in runs])
    if frames.ndim != 2 or frames.shape[1] != data:
        raise ValueError(f"reweighting: computed values have shape {frames.shape}, expected (frames, {data}).")
    bad = np.flatnonzero(~np.isfinite(frames).all(axis=1))
    if bad.size:
        raise ValueError(f"reweighting: frame {bad[0]} is not finite ({bad.size} of {len(frames)}); leave it out.")
    return frames


def _broken(deviation: Any, bounds: Sequence[Bound] | None) -> np.ndarray:
    """Deviations as they count: of bounds only what goes beyond them."""
    if bounds is None:
        return deviation
    upper, lower = (np.array([kind == name for kind in bounds]) for name in ("upper", "lower"))
    deviation = np.where(upper, np.maximum(deviation, 0), deviation)
    return np.where(lower, np.minimum(deviation, 0), deviation)


def _relative_entropy(weights: np.ndarray, prior: np.ndarray) -> float:
    inside = weights > 0
    return max(float(np.sum(weights[inside] * np.log(weights[inside] / prior[inside]))), 0.0)

"""How well an ensemble agrees with data: χ² with its error, its bias, and scale and background where they are free."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import gammaincc

from ...typing import Array, Float
from ..statistics import Estimate, block_average
from .ensemble import value_and_slope

#: Values of data, computed or measured.
Data = Float[Array | np.ndarray, " data"]


class Agreement(NamedTuple):
    """Result of `compare_with_data`.

    Fields:
        chi_squared: mean squared deviation in units of the experimental errors, with the error that the finite ensemble
            gives it; about one for a model that is right.
        bias: what the noise of the computed averages adds to it on the average; what remains without it is
            ``chi_squared.value − bias``. If it is not small against one, more frames are needed before the model is
            judged.
        p_value: probability that data of a model that is right deviate as much (χ² distribution; errors of the data
            taken as normal and independent, those of the model as none).
        scale, background: factor and constant that were put on the computed values; 1 and 0 where not free.
        deviations: (data,) (computed − measured)/error.
    """

    chi_squared: Estimate
    bias: float
    p_value: float
    scale: float
    background: float
    deviations: np.ndarray


def scale_and_background(
    computed: Data, measured: Data, errors: Data, *, scale: bool = True, background: bool = False
) -> tuple[Array, Array]:
    """Factor and constant that bring computed values closest to measured ones, weighted least squares; differentiable.

    Arguments:
        computed, measured, errors: (data,) in one unit.
        scale: the factor is free, else 1.
        background: the constant is free, else 0.

    Returns:
        The factor and the constant.
    """
    computed, measured, weight = jnp.asarray(computed), jnp.asarray(measured), 1 / jnp.asarray(errors) ** 2
    weight = weight / jnp.sum(weight)
    one, zero = jnp.ones((), computed.dtype), jnp.zeros((), computed.dtype)
    if not background:
        return (jnp.sum(weight * computed * measured) / jnp.sum(weight * computed**2) if scale else one), zero
    center, level = jnp.sum(weight * computed), jnp.sum(weight * measured)
    if not scale:
        return one, level - center
    # About the means: the two unknowns come apart and keep their digits.
    shifted = computed - center
    factor = jnp.sum(weight * shifted * measured) / jnp.sum(weight * shifted**2)
    return factor, level - factor * center


def deviations(computed: Data, measured: Data, errors: Data, *, scale: bool = False, background: bool = False) -> Array:
    """(scale · computed + background − measured)/error for every datum, with the free ones fitted; differentiable."""
    computed = jnp.asarray(computed)
    factor, constant = scale_and_background(computed, measured, errors, scale=scale, background=background)
    return (factor * computed + constant - jnp.asarray(measured)) / jnp.asarray(errors)


def chi_squared(
    computed: Data, measured: Data, errors: Data, *, scale: bool = False, background: bool = False
) -> Array:
    """χ² by the number of data less the number of free constants: a differentiable objective.

    Arguments:
        computed: (data,) averages of an ensemble.
        measured, errors: (data,) of the experiment, same unit.
        scale, background: fitted to the data, as for SAXS on an arbitrary scale.
    """
    freedom = len(measured) - int(scale) - int(background)
    return jnp.sum(deviations(computed, measured, errors, scale=scale, background=background) ** 2) / freedom


def compare_with_data(
    series: Any,
    measured: Data,
    errors: Data,
    *,
    scale: bool = False,
    background: bool = False,
    transform: Callable[[Array], Array] | None = None,
) -> Agreement:
    """χ² of an ensemble against data, with the error that its finite length leaves.

    Arguments:
        series: (frames, data) the observable of every frame, from `observe`, or a list of runs.
        measured: (data,) of the experiment.
        errors: (data,) their standard errors, positive.
        scale: a common factor is free.
        background: a common constant is free.
        transform: from averages to what is measured, such as `noe_distance`; None for averages themselves.

    Returns:
        The `Agreement`.

    Raises:
        ValueError: shapes that do not fit, errors that are not positive, values that are not finite.
    """
    measured, errors = checked_data(measured, errors, "compare_with_data")
    freedom = measured.size - int(scale) - int(background)
    if freedom < 1:
        raise ValueError(
            f"compare_with_data: {measured.size} data cannot fix {int(scale) + int(background)} constants."
        )
    average = block_average(series)
    mean = np.asarray(average.value)
    change: Callable[[Array], Array] = (lambda averages: averages) if transform is None else transform
    computed = np.asarray(change(jnp.asarray(mean)), np.float64)
    if computed.shape != measured.shape:
        raise ValueError(f"compare_with_data: {computed.shape} computed values for {measured.size} data.")

    def misfit(averages):
        return deviations(change(averages), measured, errors, scale=scale, background=background)

    z, slope = value_and_slope(misfit, mean)
    runs = series if isinstance(series, list | tuple) else [series]
    # The share of each frame in every deviation; its mean is zero, its blocks show the scatter of the average.
    inner = list(range(1, mean.ndim + 1))
    shares = [np.tensordot(np.asarray(run, np.float64) - mean, slope, axes=(inner, inner)) for run in runs]
    scatter = np.asarray(block_average(shares).error)
    moved = block_average([share @ z * (2 / freedom) for share in shares])
    factor, constant = scale_and_background(computed, measured, errors, scale=scale, background=background)
    return Agreement(
        chi_squared=Estimate(float(z @ z) / freedom, moved.error, moved.effective_sample_size),
        bias=float(scatter @ scatter) / freedom,
        p_value=float(gammaincc(freedom / 2, z @ z / 2)),
        scale=float(factor),
        background=float(constant),
        deviations=z,
    )


def checked_data(measured: Any, errors: Any, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Data and their errors in double precision.

    Raises:
        ValueError: shapes that differ, values that are not finite, errors that are not positive.
    """
    measured, errors = np.asarray(measured, np.float64), np.asarray(errors, np.float64)
    if measured.ndim != 1 or measured.size == 0 or errors.shape != measured.shape:
        raise ValueError(f"{what}: {measured.shape} data with {errors.shape} errors; give one error for each.")
    bad = np.flatnonzero(~np.isfinite(measured) | ~np.isfinite(errors) | ~(errors > 0))
    if bad.size:
        raise ValueError(
            f"{what}: datum {bad[0]} is {measured[bad[0]]} ± {errors[bad[0]]} ({bad.size} such in all); values must be "
            "finite and errors positive: leave such data out."
        )
    return measured, errors

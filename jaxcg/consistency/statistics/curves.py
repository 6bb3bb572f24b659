"""Two curves with errors, such as g(r) of reference and model: where they differ, and by how much on the whole."""

import numpy as np

from ...dynamics.observables.comparison import Comparison, largest_deviation
from .block_errors import FEWEST_BLOCKS
from .bootstrap import BootstrapEstimate, block_bootstrap
from .estimate import check_level


def compare_curves(
    reference: np.ndarray,
    model: np.ndarray,
    abscissa: np.ndarray,
    *,
    name: str,
    unit: str = "",
    abscissa_unit: str = "nm",
    slack: float | np.ndarray = 0.0,
    level: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Whether two curves agree within their errors, at all points together.

    Arguments:
        reference: (blocks, points) curve of every independent block of the reference; four at least.
        model: (blocks, points) of the model, or (1, points) where it is known exactly.
        abscissa: (points,).
        name: of the curve.
        unit: of the values.
        abscissa_unit: of the abscissa.
        slack: difference up to which the model counts as right, a number or (points,).
        level: of the test: the curves agree where the p-value is at least 1 − level.
        seed: of the random weights of the test.

    Returns:
        The `jaxcg.dynamics.Comparison`, whose data are the reference; deviations are model − reference.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or too few blocks.
    """
    check_level(level)
    abscissa = np.asarray(abscissa, np.float64)
    reference, model = _curves(reference, model, len(abscissa), name)
    width = np.broadcast_to(np.asarray(slack, np.float64), abscissa.shape)
    deviations, worst, p_value = largest_deviation(reference, model, slack=width, rng=np.random.default_rng(seed))
    passed = p_value >= 1 - level
    chance = f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"
    words = (
        f"no difference beyond chance ({chance})"
        if passed
        else f"they differ ({chance}), most at {abscissa[worst]:.3g} {abscissa_unit}".rstrip()
        + f", by {deviations[worst]:+.1f} standard errors"
    )
    return Comparison(
        name,
        unit,
        abscissa,
        abscissa_unit,
        *_mean_and_error(reference),
        *_mean_and_error(model),
        float(deviations[worst]),
        float(abscissa[worst]),
        p_value,
        passed,
        words,
    )


def curve_difference(
    reference: np.ndarray,
    model: np.ndarray,
    abscissa: np.ndarray,
    *,
    power: int = 1,
    relative: bool = True,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> BootstrapEstimate:
    """∫ |model − reference|ᵏ dx by the trapezoidal rule, with its interval.

    With power 1, relative, this is the error of g(r) in percent of its area that is usual for iterative inversion; with
    power 2, not relative, the integrated squared difference of an equation of state. Noise makes it larger, never
    smaller; ``bias`` is what the bootstrap sees of that.

    Arguments:
        reference: (blocks, points) curve of every independent block of the reference; four at least.
        model: (blocks, points) of the model; four blocks, or (1, points) where it is known exactly.
        abscissa: (points,) increasing.
        power: k.
        relative: divide by ∫ |reference|ᵏ dx.
        level: of the interval.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The `BootstrapEstimate`.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or too few blocks.
    """
    abscissa = np.asarray(abscissa, np.float64)
    reference, model = _curves(reference, model, len(abscissa), "curve_difference")
    exact = model[0] if len(model) == 1 else None

    def difference(first, second=exact):
        apart = np.trapezoid(np.abs(second - first) ** power, abscissa, axis=-1)
        return apart / np.trapezoid(np.abs(first) ** power, abscissa, axis=-1) if relative else apart

    samples = (reference,) if exact is not None else (reference, model)
    # The curvature of |x| at zero is no matter for percentiles, but for the acceleration of BCa it is.
    return block_bootstrap(
        difference, *samples, resamples=resamples, level=level, method="basic", vectorized=True, seed=seed
    )


def _curves(reference, model, points: int, name: str):
    found = []
    for side, curves, least in (("reference", reference, FEWEST_BLOCKS), ("model", model, 1)):
        curves = np.asarray(curves, np.float64)
        if curves.ndim != 2 or curves.shape[1] != points or not least <= len(curves):
            raise ValueError(
                f"{name}: the curves of the {side} have shape {curves.shape}, expected (blocks, {points}) of at least "
                f"{least} blocks."
            )
        if not np.isfinite(curves).all():
            raise ValueError(f"{name}: the curves of the {side} are not finite everywhere; leave such points out.")
        found.append(curves)
    if 1 < len(found[1]) < FEWEST_BLOCKS:
        raise ValueError(f"{name}: the model has {len(found[1])} blocks; give {FEWEST_BLOCKS}, or one exact curve.")
    return found


def _mean_and_error(curves):
    mean = curves.mean(axis=0)
    if len(curves) == 1:
        return mean, np.zeros_like(mean)
    return mean, curves.std(axis=0, ddof=1) / np.sqrt(len(curves))

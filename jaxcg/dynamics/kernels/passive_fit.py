"""A passive kernel of automatically chosen order for any kernel."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from . import _ladder, _modes
from ._modes import SLOWEST
from .forms import AbstractMemoryKernel, PassiveKernel, TabulatedKernel, require_positive
from .matrix_fit import held_friction, matrix_samples

Family = Literal["modes", "ladder"]
FAMILIES: dict[Family, ModuleType] = {"modes": _modes, "ladder": _ladder}

#: An order must lower the criterion by this factor to count as better than a smaller one.
_WORTH = 0.9
#: One auxiliary more that leaves a larger share of the misfit than this leads nowhere.
_GAIN = 0.95
#: Of the tolerance, what may be lost with a direction of a matrix that is left out.
_NOTHING = 0.01


@dataclass(frozen=True)
class PassiveFit:
    """Result of `fit_passive_kernel`.

    Fields:
        kernel: the passive kernel.
        family: which kind was chosen.
        order: number of its auxiliary variables.
        residual: ‖fit − data‖/‖data‖ over the times fitted, weighted by the errors if these were given.
        held_out: the same on the samples that were left out when the order was chosen; nan with Akaike's criterion.
        tried: family, order and criterion of every fit made.
    """

    kernel: PassiveKernel
    family: Family
    order: int
    residual: float
    held_out: float
    tried: tuple[tuple[Family, int, float], ...]


def fit_passive_kernel(
    kernel: AbstractMemoryKernel,
    *,
    duration: float | None = None,
    points: int = 400,
    errors=None,
    friction: Any = None,
    friction_error: Any = None,
    largest_order: int = 10,
    tolerance: float = 1e-4,
    criterion: Literal["aic", "held out"] = "held out",
    families: tuple[Family, ...] = ("modes", "ladder"),
) -> PassiveFit:
    """A `PassiveKernel` for a kernel that has no exact embedding, or whose own is not passive.

    Two families are tried, both positive-real whatever the data. ``"modes"``: relaxing modes c e^{−λt} and oscillating
    ones c e^{−λt} [cos ωt + r (λ/ω) sin ωt] with c, λ > 0, |r| ≤ 1 and ω² ≥ −λ² r². ``"ladder"``: Mori's continued
    fraction, auxiliaries coupled in a row. The order grows one mode or rung at a time from the last solution, and all
    parameters are refined together by least squares.

    A matrix-valued kernel becomes a sum of such modes with positive semidefinite matrices for c, started at full rank;
    once their number is chosen, ranks are lowered as far as the criterion is no worse for it. Coordinates are weighed
    by the size of their own kernels, so that units of their own do no harm. The fit is a symmetric matrix, as time
    reversal demands of coordinates that it leaves alone: the antisymmetric part of a table is taken for noise.

    Arguments:
        kernel: its delta function is not part of the fit (add a `DeltaKernel`).
        duration: time to fit, ps; the table's length for a `TabulatedKernel`, which is the default for one.
        points: times fitted, half of them evenly and half logarithmically spaced.
        errors: standard error of the kernel, amu/ps²: a number, or (times,) at the frames of a `TabulatedKernel`;
            (times, coordinates, coordinates) for matrices.
        friction: total friction ∫Γ dt that the fit is to have, amu/ps, such as the plateau of an extracted integral:
            the values of Γ alone leave it open, because their errors are correlated. A matrix for matrices.
        friction_error: its standard error; a hundredth of it when None.
        largest_order: most auxiliary variables, of each coordinate if there are several.
        tolerance: relative residual at which the order grows no more.
        criterion: what chooses the order. ``"held out"``: the residual on every fifth point, which the fit does not
            see; ``"aic"``: Akaike's, which needs ``errors``.
        families: which to try; matrices have ``"modes"`` only.

    Raises:
        ValueError: no duration is known, the criterion lacks its errors, a matrix-valued kernel is antisymmetric by
            more than a hundredth and three standard errors, or the friction is not of its shape.
    """
    times, values, weights = _samples(kernel, duration, points, errors)
    each, patience, matrices = 1, 3, None
    if kernel.coordinates is not None:
        if "modes" not in families:
            raise ValueError("fit_passive_kernel: for matrix-valued kernels there are modes only; ask for these.")
        matrices, values, weights = matrix_samples(values, None if errors is None else 1.0 / weights)
        each, patience = kernel.coordinates, 2
    if criterion == "aic" and errors is None:
        raise ValueError("fit_passive_kernel: Akaike's criterion needs the standard errors of the kernel.")
    held = np.zeros(len(times), bool)
    if criterion == "held out":
        held[2::5] = True
    data = times[~held], values[~held], weights[~held]
    total: tuple[Any, Any] | None = None
    if friction is not None:
        # Among data that are scaled to a norm of one; without errors, as if these were a hundredth.
        norm = float(np.linalg.norm(data[1] * data[2]))
        unit = (1.0 if errors is not None else 0.01 * norm / np.sqrt(data[1].size)) / norm
        if matrices is not None:
            total = held_friction(matrices, friction, friction_error, unit)
        else:
            error = 0.01 * abs(friction) if friction_error is None else friction_error
            require_positive("fit_passive_kernel", "error of the friction", error)
            total = float(friction), unit / error

    def scored(family, parameters) -> tuple[float, float, float]:
        """What the criterion says, and the residuals of all points and of those held out."""
        misfits = (family.evaluate(times, parameters) - values) * weights
        residual = float(np.linalg.norm(misfits) / np.linalg.norm(values * weights))
        apart = float(np.linalg.norm(misfits[held]) / max(np.linalg.norm((values * weights)[held]), 1e-300))
        off = _off(family, parameters, total)
        apart, residual = float(np.hypot(apart, off)), float(np.hypot(residual, off))
        akaike = float(np.sum(misfits**2)) + 2 * family.free_parameters(parameters)
        return akaike if criterion == "aic" else apart, residual, apart

    def better(score: float, than: float) -> bool:
        return score < than * (1.0 if criterion == "aic" else _WORTH)

    best: tuple[float, Any, Any, float, float] | None = None
    tried: list[tuple[Family, int, float]] = []
    names: list[Family] = [name for name in families if matrices is None or name == "modes"]
    for name in names:
        family: Any = FAMILIES[name] if matrices is None else matrices
        parents, since_better, before, least = [family.first()], 0, np.inf, np.inf
        while since_better < patience:
            fits = [
                family.refine(*data, start, total)
                for parent in parents
                for start in family.starts(*data, parent)
                if family.order(start) <= largest_order * each
            ]
            # What decays far more slowly than the table is long has an integral that nothing in it determines.
            most = np.abs(values).max() * times[-1]
            fits = [fit for fit in fits if np.abs(family.total(fit)).max() * SLOWEST <= most]
            if not fits:
                break

            def misfit(p, family=family):
                found = np.linalg.norm((family.evaluate(data[0], p) - data[1]) * data[2])
                return np.hypot(found, _off(family, p, total) * np.linalg.norm(data[1] * data[2]))

            # Two auxiliaries more at once must halve what one more leaves.
            parents = [min(fits, key=lambda p, family=family: misfit(p) * 2.0 ** (family.order(p) / each))]
            closest = min(fits, key=misfit)
            if matrices is None and misfit(closest) < _GAIN * before < misfit(parents[0]):
                # Of a kernel that rings in several tones one more takes two auxiliaries and may leave most of the rest.
                parents = [closest]
            before = misfit(parents[0])
            if matrices is not None and closest is not parents[0]:
                # In many entries the cheaper mode often leads nowhere: the closer one grows beside it.
                parents = sorted([*parents, closest], key=family.order)
            since_better, enough = since_better + 1, False
            for parameters in parents:
                score, residual, apart = scored(family, parameters)
                tried.append((name, family.order(parameters), score))
                if best is None or better(score, best[0]):
                    best = score, name, parameters, residual, apart
                # A family goes on by its own gains: it may overtake the other one with more auxiliaries.
                if better(score, least):
                    least, since_better = score, 0
                enough = residual < tolerance
                if enough:
                    break
            if enough:
                break
        if best is not None and best[3] < tolerance:
            break
    if best is None:
        raise ValueError("fit_passive_kernel: no member of these families decays within the table; fit a longer one.")
    if matrices is not None:
        # As many directions of the strengths as are worth their auxiliaries; with exact data, all there are.
        limit = best[0] if criterion == "aic" else max(best[0] / _WORTH, _NOTHING * tolerance)
        while True:
            thinner = [matrices.refine(*data, start, total) for start in matrices.thinner(best[2])]
            scores = [scored(matrices, fit) for fit in thinner]
            for fit, one in zip(thinner, scores, strict=True):
                tried.append((best[1], matrices.order(fit), one[0]))
            if not scores or min(scores)[0] > limit:
                break
            least = scores.index(min(scores))
            best = (scores[least][0], best[1], thinner[least], *scores[least][1:])
            limit = min(limit, best[0]) if criterion == "aic" else limit
    _, name, parameters, residual, apart = best
    family = FAMILIES[name] if matrices is None else matrices
    return PassiveFit(
        kernel=family.kernel(parameters),
        family=name,
        order=family.order(parameters),
        residual=residual,
        held_out=apart if criterion == "held out" else np.nan,
        tried=tuple(tried),
    )


def _off(family, parameters, total) -> float:
    """How far the integral is from the one to be held, in the units of the other data."""
    return 0.0 if total is None else float(np.linalg.norm((family.total(parameters) - total[0]) * total[1]))


def _samples(kernel, duration, points, errors):
    """Times, values and weights (inverse errors) to fit."""
    if isinstance(kernel, TabulatedKernel):
        table = float(kernel.spacing) * (kernel.values.shape[0] - 1)
        duration = table if duration is None else min(duration, table)
    if duration is None:
        raise ValueError("fit_passive_kernel: give a duration, ps: how much of the kernel is to be fitted.")
    require_positive("fit_passive_kernel", "duration", duration)
    half = points // 2
    times = np.unique(np.concatenate([np.linspace(0, duration, half), np.geomspace(1e-3, 1, half) * duration]))
    if isinstance(kernel, TabulatedKernel):
        frames = np.unique(np.round(times / float(kernel.spacing)).astype(int))
        times = frames * float(kernel.spacing)
    values = np.asarray(kernel(jnp.asarray(times)), np.float64)
    weights = np.ones(values.shape)
    if errors is not None:
        errors = np.asarray(errors, np.float64)
        if errors.ndim and isinstance(kernel, TabulatedKernel) and len(errors) == len(kernel.values):
            errors = errors[np.round(times / float(kernel.spacing)).astype(int)]
        if errors.shape not in ((), values.shape[:1], values.shape):
            raise ValueError(
                f"fit_passive_kernel: errors of shape {errors.shape}; give a number, or one for every frame or value "
                "of the table."
            )
        require_positive("fit_passive_kernel", "error", errors)
        if errors.ndim == 1:
            errors = errors.reshape(-1, *(1,) * (values.ndim - 1))
        weights = weights / errors
    return times, values, weights

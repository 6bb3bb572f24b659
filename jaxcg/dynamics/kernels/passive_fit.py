"""A passive kernel of automatically chosen order for any scalar kernel."""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from . import _ladder, _modes
from ._modes import SLOWEST
from .forms import AbstractMemoryKernel, PassiveKernel, TabulatedKernel, require_positive

Family = Literal["modes", "ladder"]
FAMILIES: dict[Family, ModuleType] = {"modes": _modes, "ladder": _ladder}

#: An order must lower the criterion by this factor to count as better than a smaller one.
_WORTH = 0.9


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
    friction: float | None = None,
    friction_error: float | None = None,
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

    Arguments:
        kernel: scalar kernel; its delta function is not part of the fit (add a `DeltaKernel`).
        duration: time to fit, ps; the table's length for a `TabulatedKernel`, which is the default for one.
        points: times fitted, half of them evenly and half logarithmically spaced.
        errors: standard error of the kernel, amu/ps²: a number, or (times,) at the frames of a `TabulatedKernel`.
        friction: total friction ∫Γ dt that the fit is to have, amu/ps, such as the plateau of an extracted integral:
            the values of Γ alone leave it open, because their errors are correlated.
        friction_error: its standard error; a hundredth of it when None.
        largest_order: most auxiliary variables.
        tolerance: relative residual at which the order grows no more.
        criterion: what chooses the order. ``"held out"``: the residual on every fifth point, which the fit does not
            see; ``"aic"``: Akaike's, which needs ``errors``.
        families: which to try.

    Raises:
        ValueError: the kernel is matrix-valued, no duration is known, or the criterion lacks its errors.
    """
    times, values, weights = _samples(kernel, duration, points, errors)
    if criterion == "aic" and errors is None:
        raise ValueError("fit_passive_kernel: Akaike's criterion needs the standard errors of the kernel.")
    held = np.zeros(len(times), bool)
    if criterion == "held out":
        held[2::5] = True
    data = times[~held], values[~held], weights[~held]
    held_friction = None
    if friction is not None:
        # Among data that are scaled to a norm of one.
        error = 0.01 * abs(friction) if friction_error is None else friction_error
        require_positive("fit_passive_kernel", "error of the friction", error)
        unit = 1.0 if errors is not None else 0.01 * np.linalg.norm(data[1]) / np.sqrt(len(data[1]))
        held_friction = float(friction), unit / error / float(np.linalg.norm(data[1] * data[2]))
    best: tuple[float, Any, Any, float, float] | None = None
    tried: list[tuple[Family, int, float]] = []
    for name in families:
        family = FAMILIES[name]
        parameters, since_better = family.first(), 0
        while since_better < 3:
            fits = [
                family.refine(*data, s) for s in family.starts(*data, parameters) if family.order(s) <= largest_order
            ]
            # What decays far more slowly than the table is long has an integral that nothing in it determines.
            fits = [fit for fit in fits if family.total(fit) * SLOWEST <= np.abs(values).max() * times[-1]]
            if not fits:
                break
            before = family.order(parameters)

            def cost(p, family=family, before=before):
                # Two auxiliaries more at once must halve what one more leaves.
                misfit = np.linalg.norm((family.evaluate(data[0], p) - data[1]) * data[2])
                if held_friction is not None:
                    off = (family.total(p) - held_friction[0]) * held_friction[1]
                    misfit = np.hypot(misfit, off * np.linalg.norm(data[1] * data[2]))
                return misfit * 2.0 ** (family.order(p) - before)

            parameters = min(fits, key=cost)
            misfits = (family.evaluate(times, parameters) - values) * weights
            residual = float(np.linalg.norm(misfits) / np.linalg.norm(values * weights))
            apart = float(np.linalg.norm(misfits[held]) / max(np.linalg.norm((values * weights)[held]), 1e-300))
            if held_friction is not None:
                off = (family.total(parameters) - held_friction[0]) * held_friction[1]
                apart, residual = float(np.hypot(apart, off)), float(np.hypot(residual, off))
            akaike = float(np.sum(misfits**2)) + 2 * family.free_parameters(parameters)
            score = akaike if criterion == "aic" else apart
            tried.append((name, family.order(parameters), score))
            since_better += 1
            if best is None or score < best[0] - (0.0 if criterion == "aic" else (1 - _WORTH) * best[0]):
                best, since_better = (score, name, parameters, residual, apart), 0
            if residual < tolerance:
                break
        if best is not None and best[3] < tolerance:
            break
    if best is None:
        raise ValueError("fit_passive_kernel: no member of these families decays within the table; fit a longer one.")
    _, name, parameters, residual, apart = best
    family = FAMILIES[name]
    return PassiveFit(
        kernel=family.kernel(parameters),
        family=name,
        order=family.order(parameters),
        residual=residual,
        held_out=apart if criterion == "held out" else np.nan,
        tried=tuple(tried),
    )


def _samples(kernel, duration, points, errors):
    """Times, values and weights (inverse errors) to fit."""
    if kernel.coordinates is not None:
        raise ValueError("fit_passive_kernel: the kernel is matrix-valued; fit its parameters by gradient instead.")
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
    weights = np.ones(len(times))
    if errors is not None:
        errors = np.broadcast_to(np.asarray(errors, np.float64), np.shape(errors) or len(times))
        if len(errors) != len(times) and isinstance(kernel, TabulatedKernel):
            errors = errors[np.round(times / float(kernel.spacing)).astype(int)]
        require_positive("fit_passive_kernel", "error", errors)
        weights = 1.0 / errors
    return times, values, weights

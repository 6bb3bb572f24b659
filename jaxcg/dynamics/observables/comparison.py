"""One observable of data and of a model, side by side: deviation in standard errors, p-value, verdict."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy.stats import t as student

#: Draws for the distribution of the largest deviation, and how many must exceed it for their share to be trusted.
_DRAWS, _ENOUGH = 4000, 10


@dataclass(frozen=True)
class Comparison:
    """An observable of the data and of a model. Numbers and curves alike: a number is a curve of one point.

    Fields:
        name: e.g. "velocity correlation".
        unit: of the values.
        abscissa: (points,) times (ps) or positions (nm); None for a single number.
        abscissa_unit: "ps", "nm" or "".
        data, data_error, model, model_error: (points,) values and standard errors; the error of an exact model is zero.
        deviation: model − data where they differ most, in standard errors of the difference, with its sign.
        place: abscissa of that point; nan for a single number.
        p_value: probability of so large a deviation anywhere on the curve if the model is right.
        passed: whether the p-value is above the level of the test.
        verdict: the same in words, with advice if it failed.
    """

    name: str
    unit: str
    abscissa: np.ndarray | None
    abscissa_unit: str
    data: np.ndarray
    data_error: np.ndarray
    model: np.ndarray
    model_error: np.ndarray
    deviation: float
    place: float
    p_value: float
    passed: bool
    verdict: str

    def as_dict(self) -> dict[str, Any]:
        """All fields as plain lists and numbers, for JSON; None where a number is not finite."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


def _plain(value):
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def largest_deviation(
    data: np.ndarray, model: np.ndarray, *, slack: np.ndarray, rng: np.random.Generator, unseen: float = 1e-300
) -> tuple[np.ndarray, int, float]:
    """Deviations of two curves known block by block, and the p-value of the largest of them.

    The p-value allows for the correlation between the points of a curve: the distribution of the largest deviation is
    that of curves put together from the blocks' own scatter with random weights. With few blocks, scatter itself is
    uncertain: Student's t, not the normal distribution.

    Arguments:
        data: (blocks, points) the curve of every block of the data.
        model: (blocks, points) that of every block of the model, or (1, points) where it is known exactly.
        slack: (points,) differences up to which the model counts as right.
        rng: random numbers.
        unseen: standard error of a difference at a point where no block of either differs from the others.

    Returns:
        (points,) model − data in standard errors, the index of the largest beyond the slack, and the p-value.

    Source: Chernozhukov, Chetverikov & Kato, Ann. Stat. 41, 2786 (2013) (Gaussian multipliers for a maximum).
    """
    parts = [each for each in (data, model) if len(each) > 1]
    variances = [each.var(axis=0, ddof=1) / len(each) for each in parts]
    variance = np.asarray(sum(variances))
    error = np.where(variance > 0, np.sqrt(variance), unseen)
    difference = model.mean(axis=0) - data.mean(axis=0)
    excess = np.maximum(np.abs(difference) - slack, 0.0) / error
    worst = int(np.argmax(excess if excess.max() > 0 else np.abs(difference) / error))
    # Welch's degrees of freedom where it matters; those of all blocks where they are alike.
    spread = sum(v[worst] ** 2 / (len(p) - 1) for v, p in zip(variances, parts, strict=True))
    freedom = variance[worst] ** 2 / spread if spread > 0 else float(sum(len(p) - 1 for p in parts))
    draws = sum(
        rng.standard_normal((_DRAWS, len(each))) @ (each - each.mean(axis=0)) / np.sqrt(len(each) * (len(each) - 1))
        for each in parts
    )
    draws = draws / np.sqrt(rng.chisquare(freedom, (_DRAWS, 1)) / freedom)
    above = int(np.sum(np.max(np.abs(draws) / error, axis=1) >= excess[worst]))
    p_value = (1 + above) / (_DRAWS + 1)
    if above < _ENOUGH:
        p_value = min(p_value, data.shape[1] * two_sided(excess[worst], freedom))
    return difference / error, worst, float(p_value)


def two_sided(deviation: float, freedom: float) -> float:
    """Probability of so many standard errors, either way, by Student's t."""
    return float(2 * student.sf(abs(deviation), freedom))

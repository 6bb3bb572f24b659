"""A number with its error."""

from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit


class Estimate(NamedTuple):
    """A value, its standard error and from how many independent samples it comes.

    Numbers or arrays of one shape; a pytree. The value may be a traced array of JAX and be differentiated; error and
    effective sample size are constants.

    Fields:
        value: the estimate, in the unit its function states.
        error: standard error of the value, one σ, same unit; zero for what is known exactly or never changes, nan where
            there are too few samples to tell.
        effective_sample_size: number of independent samples that would have given this error; nan where that makes no
            sense (a result of a fit, or of a function of several averages).
    """

    value: Any
    error: Any
    effective_sample_size: Any = np.nan

    def interval(self, level: float = 0.95) -> tuple[Any, Any]:
        """Lower and upper end of the confidence interval, Student's t.

        The error comes from blocks whose length grows with the series: of n effective samples about 0.8 n^⅔ blocks,
        so that many degrees of freedom less one (at least one); the normal distribution where n is not known.

        Arguments:
            level: probability that the interval holds the true value, between 0 and 1.

        Raises:
            ValueError: the level is not between 0 and 1.
        """
        check_level(level)
        size = np.asarray(self.effective_sample_size, np.float64)
        freedom = np.where(np.isnan(size), np.inf, np.maximum(0.8 * np.maximum(size, 0.0) ** (2 / 3) - 1, 1.0))
        half = stdtrit(freedom, (1 + level) / 2) * np.asarray(self.error, np.float64)
        value = np.asarray(self.value, np.float64)
        return _as_number(value - half), _as_number(value + half)

    def samples_for(self, error: float) -> Any:
        """Effective sample size at which the standard error would be ``error``: n (own error / asked error)²."""
        return _as_number(np.asarray(self.effective_sample_size) * (np.asarray(self.error) / error) ** 2)

    def __str__(self) -> str:
        if np.ndim(self.value) or not np.isfinite(self.error) or self.error <= 0:
            return f"{self.value} ± {self.error}"
        # Two digits of the error, and the value to the same place.
        places = max(1 - int(np.floor(np.log10(self.error))), 0)
        return f"{float(self.value):.{places}f} ± {float(self.error):.{places}f}"


def too_uncertain(name: str, estimate: Estimate, asked: float) -> str | None:
    """What is missing where the standard error is larger than asked, in one sentence with numbers; else None.

    Arguments:
        name: of the quantity, with which the sentence begins.
        estimate: of it.
        asked: largest standard error accepted, in its unit.
    """
    error = float(np.max(estimate.error))
    if error <= asked:
        return None
    if not np.isfinite(error):
        return f"{name}: too few samples for any error; {asked:g} was asked. Give more frames."
    size = float(np.min(estimate.effective_sample_size))
    counted = f" from {size:.3g} effective samples" if np.isfinite(size) else ""
    factor = (error / asked) ** 2
    return f"{name}: standard error {error:.3g}{counted}, {asked:g} was asked; {factor:.1f} times as many are needed."


def check_level(level: float) -> None:
    """Refuses a confidence level that is not between 0 and 1.

    Raises:
        ValueError: it is not.
    """
    if not 0 < level < 1:
        raise ValueError(f"confidence level {level} is not between 0 and 1; give e.g. 0.95.")


def _as_number(values) -> Any:
    return float(values) if np.ndim(values) == 0 else values

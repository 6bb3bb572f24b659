"""Passive kernels fitted to correlation functions themselves, not to a table extracted from them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import least_squares

from ..kernels.forms import PassiveKernel, require_positive
from ..kernels.passive_fit import FAMILIES, Family
from ._correlation_misfit import Exponentials, VelocityMisfit, VolterraMisfit
from .memory import Memory

#: Groups of blocks whose scatter weighs the data.
_GROUPS = 40
#: Logarithms of parameters stay within this distance of where they start.
_WIDEST = 8.0
#: Starting points of an order that are refined against the correlation functions.
_REFINED = 2
#: Orders that may follow without being better.
_PATIENCE = 2
#: Rates, in inverse frames, that no data can tell and that only make kernels stiff, and the score of such kernels.
_FASTEST, _HOPELESS = 100.0, 1e6


@dataclass(frozen=True)
class CorrelationFit:
    """Result of `fit_correlations`.

    Fields:
        kernel: the passive kernel.
        kernel_error: (lags,) standard error of Γ at the frames, amu/ps².
        friction, friction_error: ∫₀^∞ Γ dt of the kernel, amu/ps.
        family: which kind of kernel was chosen.
        order: number of its auxiliary variables.
        regularization: weight of its roughness that was chosen.
        residual: root mean square misfit in standard errors of the data; below or about one for a good fit.
        held_out: the same on blocks left out of the fit, in their standard errors.
        covariance: (numbers, numbers) of the fitted logarithms: Gauss-Newton steps of the jackknife over blocks.
        tried: family, order, regularization and held-out misfit of all that was tried.
    """

    kernel: PassiveKernel
    kernel_error: np.ndarray
    friction: float
    friction_error: float
    family: Family
    order: int
    regularization: float
    residual: float
    held_out: float
    covariance: np.ndarray
    tried: tuple[tuple[Family, int, float, float], ...]


def fit_correlations(
    memory: Memory,
    *,
    match: Literal["volterra", "velocity"] = "volterra",
    stiffness: float = 0.0,
    families: tuple[Family, ...] = ("modes", "ladder"),
    largest_order: int = 6,
    regularizations: tuple[float, ...] = (0.0, 0.03, 0.3),
    folds: int = 5,
) -> CorrelationFit:
    """A passive kernel whose generalised Langevin equation has the correlation functions of the data.

    With ``"volterra"`` the misfit of a kernel is what it leaves of the integrated Volterra equation M [C_vv(t) −
    C_vv(0)] − ∫ C_Fv + ∫ G(s) C_vv(t−s) ds = 0, G = ∫ Γ, which holds for any mean force; with ``"velocity"`` it is C_vv
    of the linear equations of motion, exact for free and harmonic motion, minus that of the data. Misfits are weighed
    by the scatter of blocks of the data. Parameters are refined by least squares (trust region, Gauss-Newton), the
    order grows one mode or rung at a time, and order and smoothing are those that predict blocks left out best. What
    lies beyond the window of ∫Γ, of which data say nothing, is held to zero within the error of the extracted integral.

    Arguments:
        memory: result of `memory_from_velocities` or `memory_from_positions` for one coordinate.
        match: what to compare.
        stiffness: of the harmonic well, kJ/mol/nm², for ``"velocity"``; zero for free motion.
        families: kernels to try, as in `fit_passive_kernel`.
        largest_order: most auxiliary variables.
        regularizations: weights of the roughness of Γ, its second difference from frame to frame in standard errors of
            the extracted Γ, to choose from.
        folds: parts of the data that are left out in turn.

    Raises:
        ValueError: a matrix kernel, too few blocks, or a mean force with ``"velocity"`` and no stiffness.

    Source: Efron & Gong, Am. Stat. 37, 36 (1983) (jackknife, cross-validation).
    """
    if not memory.sums.scalar:
        raise ValueError(
            "fit_correlations: the kernel is matrix-valued; give one coordinate, or isotropic data, or fit the "
            "extracted matrices: fit_passive_kernel(memory.extracted.kernel, errors=memory.kernel_error)."
        )
    if memory.blocks < 2 * folds:
        raise ValueError(
            f"fit_correlations: {memory.blocks} blocks are too few to leave out one of {folds} parts; ask "
            f"for {2 * folds} blocks or more when the memory is extracted, or for fewer folds."
        )
    if match == "velocity" and memory.energy is not None and stiffness == 0.0:
        raise ValueError("fit_correlations: C_vv of a mean force needs its stiffness; give it, or match 'volterra'.")
    if match not in ("volterra", "velocity"):
        raise ValueError(f"fit_correlations: match {match!r} is not known; choose volterra or velocity.")
    problem = _Problem(memory, match, stiffness, folds)
    found: list[_Candidate] = []
    tried: list[tuple[Family, int, float, float]] = []

    def candidate(name: Family, parameters: Any, weight: float) -> _Candidate:
        made = _Candidate(name, parameters, weight, problem.held_out(FAMILIES[name], parameters, weight))
        tried.append((name, made.order, weight, _root(made.scores)))
        return made

    plain = min(regularizations)
    for name in families:
        family = FAMILIES[name]
        parameters, best, since_better = family.first(), None, 0
        while since_better < _PATIENCE:
            guesses = [
                family.refine(*problem.table, start)
                for start in family.starts(*problem.table, parameters)
                if family.order(start) <= largest_order
            ]
            if not guesses:
                break
            guesses = sorted(guesses, key=lambda p, f=family: problem.misfit(f, p))[:_REFINED]
            now = _best([candidate(name, problem.refined(family, guess, plain), plain) for guess in guesses])
            parameters, since_better = now.parameters, since_better + 1
            if best is None or _better(now, best):
                best, since_better = now, 0
        if best is not None:
            found.append(best)
    best = _best(found)
    family, name = FAMILIES[best.family], best.family
    for weight in sorted(set(regularizations) - {plain}):
        smoother = candidate(name, problem.refined(family, best.parameters, weight), weight)
        if smoother.scores.mean() < best.scores.mean():
            best = smoother
    parameters, weight = best.parameters, best.weight
    covariance = problem.covariance(family, parameters, weight)
    frames = memory.spacing * np.arange(len(memory.kernel_error))
    slope = _slopes(lambda p: np.append(family.evaluate(frames, p), family.total(p)), family, parameters)
    errors = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", slope, covariance, slope), 0.0))
    return CorrelationFit(
        kernel=family.kernel(parameters),
        kernel_error=errors[:-1],
        friction=family.total(parameters),
        friction_error=float(errors[-1]),
        family=name,
        order=family.order(parameters),
        regularization=weight,
        residual=float(np.sqrt(problem.misfit(family, parameters) / problem.count)),
        held_out=_root(best.scores),
        covariance=covariance,
        tried=tuple(tried),
    )


@dataclass(frozen=True)
class _Candidate:
    """A fit and the mean squared misfits of its folds."""

    family: Family
    parameters: Any
    weight: float
    scores: np.ndarray

    @property
    def order(self) -> int:
        return FAMILIES[self.family].order(self.parameters)


class _Problem:
    """The data of a fit: misfits of the whole, of the data without each group of blocks, and of each fold."""

    def __init__(self, memory: Memory, match: str, stiffness: float, folds: int):
        data = memory.sums

        def misfit(weights: np.ndarray | None) -> VolterraMisfit | VelocityMisfit:
            tables = data.tables(weights)
            if match == "velocity":
                return VelocityMisfit(tables, data.spacing, stiffness)
            return VolterraMisfit(tables, data.spacing)

        blocks = data.blocks.blocks
        groups = min(blocks, _GROUPS)
        member = np.arange(blocks) * groups // blocks == np.arange(groups)[:, None]
        self.whole = misfit(None)
        self.jackknife = misfit(1.0 - member)
        # Neighbouring blocks are of one trajectory: folds take turns.
        fold = np.arange(blocks) % folds == np.arange(folds)[:, None]
        self.training = [misfit(1.0 - one) for one in fold]
        self.testing = [misfit(1.0 * one) for one in fold]
        # Errors of the misfit of the true kernel, by that of the extracted table.
        if isinstance(self.jackknife, VolterraMisfit):
            known = np.append(0.0, np.asarray(memory.extracted.integral, np.float64))
            times = np.append(0.0, np.asarray(memory.extracted.times, np.float64))
            first = np.argmax(times[1:] > 0) + 1
            known, times = np.append(0.0, known[first:]), np.append(0.0, times[first:])
            spread = self.jackknife(np.interp(self.jackknife.nodes, times, known))
        else:
            spread = self.jackknife.left
        self._scale = (groups - 1) / groups
        self.errors = np.sqrt(self._scale * np.sum((spread - spread.mean(axis=0)) ** 2, axis=0))
        require_positive("fit_correlations", "scatter of blocks", self.errors)
        self.count = len(self.errors)
        values = np.asarray(memory.extracted.kernel.values, np.float64)
        self.frames = memory.spacing * np.arange(len(values))
        self.roughness = np.maximum(memory.kernel_error, 1e-6 * abs(values[0]))[1:-1]
        self.tail_error = max(float(memory.integral_error[-1]), 1e-6 * abs(float(memory.extracted.integral[-1])))
        self.table = self.frames, values, 1.0 / np.maximum(memory.kernel_error, 1e-6 * abs(values[0]))

    def _residual(self, family, parameters, of: VolterraMisfit | VelocityMisfit, weight: float) -> np.ndarray:
        kernel = Exponentials.of(*family.matrices(parameters))
        misfit = of.of(kernel) / self.errors
        tail = [self._tail(family, parameters, kernel)]
        rough = weight * np.diff(kernel(self.frames), 2) / self.roughness if weight else np.zeros(0)
        return np.concatenate([misfit, tail, rough])

    def _tail(self, family, parameters, kernel: Exponentials) -> float:
        """∫Γ beyond the window, in errors of the extracted integral."""
        return (family.total(parameters) - float(kernel.integral(self.frames[-1]))) / self.tail_error

    def misfit(self, family, parameters) -> float:
        """Sum of squares in standard errors."""
        return float(np.sum(self._residual(family, parameters, self.whole, 0.0)[: self.count] ** 2))

    def refined(self, family, parameters, weight: float, of: VolterraMisfit | VelocityMisfit | None = None) -> Any:
        """Parameters of least misfit and roughness."""
        of = self.whole if of is None else of
        start = family.numbers(parameters)
        found = least_squares(
            lambda n: self._residual(family, family.with_numbers(parameters, n), of, weight),
            start,
            bounds=(start - _WIDEST, start + _WIDEST),
            x_scale="jac",
            max_nfev=40,
        )
        return family.with_numbers(parameters, found.x)

    def held_out(self, family, parameters, weight: float) -> np.ndarray:
        """Mean squared misfit of every fold, in its standard errors, of a fit to the others."""
        scores = []
        for training, testing in zip(self.training, self.testing, strict=True):
            fitted = self.refined(family, parameters, weight, training)
            kernel = Exponentials.of(*family.matrices(fitted))
            if np.abs(kernel.rates).max() * self.frames[1] > _FASTEST:
                return np.full(len(self.testing), _HOPELESS)
            squares = np.sum((testing.of(kernel) / self.errors) ** 2) / len(self.testing)
            scores.append((squares + self._tail(family, fitted, kernel) ** 2) / self.count)
        return np.array(scores)

    def covariance(self, family, parameters, weight: float) -> np.ndarray:
        """Of the numbers, from a Gauss-Newton step for the data without each group."""
        rows = _slopes(lambda p: self._residual(family, p, self.whole, weight), family, parameters)
        kernel = Exponentials.of(*family.matrices(parameters))
        left = self.jackknife.of(kernel) / self.errors
        steps = (left - left.mean(axis=0)) @ np.linalg.pinv(rows, rcond=1e-8)[:, : self.count].T
        return self._scale * steps.T @ steps


def _better(new: _Candidate, old: _Candidate) -> bool:
    """Whether left-out data are predicted better: with more auxiliaries, by more than the scatter of the folds."""
    gain = old.scores - new.scores
    scatter = float(gain.std(ddof=1)) / np.sqrt(len(gain))
    return float(gain.mean()) > (scatter if new.order > old.order else -scatter if new.order < old.order else 0.0)


def _best(candidates: list[_Candidate]) -> _Candidate:
    best, *others = sorted(candidates, key=lambda c: c.order)
    for other in others:
        best = other if _better(other, best) else best
    return best


def _root(scores: np.ndarray) -> float:
    return float(np.sqrt(scores.mean()))


def _slopes(function: Callable[[Any], np.ndarray], family, parameters) -> np.ndarray:
    """Derivatives (values, numbers) by central differences."""
    numbers, width = family.numbers(parameters), 1e-5
    columns = []
    for i in range(len(numbers)):
        change = width * (np.arange(len(numbers)) == i)
        high, low = (function(family.with_numbers(parameters, numbers + sign * change)) for sign in (1, -1))
        columns.append((high - low) / (2 * width))
    return np.stack(columns, axis=1)

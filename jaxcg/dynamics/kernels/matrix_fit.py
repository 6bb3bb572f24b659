"""Sums of modes with matrix strengths, each of them positive-real: the passive kernels of coupled coordinates."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from . import _modes
from ._modes import SLOWEST, WIDEST
from .forms import PassiveKernel, require_positive

#: Largest asymmetry of a table, over its norm, and in standard errors where these are known.
_ASYMMETRY, _ERRORS = 1e-2, 3.0
#: A direction in which the residual asks for nothing starts with this share of its largest value, so that it may grow.
_WEAK = 1e-3
#: Least scale of a coordinate over the largest.
_SMALLEST_SCALE = 1e-3


@dataclass(frozen=True)
class Modes:
    """Γ(t) = Σ L_k L_kᵀ g_k(t).

    Fields:
        factors: (coordinates, rank) L_k of each mode.
        shapes: (modes, 3) log λ, log q and artanh r of each scalar mode g_k, as in a scalar fit.
        oscillating: which of them oscillate.
    """

    factors: tuple[np.ndarray, ...]
    shapes: np.ndarray
    oscillating: tuple[bool, ...]


class MatrixModes:
    """The family of kernels Γ(t) = D Σ_k L_k L_kᵀ g_k(t) D of several coordinates, D their diagonal scales.

    L_k L_kᵀ is any positive semidefinite matrix and g_k a positive-real mode, so that the sum is positive-real for all
    values of the numbers; every passive kernel that is symmetric, as time reversal demands of coordinates of equal
    parity, is a limit of such sums. Data of the fit are the entries of the upper triangle, over the scales.
    """

    def __init__(self, scales: np.ndarray):
        self.scales = scales
        self.rows, self.columns = np.triu_indices(len(scales))

    def entries(self, matrix: np.ndarray) -> np.ndarray:
        """The upper triangle (..., entries), over the scales, of a matrix (..., coordinates, coordinates)."""
        matrix = np.asarray(matrix, np.float64) / np.outer(self.scales, self.scales)
        return matrix[..., self.rows, self.columns]

    def plain_weights(self) -> np.ndarray:
        """(entries,) with which the sum of squares of entries is that of the whole matrix."""
        return np.where(self.rows == self.columns, 1.0, np.sqrt(2.0))

    def first(self) -> Modes:
        """No mode."""
        return Modes((), np.zeros((0, 3)), ())

    def order(self, modes: Modes) -> int:
        """Number of auxiliary variables."""
        return sum(f.shape[1] * (1 + k) for f, k in zip(modes.factors, modes.oscillating, strict=True))

    def free_parameters(self, modes: Modes) -> int:
        """Number of fitted numbers."""
        return len(_numbers(_turned(modes)))

    def kernel(self, modes: Modes) -> PassiveKernel:
        """The `PassiveKernel` of the modes: each column of a factor has auxiliaries of its own."""
        kinds, rows, single = [], [], []
        for factor, shape, oscillating in zip(modes.factors, modes.shapes, modes.oscillating, strict=True):
            for column in factor.T:
                kinds.append(oscillating)
                single.append([0.0, *shape])
                rows.extend([column * self.scales] * (1 + oscillating))
        couplings, skew, damping = _modes.matrices((np.array(single), tuple(kinds)))
        return PassiveKernel(couplings[:, None] * np.array(rows), skew, damping)

    def evaluate(self, times: np.ndarray, modes: Modes) -> np.ndarray:
        """(times, entries) of Γ."""
        found = np.zeros((len(times), len(self.rows)))
        for factor, shape, oscillating in zip(modes.factors, modes.shapes, modes.oscillating, strict=True):
            mode = _modes.one_mode(times, [0.0, *shape], oscillating)[0]
            found += mode[:, None] * self._strength(factor)
        return found

    def total(self, modes: Modes) -> np.ndarray:
        """(entries,) of ∫₀^∞ Γ dt."""
        found = np.zeros(len(self.rows))
        for factor, shape, oscillating in zip(modes.factors, modes.shapes, modes.oscillating, strict=True):
            found += _modes.one_total([0.0, *shape], oscillating)[0] * self._strength(factor)
        return found

    def starts(self, times: np.ndarray, values: np.ndarray, weights: np.ndarray, modes: Modes) -> Iterator[Modes]:
        """Starting points with one mode more: the two the residual asks for, and each mode there is split in two."""
        for oscillating in (False, True):
            factor, shape = self._guess(times, values - self.evaluate(times, modes), weights, oscillating)
            yield Modes((*modes.factors, factor), np.vstack([modes.shapes, shape]), (*modes.oscillating, oscillating))
        for i, oscillating in enumerate(modes.oscillating):
            shapes = np.vstack([modes.shapes, modes.shapes[i]])
            for j, sign in ((i, 1), (-1, -1)):
                shapes[j] += [0.5 * sign, 0.1 * sign, 0.0]
            factors = [*modes.factors, modes.factors[i] / np.sqrt(2)]
            factors[i] = factors[-1]
            yield Modes(tuple(factors), shapes, (*modes.oscillating, oscillating))

    def thinner(self, modes: Modes) -> Iterator[Modes]:
        """The modes without the weakest direction of one of them."""
        for i, factor in enumerate(modes.factors):
            vectors, strengths, _ = np.linalg.svd(factor, full_matrices=False)
            rest = (vectors * strengths)[:, :-1]
            if rest.shape[1]:
                yield replace(modes, factors=(*modes.factors[:i], rest, *modes.factors[i + 1 :]))
            elif len(modes.factors) > 1:
                others = [j for j in range(len(modes.factors)) if j != i]
                yield Modes(
                    tuple(modes.factors[j] for j in others),
                    modes.shapes[others],
                    tuple(modes.oscillating[j] for j in others),
                )

    def refine(
        self,
        times: np.ndarray,
        values: np.ndarray,
        weights: np.ndarray,
        start: Modes,
        friction: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Modes:
        """All modes together by least squares.

        Arguments:
            times: (times,) ps.
            values, weights: (times, entries).
            start: where to begin.
            friction: entries of the integral of the kernel and their weights among the other data.
        """
        start = _turned(start)
        scaled = weights / np.linalg.norm(values * weights)

        def residual(numbers):
            now = _with_numbers(start, numbers)
            misfit = ((self.evaluate(times, now) - values) * scaled).ravel()
            return misfit if friction is None else np.append(misfit, (self.total(now) - friction[0]) * friction[1])

        def jacobian(numbers):
            now = _with_numbers(start, numbers)
            rows = self._slopes(now, lambda mode, k: _modes.one_mode(times, mode, k)) * scaled
            rows = rows.reshape(len(rows), -1).T
            if friction is None:
                return rows
            return np.vstack([rows, (self._slopes(now, _modes.one_total) * friction[1]).T])

        begin = _numbers(start)
        fixed = len(begin) - int(_free(start).sum())
        lowest = np.full(len(begin), -np.inf)
        slowest = np.full(start.shapes.shape, -np.inf)
        slowest[:, 0] = np.log(SLOWEST / times[-1])
        lowest[fixed:] = slowest[_free(start)]
        begin = np.maximum(begin, lowest)
        width = np.where(np.arange(len(begin)) < fixed, np.inf, WIDEST)
        bounds = (np.maximum(begin - width, lowest), begin + width)
        found = least_squares(residual, begin, jac=jacobian, bounds=bounds, x_scale="jac", max_nfev=60)  # pyright: ignore[reportArgumentType]
        return _with_numbers(start, found.x)

    def _strength(self, factor: np.ndarray) -> np.ndarray:
        """(entries,) of L Lᵀ."""
        return np.sum(factor[self.rows] * factor[self.columns], axis=1)

    def _slopes(self, modes: Modes, of) -> np.ndarray:
        """Derivatives (numbers, ..., entries) of Σ L Lᵀ g for a linear functional g, and its slopes, of a mode."""
        by_factor, by_shape = [], []
        free = _free(modes)
        for i, (factor, oscillating) in enumerate(zip(modes.factors, modes.oscillating, strict=True)):
            value, slopes = of([0.0, *modes.shapes[i]], oscillating)
            each = np.arange(len(factor))[:, None, None]
            change = np.where(each == self.rows, factor[self.columns].T, 0.0)
            change += np.where(each == self.columns, factor[self.rows].T, 0.0)
            change = change[_lower(factor)]
            by_factor.append(np.multiply.outer(value, change).swapaxes(0, -2))
            by_shape.append(np.multiply.outer(slopes[1:][free[i]], self._strength(factor)))
        return np.concatenate(by_factor + by_shape)

    def _guess(self, times, residual, weights, oscillating: bool) -> tuple[np.ndarray, np.ndarray]:
        """Of a grid of rates and frequencies the mode with a positive strength that explains most of the residual."""
        longest, shortest = times[-1], np.diff(times).min()
        rates = np.geomspace(0.1 / longest, 3 / shortest, 40)
        frequencies = np.geomspace(1 / longest, 2 / shortest, 40) if oscillating else np.ones(1)
        waves = np.cos(frequencies[:, None] * times) if oscillating else np.ones((1, len(times)))
        shapes = np.exp(-rates[:, None, None] * times) * waves
        overlap, norm = shapes @ (residual * weights**2), shapes**2 @ weights**2
        size = len(self.scales)
        matrices = np.zeros((*overlap.shape[:2], size, size))
        matrices[..., self.rows, self.columns] = matrices[..., self.columns, self.rows] = overlap / norm
        values, vectors = np.linalg.eigh(matrices)
        positive = np.einsum("...ik,...k,...jk->...ij", vectors, np.maximum(values, 0.0), vectors)
        positive = positive[..., self.rows, self.columns]
        gain = np.sum(positive * (2 * overlap - positive * norm), axis=-1)
        i, j = np.unravel_index(gain.argmax(), gain.shape)
        # Where nothing positive is left to explain, a weak mode may still grow.
        least = _WEAK * max(float(values[i, j].max()), float(np.abs(residual).max()))
        factor = vectors[i, j] * np.sqrt(np.maximum(values[i, j], least))
        return factor, np.array([np.log(rates[i]), np.log(frequencies[j]), 0.0])


def matrix_samples(values: np.ndarray, errors: np.ndarray | None) -> tuple[MatrixModes, np.ndarray, np.ndarray]:
    """The family for a table of matrices, and the table's entries and weights (times, entries) in it.

    Arguments:
        values: (times, coordinates, coordinates) amu/ps².
        errors: their standard errors, of a shape that broadcasts to theirs, or None.

    Raises:
        ValueError: the table is not symmetric, or nothing in it is positive.
    """
    values = np.asarray(values, np.float64)
    values = symmetrised("kernel", values, errors)
    largest = np.abs(np.diagonal(values, axis1=-2, axis2=-1)).max(axis=0)
    if not largest.max() > 0:
        raise ValueError("fit_passive_kernel: the kernel is zero at all times fitted; there is nothing to fit.")
    family = MatrixModes(np.sqrt(np.maximum(largest, _SMALLEST_SCALE**2 * largest.max())))
    entries = family.entries(values)
    if errors is None:
        return family, entries, np.broadcast_to(family.plain_weights(), entries.shape)
    both = np.broadcast_to(errors, values.shape)
    # Errors of the two halves are those of the same fluctuations: their mean has no smaller one.
    return family, entries, 1.0 / family.entries(0.5 * (both + both.swapaxes(-1, -2)))


def symmetrised(name: str, values: np.ndarray, errors: np.ndarray | None) -> np.ndarray:
    """Half the sum of matrices (..., coordinates, coordinates) and their transposes.

    Raises:
        ValueError: the difference is more than a hundredth of the matrices and, where ``errors`` are given, more than
            three of these.
    """
    turned = values.swapaxes(-1, -2)
    odd, even = 0.5 * (values - turned), 0.5 * (values + turned)
    share = float(np.linalg.norm(odd) / max(np.linalg.norm(even), 1e-300))
    if share > _ASYMMETRY:
        known = "give errors= if this is noise; "
        off = np.inf
        if errors is not None:
            both = np.broadcast_to(errors, values.shape)
            off = float(np.sqrt(np.sum(odd**2) / np.sum((both**2 + both.swapaxes(-1, -2) ** 2) / 4 * (odd != 0))))
            known = f"that is {off:.1f} of its standard errors; "
        if off > _ERRORS:
            raise ValueError(
                f"fit_passive_kernel: the antisymmetric part of the {name} is {share:.2g} of it, more than the "
                f"{_ASYMMETRY:g} that is taken for noise: {known}kernels of coordinates that time reversal leaves "
                "alone are symmetric matrices, so take 0.5 (Γ + Γᵀ) if yours are such."
            )
    return even


def held_friction(family: MatrixModes, friction, friction_error, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Entries of the integral to be held, and their weights: ``unit`` over their standard errors.

    Raises:
        ValueError: not a positive semidefinite matrix of the size of the kernel, or an error is not positive.
    """
    size = len(family.scales)
    friction = np.asarray(friction, np.float64)
    if friction.shape != (size, size):
        raise ValueError(
            f"fit_passive_kernel: friction of shape {friction.shape} for a kernel of {size} coordinates; give "
            f"({size}, {size})."
        )
    diagonal = np.diagonal(friction)
    if friction_error is None:
        require_positive("fit_passive_kernel", "diagonal of the friction", diagonal)
        error = 0.01 * np.sqrt(np.outer(diagonal, diagonal))
    else:
        error = np.broadcast_to(np.asarray(friction_error, np.float64), (size, size))
        require_positive("fit_passive_kernel", "error of the friction", error)
    friction = symmetrised("friction", friction, error)
    return family.entries(friction), unit / family.entries(0.5 * (error + error.T))


def _lower(factor: np.ndarray) -> np.ndarray:
    """Which numbers of a factor are free: those above the diagonal only turn its columns among each other."""
    return np.tril(np.ones(factor.shape, bool))


def _free(modes: Modes) -> np.ndarray:
    return np.array([[True, k, k] for k in modes.oscillating]).reshape(-1, 3)


def _turned(modes: Modes) -> Modes:
    """The same modes with lower triangular factors."""
    return replace(modes, factors=tuple(np.tril(np.linalg.qr(f.T)[1].T) for f in modes.factors))


def _numbers(modes: Modes) -> np.ndarray:
    """The free numbers in a row: factors, then shapes."""
    return np.concatenate([*(f[_lower(f)] for f in modes.factors), modes.shapes[_free(modes)]])


def _with_numbers(modes: Modes, numbers: np.ndarray) -> Modes:
    factors, place = [], 0
    for old in modes.factors:
        factor, free = np.zeros(old.shape), _lower(old)
        count = int(free.sum())
        factor[free], place = numbers[place : place + count], place + count
        factors.append(factor)
    shapes = np.array(modes.shapes)
    shapes[_free(modes)] = numbers[place:]
    return Modes(tuple(factors), shapes, modes.oscillating)

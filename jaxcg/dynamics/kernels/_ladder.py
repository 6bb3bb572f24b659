"""Ladders (Mori's continued fraction): the other family of passive kernels to fit.

Γ̂(s) = Γ₀/(s + p₁ + b₁²/(s + p₂ + b₂²/(s + …))): auxiliaries coupled in a row, each damped by p_k ≥ 0. Baths that
carry energy away without absorbing it at once, such as chains of atoms, take few rungs.

Source: Mori, Prog. Theor. Phys. 34, 399 (1965).
"""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import least_squares

from .forms import PassiveKernel

#: log Γ₀, log p of every rung, log b of every pair of neighbours.
Ladder = np.ndarray


def first() -> Ladder:
    """No rung."""
    return np.zeros(0)


def order(parameters: Ladder) -> int:
    """Number of auxiliary variables."""
    return len(parameters) // 2


def free_parameters(parameters: Ladder) -> int:
    """Number of fitted numbers."""
    return len(parameters)


def numbers(parameters: Ladder) -> np.ndarray:
    """The fitted numbers in a row."""
    return parameters


def with_numbers(parameters: Ladder, numbers: np.ndarray) -> Ladder:
    """The same ladder with other numbers."""
    del parameters
    return numbers


def kernel(parameters: Ladder) -> PassiveKernel:
    """The `PassiveKernel` of the ladder."""
    return PassiveKernel(*matrices(parameters))


def matrices(parameters: Ladder) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Couplings, skew and damping of the `PassiveKernel`."""
    damping, links = _parts(parameters)
    couplings = np.zeros(len(damping))
    couplings[0] = np.exp(0.5 * parameters[0])
    return couplings, np.diag(links, 1), np.diag(np.sqrt(damping))


def evaluate(times: np.ndarray, parameters: Ladder) -> np.ndarray:
    """Γ at ``times``."""
    if not len(parameters):
        return np.zeros(len(times))
    damping, links = _parts(parameters)
    rates, vectors = np.linalg.eig(np.diag(damping) + np.diag(links, 1) - np.diag(links, -1))
    shares = vectors[0] * np.linalg.solve(vectors, np.eye(len(damping))[:, 0])
    return np.exp(parameters[0]) * (np.exp(-np.outer(times, rates)) @ shares).real


def total(parameters: Ladder) -> float:
    """∫₀^∞ Γ dt: the continued fraction at s = 0."""
    damping, links = _parts(parameters)
    below = damping[-1]
    for p, b in zip(damping[-2::-1], links[::-1], strict=True):
        below = p + b**2 / below
    return float(np.exp(parameters[0]) / below)


def starts(times: np.ndarray, values: np.ndarray, weights: np.ndarray, parameters: Ladder) -> Iterator[Ladder]:
    """Starting points with one rung more at the end, of several strengths, which takes the damping of the last."""
    del weights
    if not len(parameters):
        duration = np.trapezoid(np.abs(values), times) / abs(values[0])
        yield np.log([abs(values[0]), 1 / duration])
        return
    rungs = order(parameters)
    damping, links = parameters[1 : rungs + 1], parameters[rungs + 1 :]
    last = links[-1] if len(links) else damping[-1]
    for link in (0.0, 1.0, -1.0):
        for damped in (0.0, 1.5, -1.5):
            freed = np.append(damping[:-1], [damping[-1] - 3.0, damping[-1] + damped])
            yield np.concatenate([parameters[:1], freed, np.append(links, last + link)])


def refine(
    times: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    parameters: Ladder,
    friction: tuple[float, float] | None = None,
) -> Ladder:
    """All numbers together by least squares.

    ``friction`` is a value for the integral of the kernel and its weight among the other data.
    """
    scaled = weights / np.linalg.norm(values * weights)

    def residual(numbers):
        misfit = (evaluate(times, numbers) - values) * scaled
        return misfit if friction is None else np.append(misfit, (total(numbers) - friction[0]) * friction[1])

    bounds = (parameters - 15.0, parameters + 15.0)
    return least_squares(residual, parameters, bounds=bounds, x_scale="jac", max_nfev=60).x


def _parts(parameters: Ladder) -> tuple[np.ndarray, np.ndarray]:
    rungs = order(parameters)
    return np.exp(parameters[1 : rungs + 1]), np.exp(parameters[rungs + 1 :])

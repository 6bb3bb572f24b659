"""Sums of modes, each of them positive-real: one family of passive kernels to fit."""

from collections.abc import Iterator

import numpy as np
from scipy.optimize import least_squares

from .forms import PassiveKernel

#: Logarithms of parameters stay within this distance of their first guesses.
WIDEST = 12.0

#: Least rate of a mode, over the time fitted: what is slower looks like a constant there, and could have any integral.
SLOWEST = 0.05

#: (modes, 4) log c, log λ, log q and artanh r of each mode, and which of them oscillate.
Modes = tuple[np.ndarray, tuple[bool, ...]]


def first() -> Modes:
    """No mode."""
    return np.zeros((0, 4)), ()


def order(parameters: Modes) -> int:
    """Number of auxiliary variables."""
    return sum(1 + k for k in parameters[1])


def free_parameters(parameters: Modes) -> int:
    """Number of fitted numbers."""
    return sum(4 if k else 2 for k in parameters[1])


def numbers(parameters: Modes) -> np.ndarray:
    """The fitted numbers in a row: two of a relaxing mode, four of an oscillating one."""
    return parameters[0][_free(parameters[1])]


def with_numbers(parameters: Modes, numbers: np.ndarray) -> Modes:
    """The same modes with other numbers."""
    modes = np.array(parameters[0], np.float64)
    modes[_free(parameters[1])] = numbers
    return modes, parameters[1]


def _free(kinds: tuple[bool, ...]) -> np.ndarray:
    return np.array([[True, True, k, k] for k in kinds]).reshape(-1, 4)


def kernel(parameters: Modes) -> PassiveKernel:
    """The `PassiveKernel` of the modes."""
    return PassiveKernel(*matrices(parameters))


def matrices(parameters: Modes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Couplings, skew and damping of the `PassiveKernel`.

    An oscillating mode has the block S = [[λ(1−r), q], [−q, λ(1+r)]], so ω² = q² − λ² r², which may be negative.
    """
    couplings, skew, damping = [], [], []
    for (log_c, log_rate, log_q, free), oscillating in zip(*parameters, strict=True):
        c, rate = np.exp(log_c), np.exp(log_rate)
        if not oscillating:
            couplings.append([np.sqrt(c)])
            skew.append(np.zeros((1, 1)))
            damping.append([np.sqrt(rate)])
            continue
        q, r = np.exp(log_q), np.tanh(free)
        couplings.append([np.sqrt(c), 0.0])
        skew.append(np.array([[0.0, q], [0.0, 0.0]]))
        damping.append([np.sqrt(rate * (1 - r)), np.sqrt(rate * (1 + r))])
    count = sum(len(c) for c in couplings)
    whole, place = np.zeros((count, count)), 0
    for block in skew:
        whole[place : place + len(block), place : place + len(block)] = block
        place += len(block)
    return np.concatenate(couplings), whole, np.diag(np.concatenate(damping))


def one_mode(t, mode, oscillating: bool) -> tuple[np.ndarray, np.ndarray]:
    """A mode at times ``t``, and its derivatives (4, times) by the four parameters."""
    c, rate, q, r = np.exp(mode[0]), np.exp(mode[1]), np.exp(mode[2]), np.tanh(mode[3])
    if not oscillating:
        decay = c * np.exp(-rate * t)
        return decay, np.stack([decay, -rate * t * decay, 0 * t, 0 * t])
    square = q**2 - (rate * r) ** 2
    cosine, sine, change = _damped(t, rate, square)
    value = c * (cosine + r * rate * sine)
    by_square = c * (-0.5 * t * sine + r * rate * change)
    by_rate = -rate * t * value + c * r * rate * sine - 2 * (rate * r) ** 2 * by_square
    by_ratio = c * rate * sine - 2 * rate**2 * r * by_square
    return value, np.stack([value, by_rate, 2 * q**2 * by_square, by_ratio * (1 - r**2)])


def _damped(t, rate, square):
    """e^{−λt} cos ωt, e^{−λt} sin ωt/ω and the derivative of the second by ω², for ω² of either sign (> −λ²)."""
    z = square * t**2
    near = np.abs(z) < 1e-4
    omega = np.sqrt(max(abs(square), 1e-300))
    if square > 0:
        decay = np.exp(-rate * t)
        cosine, sine = decay * np.cos(omega * t), decay * np.sin(omega * t) / omega
    else:
        slow, fast = np.exp((omega - rate) * t), np.exp(-(omega + rate) * t)
        cosine, sine = 0.5 * (slow + fast), 0.5 * (slow - fast) / omega
    decay = np.exp(-rate * t)
    sine = np.where(near, decay * t * (1 - z / 6), sine)
    far = (t * cosine - sine) / (2 * square if square else 1.0)
    return cosine, sine, np.where(near, decay * t**3 * (z / 60 - 1 / 6), far)


def evaluate(times: np.ndarray, parameters: Modes) -> np.ndarray:
    """Γ at ``times``."""
    return sum((one_mode(times, mode, k)[0] for mode, k in zip(*parameters, strict=True)), np.zeros(len(times)))


def total(parameters: Modes) -> float:
    """∫₀^∞ Γ dt."""
    return float(sum(one_total(mode, k)[0] for mode, k in zip(*parameters, strict=True)))


def one_total(mode, oscillating: bool) -> tuple[float, np.ndarray]:
    """∫₀^∞ Γ dt of a mode, and its derivatives (4,) by the parameters."""
    c, rate = np.exp(mode[0]), np.exp(mode[1])
    if not oscillating:
        return c / rate, np.array([c / rate, -c / rate, 0.0, 0.0])
    q, r = np.exp(mode[2]), np.tanh(mode[3])
    below = rate**2 * (1 - r**2) + q**2
    value = c * rate * (1 + r) / below
    by_rate = value * (1 - 2 * rate**2 * (1 - r**2) / below)
    by_ratio = c * rate / below + value * 2 * rate**2 * r / below
    return value, np.array([value, by_rate, -2 * value * q**2 / below, by_ratio * (1 - r**2)])


def starts(times: np.ndarray, values: np.ndarray, weights: np.ndarray, parameters: Modes) -> Iterator[Modes]:
    """Starting points with one mode more: the two the residual asks for, and each mode there is split in two."""
    modes, kinds = parameters
    for oscillating in (False, True):
        guess = _guess(times, (values - evaluate(times, parameters)) * weights, weights, oscillating)
        yield np.vstack([modes, guess]), (*kinds, oscillating)
    for i, oscillating in enumerate(kinds):
        split = np.vstack([modes, modes[i]])
        for j, sign in ((i, 1), (-1, -1)):
            split[j] += [-np.log(2), 0.5 * sign, 0.1 * sign, 0.0]
        yield split, (*kinds, oscillating)


def _guess(times, residual, weights, oscillating: bool) -> np.ndarray:
    """The mode of a grid of rates and frequencies that explains most of the residual with a positive strength."""
    longest, shortest = times[-1], np.diff(times).min()
    rates = np.geomspace(0.1 / longest, 3 / shortest, 40)
    frequencies = np.geomspace(1 / longest, 2 / shortest, 40) if oscillating else np.ones(1)
    waves = np.cos(frequencies[:, None] * times) if oscillating else np.ones((1, len(times)))
    columns = np.exp(-rates[:, None, None] * times) * waves * weights
    overlap = columns @ residual
    strength = overlap / np.sum(columns**2, axis=-1)
    gain = np.where(strength > 0, strength * overlap, -np.inf)
    i, j = np.unravel_index(gain.argmax(), gain.shape)
    # Where nothing positive is left to explain, a weak mode may still grow.
    positive = max(float(strength[i, j]), 1e-3 * float(np.abs(residual / weights).max()))
    return np.array([np.log(positive), np.log(rates[i]), np.log(frequencies[j]), 0.0])


def refine(
    times: np.ndarray,
    values: np.ndarray,
    weights: np.ndarray,
    parameters: Modes,
    friction: tuple[float, float] | None = None,
) -> Modes:
    """All modes together by least squares; relaxing ones have two parameters, the others four.

    ``friction`` is a value for the integral of the kernel and its weight among the other data.
    """
    start, kinds = parameters
    free = _free(kinds)
    scaled = weights / np.linalg.norm(values * weights)

    def modes_of(numbers):
        return with_numbers(parameters, numbers)[0]

    def residual(numbers):
        now = modes_of(numbers), kinds
        misfit = (evaluate(times, now) - values) * scaled
        return misfit if friction is None else np.append(misfit, (total(now) - friction[0]) * friction[1])

    def jacobian(numbers):
        now = modes_of(numbers)
        rows = (np.stack([one_mode(times, mode, k)[1] for mode, k in zip(now, kinds, strict=True)])[free] * scaled).T
        if friction is None:
            return rows
        last = np.stack([one_total(mode, k)[1] for mode, k in zip(now, kinds, strict=True)])[free] * friction[1]
        return np.vstack([rows, last])

    lowest = np.broadcast_to([-np.inf, np.log(SLOWEST / times[-1]), -np.inf, -np.inf], start.shape)[free]
    begin = np.maximum(start[free], lowest)
    bounds = (np.maximum(begin - WIDEST, lowest), begin + WIDEST)
    found = least_squares(residual, begin, jac=jacobian, bounds=bounds, x_scale="jac", max_nfev=300)  # pyright: ignore[reportArgumentType]
    return modes_of(found.x), kinds

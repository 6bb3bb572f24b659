"""Closed forms of motion with memory, in NumPy and SciPy alone."""

import numpy as np
from scipy.special import gamma, i0e, i1e, j1


def talbot(transform, times, terms: int = 24) -> np.ndarray:
    """Inverse Laplace transform of ``transform(s)`` at ``times`` > 0, to about nine digits.

    Abate & Whitt, INFORMS J. Comput. 18, 408 (2006), the fixed Talbot contour. The singularities must not lie far up
    the imaginary axis, compared with ``terms`` over the time.
    """
    angle = np.pi * np.arange(1, terms) / terms
    cotangent = 1 / np.tan(angle)
    radius = 0.4 * terms
    nodes = np.concatenate([[radius], radius * angle * (cotangent + 1j)])
    slope = 1 + 1j * angle * (1 + cotangent**2) - 1j * cotangent
    weights = 0.4 * np.concatenate([[0.5 * np.exp(nodes[0])], np.exp(nodes[1:]) * slope])
    times = np.asarray(times, float)[..., None]
    return np.sum(weights * np.asarray(transform(nodes / times)), axis=-1).real / times[..., 0]


def fourier(transform, times, highest: float, points: int = 2**16) -> np.ndarray:
    """(2/π) ∫ Re f̂(iω) cos ωt dω: the even function whose transform is ``transform(s)``, known on the axis only."""
    omega = (np.arange(points) + 0.5) * highest / points
    spectrum = np.asarray(transform(1j * omega)).real
    return np.array([2 / np.pi * np.sum(spectrum * np.cos(omega * t)) * highest / points for t in np.ravel(times)])


def harmonic(laplace, mass: float, omega: float):
    """Transforms of C_vv, C_xx and MSD at kT = 1 in a well, for the kernel whose transform is ``laplace``.

    A frequency ``omega`` of zero is free motion, which has no C_xx.
    """

    def velocity(s):
        return s / (s**2 + omega**2 + s * laplace(s) / mass) / mass

    def position(s):
        friction = laplace(s) / mass
        return (s + friction) / (s**2 + omega**2 + s * friction) / (mass * omega**2)

    def displacement(s):
        return 2 * velocity(s) / s**2

    return velocity, position, displacement


def exponential_velocity_correlation(times, strength: float, rate: float) -> np.ndarray:
    """C_vv of a free particle of unit mass with Γ = c e^{−λt} at kT = 1."""
    first, second = np.roots([1, rate, strength]).astype(complex)
    grown = (first + rate) * np.exp(first * times) - (second + rate) * np.exp(second * times)
    return (grown / (first - second)).real


def rubin_kernel(times, mass: float, highest: float) -> np.ndarray:
    """Γ(t) = m ω_L J₁(ω_L t)/t of an atom in an infinite harmonic chain of highest frequency ω_L."""
    z = highest * np.asarray(times, float)
    safe = np.where(z > 0, z, 1.0)
    return mass * highest**2 * np.where(z > 0, j1(safe) / safe, 0.5)


def rouse_kernel(times, spring: float, friction: float) -> np.ndarray:
    """Γ(t) of a bead in an infinite Rouse chain, without the white part 2ζδ(t) of the bead itself."""
    z = 2 * spring * np.asarray(times, float) / friction
    return 2 * spring * (i0e(z) + i1e(z))


def rouse_laplace(s, spring: float, friction: float) -> np.ndarray:
    """Γ̂(s) of that bead, ζ included: ζ + 2k(1 − λ)/s with λ + 1/λ = 2 + ζs/k, |λ| < 1."""
    half = friction * np.asarray(s, complex) / (2 * spring)
    return friction + 2 * spring * (np.sqrt(half) * np.sqrt(half + 2) - half) / s


def rouse_displacement(times, spring: float, friction: float) -> np.ndarray:
    """MSD of that bead at kT = 1 without inertia; 2√(t/πkζ) at late times."""
    z = 2 * spring * np.asarray(times, float) / friction
    return 2 * np.asarray(times) / friction * (i0e(z) + i1e(z))


def mittag_leffler(order: float, z) -> np.ndarray:
    """E_order(z) by its series; good to 1e-9 for |z| up to 20 or so if the order is above one."""
    powers = np.arange(150.0)
    powers = powers[order * powers + 1 < 170]
    return np.sum(np.asarray(z, float)[..., None] ** powers / gamma(order * powers + 1), axis=-1)

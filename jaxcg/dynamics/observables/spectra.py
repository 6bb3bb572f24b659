"""Spectra of velocities and frequency-dependent friction: of trajectories, with errors, and of models, exactly.

Conventions. Angular frequencies ω are in 1/ps; `wavenumbers` turns them into cm⁻¹. The velocity power spectrum is
one-sided, P(ω) = (2/π) ∫₀^∞ C_vv(t) cos ωt dt, so that ∫₀^∞ P dω = ⟨v²⟩ (kT/M in equilibrium) and P(0) = 2 D/π. It is
the vibrational density of states of the coordinate up to the factor M/kT.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.signal.windows import dpss

from ...typing import Array
from ...units import GAS_CONSTANT
from ..kernels.forms import AbstractMemoryKernel

#: Speed of light, cm/ps.
_SPEED_OF_LIGHT = 0.0299792458


def wavenumbers(omega):
    """ω / (2π c), cm⁻¹, of angular frequencies ``omega`` in 1/ps."""
    return np.asarray(omega) / (2 * np.pi * _SPEED_OF_LIGHT)


class Spectrum(NamedTuple):
    """Result of `velocity_spectrum`.

    Fields:
        omega: (frequencies,) angular frequencies from 0, 1/ps.
        values: (frequencies,) one-sided power spectrum, nm²/ps; its integral over ω (trapezoids) is ⟨v²⟩.
        error: (frequencies,) standard error, from the scatter between segments.
        resolution: half width of the window in ω, 1/ps: lines closer than this are one.
    """

    omega: np.ndarray
    values: np.ndarray
    error: np.ndarray
    resolution: float


def velocity_spectrum(velocities, spacing: float, *, segment: int | None = None, bandwidth: float = 2.0) -> Spectrum:
    """Power spectrum of velocities (vibrational density of states) by tapered segments.

    Every trajectory is cut into segments, each segment is multiplied with several orthogonal tapers (Slepian's), and
    the squares of the Fourier transforms are averaged. Segments do not overlap, so their scatter is the error.

    Arguments:
        velocities: (frames,), (trajectories, frames) or (trajectories, frames, coordinates), nm/ps; coordinates are
            averaged over.
        spacing: between frames, ps.
        segment: frames of a segment; its length sets the resolution. By default a 32nd of all the frames, or a
            trajectory where these are shorter.
        bandwidth: half width of the window, in units of 2π / (length of a segment); 2·bandwidth − 1 tapers are used.

    Raises:
        ValueError: fewer than two segments, or too short ones.

    Source: Thomson, Proc. IEEE 70, 1055 (1982).
    """
    v = np.asarray(velocities, np.float64)
    v = v[None, :, None] if v.ndim == 1 else v[..., None] if v.ndim == 2 else v
    if v.ndim != 3 or not np.isfinite(v).all():
        raise ValueError(f"velocity_spectrum: velocities of shape {np.shape(velocities)}; they must be finite.")
    length = min(v.shape[1], v.shape[0] * v.shape[1] // 32) if segment is None else int(segment)
    pieces = v.shape[1] // max(length, 1)
    count = v.shape[0] * pieces
    if length < 8 * bandwidth or count < 2:
        raise ValueError(
            f"velocity_spectrum: {v.shape[0]} trajectories of {v.shape[1]} frames make {count} segments of {length}; "
            f"give at least two segments of {int(np.ceil(8 * bandwidth))} frames or more."
        )
    tapers = np.asarray(dpss(length, bandwidth, max(int(2 * bandwidth) - 1, 1)))
    parts = v[:, : pieces * length].reshape(count, length, -1)
    each = np.zeros((count, length // 2 + 1))
    for taper in tapers:
        transform = np.fft.rfft(parts * taper[:, None], axis=1)
        each += np.mean(np.abs(transform) ** 2, axis=2) / len(tapers)
    omega = 2 * np.pi * np.fft.rfftfreq(length, spacing)
    # Tapers have a square sum of one. Two-sided power per ω, folded over; at zero the density is the same, and the
    # trapezoid there counts half. So it does at the Nyquist frequency of segments with an even number of frames.
    each *= spacing / np.pi
    return Spectrum(
        omega,
        each.mean(axis=0),
        each.std(axis=0, ddof=1) / np.sqrt(count),
        float(2 * np.pi * bandwidth / (length * spacing)),
    )


def model_spectrum(
    kernel: AbstractMemoryKernel, mass: float, omega: Array, temperature: float, stiffness: float = 0.0
) -> Array:
    """Velocity power spectrum of free or harmonic motion with a memory kernel, exactly, as `velocity_spectrum` has it.

    P(ω) = (2/π) Re Ĉ_vv(iω), Ĉ_vv(s) = (kT/M) / (s + ω₀²/s + Γ̂(s)/M) with ω₀² = k/M. Any scalar kernel will do, tables
    too.

    Arguments:
        kernel: scalar memory kernel.
        mass: amu.
        omega: (frequencies,) 1/ps.
        temperature: K.
        stiffness: k, kJ/mol/nm²; zero for free motion.

    Returns:
        (frequencies,) nm²/ps.

    Raises:
        ValueError: the kernel is matrix-valued.

    Source: Kubo, Rep. Prog. Phys. 29, 255 (1966), for the transform of the generalised Langevin equation.
    """
    if kernel.coordinates is not None:
        raise ValueError("model_spectrum: the kernel is matrix-valued; give the scalar kernel of one coordinate.")
    omega = jnp.asarray(omega)
    friction = kernel.laplace(1j * omega) / mass
    # Multiplied by s, so that nothing is divided by zero at rest: Re [s / (s² + ω₀² + s Γ̂/M)], free motion apart.
    if stiffness == 0.0:
        transform = 1 / (1j * omega + friction)
    else:
        transform = 1j * omega / (stiffness / mass - omega**2 + 1j * omega * friction)
    return 2 / np.pi * GAS_CONSTANT * temperature / mass * transform.real


def friction_spectrum(kernel: AbstractMemoryKernel, omega: Array) -> Array:
    """Re Γ̂(iω), amu/ps: the friction felt by motion at the angular frequencies ``omega`` (1/ps); at 0, ∫Γ dt."""
    return jnp.real(kernel.laplace(1j * jnp.asarray(omega)))

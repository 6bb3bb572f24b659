"""Rates of escape over a barrier: Kramers, and Grote and Hynes for friction with memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import cumulative_simpson
from scipy.optimize import root_scalar

from ...energy.base import AbstractEnergy
from ...units import GAS_CONSTANT
from ..kernels.forms import AbstractMemoryKernel

#: Points of a profile, growths of its range, and kT beyond which a Boltzmann factor is nothing.
_POINTS, _DOUBLINGS, _NOTHING = 4001, 40, 35.0


def grote_hynes_frequency(kernel: AbstractMemoryKernel, mass: float, barrier_frequency: float) -> float:
    """λ_r > 0 with λ² + λ Γ̂(λ)/M = ω_b², 1/ps: how fast an unstable trajectory leaves the barrier.

    Arguments:
        kernel: scalar memory kernel.
        mass: amu.
        barrier_frequency: ω_b, 1/ps: U ≈ U_b − ½ M ω_b² (x − x_b)².

    Source: Grote & Hynes, J. Chem. Phys. 73, 2715 (1980), eq. 4.
    """

    def excess(rate: float) -> float:
        return rate**2 + rate * float(jnp.real(kernel.laplace(jnp.asarray(rate)))) / mass - barrier_frequency**2

    return _root(excess, 1e-12 * barrier_frequency, barrier_frequency * (1 + 1e-12))


def _root(function, low: float, high: float) -> float:
    found = root_scalar(function, bracket=(low, high), method="brentq", xtol=1e-14, rtol=1e-13)
    return float(found.root)


def grote_hynes_rate(
    kernel: AbstractMemoryKernel,
    mass: float,
    *,
    well_frequency: float,
    barrier_frequency: float,
    barrier: float,
    temperature: float,
) -> float:
    """Rate of escape k = (λ_r/ω_b) (ω₀/2π) e^{−ΔU/kT}, 1/ps; with a `DeltaKernel` it is that of Kramers.

    Arguments:
        kernel: scalar memory kernel.
        mass: amu.
        well_frequency, barrier_frequency: ω₀ and ω_b, 1/ps.
        barrier: ΔU, kJ/mol.
        temperature: K.

    Source: Grote & Hynes, J. Chem. Phys. 73, 2715 (1980); Hänggi, Talkner & Borkovec, Rev. Mod. Phys. 62, 251 (1990).
    """
    transmission = grote_hynes_frequency(kernel, mass, barrier_frequency) / barrier_frequency
    return transmission * well_frequency / (2 * np.pi) * float(np.exp(-barrier / (GAS_CONSTANT * temperature)))


class BarrierRate(NamedTuple):
    """Result of `barrier_rate`: escape from the well at ``start`` over the barrier towards ``end``.

    Fields:
        rate: λ_r/ω_b times the rate of transition-state theory with the whole well, 1/ps; 1/rate is the mean time from
            ``start`` to ``end`` where the barrier is several kT.
        harmonic_rate: the same with a harmonic well, (λ_r/ω_b) (ω₀/2π) e^{−ΔU/kT}, 1/ps.
        transmission: λ_r/ω_b of Grote and Hynes.
        well, top: positions of minimum and barrier, nm.
        well_frequency, barrier_frequency: ω₀ and ω_b, 1/ps.
        barrier: ΔU, kJ/mol.
    """

    rate: float
    harmonic_rate: float
    transmission: float
    well: float
    top: float
    well_frequency: float
    barrier_frequency: float
    barrier: float


def barrier_rate(
    energy: AbstractEnergy,
    kernel: AbstractMemoryKernel,
    mass: float,
    temperature: float,
    *,
    start: float,
    end: float,
) -> BarrierRate:
    """Grote-Hynes rate straight from a potential of mean force: its well, barrier and frequencies are found.

    The barrier is the highest point between ``start`` and ``end``, the well the lowest on the near side of it.
    The theory is that of a parabolic barrier much higher than kT, and of friction that keeps the well in equilibrium:
    at very low friction the slow exchange of energy with the bath limits the rate instead.

    Arguments:
        energy: u(x) of one coordinate, kJ/mol.
        kernel: scalar memory kernel.
        mass: amu.
        temperature: K.
        start, end: positions in the two wells, nm.

    Raises:
        ValueError: no barrier between start and end, or a well that is open.

    Source: Grote & Hynes, J. Chem. Phys. 73, 2715 (1980); Hänggi, Talkner & Borkovec, Rev. Mod. Phys. 62, 251 (1990).
    """
    thermal_energy = GAS_CONSTANT * temperature
    between = np.linspace(start, end, _POINTS)
    u = _profile(energy, between)
    highest = int(np.argmax(u))
    if highest in (0, _POINTS - 1) or u[highest] - u[0] < thermal_energy:
        raise ValueError(
            f"barrier_rate: from {start:g} to {end:g} nm the potential has no barrier of kT or more above the start."
        )
    top = _vertex(between, u, highest)
    well_x = _well(energy, top, start, thermal_energy)
    well_u = _profile(energy, well_x)
    lowest = int(np.clip(np.argmin(well_u), 1, len(well_x) - 2))
    well = _vertex(well_x, well_u, lowest)
    curvature = jax.grad(jax.grad(energy))
    bottom, saddle = (float(curvature(jnp.asarray(x))) for x in (well, top))
    if not (bottom > 0 and saddle < 0):
        raise ValueError(
            f"barrier_rate: curvatures {bottom:g} and {saddle:g} kJ/mol/nm² at well ({well:g} nm) and barrier ({top:g} "
            "nm) are not those of a minimum and a maximum; smooth the profile more."
        )
    height = float(energy(jnp.asarray(top)) - energy(jnp.asarray(well)))
    well_frequency, barrier_frequency = np.sqrt(bottom / mass), np.sqrt(-saddle / mass)
    transmission = grote_hynes_frequency(kernel, mass, float(barrier_frequency)) / barrier_frequency
    weight = float(np.trapezoid(np.exp(-(well_u - well_u[lowest]) / thermal_energy), abs(well_x - top)))
    boltzmann = np.exp(-height / thermal_energy)
    whole = np.sqrt(thermal_energy / (2 * np.pi * mass)) * boltzmann / weight
    return BarrierRate(
        rate=float(transmission * whole),
        harmonic_rate=float(transmission * well_frequency / (2 * np.pi) * boltzmann),
        transmission=float(transmission),
        well=well,
        top=top,
        well_frequency=float(well_frequency),
        barrier_frequency=float(barrier_frequency),
        barrier=height,
    )


def overdamped_passage_time(
    energy: AbstractEnergy, friction: float, temperature: float, *, start: float, end: float
) -> float:
    """Exact mean first-passage time of overdamped motion, (γ/kT) ∫ e^{u(y)/kT} ∫ e^{−u(z)/kT} dz dy, ps.

    y goes from ``start`` to ``end``, z from y to where the potential keeps the coordinate on the far side of ``start``.
    It is the limit of a `GLE` whose friction is strong and whose memory is short; motion with inertia or memory passes
    later or sooner, and by how much says how far from that limit it is.

    Arguments:
        energy: u(x) of one coordinate, kJ/mol.
        friction: γ = ∫Γ dt, amu/ps.
        temperature: K.
        start, end: nm, in any order.

    Raises:
        ValueError: the potential does not confine on the far side of the start.

    Source: Gardiner, Handbook of Stochastic Methods (Springer), first-passage times of one-dimensional diffusion.
    """
    thermal_energy = GAS_CONSTANT * temperature
    behind = _well(energy, end, start, thermal_energy)[::-1]
    u = _profile(energy, behind) / thermal_energy
    u = u - u.min()
    way = abs(behind - behind[0])
    inner = cumulative_simpson(np.exp(-u), x=way, initial=0.0)
    outer = cumulative_simpson(np.exp(u) * inner, x=way, initial=0.0)
    # Between grid points: where the start is.
    before = float(np.interp(abs(start - behind[0]), way, outer))
    return float(friction / thermal_energy * (outer[-1] - before))


def _profile(energy: AbstractEnergy, x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vmap(energy)(jnp.asarray(x)), np.float64)


def _well(energy: AbstractEnergy, edge: float, inside: float, thermal_energy: float) -> np.ndarray:
    """Grid from ``edge`` past ``inside`` to where the Boltzmann factor is nothing."""
    length, sign = abs(inside - edge), 1.0 if inside > edge else -1.0
    for _ in range(_DOUBLINGS):
        x = edge + sign * np.linspace(0.0, length, _POINTS)
        u = _profile(energy, x)
        # Compared with this well alone: the other one may be deeper.
        here = np.where(abs(x - edge) >= abs(inside - edge) * (1 - 1e-12), u, np.inf)
        far = np.isfinite(here) & (u - np.minimum.accumulate(here) > _NOTHING * thermal_energy)
        if far.any():
            return edge + sign * np.linspace(0.0, abs(x[np.argmax(far)] - edge), _POINTS)
        length *= 1.25
    raise ValueError(f"The potential does not confine the coordinate beyond {inside:g} nm; give one that does.")


def _vertex(x: np.ndarray, u: np.ndarray, index: int) -> float:
    """Where the parabola through three points of a grid is flat."""
    left, here, right = u[index - 1], u[index], u[index + 1]
    bend = left - 2 * here + right
    offset = 0.0 if bend == 0 else float(np.clip(0.5 * (left - right) / bend, -1, 1))
    return float(x[index] + offset * (x[1] - x[0]))

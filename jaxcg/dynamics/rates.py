"""Rates of escape over a barrier: Kramers, and Grote and Hynes for friction with memory."""

import jax.numpy as jnp
import numpy as np
from scipy.optimize import root_scalar

from ..units import GAS_CONSTANT
from .kernels import AbstractMemoryKernel


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

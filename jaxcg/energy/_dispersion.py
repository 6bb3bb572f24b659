"""Long-range dispersion correction of a truncated Lennard-Jones energy in a homogeneous box."""

import math

import jax.numpy as jnp
import numpy as np

from ..typing import Array, Scalar


def dispersion_correction(sigmas: Array, epsilons: Array, box: Array, cutoff: float, switch: float | None) -> Scalar:
    """Mean-field energy of the Lennard-Jones tails beyond the cutoff, kJ/mol.

    With σ = (σ_i + σ_j)/2 and ε = √(ε_i ε_j) the double sums over atoms are binomial sums of the moments Σ √ε_i σ_iᵏ,
    so the cost is linear in the atoms and the parameters stay differentiable.

    Arguments:
        sigmas, epsilons: (atoms,) nm and kJ/mol.
        box: (3, 3) box vectors, nm.
        cutoff, switch: nm.

    Source: Shirts et al., J. Phys. Chem. B 111, 13052 (2007), eq. 5, as in OpenMM.
    """
    n_atoms = sigmas.shape[0]
    positive = epsilons > 0
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, epsilons, 1.0)), 0.0)
    moments = [jnp.sum(root * sigmas**k) for k in range(13)]

    def mean(power: int) -> Scalar:
        double = sum(math.comb(power, k) * moments[k] * moments[power - k] for k in range(power + 1)) / 2**power
        own = jnp.sum(epsilons * sigmas**power)
        return (double + own) / (n_atoms * (n_atoms + 1))

    repulsion, attraction = removed_tail(12, cutoff, switch), removed_tail(6, cutoff, switch)
    volume = box[0, 0] * box[1, 1] * box[2, 2]
    return 8.0 * math.pi * n_atoms**2 / volume * (mean(12) * repulsion - mean(6) * attraction)


def removed_tail(power: int, cutoff: float, switch: float | None) -> float:
    """∫ r² r^−power over what truncation and switching remove."""
    tail = cutoff ** (3 - power) / (power - 3)
    if switch is None:
        return tail
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = 0.5 * (nodes + 1.0)
    r = switch + (cutoff - switch) * t
    removed = t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
    return tail + 0.5 * (cutoff - switch) * float(np.sum(weights * removed * r ** (2.0 - power)))

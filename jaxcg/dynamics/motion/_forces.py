"""Potential and force of a potential of mean force that may be absent."""

import jax
import jax.numpy as jnp

from ...energy.base import AbstractEnergy
from ...typing import Array, Scalar


def potential_and_force(energy: AbstractEnergy | None, x: Array) -> tuple[Scalar, Array]:
    """U (kJ/mol) and −∂U/∂x (kJ/mol/nm) at ``x`` of any shape; zeros without an energy."""
    if energy is None:
        return jnp.zeros((), x.dtype), jnp.zeros_like(x)
    value, gradient = jax.value_and_grad(energy)(x)
    return value, -gradient

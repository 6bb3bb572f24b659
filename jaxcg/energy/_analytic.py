"""Energies that know their own gradient.

Reverse-mode differentiation of a pair or bonded sum turns every gather into a scatter-add and stores every
intermediate. Terms here return energy and gradient together, written with gathers and row sums only; the gradient
is attached to the energy as a custom derivative. It is plain JAX itself, so forward mode, reverse mode and higher
derivatives all work. Parameters are differentiated through the energy, and only when they carry a tangent.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp

from ..typing import Array, AtomVectors, Scalar
from .base import AbstractEnergy


class AbstractAnalyticEnergy(AbstractEnergy):
    """An energy that returns its gradient with its value."""

    @abstractmethod
    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and its gradient ∂U/∂x (atoms, 3) in kJ/mol/nm, both plain differentiable JAX."""

    def __call__(self, x: AtomVectors) -> Scalar:
        return _energy(self, jnp.asarray(x))


@eqx.filter_custom_jvp
def _energy(term: AbstractAnalyticEnergy, x: Array) -> Scalar:
    return term.energy_and_gradient(x)[0]


@_energy.def_jvp
def _energy_jvp(primals, tangents):
    term, x = primals
    term_dot, x_dot = tangents
    energy, gradient = term.energy_and_gradient(x)
    energy_dot = jnp.zeros_like(energy)
    if x_dot is not None:
        energy_dot = energy_dot + jnp.sum(gradient * x_dot)
    if jax.tree.leaves(term_dot):
        _, parameter_dot = eqx.filter_jvp(lambda t: t.energy_and_gradient(x)[0], (term,), (term_dot,))
        energy_dot = energy_dot + parameter_dot
    return energy, energy_dot

"""A fence around the stereochemistry of a molecule, for energies and temperatures that would let it be lost."""

import jax.numpy as jnp

from ..system import System
from ..typing import Array, AtomVectors, Float, Int, Scalar
from ._arrays import leaf
from ._geometry import as_indices
from .base import AbstractEnergy

#: Stiffness of the fence, kJ/mol: flat wells end where it begins, and it is higher than any thermal energy.
_STIFFNESS = 2000.0
#: Chirality of unit bond vectors (0.77 when tetrahedral) and cosine of the turn of a double bond where it begins.
_CHIRALITY, _COSINE = 0.35, 0.2


class StereoFence(AbstractEnergy):
    """Zero for the stereochemistry wanted, a steep wall before it is lost.

    U = Σ k max(0, c − s V)² over stereo centres, V the triple product of the unit vectors to three neighbours and s its
    sign, and Σ k max(0, c' − cos(ω − ω₀))² over double bonds. Molecules at the temperature of their posterior do not
    come near the wall, so what is sampled stays the same but for other stereoisomers, which force fields of
    molecular mechanics hold to be as good. With weakened angles or torsions, or at high temperatures, it is needed.

    Arguments:
        system: its stereo centres and double bonds are held.
    """

    centers: Int[Array, "centers 4"]
    signs: Float[Array, " centers"]
    double_bonds: Int[Array, "bonds 4"]
    angles: Float[Array, " bonds"]

    def __init__(self, system: System):
        n = system.n_atoms
        self.centers = leaf(as_indices(system.stereo_centers, 4, n, "StereoFence"))
        self.signs = leaf(jnp.asarray(system.stereo_signs, jnp.result_type(float)))
        self.double_bonds = leaf(as_indices(system.double_bonds, 4, n, "StereoFence"))
        self.angles = leaf(jnp.asarray(system.double_bond_angles, jnp.result_type(float)))

    def __call__(self, x: AtomVectors) -> Scalar:
        """Energy of the fence at ``x``, kJ/mol."""
        x = jnp.asarray(x)
        center, a, b, c = (x[self.centers[:, k]] for k in range(4))
        a, b, c = _unit(a - center), _unit(b - center), _unit(c - center)
        chirality = self.signs.astype(x.dtype) * jnp.sum(a * jnp.cross(b, c), axis=-1)
        a, b, c, d = (x[self.double_bonds[:, k]] for k in range(4))
        axis = _unit(c - b)
        first, last = a - b, d - c
        first = _unit(first - jnp.sum(first * axis, axis=-1, keepdims=True) * axis)
        last = _unit(last - jnp.sum(last * axis, axis=-1, keepdims=True) * axis)
        cosine, sine = jnp.sum(first * last, axis=-1), jnp.sum(jnp.cross(first, last) * axis, axis=-1)
        reference = self.angles.astype(x.dtype)
        turn = cosine * jnp.cos(reference) + sine * jnp.sin(reference)
        beyond = jnp.concatenate([_CHIRALITY - chirality, _COSINE - turn])
        return _STIFFNESS * jnp.sum(jnp.maximum(beyond, 0.0) ** 2)


def _unit(v: Array) -> Array:
    # The floor keeps vectors without a direction finite.
    return v / jnp.sqrt(jnp.maximum(jnp.sum(v * v, axis=-1, keepdims=True), 1e-12))

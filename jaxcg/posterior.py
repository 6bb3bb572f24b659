"""The posterior p(x | y): the sentence the program is about."""

import equinox as eqx
import jax
import jax.numpy as jnp

from .energy.base import AbstractEnergy
from .mapping.base import AbstractLinearMap
from .typing import Array, AtomVectors, BeadVectors, Scalar
from .units import GAS_CONSTANT


class Posterior(eqx.Module):
    """Distribution of all-atom configurations given a coarse-grained one.

    With ``noise=None`` the likelihood is exact and the posterior lives on the fibre M(x) = y:
    ``p(x|y) ∝ exp(−U(x)/kT) δ(y − M(x))``. With a noise σ it is ``p(x|y) ∝ exp(−U(x)/kT) N(y; M(x), σ²)``,
    which is what frames of coarse-grained *simulations* need: their beads are not the image of any unstrained
    molecule.

    Arguments:
        energy: prior energy U(x), kJ/mol.
        mapping: forward map M.
        y: (beads, 3) bead positions, nm.
        temperature: K.
        noise: standard deviation of each bead coordinate, nm; None holds the beads exactly.
    """

    energy: AbstractEnergy
    mapping: AbstractLinearMap
    y: Array
    temperature: Array
    noise: Array | None

    def __init__(
        self, energy: AbstractEnergy, mapping: AbstractLinearMap, y: BeadVectors, temperature=300.0, noise=None
    ):
        if y.shape[-2] != mapping.n_beads:
            raise ValueError(f"Posterior: y has {y.shape[-2]} beads, the mapping {mapping.n_beads}.")
        self.energy = energy
        self.mapping = mapping
        self.y = jnp.asarray(y)
        self.temperature = jnp.asarray(temperature, dtype=self.y.dtype)
        self.noise = None if noise is None else jnp.asarray(noise, dtype=self.y.dtype)

    @property
    def exact(self) -> bool:
        """True when the beads are held exactly."""
        return self.noise is None

    @property
    def thermal_energy(self) -> Array:
        """kT in kJ/mol."""
        return GAS_CONSTANT * self.temperature

    def restraint(self, x: AtomVectors) -> Scalar:
        """−kT log N(y; M(x), σ²) without its constant, kJ/mol; zero for the exact likelihood."""
        if self.noise is None:
            return jnp.zeros((), x.dtype)
        return 0.5 * self.thermal_energy / self.noise**2 * jnp.sum((self.mapping(x) - self.y) ** 2)

    def potential(self, x: AtomVectors) -> Scalar:
        """−kT log p(x|y) up to a constant, kJ/mol: the energy plus the bead restraint."""
        return self.energy(x) + self.restraint(x)

    def log_density(self, x: AtomVectors) -> Scalar:
        """log p(x|y) up to a constant; on the exact fibre with respect to its Hausdorff measure."""
        return -self.potential(x) / self.thermal_energy

    def rebuild(self, x: AtomVectors) -> "Posterior":
        """The same posterior with the energy's pair lists made anew around ``x``."""
        return eqx.tree_at(lambda p: p.energy, self, self.energy.rebuild(x))


def potential_and_forces(posterior: Posterior, x: AtomVectors) -> tuple[Scalar, AtomVectors]:
    """Potential −kT log p(x|y) (kJ/mol) and its negative gradient (kJ/mol/nm), not projected."""
    value, gradient = jax.value_and_grad(posterior.potential)(x)
    return value, -gradient

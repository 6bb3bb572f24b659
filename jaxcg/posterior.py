"""The posterior p(x | y): the sentence the program is about."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from .energy.base import AbstractEnergy
from .mapping.base import AbstractLinearMap
from .mapping.frames import AbstractFrameMap, Frames
from .mapping.residuals import AnyMap, packed, residual
from .mapping.rigid_bonds import RigidBonds
from .typing import Array, AtomVectors, BeadArray, Scalar
from .units import GAS_CONSTANT


class Posterior(eqx.Module):
    """Distribution of all-atom configurations given a coarse-grained one.

    With ``noise=None`` the likelihood is exact and the posterior lives on the fibre M(x) = y:
    ``p(x|y) ∝ exp(−U(x)/kT) δ(y − M(x))``. With a noise σ it is ``p(x|y) ∝ exp(−U(x)/kT) N(y; M(x), σ²)``,
    which is what frames of coarse-grained *simulations* need: their beads are not the image of any unstrained
    molecule. Rigid bonds multiply either by ``Π δ(|r_i − r_j| − l_ij)``.

    Convention. These are densities with respect to Lebesgue measure dx of all atoms. The delta functions leave a
    density on the constraint surface {c(x) = 0}, c = (M(x) − y, |r_ij| − l_ij), which is not exp(−U/kT) times the
    area: by the co-area formula ``δ(c(x)) dx = det(J M⁻¹ Jᵀ)^(−1/2) dσ_M`` up to a constant, with J = ∂c/∂x and σ_M
    the area in the metric of any masses M. Free constrained motion keeps σ_M, so samplers add ½ log det(J M⁻¹ Jᵀ)
    (`AbstractGeometry.log_volume`) and the result is the same for all masses. For linear maps it is a constant. It is
    the limit σ → 0 of the soft likelihood, and of stiff harmonic bonds whose stiffness does not depend on x.
    Orientations of frame maps are compared by the rotation vector of R_yᵀ R(x), and their delta function is that of
    the invariant (Haar) measure of SO(3).

    Constraints must be independent: samplers need the determinant above to be positive (`jaxcg.sampling.check_start`).

    Arguments:
        energy: prior energy U(x), kJ/mol.
        mapping: forward map M: linear, or any differentiable one (virtual sites, frames).
        y: (beads, 3) bead positions, nm; for frame maps `Frames`, or (beads, 4, 3): centres and rows of the rotations.
        temperature: K.
        noise: standard deviation of each bead coordinate, nm; None holds the beads exactly. For frame maps two
            numbers, of the centres (nm) and of the components of the rotation vector (radians).
        rigid_bonds: bonds that are held at their length, exact whatever the noise; None for none.

    Raises:
        ValueError: y, noise or rigid bonds do not fit the mapping, beads that are not finite, or a noise or temperature
            that is not positive and finite.

    Source: the surface measure, Lelièvre, Rousset & Stoltz, Math. Comput. 81, 2071 (2012); for rigid bonds, Fixman,
    Proc. Natl. Acad. Sci. USA 71, 3050 (1974).
    """

    energy: AbstractEnergy
    mapping: AnyMap
    y: Array
    temperature: Array
    noise: Array | None
    rigid_bonds: RigidBonds | None

    def __init__(
        self,
        energy: AbstractEnergy,
        mapping: AnyMap,
        y: BeadArray | Frames,
        temperature=300.0,
        noise=None,
        rigid_bonds: RigidBonds | None = None,
    ):
        try:
            self.y = packed(mapping, y)
        except ValueError as error:
            raise ValueError(f"Posterior: {error}") from None
        if not isinstance(self.y, Tracer) and not np.all(np.isfinite(self.y)):
            bead = np.argwhere(~np.isfinite(self.y))[0][0]
            raise ValueError(f"Posterior: bead {bead} of y is at a position that is not finite.")
        self.energy = energy
        self.mapping = mapping
        self.temperature = jnp.asarray(_checked_temperature(temperature), dtype=self.y.dtype)
        self.noise = None if noise is None else jnp.asarray(_checked_noise(noise, mapping), dtype=self.y.dtype)
        if rigid_bonds is not None and rigid_bonds.n_atoms != mapping.n_atoms:
            raise ValueError(
                f"Posterior: rigid bonds among {rigid_bonds.n_atoms} atoms, but the mapping has {mapping.n_atoms}."
            )
        # No bond is no constraint: samplers then take the straight path.
        self.rigid_bonds = rigid_bonds if rigid_bonds is not None and len(rigid_bonds.pairs) else None

    @property
    def exact(self) -> bool:
        """True when the beads are held exactly."""
        return self.noise is None

    @property
    def linear(self) -> bool:
        """True when nothing curved is held exactly: no rigid bonds, and a linear map or a soft likelihood."""
        return self.rigid_bonds is None and (not self.exact or isinstance(self.mapping, AbstractLinearMap))

    @property
    def thermal_energy(self) -> Array:
        """kT in kJ/mol."""
        return GAS_CONSTANT * self.temperature

    def linear_map(self, who: str) -> AbstractLinearMap:
        """The map, for what ``who`` does with it, which works for linear maps without rigid bonds alone.

        Raises:
            ValueError: the map is not linear, or there are rigid bonds.
        """
        if not isinstance(self.mapping, AbstractLinearMap):
            raise ValueError(f"{who}: needs a linear map, not a {type(self.mapping).__name__}.")
        if self.rigid_bonds is not None:
            raise ValueError(f"{who}: does not hold rigid bonds; leave them out, the energy keeps bonds near them.")
        return self.mapping

    def restraint(self, x: AtomVectors) -> Scalar:
        """−kT log N(y; M(x), σ²) without its constant, kJ/mol; zero for the exact likelihood."""
        if self.noise is None:
            return jnp.zeros((), x.dtype)
        distance = residual(self.mapping, x, self.y)
        scale = jnp.repeat(self.noise, 3) if self.noise.ndim else self.noise
        return 0.5 * self.thermal_energy * jnp.sum((distance / scale) ** 2)

    def potential(self, x: AtomVectors) -> Scalar:
        """−kT log p(x|y) up to a constant, kJ/mol: the energy plus the bead restraint."""
        return self.energy(x) + self.restraint(x)

    def log_density(self, x: AtomVectors) -> Scalar:
        """log p(x|y) up to a constant: the factor before the delta functions of what is held exactly."""
        return -self.potential(x) / self.thermal_energy

    def rebuild(self, x: AtomVectors) -> "Posterior":
        """The same posterior with the energy's pair lists made anew around ``x``."""
        return eqx.tree_at(lambda p: p.energy, self, self.energy.rebuild(x))


def potential_and_forces(posterior: Posterior, x: AtomVectors) -> tuple[Scalar, AtomVectors]:
    """Potential −kT log p(x|y) (kJ/mol) and its negative gradient (kJ/mol/nm), not projected."""
    value, gradient = jax.value_and_grad(posterior.potential)(x)
    return value, -gradient


def _checked_temperature(temperature):
    if not isinstance(temperature, Tracer) and not np.all(np.isfinite(temperature) & (np.asarray(temperature) > 0)):
        raise ValueError(f"Posterior: temperature is {temperature} K; it must be positive and finite.")
    return temperature


def _checked_noise(noise, mapping: AnyMap) -> Array | np.ndarray:
    frames = isinstance(mapping, AbstractFrameMap)
    if not isinstance(noise, Tracer | jax.Array):
        noise = np.asarray(noise)
    if noise.shape != ((2,) if frames else ()):
        expected = "two numbers, of centres (nm) and rotations (radians)" if frames else "one number (nm)"
        raise ValueError(f"Posterior: noise has shape {noise.shape}; this map needs {expected}.")
    if not isinstance(noise, Tracer) and not np.all(np.isfinite(noise) & (np.asarray(noise) > 0)):
        raise ValueError(
            f"Posterior: noise is {noise}; a standard deviation must be positive and finite. "
            "Pass None to hold the beads exactly."
        )
    return noise

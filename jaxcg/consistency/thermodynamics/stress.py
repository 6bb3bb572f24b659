"""Pressure and stress of any energy, many-body included, as its derivative by the strain of the box.

A strain ε takes positions r (rows) and box vectors h to r(1 + ε) and h(1 + ε). Differentiating the energy by ε gives
the virial exactly, with every image of every pair and triplet, and needs no formula for the kind of interaction.

Signs: the virial is W = −∂U/∂ε = Σ r ⊗ f, positive where particles repel; the pressure tensor is (Σ m v ⊗ v + W)/V,
the stress its negative. Energies must not change when the whole system turns (external fields have no stress).

Source: Louwerse & Baerends, Chem. Phys. Lett. 421, 138 (2006), for the periodic virial of many-body energies;
Thompson, Plimpton & Mattson, J. Chem. Phys. 131, 154107 (2009).
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...space import Box
from ...typing import Array, AtomScalars, AtomVectors, Float
from ...units import BAR, GAS_CONSTANT
from .molecules import Molecules


class PressureTensor(NamedTuple):
    """Pressure of one configuration, or of many along leading axes, part by part.

    Fields:
        kinetic: (..., 3, 3) Σ m v ⊗ v, or N kT 1 where a temperature stands for velocities, kJ/mol.
        virial: (..., terms, 3, 3) W = −∂U/∂ε of each term of the energy, kJ/mol.
        correction: (...) pressure of the interactions beyond the cutoff, kJ/mol/nm³; zero if not given.
        volume: (...) nm³.
    """

    kinetic: Array
    virial: Array
    correction: Array
    volume: Array

    @property
    def tensor(self) -> Array:
        """(..., 3, 3) the pressure tensor with everything in it, kJ/mol/nm³."""
        eye = jnp.eye(3, dtype=self.kinetic.dtype)
        total = self.kinetic + jnp.sum(self.virial, axis=-3)
        return total / self.volume[..., None, None] + self.correction[..., None, None] * eye

    @property
    def stress(self) -> Array:
        """(..., 3, 3) the stress tensor, positive under tension: minus the pressure tensor, kJ/mol/nm³."""
        return -self.tensor

    @property
    def pressure(self) -> Array:
        """(...) a third of the trace, kJ/mol/nm³."""
        return _third(self.tensor)

    @property
    def kinetic_pressure(self) -> Array:
        """(...) the share of motion, kJ/mol/nm³."""
        return _third(self.kinetic) / self.volume

    @property
    def virial_pressures(self) -> Array:
        """(..., terms) the share of each term of the energy, kJ/mol/nm³."""
        return _third(self.virial) / self.volume[..., None]


def pressure_tensor(
    energy: AbstractEnergy,
    x: AtomVectors,
    box: Box,
    *,
    velocities: AtomVectors | None = None,
    masses: AtomScalars | None = None,
    temperature: float | Array | None = None,
    molecules: Molecules | None = None,
    correction: float | Array = 0.0,
) -> PressureTensor:
    """Pressure tensor of a periodic configuration, term by term.

    Arguments:
        energy: any energy; its pair lists must hold for ``x`` (see `AbstractEnergy.rebuild`).
        x: (atoms, 3) positions, nm, in any image.
        box: (3, 3) box vectors as rows, nm, lower triangular. It replaces the box of the energy.
        velocities: (atoms, 3) nm/ps, with ``masses`` (atoms,) amu; or
        temperature: K, for the mean of the kinetic part, N kT on the diagonal. Without either it is zero.
        molecules: scale centres of mass instead of atoms; then kinetic parts are those of molecules too.
        correction: pressure of the interactions beyond the cutoff, kJ/mol/nm³, that the energy does not have in it.

    Raises:
        ValueError: velocities without masses, or velocities and a temperature.
    """
    x, box = jnp.asarray(x), jnp.asarray(box, jnp.asarray(x).dtype)
    virial = virial_by_term(energy, x, box, molecules)
    kinetic = jnp.zeros((3, 3), x.dtype)
    if velocities is not None:
        if masses is None or temperature is not None:
            raise ValueError("pressure_tensor: velocities need masses, and then no temperature.")
        kinetic = kinetic_tensor(velocities, masses, molecules)
    elif temperature is not None:
        count = x.shape[0] if molecules is None else molecules.count
        kinetic = count * GAS_CONSTANT * jnp.asarray(temperature, x.dtype) * jnp.eye(3, dtype=x.dtype)
    return PressureTensor(kinetic, virial, jnp.asarray(correction, x.dtype), box_volume(box))


def virial_by_term(
    energy: AbstractEnergy, x: AtomVectors, box: Box, molecules: Molecules | None = None
) -> Float[Array, "terms 3 3"]:
    """The virial W = −∂U/∂ε of each of ``energy.terms()``, (terms, 3, 3) kJ/mol; see `strain_derivative`."""
    return jnp.stack([-strain_derivative(term, x, box, molecules) for term in energy.terms()])


def strain_derivative(
    energy: AbstractEnergy, x: AtomVectors, box: Box, molecules: Molecules | None = None
) -> Float[Array, "3 3"]:
    """∂U/∂ε at zero strain, where r → r(1 + ε) and h → h(1 + ε) for rows r and h, in kJ/mol.

    One reverse pass, whatever the interactions. The lower triangle is differentiated, which keeps boxes lower
    triangular; the upper one follows because turning the system does not change its energy. With ``molecules`` the
    centres of mass move and the atoms of a molecule do not change places; that tensor is symmetric on average only.

    Arguments:
        energy: any energy that does not change when the system turns.
        x: (atoms, 3) positions, nm.
        box: (3, 3) box vectors as rows, nm, lower triangular.
        molecules: for the molecular virial.
    """
    x = jnp.asarray(x)
    box = jnp.asarray(box, x.dtype)
    by_x, by_box = eqx.filter_grad(lambda pair: energy.with_box(pair[1])(pair[0]))((x, box))
    whole = _product(x.T, by_x) + _product(box.T, by_box)
    lower = jnp.tril(whole)
    atomic = lower + jnp.tril(whole, -1).T
    if molecules is None:
        return atomic
    return atomic - _product(molecules.offsets(x, box).T, by_x)


def kinetic_tensor(
    velocities: AtomVectors, masses: AtomScalars, molecules: Molecules | None = None
) -> Float[Array, "3 3"]:
    """Σ m v ⊗ v of atoms, or of the centres of mass of molecules, kJ/mol; its trace is twice the kinetic energy.

    Arguments:
        velocities: (atoms, 3) nm/ps.
        masses: (atoms,) amu.
        molecules: for the kinetic part that belongs to the molecular virial.
    """
    velocities = jnp.asarray(velocities)
    masses = jnp.asarray(masses, velocities.dtype)
    if molecules is not None:
        velocities, masses = molecules.velocities(velocities), molecules.masses.astype(velocities.dtype)
    return _product((masses[:, None] * velocities).T, velocities)


def box_volume(box: Float[Array | np.ndarray, "*frames 3 3"]) -> Array:
    """Volume of boxes (..., 3, 3), nm³."""
    return jnp.abs(jnp.linalg.det(jnp.asarray(box)))


def to_bar(pressure):
    """Pressure in bar from kJ/mol/nm³ (1 kJ/mol/nm³ is 16.6 bar)."""
    return pressure / BAR


def _third(tensor: Array) -> Array:
    return jnp.trace(tensor, axis1=-2, axis2=-1) / 3


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")

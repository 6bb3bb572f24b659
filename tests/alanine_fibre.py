"""Alanine dipeptide on the fibre of three centres of mass: Amber14, with OBC2 water or in vacuum."""

from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import openmm
from openmm import app, unit

from jaxcg.energy import AbstractEnergy, from_openmm
from jaxcg.io.molecule import describe
from jaxcg.mapping import LinearMap
from jaxcg.posterior import Posterior
from jaxcg.system import System

# Residue, atom, position in angstrom.
ATOMS = """
ACE HH31 2.000 1.000 0.000; ACE CH3 2.000 2.090 0.000; ACE HH32 1.486 2.454 0.890; ACE HH33 1.486 2.454 -0.890
ACE C 3.427 2.641 0.000; ACE O 4.391 1.877 0.000; ALA N 3.555 3.970 0.000; ALA H 2.733 4.556 0.000
ALA CA 4.853 4.614 0.000; ALA HA 5.408 4.316 0.890; ALA CB 5.661 4.221 -1.232; ALA HB1 5.123 4.521 -2.131
ALA HB2 6.630 4.719 -1.206; ALA HB3 5.809 3.141 -1.241; ALA C 4.713 6.129 0.000; ALA O 3.601 6.653 0.000
NME N 5.846 6.835 0.000; NME H 6.737 6.359 0.000; NME CH3 5.846 8.284 0.000; NME HH31 4.819 8.648 0.000
NME HH32 6.360 8.648 0.890; NME HH33 6.360 8.648 -0.890
"""
#: Atoms of the backbone torsions, and of the rotation of the CB methyl group.
PHI, PSI, METHYL = (4, 6, 8, 14), (6, 8, 14, 16), (6, 8, 10, 11)
#: Dimension of the fibre: 3 · 22 − 3 · 3.
DIMENSION = 57


@dataclass(frozen=True)
class AlanineFibre:
    """The problem and where it comes from.

    Fields:
        system: what the molecule is.
        energy: prior energy, parameters in float64.
        minimum: (22, 3) its minimum, nm, float64; the beads are those of it.
        groups: atoms of the three beads.
        masses: (22,) amu.
        openmm_system, context: OpenMM's, in float64 on the Reference platform.
    """

    system: System
    energy: AbstractEnergy
    minimum: np.ndarray
    groups: tuple[tuple[int, ...], ...]
    masses: np.ndarray
    openmm_system: Any
    context: Any

    def posterior(self, dtype: Any = np.float32, noise: float | None = None) -> Posterior:
        """p(x|y) at 300 K with the beads of the minimum, in ``dtype``; float64 needs ``jax_enable_x64``."""
        energy = jax.tree.map(lambda leaf: _cast(leaf, dtype), self.energy)
        mapping = LinearMap.center_of_mass(self.groups, self.masses)
        beads = np.stack([np.average(self.minimum[list(g)], axis=0, weights=self.masses[list(g)]) for g in self.groups])
        return Posterior(energy, mapping, jnp.asarray(beads, dtype), noise=noise)

    def starts(self, chains: int, dtype: Any = np.float32) -> jax.Array:
        """(chains, 22, 3) the minimum, repeated."""
        return jnp.asarray(np.repeat(self.minimum[None], chains, axis=0), dtype)

    def openmm_energy(self, x) -> float:
        """kJ/mol, float64."""
        self.context.setPositions(np.asarray(x, np.float64))
        return self.context.getState(getEnergy=True).getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)


@cache
def alanine_fibre(solvent: bool = True) -> AlanineFibre:
    """The dipeptide with implicit OBC2 water, or in vacuum."""
    lines, groups = [], {}
    for i, atom in enumerate(ATOMS.replace("\n", ";").strip(";").split(";")):
        residue, name, *position = atom.split()
        number = ["ACE", "ALA", "NME"].index(residue) + 1
        groups.setdefault(number, []).append(i)
        x, y, z = map(float, position)
        label = name if len(name) == 4 else f" {name}"
        lines.append(f"ATOM  {i + 1:5d} {label:4s} {residue} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00")
    pdb = app.PDBFile(StringIO("\n".join([*lines, "END"])))
    files = ["amber14/protein.ff14SB.xml", *(["implicit/obc2.xml"] if solvent else [])]
    system = app.ForceField(*files).createSystem(pdb.topology)
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(pdb.positions)
    openmm.LocalEnergyMinimizer.minimize(context, 0.1)
    positions = context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.nanometer)
    description = describe(pdb.topology)
    with jax.enable_x64(True):
        energy = from_openmm(system)
    return AlanineFibre(
        system=description,
        energy=energy,
        minimum=np.asarray(positions),
        groups=tuple(map(tuple, groups.values())),
        masses=np.asarray(description.masses),
        openmm_system=system,
        context=context,
    )


def torsion(x, atoms) -> jax.Array:
    """Dihedral angle of four atoms in radians, IUPAC sign: (..., 22, 3) → (...)."""
    a, b, c, d = (jnp.asarray(x)[..., i, :] for i in atoms)
    axis = c - b
    axis = axis / jnp.linalg.norm(axis, axis=-1, keepdims=True)
    first, last = jnp.cross(b - a, axis), jnp.cross(axis, d - c)
    sine = jnp.sum(jnp.cross(first, last) * axis, axis=-1)
    return jnp.arctan2(sine, jnp.sum(first * last, axis=-1))


def phi_psi(x) -> jax.Array:
    """φ and ψ in radians: (..., 22, 3) → (..., 2)."""
    return jnp.stack([torsion(x, PHI), torsion(x, PSI)], axis=-1)


def _cast(leaf, dtype):
    floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
    return jnp.asarray(leaf, dtype) if floating else leaf

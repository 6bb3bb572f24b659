"""The knowledge-based part of the prior: what backbones of real proteins look like.

Frames of coarse-grained simulations leave φ and ψ poorly determined. The prior adds −w kT log p(φ, ψ), with p the
density of high-resolution crystal structures by residue class, and keeps peptide bonds planar. It is a choice, not
physics: name it in results, and turn it off with weight zero.
"""

import numpy as np
from scipy.ndimage import map_coordinates

from ..energy import CMAPTorsion, PeriodicTorsion
from ..energy.base import SumEnergy
from ..system import System
from ..units import thermal_energy
from .ramachandran import CLASSES, backbone_torsions, ramachandran_tables

#: Default weight of the prior for noisy beads (frames of simulations) and for exact ones, in kT.
WEIGHT_SOFT, WEIGHT_EXACT = 5.0, 1.0
#: Stiffness of the peptide planes while relaxing: exact beads, noisy beads, noisy beads with the prior, kJ/mol.
OMEGA_EXACT, OMEGA_SOFT, OMEGA_PRIOR = 40.0, 150.0, 600.0
#: Share of the broad component in p: the prior's gradient leads back from anywhere.
TAIL = 0.02
_GRID = 72


def omega_restraint(system: System, stiffness: float, angles: np.ndarray | None = None) -> PeriodicTorsion:
    """Energy ``k (1 − cos(ω − ω₀))`` of every stereo double bond (peptides included) about its configuration ω₀.

    Arguments:
        system: the molecule.
        stiffness: k, kJ/mol.
        angles: (double bonds,) ω₀ in radians, 0 or π; those of ``system`` when None.
    """
    angles = system.double_bond_angles if angles is None else angles
    count = len(angles)
    return PeriodicTorsion(
        system.double_bonds,
        np.ones(count, dtype=int),
        angles + np.pi,
        np.full(count, stiffness),
        n_atoms=system.n_atoms,
    )


def ramachandran_energy(system: System, weight: float, temperature: float = 300.0) -> CMAPTorsion:
    """Energy −w kT log p(φ, ψ) of every residue with both torsions, kJ/mol, as torsion-pair maps.

    Arguments:
        system: the molecule.
        weight: w.
        temperature: K.
    """
    phi, psi, _, classes = backbone_torsions(system)
    tables = ramachandran_tables(tail=TAIL)
    # Table entry i sits at −180° + (i + ½) 360°/n; the maps' at i 360°/size, from 0°.
    grids = []
    for name in CLASSES:
        table = tables[name]
        position = ((np.arange(_GRID) / _GRID + 0.5) % 1.0) * len(table) - 0.5
        where = np.meshgrid(position, position, indexing="ij")
        grids.append(map_coordinates(np.log(np.maximum(table, 1e-12)), where, order=1, mode="grid-wrap"))
    energy = -weight * thermal_energy(temperature) * (np.stack(grids) - np.max(grids))
    return CMAPTorsion(np.concatenate([phi, psi], axis=1), classes, energy, n_atoms=system.n_atoms)


def backbone_prior(system: System, weight: float, temperature: float = 300.0) -> SumEnergy:
    """The whole prior of weight ``weight`` (in kT): `ramachandran_energy` and stiff peptide planes."""
    return SumEnergy((ramachandran_energy(system, weight, temperature), omega_restraint(system, OMEGA_PRIOR)))

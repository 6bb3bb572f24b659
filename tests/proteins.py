"""All-atom proteins for tests, built with OpenMM straight from PDB files: independent of jaxcg's own readers."""

from functools import cache
from pathlib import Path

import numpy as np
from openmm import unit
from openmm.app import ForceField, Modeller, NoCutoff, PDBFile

from jaxcg.system import System

FRAMES = Path(__file__).parent / "data" / "frames"
#: centre: neighbours in the order whose triple product is positive, and its sign.
_CENTERS = {"ILE": ("CB", "CA", "CG1", "CG2", 1), "THR": ("CB", "CA", "OG1", "CG2", 1)}


@cache
def protein(name: str) -> tuple[System, np.ndarray, np.ndarray]:
    """System, positions (nm) and ideal bond lengths of ``ubiquitin``, ``lysozyme`` or ``villin``, with hydrogens.

    Heavy atoms lie as in the file; hydrogens that the file lacks are added.
    """
    pdb = PDBFile(str(FRAMES / name / "aa.pdb"))
    modeller = Modeller(pdb.topology, pdb.positions)
    modeller.delete([r for r in modeller.topology.residues() if r.name == "HOH"])
    heavy = sum(1 for a in modeller.topology.atoms() if a.element.symbol != "H")
    forcefield = ForceField("amber14/protein.ff14SB.xml")
    if heavy == modeller.topology.getNumAtoms():
        modeller.addHydrogens(forcefield, pH=7.0)
    topology = modeller.topology
    system = forcefield.createSystem(topology, nonbondedMethod=NoCutoff, constraints=None)
    positions = np.array(modeller.positions.value_in_unit(unit.nanometer))
    description = _describe(topology, system)
    lengths = {}
    for force in system.getForces():
        if type(force).__name__ == "HarmonicBondForce":
            for k in range(force.getNumBonds()):
                i, j, length, _ = force.getBondParameters(k)
                lengths[frozenset((i, j))] = length.value_in_unit(unit.nanometer)
    ideal = np.array([lengths[frozenset(pair)] for pair in description.bonds.tolist()])
    return description, positions, ideal


def _describe(topology, system) -> System:
    atoms, residues = list(topology.atoms()), list(topology.residues())
    names = [{a.name: a.index for a in r.atoms()} for r in residues]
    centers, signs = [], []
    for residue, index in zip(residues, names, strict=True):
        if residue.name != "GLY":
            centers.append([index[n] for n in ("CA", "N", "C", "CB")])
            signs.append(1)
        if residue.name in _CENTERS:
            *quartet, sign = _CENTERS[residue.name]
            centers.append([index[n] for n in quartet])
            signs.append(sign)
    bonds = [(a.index, b.index) for a, b in topology.bonds()]
    linked = {
        frozenset((a.residue.index, b.residue.index)) for a, b in topology.bonds() if {a.name, b.name} == {"C", "N"}
    }
    omega = [
        [names[i]["CA"], names[i]["C"], names[i + 1]["N"], names[i + 1]["CA"]]
        for i in range(len(residues) - 1)
        if frozenset((i, i + 1)) in linked
    ]
    return System(
        masses=[system.getParticleMass(a.index).value_in_unit(unit.dalton) for a in atoms],
        elements=[a.element.symbol for a in atoms],
        atom_names=[a.name for a in atoms],
        atom_residue=[a.residue.index for a in atoms],
        residue_names=[r.name for r in residues],
        residue_ids=[r.id for r in residues],
        chain_ids=[r.chain.id for r in residues],
        bonds=bonds,
        stereo_centers=centers,
        stereo_signs=signs,
        double_bonds=omega,
        double_bond_angles=np.full(len(omega), np.pi),
    )

"""A simulation of alanine dipeptide in vacuum with constrained bonds to hydrogen: positions and forces."""

from functools import cache
from pathlib import Path

import numpy as np
import openmm.app
from openmm import unit

_PDB = Path(__file__).parent / "data" / "force_maps" / "alanine_dipeptide.pdb"


@cache
def trajectory(frames: int = 12000):
    """``(x, forces, masses, constraints)``: (frames, 22, 3) nm and kJ/mol/nm at 300 K, 0.1 ps apart; amu; (12, 2)."""
    pdb = openmm.app.PDBFile(str(_PDB))
    field = openmm.app.ForceField("amber14-all.xml")
    system = field.createSystem(pdb.topology, constraints=openmm.app.HBonds)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 5.0, 0.002)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(pdb.positions)
    context.setVelocitiesToTemperature(300.0, 1)
    integrator.step(5000)
    x, forces = [], []
    for _ in range(frames):
        integrator.step(50)
        state = context.getState(getPositions=True, getForces=True)
        x.append(state.getPositions(asNumpy=True).value_in_unit(unit.nanometer))
        forces.append(state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer))
    masses = [atom.element.mass.value_in_unit(unit.dalton) for atom in pdb.topology.atoms()]
    constraints = [system.getConstraintParameters(k)[:2] for k in range(system.getNumConstraints())]
    return np.array(x), np.array(forces), np.array(masses), np.sort(np.array(constraints), axis=1)

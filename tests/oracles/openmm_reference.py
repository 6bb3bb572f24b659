"""Energies and forces of OpenMM's Reference platform, in double precision, force by force."""

import numpy as np
from openmm import Context, Platform, VerletIntegrator, XmlSerializer, unit


def reference_terms(system, positions):
    """Class name, energy (kJ/mol) and forces (kJ/mol/nm) of every force of ``system`` that does something."""
    system = XmlSerializer.clone(system)
    for group, force in enumerate(system.getForces()):
        force.setForceGroup(group)
    context = Context(system, VerletIntegrator(0.001), Platform.getPlatformByName("Reference"))
    context.setPositions(np.asarray(positions, dtype=np.float64))
    terms = []
    for group, force in enumerate(system.getForces()):
        state = context.getState(energy=True, forces=True, groups={group})
        energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
        forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        if energy != 0 or forces.any():
            terms.append((type(force).__name__, energy, np.asarray(forces)))
    return terms

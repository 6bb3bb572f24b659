"""OpenMM systems turned into energies.

The OpenMM object is only read through its own methods, so this module imports nothing from OpenMM.
"""

from collections.abc import Callable

import numpy as np

from ..errors import InputError
from ._openmm_values import columns, plain
from .base import AbstractEnergy, SumEnergy
from .bonded import HarmonicAngle, HarmonicBond
from .cmap import CMAPTorsion
from .nonbonded import Nonbonded
from .openmm_born import read_custom_gb, read_gbsa_obc
from .openmm_charmm import (
    LennardJones,
    correction,
    read_custom_bond,
    read_custom_nonbonded,
    read_custom_torsion,
    read_lennard_jones,
)
from .torsion import PeriodicTorsion

_METHODS = ("NoCutoff", "CutoffNonPeriodic", "CutoffPeriodic", "Ewald", "PME", "LJPME")


def from_openmm(system, positions=None) -> SumEnergy:
    """Potential energy of an `openmm.System`.

    Arguments:
        system: the system, made with ``constraints=None, rigidWater=False``.
        positions: (atoms, 3) nm, used only to size the neighbour tables of large systems with a cutoff; without them
            such an energy is NaN until its `rebuild`.

    Returns:
        The sum of one energy per force, in the order of the forces. ``CMMotionRemover`` is left out: it has no energy.

    Raises:
        InputError: the system holds constraints, virtual sites or a force that jaxcg does not know; the message names
            it and says what to do.
    """
    n_atoms = system.getNumParticles()
    if system.getNumConstraints():
        raise InputError(
            f"The OpenMM System has {system.getNumConstraints()} constraints, which have no energy; "
            "create it with constraints=None, rigidWater=False."
        )
    for i in range(n_atoms):
        if system.isVirtualSite(i):
            raise InputError(
                f"Particle {i} of the OpenMM System is a virtual site; use a model without them, e.g. TIP3P."
            )
    parts: list[AbstractEnergy] = []
    for force in system.getForces():
        name = type(force).__name__
        if name == "CMMotionRemover":
            continue
        reader = _READERS.get(name)
        if reader is None:
            raise InputError(
                f"jaxcg cannot evaluate the OpenMM force {name}; remove it from the System or choose a force field "
                f"made of {', '.join(sorted(_READERS))}."
            )
        parts.extend(reader(force, system, positions))
    if not parts:
        raise InputError("The OpenMM System has no forces; create it from a force field.")
    return SumEnergy(tuple(parts))


def box_vectors(system) -> np.ndarray:
    """(3, 3) default periodic box vectors, nm."""
    return np.array([[plain(c) for c in plain(v)] for v in system.getDefaultPeriodicBoxVectors()], dtype=np.float64)


def _refuse_periodic(force, name: str) -> None:
    if force.usesPeriodicBoundaryConditions():
        raise InputError(
            f"{name} uses periodic boundary conditions; make molecules whole and "
            "call setUsesPeriodicBoundaryConditions(False)."
        )


def _bonds(force, system, positions) -> list[AbstractEnergy]:
    del positions
    _refuse_periodic(force, "HarmonicBondForce")
    if not force.getNumBonds():
        return []
    i, j, length, stiffness = columns(force, force.getNumBonds(), "getBondParameters")
    return [HarmonicBond(np.stack([i, j], 1), length, stiffness, n_atoms=system.getNumParticles())]


def _angles(force, system, positions) -> list[AbstractEnergy]:
    del positions
    _refuse_periodic(force, "HarmonicAngleForce")
    if not force.getNumAngles():
        return []
    i, j, k, angle, stiffness = columns(force, force.getNumAngles(), "getAngleParameters")
    return [HarmonicAngle(np.stack([i, j, k], 1), angle, stiffness, n_atoms=system.getNumParticles())]


def _torsions(force, system, positions) -> list[AbstractEnergy]:
    del positions
    _refuse_periodic(force, "PeriodicTorsionForce")
    if not force.getNumTorsions():
        return []
    i, j, k, m, n, phase, stiffness = columns(force, force.getNumTorsions(), "getTorsionParameters")
    return [PeriodicTorsion(np.stack([i, j, k, m], 1), n, phase, stiffness, n_atoms=system.getNumParticles())]


def _cmaps(force, system, positions) -> list[AbstractEnergy]:
    del positions
    _refuse_periodic(force, "CMAPTorsionForce")
    if not force.getNumTorsions():
        return []
    which, *corners = columns(force, force.getNumTorsions(), "getTorsionParameters")
    atoms = np.stack(corners, 1)
    sizes, grids = [], []
    for m in range(force.getNumMaps()):
        size, values = force.getMapParameters(m)
        sizes.append(int(size))
        grids.append(np.array(plain(values), dtype=np.float64).reshape(size, size).T)
    parts: list[AbstractEnergy] = []
    for size in sorted(set(sizes)):
        members = [m for m, s in enumerate(sizes) if s == size]
        used = np.isin(which, members)
        if used.any():
            local = np.searchsorted(members, which[used])
            stack = np.stack([grids[m] for m in members])
            parts.append(CMAPTorsion(atoms[used], local, stack, n_atoms=system.getNumParticles()))
    return parts


def _nonbonded(force, system, positions) -> list[AbstractEnergy]:
    method = _METHODS[force.getNonbondedMethod()]
    if method in ("Ewald", "PME", "LJPME"):
        raise InputError(
            f"The NonbondedForce uses {method}, which jaxcg does not evaluate; create the System with "
            "nonbondedMethod=NoCutoff, CutoffNonPeriodic or CutoffPeriodic (reaction field)."
        )
    if force.getNumParticleParameterOffsets() or force.getNumExceptionParameterOffsets():
        raise InputError("The NonbondedForce has parameter offsets, which jaxcg does not evaluate; remove them.")
    charges, sigmas, epsilons = columns(force, force.getNumParticles(), "getParticleParameters")
    n_exceptions = force.getNumExceptions()
    i, j, products, sigma, epsilon = (
        columns(force, n_exceptions, "getExceptionParameters") if n_exceptions else [np.zeros(0)] * 5
    )
    cutoff = None if method == "NoCutoff" else float(plain(force.getCutoffDistance()))
    switch = float(plain(force.getSwitchingDistance())) if force.getUseSwitchingFunction() else None
    box = box_vectors(system) if method == "CutoffPeriodic" else None
    dispersion = force.getUseDispersionCorrection()
    more: list[AbstractEnergy] = []
    tables = read_lennard_jones(system)
    if tables is not None:
        _check_tables(tables, force, epsilons, epsilon, i, j)
        sigmas, epsilons, switch, dispersion = tables.sigmas, tables.epsilons, tables.switch, tables.dispersion
        pairs = [tables.one_four.get((int(min(a, b)), int(max(a, b))), (0.1, 0.0)) for a, b in zip(i, j)]
        sigma, epsilon = np.array(pairs).reshape(-1, 2).T
        more = correction(tables, cutoff, switch if cutoff is not None else None, box)
    nonbonded = Nonbonded(
        charges,
        sigmas,
        epsilons,
        np.stack([i, j], 1),
        products,
        sigma,
        epsilon,
        cutoff=cutoff,
        switch=switch if cutoff is not None else None,
        dielectric=force.getReactionFieldDielectric(),
        box=box,
        periodic_exceptions=box is not None and force.getExceptionsUsePeriodicBoundaryConditions(),
        dispersion=box is not None and dispersion,
        positions=positions,
    )
    return [nonbonded, *more]


def _check_tables(tables: LennardJones, force, epsilons, exception_epsilons, i, j) -> None:
    """Refuse Lennard-Jones tables that cannot be merged with the ``NonbondedForce``."""
    exceptions = {(min(a, b), max(a, b)) for a, b in zip(i.tolist(), j.tolist())}
    cutoff = float(plain(force.getCutoffDistance()))
    if (
        np.any(epsilons)
        or np.any(exception_epsilons)
        or exceptions != tables.excluded
        or not tables.one_four.keys() <= exceptions
        or tables.method != force.getNonbondedMethod()
        or (tables.method != 0 and tables.cutoff != cutoff)
    ):
        raise InputError(
            "The NonbondedForce and the CustomNonbondedForce of Lennard-Jones tables disagree in exclusions or cutoff, "
            "or both hold Lennard-Jones parameters; create the System with OpenMM's ForceField."
        )


_READERS: dict[str, Callable[..., list[AbstractEnergy]]] = {
    "HarmonicBondForce": _bonds,
    "HarmonicAngleForce": _angles,
    "PeriodicTorsionForce": _torsions,
    "CMAPTorsionForce": _cmaps,
    "NonbondedForce": _nonbonded,
    "GBSAOBCForce": read_gbsa_obc,
    "CustomGBForce": read_custom_gb,
    "CustomNonbondedForce": read_custom_nonbonded,
    "CustomBondForce": read_custom_bond,
    "CustomTorsionForce": read_custom_torsion,
}

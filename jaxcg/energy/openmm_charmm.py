"""CHARMM's Lennard-Jones and improper forces as OpenMM's application layer writes them.

For CHARMM36 OpenMM keeps charges in a `NonbondedForce` and puts Lennard-Jones interactions into a
`CustomNonbondedForce` with a table per pair of types, and 1–4 ones into a `CustomBondForce`. The tables follow the
Lorentz–Berthelot rules but for a few pairs of types (NBFIX), so everything is read back into one `Nonbonded`; the pairs
that differ get a correction of their own.
"""

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ._openmm_values import columns, discrete_table, formula, plain
from .base import AbstractEnergy
from .lennard_jones import TypedLennardJones
from .torsion import HarmonicTorsion

_TABLES = "acoef(type1,type2)/r^12-bcoef(type1,type2)/r^6"
_ONE_FOUR = "4*epsilon*((sigma/r)^12-(sigma/r)^6)"
_HARMONIC = "k*(theta-theta0)^2"
_HARMONIC_WRAPPED = "k*min(dtheta,2*pi-dtheta)^2;dtheta=abs(theta-theta0);pi=3.14159"
_RELATIVE = 1e-7


@dataclass(frozen=True)
class LennardJones:
    """Lennard-Jones parameters of a system read back from its tables.

    Arguments:
        sigmas, epsilons: (atoms,) nm and kJ/mol.
        one_four: (σ, ε) of pairs (i < j) with a 1–4 interaction.
        excluded: pairs (i < j) left out.
        method: OpenMM's number of the cutoff method.
        cutoff: nm.
        switch: nm or None.
        dispersion: whether the long-range correction is on.
        types, repulsion, attraction: type of each atom and, per pair of types, what its 1/r¹² and 1/r⁶ coefficients
            have beyond the combination rules; None when all pairs follow them.
    """

    sigmas: np.ndarray
    epsilons: np.ndarray
    one_four: dict[tuple[int, int], tuple[float, float]]
    excluded: frozenset[tuple[int, int]]
    method: int
    cutoff: float
    switch: float | None
    dispersion: bool
    types: np.ndarray
    repulsion: np.ndarray | None
    attraction: np.ndarray | None


def read_lennard_jones(system) -> LennardJones | None:
    """Lennard-Jones parameters kept in a ``CustomNonbondedForce``, None when the system has none.

    Raises:
        InputError: the force is not the one OpenMM writes for CHARMM.
    """
    forces = [f for f in system.getForces() if type(f).__name__ == "CustomNonbondedForce"]
    if not forces:
        return None
    force = forces[0]
    if len(forces) > 1 or not _is_lennard_jones(force):
        raise InputError(
            f"The CustomNonbondedForce with energy '{force.getEnergyFunction()}' is not one jaxcg recognises; it knows "
            "the Lennard-Jones tables OpenMM writes for CHARMM36. Remove it or choose another force field."
        )
    tables = {force.getTabulatedFunctionName(k): discrete_table(force.getTabulatedFunction(k)) for k in range(2)}
    repulsion, attraction = tables["acoef"], tables["bcoef"]
    types = np.array([int(force.getParticleParameters(i)[0]) for i in range(force.getNumParticles())])
    used, types = np.unique(types, return_inverse=True)
    repulsion, attraction = repulsion[np.ix_(used, used)], attraction[np.ix_(used, used)]
    own_a, own_b = np.diag(repulsion), np.diag(attraction)
    acts = (own_a > 0) & (own_b > 0)
    sigma = np.where(acts, (own_a / np.where(acts, own_b, 1.0)) ** (1 / 6), 0.1)
    epsilon = np.where(acts, own_b**2 / (4.0 * np.where(acts, own_a, 1.0)), 0.0)
    depth = 4.0 * np.sqrt(epsilon[:, None] * epsilon)
    mean = 0.5 * (sigma[:, None] + sigma)
    extra_a, extra_b = repulsion - depth * mean**12, attraction - depth * mean**6
    extra_a[np.abs(extra_a) <= _RELATIVE * np.abs(repulsion)] = 0.0
    extra_b[np.abs(extra_b) <= _RELATIVE * np.abs(attraction)] = 0.0
    special = bool(extra_a.any() or extra_b.any())
    pairs = [force.getExclusionParticles(k) for k in range(force.getNumExclusions())]
    return LennardJones(
        sigmas=sigma[types],
        epsilons=epsilon[types],
        one_four=_one_four(system),
        excluded=frozenset((min(i, j), max(i, j)) for i, j in pairs),
        method=force.getNonbondedMethod(),
        cutoff=float(plain(force.getCutoffDistance())),
        switch=float(plain(force.getSwitchingDistance())) if force.getUseSwitchingFunction() else None,
        dispersion=force.getUseLongRangeCorrection(),
        types=types,
        repulsion=extra_a if special else None,
        attraction=extra_b if special else None,
    )


def correction(found: LennardJones, cutoff: float | None, switch: float | None, box) -> list[AbstractEnergy]:
    """The term for the pairs of types that do not follow the combination rules, if there are any.

    Raises:
        InputError: the periodic long-range correction is on, which such pairs lack.
    """
    if found.repulsion is None or found.attraction is None:
        return []
    if box is not None and found.dispersion:
        raise InputError(
            "The CustomNonbondedForce has pair-specific Lennard-Jones parameters and a long-range correction, which "
            "jaxcg does not combine; call setUseLongRangeCorrection(False)."
        )
    excluded = np.array(sorted(found.excluded), dtype=np.int32).reshape(-1, 2)
    return [
        TypedLennardJones(
            found.types, found.repulsion, found.attraction, excluded, cutoff=cutoff, switch=switch, box=box
        )
    ]


def read_custom_nonbonded(force, system, positions) -> list[AbstractEnergy]:
    """Nothing: the force's parameters are read with the system's ``NonbondedForce``.

    Raises:
        InputError: the system has no ``NonbondedForce``.
    """
    del force, positions
    if not any(type(f).__name__ == "NonbondedForce" for f in system.getForces()):
        raise InputError(
            "The CustomNonbondedForce comes without a NonbondedForce; add one (with zero charges if need be)."
        )
    return []


def read_custom_bond(force, system, positions) -> list[AbstractEnergy]:
    """Nothing for 1–4 Lennard-Jones interactions, which are read with the ``NonbondedForce``.

    Raises:
        InputError: any other formula.
    """
    del positions
    known = formula(force.getEnergyFunction()) == _ONE_FOUR and force.getNumGlobalParameters() == 0
    if not known or read_lennard_jones(system) is None:
        raise InputError(
            f"The CustomBondForce with energy '{force.getEnergyFunction()}' is not one jaxcg recognises; it knows the "
            "1-4 Lennard-Jones force OpenMM writes for CHARMM36. Remove it or choose another force field."
        )
    return []


def read_custom_torsion(force, system, positions) -> list[AbstractEnergy]:
    """CHARMM's harmonic impropers.

    Raises:
        InputError: any other formula.
    """
    del positions
    expression = formula(force.getEnergyFunction())
    names = [force.getPerTorsionParameterName(i) for i in range(force.getNumPerTorsionParameters())]
    wrapped = expression.startswith(_HARMONIC_WRAPPED)
    if (expression != _HARMONIC and not wrapped) or names != ["k", "theta0"] or force.getNumGlobalParameters():
        raise InputError(
            f"The CustomTorsionForce with energy '{force.getEnergyFunction()}' is not one jaxcg recognises; it knows "
            "harmonic impropers k*(theta-theta0)^2. Remove it or choose another force field."
        )
    if force.usesPeriodicBoundaryConditions():
        raise InputError(
            "CustomTorsionForce uses periodic boundary conditions; make molecules whole and "
            "call setUsesPeriodicBoundaryConditions(False)."
        )
    if not force.getNumTorsions():
        return []
    i, j, k, m, values = columns(force, force.getNumTorsions(), "getTorsionParameters")
    atoms = np.stack([i, j, k, m], 1)
    n_atoms = system.getNumParticles()
    return [HarmonicTorsion(atoms, values[:, 1], 2.0 * values[:, 0], wrapped=wrapped, n_atoms=n_atoms)]


def _is_lennard_jones(force) -> bool:
    names = [force.getPerParticleParameterName(i) for i in range(force.getNumPerParticleParameters())]
    functions = [force.getTabulatedFunctionName(k) for k in range(force.getNumTabulatedFunctions())]
    return (
        formula(force.getEnergyFunction()) == _TABLES
        and names == ["type"]
        and sorted(functions) == ["acoef", "bcoef"]
        and not force.getNumInteractionGroups()
        and not force.getNumGlobalParameters()
    )


def _one_four(system) -> dict[tuple[int, int], tuple[float, float]]:
    """Parameters of the 1–4 pairs in the ``CustomBondForce`` that goes with the tables."""
    pairs = {}
    for force in system.getForces():
        if type(force).__name__ == "CustomBondForce" and formula(force.getEnergyFunction()) == _ONE_FOUR:
            names = [force.getPerBondParameterName(i) for i in range(force.getNumPerBondParameters())]
            for k in range(force.getNumBonds()):
                i, j, values = force.getBondParameters(k)
                value = dict(zip(names, values))
                pairs[min(i, j), max(i, j)] = (value["sigma"], value["epsilon"])
    return pairs

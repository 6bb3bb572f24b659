"""Masses for sampling: they change how fast the fibre is explored, never what is sampled."""

import numpy as np

from ...system import System


def heavy_hydrogen_masses(system: System, factor: float = 3.0) -> np.ndarray:
    """Masses with every hydrogen ``factor`` times as heavy, the difference taken from the atom it is bonded to.

    The total mass stays and the fastest vibrations slow down by nearly √factor, so steps may be longer.

    Arguments:
        system: masses, elements and bonds are used.
        factor: 1 gives the physical masses.

    Returns:
        (atoms,) masses, amu.

    Raises:
        ValueError: factor is below 1, or leaves an atom lighter than its hydrogens.

    Source: Feenstra, Hess & Berendsen, J. Comput. Chem. 20, 786 (1999).
    """
    if factor < 1:
        raise ValueError(f"heavy_hydrogen_masses: factor {factor} is below 1.")
    masses = system.masses.astype(np.float64).copy()
    hydrogen = ~system.heavy
    first, second = system.bonds.T
    pairs = np.concatenate([np.stack([first, second], 1), np.stack([second, first], 1)])
    pairs = pairs[hydrogen[pairs[:, 0]] & ~hydrogen[pairs[:, 1]]]
    _, once = np.unique(pairs[:, 0], return_index=True)  # a hydrogen gives to one parent only
    child, parent = pairs[once].T
    extra = (factor - 1) * system.masses[child]
    masses[child] += extra
    np.subtract.at(masses, parent, extra)
    light = np.flatnonzero(masses[parent] < masses[child])
    if light.size:
        atom = parent[light[0]]
        raise ValueError(
            f"heavy_hydrogen_masses: factor {factor} leaves atom {atom} ({system.atom_names[atom]}) with "
            f"{masses[atom]:.2f} amu, lighter than its hydrogens; use a smaller factor."
        )
    return masses

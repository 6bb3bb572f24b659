"""Which residues of a structure must be started anew: what a relaxation can leave wrong."""

import numpy as np

from ..system import System
from .geometry import Geometry
from .quality.checks import check_contacts, check_rings
from .quality.tables import tables_of
from .quality.vectors import angle_difference, dihedrals


def defective_residues(system: System, geometry: Geometry, x: np.ndarray, *, strict: bool = True) -> tuple[int, ...]:
    """Residues with a wrong or flat stereo centre, a wrong or twisted double bond, a bond off, or a pierced ring.

    Arguments:
        system, geometry: the molecule and its ideal geometry.
        x: (atoms, 3) nm.
        strict: limits of a finished structure (30° of twist, bonds 9.5 % off) or of an embedding (75°, 12 %).
    """
    owner = system.atom_residue
    if not np.isfinite(x).all():
        return tuple(range(system.n_residues))
    wrong = []
    if len(geometry.centers):
        a, b, c = (x[geometry.centers[:, k]] - x[geometry.centers[:, 0]] for k in (1, 2, 3))
        share = np.sum(a * np.cross(b, c), axis=1) / geometry.volumes
        wrong.append(geometry.centers[share < (0.45 if strict else 0.4), 0])
    if len(system.double_bonds):
        twist = angle_difference(dihedrals(x, system.double_bonds), system.double_bond_angles)
        wrong.append(system.double_bonds[np.abs(twist) > np.deg2rad(28 if strict else 75), 1:3].ravel())
    pairs, lengths = geometry.bond_lengths()
    if not strict:
        keep = system.heavy[pairs].all(axis=1)
        pairs, lengths = pairs[keep], lengths[keep]
    stretch = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1) / lengths - 1
    wrong.append(pairs[np.abs(stretch) > (0.095 if strict else 0.12)].ravel())
    found = check_rings(system, tables_of(system), np.asarray(x, dtype=np.float64))[1]["rings_pierced"]
    wrong.append(np.array([atom for offender in found for atom in offender.atoms], dtype=int))
    if strict:
        close = check_contacts(system, tables_of(system), np.asarray(x, dtype=np.float64))[1]
        wrong.append(np.array([a for name in close for o in close[name] for a in o.atoms], dtype=int))
    return tuple(sorted({int(r) for r in owner[np.concatenate(wrong).astype(int)]}))

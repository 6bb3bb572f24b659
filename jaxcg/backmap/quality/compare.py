"""The checks against something given: the beads, and a reference structure."""

import numpy as np

from ...mapping.linear import LinearMap
from ...system import System
from .tables import Tables
from .vectors import angle_difference, dihedrals, fitted_rmsd, rmsd

_PHI_PSI, _CHI1 = np.radians(45.0), np.radians(40.0)
_HYDROGEN_BOND = 0.35


def check_beads(mapping: LinearMap, x: np.ndarray, y: np.ndarray) -> dict:
    """Distance of the mapped beads from ``y`` (in float64, whatever precision the map computes in)."""
    distance = np.linalg.norm(mapping.matrix().tocsr() @ x - y, axis=1)
    return {"bead_rms": float(np.sqrt(np.mean(distance**2))), "bead_max": float(distance.max(initial=0.0))}


def check_reference(system: System, tables: Tables, x: np.ndarray, reference: np.ndarray) -> dict:
    """Agreement with a reference structure; atoms with NaN there are left out."""
    present = np.asarray(np.isfinite(reference).all(axis=1))
    heavy, backbone = tables.heavy[present[tables.heavy]], tables.backbone[present[tables.backbone]]
    figures = {
        "rmsd_heavy": rmsd(x[heavy], reference[heavy]),
        "rmsd_heavy_symmetric": rmsd(_relabelled(tables, x, reference)[heavy], reference[heavy]),
        "rmsd_heavy_fitted": fitted_rmsd(x[heavy], reference[heavy]),
    }
    if len(backbone):
        figures["rmsd_backbone"] = rmsd(x[backbone], reference[backbone])
        figures["rmsd_backbone_fitted"] = fitted_rmsd(x[backbone], reference[backbone])
    phi_psi = np.concatenate([tables.phi, tables.psi[:, 3:]], axis=1)
    kept = present[phi_psi].all(axis=1)
    if kept.any():
        near = [
            angle_difference(dihedrals(x, quartets[kept]), dihedrals(reference, quartets[kept])) <= _PHI_PSI
            for quartets in (tables.phi, tables.psi)
        ]
        figures["phi_psi_agreement"] = 100.0 * float(np.mean(near[0] & near[1]))
    chi1 = tables.chi1[present[tables.chi1].all(axis=1)]
    if len(chi1):
        off = angle_difference(dihedrals(x, chi1), dihedrals(reference, chi1))
        figures["chi1_agreement"] = 100.0 * float(np.mean(off <= _CHI1))
    donor, acceptor = _hydrogen_bonds(system, tables, reference, present)
    figures["hydrogen_bonds_reference"] = len(donor)
    if len(donor):
        distance = np.linalg.norm(x[donor] - x[acceptor], axis=1)
        figures["hydrogen_bonds_kept"] = 100.0 * float(np.mean(distance < _HYDROGEN_BOND))
    return figures


def _hydrogen_bonds(
    system: System, tables: Tables, x: np.ndarray, present: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Backbone N–O pairs of ``x`` below 0.35 nm and at least two residues apart."""
    donors, acceptors = (
        tables.backbone_donors[present[tables.backbone_donors]],
        tables.backbone_acceptors[present[tables.backbone_acceptors]],
    )
    distance = np.linalg.norm(x[donors][:, None] - x[acceptors][None], axis=-1)
    apart = np.abs(system.atom_residue[donors][:, None] - system.atom_residue[acceptors][None]) >= 2
    i, j = np.nonzero((distance < _HYDROGEN_BOND) & apart)
    return donors[i], acceptors[j]


def _relabelled(tables: Tables, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """``x`` with atoms that are alike exchanged where that brings them closer to the reference."""
    x = x.copy()
    for pairs in tables.alike:
        first, second = pairs.T
        direct = np.sum((x[first] - reference[first]) ** 2) + np.sum((x[second] - reference[second]) ** 2)
        swapped = np.sum((x[second] - reference[first]) ** 2) + np.sum((x[first] - reference[second]) ** 2)
        if swapped < direct:
            x[first], x[second] = x[second], x[first]
    return x

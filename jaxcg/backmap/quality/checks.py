"""The checks that need nothing but the structure: stereo, double bonds, rings, bonds, contacts, backbone."""

from collections.abc import Iterable

import numpy as np
from scipy.spatial import KDTree

from ...system import System
from .. import ramachandran
from .result import Offender
from .tables import Tables
from .vectors import angle_difference, dihedrals

#: Triple product of three unit vectors at tetrahedral angles, 4/(3√3).
_TETRAHEDRAL = 4 / (3 * np.sqrt(3))
_FLAT = 0.4
_TWISTED = np.radians(30.0)
_CLOSE, _CLASH, _LOOK = 0.22, 0.12, 0.30


def offender(system: System, atoms: Iterable[int], value: float, shown: Iterable[int] | None = None) -> Offender:
    """An `Offender` made of ``atoms``; its label names the ``shown`` ones (all when None)."""
    atoms = tuple(int(a) for a in atoms)
    shown = atoms if shown is None else tuple(int(a) for a in shown)
    label = " – ".join(f"{system.atom_names[a]} of {system.residue_label(int(system.atom_residue[a]))}" for a in shown)
    residues = tuple(sorted({int(system.atom_residue[a]) for a in atoms}))
    return Offender(label=label, atoms=atoms, residues=residues, value=float(value))


def check_stereo(system: System, x: np.ndarray) -> tuple[dict, dict]:
    """Stereo centres of the wrong hand, and flat ones."""
    center, a, b, c = system.stereo_centers.T
    u, v, w = x[a] - x[center], x[b] - x[center], x[c] - x[center]
    lengths = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1) * np.linalg.norm(w, axis=1)
    hand = np.sum(u * np.cross(v, w), axis=1) * system.stereo_signs / np.maximum(lengths, 1e-12) / _TETRAHEDRAL
    wrong, flat = np.flatnonzero(hand <= 0), np.flatnonzero((hand > 0) & (hand < _FLAT))
    offenders = {
        "stereo_errors": [offender(system, system.stereo_centers[k], hand[k], [center[k]]) for k in wrong],
        "stereo_flat": [offender(system, system.stereo_centers[k], hand[k], [center[k]]) for k in flat],
    }
    return {"stereo_centers": len(hand)}, offenders


def check_double_bonds(system: System, tables: Tables, x: np.ndarray) -> tuple[dict, dict]:
    """Peptides (cis, cis before proline, twisted) and other stereo double bonds."""
    quartets = system.double_bonds
    omega = dihedrals(x, quartets)
    off_expected = angle_difference(omega, system.double_bond_angles)
    off_plane = np.minimum(np.abs(omega), np.pi - np.abs(omega))
    peptide, before_proline = tables.peptide, tables.before_proline
    other_isomer = off_expected > np.pi - _TWISTED
    is_cis = np.abs(omega) < _TWISTED
    groups = {
        "peptides_cis": peptide & ~before_proline & other_isomer,
        "peptides_cis_proline": before_proline & is_cis,
        "peptides_twisted": peptide & (off_plane > _TWISTED),
        "double_bond_errors": ~peptide & (off_expected > _TWISTED),
    }
    offenders = {
        name: [offender(system, quartets[k], np.degrees(omega[k]), quartets[k][1:3]) for k in np.flatnonzero(mask)]
        for name, mask in groups.items()
    }
    return {"peptides": int(peptide.sum())}, offenders


def check_rings(system: System, tables: Tables, x: np.ndarray) -> tuple[dict, dict]:
    """Rings that a bond passes through, and how far sp2 rings are from flat."""
    figures = {
        "rings": len(tables.rings),
        "ring_planarity": max((_out_of_plane(x[ring]) for ring in tables.flat_rings), default=0.0),
    }
    if not tables.rings:
        return figures, {"rings_pierced": []}
    padded = np.array([np.pad(ring, (0, 7 - len(ring)), constant_values=ring[0]) for ring in tables.rings])
    centers = np.array([x[ring].mean(axis=0) for ring in tables.rings])
    reach = max(np.linalg.norm(x[padded] - centers[:, None], axis=-1).max(), 0.1)
    start, end = x[system.bonds[:, 0]], x[system.bonds[:, 1]]
    longest = np.linalg.norm(end - start, axis=1).max(initial=0.0)
    near = KDTree(0.5 * (start + end)).query_ball_point(centers, reach + 0.5 * longest)
    ring = np.repeat(np.arange(len(near)), [len(bonds) for bonds in near])
    bond = np.concatenate([np.asarray(bonds, dtype=np.int64) for bonds in near])
    apart = ~np.any(padded[ring][:, :, None] == system.bonds[bond][:, None, :], axis=(1, 2))
    ring, bond = ring[apart], bond[apart]
    corners = x[padded[ring]]
    hit = _segments_meet_triangles(
        start[bond][:, None], end[bond][:, None], centers[ring][:, None], corners, np.roll(corners, -1, axis=1)
    ).any(axis=1)
    pierced = [
        offender(system, [*tables.rings[r], *system.bonds[b]], 1.0, [tables.rings[r][0], *system.bonds[b]])
        for r, b in zip(ring[hit], bond[hit], strict=True)
    ]
    return figures, {"rings_pierced": pierced}


def _segments_meet_triangles(start, end, a, b, c) -> np.ndarray:
    """Möller–Trumbore test of segments against triangles, broadcast over leading axes."""
    direction, first, second = end - start, b - a, c - a
    normal = np.cross(direction, second)
    determinant = np.sum(first * normal, axis=-1)
    ok = np.abs(determinant) > 1e-12
    inverse = 1.0 / np.where(ok, determinant, 1.0)
    offset = start - a
    u = inverse * np.sum(offset * normal, axis=-1)
    cross = np.cross(offset, first)
    v = inverse * np.sum(direction * cross, axis=-1)
    t = inverse * np.sum(second * cross, axis=-1)
    return ok & (u >= 0) & (v >= 0) & (u + v <= 1) & (t >= 0) & (t <= 1)


def _out_of_plane(points: np.ndarray) -> float:
    centered = points - points.mean(axis=0)
    return float(np.abs(centered @ np.linalg.svd(centered)[2][2]).max())


def check_bonds(system: System, x: np.ndarray, ideal: np.ndarray) -> tuple[dict, dict]:
    """Deviation of bonds from their ideal lengths (NaN where unknown)."""
    known = np.flatnonzero(np.isfinite(ideal))
    pairs = system.bonds[known]
    relative = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1) / ideal[known] - 1
    off = np.flatnonzero(np.abs(relative) > 0.10)
    size = max(len(relative), 1)
    figures = {
        "bonds": len(relative),
        "bonds_within_10": 100.0 * (1 - len(off) / size),
        "bond_rms": 100.0 * float(np.sqrt(np.mean(relative**2))) if len(relative) else 0.0,
        "bond_worst": 100.0 * float(np.abs(relative).max(initial=0.0)),
    }
    return figures, {"bonds_off": [offender(system, pairs[k], 100 * relative[k]) for k in off]}


def check_contacts(system: System, tables: Tables, x: np.ndarray) -> tuple[dict, dict]:
    """Heavy atoms, more than three bonds apart, that are too close."""
    heavy = tables.heavy
    pairs = heavy[KDTree(x[heavy]).query_pairs(_LOOK, output_type="ndarray")].reshape(-1, 2)
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[~np.isin(pairs[:, 0] * system.n_atoms + pairs[:, 1], tables.near_keys)]
    distance = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    order = np.argsort(distance)
    pairs, distance = pairs[order], distance[order]
    donor, acceptor = tables.donor[pairs], tables.acceptor[pairs]
    bonding = (donor[:, 0] & acceptor[:, 1]) | (donor[:, 1] & acceptor[:, 0])
    groups = {
        "contacts_012": distance < _CLASH,
        "contacts_022": (distance < _CLOSE) & ~bonding,
        "contacts_022_hydrogen_bonds": (distance < _CLOSE) & bonding,
    }
    offenders = {
        name: [offender(system, pairs[k], distance[k]) for k in np.flatnonzero(mask)] for name, mask in groups.items()
    }
    return {"shortest_contact": float(distance.min(initial=_LOOK))}, offenders


def check_backbone(system: System, tables: Tables, x: np.ndarray) -> tuple[dict, dict]:
    """Where φ and ψ are in the Ramachandran plot; nothing when the reference data are not installed."""
    count = len(tables.residues)
    if not count or not ramachandran.available():
        return {"ramachandran_residues": count}, {}
    phi, psi = dihedrals(x, tables.phi), dihedrals(x, tables.psi)
    region = ramachandran.ramachandran_regions(phi, psi, tables.classes)
    phi, psi = np.degrees(phi), np.degrees(psi)
    figures = {
        "ramachandran_residues": count,
        "ramachandran_favoured": 100.0 * float(np.mean(region == 2)),
        "ramachandran_allowed": 100.0 * float(np.mean(region == 1)),
        "ramachandran_outlier": 100.0 * float(np.mean(region == 0)),
        "phi_psi": tuple(
            (int(r), float(round(p, 2)), float(round(s, 2)), ramachandran.CLASSES[c], int(g))
            for r, p, s, c, g in zip(tables.residues, phi, psi, tables.classes, region, strict=True)
        ),
    }
    outliers = [
        Offender(
            label=f"{system.residue_label(int(tables.residues[k]))} at φ {phi[k]:.0f}°, ψ {psi[k]:.0f}°",
            atoms=(*(int(a) for a in tables.phi[k]), int(tables.psi[k][3])),
            residues=(int(tables.residues[k]),),
            value=0.0,
        )
        for k in np.flatnonzero(region == 0)
    ]
    return figures, {"ramachandran_outlier": outliers}

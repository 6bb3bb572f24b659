"""Ideal geometry of a molecule, read from its force field: the distances and chiral volumes relaxation restores.

Bond lengths are the force field's, 1-3 distances follow from its angles, and 1-4 distances are fixed wherever its
torsions make a bond planar (peptides, rings, amides, guanidinium). Everything here runs once per molecule, in NumPy.
"""

import equinox as eqx
import numpy as np

from ..energy import HarmonicAngle, HarmonicBond, Nonbonded, PeriodicTorsion
from ..energy.base import AbstractEnergy
from ..system import System

#: A proper torsion whose twofold cosine coefficient lies below this (kJ/mol) holds its four atoms in a plane.
PLANAR_COEFFICIENT = -9.0
#: Largest ring that planarity rules treat as rigid.
LARGEST_RING = 7


class Geometry(eqx.Module):
    """Ideal distances and volumes of a set of atoms.

    Arguments:
        pairs: (distances, 2) atom indices of every pair whose distance is known.
        lengths: (distances,) nm.
        separation: (distances,) 1 for bonds, 2 for 1-3 pairs, 3 for planar 1-4 pairs.
        centers: (centers, 4) atoms ``(centre, a, b, c)`` of each stereo centre.
        volumes: (centers,) signed ideal triple product (a − centre)·[(b − centre)×(c − centre)], nm³.
        radii: (atoms,) half the Lennard-Jones σ of each atom, nm.
    """

    pairs: np.ndarray
    lengths: np.ndarray
    separation: np.ndarray
    centers: np.ndarray
    volumes: np.ndarray
    radii: np.ndarray

    def bond_lengths(self) -> tuple[np.ndarray, np.ndarray]:
        """Bonded pairs (bonds, 2) and their ideal lengths (bonds,), nm."""
        bonded = self.separation == 1
        return self.pairs[bonded], self.lengths[bonded]

    def subset(self, atoms: np.ndarray) -> "Geometry":
        """The geometry of ``atoms`` only, renumbered in that order."""
        number = np.full(len(self.radii), -1)
        number[atoms] = np.arange(len(atoms))
        pairs, centers = number[self.pairs], number[self.centers]
        keep, keep_centers = (pairs >= 0).all(axis=1), (centers >= 0).all(axis=1)
        return Geometry(
            pairs=pairs[keep],
            lengths=self.lengths[keep],
            separation=self.separation[keep],
            centers=centers[keep_centers],
            volumes=self.volumes[keep_centers],
            radii=self.radii[atoms],
        )


def ideal_geometry(system: System, energy: AbstractEnergy) -> Geometry:
    """Ideal geometry of ``system`` from the bonded terms of ``energy``.

    Raises:
        ValueError: the energy has no bond, angle or non-bonded term to read distances and radii from.
    """
    terms = energy.terms()
    bonds = [t for t in terms if isinstance(t, HarmonicBond)]
    angles = [t for t in terms if isinstance(t, HarmonicAngle)]
    torsions = [t for t in terms if isinstance(t, PeriodicTorsion)]
    nonbonded = [t for t in terms if isinstance(t, Nonbonded)]
    if not bonds or not nonbonded:
        raise ValueError("ideal_geometry: the energy needs a HarmonicBond and a Nonbonded term to read distances from.")

    bond_of: dict[tuple[int, int], float] = {}
    for term in bonds:
        for (i, j), length in zip(np.asarray(term.atoms), np.asarray(term.length), strict=True):
            bond_of[_key(i, j)] = float(length)
    known = dict.fromkeys(bond_of, 1)
    length_of = dict(bond_of)
    angle_of: dict[tuple[int, int, int], float] = {}
    for term in angles:
        for (i, j, k), angle in zip(np.asarray(term.atoms), np.asarray(term.angle), strict=True):
            angle_of[(int(i), int(j), int(k))] = angle_of[(int(k), int(j), int(i))] = float(angle)
            if _key(i, j) in bond_of and _key(j, k) in bond_of:
                a, b = bond_of[_key(i, j)], bond_of[_key(j, k)]
                if known.setdefault(_key(i, k), 2) == 2:
                    length_of[_key(i, k)] = float(np.sqrt(a * a + b * b - 2 * a * b * np.cos(angle)))
    for (i, j, k, m), angle in _planar_dihedrals(system, torsions, bond_of).items():
        if (i, j, k) in angle_of and (j, k, m) in angle_of and _key(i, m) not in known:
            known[_key(i, m)] = 3
            length_of[_key(i, m)] = _one_four_distance(
                bond_of[_key(i, j)],
                bond_of[_key(j, k)],
                bond_of[_key(k, m)],
                angle_of[(i, j, k)],
                angle_of[(j, k, m)],
                angle,
            )

    centers, volumes = [], []
    for (center, a, b, c), sign in zip(system.stereo_centers, system.stereo_signs, strict=True):
        volume = _volume([length_of.get(_key(i, j)) for i, j in _tetrahedron(center, a, b, c)])
        if volume is not None:
            centers.append((center, a, b, c))
            volumes.append(sign * volume)
    pairs = np.array(list(length_of), dtype=np.int64).reshape(-1, 2)
    return Geometry(
        pairs=pairs,
        lengths=np.array([length_of[i, j] for i, j in pairs.tolist()]),
        separation=np.array([known[i, j] for i, j in pairs.tolist()], dtype=np.int64),
        centers=np.array(centers, dtype=np.int64).reshape(-1, 4),
        volumes=np.array(volumes, dtype=np.float64),
        radii=0.5 * np.asarray(nonbonded[0].sigmas, dtype=np.float64),
    )


def small_rings(bonds: np.ndarray, n_atoms: int, largest: int = LARGEST_RING) -> list[tuple[int, ...]]:
    """Rings of at most ``largest`` atoms, one shortest ring through every ring bond, each in bond order."""
    neighbors: list[list[int]] = [[] for _ in range(n_atoms)]
    for i, j in bonds:
        neighbors[int(i)].append(int(j))
        neighbors[int(j)].append(int(i))
    found: dict[frozenset[int], tuple[int, ...]] = {}
    for i, j in bonds:
        ring = _shortest_path(neighbors, int(i), int(j), largest)
        if ring is not None:
            found.setdefault(frozenset(ring), ring)
    return list(found.values())


def _shortest_path(neighbors: list[list[int]], start: int, end: int, largest: int) -> tuple[int, ...] | None:
    """Shortest path from start to end that does not use their bond, of at most ``largest`` atoms."""
    paths, seen = [(start,)], {start}
    for _ in range(largest - 1):
        longer = []
        for path in paths:
            for atom in neighbors[path[-1]]:
                if len(path) == 1 and atom == end:
                    continue
                if atom == end:
                    return (*path, atom)
                if atom not in seen:
                    seen.add(atom)
                    longer.append((*path, atom))
        paths = longer
    return None


def _planar_dihedrals(system: System, torsions, bond_of) -> dict[tuple[int, int, int, int], float]:
    """Every quartet i-j-k-m around a planar bond, with its dihedral: 0 (cis) or π (trans)."""
    twofold: dict[tuple[int, int, int, int], float] = {}
    for term in torsions:
        columns = (term.atoms, term.periodicity, term.phase, term.stiffness)
        for atoms, periodicity, phase, stiffness in zip(*map(np.asarray, columns), strict=True):
            i, j, k, m = (int(a) for a in atoms)
            proper = all(_key(a, b) in bond_of for a, b in ((i, j), (j, k), (k, m)))
            if proper and int(periodicity) == 2:
                quartet = (i, j, k, m) if j < k else (m, k, j, i)
                twofold[quartet] = twofold.get(quartet, 0.0) + float(stiffness * np.cos(phase))
    together: dict[tuple[int, int], set[int]] = {}
    rings = small_rings(system.bonds, system.n_atoms)
    for ring in rings:
        for a, b in zip(ring, ring[1:] + ring[:1], strict=True):
            together.setdefault(_key(a, b), set()).update(ring)
    given: dict[tuple[int, int], tuple[int, int, bool]] = {}
    for (a, b, c, d), angle in zip(system.double_bonds.tolist(), system.double_bond_angles, strict=True):
        first, last = (a, d) if b < c else (d, a)
        given[_key(b, c)] = (first, last, bool(np.cos(angle) > 0))

    planar = {}
    for (i, j, k, m), coefficient in twofold.items():
        if coefficient >= PLANAR_COEFFICIENT:
            continue
        if _key(j, k) in given:
            first, last, cis = given[_key(j, k)]
            same = cis ^ (i != first) ^ (m != last)
        elif _key(j, k) in together:
            same = any({i, j, k, m} <= set(ring) for ring in rings)
        else:
            continue
        planar[(i, j, k, m)] = 0.0 if same else np.pi
    return planar


def _one_four_distance(a, b, c, first_angle, second_angle, dihedral) -> float:
    start = np.array([a * np.cos(first_angle), a * np.sin(first_angle), 0.0])
    end = np.array(
        [
            b - c * np.cos(second_angle),
            c * np.sin(second_angle) * np.cos(dihedral),
            c * np.sin(second_angle) * np.sin(dihedral),
        ]
    )
    return float(np.linalg.norm(end - start))


def _tetrahedron(center, a, b, c):
    return [(center, a), (center, b), (center, c), (a, b), (a, c), (b, c)]


def _volume(lengths) -> float | None:
    """|a·(b×c)| from the six distances of a tetrahedron, by its Gram determinant; None where one is unknown."""
    if any(length is None for length in lengths):
        return None
    a, b, c, ab, ac, bc = (length**2 for length in lengths)
    gram = np.array([[a, (a + b - ab) / 2, (a + c - ac) / 2], [0, b, (b + c - bc) / 2], [0, 0, c]])
    gram = gram + np.triu(gram, 1).T
    determinant = np.linalg.det(gram)
    return float(np.sqrt(determinant)) if determinant > 0 else None


def _key(i, j) -> tuple[int, int]:
    i, j = int(i), int(j)
    return (i, j) if i < j else (j, i)

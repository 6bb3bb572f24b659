"""Stereochemistry from the chemical component dictionary (through biotite) or from a reference structure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np

#: A triple product of unit bond vectors below this is planar: tetrahedral centres have 0.77.
_PLANAR = 0.35

#: Double-bond-like quartets that fix names or planarity, by residue: angle in radians.
_NAMED_QUARTETS = {"ARG": (("CD", "NE", "CZ", "NH1", 0.0),)}


@cache
def component_centers(name: str) -> tuple[tuple[str, str, str, str, float], ...]:
    """Stereo centres of a component of the dictionary, as ``(centre, a, b, c, sign)`` by atom name.

    A centre is a tetrahedral atom with at least three heavy neighbours that is chiral, or whose two like neighbours
    are told apart by their names (CG1/CG2 of valine, CD1/CD2 of leucine). The sign is that of the triple product
    (a − centre) · [(b − centre) × (c − centre)] in the dictionary's ideal coordinates. Unknown components give an
    empty tuple.
    """
    stored = _stored_centers()
    if name in stored:
        return stored[name]
    return dictionary_centers(name)


def dictionary_centers(name: str) -> tuple[tuple[str, str, str, str, float], ...]:
    """What `component_centers` says, always from the dictionary itself."""
    component = _component(name)
    if component is None:
        return ()
    names, elements, positions, bonds = component
    neighbors = _neighbors(len(names), bonds)
    kinds = _kinds(elements, neighbors)
    found = []
    for centre, around in enumerate(neighbors):
        heavy = [i for i in around if elements[i] != "H"]
        if not _may_be_center(centre, heavy, around, elements, kinds):
            continue
        a, b, c = sorted(heavy, key=lambda i: names[i])[:3]
        value = triple_product(positions[[centre, a, b, c]])
        if np.isfinite(value) and abs(value) > _PLANAR:
            found.append((names[centre], names[a], names[b], names[c], float(np.sign(value))))
    return tuple(found)


def triple_product(positions) -> float:
    """Triple product of the three unit vectors from the first of four points (4, 3) to the others."""
    vectors = np.asarray(positions[1:]) - np.asarray(positions[0])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(np.linalg.det(vectors))


def dihedrals(positions, quartets) -> np.ndarray:
    """Dihedral angles (quartets,) in radians of ``positions`` (atoms, 3), IUPAC sign, trans is π."""
    a, b, c, d = np.moveaxis(np.asarray(positions)[np.asarray(quartets, dtype=int).reshape(-1, 4)], 1, 0)
    axis = c - b
    first, second = np.cross(axis, a - b), np.cross(axis, d - c)
    sine = np.einsum("ij,ij->i", np.cross(first, second), axis) / np.linalg.norm(axis, axis=1)
    return np.arctan2(sine, np.einsum("ij,ij->i", first, second))


def stereo_centers(
    residue_names: Sequence[str], residue_atoms: Sequence[dict[str, int]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Stereo centres of a molecule from the component dictionary.

    Arguments:
        residue_names: (residues,) standard names.
        residue_atoms: for each residue the number of each of its atoms by name.

    Returns:
        Centres (centers, 4) as (centre, a, b, c), signs (centers,), and the names of residues that have tetrahedral
        atoms but are not in the dictionary.
    """
    centers, signs, unknown = [], [], []
    for name, atoms in zip(residue_names, residue_atoms):
        table = component_centers(name) or _LIPID_CENTERS.get(name, ())
        if not table and name not in _stored_centers() and _component(name) is None and name not in unknown:
            unknown.append(name)
        for *quartet, sign in table:
            if all(atom in atoms for atom in quartet):
                centers.append([atoms[atom] for atom in quartet])
                signs.append(sign)
    return np.array(centers, dtype=int).reshape(-1, 4), np.array(signs, dtype=float), unknown


def stereo_from_positions(elements: Sequence[str], bonds, positions) -> tuple[np.ndarray, np.ndarray]:
    """Stereo centres of a molecule with their signs as they are in ``positions`` (atoms, 3).

    Returns:
        Centres (centers, 4) and signs (centers,), as `stereo_centers`.
    """
    positions = np.asarray(positions)
    neighbors = _neighbors(len(elements), bonds)
    kinds = _kinds([e.upper() for e in elements], neighbors)
    centers, signs = [], []
    for centre, around in enumerate(neighbors):
        heavy = [i for i in around if elements[i] != "H"]
        if not _may_be_center(centre, heavy, around, elements, kinds):
            continue
        quartet = [centre, *heavy[:3]]
        value = triple_product(positions[quartet])
        if abs(value) > _PLANAR:
            centers.append(quartet)
            signs.append(np.sign(value))
    return np.array(centers, dtype=int).reshape(-1, 4), np.array(signs, dtype=float)


def double_bonds(
    residue_names: Sequence[str], residue_atoms: Sequence[dict[str, int]], elements: Sequence[str], bonds
) -> tuple[np.ndarray, np.ndarray]:
    """Bonds that must keep their configuration: peptides trans, the guanidinium name NH1 cis, lipid C=C cis.

    Returns:
        Quartets (double_bonds, 4) and dihedral angles (double_bonds,) in radians. The peptide quartets (CA, C, N, CA)
        come first, in chain order.
    """
    bonded = {tuple(sorted(pair)) for pair in np.asarray(bonds).tolist()}
    quartets, angles = [], []
    for left, right in pairwise(residue_atoms):
        if "C" in left and "N" in right and tuple(sorted((left["C"], right["N"]))) in bonded:
            before, after = left.get("CA", left.get("CH3")), right.get("CA", right.get("CH3", right.get("C")))
            if before is not None and after is not None:
                quartets.append((before, left["C"], right["N"], after))
                angles.append(np.pi)
    for name, atoms in zip(residue_names, residue_atoms):
        for *quartet, angle in _NAMED_QUARTETS.get(name, ()):
            if all(atom in atoms for atom in quartet):
                quartets.append(tuple(atoms[atom] for atom in quartet))
                angles.append(angle)
    neighbors = _neighbors(len(elements), bonds)
    lipid = {i for name, atoms in zip(residue_names, residue_atoms) if name in _LIPID_CENTERS for i in atoms.values()}
    for b in sorted(lipid):
        for c in neighbors[b]:
            if c > b and all(elements[i] == "C" and len(neighbors[i]) == 3 for i in (b, c)):
                a = [i for i in neighbors[b] if i != c and elements[i] == "C"]
                d = [i for i in neighbors[c] if i != b and elements[i] == "C"]
                if len(a) == len(d) == 1:
                    quartets.append((a[0], b, c, d[0]))
                    angles.append(0.0)
    return np.array(quartets, dtype=int).reshape(-1, 4), np.array(angles, dtype=float)


#: sn-glycero-3-phospholipids are not components; their C2 is R: priorities O21 > C1 (bears O–P) > C3 > H.
_LIPID_CENTERS: dict[str, tuple[tuple[str, str, str, str, float], ...]] = dict.fromkeys(
    (head + kind for head in ("DL", "DM", "DP", "DS", "DO", "PO", "SD") for kind in ("PC", "PE", "PS", "PA", "PG")),
    # Seen with the lowest priority (H) away, R runs clockwise: O21, C1, C3 have a negative triple product.
    (("C2", "O21", "C1", "C3", -1.0),),
)


@cache
def _stored_centers() -> dict[str, tuple[tuple[str, str, str, str, float], ...]]:
    # Opening the whole dictionary takes seconds; the amino acids are kept (a test compares them with it).
    text = (files("jaxcg.data") / "amino_acid_stereo.json").read_text()
    return {name: tuple((*quartet, sign) for *quartet, sign in centers) for name, centers in json.loads(text).items()}


@cache
def _component(name: str):
    """Names, elements, ideal positions (Å) and bonds of a component, or None."""
    from biotite.structure import info

    try:
        component: Any = info.residue(name)
    except KeyError:
        return None
    bonds = component.bonds.as_array()[:, :2]
    elements = [str(e).upper() for e in component.element]
    return [str(n) for n in component.atom_name], elements, np.asarray(component.coord, dtype=float), bonds


def _may_be_center(centre, heavy, around, elements, kinds) -> bool:
    """At least three heavy neighbours, four in all, and no three neighbours of one kind."""
    if elements[centre] == "H" or len(heavy) < 3 or len(around) != 4:
        return False
    counts = np.unique([kinds[i] for i in around], return_counts=True)[1]
    return counts.max() < 3 and (counts == 2).sum() < 2


def _neighbors(n: int, bonds) -> list[list[int]]:
    table: list[list[int]] = [[] for _ in range(n)]
    for a, b in np.asarray(bonds, dtype=int).reshape(-1, 2):
        table[a].append(int(b))
        table[b].append(int(a))
    return table


def _kinds(elements: Sequence[str], neighbors: list[list[int]]) -> list[int]:
    """Classes of atoms that the bond graph cannot tell apart (Morgan refinement)."""
    labels = {e: i for i, e in enumerate(sorted(set(elements)))}
    kinds = [labels[e] for e in elements]
    count = len(set(kinds))
    while True:
        signature = [(kinds[i], tuple(sorted(kinds[j] for j in around))) for i, around in enumerate(neighbors)]
        order = {s: i for i, s in enumerate(sorted(set(signature)))}
        kinds = [order[s] for s in signature]
        if len(order) == count:
            return kinds
        count = len(order)

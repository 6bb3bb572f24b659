"""Which atoms are bonded, where the file does not say: residue templates, the component dictionary, distances."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..mapping.formats.names import standard_atom, standard_residue

#: Covalent radii, nm (Cordero et al., Dalton Trans. 2008, 2832).
COVALENT_RADII = {
    "H": 0.031, "D": 0.031, "LI": 0.128, "B": 0.084, "C": 0.076, "N": 0.071, "O": 0.066, "F": 0.057, "NA": 0.166,
    "MG": 0.141, "AL": 0.121, "SI": 0.111, "P": 0.107, "S": 0.105, "CL": 0.102, "K": 0.203, "CA": 0.176, "TI": 0.160,
    "CR": 0.139, "MN": 0.139, "FE": 0.132, "CO": 0.126, "NI": 0.124, "CU": 0.132, "ZN": 0.122, "SE": 0.120,
    "BR": 0.120, "MO": 0.154, "RU": 0.146, "PD": 0.139, "AG": 0.145, "CD": 0.144, "SN": 0.139, "I": 0.139,
    "PT": 0.136, "AU": 0.136, "HG": 0.132,
}  # fmt: skip
#: How much longer than the sum of the radii a bond may be, and how short at least; nm.
_TOLERANCE, _SHORTEST = 0.04, 0.04
#: Longest bond between two residues and longest disulfide, nm.
_LINK, _DISULFIDE = 0.2, 0.25
#: Residue names of water: OpenMM's template knows the others by its own aliases.
_WATERS = frozenset(
    ["HOH", "WAT", "SOL", "TIP3", "TIP4", "TIP5", "TP3", "T3P", "T4P", "SPC", "SPCE", "TIP", "H2O", "DOD"]
)


def guess_bonds(
    names: Sequence[str],
    elements: Sequence[str],
    residue: np.ndarray,
    residue_names: Sequence[str],
    chain_ids: Sequence[str],
    positions: np.ndarray | None,
    box: np.ndarray | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Bonds of a system, right also where the box cuts a molecule.

    Amino acids, nucleotides and water follow OpenMM's templates, other residues the chemical component dictionary
    where all their atom names are in it, and the rest their distances (sum of the covalent radii + 0.04 nm).
    Residues are joined where a template says so and the two atoms are within 0.2 nm; those without a template are
    joined to others by distance.

    Arguments:
        names, elements: (atoms,).
        residue: (atoms,) index of the residue of each atom, ascending.
        residue_names, chain_ids: (residues,).
        positions: (atoms, 3) nm, or None: then only templates are used.
        box: (3, 3) nm, or None.

    Returns:
        (bonds, 2) pairs of atoms, ascending; and the names of the residues whose inner bonds come from distances.
    """
    residue = np.asarray(residue)
    first = np.searchsorted(residue, np.arange(len(residue_names) + 1))
    found: list[np.ndarray] = []
    links: list[tuple[int, int]] = []
    kinds: dict[tuple, _Residue] = {}
    starts: dict[tuple, list[int]] = {}
    members: list[tuple] = []
    for number, name in enumerate(residue_names):
        begin, end = int(first[number]), int(first[number + 1])
        key = (name, *names[begin:end])
        members.append(key)
        if key not in kinds:
            kinds[key] = _residue_bonds(name, names[begin:end], elements[begin:end])
        starts.setdefault(key, []).append(begin)
    for key, begins in starts.items():
        inside = kinds[key].bonds
        if len(inside):
            found.append((np.asarray(begins)[:, None, None] + inside[None]).reshape(-1, 2))
    for number in range(1, len(residue_names)):
        here = kinds[members[number]]
        for there_name, here_name in here.links:
            before = kinds[members[number - 1]].number
            if here_name in here.number and there_name in before and chain_ids[number] == chain_ids[number - 1]:
                links.append((int(first[number - 1]) + before[there_name], int(first[number]) + here.number[here_name]))
    if links:
        pairs = np.array(links)
        found.append(pairs if positions is None else pairs[_lengths(positions, pairs, box) < _LINK])
    guessed: tuple[str, ...] = ()
    if positions is not None:
        found.append(_disulfides(names, residue, residue_names, positions, box))
        inner = np.array([kinds[key].known == "nothing" for key in members])
        outer = np.array([kinds[key].known != "template" for key in members])
        if outer.any():
            found.append(_near_bonds(elements, residue, residue_names, inner, outer, positions, box))
            guessed = tuple(sorted({name for name, guess in zip(residue_names, inner) if guess}))
    return unique_bonds(np.concatenate([*found, np.zeros((0, 2), dtype=int)])), guessed


def unique_bonds(bonds) -> np.ndarray:
    """Bonds (n, 2) with the lower atom first, sorted, each once."""
    bonds = np.sort(np.asarray(bonds, dtype=np.int64).reshape(-1, 2), axis=1)
    return np.unique(bonds[bonds[:, 0] != bonds[:, 1]], axis=0)


def molecules(bonds: np.ndarray, n_atoms: int) -> np.ndarray:
    """(atoms,) index of the molecule of each atom: connected by bonds, numbered in the order of their first atoms."""
    graph = coo_array((np.ones(len(bonds), dtype=np.int8), (bonds[:, 0], bonds[:, 1])), shape=(n_atoms, n_atoms))
    _, label = connected_components(graph, directed=False)
    _, first, label = np.unique(label, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[label]


@dataclass(frozen=True)
class _Residue:
    """A kind of residue.

    Arguments:
        known: where its bonds come from: ``"template"``, ``"dictionary"`` or ``"nothing"``.
        bonds: (bonds, 2) pairs of its atoms, counted from its first.
        number: standard atom name → number of the atom.
        links: (atom of the residue before, own atom) of bonds to the residue before.
    """

    known: str
    bonds: np.ndarray
    number: dict[str, int] = field(default_factory=dict)
    links: tuple[tuple[str, str], ...] = ()


def _residue_bonds(name: str, names: Sequence[str], elements: Sequence[str]) -> _Residue:
    """What is known of a residue by its name and the names of its atoms."""
    if len(names) == 1 and _template_name(name) not in _templates():
        return _Residue("template", np.zeros((0, 2), dtype=int))  # an ion
    if name.upper() in _WATERS:
        oxygen = [i for i, element in enumerate(elements) if element == "O"]
        if len(oxygen) == 1:
            # Hydrogens, and the extra sites of four- and five-site models.
            inside = [(oxygen[0], i) for i in range(len(names)) if i != oxygen[0]]
            return _Residue("template", np.array(inside, dtype=int).reshape(-1, 2))
    standard = _template_name(name)
    template = _templates().get(standard)
    if template is not None:
        number: dict[str, int] = {}
        for i, atom in enumerate(names):
            number.setdefault(standard_atom(standard, atom), i)
        inside = [(number[a], number[b]) for a, b in template if a in number and b in number]
        links = tuple((a[1:], b) for a, b in template if a.startswith("-"))
        bonded = {i for pair in inside for i in pair}
        complete = len(bonded) == len(names) or len(names) == 1
        known = "template" if complete else "nothing"
        return _Residue(known, np.array(inside, dtype=int).reshape(-1, 2), number, links)
    inside = _dictionary_bonds(name, tuple(names))
    return _Residue("dictionary" if len(inside) else "nothing", inside)


def has_template(residue_name: str) -> bool:
    """Whether a residue is an amino acid, a nucleotide, a cap or water, by any of the names in use."""
    return residue_name.upper() in _WATERS or _template_name(residue_name) in _templates()


@cache
def _template_name(name: str) -> str:
    from openmm.app import PDBFile

    standard, _ = standard_residue(name)
    if standard in _templates():
        return standard
    standard_atom("ALA", "CA")  # OpenMM's tables are loaded
    aliases = PDBFile._residueNameReplacements
    # Chain ends of Amber: NALA, CALA.
    for candidate in (standard, standard[1:] if len(standard) == 4 and standard[0] in "NC" else standard):
        alias = aliases.get(candidate) or standard_residue(candidate)[0]
        if alias in _templates():
            return alias
    return standard


@cache
def _templates() -> dict[str, list[tuple[str, str]]]:
    """OpenMM's standard bonds: residue → pairs of atom names, ``-`` marking the residue before."""
    import xml.etree.ElementTree as ElementTree

    import openmm.app

    tree = ElementTree.parse(Path(openmm.app.__file__).parent / "data" / "residues.xml")
    found = {}
    for node in tree.getroot():
        pairs = [(bond.attrib["from"], bond.attrib["to"]) for bond in node.findall("Bond")]
        found[node.attrib["name"]] = [(a, b) if not b.startswith("-") else (b, a) for a, b in pairs]
    return found


@cache
def _dictionary_bonds(name: str, names: tuple[str, ...]) -> np.ndarray:
    """Bonds of a component whose dictionary entry has all of ``names``; none otherwise."""
    nothing = np.zeros((0, 2), dtype=int)
    if len(name) > 3 or len(set(names)) != len(names):
        return nothing  # longer names are those of force fields
    import biotite.structure.info as info

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # entries without ideal coordinates
        try:
            component: Any = info.residue(name.upper())
        except (KeyError, ValueError):
            return nothing
    place = {atom: i for i, atom in enumerate(names)}
    if not set(names) <= set(component.atom_name.tolist()):
        return nothing
    listed = component.atom_name[component.bonds.as_array()[:, :2]]
    return np.array([(place[a], place[b]) for a, b in listed.tolist() if a in place and b in place]).reshape(-1, 2)


def _disulfides(names, residue, residue_names, positions, box) -> np.ndarray:
    """Pairs of sulfurs of cysteines within bonding distance, of those that have no hydrogen."""
    cysteine = {r for r, name in enumerate(residue_names) if standard_residue(name)[0] == "CYS"}
    sulfur = [i for i in np.flatnonzero(np.isin(residue, list(cysteine))) if names[i] in ("SG", "HG", "HG1")]
    protonated = {residue[i] for i in sulfur if names[i] != "SG"}
    sulfur = np.array([i for i in sulfur if residue[i] not in protonated], dtype=int)
    pairs = _close_pairs(positions[sulfur], _DISULFIDE, box)
    return sulfur[pairs]


def _near_bonds(elements, residue, residue_names, inner, outer, positions, box) -> np.ndarray:
    """Bonds by distance: within the residues ``inner`` (residues,) and between the residues ``outer`` and any other."""
    count = np.bincount(residue, minlength=len(residue_names))
    water = np.array([name.upper() in _WATERS for name in residue_names])
    candidate = np.flatnonzero((~water & (count > 1))[residue])
    radii = np.array([COVALENT_RADII.get(elements[i].upper(), 0.0) for i in candidate])
    pairs = _close_pairs(positions[candidate], 2 * radii.max(initial=0.0) + _TOLERANCE, box)
    one, other = residue[candidate][pairs].T
    wanted = np.where(one == other, inner[one], outer[one] | outer[other])
    pairs = pairs[wanted & (radii[pairs] > 0).all(axis=1)]
    length = _lengths(positions[candidate], pairs, box)
    keep = (length < radii[pairs].sum(axis=1) + _TOLERANCE) & (length > _SHORTEST)
    pairs, length = pairs[keep], length[keep]
    # A hydrogen has one bond, the shortest to another element; crowded hydrogens otherwise bond each other.
    hydrogen = np.array([elements[i].upper() in ("H", "D") for i in candidate], dtype=bool)[pairs]
    pairs, length, hydrogen = (a[~hydrogen.all(axis=1)] for a in (pairs, length, hydrogen))
    order = np.argsort(length, kind="stable")
    pairs, hydrogen = pairs[order], hydrogen[order]
    with_hydrogen = hydrogen.any(axis=1)
    atom = np.where(hydrogen[:, 0], pairs[:, 0], pairs[:, 1])[with_hydrogen]
    _, shortest = np.unique(atom, return_index=True)
    return candidate[np.concatenate([pairs[~with_hydrogen], pairs[with_hydrogen][shortest]])]


def _close_pairs(positions, distance: float, box) -> np.ndarray:
    """(pairs, 2) points within ``distance``, across the box too."""
    if len(positions) < 2:
        return np.zeros((0, 2), dtype=int)
    from MDAnalysis.lib.distances import self_capped_distance
    from MDAnalysis.lib.mdamath import triclinic_box

    dimensions = None if box is None else triclinic_box(*(np.asarray(box) * 10.0))
    points = np.asarray(positions, dtype=np.float32) * 10.0
    pairs = self_capped_distance(points, distance * 10.0, box=dimensions, return_distances=False)
    return np.asarray(pairs, dtype=int).reshape(-1, 2)


def _lengths(positions, pairs, box) -> np.ndarray:
    from .whole import nearest_image

    displacement = np.asarray(positions, dtype=np.float64)[pairs[:, 1]] - np.asarray(positions)[pairs[:, 0]]
    if box is not None:
        displacement = nearest_image(displacement, np.asarray(box))
    return np.linalg.norm(displacement, axis=1)

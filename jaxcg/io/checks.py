"""Checks of a coarse-grained structure before anything is built on it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.spatial import KDTree

from ..errors import InputError
from ..mapping.formats import load_scheme
from ..mapping.formats.names import AMINO_ACIDS, standard_residue
from ..mapping.formats.rules import MappingScheme, check_beads
from .beads import Beads
from .residues import BeadResidue
from .whole import is_joined

#: Successive backbone beads further apart than this (nm) are a chain break; 0.42 is the most seen in simulations.
CHAIN_BREAK = 0.5
#: Beads closer than this (nm) are on one spot: the closest seen in simulations is 0.21.
SAME_SPOT = 0.05
#: A bead further than this (nm) from its residue's first bead does not belong there; 0.9 is the most seen (Trp).
RESIDUE_SPAN = 1.5
#: Disulfide-bonded side-chain beads are 0.23–0.25 nm apart, the next nearest cysteines 0.45 and more.
DISULFIDE = 0.32


def backbone_bead(beads: Beads, residue: BeadResidue) -> int:
    """The bead that stands for the backbone of a residue: BB (or CA), else its first."""
    for name in ("BB", "CA"):
        for bead in residue.beads:
            if beads.names[bead] == name:
                return bead
    return residue.beads[0]


def check_names(beads: Beads, scheme: MappingScheme) -> None:
    """Raises `InputError` for a residue the mapping does not know or beads that are not those of its rule."""
    try:
        _check_names(beads, scheme)
    except InputError as error:
        if {"N", "CA", "C", "O"} <= set(beads.names):
            raise InputError(f"{error} These are atoms, not beads: give them as the reference.") from None
        for name in ("martini3", "martini2", "calpha"):
            other = load_scheme(name)
            if other.name != scheme.name and _fits(beads, other):
                raise InputError(f"{error} All beads fit mapping {name}: is it meant?") from None
        raise


def _fits(beads: Beads, scheme: MappingScheme) -> bool:
    try:
        _check_names(beads, scheme)
    except InputError:
        return False
    return True


def _check_names(beads: Beads, scheme: MappingScheme) -> None:
    if scheme.one_bead:
        for residue in beads.residues:
            if len(residue.beads) > 1:
                raise InputError(
                    f"{beads.path}: {residue.label}: mapping {scheme.name} has one bead for each residue, the input "
                    f"has {' '.join(beads.names[b] for b in residue.beads)}; choose another mapping."
                )
        return
    for residue in beads.residues:
        standard, _ = standard_residue(residue.name)
        rule = scheme.rules.get(standard)
        if rule is None:
            raise InputError(
                f"{beads.path}: {residue.label}: mapping {scheme.name} does not know residue {residue.name}; "
                "rename it, remove it, or give a mapping file that has it."
            )
        check_beads(rule, [beads.names[b] for b in residue.beads], f"{beads.path}: {residue.label}")


def check_geometry(beads: Beads) -> None:
    """Raises `InputError` for beads on one spot, residues torn apart and chain breaks."""
    positions = beads.positions
    labels = beads.labels
    pairs = KDTree(positions).query_pairs(SAME_SPOT, output_type="ndarray")
    if len(pairs):
        a, b = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))[0]]
        distance = np.linalg.norm(positions[a] - positions[b])
        lengths = _successive(beads)
        hint = "remove one of them"
        if len(lengths) and np.median(lengths) < 0.1:
            hint = "the coordinates seem to be in nm where Å are expected: multiply them by 10"
        raise InputError(f"{beads.path}: beads {labels[a]} and {labels[b]} are {distance:.3f} nm apart; {hint}.")
    lengths = _successive(beads)
    if len(lengths) > 3 and np.median(lengths) > 2.0:
        raise InputError(
            f"{beads.path}: successive residues are {np.median(lengths):.1f} nm apart; "
            "the coordinates seem to be in the wrong unit (PDB holds Å, GRO holds nm)."
        )
    for left, right in _joined_pairs(beads):
        a, b = backbone_bead(beads, left), backbone_bead(beads, right)
        distance = np.linalg.norm(positions[a] - positions[b])
        if distance > CHAIN_BREAK:
            raise InputError(
                f"{beads.path}: chain break between {left.label} and {right.label}: beads {beads.names[a]} are "
                f"{distance:.2f} nm apart (at most {CHAIN_BREAK}); add the missing residues, or put a TER record or a "
                "new chain label there (if a periodic box cut the molecule, give the box or make it whole)."
            )
    for residue in beads.residues:
        if standard_residue(residue.name)[0] not in AMINO_ACIDS:
            continue
        first = residue.beads[0]
        for bead in residue.beads[1:]:
            distance = np.linalg.norm(positions[bead] - positions[first])
            if distance > RESIDUE_SPAN:
                raise InputError(
                    f"{beads.path}: bead {labels[bead]} is {distance:.2f} nm from {beads.names[first]} of the same "
                    "residue; make the molecule whole across the periodic box, or repair the bead."
                )


def find_disulfides(beads: Beads) -> list[tuple[int, int, float]]:
    """Disulfides from the side-chain beads of cysteines: mutually nearest and at most 0.32 nm apart.

    Returns:
        (residue, residue, distance in nm) for each; empty when the mapping has no side-chain bead.
    """
    sulfurs = [
        (number, bead)
        for number, residue in enumerate(beads.residues)
        if standard_residue(residue.name)[0] == "CYS"
        for bead in residue.beads
        if beads.names[bead] in ("SC1", "SID", "SC")
    ]
    if len(sulfurs) < 2:
        return []
    positions = beads.positions[[bead for _, bead in sulfurs]]
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    nearest = distances.argmin(axis=1)
    return [
        (sulfurs[i][0], sulfurs[j][0], float(distances[i, j]))
        for i, j in enumerate(nearest)
        if i < j and nearest[j] == i and distances[i, j] <= DISULFIDE
    ]


def _joined_pairs(beads: Beads):
    for left, right in pairwise(beads.residues):
        if is_joined(left, right):
            yield left, right


def _successive(beads: Beads) -> np.ndarray:
    pairs = [(backbone_bead(beads, a), backbone_bead(beads, b)) for a, b in _joined_pairs(beads)]
    if not pairs:
        return np.zeros(0)
    index = np.array(pairs)
    return np.linalg.norm(beads.positions[index[:, 0]] - beads.positions[index[:, 1]], axis=1)

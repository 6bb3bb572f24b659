"""What is compared of two ensembles of beads: pairs of kinds, and bonds, angles and dihedrals by the names of beads."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np

from ...errors import InputError
from .ensembles import BeadTable

BondedKind = Literal["bond", "angle", "dihedral"]
#: Most pairs of kinds, and most groups of bonds, of angles and of dihedrals that are compared unless asked for.
MOST_PAIRS, MOST_GROUPS = 10, 8


@dataclass(frozen=True)
class BondedGroup:
    """Bonds, angles or dihedrals between beads of the same names.

    Arguments:
        kind: which of these.
        name: the names of the beads, e.g. ``"BB–SC1"``.
        beads: (terms, 2, 3 or 4) indices.
    """

    kind: BondedKind
    name: str
    beads: np.ndarray

    @property
    def title(self) -> str:
        """How reports call it, e.g. ``"bond BB–SC1"``."""
        return f"{self.kind} {self.name}"


def chosen_pairs(beads: BeadTable, wanted: str | None) -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of kinds whose g(r) is compared, and notes.

    Arguments:
        beads: of the ensembles.
        wanted: ``"A-B,C-C"``, or None for the most numerous ones.

    Raises:
        InputError: a pair names a kind that no bead has.
    """
    kinds = Counter(beads.kinds)
    every = list(combinations_with_replacement(sorted(kinds), 2))
    if wanted is not None:
        found = []
        for word in (part.strip() for part in wanted.split(",")):
            pair = next((p for p in every if word in ("-".join(p), "-".join(p[::-1]))), None)
            if pair is None:
                raise InputError(
                    f"--pairs {wanted}: '{word}' is no pair of kinds of beads; there are "
                    f"{', '.join(sorted(kinds)[:8])}, e.g. {'-'.join(every[0])}."
                )
            if pair not in found:
                found.append(pair)
        return found, []
    every = [pair for pair in every if _between(beads, *pair)]
    every.sort(key=lambda pair: (-kinds[pair[0]] * kinds[pair[1]], pair))
    left = len(every) - MOST_PAIRS
    notes = [f"g(r) of the {MOST_PAIRS} most numerous pairs of kinds; {left} more with --pairs"] if left > 0 else []
    return sorted(every[:MOST_PAIRS]), notes


def _between(beads: BeadTable, a: str, b: str) -> bool:
    """Whether there are two beads of these kinds in different molecules."""
    kinds = np.array(beads.kinds)
    first, second = (beads.molecule[kinds == kind] for kind in (a, b))
    return len(np.unique(np.concatenate([first, second]))) > 1


def bonded_groups(beads: BeadTable) -> tuple[list[BondedGroup], list[str]]:
    """Bonds, and the angles and dihedrals along them, the most numerous of each kind, and notes."""
    bonds = np.asarray(beads.bonds, dtype=int).reshape(-1, 2)
    if not len(bonds):
        return [], []
    found, notes = [], []
    angles = _angles(bonds)
    terms: tuple[tuple[BondedKind, np.ndarray], ...] = (
        ("bond", bonds),
        ("angle", angles),
        ("dihedral", _dihedrals(bonds)),
    )
    for kind, rows in terms:
        groups: dict[tuple[str, ...], list[np.ndarray]] = {}
        for row in rows:
            names = tuple(beads.names[i] for i in row)
            groups.setdefault(min(names, names[::-1]), []).append(row)
        ordered = sorted(groups, key=lambda names: (-len(groups[names]), names))
        if len(ordered) > MOST_GROUPS:
            notes.append(f"{kind}s: the {MOST_GROUPS} most numerous of {len(ordered)} kinds are compared")
        found += [BondedGroup(kind, "–".join(n), np.array(groups[n])) for n in sorted(ordered[:MOST_GROUPS])]
    return found, notes


def _neighbours(bonds: np.ndarray) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for a, b in bonds.tolist():
        found.setdefault(a, []).append(b)
        found.setdefault(b, []).append(a)
    return {bead: sorted(others) for bead, others in found.items()}


def _angles(bonds: np.ndarray) -> np.ndarray:
    rows = [
        (others[i], middle, others[j])
        for middle, others in _neighbours(bonds).items()
        for i in range(len(others))
        for j in range(i + 1, len(others))
    ]
    return np.array(rows, dtype=int).reshape(-1, 3)


def _dihedrals(bonds: np.ndarray) -> np.ndarray:
    near = _neighbours(bonds)
    rows = [
        (first, a, b, last)
        for a, b in bonds.tolist()
        for first in near[a]
        for last in near[b]
        if first != b and last != a and first != last
    ]
    return np.array(rows, dtype=int).reshape(-1, 4)

"""The torsions of a molecule by name: backbone, side chains, and rotatable bonds of anything that is no protein."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy._geometry import corners, dihedral_angle
from ...system import System
from ...typing import Array, AtomVectors

#: Wells a torsion may be in: where each begins in degrees, ascending, and their names. The last one goes round −180°.
WELLS: dict[str, tuple[tuple[float, ...], tuple[str, ...]]] = {
    # Between tetrahedral atoms.
    "threefold": ((-120.0, 0.0, 120.0), ("gauche−", "gauche+", "trans")),
    # From a tetrahedral atom to an open planar group.
    "planar": ((-90.0, 90.0), ("cis", "trans")),
    # About a double or partial double bond, which does not turn in any simulation.
    "conjugated": ((-90.0, 90.0), ("cis", "trans")),
    # Rings seen from a tetrahedral atom (90° and −90°), puckers, disulfides.
    "sided": ((-180.0, 0.0), ("minus", "plus")),
    # A carboxylate, whose oxygens are alike: angles that differ by 180° are the same. Of twice the angle.
    "twofold": ((-90.0, 90.0), ("in plane", "across")),
    "phi": ((0.0, 120.0), ("positive", "negative")),
    "psi": ((-120.0, 60.0), ("helical", "extended")),
}
#: Names of atoms along a side chain; the first that a residue has is taken at each place.
_SIDE_CHAIN = (
    ("N",),
    ("CA",),
    ("CB",),
    ("CG", "CG1", "SG", "OG", "OG1"),
    ("CD", "CD1", "SD", "OD1", "ND1"),
    ("CE", "NE", "OE1"),
    ("CZ", "NZ"),
    ("NH1",),
)
#: Bonds in a ring of at most so many atoms do not rotate.
_LARGEST_RING = 8
#: Configurations evaluated at once.
_CHUNK = 256


class Torsions(eqx.Module):
    """Named torsions of a molecule; called with positions (atoms, 3) it gives their angles, on device.

    Arguments:
        names: what each is called in messages, e.g. ``"chi1 of LYS 33"``.
        kinds: of each, e.g. ``"chi1"``.
        wells: of each, a key of `WELLS`.
        atoms: (torsions, 4) atom indices.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    kinds: tuple[str, ...] = eqx.field(static=True)
    wells: tuple[str, ...] = eqx.field(static=True)
    atoms: np.ndarray

    def __init__(self, names: Sequence[str], kinds: Sequence[str], wells: Sequence[str], atoms):
        self.names, self.kinds, self.wells = tuple(names), tuple(kinds), tuple(wells)
        self.atoms = np.asarray(atoms, dtype=np.int32).reshape(-1, 4)
        if not len(self.names) == len(self.kinds) == len(self.wells) == len(self.atoms):
            raise ValueError("Torsions: names, kinds, wells and atoms must have one entry for each torsion.")
        unknown = set(self.wells) - WELLS.keys()
        if unknown:
            raise ValueError(f"Torsions: wells {sorted(unknown)} are not known; take one of {sorted(WELLS)}.")

    def __len__(self) -> int:
        return len(self.names)

    def __call__(self, x: AtomVectors) -> Array:
        """(torsions,) radians in (−π, π], IUPAC sign (trans is π), of positions (atoms, 3)."""
        return dihedral_angle(*corners(x, jnp.asarray(self.atoms)))[0]

    def observed(self, state: Any) -> Array:
        """Angles of the ``position`` (..., atoms, 3) of a sampler's state: an ``observe`` of `jaxcg.run.run`.

        Angles alone are kept then, (..., torsions) a draw, where all positions would not fit into memory.
        """
        one = self.__call__
        for _ in range(state.position.ndim - 2):
            one = jax.vmap(one)
        return one(state.position)

    def along(self, positions: np.ndarray) -> np.ndarray:
        """(..., torsions) angles in radians of many configurations (..., atoms, 3), a bounded number at a time."""
        positions = np.asarray(positions)
        flat = positions.reshape(-1, *positions.shape[-2:])
        parts = [np.zeros((0, len(self)), flat.dtype)]
        for start in range(0, len(flat), _CHUNK):
            part = flat[start : start + _CHUNK]
            # One shape for all chunks but the only one: nothing is compiled for the last.
            padded = part if len(flat) <= _CHUNK else np.concatenate([part, flat[: _CHUNK - len(part)]])
            parts.append(np.asarray(_angles(self, padded))[: len(part)])
        return np.concatenate(parts).reshape(*positions.shape[:-2], len(self))

    def only(self, *kinds: str) -> Self:
        """Those of the given kinds, e.g. ``only("chi1", "chi2")``."""
        return self.subset([i for i, kind in enumerate(self.kinds) if kind in kinds])

    def subset(self, which: Sequence[int] | np.ndarray) -> Self:
        """Those with the given numbers."""
        names, kinds, wells = ([column[i] for i in which] for column in (self.names, self.kinds, self.wells))
        return type(self)(names, kinds, wells, self.atoms[np.asarray(which, dtype=int)])

    @classmethod
    def of_atoms(cls, system: System, atoms, names: Sequence[str] | None = None) -> Self:
        """Torsions of one's own choice.

        Arguments:
            system: the molecule.
            atoms: (torsions, 4) atom indices.
            names: of them; by default the names of the atoms.

        Raises:
            ValueError: an atom is not in the molecule or is named twice in one torsion.
        """
        atoms = np.asarray(atoms, dtype=np.int32).reshape(-1, 4)
        if atoms.size and (atoms.min() < 0 or atoms.max() >= system.n_atoms):
            raise ValueError(f"Torsions: atom indices must be between 0 and {system.n_atoms - 1}.")
        if any(len(set(quartet)) < 4 for quartet in atoms.tolist()):
            raise ValueError("Torsions: a torsion has four different atoms.")
        bonds = _Bonds(system)
        if names is None:
            names = [f"{'-'.join(system.atom_names[a] for a in q)} of {_residue(system, q[1])}" for q in atoms.tolist()]
        wells = [bonds.wells(*quartet) for quartet in atoms.tolist()]
        return cls(names, ["torsion"] * len(atoms), wells, atoms)


def find_torsions(system: System, *, hydrogens: bool = False) -> Torsions:
    """Torsions of a molecule: phi, psi, omega and chi1 to chi5 of amino acids, rotatable bonds of everything else.

    Residues are found through bonds and atom names, so caps, chain breaks and protonation states need no names of
    their own. A rotatable bond is one outside small rings with atoms to turn at both ends; it has one torsion.

    Arguments:
        system: the molecule, with hydrogens (they tell tetrahedral from planar atoms).
        hydrogens: also rotors that move hydrogen atoms alone (methyl, hydroxyl, ammonium groups).

    Returns:
        The `Torsions`, residue by residue.
    """
    bonds = _Bonds(system)
    found: list[tuple[int, str, str, tuple[int, ...]]] = []
    for residue, atoms in enumerate(system.residue_atoms()):
        if {"N", "CA", "C"} <= atoms.keys():
            rows = [*_backbone(system, bonds, atoms), *_side_chain(bonds, atoms)]
            found += [(residue, kind, wells, quartet) for kind, wells, quartet in rows]
    named = {frozenset(quartet[1:3]) for *_, quartet in found}
    found += [row for row in _rotatable(system, bonds, hydrogens) if frozenset(row[3][1:3]) not in named]
    found.sort(key=lambda row: row[0])
    names = [f"{kind} of {_residue(system, quartet[1])}" for _, kind, _, quartet in found]
    kinds = ["torsion" if "-" in kind else kind for _, kind, _, _ in found]
    return Torsions(names, kinds, [row[2] for row in found], [row[3] for row in found])


@eqx.filter_jit
def _angles(torsions, positions):
    return jax.vmap(torsions)(positions)


def _residue(system: System, atom: int) -> str:
    residue = int(system.atom_residue[atom])
    if len(set(system.chain_ids)) > 1:
        return system.residue_label(residue)
    return f"{system.residue_names[residue]} {system.residue_ids[residue]}"


class _Bonds:
    """The bond graph, and what it tells of bonds."""

    def __init__(self, system: System):
        self.elements = system.elements
        self.neighbors: list[list[int]] = [[] for _ in range(system.n_atoms)]
        for i, j in system.bonds.tolist():
            self.neighbors[i].append(j)
            self.neighbors[j].append(i)

    def joined(self, *path: int) -> bool:
        """True when consecutive atoms are bonded."""
        return all(b in self.neighbors[a] for a, b in pairwise(path))

    def planar(self, atom: int) -> bool:
        """sp2: a carbon with three neighbours, a nitrogen beside one."""

        def carbon(a):
            return self.elements[a] == "C" and len(self.neighbors[a]) <= 3

        if self.elements[atom] == "N":
            return len(self.neighbors[atom]) <= 3 and any(carbon(a) for a in self.neighbors[atom])
        return carbon(atom)

    def carboxylate(self, atom: int) -> bool:
        """A carbon with two oxygens that have no other neighbour."""
        oxygens = [n for n in self.neighbors[atom] if self.elements[n] == "O" and len(self.neighbors[n]) == 1]
        return self.elements[atom] == "C" and len(oxygens) == 2

    def in_ring(self, i: int, j: int) -> bool:
        """True when the bond i-j is part of a small ring."""
        reached, edge = {i}, {i}
        for _ in range(_LARGEST_RING - 1):
            edge = {n for a in edge for n in self.neighbors[a] if n not in reached and {a, n} != {i, j}}
            if j in edge:
                return True
            reached |= edge
        return False

    def wells(self, a: int, b: int, c: int, d: int) -> str:
        """The kind of wells of a torsion about the bond b-c; see `WELLS`."""
        del a, d
        planar = [self.planar(b), self.planar(c)]
        if planar[0] != planar[1] and (self.carboxylate(b) or self.carboxylate(c)):
            return "twofold"
        if {self.elements[b], self.elements[c]} == {"S"} or self.in_ring(b, c):
            return "sided"
        if all(planar):
            return "conjugated"
        if not any(planar):
            return "threefold"
        flat, other = (b, c) if planar[0] else (c, b)
        rotor = sum(self.elements[n] == "H" for n in self.neighbors[other]) == 3
        if rotor or self.elements[flat] == "N":
            return "threefold"
        ring = any(self.in_ring(flat, n) for n in self.neighbors[flat])
        return "sided" if ring else "planar"


def _backbone(system: System, bonds: _Bonds, atoms: dict[str, int]):
    n, ca, c = atoms["N"], atoms["CA"], atoms["C"]
    if not bonds.joined(n, ca, c):
        return
    before = _linked(system, bonds, n, "C")
    after = _linked(system, bonds, c, "N")
    if before is not None:
        yield "phi", "phi", (before, n, ca, c)
    if after is not None:
        yield "psi", "psi", (n, ca, c, after)
        nexts = [a for a in bonds.neighbors[after] if a != c and system.elements[a] == "C"]
        named = [a for a in nexts if system.atom_names[a] in ("CA", "C", "CH3")]
        if nexts:
            yield "omega", "conjugated", (ca, c, after, (named or nexts)[0])


def _linked(system: System, bonds: _Bonds, atom: int, element: str) -> int | None:
    """The atom of another residue that ``atom`` is bonded to."""
    residue = system.atom_residue
    others = [a for a in bonds.neighbors[atom] if residue[a] != residue[atom] and system.elements[a] == element]
    return others[0] if others else None


def _side_chain(bonds: _Bonds, atoms: dict[str, int]):
    path: list[int] = []
    for names in _SIDE_CHAIN:
        # A side chain may fork into names of the next place (CG2, CD2): only a bonded atom goes on.
        place = [atoms[name] for name in names if name in atoms and (not path or bonds.joined(path[-1], atoms[name]))]
        if not place:
            break
        path.append(place[0])
    for k in range(len(path) - 3):
        quartet = (path[k], path[k + 1], path[k + 2], path[k + 3])
        yield f"chi{k + 1}", bonds.wells(*quartet), quartet


def _rotatable(system: System, bonds: _Bonds, hydrogens: bool):
    heavy = system.heavy
    turning: Callable[[int], bool] = (lambda a: True) if hydrogens else (lambda a: bool(heavy[a]))
    for i, j in np.sort(system.bonds, axis=1).tolist():
        before = [a for a in bonds.neighbors[i] if a != j and turning(a)]
        after = [a for a in bonds.neighbors[j] if a != i and turning(a)]
        if not (before and after and heavy[i] and heavy[j]) or bonds.in_ring(i, j):
            continue
        # Heavy atoms first: they say more of the shape.
        a, d = (min(side, key=lambda atom: (not heavy[atom], atom)) for side in (before, after))
        quartet = (a, i, j, d)
        kind = "-".join(system.atom_names[k] for k in quartet)
        yield int(system.atom_residue[i]), kind, bonds.wells(*quartet), quartet

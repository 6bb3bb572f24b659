"""The beads of one molecule: what rules make of its atoms, numbered within the molecule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import InputError
from ..virtual_sites import Site
from .document import AtomName, BeadRule, BondedRule, MappingFile, MoleculeRule, SiteRule
from .model import Atoms


@dataclass(frozen=True)
class Piece:
    """The beads of one molecule.

    Arguments:
        names, types: (beads,) of the beads.
        residue_names: (beads,) residue names in the output.
        anchors: (beads,) an atom of the residue each bead belongs to.
        entries: (bead, atom, weight) of the linear part, each bead's weights summing to one.
        masses: (beads,) amu; zero for virtual sites.
        forces: (bead, atom, coefficient) of the force map, where the mapping states one.
        sites: non-linear virtual sites, whose beads have no entries.
        bonded: (kind, name) → groups of beads.
        left_out: names of residues that no rule applies to.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    residue_names: tuple[str, ...]
    anchors: np.ndarray
    entries: tuple[np.ndarray, np.ndarray, np.ndarray]
    masses: np.ndarray
    forces: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    sites: tuple[Site, ...] = ()
    bonded: Mapping[tuple[str, str], list[tuple[int, ...]]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


class Molecule:
    """One molecule of a system: its atoms and residues, numbered within it.

    Arguments:
        atoms: the system.
        number: which molecule.
    """

    def __init__(self, atoms: Atoms, number: int):
        chosen = atoms.molecule_atoms[number]
        self.number = number
        self.name = atoms.molecule_names[number]
        self.names = [atoms.names[i] for i in chosen]
        self.elements = [atoms.elements[i] for i in chosen]
        self.masses = np.asarray(atoms.masses, dtype=float)[chosen]
        residues = np.asarray(atoms.residue)[chosen]
        starts = list(dict.fromkeys(residues.tolist()))
        place = {residue: i for i, residue in enumerate(starts)}
        self.residue = np.array([place[r] for r in residues.tolist()])
        self.residue_names = [atoms.residue_names[r] for r in starts]
        self.labels = [f"{atoms.path}: {atoms.label(r)}" if atoms.path else atoms.label(r) for r in starts]
        self.members: list[dict[str, int]] = [{} for _ in starts]
        self.repeated: set[tuple[int, str]] = set()
        for atom, (name, residue) in enumerate(zip(self.names, self.residue)):
            if name in self.members[residue]:
                self.repeated.add((int(residue), name))
            self.members[residue].setdefault(name, atom)

    @property
    def label(self) -> str:
        """How messages name the molecule."""
        name = f" ({self.name})" if self.name else ""
        return f"molecule {self.number + 1}{name}, from {self.labels[0]} on"

    def find(self, atom: AtomName, residue: int | None = None) -> int | None:
        """The atom of that name (in ``residue`` if given), or None.

        Raises:
            LookupError: several atoms have it.
        """
        if atom.residue is not None:
            residue = atom.residue - 1
        if residue is not None:
            if residue >= len(self.members):
                return None
            if atom.residue_name is not None and self.residue_names[residue] != atom.residue_name:
                return None
            if (residue, atom.name) in self.repeated:
                raise LookupError(f"residue {self.labels[residue]} has several atoms {atom.name}")
            return self.members[residue].get(atom.name)
        found = [(number, members[atom.name]) for number, members in enumerate(self.members) if atom.name in members]
        if len(found) > 1 or (found and (found[0][0], atom.name) in self.repeated):
            raise LookupError(f"several atoms are named {atom.name}; write NUMBER:{atom.name}")
        return found[0][1] if found else None


class PieceBuilder:
    """Collects the beads of a molecule."""

    def __init__(self):
        self.names: list[str] = []
        self.types: list[str] = []
        self.residue_names: list[str] = []
        self.anchors: list[int] = []
        self.rows: list[dict[int, float]] = []
        self.masses: list[float | None] = []
        self.forces: list[dict[int, float] | None] = []
        self.sites: list[Site] = []
        self.bonded: dict[tuple[str, str], list[tuple[int, ...]]] = {}
        self.left_out: list[str] = []

    def add(self, name: str, type: str, residue_name: str, anchor: int, row, mass=None, forces=None) -> int:
        """Adds a bead with weights ``row`` (atom → weight, normalised here); its number.

        ``mass`` None is filled in later: the masses of its atoms, those in several beads shared out evenly.
        """
        total = sum(row.values())
        self.names.append(name)
        self.types.append(type)
        self.residue_names.append(residue_name)
        self.anchors.append(anchor)
        self.rows.append({atom: weight / total for atom, weight in row.items()} if row else {})
        self.masses.append(mass)
        self.forces.append(forces)
        return len(self.names) - 1

    def piece(self, masses: np.ndarray) -> Piece | None:
        """The finished piece; None without beads. ``masses`` are those of the atoms of the molecule, amu."""
        if not self.names:
            return None
        count = np.zeros(len(masses))
        for row, mass in zip(self.rows, self.masses):
            if mass is None:
                count[list(row)] += 1
        bead_masses = [
            sum(masses[atom] / count[atom] for atom in row) if mass is None else mass
            for row, mass in zip(self.rows, self.masses)
        ]
        forces = None
        if any(row is not None for row in self.forces):
            # Beads without force weights of their own have the sum of the forces on their atoms.
            filled = [
                row if row is not None else (dict.fromkeys(weights, 1.0) if mass is None else {})
                for row, weights, mass in zip(self.forces, self.rows, self.masses)
            ]
            forces = _entries(filled)
        return Piece(
            tuple(self.names),
            tuple(self.types),
            tuple(self.residue_names),
            np.array(self.anchors, dtype=int),
            _entries(self.rows),
            np.array(bead_masses, dtype=float),
            forces,
            tuple(self.sites),
            self.bonded,
            tuple(self.left_out),
        )


def _entries(rows: Sequence[Mapping[int, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bead = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    atom = np.array([atom for row in rows for atom in row], dtype=int)
    return bead, atom, np.array([weight for row in rows for weight in row.values()], dtype=float)


def weights_of(weights: str | Sequence[float], masses: np.ndarray) -> np.ndarray:
    """Weights by name (``"mass"``, ``"geometry"``) or as given, for atoms of ``masses``."""
    if isinstance(weights, str):
        return masses if weights == "mass" else np.ones(len(masses))
    return np.asarray(weights, dtype=float)


def piece_from_rules(mapping: MappingFile, molecule: Molecule) -> Piece | None:
    """The beads of a molecule by the rules of a mapping file; None where no rule applies to it.

    Raises:
        InputError: a rule names an atom that the molecule lacks or has twice.
    """
    builder = PieceBuilder()
    rule = next((rule for rule in mapping.molecules if rule.scope == "molecule" and _applies(rule, molecule)), None)
    if rule is not None:
        _add_rule(builder, rule, molecule, None, {})
        return builder.piece(molecule.masses)
    named: dict[int, dict[str, int]] = {}
    applied: list[tuple[int, MoleculeRule]] = []
    for residue, name in enumerate(molecule.residue_names):
        rule = next((rule for rule in mapping.molecules if rule.scope == "residue" and name in rule.matches), None)
        if rule is None:
            builder.left_out.append(name)
        else:
            named[residue] = {}
            _add_rule(builder, rule, molecule, residue, named[residue])
            applied.append((residue, rule))
    for residue, rule in applied:
        add_bonded(builder, rule.bonded, named[residue], named.get(residue + 1, {}))
    return builder.piece(molecule.masses)


def _applies(rule: MoleculeRule, molecule: Molecule) -> bool:
    if rule.residues and tuple(molecule.residue_names) != rule.residues:
        return False
    if molecule.name:
        return molecule.name in rule.matches or bool(rule.residues)
    if rule.residues:
        return True
    # A file of coordinates names no molecules: the residues have to tell.
    if len(molecule.residue_names) == 1 and molecule.residue_names[0] in rule.matches:
        return True
    atoms = [atom for bead in rule.beads if isinstance(bead, BeadRule) for atom in bead.atoms]
    if max((atom.residue or 0 for atom in atoms), default=0) < len(molecule.residue_names):
        return False
    if any(atom.residue_name is None for atom in atoms):
        return False
    return all(molecule.find(atom) is not None for atom in atoms)


def _add_rule(
    builder: PieceBuilder, rule: MoleculeRule, molecule: Molecule, residue: int | None, named: dict[str, int]
) -> None:
    for bead in rule.beads:
        if isinstance(bead, BeadRule):
            found = [_find(bead, atom, molecule, residue) for atom in bead.atoms]
            home = bead.residue - 1 if bead.residue is not None and residue is None else int(molecule.residue[found[0]])
            if home >= len(molecule.residue_names):
                raise InputError(f"{bead.where}: {molecule.label}, has no residue {bead.residue}.")
            weights = weights_of(bead.weights, molecule.masses[found])
            if abs(weights.sum()) < 1e-12:
                raise InputError(f"{bead.where}: the weights of bead {bead.name} sum to zero in {molecule.label}.")
            row: dict[int, float] = {}
            for atom, weight in zip(found, weights.tolist()):
                row[atom] = row.get(atom, 0.0) + weight
            forces = None if bead.force_weights is None else dict(zip(found, bead.force_weights))
            if residue is not None or bead.residue is not None or len(rule.residues) > 1:
                name, anchor = molecule.residue_names[home], next(iter(molecule.members[home].values()))
            else:
                # The molecule becomes one residue, as csg_map writes it.
                name, anchor = rule.name, 0
            named[bead.name] = builder.add(bead.name, bead.type, name, anchor, row, forces=forces)
        else:
            # Its row is filled in below: a virtual site may come before the beads it stands on.
            named[bead.name] = builder.add(bead.name, bead.type, "", 0, {}, mass=0.0)
    for bead in rule.beads:
        if isinstance(bead, SiteRule):
            place_site(builder, bead, named, molecule.masses)
    if residue is None:
        add_bonded(builder, rule.bonded, named, {})


def _find(bead: BeadRule, atom: AtomName, molecule: Molecule, residue: int | None) -> int:
    try:
        found = molecule.find(atom, residue)
    except LookupError as error:
        raise InputError(f"{bead.where}: bead {bead.name} in {molecule.label}: {error.args[0]}.") from None
    if found is None:
        owner = molecule.label if residue is None else molecule.labels[residue]
        raise InputError(f"{bead.where}: bead {bead.name} names atom {atom}, which is missing in {owner}.")
    return found


def place_site(builder: PieceBuilder, site: SiteRule, named: Mapping[str, int], masses: np.ndarray) -> None:
    """Places a virtual site that has been added without weights, by the beads it stands on."""
    number, parents = named[site.name], [named[name] for name in site.beads]
    builder.residue_names[number] = builder.residue_names[parents[0]]
    builder.anchors[number] = builder.anchors[parents[0]]
    if site.kind != "linear":
        assert not isinstance(site.parameters, str)
        builder.sites.append(Site(number, site.kind, tuple(parents), site.parameters))
        return
    bead_masses = np.array([sum(masses[atom] for atom in builder.rows[parent]) for parent in parents])
    weights = weights_of(site.parameters, bead_masses)
    if abs(weights.sum()) < 1e-12:
        raise InputError(f"{site.where}: the weights of virtual site {site.name} sum to zero.")
    row: dict[int, float] = {}
    for parent, weight in zip(parents, (weights / weights.sum()).tolist()):
        for atom, share in builder.rows[parent].items():
            row[atom] = row.get(atom, 0.0) + weight * share
    builder.rows[number] = row


def add_bonded(
    builder: PieceBuilder, bonded: Sequence[BondedRule], named: Mapping[str, int], following: Mapping[str, int]
) -> None:
    """Adds interactions between the beads ``named``; names that begin with ``+`` are in ``following``."""
    for item in bonded:
        for group in item.beads:
            places = [following.get(name[1:]) if name.startswith("+") else named.get(name) for name in group]
            if all(place is not None for place in places):
                builder.bonded.setdefault((item.kind, item.name), []).append(tuple(p for p in places if p is not None))

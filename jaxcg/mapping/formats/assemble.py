"""From the pieces of single molecules to the model of a whole system."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ..base import AbstractLinearMap, AbstractMap
from ..force_maps import ForceMap
from ..linear import LinearMap
from ..replicated import JoinedMap, ReplicatedMap
from ..virtual_sites import Site, with_virtual_sites
from .model import Atoms, CoarseModel, Interaction
from .pieces import Molecule, Piece

#: Rows of fewer equal molecules are not worth a map of their own.
_FEWEST_COPIES = 8

MakePiece = Callable[[Molecule], Piece | None]


@dataclass(frozen=True)
class Kinds:
    """The molecules of a system sorted by kind: equal atoms, residues, masses and names.

    Arguments:
        kind: (molecules,) kind of each molecule.
        first: (kinds,) the first molecule of each kind.
    """

    kind: np.ndarray
    first: list[int]

    @staticmethod
    def of(atoms: Atoms) -> Kinds:
        """Sorts the molecules of ``atoms``."""
        residue = np.asarray(atoms.residue)
        residue_code = np.array(_codes(atoms.residue_names))
        mass = np.unique(np.round(np.asarray(atoms.masses, dtype=float), 6), return_inverse=True)[1].ravel()
        code = np.stack([np.array(_codes(atoms.names)), np.array(_codes(atoms.elements)), residue_code[residue], mass])
        code = np.unique(code, axis=1, return_inverse=True)[1].ravel().astype(np.int32)
        known: dict[tuple, int] = {}
        kind, first = np.zeros(atoms.n_molecules, dtype=int), []
        for number, (members, name) in enumerate(zip(atoms.molecule_atoms, atoms.molecule_names)):
            if len(members) == 0:
                raise InputError(f"{atoms.path}: molecule {number + 1} has no atoms.")
            home = residue[members]
            key = (name, code[members].tobytes(), (home - home[0]).tobytes())
            if key not in known:
                known[key] = len(first)
                first.append(number)
            kind[number] = known[key]
        return Kinds(kind, first)


def _codes(words) -> list[int]:
    known: dict[str, int] = {}
    return [known.setdefault(word, len(known)) for word in words]


def assemble(
    atoms: Atoms, make_piece: MakePiece, notes: list[str], place_more: Callable[[int], list[Placed]] | None = None
) -> CoarseModel:
    """The model of all molecules, in the order of the topology.

    Arguments:
        atoms: the system.
        make_piece: beads of one molecule; None leaves the molecule out.
        notes: for the user; a note on what was left out is added.
        place_more: beads that are not of one molecule, numbered from the number it is given.

    Raises:
        InputError: nothing can be mapped.
    """
    kinds = Kinds.of(atoms)
    pieces = [make_piece(Molecule(atoms, number)) for number in kinds.first]
    sizes = np.array([0 if piece is None else len(piece.names) for piece in pieces])[kinds.kind]
    starts = np.cumsum(sizes) - sizes
    n_beads = int(sizes.sum())
    more = place_more(n_beads) if place_more else []
    n_beads += sum(len(part.piece.names) * len(part.starts) for part in more)
    left_out = _left_out(atoms, kinds, pieces)
    if left_out and not more:
        notes.append(f"no rule for, left out: {_counted(left_out)}")
    if n_beads == 0:
        raise InputError(
            f"{atoms.path}: the mapping has no rule for any molecule of it ({_counted(left_out)}); "
            "check the names of molecules and residues."
        )
    placed = []
    for number, piece in enumerate(pieces):
        if piece is not None:
            members = np.flatnonzero(kinds.kind == number)
            table = np.stack([atoms.molecule_atoms[m] for m in members])
            placed.append(Placed(piece, table, starts[members]))
    placed += more
    return model_of(atoms, placed, n_beads, notes)


@dataclass(frozen=True)
class Placed:
    """A piece and where it is in the system.

    Arguments:
        piece: the beads of one molecule.
        atoms: (copies, atoms per copy) atoms of each copy in the system.
        starts: (copies,) number of the first bead of each copy.
    """

    piece: Piece
    atoms: np.ndarray
    starts: np.ndarray

    @property
    def beads(self) -> np.ndarray:
        """(copies, beads per copy) numbers of the beads in the system."""
        return self.starts[:, None] + np.arange(len(self.piece.names))

    def spread(self, entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Entries (bead, atom, value) of the piece for all copies, numbered in the system."""
        bead, atom, value = entries
        return (
            self.beads[:, bead].ravel(),
            self.atoms[:, atom].ravel(),
            np.broadcast_to(value, (len(self.starts), len(value))).ravel(),
        )


def model_of(atoms: Atoms, placed: list[Placed], n_beads: int, notes: list[str]) -> CoarseModel:
    """The model of pieces that have been given their places."""
    words = {key: np.full(n_beads, "", dtype=object) for key in ("names", "types", "residue_names")}
    residue, masses = np.zeros(n_beads, dtype=int), np.zeros(n_beads)
    home = np.asarray(atoms.residue)
    for part in placed:
        for key, column in words.items():
            column[part.beads] = np.array(getattr(part.piece, key), dtype=object)
        residue[part.beads] = home[part.atoms[:, part.piece.anchors]]
        masses[part.beads] = part.piece.masses
    entries = _joined([part.spread(part.piece.entries) for part in placed])
    mapping = _mapping(entries, placed, n_beads, atoms.n_atoms)
    bonded = _interactions(placed)
    bonds = [item.beads for item in bonded if item.kind in ("bond", "constraint")]
    if bonds:
        bonds = np.unique(np.sort(np.concatenate(bonds), axis=1), axis=0)
    else:
        bonds = bonds_between(atoms.bonds, entries, atoms.n_atoms)
    return CoarseModel(
        mapping=mapping,
        bead_names=tuple(words["names"]),
        bead_types=tuple(words["types"]),
        residue_names=tuple(words["residue_names"]),
        residue_ids=tuple(np.array(atoms.residue_ids, dtype=object)[residue]),
        chain_ids=tuple(np.array(atoms.chain_ids, dtype=object)[residue]),
        masses=masses,
        force_map=_force_map(placed, mapping, notes),
        bonds=bonds,
        bonded=bonded,
        unmapped=np.setdiff1d(np.arange(atoms.n_atoms), entries[1]),
        notes=tuple(notes),
    )


def bonds_between(bonds: np.ndarray | None, entries, n_atoms: int) -> np.ndarray:
    """(n, 2) pairs of beads of which an atom of one is bonded to an atom of the other.

    Atoms in several beads bond none: they say nothing about which of them is meant.
    """
    if bonds is None or len(bonds) == 0:
        return np.zeros((0, 2), dtype=int)
    bead, atom, _ = entries
    owner = np.full(n_atoms, -1)
    owner[atom] = bead
    owner[np.bincount(atom, minlength=n_atoms) > 1] = -1
    pairs = owner[np.asarray(bonds, dtype=int)]
    pairs = pairs[(pairs >= 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])]
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _mapping(entries, placed: list[Placed], n_beads: int, n_atoms: int) -> AbstractMap:
    sites = [
        Site(int(beads[site.bead]), site.kind, tuple(beads[list(site.beads)].tolist()), site.parameters)
        for part in placed
        for beads in (part.beads if part.piece.sites else ())
        for site in part.piece.sites
    ]
    if sites:
        # The sites' numbers are kept free: the linear map makes the other beads, closed up.
        own = np.setdiff1d(np.arange(n_beads), [site.bead for site in sites])
        bead, atom, weight = entries
        base = LinearMap.from_weights(np.searchsorted(own, bead), atom, weight, len(own), n_atoms)
        return with_virtual_sites(base, sites)
    cuts = _cuts(placed, n_beads, n_atoms)
    bead, atom, weight = entries
    order = np.argsort(bead, kind="stable")
    bead, atom, weight = bead[order], atom[order], weight[order]
    parts = []
    for copies, (bead_start, bead_end), (atom_start, atom_end) in cuts:
        beads, atoms = (bead_end - bead_start) // copies, (atom_end - atom_start) // copies
        low, high = np.searchsorted(bead, [bead_start, bead_start + beads])
        chosen = slice(low, high)
        one = LinearMap.from_weights(bead[chosen] - bead_start, atom[chosen] - atom_start, weight[chosen], beads, atoms)
        parts.append(one if copies == 1 else ReplicatedMap(one, copies))
    return parts[0] if len(parts) == 1 else JoinedMap(parts)


def _cuts(placed: list[Placed], n_beads: int, n_atoms: int):
    """Ranges (copies, beads, atoms) of the system, one after the other: rows of equal molecules, and all between."""
    rows = []
    for part in placed:
        size = part.atoms.shape[1]
        whole = (part.atoms[:, -1] - part.atoms[:, 0] == size - 1) & (np.diff(part.atoms, axis=1) == 1).all(axis=1)
        ends = np.flatnonzero(
            (np.diff(part.atoms[:, 0]) != size) | (np.diff(part.starts) != len(part.piece.names)) | ~whole[1:]
        )
        for first, last in zip(np.append(0, ends + 1), np.append(ends, len(part.starts) - 1)):
            copies = int(last - first + 1)
            if copies >= _FEWEST_COPIES and whole[first]:
                bead, atom = int(part.starts[first]), int(part.atoms[first, 0])
                rows.append((copies, (bead, bead + copies * len(part.piece.names)), (atom, atom + copies * size)))
    rows.sort(key=lambda row: row[2])
    cuts, bead, atom = [], 0, 0
    for row in rows:
        copies, beads, atoms = row
        if atoms[0] > atom and beads[0] == bead:
            # Atoms between that are in no bead: a map needs beads, so the first of the copies takes them along.
            each_bead, each_atom = (beads[1] - beads[0]) // copies, (atoms[1] - atoms[0]) // copies
            cuts.append((1, (bead, beads[0] + each_bead), (atom, atoms[0] + each_atom)))
            copies, beads, atoms = copies - 1, (beads[0] + each_bead, beads[1]), (atoms[0] + each_atom, atoms[1])
        elif atoms[0] > atom:
            cuts.append((1, (bead, beads[0]), (atom, atoms[0])))
        cuts.append((copies, beads, atoms))
        bead, atom = beads[1], atoms[1]
    if atom < n_atoms and bead == n_beads and cuts:
        copies, beads, atoms = cuts.pop()
        if copies > 1:
            each_bead, each_atom = (beads[1] - beads[0]) // copies, (atoms[1] - atoms[0]) // copies
            cuts.append((copies - 1, (beads[0], beads[1] - each_bead), (atoms[0], atoms[1] - each_atom)))
            beads, atoms = (beads[1] - each_bead, beads[1]), (atoms[1] - each_atom, atoms[1])
        cuts.append((1, beads, (atoms[0], n_atoms)))
    elif atom < n_atoms:
        cuts.append((1, (bead, n_beads), (atom, n_atoms)))
    return cuts


def _force_map(placed: list[Placed], mapping, notes: list[str]) -> ForceMap | None:
    if all(part.piece.forces is None for part in placed):
        return None
    if not isinstance(mapping, AbstractLinearMap):
        notes.append("force weights left out: with non-linear virtual sites no force map is linear")
        return None
    entries = []
    for part in placed:
        bead, atom, weight = part.piece.entries
        # A piece without force weights has the sum of the forces on its atoms.
        entries.append(part.spread(part.piece.forces or (bead, atom, np.ones(len(weight)))))
    try:
        return ForceMap.from_coefficients(*_joined(entries), mapping)
    except ValueError as error:
        notes.append(f"force weights left out, forces are mapped by the aggregating map: {error}")
        return None


def _interactions(placed: list[Placed]) -> tuple[Interaction, ...]:
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    for part in placed:
        for key, groups in part.piece.bonded.items():
            found.setdefault(key, []).append(part.beads[:, np.array(groups)].reshape(-1, len(groups[0])))
    return tuple(Interaction(kind, name, np.concatenate(groups)) for (kind, name), groups in found.items())


def _joined(entries) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    bead, atom, value = (np.concatenate(column) for column in zip(*entries))
    return bead, atom, value


def _left_out(atoms: Atoms, kinds: Kinds, pieces: list[Piece | None]) -> dict[str, int]:
    """What has no beads, by name: whole molecules, and residues of others."""
    counts: dict[str, int] = {}
    copies = np.bincount(kinds.kind, minlength=len(pieces)).tolist()
    for number, (first, piece) in enumerate(zip(kinds.first, pieces)):
        residue = atoms.residue_names[atoms.residue[atoms.molecule_atoms[first][0]]]
        for name in (atoms.molecule_names[first] or residue,) if piece is None else piece.left_out:
            counts[name] = counts.get(name, 0) + copies[number]
    return counts


def _counted(counts: dict[str, int]) -> str:
    words = [name if count == 1 else f"{name} ({count}×)" for name, count in counts.items()]
    return ", ".join(words[:12]) + (f" and {len(words) - 12} more" if len(words) > 12 else "")

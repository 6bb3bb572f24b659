"""Reading coarse-grained structures."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..mapping.formats.names import is_solvent, is_virtual_site
from .residues import BeadResidue
from .whole import box_vectors


@dataclass(frozen=True)
class Beads:
    """A coarse-grained structure.

    Arguments:
        names: (beads,) bead names, e.g. ``"BB"``.
        residues: the residues in file order; ``residue.segment`` numbers the chains (molecules), which may share a
            label in the file.
        positions: (beads, 3) nm, float64.
        box: (3, 3) box vectors as rows, nm, or None.
        path: where it was read from.
        kept: (beads,) index of each bead among the atoms of the file (solvent is left out).
        n_file_atoms: number of atoms in the file.
        notes: what was left out or changed, for the user.
    """

    names: tuple[str, ...]
    residues: tuple[BeadResidue, ...]
    positions: np.ndarray
    box: np.ndarray | None = None
    path: str = "beads"
    kept: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=int))
    n_file_atoms: int = 0
    notes: tuple[str, ...] = ()

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return len(self.names)

    @property
    def bead_residue(self) -> np.ndarray:
        """(beads,) index of the residue of each bead."""
        index = np.zeros(self.n_beads, dtype=int)
        for number, residue in enumerate(self.residues):
            index[list(residue.beads)] = number
        return index

    @property
    def residue_names(self) -> tuple[str, ...]:
        """(beads,) residue name of each bead."""
        return tuple(self.residues[r].name for r in self.bead_residue)

    @property
    def residue_ids(self) -> tuple[str, ...]:
        """(beads,) residue id of each bead."""
        return tuple(self.residues[r].id for r in self.bead_residue)

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """(beads,) chain label of each bead."""
        return tuple(self.residues[r].chain for r in self.bead_residue)

    @property
    def labels(self) -> tuple[str, ...]:
        """(beads,) how messages name each bead, e.g. ``"BB of LYS 33 (chain A)"``."""
        return tuple(f"{name} of {self.residues[r].label}" for name, r in zip(self.names, self.bead_residue))

    def with_positions(self, positions, box=None) -> Beads:
        """The same beads at other ``positions`` (beads, 3) nm, e.g. another frame."""
        return replace(self, positions=np.asarray(positions, dtype=np.float64), box=box)


def read_beads(path: str | os.PathLike) -> Beads:
    """Reads a coarse-grained structure (PDB, GRO or any other structure MDAnalysis reads).

    Residues are told apart by number, insertion code, name, chain and segment, by TER records and by repeated bead
    names, so numbers may repeat and may pass the limits of the format. Solvent and ions are left out with a note.

    Raises:
        InputError: the file is missing, empty or unreadable, holds no solute, or has coordinates that are not finite.
    """
    path = os.fspath(path)
    universe = open_universe(path)
    atoms: Any = universe.atoms
    n = len(atoms)
    if n == 0:
        raise InputError(f"{path}: no beads in this file; give a coarse-grained PDB or GRO structure.")
    names = [str(name).strip() for name in atoms.names]
    residue_names = [str(name).strip() for name in atoms.resnames]
    numbers = [str(number) for number in atoms.resids]
    codes = [str(code).strip() for code in getattr(atoms, "icodes", [""] * n)]
    chains = [str(chain).strip() for chain in getattr(atoms, "chainIDs", [""] * n)]
    segments = [str(segment).strip() for segment in atoms.segids]
    # MDAnalysis calls unlabelled chains SYSTEM (GRO) or X (PDB without chain column).
    unlabelled = {"SYSTEM", ""}
    if not _has_chain_x(path):
        unlabelled.add("X")
    chains = ["" if chain in unlabelled else chain for chain in chains]
    segments = ["" if segment in unlabelled else segment for segment in segments]
    terminated = _atoms_after_ter(path)

    positions = np.asarray(atoms.positions, dtype=np.float64) * 0.1
    solvent = np.array([is_solvent(r, a) for r, a in zip(residue_names, names)])
    virtual = np.array([is_virtual_site(a) for a in names]) & ~solvent
    # "CA" is a Gō site only where the residue also has a backbone bead; alone it is a one-bead model.
    if not any(name == "BB" for name in names):
        virtual[:] = False

    residues: list[BeadResidue] = []
    kept: list[int] = []
    previous, seen, members = None, set(), []
    segment, previous_chain, previous_number = 0, None, None
    head = ("", "", "", 0)

    def close() -> None:
        if members:
            residues.append(BeadResidue(*head, tuple(members)))

    for i in range(n):
        if solvent[i] or virtual[i]:
            continue
        key = (numbers[i], codes[i], residue_names[i], chains[i], segments[i])
        if key != previous or names[i] in seen or i in terminated:
            close()
            number = int(numbers[i])
            new_chain = (chains[i], segments[i]) != previous_chain or i in terminated
            restarted = previous_number is not None and number < previous_number
            if previous_chain is not None and (new_chain or restarted):
                segment += 1
            head = (residue_names[i], numbers[i] + codes[i], chains[i], segment)
            previous, seen, members = key, set(), []
            previous_chain, previous_number = (chains[i], segments[i]), number
        seen.add(names[i])
        members.append(len(kept))
        kept.append(i)
    close()
    if not kept:
        raise InputError(f"{path}: only solvent or ions found; give the beads of a solute molecule.")

    notes = []
    if solvent.any():
        kinds = sorted({residue_names[i] for i in np.flatnonzero(solvent)})
        notes.append(f"{int(solvent.sum())} solvent or ion beads ({', '.join(kinds)}) left out")
    if virtual.any():
        notes.append(f"{int(virtual.sum())} virtual sites (Gō sites) left out")
    index = np.array(kept)
    beads = Beads(
        names=tuple(names[i] for i in kept),
        residues=tuple(residues),
        positions=positions[index],
        box=box_vectors(universe.dimensions),
        path=path,
        kept=index,
        n_file_atoms=n,
        notes=tuple(notes),
    )
    check_finite(beads)
    return beads


def open_universe(path: str):
    """MDAnalysis universe of a structure file; every failure is an `InputError` in one line."""
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file.")
    if Path(path).stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return MDAnalysis.Universe(path, to_guess=())
        except Exception as error:  # readers raise anything from struct.error to StopIteration on damaged files
            where = _bad_line(path)
            reason = where or first_line(error)
            raise InputError(f"{path}: cannot be read as a structure ({reason}); give a PDB or GRO file.") from error


def check_finite(beads: Beads) -> None:
    """Raises `InputError` naming the first bead whose coordinates are not finite or absurdly large."""
    bad = np.flatnonzero(~np.isfinite(beads.positions).all(axis=1))
    if bad.size:
        raise InputError(
            f"{beads.path}: bead {beads.labels[bad[0]]} has a coordinate that is not a number "
            f"({bad.size} such beads); repair or remove this frame."
        )
    bad = np.flatnonzero((np.abs(beads.positions) > 1e4).any(axis=1))
    if bad.size:
        raise InputError(
            f"{beads.path}: bead {beads.labels[bad[0]]} lies at {np.abs(beads.positions[bad[0]]).max():.3g} nm; "
            "such coordinates are no molecule (a simulation that blew up?)."
        )


def _atoms_after_ter(path: str) -> set[int]:
    """Numbers of the atoms that follow a TER record: MDAnalysis drops these records."""
    if not path.lower().endswith((".pdb", ".ent")):
        return set()
    after, count, pending = set(), 0, False
    with open(path, errors="replace") as lines:
        for line in lines:
            if line.startswith(("ATOM", "HETATM")):
                if pending:
                    after.add(count)
                    pending = False
                count += 1
            elif line.startswith("TER"):
                pending = True
            elif line.startswith("ENDMDL"):
                break
    return after


def _has_chain_x(path: str) -> bool:
    if not path.lower().endswith((".pdb", ".ent")):
        return True
    with open(path, errors="replace") as lines:
        return any(line[21:22] == "X" for line in lines if line.startswith(("ATOM", "HETATM")))


def _bad_line(path: str) -> str | None:
    """Names the first coordinate of a PDB or GRO file that is no number, if that is what is wrong."""
    lower = path.lower()
    first = {".pdb": 30, ".ent": 30, ".gro": 20}.get(lower[-4:])
    if first is None:
        return None
    with open(path, errors="replace") as lines:
        rows = [(number, line.rstrip("\n")) for number, line in enumerate(lines, 1)]
    rows = rows[2:-1] if lower.endswith(".gro") else [r for r in rows if r[1].startswith(("ATOM", "HETATM"))]
    if not rows:
        return "no beads in this file"
    for number, line in rows:
        for axis in range(3):
            text = line[first + 8 * axis : first + 8 * axis + 8]
            try:
                float(text)
            except ValueError:
                return f"line {number}: '{text.strip()}' is not a coordinate"
    return None


def first_line(error: BaseException) -> str:
    """First line of an error's message: messages of jaxcg have one line."""
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def find_residue(name: str, beads: Beads) -> int:
    """Number of the residue called ``"chain:id"`` or ``"id"``.

    Raises:
        InputError: no residue, or several, go by this name.
    """
    chain, _, number = name.strip().rpartition(":")
    found = [i for i, r in enumerate(beads.residues) if r.id == number and (r.chain == chain or not chain)]
    if len(found) != 1:
        reason = "no such residue" if not found else f"{len(found)} residues go by this name; add the chain label"
        raise InputError(f"{beads.path}: residue '{name}': {reason}.")
    return found[0]

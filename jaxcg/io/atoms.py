"""Reading all-atom topologies: names, masses, bonds and molecules, from any file that says what the atoms are."""

from __future__ import annotations

import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..mapping.formats.model import Atoms, Selector
from .beads import _bad_line, _has_chain_x, first_line
from .bonds import guess_bonds, has_template, molecules, unique_bonds
from .whole import box_vectors

#: Endings of files whose bonds are those of the force field, complete.
_COMPLETE = frozenset(["tpr", "psf", "prmtop", "parm7", "top", "itp", "data", "mol2", "xml", "dms"])
#: Residues that are one atom, by the element they stand for, where name and element differ.
_IONS = {
    "SOD": "NA", "CLA": "CL", "POT": "K", "CAL": "CA", "CES": "CS", "LIT": "LI", "RUB": "RB", "ZN2": "ZN",
    "CIO": "CS", "IB": "I", "IM": "CL", "IP": "NA",
}  # fmt: skip
#: Two-letter elements looked for in names outside amino acids and nucleotides, with what may follow.
_LONG_ELEMENTS = ("CL", "BR", "SI", "SE", "FE", "ZN", "MG", "MN", "CU", "LI")
#: Names of the extra sites of water models: points without mass.
_SITES = frozenset(["MW", "EP", "LP", "M", "OM", "EP1", "EP2", "LP1", "LP2", "MW1", "MW2"])


def read_atoms(path: str | os.PathLike) -> Atoms:
    """Reads the atoms of a whole system from a topology or structure file.

    Anything MDAnalysis reads (PDB, GRO, TPR, PSF, PRMTOP, MOL2 ...), and mmCIF through OpenMM. Elements and masses the
    file lacks are guessed from the names; bonds it lacks come from residue templates, the component dictionary or
    distances (`jaxcg.io.bonds`); ``notes`` says so. Molecules are what bonds connect.

    Arguments:
        path: the file.

    Returns:
        The `Atoms`; ``positions`` are None where the file has none.

    Raises:
        InputError: the file is missing, empty or unreadable, holds no atoms or coordinates that are not finite.
    """
    path = os.fspath(path)
    universe = open_topology(path)
    atoms: Any = universe.atoms
    n = len(atoms)
    names = tuple(str(name).strip() for name in _attribute(atoms, "names", [""] * n))
    residues: Any = universe.residues
    residue = np.asarray(atoms.resindices, dtype=np.int64)
    if np.any(np.diff(residue) < 0):
        raise InputError(f"{path}: the atoms of a residue do not follow one another; sort the file by residue.")
    residue_names = tuple(str(name).strip() for name in _attribute(residues, "resnames", [""] * len(residues)))
    codes = _attribute(residues, "icodes", [""] * len(residues))
    residue_ids = tuple(f"{number}{str(code).strip()}" for number, code in zip(residues.resids, codes))
    chain_ids = _chains(universe, path)
    positions, box = _positions(universe, path)
    notes = []

    elements, guessed = _elements(atoms, names, residue, residue_names)
    if guessed:
        notes.append(f"elements of {guessed} atoms guessed from their names")
    masses, guessed = _masses(atoms, elements, names)
    if guessed:
        notes.append(f"masses of {guessed} atoms taken from their elements")
    listed = getattr(universe, "bonds", None) if hasattr(atoms, "bonds") else None
    listed = unique_bonds(listed.indices if listed is not None else [])
    if _ending(path) in _COMPLETE and len(listed):
        bonds = listed
    else:
        bonds, by_distance = guess_bonds(names, elements, residue, residue_names, chain_ids, positions, box)
        bonds = unique_bonds(np.concatenate([bonds, listed]))
        notes.append("bonds from residue templates")
        if by_distance:
            shown = ", ".join(by_distance[:5]) + (" ..." if len(by_distance) > 5 else "")
            notes.append(f"bonds of {shown} guessed from distances")
    molecule = molecules(bonds, n)
    return Atoms(
        names=names,
        elements=elements,
        masses=masses,
        residue=residue,
        residue_names=residue_names,
        residue_ids=residue_ids,
        chain_ids=chain_ids,
        bonds=bonds,
        molecule=molecule,
        molecule_names=_molecule_names(atoms, molecule, residue, residue_names),
        path=path,
        positions=positions,
        box=box,
        notes=tuple(notes),
    )


def selector(path: str | os.PathLike) -> Selector:
    """What turns an MDAnalysis selection into indices of the atoms of a file, in the order of the file.

    The returned function takes a selection string (``"resname POPC and name C2* C3*"``) and returns the indices
    (atoms,) it selects. The file is opened at the first call.

    Raises:
        InputError: (the function) the selection is wrong or the file cannot be read.
    """
    path, opened = os.fspath(path), []

    def select(selection: str) -> np.ndarray:
        if not opened:
            opened.append(_complete(open_topology(path), path))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return np.asarray(opened[0].select_atoms(selection).indices, dtype=np.int64)
            except Exception as error:  # the parser of selections raises several kinds
                raise InputError(f"{path}: selection '{selection}': {first_line(error)}.") from error

    return select


def open_topology(path: str):
    """MDAnalysis universe of a topology or structure file; every failure is an `InputError` in one line."""
    if not Path(path).is_file():
        what = "is a folder, not a file" if Path(path).is_dir() else "no such file"
        raise InputError(f"{path}: {what}.")
    if Path(path).stat().st_size == 0:
        raise InputError(f"{path}: the file is empty.")
    import MDAnalysis

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            source: Any = path
            if _ending(path) in ("cif", "mmcif", "pdbx"):
                from openmm.app import PDBxFile

                source = PDBxFile(path)
            universe = MDAnalysis.Universe(source, to_guess=())
        except Exception as error:  # readers raise anything from struct.error to StopIteration on damaged files
            reason = _bad_line(path) or first_line(error)
            raise InputError(
                f"{path}: cannot be read as a topology ({reason}); give a PDB, GRO, mmCIF, TPR, PSF or PRMTOP file."
            ) from error
    if universe.atoms is None or len(universe.atoms) == 0:
        raise InputError(f"{path}: holds no atoms.")
    return universe


def _complete(universe, path: str):
    """The universe with elements and masses, which selections may ask for."""
    atoms = universe.atoms
    residues = universe.residues
    names = tuple(str(name).strip() for name in _attribute(atoms, "names", [""] * len(atoms)))
    residue_names = tuple(str(name).strip() for name in _attribute(residues, "resnames", [""] * len(residues)))
    elements, _ = _elements(atoms, names, np.asarray(atoms.resindices), residue_names)
    masses, _ = _masses(atoms, elements, names)
    universe.add_TopologyAttr("elements", np.array(elements, dtype=object))
    universe.add_TopologyAttr("masses", masses)
    return universe


def _attribute(group, name: str, default: Any) -> Any:
    """Values of a topology attribute, or ``default`` where the file has none."""
    return getattr(group, name) if hasattr(group, name) else default


def _chains(universe, path: str) -> tuple[str, ...]:
    """Chain of each residue; "" where the file has none."""
    residues = universe.residues
    segments = [str(segment).strip() for segment in _attribute(residues, "segids", [""] * len(residues))]
    if hasattr(universe.atoms, "chainIDs"):
        _, first = np.unique(universe.atoms.resindices, return_index=True)
        labels = universe.atoms.chainIDs[first]
        segments = [str(label).strip() or segment for label, segment in zip(labels, segments)]
    # What MDAnalysis calls chains without a label: SYSTEM (GRO), X (PDB without a chain column).
    unlabelled = {"SYSTEM", *(() if _has_chain_x(path) else ("X",))}
    return tuple("" if segment in unlabelled else segment for segment in segments)


def _positions(universe, path: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Positions (atoms, 3) and box in nm, or None each."""
    if not hasattr(universe, "trajectory"):
        return None, None
    positions = np.asarray(universe.atoms.positions, dtype=np.float64) * 0.1
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if bad.size:
        atom = universe.atoms[int(bad[0])]
        raise InputError(
            f"{path}: atom {atom.name} of {atom.resname} {atom.resid} has a coordinate that is not a number; "
            "repair the file."
        )
    return positions, box_vectors(universe.dimensions)


def _elements(atoms, names, residue, residue_names) -> tuple[tuple[str, ...], int]:
    """Element of every atom and how many were guessed."""
    given = [""] * len(names)
    if hasattr(atoms, "elements"):
        # What is no element (extra sites are called EP or X) says nothing.
        known = {element: str(element).strip().capitalize() for element in set(atoms.elements)}
        given = [known[element] if known[element] in _element_masses() else "" for element in atoms.elements]
    missing = [i for i, element in enumerate(given) if not element]
    if not missing:
        return tuple(given), 0
    alone = np.bincount(residue, minlength=len(residue_names)) == 1
    guesses: dict[tuple, str] = {}
    for i in missing:
        key = (names[i], residue_names[residue[i]], bool(alone[residue[i]]))
        if key not in guesses:
            guesses[key] = guess_element(*key)
        given[i] = guesses[key]
    return tuple(given), len(missing)


def guess_element(name: str, residue_name: str, alone: bool) -> str:
    """Element of an atom by its name; "" where the name says nothing (extra sites of water models).

    Arguments:
        name: atom name.
        residue_name: its residue.
        alone: whether it is the only atom of its residue (an ion).
    """
    symbols = _element_masses()
    letters = name.upper().lstrip("0123456789'\"*").rstrip("0123456789+-'\"*")
    standard = has_template(residue_name)
    if alone and not standard:
        for text in (residue_name.upper().rstrip("0123456789+-"), letters):
            symbol = _IONS.get(text, text).upper()
            if symbol.capitalize() in symbols:
                return symbol.capitalize()
    if name.upper() in _SITES:
        return ""
    if not standard and letters[:2] in _LONG_ELEMENTS:
        return letters[:2].capitalize()
    return letters[:1] if letters[:1] in symbols else ""


def _masses(atoms, elements, names) -> tuple[np.ndarray, int]:
    """Mass of every atom, amu, and how many were taken from the element."""
    given = np.asarray(_attribute(atoms, "masses", np.full(len(elements), np.nan)), dtype=np.float64).copy()
    if hasattr(atoms, "masses") and np.any(given > 0):
        return given, 0
    table = _element_masses()
    return np.array([table.get(element, 0.0) for element in elements]), len(names)


@cache
def _element_masses() -> dict[str, float]:
    """Mass of every element by its symbol, amu."""
    from MDAnalysis.guesser.tables import masses

    return {"D": 2.014} | {symbol.capitalize(): float(mass) for symbol, mass in masses.items() if len(symbol) < 3}


def _molecule_names(atoms, molecule, residue, residue_names) -> tuple[str, ...]:
    """Name of every molecule: of the file, else of its only residue, else ""."""
    _, first = np.unique(molecule, return_index=True)
    if hasattr(atoms, "moltypes"):
        return tuple(str(name) for name in np.asarray(atoms.moltypes)[first])
    order = np.argsort(molecule, kind="stable")
    ends = np.cumsum(np.bincount(molecule))
    last = order[ends - 1]
    return tuple(
        residue_names[residue[a]] if residue[a] == residue[b] else "" for a, b in zip(first.tolist(), last.tolist())
    )


def _ending(path: str) -> str:
    return Path(path).suffix.lower().lstrip(".")

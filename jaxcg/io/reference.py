"""An all-atom reference structure: its topology, protonation and stereochemistry for the molecule to rebuild."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..mapping.formats.names import AMINO_ACIDS, is_solvent, standard_atom, standard_residue
from .beads import Beads
from .forcefield import ForceFieldLibrary

_CAPS = ("ACE", "NME", "NHE", "NH2")


@dataclass(frozen=True)
class Reference:
    """A reference structure matched to the beads.

    Arguments:
        topology: `openmm.app.Topology` with hydrogens, without solvent.
        positions: (atoms, 3) nm.
        residue_of: (bead residues,) number of the topology's residue that each residue of the beads is.
        disulfides: pairs of topology residues.
        notes: what was done, for the user.
    """

    topology: Any
    positions: np.ndarray
    residue_of: np.ndarray
    disulfides: tuple[tuple[int, int], ...]
    notes: tuple[str, ...]


def read_reference(
    path: str | os.PathLike, beads: Beads, library: ForceFieldLibrary, protonation: dict[int, str]
) -> Reference:
    """Reads an all-atom PDB or mmCIF file of the molecule that the beads stand for.

    Solvent is left out, and hydrogens are added where the force field needs more than the file has.

    Arguments:
        path: the file.
        beads: the coarse-grained structure; its residues must be those of the file, in the same order.
        library: force field, for hydrogens.
        protonation: residue of the beads → variant, used where hydrogens are added.

    Raises:
        InputError: the file cannot be read, its residues are not those of the beads, or it lacks heavy atoms.
    """
    path = os.fspath(path)
    topology, positions = _read(path)
    modeller = _modeller(topology, positions)
    modeller.delete([r for r in topology.residues() if is_solvent(r.name, "")])
    residue_of = _match(modeller.topology, beads, path)
    _check_heavy_atoms(modeller.topology, library, path)
    variants: list[str | None] = [None] * modeller.topology.getNumResidues()
    for number, name in protonation.items():
        variants[residue_of[number]] = name
    notes = []
    before = modeller.topology.getNumAtoms()
    if protonation or not library.describes(modeller.topology):
        if protonation:
            _drop_hydrogens(modeller, [residue_of[number] for number in protonation])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                modeller.addHydrogens(library.forcefield, pH=7.0, variants=variants)
            except Exception as error:  # OpenMM raises ValueError or plain Exception for atoms it cannot place
                raise InputError(
                    f"{path}: hydrogens cannot be added ({' '.join(str(error).split())}); "
                    "complete the missing atoms of the reference, or leave it out."
                ) from error
        added = modeller.topology.getNumAtoms() - before
        if added:
            notes.append(f"{added} hydrogens added to the reference (pH 7)")
    # Quantities are converted by way of lists of Vec3: slow, but only once.
    coordinates = np.array([[v.x, v.y, v.z] for v in modeller.positions._value], dtype=np.float64)
    if not np.isfinite(coordinates).all():
        raise InputError(f"{path}: the reference has coordinates that are not numbers.")
    disulfides = tuple(
        (a.residue.index, b.residue.index)
        for a, b in modeller.topology.bonds()
        if a.name == b.name == "SG" and a.residue is not b.residue
    )
    notes.insert(0, f"topology, names, protonation and stereo from {Path(path).name}")
    return Reference(modeller.topology, coordinates, residue_of, disulfides, tuple(notes))


def _read(path: str):
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file.")
    from openmm.app import PDBFile, PDBxFile

    reader = PDBxFile if path.lower().endswith((".cif", ".pdbx", ".mmcif")) else PDBFile
    try:
        file = reader(path)
        topology, positions = file.topology, file.positions
    except Exception as error:  # the parsers raise anything on damaged files
        raise InputError(f"{path}: cannot be read as an all-atom PDB or mmCIF file ({error}).") from error
    if topology.getNumAtoms() == 0:
        raise InputError(f"{path}: holds no atoms.")
    unknown = [atom for atom in topology.atoms() if atom.element is None]
    if unknown:
        atom = unknown[0]
        raise InputError(
            f"{path}: atom {atom.name} of {atom.residue.name} {atom.residue.id} has no element; "
            "give an all-atom structure (are these beads?)."
        )
    return topology, positions


def _modeller(topology, positions):
    from openmm.app import Modeller

    return Modeller(topology, positions)


def _drop_hydrogens(modeller, residues) -> None:
    chosen = set(residues)
    modeller.delete([a for a in modeller.topology.atoms() if a.residue.index in chosen and a.element.symbol == "H"])


def _match(topology, beads: Beads, path: str) -> np.ndarray:
    """Number of the reference residue of each residue of the beads, in order; caps have no beads."""
    residues = [r for r in topology.residues() if r.name not in _CAPS]
    for here, there in zip(beads.residues, residues):
        if standard_residue(here.name)[0] != standard_residue(there.name)[0]:
            raise InputError(
                f"{path}: residue {there.name} {there.id} stands where {beads.path} has {here.label}; "
                "the reference must hold the same residues in the same order."
            )
    if len(residues) != len(beads.residues):
        more, fewer = (path, beads.path) if len(residues) > len(beads.residues) else (beads.path, path)
        extra = (residues if more == path else beads.residues)[min(len(residues), len(beads.residues))]
        raise InputError(
            f"{more}: residue {extra.name} {extra.id} has no counterpart in {fewer} "
            f"({len(residues)} residues in the reference, {len(beads.residues)} in the beads)."
        )
    return np.array([r.index for r in residues], dtype=int)


def _check_heavy_atoms(topology, library: ForceFieldLibrary, path: str) -> None:
    """Raises `InputError` naming the first heavy atom an amino acid lacks or should not have."""
    joined = {"N": set(), "C": set()}
    for a, b in topology.bonds():
        for here, there in ((a, b), (b, a)):
            if here.residue is not there.residue and here.name in joined:
                joined[here.name].add(here.residue.index)
    for residue in topology.residues():
        if residue.name not in AMINO_ACIDS:
            continue
        first, last = residue.index not in joined["N"], residue.index not in joined["C"]
        template = library.template(residue.name, first=first, last=last)
        if template is None:
            continue
        expected = {
            standard_atom(residue.name, name)
            for name, element in zip(template.atom_names, template.elements)
            if element != "H"
        }
        present = {atom.name for atom in residue.atoms() if atom.element.symbol != "H"}
        label = f"{path}: {residue.name} {residue.id}" + (
            f" (chain {residue.chain.id})" if residue.chain.id.strip() else ""
        )
        for name in sorted(expected - present):
            end = " at the end of its chain" if name == "OXT" else ""
            raise InputError(f"{label} lacks atom {name}{end}; complete the reference, or leave it out.")
        for name in sorted(present - expected):
            raise InputError(
                f"{label} has an atom {name} that the force field does not know there; repair the reference."
            )

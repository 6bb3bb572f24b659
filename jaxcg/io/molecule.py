"""From beads to a molecule: topology, force field, stereochemistry and map."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..mapping.formats import load_scheme
from ..mapping.formats.names import standard_residue
from ..mapping.formats.rules import AtomTable, MappingScheme
from ..mapping.linear import LinearMap
from ..system import System
from .backbone import peptide_bonds, phi_psi_atoms
from .beads import Beads, find_residue, read_beads
from .checks import check_geometry, check_names, find_disulfides
from .forcefield import ForceFieldLibrary
from .protonation import read_protonation
from .reference import Reference, read_reference
from .stereochemistry import dihedrals, double_bonds, stereo_centers, stereo_from_positions
from .topology import build_topology, residue_variants
from .whole import make_whole

if TYPE_CHECKING:
    from ..energy.base import SumEnergy


@dataclass(frozen=True)
class Molecule:
    """Everything about the molecule whose atoms are to be rebuilt.

    Arguments:
        system: what the molecule is.
        mapping: the forward map, atoms → beads, in the order of ``beads``.
        alternative_mapping: the map with the other choice of hydrogens, or None where hydrogens make no difference.
        hydrogens: whether hydrogens count in ``mapping``.
        topology: `openmm.app.Topology`.
        openmm_system: `openmm.System` of the force field.
        beads: the coarse-grained structure it was built from, made whole.
        notes: what was decided, for the user: disulfides, protonation, map.
        peptide_bonds: (peptides, 4) atoms CA, C, N, CA of each peptide bond.
        peptide_residues: (peptides, 2) residues before and after each peptide bond.
        phi_psi: (residues, 2, 4) atoms of φ (C, N, CA, C) and ψ (N, CA, C, N); −1 where there is none.
        prolines: residues whose preceding peptide bond may be cis (proline after another residue).
        disulfides: (disulfides, 2) residues.
        variants: (residues,) force-field variant, e.g. ``"HIE"``.
        reference_positions: (atoms, 3) nm of the reference structure, or None.
    """

    system: System
    mapping: LinearMap
    alternative_mapping: LinearMap | None
    hydrogens: bool
    topology: Any
    openmm_system: Any
    beads: Beads
    notes: tuple[str, ...]
    peptide_bonds: np.ndarray
    peptide_residues: np.ndarray
    phi_psi: np.ndarray
    prolines: tuple[int, ...]
    disulfides: np.ndarray
    variants: tuple[str, ...]
    reference_positions: np.ndarray | None = None
    settings: dict = field(default_factory=dict)

    @property
    def bead_labels(self) -> tuple[str, ...]:
        """(beads,) how messages name each bead, e.g. ``"BB of LYS 33 (chain A)"``."""
        return self.beads.labels

    @property
    def y(self) -> np.ndarray:
        """(beads, 3) bead positions of the structure file, nm."""
        return self.beads.positions

    @cached_property
    def energy(self) -> SumEnergy:
        """The force field as a differentiable energy."""
        from ..energy import from_openmm

        return from_openmm(self.openmm_system)

    def with_alternative_mapping(self) -> Molecule:
        """The same molecule with the other choice of hydrogens in the beads.

        Raises:
            InputError: there is no other choice.
        """
        if self.alternative_mapping is None:
            raise InputError("this mapping has no choice of hydrogens; use it as it is.")
        other = replace(
            self,
            mapping=self.alternative_mapping,
            alternative_mapping=self.mapping,
            hydrogens=not self.hydrogens,
            notes=tuple(note for note in self.notes if not note.startswith("mapping ")),
        )
        other.__dict__["energy"] = self.energy  # costly, and the same
        return other


def build_molecule(
    beads: Beads | str | os.PathLike,
    *,
    mapping: str | os.PathLike = "martini3",
    forcefield: str | Sequence[str] = ("amber14",),
    solvent: str = "none",
    reference: str | os.PathLike | None = None,
    protonation: str | os.PathLike | None = None,
    hydrogens: bool | str = "auto",
    disulfides: str | Sequence[tuple[str, str]] = "auto",
    nonbonded_cutoff: float | None = None,
    dielectric: float = 1.0,
) -> Molecule:
    """Builds the all-atom molecule that a coarse-grained structure stands for; no atomic coordinates are needed.

    Arguments:
        beads: the structure, or its path.
        mapping: ``"martini3"``, ``"martini2"``, ``"calpha"``, ``"com"`` or the path of a mapping file.
        forcefield: short names or XML files.
        solvent: ``"none"``, ``"obc2"`` or ``"gbn2"``.
        reference: all-atom structure of the same molecule, whose topology, names, protonation and stereo are used.
        protonation: file with lines ``chain:residue NAME``, e.g. ``A:68 HIP``.
        hydrogens: whether hydrogens count in the beads. ``"auto"`` chooses heavy atoms only and offers the other map
            as ``alternative_mapping``, so a caller can compare both with the beads.
        disulfides: ``"auto"`` (from side-chain beads), ``"none"``, or pairs of residues such as ``("A:6", "A:127")``.
        nonbonded_cutoff: nm; None computes every pair.
        dielectric: relative permittivity that screens all charges; more than 1 only makes sense without a solvent.

    Raises:
        InputError: anything the input lacks or has too much of; see `check_geometry`, `read_beads` and the map.
    """
    if not isinstance(beads, Beads):
        beads = read_beads(beads)
    if hydrogens not in ("auto", True, False):
        raise InputError(f"hydrogens={hydrogens!r} is not known; choose 'auto', True or False.")
    beads = beads.with_positions(make_whole(beads.positions, beads, beads.box), beads.box)
    scheme = load_scheme(mapping)
    library = ForceFieldLibrary(forcefield, solvent, dielectric)
    check_names(beads, scheme)
    check_geometry(beads)
    notes = list(beads.notes)
    if dielectric != 1:
        notes.append(f"charges screened by a relative permittivity of {dielectric:g}")

    asked = read_protonation(protonation, beads) if protonation is not None else {}
    if reference is not None:
        return _from_reference(
            beads,
            read_reference(reference, beads, library, asked),
            library,
            scheme,
            hydrogens=hydrogens,
            nonbonded_cutoff=nonbonded_cutoff,
            notes=notes,
        )
    pairs = _disulfides(beads, disulfides, notes)
    variants = residue_variants(beads.residues, pairs, asked)
    built = build_topology(beads.residues, variants, pairs, library, beads.path)
    notes += _protonation_notes(beads, variants, asked)
    system = describe(built.topology)
    _, _, unknown = stereo_centers(system.residue_names, system.residue_atoms())
    if unknown:
        notes.append(f"no stereochemistry known for {', '.join(unknown)}: not in the component dictionary")
    return _assemble(
        beads,
        system,
        built.topology,
        library.create_system(built.topology, nonbonded_cutoff=nonbonded_cutoff, residue_templates=built.templates),
        library,
        scheme,
        residue_of=np.arange(len(beads.residues)),
        variants=tuple(variants),
        disulfides=pairs,
        hydrogens=hydrogens,
        nonbonded_cutoff=nonbonded_cutoff,
        notes=notes,
    )


def _from_reference(
    beads: Beads,
    reference: Reference,
    library: ForceFieldLibrary,
    scheme: MappingScheme,
    *,
    hydrogens: bool | str,
    nonbonded_cutoff: float | None,
    notes: list[str],
) -> Molecule:
    topology, positions = reference.topology, reference.positions
    openmm_system = library.create_system(topology, nonbonded_cutoff=nonbonded_cutoff)
    system = describe(topology)
    centers, signs = stereo_from_positions(system.elements, system.bonds, positions)
    angles = np.where(np.abs(dihedrals(positions, system.double_bonds)) < np.pi / 2, 0.0, np.pi)
    cis = [
        system.residue_label(int(system.atom_residue[quartet[3]]))
        for quartet, angle in zip(system.double_bonds, angles)
        if angle == 0 and system.atom_names[quartet[1]] == "C" and system.atom_names[quartet[2]] == "N"
    ]
    if cis:
        notes.append(f"cis peptides in the reference before {', '.join(cis)}")
    system = System(
        masses=system.masses,
        elements=system.elements,
        atom_names=system.atom_names,
        atom_residue=system.atom_residue,
        residue_names=system.residue_names,
        residue_ids=system.residue_ids,
        chain_ids=system.chain_ids,
        bonds=system.bonds,
        stereo_centers=centers,
        stereo_signs=signs,
        double_bonds=system.double_bonds,
        double_bond_angles=angles,
    )
    return _assemble(
        beads,
        system,
        topology,
        openmm_system,
        library,
        scheme,
        residue_of=reference.residue_of,
        variants=tuple(system.residue_names),
        disulfides=reference.disulfides,
        hydrogens=hydrogens,
        nonbonded_cutoff=nonbonded_cutoff,
        notes=[*notes, *reference.notes],
        reference_positions=positions,
    )


def _assemble(
    beads: Beads,
    system: System,
    topology,
    openmm_system,
    library: ForceFieldLibrary,
    scheme: MappingScheme,
    *,
    residue_of: np.ndarray,
    variants: tuple[str, ...],
    disulfides: Sequence[tuple[int, int]],
    hydrogens: bool | str,
    nonbonded_cutoff: float | None,
    notes: list[str],
    reference_positions: np.ndarray | None = None,
) -> Molecule:
    residue_atoms = system.residue_atoms()
    labels = [system.residue_label(number) for number in range(system.n_residues)]
    for residue, number in zip(beads.residues, residue_of):
        labels[number] = residue.label
    atoms = AtomTable(
        names=system.atom_names,
        elements=system.elements,
        residue=system.atom_residue,
        residue_names=system.residue_names,
        residue_labels=tuple(f"{beads.path}: {label}" for label in labels),
    )
    with_hydrogens = scheme.hydrogens if hydrogens == "auto" else bool(hydrogens)
    maps = {
        choice: scheme.linear_map(atoms, beads.names, residue_of[beads.bead_residue], system.masses, hydrogens=choice)
        for choice in ((True, False) if scheme.hydrogen_ambiguity else (with_hydrogens,))
    }
    peptides, pairs = peptide_bonds(residue_atoms, system.bonds)
    notes.append(
        f"mapping {scheme.name}: beads are centres of {'all atoms' if with_hydrogens else 'heavy atoms'}"
        if scheme.hydrogen_ambiguity
        else f"mapping {scheme.name}"
    )
    return Molecule(
        system=system,
        mapping=maps[with_hydrogens],
        alternative_mapping=maps.get(not with_hydrogens),
        hydrogens=with_hydrogens,
        topology=topology,
        openmm_system=openmm_system,
        beads=beads,
        notes=tuple(notes),
        peptide_bonds=peptides,
        peptide_residues=pairs,
        phi_psi=phi_psi_atoms(residue_atoms, pairs),
        prolines=tuple(int(r) for _, r in pairs if system.residue_names[r] == "PRO"),
        disulfides=np.array(disulfides, dtype=int).reshape(-1, 2),
        variants=variants,
        reference_positions=reference_positions,
        settings={
            "mapping": scheme.name,
            "forcefield": "+".join(library.names),
            "solvent": library.solvent,
            "nonbonded_cutoff": nonbonded_cutoff,
            "dielectric": library.dielectric,
        },
    )


def describe(topology) -> System:
    """`System` of an OpenMM topology, with stereochemistry from the component dictionary."""
    from openmm.unit import dalton

    atoms = list(topology.atoms())
    residues = list(topology.residues())
    residue_atoms = [{atom.name: atom.index for atom in residue.atoms()} for residue in residues]
    names = [residue.name for residue in residues]
    elements = [atom.element.symbol for atom in atoms]
    bonds = np.array([(a.index, b.index) for a, b in topology.bonds()], dtype=int).reshape(-1, 2)
    centers, signs, _ = stereo_centers(names, residue_atoms)
    quartets, angles = double_bonds(names, residue_atoms, elements, bonds)
    return System(
        masses=[atom.element.mass.value_in_unit(dalton) for atom in atoms],
        elements=elements,
        atom_names=[atom.name for atom in atoms],
        atom_residue=[atom.residue.index for atom in atoms],
        residue_names=names,
        residue_ids=[residue.id + residue.insertionCode.strip() for residue in residues],
        chain_ids=[(residue.chain.id or "").strip() for residue in residues],
        bonds=bonds,
        stereo_centers=centers,
        stereo_signs=signs,
        double_bonds=quartets,
        double_bond_angles=angles,
    )


def _disulfides(beads: Beads, wanted, notes: list[str]) -> list[tuple[int, int]]:
    if wanted == "none":
        return []
    labels = [residue.label for residue in beads.residues]
    if wanted != "auto":
        pairs = [(find_residue(a, beads), find_residue(b, beads)) for a, b in wanted]
        notes += [f"disulfide {labels[a]} – {labels[b]} (as asked)" for a, b in pairs]
        return pairs
    found = find_disulfides(beads)
    notes += [f"disulfide {labels[a]} – {labels[b]} (side-chain beads {d:.3f} nm apart)" for a, b, d in found]
    return [(a, b) for a, b, _ in found]


def _protonation_notes(beads: Beads, variants: Sequence[str], asked: dict[int, str]) -> list[str]:
    notes = []
    histidines = [
        f"{variants[i]} {residue.id}{residue.chain and ' ' + residue.chain}"
        for i, residue in enumerate(beads.residues)
        if standard_residue(residue.name) == ("HIS", None) and i not in asked
    ]
    if histidines:
        notes.append(f"histidines neutral with H on NE2 (default at pH 7): {', '.join(histidines)}")
    named = [
        f"{residue.label} as {variants[i]}"
        for i, residue in enumerate(beads.residues)
        if i in asked or (standard_residue(residue.name)[1] not in (None, "CYX") and variants[i] != "CYX")
    ]
    if named:
        notes.append(f"protonation as asked: {', '.join(named)}")
    return notes

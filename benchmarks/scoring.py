"""Judging ours and the peer's structures alike: same atoms, same figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxcg.backmap.pipeline import IN_VACUO
from jaxcg.backmap.quality import Quality, quality
from jaxcg.io import Beads, Molecule, build_molecule, read_beads, read_frames
from jaxcg.mapping import LinearMap
from jaxcg.system import System

FRAMES = Path(__file__).parent.parent / "tests" / "data" / "frames"
PROTEINS = ("ubiquitin", "lysozyme", "villin")
#: Centres that are stereo centres by the names of their atoms only: a peer may name them the other way round.
_BY_NAME = {("LEU", "CG"), ("VAL", "CB")}


@dataclass(frozen=True)
class Case:
    """One protein: its beads (mapped, and frames of a simulation), its molecule, and the structure it came from."""

    name: str
    beads: Beads
    frames: list[tuple[int, np.ndarray]]
    molecule: Molecule
    reference: np.ndarray
    ideal_bonds: np.ndarray

    @property
    def system(self) -> System:
        return self.molecule.system


def load_case(name: str) -> Case:
    """Reads one of `PROTEINS` from the test data."""
    folder = FRAMES / name
    beads = read_beads(folder / "cg_crystal.pdb")
    molecule = build_molecule(beads, **IN_VACUO)  # as `jaxcg.backmap.backmap` does
    simulated = read_beads(folder / "cg.pdb")
    frames = [(number, np.asarray(y)) for number, y, *_ in read_frames(simulated, folder / "cg.xtc", None)]
    reference, _ = read_atoms(folder / "aa.pdb", molecule.system)
    return Case(name, beads, frames, molecule, reference, ideal_bonds(molecule))


def ideal_bonds(molecule: Molecule) -> np.ndarray:
    """Length of each of the system's bonds in its force field, nm."""
    from openmm import HarmonicBondForce, unit

    lengths = {}
    for force in molecule.openmm_system.getForces():
        if isinstance(force, HarmonicBondForce):
            for k in range(force.getNumBonds()):
                i, j, length, _ = force.getBondParameters(k)
                lengths[frozenset((i, j))] = length.value_in_unit(unit.nanometer)
    return np.array([lengths.get(frozenset(pair), np.nan) for pair in molecule.system.bonds.tolist()])


def read_atoms(path: Path, system: System, rename=None) -> tuple[np.ndarray, np.ndarray]:
    """Positions in a PDB file (nm) in the order of ``system``, paired by residue order and atom name.

    Arguments:
        rename: function of (residue name, atom name) → the name ``system`` uses.

    Returns:
        (atoms, 3) with NaN where the file lacks an atom, and (atoms,) which it has.
    """
    positions = np.full((system.n_atoms, 3), np.nan)
    tables = system.residue_atoms()
    residue, last = -1, None
    for line in Path(path).read_text().splitlines():
        if not line.startswith("ATOM") or line[16] not in " A":
            continue
        if line[21:27] != last:
            residue, last = residue + 1, line[21:27]
        name = line[12:16].strip()
        name = rename(line[17:20].strip(), name) if rename else name
        if residue < len(tables) and name in tables[residue]:
            positions[tables[residue][name]] = [float(line[k : k + 8]) / 10 for k in (30, 38, 46)]
    return positions, np.isfinite(positions).all(axis=1)


def subsystem(system: System, keep: np.ndarray) -> System:
    """The system of the atoms ``keep`` (boolean) only, without centres that are stereo by name only."""
    number = np.full(system.n_atoms, -1)
    number[keep] = np.arange(int(keep.sum()))
    kept = np.flatnonzero(keep)

    def renumbered(indices, *others):
        new = number[indices]
        whole = (new >= 0).all(axis=1)
        return (new[whole], *(other[whole] for other in others))

    real = np.array(
        [
            (system.residue_names[system.atom_residue[c]], system.atom_names[c]) not in _BY_NAME
            for c in system.stereo_centers[:, 0]
        ],
        dtype=bool,
    )
    centers, signs = renumbered(system.stereo_centers[real], system.stereo_signs[real])
    double, angles = renumbered(system.double_bonds, system.double_bond_angles)
    (bonds,) = renumbered(system.bonds)
    return System(
        masses=system.masses[kept],
        elements=[system.elements[i] for i in kept],
        atom_names=[system.atom_names[i] for i in kept],
        atom_residue=system.atom_residue[kept],
        residue_names=system.residue_names,
        residue_ids=system.residue_ids,
        chain_ids=system.chain_ids,
        bonds=bonds,
        stereo_centers=centers,
        stereo_signs=signs,
        double_bonds=double,
        double_bond_angles=angles,
    )


def judge(case: Case, positions: np.ndarray, y: np.ndarray, mapping: LinearMap, *, heavy_only=False) -> Quality:
    """Figures of one structure. With ``heavy_only`` just those of its heavy atoms, as for a peer whose hydrogens and
    names differ; ``positions`` may then lack atoms (NaN)."""
    system = case.system
    if not heavy_only:
        return quality(
            system,
            positions,
            mapping=mapping,
            y=y,
            ideal_bonds=case.ideal_bonds,
            reference_positions=case.reference,
        )
    keep = system.heavy & np.isfinite(positions).all(axis=1)
    bonds_kept = keep[system.bonds].all(axis=1)
    bead, atom, weight = mapping.entries()
    number = np.full(system.n_atoms, -1)
    number[keep] = np.arange(int(keep.sum()))
    present = number[atom] >= 0
    totals = np.bincount(bead[present], weights=weight[present], minlength=mapping.n_beads)
    reduced = LinearMap.from_weights(
        bead[present],
        number[atom[present]],
        weight[present] / totals[bead[present]],
        mapping.n_beads,
        int(keep.sum()),
    )
    return quality(
        subsystem(system, keep),
        positions[keep],
        mapping=reduced,
        y=y,
        ideal_bonds=case.ideal_bonds[bonds_kept],
        reference_positions=case.reference[keep],
    )


def secondary_structure(system: System, positions: np.ndarray) -> np.ndarray:
    """DSSP code of each residue that has a whole backbone: 0 loop, 1 helix, 2 strand.

    The simplified DSSP of Minami (PyDSSP), as MDAnalysis carries it; hydrogens are placed by it, so structures
    without hydrogens are judged alike.
    """
    from MDAnalysis.analysis.dssp.pydssp_numpy import assign

    chain = [
        [atoms[name] for name in ("N", "CA", "C", "O")]
        for atoms in system.residue_atoms()
        if {"N", "CA", "C", "O"} <= atoms.keys()
    ]
    return np.argmax(assign(10 * positions[np.array(chain)]), axis=1)

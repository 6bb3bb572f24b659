"""A table that says, bead by bead, what a map keeps and what it loses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from ..typing import Array, AtomScalars, Float
from ._blocks import blocks_of, matrix_of
from .base import AbstractLinearMap
from .conditions import count
from .information import FluctuationLoss
from .pseudoinverse import DEPENDENT, metric_masses

if TYPE_CHECKING:
    from .formats.model import Atoms, CoarseModel

#: Headings of the table, in the order of `BeadRow.cells`.
HEADINGS = ("bead", "name", "atoms (weights)", "mass/amu", "shared", "lost coordinates", "lost fluctuation")


@dataclass(frozen=True)
class BeadRow:
    """What a map says of one bead.

    Attributes:
        bead: index.
        name: of the bead, with its residue if known.
        atoms: names of its atoms.
        weights: (atoms of the bead,) weights.
        mass: amu; the bead's own if known, else the mass of its atoms, shared atoms in equal parts.
        shared: names of those of its atoms that other beads use too.
        lost: coordinates lost, three for each atom less what the map keeps; beads that share atoms divide them and what
            is kept equally, so rows add up to the total.
        fraction: fraction of the mass-weighted fluctuation of its atoms that is lost; None without a trajectory.
    """

    bead: int
    name: str
    atoms: tuple[str, ...]
    weights: np.ndarray
    mass: float
    shared: tuple[str, ...]
    lost: float
    fraction: float | None

    def cells(self, most_atoms: int = 8) -> tuple[str, ...]:
        """The row as text, one string for each of `HEADINGS`; atoms beyond ``most_atoms`` are counted only."""
        listed = [f"{atom} {weight:.3g}" for atom, weight in zip(self.atoms, self.weights, strict=True)][:most_atoms]
        if len(self.atoms) > most_atoms:
            listed.append(f"and {len(self.atoms) - most_atoms} more")
        return (
            str(self.bead),
            self.name,
            ", ".join(listed),
            f"{self.mass:.3f}",
            ", ".join(self.shared[:most_atoms]) if self.shared else "-",
            f"{self.lost:.4g}",
            "-" if self.fraction is None else f"{100 * self.fraction:.1f} %",
        )


@dataclass(frozen=True)
class Explanation:
    """The table of a map: a row for each bead, and totals.

    Attributes:
        rows: one for each bead.
        n_atoms, n_beads: of the map.
        rank, nullity: coordinates kept and lost, together 3 × atoms.
        unmapped: indices of atoms in no bead.
        n_shared: number of atoms in more than one bead.
        loss: fluctuations of the trajectory, if one was given.
    """

    rows: tuple[BeadRow, ...]
    n_atoms: int
    n_beads: int
    rank: int
    nullity: int
    unmapped: np.ndarray
    n_shared: int
    loss: FluctuationLoss | None

    def totals(self) -> tuple[str, ...]:
        """What the whole map keeps and loses, one line each."""
        lines = [
            f"{self.n_atoms} atoms to {self.n_beads} beads: {self.rank} of {3 * self.n_atoms} coordinates kept, "
            f"{self.nullity} lost ({100 * self.nullity / (3 * self.n_atoms):.1f} %)."
        ]
        if self.rank < 3 * self.n_beads:
            lines.append(
                f"The beads depend on each other: {3 * self.n_beads} bead coordinates, {self.rank} independent."
            )
        if self.n_shared:
            lines.append(f"{count(self.n_shared, 'atom')} in more than one bead.")
        if len(self.unmapped):
            lines.append(
                f"{count(len(self.unmapped), 'atom')} in no bead: their {3 * len(self.unmapped)} coordinates are lost."
            )
        if self.loss is not None:
            removed = "" if self.loss.removed == "nothing" else f", {self.loss.removed} removed"
            lines.append(
                f"{100 * self.loss.fraction:.1f} % of the mass-weighted fluctuation is lost "
                f"({self.loss.frames} frames{removed})."
            )
        return tuple(lines)

    def text(self, most_rows: int | None = None, most_atoms: int = 8) -> str:
        """The table in plain text; of more than ``most_rows`` beads only the first are shown."""
        shown = self.rows if most_rows is None else self.rows[:most_rows]
        table = [HEADINGS, *(row.cells(most_atoms) for row in shown)]
        keep = [k for k in range(len(HEADINGS)) if self.loss is not None or HEADINGS[k] != "lost fluctuation"]
        widths = {k: max(len(cells[k]) for cells in table) for k in keep}
        lines = ["  ".join(cells[k].ljust(widths[k]) for k in keep).rstrip() for cells in table]
        lines.insert(1, "  ".join("-" * widths[k] for k in keep))
        if len(shown) < len(self.rows):
            lines.append(f"... and {len(self.rows) - len(shown)} more beads")
        return "\n".join([*lines, "", *self.totals()])

    def __str__(self) -> str:
        return self.text()


def explain(
    mapping: AbstractLinearMap,
    masses: AtomScalars,
    *,
    atom_names: Sequence[str] | None = None,
    bead_names: Sequence[str] | None = None,
    residues: Sequence[str] | None = None,
    bead_masses: Float[Array | np.ndarray, " beads"] | None = None,
    loss: FluctuationLoss | None = None,
) -> Explanation:
    """What a map keeps and loses, as rows and totals.

    Arguments:
        mapping: any linear map.
        masses: (atoms,) positive masses, amu.
        atom_names: (atoms,) names; indices when None.
        bead_names: (beads,) names; indices when None.
        residues: (beads,) label of the residue of each bead, e.g. ``"LYS 33"``.
        bead_masses: (beads,) masses of the coarse model, amu.
        loss: `fluctuation_loss` of a trajectory.

    Raises:
        ValueError: names or masses that do not fit the map.
    """
    masses = metric_masses(masses, mapping, "explain")
    _check_lengths(mapping, atom_names=atom_names, bead_names=bead_names, residues=residues, bead_masses=bead_masses)
    matrix = matrix_of(mapping).tocsr()
    matrix.sort_indices()
    often = np.bincount(matrix.indices, minlength=mapping.n_atoms)
    parts = 1.0 / np.maximum(often, 1)
    owned = csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    own_masses = np.asarray(owned @ (parts * masses) if bead_masses is None else bead_masses, dtype=np.float64)
    lost = np.asarray(3 * (owned @ parts))
    full = mapping.rank == 3 * mapping.n_beads
    if full:
        lost -= 3
    for block in () if full else blocks_of(mapping):
        singular = np.linalg.svd(block.weights, compute_uv=False)
        ranks = (singular > DEPENDENT * singular.max(axis=1, keepdims=True)).sum(axis=1)
        lost[block.beads] -= 3 * (ranks / block.beads.shape[1])[:, None]

    fractions = None if loss is None else loss.bead_fraction
    rows = []
    for bead in range(mapping.n_beads):
        atoms = matrix.indices[matrix.indptr[bead] : matrix.indptr[bead + 1]]
        names = tuple(str(atom) if atom_names is None else str(atom_names[atom]) for atom in atoms)
        name = str(bead) if bead_names is None else bead_names[bead]
        rows.append(
            BeadRow(
                bead=bead,
                name=name if residues is None else f"{residues[bead]} {name}",
                atoms=names,
                weights=matrix.data[matrix.indptr[bead] : matrix.indptr[bead + 1]],
                mass=float(own_masses[bead]),
                shared=tuple(atom for atom, count in zip(names, often[atoms], strict=True) if count > 1),
                lost=float(lost[bead]),
                fraction=None if fractions is None else float(fractions[bead]),
            )
        )
    return Explanation(
        rows=tuple(rows),
        n_atoms=mapping.n_atoms,
        n_beads=mapping.n_beads,
        rank=mapping.rank,
        nullity=mapping.nullity,
        unmapped=np.flatnonzero(often == 0),
        n_shared=int((often > 1).sum()),
        loss=loss,
    )


def explain_model(model: "CoarseModel", atoms: "Atoms", loss: FluctuationLoss | None = None) -> Explanation:
    """What the map of a coarse model keeps and loses, in the names of the model and of its atoms.

    Arguments:
        model: from `jaxcg.mapping.formats`, with a linear map.
        atoms: the atoms it was built for.
        loss: `fluctuation_loss` of a trajectory.
    """
    return explain(
        model.mapping,
        atoms.masses,
        atom_names=atoms.names,
        bead_names=model.bead_names,
        residues=[f"{name} {number}" for name, number in zip(model.residue_names, model.residue_ids, strict=True)],
        bead_masses=model.masses,
        loss=loss,
    )


def _check_lengths(mapping: AbstractLinearMap, **given) -> None:
    for name, values in given.items():
        expected = mapping.n_atoms if name == "atom_names" else mapping.n_beads
        if values is not None and len(values) != expected:
            raise ValueError(f"explain: {name} has {len(values)} entries, expected {expected}.")

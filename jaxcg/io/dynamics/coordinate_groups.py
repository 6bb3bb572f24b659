"""Which atoms a coordinate is made of: selected atoms, centres of mass of residues or molecules, beads of a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.sparse import csr_array

from ...errors import InputError
from ...mapping.base import AbstractLinearMap
from ...mapping.formats.model import Atoms, CoarseModel, Selector

Per = Literal["atom", "residue", "molecule"]
#: Groups whose masses differ by more than this, relatively, are not one kind of particle.
_SAME_MASS = 1e-3


@dataclass(frozen=True)
class Groups:
    """Points of a configuration, each a weighted mean of atoms.

    Arguments:
        names: (groups,) for messages.
        atoms: (used,) indices of the atoms that take part, ascending.
        weights: (groups, used) sparse; rows sum to 1.
        masses: (groups,) amu.
    """

    names: tuple[str, ...]
    atoms: np.ndarray
    weights: Any
    masses: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def mass(self) -> float:
        """The mass all groups have, amu.

        Raises:
            InputError: they differ, or it is zero.
        """
        low, high = float(np.min(self.masses)), float(np.max(self.masses))
        if low <= 0:
            name = self.names[int(np.argmin(self.masses))]
            raise InputError(f"{name}: has no mass; select particles that have one, or give a topology with masses.")
        if high - low > _SAME_MASS * high:
            first, last = (self.names[int(find(self.masses))] for find in (np.argmin, np.argmax))
            raise InputError(
                f"the particles selected have different masses, from {low:g} amu ({first}) to {high:g} amu ({last}); "
                "select particles of one kind."
            )
        return float(np.mean(self.masses))


def particle_groups(atoms: Atoms, select: Selector, selection: str, per: Per = "atom") -> Groups:
    """Particles to follow: every selected atom, or the centre of mass of those in each residue or molecule.

    Arguments:
        atoms: of the topology.
        select: what turns a selection into indices, from `jaxcg.io.selector`.
        selection: in MDAnalysis' language, e.g. ``"name OW"``.
        per: what one particle is.

    Raises:
        InputError: the selection is wrong or empty.
    """
    chosen = _selected(atoms, select, selection)
    if per == "atom":
        return _groups(atoms, [np.array([i]) for i in chosen], [_atom_name(atoms, i) for i in chosen])
    owner = {"residue": atoms.residue, "molecule": atoms.molecule}[per][chosen]
    order = np.argsort(owner, kind="stable")
    members = np.split(chosen[order], np.flatnonzero(np.diff(owner[order])) + 1)
    names = [atoms.label(int(atoms.residue[m[0]])) for m in members]
    return _groups(atoms, members, names)


def selection_groups(atoms: Atoms, select: Selector, selections: Sequence[str]) -> Groups:
    """The centre of mass of each of several selections, e.g. the ends of a distance.

    Raises:
        InputError: a selection is wrong or empty.
    """
    return _groups(atoms, [_selected(atoms, select, s) for s in selections], [f"'{s}'" for s in selections])


def bead_groups(model: CoarseModel, beads: str | None = None) -> Groups:
    """Beads of a mapping.

    Arguments:
        model: the mapping applied to a system.
        beads: which: names, types or RESIDUE:NAME, with commas; None: all.

    Raises:
        InputError: the map is not linear, or no bead has that name.
    """
    if not isinstance(model.mapping, AbstractLinearMap):
        raise InputError("the mapping is not linear; follow particles of a linear map (martini3, com, ...).")
    wanted = None if beads is None else {word.strip() for word in beads.split(",")}
    labels = list(zip(model.bead_names, model.bead_types, model.residue_names, strict=True))
    chosen = [
        i
        for i, (name, kind, residue) in enumerate(labels)
        if wanted is None or {name, kind, f"{residue}:{name}"} & wanted
    ]
    if not chosen:
        have = ", ".join(sorted({f"{residue}:{name}" for name, _, residue in labels})[:8])
        raise InputError(f"--beads {beads}: no such bead; the mapping has {have}.")
    weights = csr_array(model.mapping.matrix())[chosen]
    used = np.unique(weights.indices)
    names = tuple(f"{model.residue_names[i]} {model.residue_ids[i]} {model.bead_names[i]}" for i in chosen)
    return Groups(names, used, csr_array(weights[:, used]), np.asarray(model.masses, np.float64)[chosen])


def _selected(atoms: Atoms, select: Selector, selection: str) -> np.ndarray:
    chosen = np.asarray(select(selection), np.int64)
    if not chosen.size:
        raise InputError(f"{atoms.path}: selection '{selection}' holds no atom; look at the names in the topology.")
    return chosen


def _groups(atoms: Atoms, members: Sequence[np.ndarray], names: Sequence[str]) -> Groups:
    masses = np.array([atoms.masses[m].sum() for m in members])
    flat = np.concatenate(list(members))
    used, columns = np.unique(flat, return_inverse=True)
    sizes = np.array([len(m) for m in members])
    rows = np.repeat(np.arange(len(members)), sizes)
    # Points without any mass (sites) count their atoms equally; `Groups.mass` refuses them where the mass matters.
    shares = np.where(masses[rows] > 0, atoms.masses[flat] / np.maximum(masses[rows], 1e-300), 1 / sizes[rows])
    weights = csr_array((shares, (rows, columns)), shape=(len(members), len(used)))
    return Groups(tuple(names), used, weights, masses)


def _atom_name(atoms: Atoms, index: int) -> str:
    return f"atom {atoms.names[index]} of {atoms.label(int(atoms.residue[index]))}"

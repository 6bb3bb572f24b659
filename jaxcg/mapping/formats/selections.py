"""Beads of atoms given by number or by a selection, for a whole system."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from .assemble import Placed
from .document import GroupRule, MappingFile
from .model import Atoms, Selector
from .pieces import PieceBuilder, add_bonded, place_site, weights_of


def place_groups(mapping: MappingFile, atoms: Atoms, select: Selector | None, start: int) -> list[Placed]:
    """The beads of all groups of a mapping file, numbered from ``start`` on, in the order the file asks for.

    Raises:
        InputError: a group names atoms that the system lacks, or a selection that cannot be made or is empty.
    """
    beads: list[tuple[int, GroupRule, np.ndarray]] = []
    for group in mapping.groups:
        places = group.order or range(len(beads), len(beads) + 10**9)
        beads += [(place, group, chosen) for place, chosen in zip(places, _copies(group, atoms, select))]
    beads.sort(key=lambda bead: bead[0])
    builder = PieceBuilder()
    masses = np.asarray(atoms.masses, dtype=float)
    named: dict[str, int] = {}
    for _, group, chosen in beads:
        weights = weights_of(group.weights, masses[chosen])
        if len(weights) != len(chosen):
            raise InputError(f"{group.where}: bead {group.name} has {len(weights)} weights for {len(chosen)} atoms.")
        if abs(weights.sum()) < 1e-12:
            raise InputError(f"{group.where}: the weights of bead {group.name} sum to zero.")
        row: dict[int, float] = {}
        for atom, weight in zip(chosen.tolist(), weights.tolist()):
            row[atom] = row.get(atom, 0.0) + weight
        forces = group.force_weights
        if forces is not None and len(forces) != len(chosen):
            raise InputError(
                f"{group.where}: bead {group.name} has {len(forces)} force weights for {len(chosen)} atoms."
            )
        residue = atoms.residue_names[atoms.residue[chosen[0]]]
        coefficients = None if forces is None else dict(zip(chosen.tolist(), forces))
        number = builder.add(group.name, group.type, residue, int(chosen[0]), row, forces=coefficients)
        if mapping.sites or mapping.bonded:
            if group.name in named:
                raise InputError(
                    f"{group.where}: {group.name} makes several beads, which sites and bonds cannot tell apart."
                )
            named[group.name] = number
    for site in mapping.sites:
        named[site.name] = builder.add(site.name, site.type, "", 0, {}, mass=0.0)
    for site in mapping.sites:
        place_site(builder, site, named, masses)
    add_bonded(builder, mapping.bonded, named, {})
    piece = builder.piece(masses)
    return [Placed(piece, np.arange(atoms.n_atoms)[None], np.array([start]))] if piece else []


def _copies(group: GroupRule, atoms: Atoms, select: Selector | None):
    """The atoms of each bead that a rule makes."""
    if group.select is None:
        index = np.array(group.index, dtype=int)
        for anchor in group.anchors:
            chosen = index + anchor
            if chosen.min() < 0 or chosen.max() >= atoms.n_atoms:
                wrong = int(chosen.min()) if chosen.min() < 0 else int(chosen.max())
                raise InputError(f"{group.where}: bead {group.name} names atom {wrong} (from 0) of {atoms.n_atoms}.")
            yield chosen
        return
    if select is None:
        raise InputError(f"{group.where}: bead {group.name} needs a selection of atoms, which is not available here.")
    try:
        found = np.asarray(select(group.select), dtype=int)
    except InputError as error:
        raise InputError(f"{group.where}: {error}") from None
    if found.size == 0:
        raise InputError(f"{group.where}: the selection '{group.select}' of bead {group.name} holds no atom.")
    if group.split == "none":
        yield found
        return
    owner = np.asarray(atoms.residue if group.split == "residue" else atoms.molecule)[found]
    for number in dict.fromkeys(owner.tolist()):
        yield found[owner == number]

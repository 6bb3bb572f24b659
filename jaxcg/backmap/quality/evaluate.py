"""`quality`: every check on one structure."""

import numpy as np

from ...mapping.linear import LinearMap
from ...system import System
from .checks import check_backbone, check_bonds, check_contacts, check_double_bonds, check_rings, check_stereo
from .compare import check_beads, check_reference
from .result import Quality
from .tables import tables_of
from .vectors import angles


def quality(
    system: System,
    positions,
    *,
    mapping: LinearMap | None = None,
    y=None,
    ideal_bonds=None,
    ideal_angles: tuple | None = None,
    reference_positions=None,
) -> Quality:
    """Judges one all-atom structure.

    Arguments:
        system: what the molecule is.
        positions: (atoms, 3) nm; molecules whole.
        mapping, y: forward map and (beads, 3) bead positions in nm, to measure how well beads are reproduced.
        ideal_bonds: (bonds,) ideal length of each of ``system.bonds``, nm; NaN where unknown.
        ideal_angles: ``(atoms (angles, 3), radians (angles,))``.
        reference_positions: (atoms, 3) nm of a structure to compare with, in the same frame; NaN for missing atoms.

    Returns:
        The figures, with offenders; see `Quality`.

    Raises:
        ValueError: shapes that do not fit the system, or positions that are not finite.
    """
    x = _checked("positions", positions, (system.n_atoms, 3))
    if not np.isfinite(x).all():
        atom = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise ValueError(
            f"quality: positions of {system.atom_names[atom]} of residue {system.atom_residue[atom]} are not finite."
        )
    tables = tables_of(system)
    results = [
        check_stereo(system, x),
        check_double_bonds(system, tables, x),
        check_rings(system, tables, x),
        check_contacts(system, tables, x),
        check_backbone(system, tables, x),
    ]
    if ideal_bonds is not None:
        results.append(check_bonds(system, x, _checked("ideal_bonds", ideal_bonds, (len(system.bonds),))))
    figures, offenders = {}, {}
    for measured, found in results:
        figures.update(measured)
        offenders.update({name: tuple(members) for name, members in found.items()})
    figures.update({name: len(members) for name, members in offenders.items() if name != "ramachandran_outlier"})
    if ideal_angles is not None:
        atoms, ideal = np.asarray(ideal_angles[0]), np.asarray(ideal_angles[1])
        figures["angle_rms"] = float(np.degrees(np.sqrt(np.mean((angles(x, atoms) - ideal) ** 2))))
    if mapping is not None and y is not None:
        figures.update(check_beads(mapping, x, _checked("y", y, (mapping.n_beads, 3))))
    if reference_positions is not None:
        reference = _checked("reference_positions", reference_positions, (system.n_atoms, 3))
        figures.update(check_reference(system, tables, x, reference))
    return Quality(offenders=offenders, **figures)


def _checked(name: str, values, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape:
        raise ValueError(f"quality: {name} has shape {array.shape}, expected {shape}.")
    return array

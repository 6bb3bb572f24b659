"""Which figures of a set of structures are reported, how they are combined, and what they must reach."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from rows import Rows

from jaxcg.backmap.quality import Quality

Qualities = Sequence[Quality]


@dataclass(frozen=True)
class Figure:
    """One reported figure of a set of structures."""

    metric: str
    unit: str
    of: Callable[[Qualities], float]
    better: str = "lower"


def _total(name: str) -> Callable[[Qualities], float]:
    return lambda qualities: sum(getattr(q, name) for q in qualities)


def _mean(name: str) -> Callable[[Qualities], float]:
    return lambda qualities: float(np.mean([getattr(q, name) for q in qualities]))


def _worst(name: str, worst=max) -> Callable[[Qualities], float]:
    return lambda qualities: float(worst(getattr(q, name) for q in qualities))


#: Sums are over all structures of a case; a peer's are scaled to the same number of structures.
SUMS = (
    Figure("wrong stereo centres, total", "", _total("stereo_errors")),
    Figure("flat stereo centres, total", "", _total("stereo_flat")),
    Figure("cis peptides, total", "", _total("peptides_cis")),
    Figure("cis peptides before Pro, total", "", _total("peptides_cis_proline")),
    Figure("twisted peptides (> 30°), total", "", _total("peptides_twisted")),
    Figure("other double bonds wrong, total", "", _total("double_bond_errors")),
    Figure("pierced rings, total", "", _total("rings_pierced")),
    Figure("heavy contacts < 0.12 nm, total", "", _total("contacts_012")),
    Figure("heavy contacts < 0.22 nm, total", "", _total("contacts_022")),
    Figure("… that are hydrogen-bond pairs, total", "", _total("contacts_022_hydrogen_bonds")),
)
OTHERS = (
    Figure("bonds within 10 % of ideal, least", "%", _worst("bonds_within_10", min), "higher"),
    Figure("bond deviation, rms, mean", "%", _mean("bond_rms")),
    Figure("Ramachandran favoured, mean", "%", _mean("ramachandran_favoured"), "higher"),
    Figure("Ramachandran favoured, least", "%", _worst("ramachandran_favoured", min), "higher"),
    Figure("Ramachandran outliers, mean", "%", _mean("ramachandran_outlier")),
    Figure("bead residual, rms, mean", "nm", _mean("bead_rms")),
    Figure("bead residual, largest", "nm", _worst("bead_max")),
    Figure("φ/ψ within 45° of the source, mean", "%", _mean("phi_psi_agreement"), "higher"),
    Figure("χ1 within 40° of the source, mean", "%", _mean("chi1_agreement"), "higher"),
    Figure("backbone hydrogen bonds of the source kept, mean", "%", _mean("hydrogen_bonds_kept"), "higher"),
)
DISTANCES = (
    Figure("heavy-atom RMSD to the source, mean", "nm", _mean("rmsd_heavy")),
    Figure("heavy-atom RMSD to the source, largest", "nm", _worst("rmsd_heavy")),
    Figure("… atoms that are alike paired the closer way", "nm", _mean("rmsd_heavy_symmetric")),
    Figure("backbone RMSD to the source, mean", "nm", _mean("rmsd_backbone")),
)
#: Section A of the aims: structures mapped from atoms.
MAPPED_LIMITS = {
    "wrong stereo centres, total": 0,
    "cis peptides, total": 0,
    "cis peptides before Pro, total": 0,
    "twisted peptides (> 30°), total": 0,
    "pierced rings, total": 0,
    "heavy contacts < 0.12 nm, total": 0,
    "heavy contacts < 0.22 nm, total": 0,
    "bonds within 10 % of ideal, least": 100,
    "Ramachandran favoured, mean": 98,
    "Ramachandran favoured, least": 97,
    "heavy-atom RMSD to the source, mean": 0.065,
}
#: Section B: frames of simulations.
FRAME_LIMITS = {
    **{name: 0 for name in MAPPED_LIMITS if "total" in name},
    "bonds within 10 % of ideal, least": 100,
    "Ramachandran favoured, mean": 95,
    "Ramachandran outliers, mean": 1.5,
    "bead residual, rms, mean": 0.065,
}


def report(
    rows: Rows,
    case: str,
    ours: Qualities,
    *,
    theirs: Qualities = (),
    peer: str | None = None,
    distances: bool,
    limits: dict[str, float] | None = None,
) -> None:
    """Adds every figure of ``ours``, beside the peer's of ``theirs`` where there are some."""
    limits = limits or {}
    for figure in (*SUMS, *OTHERS, *(DISTANCES if distances else ())):
        peer_value = figure.of(theirs) if theirs else None
        if theirs and figure in SUMS:
            peer_value *= len(ours) / len(theirs)
        rows.add(
            case,
            figure.metric,
            figure.of(ours),
            figure.unit,
            better=figure.better,
            peer=peer,
            peer_value=peer_value,
            limit=limits.get(figure.metric),
        )

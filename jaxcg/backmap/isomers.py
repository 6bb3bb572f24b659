"""Cis or trans before proline: both are tried, and the one whose surroundings are less strained is kept.

Other peptides are trans in all but one case in three thousand; before proline one in twenty is cis (Weiss et al.,
Nat. Struct. Biol. 5, 676, 1998). Totals over a molecule are too noisy to compare, so only the strain around each
proline counts: ideal distances, soft repulsion and, for noisy beads, the bead springs.
"""

import jax
import numpy as np
from scipy.spatial import KDTree

from ..lockstep import Program
from ..typing import PRNGKeyArray
from .embedding import DISTANCE_STIFFNESS, REPULSION_REACH, REPULSION_STIFFNESS
from .relaxer import EMBED_BEAD_STIFFNESS, Relaxer

#: Residues around the peptide that count: from two before the proline to one after it.
BEFORE, AFTER = 2, 1
#: Strain by which cis must beat trans, kJ/mol: the free energy difference in an unstrained chain.
CIS_PENALTY = 10.0


def proline_peptides(relaxer: Relaxer, prolines) -> dict[int, int]:
    """For each residue of ``prolines``, the number of its preceding peptide among the system's double bonds."""
    residue, names = relaxer.system.atom_residue, relaxer.system.atom_names
    peptides = {
        int(residue[c]): number
        for number, (_, b, c, _) in enumerate(relaxer.system.double_bonds.tolist())
        if names[b] == "C" and names[c] == "N"
    }
    return {int(p): peptides[int(p)] for p in prolines if int(p) in peptides}


def choose_isomers(
    trans: Relaxer, prolines, heavy: np.ndarray, y: np.ndarray, key: PRNGKeyArray, *, soft: bool
) -> Program[tuple[Relaxer, np.ndarray, tuple[int, ...]]]:
    """The program that decides the peptide before every proline.

    Arguments:
        trans: relaxer with every peptide trans.
        prolines: residues to decide.
        heavy: (heavy, 3) nm, an embedding with every peptide trans.
        y: (beads, 3) nm.
        key: random key.
        soft: whether beads are noisy.

    Returns:
        The relaxer for the chosen isomers, an embedding with them, and the prolines that came out cis.
    """
    peptides = {
        proline: number
        for proline, number in proline_peptides(trans, prolines).items()
        # Strain is never negative: where trans has less than the penalty, cis cannot win and need not be tried.
        if local_strain(trans, heavy, y, _window(proline), soft=soft) > CIS_PENALTY
    }
    if not peptides:
        return trans, heavy, ()
    cis = trans.with_cis(tuple(peptides.values()))
    around = sorted({r for p in peptides for r in (p - 1, p)})
    # Both isomers start anew around the prolines, so that neither has the advantage of a longer relaxation.
    keys = jax.random.split(key, 3)
    trans_heavy = yield from trans.reembedding(heavy, y, around, keys[0], soft=soft)
    cis_heavy = yield from cis.reembedding(heavy, y, around, keys[0], soft=soft)
    chosen = []
    for proline in peptides:
        window = _window(proline)
        if local_strain(cis, cis_heavy, y, window, soft=soft) + CIS_PENALTY < min(
            local_strain(trans, trans_heavy, y, window, soft=soft), local_strain(trans, heavy, y, window, soft=soft)
        ):
            chosen.append(proline)
    if not chosen:
        return trans, heavy, ()
    mixed = trans.with_cis(tuple(peptides[p] for p in chosen))
    if len(chosen) < len(peptides):
        around = sorted({r for p in chosen for r in (p - 1, p)})
        cis_heavy = yield from mixed.reembedding(heavy, y, around, keys[2], soft=soft)
    return mixed, cis_heavy, tuple(chosen)


def _window(proline: int) -> range:
    return range(proline - BEFORE, proline + AFTER + 1)


def local_strain(relaxer: Relaxer, heavy: np.ndarray, y: np.ndarray, residues, *, soft: bool) -> float:
    """Embedding energy of the terms that touch ``residues``, kJ/mol."""
    geometry = relaxer.heavy_geometry
    inside = np.isin(relaxer.system.atom_residue[relaxer.heavy], list(residues))
    x = np.asarray(heavy, dtype=np.float64)
    pairs = geometry.pairs
    stiffness = np.vectorize(DISTANCE_STIFFNESS.get, otypes=[float])(geometry.separation)
    touching = inside[pairs].any(axis=1)
    stretch = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1) - geometry.lengths
    total = 0.5 * float(np.sum((stiffness * stretch**2)[touching]))

    close = KDTree(x).query_pairs(2 * REPULSION_REACH * geometry.radii.max(), output_type="ndarray")
    close = close[inside[close].any(axis=1)]
    n = len(x)
    known = np.sort(pairs, axis=1) @ np.array([n, 1])
    close = close[~np.isin(np.sort(close, axis=1) @ np.array([n, 1]), known)]
    overlap = REPULSION_REACH * geometry.radii[close].sum(axis=1) - np.linalg.norm(
        x[close[:, 0]] - x[close[:, 1]], axis=1
    )
    total += 0.5 * REPULSION_STIFFNESS * float(np.sum(np.maximum(overlap, 0.0) ** 2))
    if soft:
        matrix = relaxer.heavy_map.matrix().tocsr()
        held = np.asarray((matrix @ inside.astype(float)) > 0)
        total += 0.5 * EMBED_BEAD_STIFFNESS * float(np.sum((matrix @ x - y)[held] ** 2))
    return total

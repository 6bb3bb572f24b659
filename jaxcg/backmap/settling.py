"""A second look at doubtful backbones: residues with an unlikely (φ, ψ) are started anew, and the likelier is kept.

A relaxation is one sample of the basins of a posterior that has many; a Ramachandran outlier is often, not always, the
wrong one. Everything here belongs to the backbone prior and is left out when its weight is zero.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import jax
import numpy as np

from ..lockstep import Program, alone
from ..system import System
from ..typing import Array, PRNGKeyArray
from ._molecule import widened
from .prior import TAIL
from .quality.vectors import dihedrals
from .ramachandran import available, backbone_torsions, ramachandran_log_density, ramachandran_regions

if TYPE_CHECKING:
    from .map_estimate import MapEstimate
    from .relaxer import Relaxer

#: Rounds of several tries each, with these springs of noisy beads, kJ/mol/nm² (exact beads stay exact).
ROUNDS = 2
LOOSE_STIFFNESS = {True: (600.0, 200.0, 50.0, 50.0), False: (0.0,) * 4}
#: Steps of the refinement of what a round puts together; as many chunks as other refinements have, to share their
#: compiled program.
CHUNKS = (20, 40, 60, 0)
#: Steps of descent that compare a structure with the one it may replace.
DESCENT = 30
#: Share of residues outside the favoured region above which the merely allowed ones count as doubtful too (crystals at
#: high resolution have 2 %).
DOUBTFUL_SHARE = 0.025
#: Residues on either side that are taken over with a better one, and the potential that losing a doubtful one may cost,
#: kJ/mol: less than the noise between two minima of the same surroundings.
NEIGHBORHOOD, TOLERATED = 3, 10.0


class Backbone:
    """What the reference data say of the backbone of one molecule."""

    def __init__(self, system: System):
        self.system = system

    @cached_property
    def _torsions(self):
        return backbone_torsions(self.system)

    def doubt(self, x: np.ndarray) -> np.ndarray:
        """(residues,) 2 for a Ramachandran outlier of ``x`` (atoms, 3), 1 for one that is merely allowed, else 0."""
        phi, psi, residues, classes = self._torsions
        doubt = np.zeros(self.system.n_residues, dtype=int)
        if len(residues) and available():
            doubt[residues] = 2 - ramachandran_regions(dihedrals(x, phi), dihedrals(x, psi), classes)
        return doubt

    def doubtful(self, x: np.ndarray) -> tuple[int, ...]:
        """Residues that are outliers; also those merely allowed where more than 2.5 % are not favoured."""
        doubt = self.doubt(x)
        share = np.sum(doubt > 0) / max(len(self._torsions[2]), 1)
        return tuple(int(r) for r in np.flatnonzero(doubt > (0 if share > DOUBTFUL_SHARE else 1)))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        """(residues,) log p(φ, ψ) at ``x`` (atoms, 3); 0 where a residue has no φ or ψ."""
        phi, psi, residues, classes = self._torsions
        density = np.zeros(self.system.n_residues)
        if len(residues) and available():
            density[residues] = ramachandran_log_density(dihedrals(x, phi), dihedrals(x, psi), classes, tail=TAIL)
        return density


def _likeliest(backbone, relaxer, heavy, y, residues, key, soft: bool) -> Program[np.ndarray]:
    """``heavy`` with ``residues`` and their neighbours started anew, each stretch by the likeliest of several tries."""
    # The peptides on either side must be free to turn.
    anew = widened(relaxer.system, residues, 1)
    loose = LOOSE_STIFFNESS[soft]
    tries = yield from relaxer.tries(heavy, y, anew, jax.random.split(key, len(loose)), soft=soft, loose=loose)
    density = np.stack([backbone.log_density(relaxer.complete(h)) for h in tries])
    heavy = heavy.copy()
    for residue in residues:
        stretch = list(widened(relaxer.system, (residue,), 1))
        moved = np.isin(relaxer.system.atom_residue[relaxer.heavy], stretch)
        heavy[moved] = tries[density[:, stretch].sum(axis=1).argmax()][moved]
    return heavy


def prepare(relaxer: "Relaxer", heavy: np.ndarray, y: np.ndarray, *, soft: bool) -> None:
    """Compiles what `settle` needs beyond a relaxation, by a new start of no residue and no steps."""
    keys = jax.random.split(jax.random.key(0), len(LOOSE_STIFFNESS[soft]))
    alone(relaxer.tries(heavy, y, (), keys, soft=soft, loose=LOOSE_STIFFNESS[soft], steps=0))


def settle(
    backbone: Backbone,
    relaxer: "Relaxer",
    x: np.ndarray,
    y: np.ndarray,
    key: PRNGKeyArray,
    descend: "Callable[[Array | np.ndarray, int], Program[MapEstimate]]",
    *,
    noise: float | None,
) -> Program[np.ndarray]:
    """The program of a structure whose doubtful residues have been started anew, where that made them better.

    Stretches that improved are put into the old structure, the rest stays as it was, and a short descent tells which of
    the two the posterior prefers.

    Arguments:
        backbone, relaxer: of the molecule.
        x: (atoms, 3) refined structure, nm.
        y: (beads, 3) nm.
        key: random key.
        descend: ``descend(x, steps)`` is the program that minimises the posterior.
        noise: σ of each bead coordinate, nm; None for exact beads.
    """
    if not backbone.doubtful(x):
        return x
    best = yield from descend(x, DESCENT)
    bad = relaxer.bad_residues(np.asarray(best.x))
    for attempt in range(ROUNDS):
        old = np.asarray(best.x, np.float32)
        doubtful = backbone.doubtful(old)
        if not doubtful:
            break
        number = jax.random.fold_in(key, attempt)
        heavy = yield from _likeliest(
            backbone, relaxer, old[relaxer.heavy], y, doubtful, number, soft=noise is not None
        )
        found = yield from relaxer.refinement(relaxer.complete(heavy), y, noise=noise, chunks=CHUNKS)
        new, better = old.copy(), 0
        before, after = backbone.doubt(old), backbone.doubt(found)
        for residue in doubtful:
            stretch = list(widened(relaxer.system, (residue,), NEIGHBORHOOD))
            if after[stretch].sum() < before[stretch].sum():
                moved = np.isin(relaxer.system.atom_residue, stretch)
                new[moved] = found[moved]
                better += 1
        if not better:
            continue
        again = yield from descend(new, DESCENT)
        candidate = np.asarray(again.x)
        worse = relaxer.bad_residues(candidate)
        fewer = backbone.doubt(candidate).sum() < before.sum()
        if fewer and len(worse) <= len(bad) and again.potential < best.potential + TOLERATED * better:
            best, bad = again, worse
    return np.asarray(best.x, np.float32)

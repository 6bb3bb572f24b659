"""Do torsions mix? Populations of their wells with errors, transitions of every chain, R-hat and effective samples."""

from dataclasses import dataclass

import numpy as np

from .convergence import circular_convergence, mean_standard_error
from .torsions import WELLS, Torsions

#: A transition counts once the torsion is this far (degrees) inside another well; what turns back earlier has not left.
MARGIN = 20.0


@dataclass(frozen=True)
class TorsionMixing:
    """How each torsion of a set of chains mixes.

    Fields:
        torsions: which they are.
        draws: per chain.
        mean, sd, mean_error: (torsions,) circular mean, standard deviation and error of the mean, radians.
        r_hat, bulk, tail: (torsions,) the worse of cosine and sine; see `circular_convergence`.
        populations, population_errors: (torsions, wells) share of the draws in each well and its Monte Carlo standard
            error; nan beyond a torsion's last well, errors also nan where all draws agree.
        chain_populations: (chains, torsions, wells).
        transitions: (chains, torsions) changes of well.
    """

    torsions: Torsions
    draws: int
    mean: np.ndarray
    sd: np.ndarray
    mean_error: np.ndarray
    r_hat: np.ndarray
    bulk: np.ndarray
    tail: np.ndarray
    populations: np.ndarray
    population_errors: np.ndarray
    chain_populations: np.ndarray
    transitions: np.ndarray

    def wells(self, torsion: int) -> tuple[str, ...]:
        """Names of the wells of a torsion, in the order of its populations."""
        return WELLS[self.torsions.wells[torsion]][1]

    def unmoved(self) -> np.ndarray:
        """(torsions,) True where every chain stayed in one well and all in the same: nothing was learned of others."""
        return (self.transitions.sum(axis=0) == 0) & (np.nanmax(self.populations, axis=1) == 1)


def torsion_mixing(torsions: Torsions, angles: np.ndarray) -> TorsionMixing:
    """Diagnostics of every torsion.

    Arguments:
        torsions: from `find_torsions`, say.
        angles: (chains, draws, torsions) radians, from `Torsions.along` of positions (chains, draws, atoms, 3).

    Raises:
        ValueError: the shapes do not fit.
    """
    angles = np.asarray(angles)
    if angles.ndim != 3 or angles.shape[2] != len(torsions) or 0 in angles.shape[:2]:
        raise ValueError(
            f"torsion_mixing: angles have shape {angles.shape}, expected (chains, draws, {len(torsions)})."
        )
    chains, _, count = angles.shape
    wells = max(len(names) for _, names in WELLS.values())
    populations, errors = np.full((2, count, wells), np.nan)
    by_chain = np.full((chains, count, wells), np.nan)
    transitions = np.zeros((chains, count), dtype=int)
    fold = np.where(np.array(torsions.wells) == "twofold", 2, 1)
    for kind in dict.fromkeys(torsions.wells):
        which = np.flatnonzero([own == kind for own in torsions.wells])
        well, inside = _wells(np.degrees(fold[which] * angles[:, :, which]), kind)
        transitions[:, which] = _transitions(well, inside)
        for k in range(len(WELLS[kind][1])):
            within = well == k
            populations[which, k] = within.mean(axis=(0, 1))
            errors[which, k] = mean_standard_error(within)
            by_chain[:, which, k] = within.mean(axis=1)
    mixing = circular_convergence(fold * angles)
    return TorsionMixing(
        torsions=torsions,
        draws=angles.shape[1],
        mean=mixing.mean / fold,
        sd=mixing.sd / fold,
        mean_error=mixing.mean_error / fold,
        r_hat=mixing.r_hat,
        bulk=mixing.bulk,
        tail=mixing.tail,
        populations=populations,
        population_errors=errors,
        chain_populations=by_chain,
        transitions=transitions,
    )


def _wells(degrees, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Number of the well each angle is in, and whether it lies `MARGIN` inside it."""
    edges = np.array(WELLS[kind][0])
    wrapped = (degrees + 180) % 360 - 180
    well = (np.searchsorted(edges, wrapped, side="right") - 1) % len(edges)
    distance = np.abs((degrees[..., None] - edges + 180) % 360 - 180).min(axis=-1)
    return well, distance >= MARGIN


def _transitions(well, inside) -> np.ndarray:
    """(chains, torsions) changes of the well last entered, of (chains, draws, torsions)."""
    inside[:, 0] = True  # every chain starts somewhere
    last = np.where(inside, np.arange(well.shape[1])[:, None], 0)
    entered = np.take_along_axis(well, np.maximum.accumulate(last, axis=1), axis=1)
    return (np.diff(entered, axis=1) != 0).sum(axis=1)

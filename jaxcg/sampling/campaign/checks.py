"""Starts that cannot be used are refused before anything runs, with the frame, the chain and the bead."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...errors import ResultError
from ...posterior import Posterior
from ..geometry import check_start

#: How far a bead of a start may be from its place, nm: rounding of coordinate files stays below, nothing else does.
OFF_FIBRE = 0.005


def check_on_fibre(
    posterior: Posterior, positions: np.ndarray, y: np.ndarray, *, frame: int, bead_labels: Sequence[str] | None = None
) -> None:
    """Refuses starts that are off what the posterior holds exactly: beads of any map, and rigid bonds.

    Starts that are not finite pass: `check_finite` tells of them.

    Arguments:
        posterior: its map, and whether it is exact.
        positions: (chains, atoms, 3) nm.
        y: beads of the frame, of the shape of ``posterior.y``.
        frame: its number, for the message.
        bead_labels: names of the beads for the message.

    Raises:
        ValueError: a chain starts off the fibre; the message says what of which chain is how far off.
    """
    if not np.isfinite(positions).all():
        return
    own = eqx.tree_at(lambda p: p.y, posterior, jnp.asarray(y, posterior.y.dtype))
    try:
        check_start(own, positions, farthest=OFF_FIBRE, bead_labels=bead_labels)
    except ValueError as error:
        raise ValueError(f"frame {frame}: {error}") from None


def check_finite(potentials: np.ndarray, positions: np.ndarray, labels: np.ndarray) -> None:
    """Refuses starts whose energy is not a number.

    Arguments:
        potentials: (walkers,) kJ/mol.
        positions: (walkers, atoms, 3) nm.
        labels: (walkers, 2) frame and chain.

    Raises:
        ResultError: one is not finite; the message names frame and chain.
    """
    bad = np.flatnonzero(~np.isfinite(potentials))
    if not bad.size:
        return
    frame, chain = labels[bad[0]]
    what = "position" if not np.isfinite(positions[bad[0]]).all() else "energy"
    others = f" ({bad.size} of {len(potentials)} chains in all)" if bad.size > 1 else ""
    raise ResultError(
        f"frame {frame}: the {what} at the start of chain {chain} is not finite{others}; atoms may lie on top of each "
        "other: relax it again with another seed, or give another start."
    )

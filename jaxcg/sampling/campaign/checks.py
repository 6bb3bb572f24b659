"""Starts that cannot be used are refused before anything runs, with the frame, the chain and the bead."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...errors import ResultError
from ...posterior import Posterior

#: How far a bead of a start may be from its place, nm: rounding of coordinate files stays below, nothing else does.
OFF_FIBRE = 0.005


def check_on_fibre(
    posterior: Posterior, positions: np.ndarray, y: np.ndarray, *, frame: int, bead_labels: Sequence[str] | None = None
) -> None:
    """Refuses starts whose beads are not where they should be; a soft posterior takes any.

    Arguments:
        posterior: its map, and whether it is exact.
        positions: (chains, atoms, 3) nm.
        y: (beads, 3) nm.
        frame: its number, for the message.
        bead_labels: names of the beads for the message.

    Raises:
        ValueError: a chain starts off the fibre; the message says which bead of which chain is how far off.
    """
    if not posterior.exact:
        return
    beads = np.asarray(_beads(posterior.mapping, jnp.asarray(positions)), dtype=np.float64)
    for chain, found in enumerate(beads):
        off = np.linalg.norm(found - np.asarray(y, dtype=np.float64), axis=1)
        bead = int(np.argmax(off))
        if off[bead] > OFF_FIBRE:
            name = f"bead {bead}" if bead_labels is None else f"bead {bead} ({bead_labels[bead]})"
            count = int(np.sum(off > OFF_FIBRE))
            others = f"; {count} beads are off" if count > 1 else ""
            raise ValueError(
                f"frame {frame}: chain {chain} starts off the fibre: its {name} is {off[bead]:.3g} nm from where it "
                f"should be{others}. Give structures that map onto these beads, or take the beads as noisy."
            )


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


@eqx.filter_jit
def _beads(mapping, positions):
    return jax.vmap(mapping)(positions)

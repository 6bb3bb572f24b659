"""Whether chains may start where they are told to: on what the posterior holds exactly, or near enough."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...mapping.base import AbstractLinearMap
from ...mapping.residuals import residual_width
from ...posterior import Posterior
from ...typing import Array
from .constrained import ConstrainedGeometry

#: Length (nm) that a turn of one radian moves an atom of a bead by, to compare orientations with distances.
_LEVER = 0.1
#: Smallest eigenvalue of J Jᵀ, scaled to ones on its diagonal, of constraints that count as independent.
_DEPENDENT = 1e-8


def check_start(
    posterior: Posterior,
    positions: Array | np.ndarray,
    *,
    farthest: float = 0.01,
    bead_labels: Sequence[str] | None = None,
) -> None:
    """Refuses starting positions that are far from the beads and rigid bonds which ``posterior`` holds exactly.

    Kernels move a start to the surface by themselves; from far away that gives a torn molecule, or none at all.
    Everything is computed in double precision.

    Arguments:
        posterior: the target; nothing but the shape is checked for a soft one without rigid bonds.
        positions: (chains, atoms, 3) starting positions, nm.
        farthest: largest distance from a bead, or from the length of a rigid bond, that is put right, nm; for
            orientations the turn that moves an atom 0.1 nm from the centre by that much.
        bead_labels: names of the beads for the message.

    Raises:
        ValueError: the shape does not fit, a position is not finite, a start is too far away (the chain, the bead or
            bond, and how far), Newton's method finds no point of the surface near it, or constraints depend on each
            other there.
    """
    positions = np.asarray(positions, dtype=np.float64)
    n_atoms = posterior.mapping.n_atoms
    if positions.ndim != 3 or positions.shape[1:] != (n_atoms, 3):
        raise ValueError(f"the starting positions have shape {positions.shape}, expected (chains, {n_atoms}, 3).")
    if not len(positions):
        raise ValueError("there are no starting positions: give one for each chain.")
    bad = np.argwhere(~np.isfinite(positions).all(axis=2))
    if bad.size:
        raise ValueError(f"chain {bad[0][0]} starts with atom {bad[0][1]} at a position that is not finite.")
    if posterior.exact and isinstance(posterior.mapping, AbstractLinearMap):
        y = np.asarray(posterior.y, dtype=np.float64)
        weights = posterior.mapping.matrix().tocsr()
        _refuse_far(posterior, np.stack([(weights @ x - y).ravel() for x in positions]), farthest, bead_labels)
    if posterior.linear:
        return
    with jax.enable_x64(True):
        # Unit masses: the metric changes neither the surface nor whether constraints are independent.
        posterior = jax.tree.map(_double, posterior)
        geometry = ConstrainedGeometry(posterior, np.ones(n_atoms))
        before, after, independence = (
            np.stack(parts)
            for parts in zip(
                *(map(np.asarray, _inspect(geometry, jnp.asarray(x), posterior.y)) for x in positions), strict=True
            )
        )
    _refuse_far(posterior, before, farthest, bead_labels)
    chain, constraint = np.unravel_index(np.argmin(independence), independence.shape)
    if independence[chain, constraint] < _DEPENDENT:
        name = _name(posterior, constraint, bead_labels)
        raise ValueError(
            f"at the start of chain {chain} the constraints depend on each other, its {name} on others that share its "
            "atoms: leave out the ones that follow from the rest, and start from bent, not straight, angles."
        )
    lost = np.argwhere(~(np.abs(after) < 1e-9 * max(1.0, np.abs(positions).max())))
    if lost.size:
        chain, constraint = lost[0]
        raise ValueError(
            f"chain {chain} starts near its {_name(posterior, constraint, bead_labels)}, but no configuration that "
            f"holds all constraints was found near it; they may contradict or repeat each other. {_ADVICE}"
        )


_ADVICE = (
    "Relax the structure against these beads first, start from a configuration that maps onto them, or take the beads "
    "as noisy."
)


@eqx.filter_jit
def _inspect(geometry: ConstrainedGeometry, x, y):
    after = geometry.residual(geometry.retract(x, y), y)
    return geometry.residual(x, y), after, geometry.independence(x)


def _refuse_far(posterior, residuals: np.ndarray, farthest: float, bead_labels) -> None:
    """Compares distances: of a bead's centre, of its orientation by the lever, of a bond from its length."""
    width = residual_width(posterior.mapping)
    n_parts = posterior.mapping.n_beads * width // 3 if posterior.exact else 0
    of_beads = np.linalg.norm(residuals[:, : 3 * n_parts].reshape(len(residuals), n_parts, 3), axis=2)
    off = np.concatenate([of_beads, np.abs(residuals[:, 3 * n_parts :])], axis=1)
    turn = (np.arange(off.shape[1]) < n_parts) & (width == 6) & (np.arange(off.shape[1]) % 2 == 1)
    distance = off * np.where(turn, _LEVER, 1.0)
    if not distance.size or not distance.max() > farthest:
        return
    chain, part = np.unravel_index(np.argmax(distance), distance.shape)
    name = _name(posterior, part + 2 * min(part, n_parts), bead_labels)
    place = "from where it should be" if part < n_parts else "from its length"
    count = int((distance > farthest).any(axis=1).sum())
    raise ValueError(
        f"chain {chain} starts off the fibre: its {name} is {off[chain, part]:.3g} {'rad' if turn[part] else 'nm'} "
        f"{place} ({count} of {len(distance)} chains are off; at most {farthest:g} nm is put right). {_ADVICE}"
    )


def _name(posterior, constraint, bead_labels) -> str:
    width = residual_width(posterior.mapping)
    beads = width * posterior.mapping.n_beads if posterior.exact else 0
    if constraint < beads:
        bead = constraint // width
        label = f"bead {bead}" if bead_labels is None else f"bead {bead} ({bead_labels[bead]})"
        return label if constraint % width < 3 else f"{label}, in its orientation,"
    i, j = posterior.rigid_bonds.pairs[constraint - beads]
    return f"rigid bond between atoms {i} and {j}"


def _double(leaf):
    floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
    return jnp.asarray(np.asarray(leaf, dtype=np.float64)) if floating else leaf

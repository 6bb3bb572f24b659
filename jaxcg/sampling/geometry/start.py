"""Whether chains may start where they are told to: on what the posterior holds exactly, or near enough."""

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


def check_start(posterior: Posterior, positions: Array | np.ndarray, *, farthest: float = 0.01) -> None:
    """Refuses starting positions that are far from the beads and rigid bonds which ``posterior`` holds exactly.

    Kernels move a start to the surface by themselves; from far away that gives a torn molecule, or none at all.
    Everything is computed in double precision.

    Arguments:
        posterior: the target; nothing but the shape is checked for a soft one without rigid bonds.
        positions: (chains, atoms, 3) starting positions, nm.
        farthest: largest distance from a bead, or from the length of a rigid bond, that is put right, nm; for
            orientations the turn that moves an atom 0.1 nm from the centre by that much.

    Raises:
        ValueError: the shape does not fit, a position is not finite, a start is too far away (the chain, the bead or
            bond, and how far), Newton's method finds no point of the surface near it, or constraints depend on each
            other there.
    """
    positions = np.asarray(positions, dtype=np.float64)
    n_atoms = posterior.mapping.n_atoms
    if positions.ndim != 3 or positions.shape[1:] != (n_atoms, 3):
        raise ValueError(f"the starting positions have shape {positions.shape}, expected (chains, {n_atoms}, 3).")
    bad = np.argwhere(~np.isfinite(positions).all(axis=2))
    if bad.size:
        raise ValueError(f"chain {bad[0][0]} starts with atom {bad[0][1]} at a position that is not finite.")
    if posterior.exact and isinstance(posterior.mapping, AbstractLinearMap):
        y = np.asarray(posterior.y, dtype=np.float64)
        weights = posterior.mapping.matrix().tocsr()
        _refuse_far(posterior, np.stack([(weights @ x - y).ravel() for x in positions]), farthest)
    if posterior.linear:
        return
    with jax.enable_x64(True):
        # Unit masses: the metric changes neither the surface nor whether constraints are independent.
        posterior = jax.tree.map(_double, posterior)
        geometry = ConstrainedGeometry(posterior, np.ones(n_atoms))

        @jax.jit
        def inspect(x):
            after = geometry.residual(geometry.retract(x, posterior.y), posterior.y)
            return geometry.residual(x, posterior.y), after, geometry.independence(x)

        before, after, independence = (
            np.stack(parts)
            for parts in zip(*(map(np.asarray, inspect(jnp.asarray(x))) for x in positions), strict=True)
        )
    _refuse_far(posterior, before, farthest)
    chain, constraint = np.unravel_index(np.argmin(independence), independence.shape)
    if independence[chain, constraint] < _DEPENDENT:
        raise ValueError(
            f"at the start of chain {chain} the constraints depend on each other, {_name(posterior, constraint)} on "
            "others that share its atoms: leave out the ones that follow from the rest, and start from bent, not "
            "straight, angles."
        )
    lost = np.argwhere(~(np.abs(after) < 1e-9 * max(1.0, np.abs(positions).max())))
    if lost.size:
        chain, constraint = lost[0]
        raise ValueError(
            f"chain {chain} starts near {_name(posterior, constraint)}, but no configuration that holds all "
            f"constraints was found near it; they may contradict or repeat each other. {_ADVICE}"
        )


_ADVICE = "Relax the structure against these beads first, or start from a configuration that maps onto them."


def _refuse_far(posterior, residuals: np.ndarray, farthest: float) -> None:
    distance = np.abs(residuals)
    units = np.full(residuals.shape[1], "nm", dtype="U3")
    if posterior.exact and residual_width(posterior.mapping) == 6:
        turns = np.arange(6 * posterior.mapping.n_beads) % 6 >= 3
        distance[:, : len(turns)] *= np.where(turns, _LEVER, 1.0)
        units[: len(turns)][turns] = "rad"
    if not distance.size or not distance.max() > farthest:
        return
    chain, constraint = np.unravel_index(np.argmax(distance), distance.shape)
    count = int((distance.max(axis=1) > farthest).sum())
    raise ValueError(
        f"chain {chain} starts off the fibre ({count} of {len(distance)} chains do): {_name(posterior, constraint)} is "
        f"off by {abs(residuals[chain, constraint]):.3g} {units[constraint]} (at most {farthest:g} nm is put right). "
        f"{_ADVICE}"
    )


def _name(posterior, constraint) -> str:
    beads = residual_width(posterior.mapping) * posterior.mapping.n_beads if posterior.exact else 0
    if constraint < beads:
        width = residual_width(posterior.mapping)
        bead, what = constraint // width, constraint % width
        return f"bead {bead}, {'xyz'[what]}" if what < 3 else f"the orientation of bead {bead}"
    i, j = posterior.rigid_bonds.pairs[constraint - beads]
    return f"the rigid bond between atoms {i} and {j}"


def _double(leaf):
    floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
    return jnp.asarray(np.asarray(leaf, dtype=np.float64)) if floating else leaf

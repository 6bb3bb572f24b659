"""How far a configuration is from its beads, for every kind of map: positions, or positions and orientations.

A posterior holds its beads as one array: (beads, 3) positions, or for frame maps (beads, 4, 3), each bead's centre
followed by the three rows of its rotation matrix.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from scipy.sparse import coo_array, csr_array, vstack

from ..typing import Array, AtomVectors, BeadArray
from .base import AbstractLinearMap, AbstractMap
from .frames import AbstractFrameMap, FrameMap, Frames, ReferenceFrameMap
from .rotations import cross_matrix, rotation_log
from .virtual_sites import VirtualSites

#: What a posterior takes as its forward map.
AnyMap: TypeAlias = AbstractMap | AbstractFrameMap


def packed(mapping: AnyMap, y: BeadArray | Frames) -> Array:
    """Beads in the form a posterior holds them: ``y`` as an array, `Frames` as (beads, 4, 3).

    Raises:
        ValueError: another shape than the map's beads have, or a matrix that is no rotation.
    """
    if not isinstance(mapping, AbstractFrameMap):
        if isinstance(y, Frames):
            raise ValueError("y has orientations, but the mapping gives positions only; pass y.centers.")
        if y.ndim != 2 or y.shape[1] != 3 or y.shape[0] != mapping.n_beads:
            raise ValueError(f"y has shape {tuple(y.shape)}, the mapping gives {mapping.n_beads} beads: (beads, 3).")
        return jnp.asarray(y)
    if isinstance(y, Frames):
        centers = jnp.asarray(y.centers)
        y = jnp.concatenate([centers[:, None], jnp.asarray(y.rotations).astype(centers.dtype)], axis=1)
    if y.shape != (mapping.n_beads, 4, 3):
        raise ValueError(
            f"y has shape {tuple(y.shape)}; a frame map of {mapping.n_beads} beads needs Frames, or (beads, 4, 3): "
            "each bead's centre and the rows of its rotation."
        )
    if not isinstance(y, Tracer):
        _check_rotations(np.asarray(y[:, 1:], dtype=np.float64))
    return jnp.asarray(y)


def pullback(mapping: AnyMap, x: AtomVectors) -> Callable[[Array], Array]:
    """The transpose of the Jacobian at ``x`` of what `residual` compares: (beads, 3 or 6) → (atoms, 3).

    Orientations vary by their angular velocity ω in the bead's own axes, δR = R [ω]×, whatever the beads of a posterior
    are: on its fibre that is the derivative of the rotation vector.
    """
    found, pull = jax.vjp(mapping, x)
    if not isinstance(found, Frames):
        return lambda cotangent: pull(cotangent)[0]

    def turned(cotangent):
        # ⟨[ω]×, [w]×⟩ = 2 ω·w.
        cross = 0.5 * cross_matrix(cotangent[:, 3:])
        rotations = jnp.einsum("nij,njk->nik", found.rotations, cross, precision="highest")
        return pull(Frames(cotangent[:, :3], rotations))[0]

    return turned


def residual_width(mapping: AnyMap) -> int:
    """Independent numbers per bead: 3 coordinates, and 3 more for an orientation."""
    return 6 if isinstance(mapping, AbstractFrameMap) else 3


def residual(mapping: AnyMap, x: AtomVectors, y: BeadArray) -> Array:
    """(beads, 3) or (beads, 6): M(x) − y, nm, and for frames the rotation vector of R_yᵀ R(x), radians.

    The rotation vector is a coordinate of SO(3) about R_y in which the invariant (Haar) measure is d³ω at ω = 0: a
    delta function of it is a delta function on SO(3) with respect to that measure.
    """
    found = mapping(x)
    if not isinstance(found, Frames):
        return jnp.asarray(found) - y
    turn = jnp.einsum("nji,njk->nik", y[:, 1:], found.rotations, precision="highest")
    return jnp.concatenate([found.centers - y[:, 0], rotation_log(turn)], axis=1)


def support(mapping: AnyMap) -> tuple[np.ndarray, np.ndarray]:
    """Which atoms each bead depends on, as index pairs ``(bead, atom)``; all atoms for maps of an unknown kind."""
    if isinstance(mapping, AbstractLinearMap):
        bead, atom, weight = mapping.entries()
        return np.asarray(bead)[weight != 0], np.asarray(atom)[weight != 0]
    if isinstance(mapping, FrameMap | ReferenceFrameMap):
        return mapping.members()
    if isinstance(mapping, VirtualSites):
        pattern = csr_array(abs(mapping.base.matrix()))
        for uses in mapping.stage_patterns():
            pattern = csr_array(vstack([pattern, uses @ pattern]))
        pattern = coo_array(pattern[mapping.order])
        return pattern.coords[0], pattern.coords[1]
    bead, atom = np.indices((mapping.n_beads, mapping.n_atoms)).reshape(2, -1)
    return bead, atom


def _check_rotations(rotations: np.ndarray) -> None:
    error = np.abs(np.einsum("nij,nik->njk", rotations, rotations) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    wrong = np.flatnonzero(~(error < 1e-4) | ~(np.linalg.det(rotations) > 0))
    if wrong.size:
        raise ValueError(
            f"the orientation of bead {wrong[0]} is no rotation: it must be an orthogonal matrix of determinant 1."
        )

"""Constrained bonds: found in a trajectory, and gathered into the groups of atoms that they join.

A force field that holds bonds at fixed length does not report the forces that hold them. A force map must give all
atoms joined by such bonds one coefficient, so that these forces cancel; to do so it has to know the bonds. They are
known from the force field (a list of pairs), or seen in a trajectory: their length does not fluctuate.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from ..typing import Array, Float, Int

#: Bonds that are not constrained fluctuate by 1.5 to 4 % of their length at room temperature.
DEFAULT_TOLERANCE = 5e-3
_FEWEST_FRAMES = 10
_CHUNK = 2_000_000


def constrained_pairs(
    x: Float[Array | np.ndarray, "frames atoms 3"],
    candidates: Int[Array | np.ndarray, "pairs 2"] | None = None,
    *,
    box: Float[Array | np.ndarray, "*boxes 3 3"] | None = None,
    cutoff: float = 0.22,
    tolerance: float = DEFAULT_TOLERANCE,
    rounding: float = 0.0,
) -> Int[np.ndarray, "constrained 2"]:
    """Pairs of atoms whose distance does not fluctuate along a trajectory.

    A few dozen well separated frames are enough. Besides bonds this finds every other fixed distance, such as that
    between the hydrogens of rigid water.

    Arguments:
        x: positions (frames, atoms, 3), nm; at least ten frames.
        candidates: (pairs, 2) atom indices to look at, e.g. the bonds; None looks at every pair closer than
            ``cutoff`` in the first frame.
        box: (3, 3) or (frames, 3, 3) row vectors of a periodic box in reduced form, nm; distances are then between
            nearest images.
        cutoff: nm; longer than any bond that may be constrained, shorter than non-bonded contacts.
        tolerance: largest standard deviation of a constrained distance, relative to its mean.
        rounding: spacing of the numbers in the file, nm (0.001 for XTC): its share of the fluctuation, √(1/6) of it,
            is allowed on top.

    Returns:
        (constrained, 2) pairs i < j in ascending order.

    Raises:
        ValueError: fewer than ten frames, or candidates that are not pairs of atoms.
    """
    x = np.asarray(x)
    if len(x) < _FEWEST_FRAMES:
        raise ValueError(
            f"constrained_pairs: {len(x)} frames do not show which distances are fixed; "
            f"give at least {_FEWEST_FRAMES}, better a few dozen, or pass the force field's list of constraints."
        )
    boxes = None if box is None else np.broadcast_to(np.asarray(box, dtype=np.float64), (len(x), 3, 3))
    if candidates is None:
        pairs = _close_pairs(x[0].astype(np.float64), cutoff, None if boxes is None else boxes[0])
    else:
        pairs = _as_pairs(candidates, x.shape[1], "candidates")
    frames = max(1, _CHUNK // max(len(pairs), 1))
    shift, total, squares = np.zeros(len(pairs)), np.zeros(len(pairs)), np.zeros(len(pairs))
    for start in range(0, len(x), frames):
        block = x[start : start + frames]
        d = block[:, pairs[:, 0]].astype(np.float64) - block[:, pairs[:, 1]]
        if boxes is not None:
            d = _nearest_image(d, boxes[start : start + frames])
        length = np.linalg.norm(d, axis=-1)
        if start == 0:
            # Deviations from the first frame, not from zero: the fluctuation may be a millionth of the length.
            shift = length[0]
        total += (length - shift).sum(axis=0)
        squares += ((length - shift) ** 2).sum(axis=0)
    mean = total / len(x)
    deviation = np.sqrt(np.maximum(squares / len(x) - mean**2, 0.0))
    allowed = np.sqrt((tolerance * (shift + mean)) ** 2 + rounding**2 / 6)
    return pairs[deviation <= allowed]


def rigid_groups(pairs: Int[Array | np.ndarray, "pairs 2"] | None, n_atoms: int) -> Int[np.ndarray, " atoms"]:
    """The group of each atom: atoms joined by constrained pairs, directly or through others, share one.

    Arguments:
        pairs: (pairs, 2) constrained pairs, e.g. of an OpenMM system; None for no constraint.
        n_atoms: number of atoms.

    Returns:
        (atoms,) group numbers 0, 1, ... in the order of each group's first atom; an atom in no pair is alone in its
        group.

    Raises:
        ValueError: indices out of range, or an atom paired with itself.
    """
    if pairs is None:
        return np.arange(n_atoms)
    pairs = _as_pairs(pairs, n_atoms, "constraints")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n_atoms, n_atoms))
    labels = connected_components(graph, directed=False)[1]
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _as_pairs(pairs, n_atoms: int, what: str) -> np.ndarray:
    pairs = np.asarray(pairs)
    if pairs.size == 0:
        return np.zeros((0, 2), dtype=np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise ValueError(f"{what}: expected an integer array of shape (pairs, 2), got {pairs.dtype} {pairs.shape}.")
    if pairs.min() < 0 or pairs.max() >= n_atoms:
        raise ValueError(f"{what}: atom indices must be in 0..{n_atoms - 1}.")
    if np.any(pairs[:, 0] == pairs[:, 1]):
        raise ValueError(f"{what}: an atom is paired with itself.")
    return np.unique(np.sort(pairs.astype(np.int64), axis=1), axis=0)


def _close_pairs(x: np.ndarray, cutoff: float, box: np.ndarray | None) -> np.ndarray:
    """Pairs of atoms closer than ``cutoff``, across the faces of the box too."""
    atoms = np.arange(len(x))
    if box is not None:
        fraction = x @ np.linalg.inv(box)
        fraction -= np.floor(fraction)
        # Atoms just inside the lower faces stand beyond the upper ones too.
        heights = 1 / np.linalg.norm(np.linalg.inv(box), axis=0)
        margin = cutoff / heights
        for axis in range(3):
            low = fraction[:, axis] < margin[axis]
            fraction = np.concatenate([fraction, fraction[low] + np.eye(3)[axis]])
            atoms = np.concatenate([atoms, atoms[low]])
        x = fraction @ box
    found = atoms[KDTree(x).query_pairs(cutoff, output_type="ndarray")]
    found = found[found[:, 0] != found[:, 1]]
    return np.unique(np.sort(found, axis=1), axis=0).astype(np.int64).reshape(-1, 2)


def _nearest_image(d: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Displacements (frames, pairs, 3) shortened by whole vectors of each frame's reduced box, in double precision."""
    for axis in (2, 1, 0):
        vector = boxes[:, None, axis]
        d = d - np.round(d[..., axis, None] / vector[..., axis, None]) * vector
    return d

"""Atoms followed across periodic boundaries, frame to frame."""

from collections.abc import Sequence

import numpy as np

from ...errors import InputError
from ...space import nearest_image

#: A move between frames longer than this share of the box might be that of another image.
_AMBIGUOUS = 0.4


class Unwrapping:
    """Follows atoms from frame to frame, across blocks.

    Arguments:
        path: of the file, for messages.
        indices: (atoms,) numbers of the atoms in it, for messages.
    """

    def __init__(self, path: str, indices: np.ndarray):
        self._path, self._indices = path, indices
        self._raw: np.ndarray | None = None
        self._whole: np.ndarray | None = None

    def __call__(self, x: np.ndarray, boxes: np.ndarray, numbers: Sequence[int], start: np.ndarray) -> np.ndarray:
        """Unwrapped positions of the next block.

        Arguments:
            x: (frames, atoms, 3) nm, in any image.
            boxes: (frames, 3, 3) box vectors as rows, nm; zeros where a frame has none.
            numbers: of the frames, for messages.
            start: (atoms, 3) where the first frame of all is put, an image of it.

        Raises:
            InputError: an atom moves too far to tell which image it is; the message names the frame.
        """
        first = self._raw is None
        raw = x if self._raw is None else np.concatenate([self._raw[None], x])
        moves = np.diff(raw, axis=0)
        skip = 1 if first else 0
        for k in range(len(moves)):
            box = boxes[k + skip].astype(np.float64)
            if box.any():
                moves[k] = self._folded(moves[k], box, numbers[k + skip])
        origin = start if self._whole is None else self._whole
        path = origin + np.concatenate([np.zeros_like(origin)[None], np.cumsum(moves, axis=0)])
        self._raw, self._whole = x[-1], path[-1]
        return path if first else path[1:]

    def _folded(self, move: np.ndarray, box: np.ndarray, number: int) -> np.ndarray:
        move = _into_brick(move, box)
        limit = _AMBIGUOUS * float(np.diag(box).min())
        far = np.flatnonzero(np.einsum("ak,ak->a", move, move) > limit**2)
        if far.size:
            move[far] = nearest_image(move[far], box)
            lengths = np.linalg.norm(move[far], axis=1)
            if lengths.max() > limit:
                worst = int(self._indices[far[np.argmax(lengths)]])
                raise InputError(
                    f"{self._path}, frame {number}: atom {worst + 1} has moved by {lengths.max():.3g} nm since the "
                    "frame before, about half the box, so that its image is ambiguous; give frames closer in time, or "
                    "an unwrapped trajectory with --no-unwrap."
                )
        return move


def nearest_images(d: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Nearest image of the vectors (frames, 3), each in the box of its frame."""
    d = d.copy()
    periodic = np.flatnonzero(boxes.any(axis=(1, 2)))
    if not periodic.size:
        return d
    some, box = d[periodic], boxes[periodic]
    folded = _into_brick(some, box)
    # What is longer than half the box may have a nearer image in a tilted one.
    half = 0.5 * np.diagonal(box, axis1=1, axis2=2).min(axis=1)
    for k in np.flatnonzero(np.linalg.norm(folded, axis=1) >= half):
        folded[k] = nearest_image(folded[k], box[k])
    d[periodic] = folded
    return d


def _into_brick(d: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Images of ``d`` (..., 3) in the brick around the origin, for lower triangular ``boxes`` (..., 3, 3)."""
    for axis in (2, 1, 0):
        d = d - np.round(d[..., axis] / boxes[..., axis, axis])[..., None] * boxes[..., axis, :]
    return d

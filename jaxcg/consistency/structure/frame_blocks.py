"""Sums over blocks of frames: a stream of any length in a memory that does not grow."""

import numpy as np


class FrameBlocks:
    """Sums of rows of numbers over blocks of consecutive frames.

    At first a block is one frame; whenever there are twice ``fewest`` of them neighbours are merged, and blocks hold
    twice as many frames from then on. Block errors and block bootstraps lose nothing: theirs hold several frames.

    Arguments:
        fewest: blocks kept at least, once there were as many frames.
    """

    def __init__(self, fewest: int = 512) -> None:
        self._fewest = fewest
        self._sums: list[np.ndarray] = []
        self._open: np.ndarray | None = None
        self._in_open = 0
        #: Frames of a block.
        self.length = 1
        #: Frames added.
        self.frames = 0

    def add(self, row: np.ndarray) -> None:
        """Adds the numbers of one frame."""
        row = np.asarray(row, np.float64)
        self._open = row.copy() if self._open is None else self._open + row
        self._in_open += 1
        self.frames += 1
        if self._in_open == self.length:
            self._sums.append(self._open)
            self._open, self._in_open = None, 0
        if len(self._sums) == 2 * self._fewest:
            self._sums = [a + b for a, b in zip(self._sums[::2], self._sums[1::2], strict=True)]
            self.length *= 2

    def total(self) -> np.ndarray:
        """Sum over all frames.

        Raises:
            ValueError: no frame was added.
        """
        if not self.frames:
            raise ValueError("structure: no frames were given; check the selection of frames.")
        parts = self._sums if self._open is None else [*self._sums, self._open]
        return np.sum(np.stack(parts), axis=0)

    def means(self) -> np.ndarray:
        """(blocks, numbers) mean over the frames of every complete block, in their order."""
        self.total()
        return np.stack(self._sums) / self.length

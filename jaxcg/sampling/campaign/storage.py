"""Arrays too long for memory: written chunk by chunk into plain files, and found again after a crash."""

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np


class Rows:
    """A pytree of arrays with a common leading axis on disk, one file for each leaf, rows written where they belong.

    Plain writes, not a memory map: a full disk is then an error that can be told, not a crash.

    Arguments:
        folder: where the files are; made when missing.
        name: of the files.
    """

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, start: int, values: Any) -> None:
        """Puts the leaves of ``values`` (rows, ...) at row ``start``; what stood there is replaced.

        Raises:
            OSError: it cannot be written.
        """
        for number, leaf in enumerate(jax.tree.leaves(values)):
            leaf = np.ascontiguousarray(leaf)
            path = self._path(number)
            with open(path, "r+b" if path.exists() else "w+b") as file:
                file.seek(start * leaf[:1].nbytes)
                file.write(leaf.tobytes())
                file.flush()
                os.fsync(file.fileno())

    def read(self, shapes: Any, rows: int) -> Any:
        """The first ``rows`` rows, mapped into memory, as a tree like ``shapes`` (leaves with the shape of a row)."""
        leaves, structure = jax.tree.flatten(shapes)
        arrays = [
            np.memmap(self._path(i), dtype=leaf.dtype, mode="r", shape=(rows, *leaf.shape))
            for i, leaf in enumerate(leaves)
        ]
        return jax.tree.unflatten(structure, arrays)

    def remove(self) -> None:
        """Deletes the files."""
        for path in self.folder.glob(f"{self.name}-*.raw"):
            path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number}.raw"

"""A sampling problem ready to run: posteriors of all frames and starts of their chains, in one file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...errors import InputError
from ...system import System
from ..problem import load_problem, save_problem

if TYPE_CHECKING:
    from ...posterior import Posterior


@dataclass(frozen=True)
class SamplingProblem:
    """What the sampling of frames needs; saved and loaded without OpenMM or MDAnalysis.

    Arguments:
        posterior: of the first frame; those of the others differ in their beads.
        system: the molecule.
        frames: their numbers.
        beads: (frames, beads, 3) nm, float64.
        starts: (frames, starts, atoms, 3) nm.
        bead_labels: names of the beads.
        pdb: topology as the text of a PDB file.
        notes: what was decided, for the user.
    """

    posterior: Posterior
    system: System
    frames: tuple[int, ...]
    beads: np.ndarray
    starts: np.ndarray
    bead_labels: tuple[str, ...]
    pdb: str
    notes: tuple[str, ...]

    def posteriors(self, which: Sequence[int] | None = None) -> list[Posterior]:
        """p(x|y) of every frame, or of those at the given places."""
        chosen = range(len(self.frames)) if which is None else which
        dtype = self.posterior.y.dtype
        return [eqx.tree_at(lambda p: p.y, self.posterior, jnp.asarray(self.beads[i], dtype)) for i in chosen]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file, atomically."""
        extra = {name: getattr(self, name) for name in ("frames", "beads", "starts", "bead_labels", "pdb", "notes")}
        save_problem(path, self.posterior, self.system, **extra)

    @staticmethod
    def load(path: str | os.PathLike) -> SamplingProblem:
        """Reads the file.

        A problem written by `jaxcg.io.save_problem` will do when it has ``starts``, (starts, atoms, 3) of its one
        frame.

        Raises:
            InputError: the file cannot be read, or lacks starts.
        """
        tree = load_problem(path)
        posterior, system, starts = tree["posterior"], tree.get("system"), tree.get("starts")
        if not isinstance(system, System) or starts is None or np.ndim(starts) not in (3, 4):
            raise InputError(f"{path}: holds no starts to sample from; write it with jaxcg sample --prepare.")
        starts = np.asarray(starts)
        starts = starts[None] if starts.ndim == 3 else starts
        beads = np.asarray(tree.get("beads", np.asarray(posterior.y)[None]), dtype=np.float64)
        n_atoms, n_beads = posterior.mapping.n_atoms, posterior.mapping.n_beads
        if starts.shape[2:] != (n_atoms, 3) or beads.shape != (len(starts), n_beads, 3) or system.n_atoms != n_atoms:
            raise InputError(
                f"{path}: starts have shape {starts.shape} and beads {beads.shape}, but the map takes {n_atoms} atoms "
                f"to {n_beads} beads."
            )
        labels = tuple(tree.get("bead_labels", (f"bead {i}" for i in range(n_beads))))
        frames: Any = tree.get("frames", tuple(range(len(starts))))
        return SamplingProblem(
            posterior, system, tuple(frames), beads, starts, labels, tree.get("pdb", ""), tuple(tree.get("notes", ()))
        )

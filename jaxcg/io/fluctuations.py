"""What a map loses of the motion in a trajectory file, streamed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..mapping.base import AbstractLinearMap
from ..mapping.formats.model import Atoms, CoarseModel
from ..mapping.information import FluctuationAnalysis, FluctuationLoss
from ..mapping.linear import LinearMap
from ..space import BondWalk, make_whole
from .trajectories import BrokenFrame, Trajectory


def trajectory_loss(
    source: Trajectory,
    numbers: Sequence[int],
    atoms: Atoms,
    model: CoarseModel,
    progress: Callable[[str, int, int], None],
) -> tuple[FluctuationLoss | None, str | None]:
    """Fluctuations of the one molecule that a model maps, made whole and superposed, and what of them the beads lose.

    Several molecules drift apart, and their drift would drown everything inside them: for those there is no answer.

    Arguments:
        source: the trajectory.
        numbers: frames to use.
        atoms: their masses and bonds.
        model: a model with a linear map.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The loss, with zeros for atoms of other molecules, or None and the reason.
    """
    mapping = model.mapping
    if not isinstance(mapping, AbstractLinearMap):
        return None, "the map is not linear"
    bead, atom, weight = mapping.entries()
    molecules = np.unique(atoms.molecule[atom])
    if len(molecules) != 1:
        return None, f"beads of {len(molecules)} molecules, which drift apart"
    if len(numbers) < 2:
        return None, "one frame does not fluctuate"
    inside = np.flatnonzero(atoms.molecule == molecules[0])
    place = np.full(atoms.n_atoms, -1)
    place[inside] = np.arange(len(inside))
    own = LinearMap.from_weights(bead, place[atom], weight, mapping.n_beads, len(inside))
    bonds = np.zeros((0, 2), dtype=int) if atoms.bonds is None else place[atoms.bonds]
    walk = BondWalk.of(bonds[(bonds >= 0).all(axis=1)], len(inside))
    masses = np.asarray(atoms.masses)[inside]
    analysis = FluctuationAnalysis.of(own, masses, "translation and rotation")
    state = None
    # Blocks of one length compile once; what is left over at the end goes one frame at a time.
    length = min(source.block_length(), len(numbers))
    starts = list(range(0, len(numbers) - length + 1, length))
    chunks = [numbers[s : s + length] for s in starts] + [[n] for n in numbers[len(starts) * length :]]
    done = 0
    for chunk in chunks:
        progress("fluctuations", done, len(numbers))
        try:
            block = source.read(chunk)
        except BrokenFrame:
            break
        frames = np.stack(
            [
                np.asarray(make_whole(x[inside], box, walk)) if box.any() else x[inside]
                for x, box in zip(block.positions, block.boxes, strict=True)
            ]
        ).astype(np.float64)
        state = analysis.update(analysis.init(frames[0]) if state is None else state, frames)
        done += len(chunk)
    if state is None or done < 2:
        return None, "fewer than two whole frames"
    progress("fluctuations", len(numbers), len(numbers))
    loss = analysis.result(state)
    everywhere = {}
    for name in ("atom_fluctuation", "atom_loss"):
        full = np.zeros(atoms.n_atoms)
        full[inside] = getattr(loss, name)
        everywhere[name] = full
    return replace(loss, **everywhere), None

"""Force matching (MS-CG): the linear force field nearest to the forces on the beads, frame by frame."""

import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..mapping.base import AbstractLinearMap
from ..mapping.force_maps import ForceMap
from .force_terms import AbstractForceTerm


@dataclass(frozen=True)
class NormalEquations:
    """Sums over frames of a linear least-squares problem G c = F, in blocks of consecutive frames.

    They are all that a fit, its cross-validation and its bootstrap need; frames are seen once and not kept.

    Fields:
        normal: (blocks, parameters, parameters) Σ GᵀG.
        right: (blocks, parameters) Σ GᵀF.
        square: (blocks,) Σ F².
        frames: (blocks,) number of frames.
        components: (blocks,) number of force components.
        seen: (intervals of all terms,) how often the coordinate of a term was in an interval of its space.
    """

    normal: np.ndarray
    right: np.ndarray
    square: np.ndarray
    frames: np.ndarray
    components: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class ForceMatching:
    """Linear force matching of any sum of terms.

    Minimises ⟨Σ_i |F_i − Σ_k c_k G_ki|²⟩ over c: of all force fields made of the terms, the one nearest to the
    many-body mean force. For frames that sample the canonical ensemble and forces mapped by a valid force map it is
    the projection of the potential of mean force.

    Use `init`, then `step` for every frame (or `accumulate` for many), then `jaxcg.fit.solve_forces`.

    Arguments:
        terms: such as `PairForce`, `BondForce`, `AngleForce`, `DihedralForce`, `TripletForce`; names must differ.
        frames_per_block: consecutive frames of a block; blocks should be longer than correlations last.

    Raises:
        ValueError: no terms, two of the same name, or blocks without frames.

    Source: Izvekov & Voth, J. Phys. Chem. B 109, 2469 (2005); Noid et al., J. Chem. Phys. 128, 244114 (2008).
    """

    terms: Sequence[AbstractForceTerm]
    frames_per_block: int = 10

    def __post_init__(self):
        names = [term.name for term in self.terms]
        if not names or len(set(names)) < len(names) or self.frames_per_block < 1:
            raise ValueError("ForceMatching: give terms with different names, and blocks of one frame or more.")

    @property
    def columns(self) -> list[slice]:
        """Where the parameters of each term stand among all."""
        ends = np.cumsum([0, *(term.space.parameters for term in self.terms)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    def init(self) -> NormalEquations:
        """No frames yet."""
        count = sum(term.space.parameters for term in self.terms)
        seen = np.zeros(sum(term.space.intervals for term in self.terms), np.int64)
        none = np.zeros(0, np.int64)
        return NormalEquations(np.zeros((0, count, count)), np.zeros((0, count)), np.zeros(0), none, none, seen)

    def step(self, sums: NormalEquations, positions, forces, box=None) -> NormalEquations:
        """The sums with one more frame.

        Arguments:
            sums: of the frames so far.
            positions: (beads, 3) nm.
            forces: (beads, 3) on them, kJ/mol/nm.
            box: (3, 3) reduced box vectors, nm, or None.

        Raises:
            ValueError: shapes do not fit, a number is not finite, or a cutoff is beyond half the box.
        """
        x, f = np.asarray(positions, np.float64), np.asarray(forces, np.float64)
        number = int(sums.frames.sum())
        if x.ndim != 2 or x.shape[1] != 3 or f.shape != x.shape:
            raise ValueError(
                f"ForceMatching, frame {number}: positions have the shape {x.shape} and forces {f.shape}; give "
                "(beads, 3) for both."
            )
        for values, what in ((x, "position"), (f, "force")):
            bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
            if bad.size:
                raise ValueError(f"ForceMatching, frame {number}: the {what} of bead {bad[0]} is not finite.")
        box = None if box is None else np.asarray(box, np.float64)
        found = [term.design(x, box) for term in self.terms]
        design = np.concatenate([columns for columns, _ in found]).reshape(-1, x.size)
        values = [design @ design.T, design @ f.ravel(), np.sum(f * f), 1, x.size]
        seen = sums.seen + np.concatenate([counts for _, counts in found])
        arrays = [sums.normal, sums.right, sums.square, sums.frames, sums.components]
        if not len(sums.frames) or sums.frames[-1] >= self.frames_per_block:
            arrays = [np.concatenate([a, np.asarray(v)[None]]) for a, v in zip(arrays, values, strict=True)]
        else:
            arrays = [np.concatenate([a[:-1], a[-1:] + v]) for a, v in zip(arrays, values, strict=True)]
        normal, right, square, frames, components = arrays
        return NormalEquations(normal, right, square, frames, components, seen)

    def accumulate(self, positions, forces, boxes=None, *, sums: NormalEquations | None = None) -> NormalEquations:
        """The sums over many frames.

        Arguments:
            positions, forces: (frames, beads, 3) nm and kJ/mol/nm; any iterable of frames.
            boxes: (frames, 3, 3) nm, (3, 3) for all, or None.
            sums: to go on from; None to begin.
        """
        sums = self.init() if sums is None else sums
        boxes = repeated(boxes)
        for x, f, box in zip(positions, forces, boxes, strict=False):
            sums = self.step(sums, x, f, box)
        return sums


def repeated(boxes) -> Iterable:
    """One box for each frame, for ever where there is but one."""
    if boxes is None or np.ndim(boxes) == 2:
        return repeat(boxes)
    return iter(boxes)


def map_frames(mapping: AbstractLinearMap, force_map: ForceMap, positions, forces) -> tuple[np.ndarray, np.ndarray]:
    """Bead positions and forces from those of atoms.

    Arguments:
        mapping: of the positions.
        force_map: of the forces, made for this mapping; see `jaxcg.mapping.optimal_force_map`.
        positions, forces: (frames, atoms, 3) nm and kJ/mol/nm; molecules whole.

    Returns:
        (frames, beads, 3) nm and kJ/mol/nm.

    Raises:
        ValueError: the force map is not one of this mapping: B Wᵀ ≠ 1, so that its forces are not those of the
            potential of mean force.
    """
    if (force_map.n_beads, force_map.n_atoms) != (mapping.n_beads, mapping.n_atoms):
        raise ValueError(
            f"map_frames: the force map has {force_map.n_beads} beads of {force_map.n_atoms} atoms, the map of the "
            f"positions {mapping.n_beads} of {mapping.n_atoms}; make the force map for this mapping."
        )
    # Both maps at once: a bead displaced along its row of B must move by one, and no other bead with it.
    rng = np.random.default_rng(0)
    probe = rng.normal(size=(mapping.n_beads, 3)).astype(np.float32)
    back = np.asarray(mapping(np.asarray(force_map.transpose(probe))))
    if np.abs(back - probe).max() > 1e-3:
        raise ValueError(
            "map_frames: the force map does not belong to this mapping (B Wᵀ is not 1): its forces are not those of "
            "the potential of mean force. Make it with aggregating_force_map or optimal_force_map."
        )
    pairs = [(np.asarray(mapping(x)), np.asarray(force_map(f))) for x, f in zip(positions, forces, strict=True)]
    x, f = zip(*pairs, strict=True)
    return np.stack(x), np.stack(f)


def save_sums(path: str | os.PathLike, sums: NormalEquations) -> None:
    """Writes the sums to a .npz file, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, **sums.__dict__)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_sums(path: str | os.PathLike, problem: ForceMatching) -> NormalEquations:
    """Sums that `save_sums` wrote, to go on from.

    Raises:
        InputError: not such a file, or of other terms.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            sums = NormalEquations(**{name: data[name] for name in NormalEquations.__dataclass_fields__})
    except Exception as error:
        raise InputError(f"{path}: not a readable file of sums ({error}); delete it to start over.") from error
    empty = problem.init()
    if sums.normal.shape[1:] != empty.normal.shape[1:] or sums.seen.shape != empty.seen.shape:
        raise InputError(f"{path}: these sums belong to other terms; delete the file to start over.")
    return sums

"""Bead frames: centre of mass plus orientation of every bead, y in R^(3n) × SO(3)^n, and rigid fragments put back."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..typing import Array, AtomScalars, AtomVectors, BeadVectors, Float
from ._sparse import padded_rows, sparse_product
from .rotations import nearest_rotation, principal_axes, smallest_rotation

Rotations = Float[Array | np.ndarray, "beads 3 3"]

#: Root-mean-square radius (nm) under which the atoms of a bead count as one point.
POINT_RADIUS = 1e-5


class Frames(NamedTuple):
    """Where beads are and how they are turned: ``centers`` (beads, 3) in nm, ``rotations`` (beads, 3, 3).

    ``rotations[i]`` takes body coordinates b to the laboratory, x = centers[i] + rotations[i] b; its columns are the
    bead's axes. Right-handed, determinant +1.
    """

    centers: Array
    rotations: Array


class AbstractFrameMap(eqx.Module):
    """A map from atoms to the centres of mass and orientations of groups of atoms."""

    n_beads: eqx.AbstractVar[int]
    n_atoms: eqx.AbstractVar[int]

    @abstractmethod
    def __call__(self, x: AtomVectors) -> Frames:
        """Frames of the beads of ``x`` (atoms, 3), nm."""

    @abstractmethod
    def place(self, centers: BeadVectors, rotations: Rotations) -> Array:
        """Rigid reference fragments put at the given frames: (atoms, 3), nm.

        Atoms of several beads sit at the mean of the places their beads give them; atoms in no bead at the origin.
        """


class FrameMap(AbstractFrameMap):
    """Centre of mass and principal axes of the mass-weighted inertia tensor of every bead.

    Convention. The columns of a rotation are the principal axes in ascending order of their moments: the first is the
    axis of least inertia (the long one). The first and second axes point so that their *sign atom* lies on the
    positive side; the third is their cross product, so that frames are right-handed. The sign atom of an axis is the
    first atom of the bead, in the order given, at least half as far along the axis as the farthest one; with a
    ``reference`` it is fixed to the atom farthest along the axis in the reference, and signs then change only where
    that atom crosses the bead's middle plane. Both rules use distances inside the bead alone: frames turn with the
    molecule, R(Q x) = Q R(x), and are differentiable wherever the three moments differ.

    Where moments are equal (linear, symmetric and one-atom beads) the axes they share are open. Values stay
    orthonormal and gradients finite, the turn within the open axes having derivative zero, but frames neither vary
    smoothly nor turn with the molecule there; `degenerate` finds such beads, and `ReferenceFrameMap` is smooth for
    all of them but linear ones.

    Build one with `FrameMap.of`.

    Source: theory, "mapped orientation frame constructed from the eigenvectors of the mass-weighted inertia tensor".
    """

    _layout: "_Layout"
    _sign_slots: Array | np.ndarray
    _body: Array | np.ndarray | None
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)

    @staticmethod
    def of(groups: Sequence[Sequence[int]], masses: AtomScalars, reference: AtomVectors | None = None) -> "FrameMap":
        """Frames of groups of atoms.

        Arguments:
            groups: for each bead the indices of its atoms; beads may share atoms.
            masses: (atoms,) masses, amu.
            reference: (atoms, 3) positions, nm, that fix the sign atoms and are the fragments of `place`.

        Raises:
            ValueError: empty or massless beads, indices out of range, or positions that are not finite.
        """
        layout = _Layout.of(groups, masses, "FrameMap")
        signs, body = np.full((layout.n_beads, 2), -1, dtype=np.int32), None
        if reference is not None:
            reference = _checked_reference(reference, layout, "FrameMap")
            _, offsets = layout.host(reference)
            axes = np.linalg.eigh(layout.inertia(offsets))[1][:, :, :2]
            along = np.einsum("nwi,nia->nwa", offsets, axes)
            # A tie goes to the first: rounding must not choose.
            reach = np.abs(along)
            signs = np.argmax(reach >= (1 - 1e-6) * reach.max(axis=1, keepdims=True), axis=1).astype(np.int32)
            axes = axes * np.where(np.take_along_axis(along, signs[:, None, :], axis=1) < 0, -1.0, 1.0)
            axes = np.concatenate([axes, np.cross(axes[:, :, 0], axes[:, :, 1])[:, :, None]], axis=2)
            body = np.einsum("nwi,nia->nwa", offsets, axes)
        return FrameMap(_layout=layout, _sign_slots=signs, _body=body, n_beads=layout.n_beads, n_atoms=layout.n_atoms)

    def __call__(self, x: AtomVectors) -> Frames:
        """Frames of the beads of ``x`` (atoms, 3), nm, in the dtype of ``x``."""
        centers, offsets = self._layout.offsets(x)
        _, axes = principal_axes(self._layout.inertia(offsets))
        along = _einsum("nwi,nia->nwa", offsets, axes[:, :, :2])
        reach = jnp.abs(along)
        first = jnp.argmax(reach >= 0.5 * jnp.max(reach, axis=1, keepdims=True), axis=1)
        slot = jnp.where(self._sign_slots >= 0, self._sign_slots, first)
        chosen = jnp.take_along_axis(along, slot[:, None, :], axis=1)
        axes = axes[:, :, :2] * jnp.where(chosen < 0, -1.0, 1.0).astype(axes.dtype)
        third = jnp.cross(axes[:, :, 0], axes[:, :, 1])
        return Frames(centers, jnp.concatenate([axes, third[:, :, None]], axis=2))

    def place(self, centers: BeadVectors, rotations: Rotations) -> Array:
        """Rigid reference fragments put at the given frames: (atoms, 3), nm.

        Exact inverse of the map for beads of the shape of the reference and three different moments. Atoms of several
        beads sit at the mean of the places their beads give them; atoms in no bead at the origin.

        Raises:
            ValueError: the map was built without a reference.
        """
        if self._body is None:
            raise ValueError("FrameMap: place needs fragments; build the map with FrameMap.of(..., reference=x).")
        return self._layout.place(self._body, centers, rotations)

    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """The atoms of every bead as index pairs ``(bead, atom)``."""
        return self._layout.members()

    def degenerate(self, x: AtomVectors, tolerance: float = 1e-3) -> "FrameReport":
        """Which beads of ``x`` have an orientation that their inertia leaves open; on the host.

        Arguments:
            x: (atoms, 3) positions, nm.
            tolerance: two principal moments closer than this fraction of the trace count as equal.
        """
        offsets = self._layout.host(np.asarray(x, dtype=np.float64))[1]
        moments = np.linalg.eigvalsh(self._layout.inertia(offsets))
        return FrameReport.of(moments, np.asarray(self._layout.total), tolerance)


class ReferenceFrameMap(AbstractFrameMap):
    """Centre of mass of every bead and the rotation that best turns its reference fragment onto it.

    The rotation maximises Σ mᵢ dᵢ·R bᵢ (mass-weighted Kabsch) with b the reference positions about their centre of
    mass, in the orientation they were given in: R = 1 at the reference. It needs no order of axes and no signs, so it
    is smooth for symmetric and planar beads too, and R(Q x) = Q R(x). It is undefined only where a bead turns linear
    or into its own mirror image; gradients are finite there.

    Linear references (and single atoms) leave a rotation about their axis (any rotation) open; `of` refuses them
    unless told to give the smallest rotation.

    Build one with `ReferenceFrameMap.of`.

    Source: Kabsch, Acta Cryst. A 32, 922 (1976).
    """

    _layout: "_Layout"
    _body: Array | np.ndarray
    _axis: Array | np.ndarray
    _linear: Array | np.ndarray
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)

    @staticmethod
    def of(
        groups: Sequence[Sequence[int]],
        masses: AtomScalars,
        reference: AtomVectors,
        *,
        smallest: bool = False,
        tolerance: float = 1e-3,
    ) -> "ReferenceFrameMap":
        """Frames of groups of atoms against a reference.

        Arguments:
            groups: for each bead the indices of its atoms; beads may share atoms.
            masses: (atoms,) masses, amu.
            reference: (atoms, 3) positions, nm.
            smallest: accept linear and one-atom references: their frame is the smallest rotation that turns the
                reference's axis onto the bead's (none for single atoms). The turn about the axis is not determined,
                and these frames do not follow R(Q x) = Q R(x).
            tolerance: references whose smallest moment is under this fraction of the trace count as linear.

        Raises:
            ValueError: a linear or one-atom reference without ``smallest``; empty or massless beads, indices out of
                range, or positions that are not finite.
        """
        layout = _Layout.of(groups, masses, "ReferenceFrameMap")
        reference = _checked_reference(reference, layout, "ReferenceFrameMap")
        body = layout.host(reference)[1]
        moments, axes = np.linalg.eigh(layout.inertia(body))
        report = FrameReport.of(moments, layout.total, tolerance)
        linear = np.array([kind in ("point", "linear") for kind in report.kinds])
        if linear.any() and not smallest:
            bead = int(np.flatnonzero(linear)[0])
            raise ValueError(
                f"ReferenceFrameMap: the reference of bead {bead} is a {report.kinds[bead]} ({linear.sum()} such), "
                "which leaves its rotation open; give these beads three atoms off a line, or pass smallest=True."
            )
        points = np.array([kind == "point" for kind in report.kinds])
        axis = np.where((linear & ~points)[:, None], axes[:, :, 0], 0.0)
        return ReferenceFrameMap(
            _layout=layout, _body=body, _axis=axis, _linear=linear, n_beads=layout.n_beads, n_atoms=layout.n_atoms
        )

    def __call__(self, x: AtomVectors) -> Frames:
        """Frames of the beads of ``x`` (atoms, 3), nm, in the dtype of ``x``."""
        centers, offsets = self._layout.offsets(x)
        dtype = offsets.dtype
        body = jnp.asarray(self._body).astype(dtype)
        shares = self._layout.shares(dtype)[..., None]
        covariance = _einsum("nwi,nwj->nij", shares * offsets, body)
        linear = jnp.asarray(self._linear)[:, None]
        axis = jnp.asarray(self._axis).astype(dtype)
        # The covariance of a linear fragment is (direction)(axis)ᵀ; the other beads get a stand-in direction.
        direction = _einsum("nij,nj->ni", covariance, axis)
        square = jnp.sum(direction * direction, axis=1, keepdims=True)
        open_ = square == 0
        direction = jnp.where(open_, axis, direction / jnp.sqrt(jnp.where(open_, 1.0, square)))
        small = smallest_rotation(axis, direction)
        eye = jnp.eye(3, dtype=dtype)
        best = nearest_rotation(jnp.where(linear[:, :, None], eye, covariance))
        return Frames(centers, jnp.where(linear[:, :, None], small, best))

    def place(self, centers: BeadVectors, rotations: Rotations) -> Array:
        """Rigid reference fragments put at the given frames: (atoms, 3), nm.

        Exact inverse of the map for configurations whose beads have the shape of the reference. Atoms of several
        beads sit at the mean of the places their beads give them; atoms in no bead at the origin.
        """
        return self._layout.place(self._body, centers, rotations)

    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """The atoms of every bead as index pairs ``(bead, atom)``."""
        return self._layout.members()


@dataclass(frozen=True)
class FrameReport:
    """Which beads have principal axes that their moments of inertia leave open.

    Attributes:
        kinds: per bead "asymmetric" (three different moments, frame determined), "oblate" (two smaller moments equal:
            discs), "prolate" (two larger equal: rods), "spherical" (all equal), "linear" (smallest zero) or "point".
        moments: (beads, 3) principal moments, amu nm², ascending.
        gaps: (beads, 2) differences of neighbouring moments relative to the trace (zero for points).
        tolerance: relative gap under which moments count as equal.
    """

    kinds: tuple[str, ...]
    moments: np.ndarray
    gaps: np.ndarray
    tolerance: float

    @staticmethod
    def of(moments: np.ndarray, total: np.ndarray, tolerance: float) -> "FrameReport":
        """Classifies the ascending principal ``moments`` (beads, 3) of beads of mass ``total``."""
        trace = moments.sum(axis=1)
        point = trace <= 2 * total * POINT_RADIUS**2
        scale = np.where(point, 1.0, trace)[:, None]
        gaps = np.where(point[:, None], 0.0, np.diff(moments, axis=1) / scale)
        low, high = (gaps <= tolerance).T
        linear = moments[:, 0] <= tolerance * trace
        kinds = np.select(
            [point, linear, low & high, low, high],
            ["point", "linear", "spherical", "oblate", "prolate"],
            default="asymmetric",
        )
        return FrameReport(tuple(str(kind) for kind in kinds), moments, gaps, tolerance)

    @property
    def degenerate(self) -> np.ndarray:
        """(beads,) whether the frame of a bead is not determined by its moments."""
        return np.array([kind != "asymmetric" for kind in self.kinds])

    def text(self, most_rows: int | None = None) -> str:
        """The degenerate beads, one line each; of more than ``most_rows`` only the first are listed."""
        found = np.flatnonzero(self.degenerate)
        lines = [f"{len(found)} of {len(self.kinds)} beads have a frame that their moments of inertia leave open."]
        lines += [
            f"bead {bead}: {self.kinds[bead]}, {_OPEN[self.kinds[bead]]}; gaps {self.gaps[bead, 0]:.2e}, "
            f"{self.gaps[bead, 1]:.2e} of the trace"
            for bead in found[:most_rows]
        ]
        if most_rows is not None and len(found) > most_rows:
            lines.append(f"... and {len(found) - most_rows} more")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text(20)


_OPEN = {
    "point": "no axis determined",
    "linear": "only the first axis determined",
    "prolate": "only the first axis determined",
    "oblate": "only the third axis determined",
    "spherical": "no axis determined",
}


class _Layout(eqx.Module):
    """Atoms of every bead in a padded table, gathered by a sparse product so that reverse mode gathers too."""

    index: np.ndarray  # (1, beads · width)
    filled: np.ndarray  # (1, beads · width)
    slots: np.ndarray  # (most beads of an atom, atoms)
    present: np.ndarray
    masses: np.ndarray  # (beads, width), zero in padding
    total: np.ndarray  # (beads,)
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)
    width: int = eqx.field(static=True)

    @staticmethod
    def of(groups, masses, who: str) -> "_Layout":
        masses = np.asarray(masses, dtype=np.float64)
        n_beads, n_atoms = len(groups), len(masses)
        sizes = np.array([len(group) for group in groups], dtype=np.int64)
        if n_beads == 0 or (sizes == 0).any():
            bead = 0 if n_beads == 0 else int(np.flatnonzero(sizes == 0)[0])
            raise ValueError(f"{who}: bead {bead} has no atom; give every bead at least one.")
        atom = np.concatenate([np.asarray(group, dtype=np.int64) for group in groups])
        if atom.min() < 0 or atom.max() >= n_atoms:
            raise ValueError(f"{who}: atom index outside 0..{n_atoms - 1}.")
        bead = np.repeat(np.arange(n_beads), sizes)
        if not (np.isfinite(masses).all() and (masses >= 0).all()):
            raise ValueError(f"{who}: masses must be finite and not negative.")
        total = np.bincount(bead, weights=masses[atom], minlength=n_beads)
        if (total <= 0).any():
            raise ValueError(f"{who}: bead {np.flatnonzero(total <= 0)[0]} has no mass; it has no centre of mass.")
        if len(np.unique(bead * n_atoms + atom)) != len(atom):
            raise ValueError(f"{who}: an atom is listed twice in one bead; list it once.")
        width = int(sizes.max())
        row = bead * width + np.arange(len(atom)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        index, filled = padded_rows(row, atom, np.ones(len(atom)), n_beads * width)
        slots, present = padded_rows(atom, row, np.ones(len(atom)), n_atoms)
        table = (filled[0] * masses[index[0]]).reshape(n_beads, width)
        return _Layout(
            index=index,
            filled=filled,
            slots=slots,
            present=present,
            masses=table,
            total=total,
            n_beads=n_beads,
            n_atoms=n_atoms,
            width=width,
        )

    def members(self) -> tuple[np.ndarray, np.ndarray]:
        """(bead, atom) of every filled slot."""
        slot = np.flatnonzero(np.asarray(self.filled[0]) > 0)
        return slot // self.width, np.asarray(self.index[0])[slot]

    def shares(self, dtype) -> Array:
        """(beads, width) mass fractions."""
        return jnp.asarray(self.masses / self.total[:, None]).astype(dtype)

    def offsets(self, x) -> tuple[Array, Array]:
        """Centres of mass (beads, 3) and positions about them (beads, width, 3), zero in padding."""
        gathered = sparse_product(self.index, self.filled, self.slots, self.present, x)
        gathered = gathered.reshape(self.n_beads, self.width, 3)
        filled = self.filled.reshape(self.n_beads, self.width, 1).astype(gathered.dtype)
        # Rounding of a centre far from the origin shifts all offsets of a bead alike, which turns no axis: Σ m d = 0.
        centers = jnp.sum(self.shares(gathered.dtype)[..., None] * gathered, axis=1)
        return centers, (gathered - centers[:, None]) * filled

    def inertia(self, offsets):
        """Σ m (d² − d dᵀ) of every bead, (beads, 3, 3)."""
        if isinstance(offsets, np.ndarray):
            outer = np.einsum("nw,nwi,nwj->nij", self.masses, offsets, offsets)
            return np.trace(outer, axis1=1, axis2=2)[:, None, None] * np.eye(3) - outer
        weighted = jnp.asarray(self.masses).astype(offsets.dtype)[..., None] * offsets
        outer = _einsum("nwi,nwj->nij", weighted, offsets)
        return jnp.trace(outer, axis1=1, axis2=2)[:, None, None] * jnp.eye(3, dtype=offsets.dtype) - outer

    def host(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`offsets` in float64 NumPy."""
        local = x[self.index[0]].reshape(self.n_beads, self.width, 3)
        filled = self.filled.reshape(self.n_beads, self.width, 1)
        centers = np.sum(self.masses[..., None] * local, axis=1) / self.total[:, None]
        return centers, (local - centers[:, None]) * filled

    def place(self, body, centers, rotations) -> Array:
        """x = c + R b for every slot, and for every atom the mean over its slots."""
        centers, rotations = jnp.asarray(centers), jnp.asarray(rotations)
        placed = centers[:, None] + _einsum("nij,nwj->nwi", rotations, jnp.asarray(body).astype(centers.dtype))
        often = jnp.maximum(jnp.sum(jnp.asarray(self.present), axis=0), 1.0)
        back = self.filled / often[self.index]
        return sparse_product(self.slots, self.present / often, self.index, back, placed.reshape(-1, 3))


def _checked_reference(reference, layout: _Layout, who: str) -> np.ndarray:
    reference = np.asarray(reference, dtype=np.float64)
    if reference.shape != (layout.n_atoms, 3):
        raise ValueError(f"{who}: the reference has shape {reference.shape}, expected ({layout.n_atoms}, 3).")
    if not np.isfinite(reference[layout.index[0]]).all():
        raise ValueError(f"{who}: the reference has positions that are not finite.")
    return reference


_einsum = partial(jnp.einsum, precision="highest")

"""Maps of systems of many molecules: equal ones without storing their weights again, different ones side by side."""

from collections.abc import Sequence
from itertools import pairwise

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..typing import Array, AtomArray, AtomScalars, BeadArray
from .base import AbstractFibre, AbstractLinearMap, checked_masses
from .linear import LinearMap


class ReplicatedMap(AbstractLinearMap):
    """The map of ``copies`` equal molecules that follow each other: atoms and beads of copy 0, of copy 1, ...

    Memory is that of one molecule's map, whatever the number of copies.

    Arguments:
        one: the map of one molecule.
        copies: how many there are, at least one.
    """

    one: AbstractLinearMap
    copies: int = eqx.field(static=True)
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __init__(self, one: AbstractLinearMap, copies: int):
        if copies < 1:
            raise ValueError(f"ReplicatedMap: copies is {copies}; give at least 1.")
        self.one = one
        self.copies = copies
        self.n_beads = copies * one.n_beads
        self.n_atoms = copies * one.n_atoms
        self.rank = copies * one.rank

    def __call__(self, x: AtomArray) -> BeadArray:
        """Bead positions of the configuration ``x``: (atoms, ...) → (beads, ...), in the units of ``x``."""
        return _each(self.one, x, self.copies, self.n_atoms)

    def transpose(self, v: BeadArray) -> AtomArray:
        """Wᵀ v: spreads bead vectors (e.g. forces on beads) over the atoms: (beads, ...) → (atoms, ...)."""
        return _each(self.one.transpose, v, self.copies, self.n_beads)

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries of W as ``(bead_index, atom_index, weight)``, written out for every copy."""
        bead, atom, weight = self.one.entries()
        copy = np.arange(self.copies)[:, None]
        beads, atoms = bead + copy * self.one.n_beads, atom + copy * self.one.n_atoms
        return beads.ravel(), atoms.ravel(), np.tile(weight, self.copies)

    def fibre(self, masses: AtomScalars | None = None) -> AbstractFibre:
        """The fibre {x : M(x) = y} in the metric of ``masses`` (unit masses when None), factored once.

        One molecule is factored where the copies' masses are equal, as they should be; else all of them.

        Arguments:
            masses: (atoms,) positive masses, amu; may be traced.
        """
        if masses is None:
            return ReplicatedFibre(self, self.one.fibre())
        masses = checked_masses(masses, self.n_atoms)
        if not isinstance(masses, Tracer):
            rows = np.asarray(masses).reshape(self.copies, self.one.n_atoms)
            if np.all(rows == rows[0]):
                return ReplicatedFibre(self, self.one.fibre(rows[0]))
        return explicit(self).fibre(masses)


class JoinedMap(AbstractLinearMap):
    """Maps of consecutive ranges of atoms side by side, e.g. of a protein, many lipids and many waters.

    Arguments:
        parts: the maps, in the order of their atoms; beads follow in the same order.
    """

    parts: tuple[AbstractLinearMap, ...]
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)
    rank: int = eqx.field(static=True)

    def __init__(self, parts: Sequence[AbstractLinearMap]):
        if not parts:
            raise ValueError("JoinedMap: give at least one map.")
        self.parts = tuple(parts)
        self.n_beads = sum(part.n_beads for part in parts)
        self.n_atoms = sum(part.n_atoms for part in parts)
        self.rank = sum(part.rank for part in parts)

    def __call__(self, x: AtomArray) -> BeadArray:
        """Bead positions of the configuration ``x``: (atoms, ...) → (beads, ...), in the units of ``x``."""
        return _side_by_side(self.parts, x, [part.n_atoms for part in self.parts])

    def transpose(self, v: BeadArray) -> AtomArray:
        """Wᵀ v: spreads bead vectors (e.g. forces on beads) over the atoms: (beads, ...) → (atoms, ...)."""
        return _side_by_side([part.transpose for part in self.parts], v, [part.n_beads for part in self.parts])

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Nonzero entries of W as ``(bead_index, atom_index, weight)``."""
        entries, beads, atoms = [], 0, 0
        for part in self.parts:
            bead, atom, weight = part.entries()
            entries.append((bead + beads, atom + atoms, weight))
            beads, atoms = beads + part.n_beads, atoms + part.n_atoms
        bead, atom, weight = (np.concatenate(arrays) for arrays in zip(*entries, strict=True))
        return bead, atom, weight

    def fibre(self, masses: AtomScalars | None = None) -> "JoinedFibre":
        """The fibre {x : M(x) = y} in the metric of ``masses`` (unit masses when None), factored once.

        Arguments:
            masses: (atoms,) positive masses, amu; may be traced.
        """
        if masses is None:
            return JoinedFibre(self, tuple(part.fibre() for part in self.parts))
        pieces = _ranges(checked_masses(masses, self.n_atoms), [part.n_atoms for part in self.parts])
        return JoinedFibre(self, tuple(part.fibre(m) for part, m in zip(self.parts, pieces, strict=True)))


class ReplicatedFibre(AbstractFibre):
    """The fibre of a `ReplicatedMap` whose copies have equal masses: one molecule's, applied to each."""

    mapping: ReplicatedMap
    one: AbstractFibre

    def lift(self, r: BeadArray) -> AtomArray:
        """m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹ r: the smallest atomic displacement that moves the beads by ``r``."""
        return _each(self.one.lift, r, self.mapping.copies, self.mapping.n_beads)

    def lift_transpose(self, f: AtomArray) -> BeadArray:
        """(W m⁻¹ Wᵀ)⁻¹ W m⁻¹ f, the transpose of `lift`: the bead forces whose spread comes nearest to ``f``."""
        return _each(self.one.lift_transpose, f, self.mapping.copies, self.mapping.n_atoms)


class JoinedFibre(AbstractFibre):
    """The fibre of a `JoinedMap`: those of its parts side by side."""

    mapping: JoinedMap
    parts: tuple[AbstractFibre, ...]

    def lift(self, r: BeadArray) -> AtomArray:
        """m⁻¹ Wᵀ (W m⁻¹ Wᵀ)⁻¹ r: the smallest atomic displacement that moves the beads by ``r``."""
        return _side_by_side([part.lift for part in self.parts], r, [part.mapping.n_beads for part in self.parts])

    def lift_transpose(self, f: AtomArray) -> BeadArray:
        """(W m⁻¹ Wᵀ)⁻¹ W m⁻¹ f, the transpose of `lift`: the bead forces whose spread comes nearest to ``f``."""
        lengths = [part.mapping.n_atoms for part in self.parts]
        return _side_by_side([part.lift_transpose for part in self.parts], f, lengths)


def explicit(mapping: AbstractLinearMap) -> LinearMap:
    """The same map with all its weights written out."""
    return LinearMap.from_weights(*mapping.entries(), mapping.n_beads, mapping.n_atoms)


def _each(function, array, copies: int, length: int) -> Array:
    """``function`` of every copy's rows of an array (copies × rows, ...)."""
    _check_length(array, length)
    array = jnp.asarray(array)
    out = jax.vmap(function)(array.reshape(copies, -1, *array.shape[1:]))
    return out.reshape(-1, *out.shape[2:])


def _side_by_side(functions, array, lengths: Sequence[int]) -> Array:
    pieces = _ranges(array, lengths)
    return jnp.concatenate([function(piece) for function, piece in zip(functions, pieces, strict=True)])


def _ranges(array, lengths: Sequence[int]) -> list:
    _check_length(array, sum(lengths))
    return [array[start:end] for start, end in pairwise(np.cumsum([0, *lengths]).tolist())]


def _check_length(array, expected: int):
    if array.shape[0] != expected:
        raise ValueError(f"the map takes an array of {expected} atoms or beads, got one of shape {tuple(array.shape)}.")

"""Hydrogens placed on a heavy-atom structure from the geometry of their parents."""

import equinox as eqx
import numpy as np

from ..energy import HarmonicAngle, HarmonicBond
from ..energy.base import AbstractEnergy
from ..system import System

_DEFAULT_ANGLE = np.deg2rad(109.5)


class HydrogenRules(eqx.Module):
    """How each hydrogen hangs on its parent, grouped by the number of heavy neighbours of the parent.

    ``apex`` rows ``(hydrogen, parent, n1, n2, n3)``: along minus the sum of the unit vectors to the neighbours (−1: no
    neighbour).
    ``pair`` rows ``(hydrogen, parent, n1, n2)``: the two hydrogens of an sp3 centre with two heavy neighbours.
    ``tail`` rows ``(hydrogen, parent, neighbour, next)``: by internal coordinates (length, angle, dihedral).
    """

    apex: np.ndarray
    apex_length: np.ndarray
    pair: np.ndarray
    pair_side: np.ndarray
    pair_length: np.ndarray
    tail: np.ndarray
    tail_internal: np.ndarray

    @staticmethod
    def of(system: System, energy: AbstractEnergy) -> "HydrogenRules":
        """Rules for every hydrogen of ``system``, with bond lengths and angles from the terms of ``energy``.

        Raises:
            ValueError: a hydrogen without a heavy neighbour.
        """
        lengths, angles = _parameters(energy)
        heavy = system.heavy
        neighbors: list[list[int]] = [[] for _ in range(system.n_atoms)]
        for i, j in system.bonds.tolist():
            neighbors[i].append(j)
            neighbors[j].append(i)
        apex, apex_length, pair, side, pair_length, tail, internal = [], [], [], [], [], [], []
        for parent in np.flatnonzero(heavy):
            hydrogens = [k for k in neighbors[parent] if not heavy[k]]
            around = [k for k in neighbors[parent] if heavy[k]]
            for slot, h in enumerate(hydrogens):
                length = lengths.get(frozenset((h, int(parent))), 0.1)
                if len(around) >= 3 or (len(around) == 2 and len(hydrogens) == 1):
                    apex.append((h, parent, *[*around, -1, -1][:3]))
                    apex_length.append(length)
                elif len(around) == 2:
                    pair.append((h, parent, *around))
                    side.append(-1.0 if slot == 0 else 1.0)
                    pair_length.append(length)
                else:
                    angle = angles.get((h, int(parent), around[0]), _DEFAULT_ANGLE) if around else _DEFAULT_ANGLE
                    neighbor = around[0] if around else -1
                    beyond = [k for k in (neighbors[neighbor] if around else []) if k != parent]
                    beyond.sort(key=lambda k: not heavy[k])
                    planar = len(hydrogens) == 2 and angle > np.deg2rad(114)
                    dihedral = np.pi * slot if planar else np.pi + slot * 2 * np.pi / 3
                    tail.append((h, parent, neighbor, beyond[0] if beyond else -1))
                    internal.append((length, angle, dihedral))
        placed = len(apex) + len(pair) + len(tail)
        if placed != int((~heavy).sum()):
            raise ValueError(f"HydrogenRules: {int((~heavy).sum()) - placed} hydrogens are not bonded to a heavy atom.")
        return HydrogenRules(
            apex=np.array(apex, dtype=np.int64).reshape(-1, 5),
            apex_length=np.array(apex_length),
            pair=np.array(pair, dtype=np.int64).reshape(-1, 4),
            pair_side=np.array(side),
            pair_length=np.array(pair_length),
            tail=np.array(tail, dtype=np.int64).reshape(-1, 4),
            tail_internal=np.array(internal).reshape(-1, 3),
        )

    def place(self, positions: np.ndarray) -> np.ndarray:
        """Positions (atoms, 3) with every hydrogen put where its parent's heavy neighbours say, nm."""
        x = np.array(positions)
        if len(self.apex):
            h, parent, around = self.apex[:, 0], self.apex[:, 1], self.apex[:, 2:]
            bonds = _unit(x[around] - x[parent][:, None]) * (around >= 0)[..., None]
            x[h] = x[parent] + self.apex_length[:, None] * _unit(-bonds.sum(axis=1))
        if len(self.pair):
            h, parent, first, second = self.pair.T
            u, v = _unit(x[first] - x[parent]), _unit(x[second] - x[parent])
            half = _DEFAULT_ANGLE / 2
            direction = np.cos(half) * _unit(-u - v) + self.pair_side[:, None] * np.sin(half) * _unit(np.cross(u, v))
            x[h] = x[parent] + self.pair_length[:, None] * _unit(direction)
        if len(self.tail):
            h, parent, neighbor, beyond = self.tail.T
            length, angle, dihedral = self.tail_internal.T
            axis = _unit(np.where((neighbor >= 0)[:, None], x[neighbor] - x[parent], [0.0, 0.0, 1.0]))
            reference = np.where((beyond >= 0)[:, None], x[beyond] - x[neighbor], [1.0, 0.3, 0.2])
            u = _unit(reference - np.sum(reference * axis, axis=1, keepdims=True) * axis)
            w = np.cross(axis, u)
            direction = np.cos(angle)[:, None] * axis + np.sin(angle)[:, None] * (
                np.cos(dihedral)[:, None] * u + np.sin(dihedral)[:, None] * w
            )
            x[h] = x[parent] + length[:, None] * direction
        return x


def _parameters(energy: AbstractEnergy):
    lengths: dict[frozenset[int], float] = {}
    angles: dict[tuple[int, int, int], float] = {}
    for term in energy.terms():
        if isinstance(term, HarmonicBond):
            for (i, j), length in zip(np.asarray(term.atoms).tolist(), np.asarray(term.length).tolist(), strict=True):
                lengths[frozenset((i, j))] = length
        elif isinstance(term, HarmonicAngle):
            for (i, j, k), angle in zip(np.asarray(term.atoms).tolist(), np.asarray(term.angle).tolist(), strict=True):
                angles[(i, j, k)] = angles[(k, j, i)] = angle
    return lengths, angles


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9)

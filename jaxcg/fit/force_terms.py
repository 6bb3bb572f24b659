"""Terms of a force field that is linear in its parameters: the forces of every basis function on every bead."""

from abc import abstractmethod
from dataclasses import dataclass, field

import numpy as np

from ..consistency.structure.cells import CellPairs, box_widths
from ..consistency.structure.internal_coordinates import bond_angles, bond_lengths, dihedral_angles
from ..space import nearest_image
from .spline_space import SplineSpace


@dataclass(frozen=True)
class AbstractForceTerm:
    """A term Σ f(q), linear in a function of one coordinate.

    Fields of every term:
        name: for reports and files.
        space: the splines among which the function is looked for.
    """

    name: str
    space: SplineSpace

    @abstractmethod
    def design(self, x: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Forces of each parameter and where the data are.

        Arguments:
            x: (beads, 3) nm.
            box: (3, 3) reduced box vectors, nm, or None.

        Returns:
            (parameters, beads, 3) forces on the beads when this parameter is one and all others zero, and (intervals,)
            how often the coordinate lies in each interval of the space.
        """

    def _total(self, q: np.ndarray, beads: np.ndarray, gradients: np.ndarray, count: int) -> np.ndarray:
        """Forces of f(q), with f = −dU/dq in the space: f ∂q/∂x, summed over (terms, slots) beads."""
        index, weights = self.space.local(q)
        sums = np.zeros((3, count * self.space.functions))
        for slot in range(beads.shape[1]):
            place = (beads[:, slot, None] * self.space.functions + index).ravel()
            for k in range(3):
                values = (weights * gradients[:, slot, k, None]).ravel()
                sums[k] += np.bincount(place, values, minlength=sums.shape[1])
        return _by_parameter(sums, self.space, count)

    def _seen(self, q: np.ndarray) -> np.ndarray:
        return np.histogram(q, self.space.knots)[0]


@dataclass(frozen=True)
class PairForce(AbstractForceTerm):
    """Pair forces −u′(r) along the line of two beads.

    Arguments:
        name, space: see `AbstractForceTerm`; the space ends at the cutoff, nm. Let it be zero at the end, or pairs that
            cross the cutoff meet a step of the force.
        first, second: (beads,) indices of the beads of the two types; give the same twice for pairs of one type. All
            beads if None.
        excluded: (pairs, 2) beads that do not interact, such as bonded ones.
        nearest: allow a cutoff beyond half the box, and then count only nearest images.
    """

    first: np.ndarray | None = None
    second: np.ndarray | None = None
    excluded: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    nearest: bool = False

    def design(self, x: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """See `AbstractForceTerm.design`.

        Raises:
            ValueError: the cutoff is beyond half the box.
        """
        i, j, d = near_pairs(x, box, self.space.end, self.name, self.nearest)
        if self.first is not None:
            in_first, in_second = np.zeros(len(x), bool), np.zeros(len(x), bool)
            in_first[self.first] = True
            in_second[self.first if self.second is None else self.second] = True
            keep = (in_first[i] & in_second[j]) | (in_first[j] & in_second[i])
            i, j, d = i[keep], j[keep], d[keep]
        if len(self.excluded):
            pairs = np.sort(np.asarray(self.excluded, np.int64), axis=1)
            gone = np.isin(np.minimum(i, j) * len(x) + np.maximum(i, j), pairs[:, 0] * len(x) + pairs[:, 1])
            i, j, d = i[~gone], j[~gone], d[~gone]
        r = np.sqrt(np.sum(d * d, axis=1))
        along = d / r[:, None]
        return (
            self._total(r, np.stack([i, j], axis=1), np.stack([-along, along], axis=1), len(x)),
            self._seen(r),
        )


@dataclass(frozen=True)
class BondForce(AbstractForceTerm):
    """Forces −dU/dr of bonds.

    Arguments:
        name, space: see `AbstractForceTerm`; nm.
        beads: (bonds, 2).
    """

    beads: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    def design(self, x: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """See `AbstractForceTerm.design`."""
        beads = np.asarray(self.beads)
        r = np.asarray(bond_lengths(x, beads, box))
        along = _steps(x, beads, box)[0] / np.maximum(r, 1e-9)[:, None]
        return self._total(r, beads, np.stack([-along, along], axis=1), len(x)), self._seen(r)


@dataclass(frozen=True)
class AngleForce(AbstractForceTerm):
    """Forces −dU/dθ of angles.

    Arguments:
        name, space: see `AbstractForceTerm`; rad.
        beads: (angles, 3), the vertex in the middle.
    """

    beads: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    def design(self, x: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """See `AbstractForceTerm.design`."""
        beads = np.asarray(self.beads)
        theta = np.asarray(bond_angles(x, beads, box))
        before, after = _steps(x, beads, box)
        gradients = angle_gradients(-before, after)
        return self._total(theta, beads, np.stack(gradients, axis=1), len(x)), self._seen(theta)


@dataclass(frozen=True)
class DihedralForce(AbstractForceTerm):
    """Forces −dU/dφ of dihedrals; the space should be periodic, from −π to π.

    Arguments:
        name, space: see `AbstractForceTerm`; rad.
        beads: (dihedrals, 4).

    Source: Blondel & Karplus, J. Comput. Chem. 17, 1132 (1996).
    """

    beads: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), np.int64))

    def design(self, x: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """See `AbstractForceTerm.design`."""
        beads = np.asarray(self.beads)
        phi = np.asarray(dihedral_angles(x, beads, box))
        before, axis, after = _steps(x, beads, box)
        m, n = np.cross(before, axis), np.cross(axis, after)
        length = np.linalg.norm(axis, axis=1, keepdims=True)
        m2, n2 = (np.maximum(np.sum(a * a, axis=1, keepdims=True), 1e-18) for a in (m, n))
        first, last = -length / m2 * m, length / n2 * n
        one = np.sum(before * axis, axis=1, keepdims=True) / length**2 * first
        two = np.sum(after * axis, axis=1, keepdims=True) / length**2 * last
        middle = -first - one + two
        gradients = np.stack([first, middle, -first - middle - last, last], axis=1)
        return self._total(phi, beads, gradients, len(x)), self._seen(phi)


@dataclass(frozen=True)
class TripletForce(AbstractForceTerm):
    """Three-body forces of U = Σ_centres Σ_pairs of neighbours f(θ) exp(γ/(r − a)) exp(γ/(r′ − a)), for r, r′ below a.

    Here the spline is f itself, kJ/mol, not a force. Stillinger–Weber's term is f = λε (cos θ − cos θ₀)².

    Arguments:
        name, space: see `AbstractForceTerm`; rad, natural.
        range_: a, nm.
        decay: γ, nm.
        nearest: as of `PairForce`.

    Source: Larini, Lu & Voth, J. Chem. Phys. 132, 164107 (2010).
    """

    range_: float = 0.37
    decay: float = 0.08
    nearest: bool = False

    def design(self, x: np.ndarray, box: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """See `AbstractForceTerm.design`.

        Raises:
            ValueError: the range is beyond half the box.
        """
        i, j, d = near_pairs(x, box, self.range_, self.name, self.nearest)
        point, other, d = np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([d, -d])
        order = np.argsort(point, kind="stable")
        point, other, d = point[order], other[order], d[order]
        starts = np.flatnonzero(np.diff(point, prepend=-1))
        counts = np.diff(starts, append=len(point))
        total = np.zeros((3, len(x) * self.space.functions))
        seen = np.zeros(self.space.intervals, np.int64)
        for count in np.unique(counts[counts > 1]):
            a, b = np.triu_indices(count, 1)
            here = starts[counts == count, None]
            one, two = (here + a).ravel(), (here + b).ravel()
            seen += self._add(total, (point[one], other[one], other[two]), d[one], d[two])
        return _by_parameter(total, self.space, len(x)), seen

    def _add(self, total: np.ndarray, beads: tuple, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        lengths = [np.sqrt(np.sum(d * d, axis=1)) for d in (one, two)]
        across = np.cross(one, two)
        theta = np.arctan2(np.sqrt(np.sum(across * across, axis=1)), np.sum(one * two, axis=1))
        shells = [np.exp(self.decay / (r - self.range_)) for r in lengths]
        weight = shells[0] * shells[1]
        first, middle, last = angle_gradients(one, two)
        radial = [
            -weight * self.decay / (r - self.range_) ** 2 / r for r in lengths
        ]  # d(weight)/dr, along the step to the neighbour
        steps = (radial[0][:, None] * one, radial[1][:, None] * two)
        index, value = self.space.local(theta)
        _, slope = self.space.local(theta, derivative=True)
        by_bead = ((middle, -steps[0] - steps[1]), (first, steps[0]), (last, steps[1]))
        for bead, (turn, pull) in zip(beads, by_bead, strict=True):
            place = (bead[:, None] * self.space.functions + index).ravel()
            for k in range(3):
                forces = -(slope * (weight * turn[:, k])[:, None] + value * pull[:, k, None])
                total[k] += np.bincount(place, forces.ravel(), minlength=total.shape[1])
        return self._seen(theta)


def near_pairs(x: np.ndarray, box: np.ndarray | None, cutoff: float, name: str, nearest: bool = False):
    """Pairs i, j within the cutoff, each once, and the (pairs, 3) steps from i to j, nm.

    Raises:
        ValueError: the cutoff is beyond half the box, unless only nearest images are asked for.
    """
    x = np.asarray(x, np.float64)
    if box is None:
        span = np.ptp(x, axis=0).max() + 2.1 * cutoff
        return near_pairs(x - x.min(axis=0), span * np.eye(3), cutoff, name)
    half = 0.5 * box_widths(box).min()
    if cutoff > half * (1 + 1e-6):
        if not nearest:
            raise ValueError(
                f"{name}: the cutoff of {cutoff:g} nm is beyond half the box, {half:.4g} nm; shorten it or take a "
                "larger box."
            )
        i, j = np.triu_indices(len(x), 1)
        d = nearest_image(x[j] - x[i], box)
        keep = np.sum(d * d, axis=1) < cutoff**2
        return i[keep], j[keep], d[keep]
    cells = CellPairs(x, box, cutoff)
    place = cells.wrapped()
    parts = [block.pairs() for block in cells.blocks()]
    if not parts:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3))
    i, j, there = (np.concatenate(column) for column in zip(*parts, strict=True))
    return i, j, there - place[i]


def angle_gradients(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """∂θ/∂x of the first, the middle and the last bead, for steps from the middle one; zero for beads in line."""
    across = np.cross(one, two)
    sine = np.maximum(np.sqrt(np.sum(across * across, axis=1, keepdims=True)), 1e-9)
    first = np.cross(one, across) / (np.sum(one * one, axis=1, keepdims=True) * sine)
    last = -np.cross(two, across) / (np.sum(two * two, axis=1, keepdims=True) * sine)
    return first, -first - last, last


def _steps(x: np.ndarray, beads: np.ndarray, box: np.ndarray | None) -> list[np.ndarray]:
    steps = [x[beads[:, k + 1]] - x[beads[:, k]] for k in range(beads.shape[1] - 1)]
    return steps if box is None else [np.asarray(nearest_image(d, box)) for d in steps]


def _by_parameter(sums: np.ndarray, space: SplineSpace, count: int) -> np.ndarray:
    """(parameters, beads, 3) from (3, beads × B-splines)."""
    return np.einsum("kbf,fp->pbk", sums.reshape(3, count, space.functions), space.transform, optimize=True)

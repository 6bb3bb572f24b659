"""Spaces of cubic splines in one coordinate, in which linear fits look for functions."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy.interpolate import BSpline, PPoly

Boundary = Literal["natural", "zero at the end", "periodic"]


@dataclass(frozen=True, eq=False)
class SplineSpace:
    """Cubic splines; their parameters are their values at the knots.

    Splines are twice continuously differentiable, without curvature at both ends. Internally they are sums of
    B-splines, four of which differ from zero at a point; so sums over many points cost four terms each, and not one
    for each parameter.

    Arguments:
        knots: (knots,) ascending, four or more; nm or rad.
        boundary: "natural"; "zero at the end" for functions that vanish at the last knot; "periodic" for functions
            whose period is the range and whose mean is zero, such as the derivatives of periodic functions. Periodic
            knots are in equal steps, and the last one is the first again.
        beyond: what a function is outside its range: its value at the end ("constant"), or the cubic of the last
            interval ("cubic"), which bends away fast.

    Raises:
        ValueError: too few knots, or not ascending, or periodic ones not in equal steps.
    """

    knots: np.ndarray
    boundary: Boundary = "natural"
    beyond: Literal["constant", "cubic"] = "constant"
    #: (B-splines, parameters) coefficients of the B-splines.
    transform: np.ndarray = field(init=False, repr=False)
    #: (knots, parameters) values at the knots; of a periodic space without the last knot.
    values: np.ndarray = field(init=False, repr=False)
    #: (4 powers, intervals, 4 B-splines) polynomials in the distance from the knot before, highest power first.
    _pieces: np.ndarray = field(init=False, repr=False)

    def __post_init__(self):
        knots = np.asarray(self.knots, np.float64)
        if knots.ndim != 1 or len(knots) < 4 or not np.isfinite(knots).all() or not (np.diff(knots) > 0).all():
            raise ValueError("SplineSpace: give four or more knots in ascending order.")
        n = len(knots) - 1
        periodic = self.boundary == "periodic"
        if periodic and not np.allclose(np.diff(knots), (knots[-1] - knots[0]) / n, rtol=1e-6):
            raise ValueError("SplineSpace: knots of a periodic space must be in equal steps.")
        object.__setattr__(self, "knots", knots)
        steps = np.arange(1, 4) * (knots[1] - knots[0]), np.arange(1, 4) * (knots[-1] - knots[-2])
        extended = np.concatenate([knots[0] - steps[0][::-1], knots, knots[-1] + steps[1]])
        pieces = np.stack([PPoly.from_spline(BSpline(extended, one, 3)).c[:, 3 : 3 + n] for one in np.eye(n + 3)], -1)
        near = np.arange(n)[:, None] + np.arange(4)
        object.__setattr__(self, "_pieces", np.take_along_axis(pieces, near[None], axis=2))

        functions = n if periodic else n + 3
        object.__setattr__(self, "transform", np.eye(functions))
        at_knots = self.design(knots)
        if periodic:
            values = np.vstack([np.eye(n - 1), -np.ones((1, n - 1))])
            transform = np.linalg.solve(at_knots[:n], values)
        else:
            bend = np.zeros((2, n + 3))
            bend[0, :4] = self._pieces[1, 0]
            bend[1, -4:] = 3 * self._pieces[0, -1] * (knots[-1] - knots[-2]) + self._pieces[1, -1]
            values = np.eye(n + 1)[:, : n if self.boundary == "zero at the end" else n + 1]
            right = np.vstack([values, np.zeros((2, values.shape[1]))])
            transform = np.linalg.solve(np.vstack([at_knots, bend]), right)
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "transform", transform)

    @staticmethod
    def uniform(start: float, end: float, intervals: int, boundary: Boundary = "natural") -> "SplineSpace":
        """Knots in equal steps.

        Arguments:
            start, end: first and last knot, nm or rad.
            intervals: between knots; three or more.
            boundary: see `SplineSpace`.
        """
        return SplineSpace(np.linspace(start, end, intervals + 1), boundary)

    @property
    def start(self) -> float:
        """The first knot."""
        return float(self.knots[0])

    @property
    def end(self) -> float:
        """The last knot."""
        return float(self.knots[-1])

    @property
    def intervals(self) -> int:
        """Number of intervals between knots."""
        return len(self.knots) - 1

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return self.transform.shape[1]

    @property
    def functions(self) -> int:
        """Number of B-splines."""
        return self.transform.shape[0]

    def local(self, q: np.ndarray, derivative: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(points, 4) numbers of the B-splines that differ from zero at ``q`` (points,), and their values there.

        Arguments:
            q: points.
            derivative: give derivatives instead of values; zero outside the range if functions are constant there.
        """
        q = np.asarray(q, np.float64)
        if self.boundary == "periodic":
            q = self.start + np.mod(q - self.start, self.end - self.start)
        inside = np.clip(q, self.start, self.end)
        left = np.clip(np.searchsorted(self.knots, inside, side="right") - 1, 0, self.intervals - 1)
        goes_on = self.beyond == "cubic"
        t = ((q if goes_on else inside) - self.knots[left])[:, None]
        a, b, c, d = self._pieces[:, left]
        if derivative:
            weights = np.where((q == inside)[:, None] | goes_on, (3 * a * t + 2 * b) * t + c, 0.0)
        else:
            weights = ((a * t + b) * t + c) * t + d
        return self._numbers(left), weights

    def _numbers(self, left: np.ndarray) -> np.ndarray:
        index = left[:, None] + np.arange(4)
        return np.mod(index, self.intervals) if self.boundary == "periodic" else index

    def design(self, q: np.ndarray, derivative: bool = False) -> np.ndarray:
        """(points, parameters) what each parameter adds to the function, or to its derivative, at ``q``."""
        index, weights = self.local(q, derivative)
        return self._dense(index, weights) @ self.transform

    def _dense(self, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
        found = np.zeros((len(index), self.functions))
        np.add.at(found, (np.arange(len(index))[:, None], index), weights)
        return found

    def integral(self, parameters: np.ndarray, q: np.ndarray) -> np.ndarray:
        """∫ from ``start`` to ``q`` of the spline, constant outside its range, exactly: (points,) as ``q``, or (points,
        columns) of many splines.

        Arguments:
            parameters: (parameters,) or (parameters, columns).
            q: (points,).
        """
        q = np.asarray(q, np.float64)
        inside = np.clip(q, self.start, self.end)
        left = np.clip(np.searchsorted(self.knots, inside, side="right") - 1, 0, self.intervals - 1)
        cells = self._cell(np.arange(self.intervals), np.diff(self.knots))
        before = np.vstack([np.zeros((1, self.functions)), np.cumsum(cells, axis=0)])
        sums = before[left] + self._cell(left, inside - self.knots[left])
        outside = (q - inside)[:, None] * self.design(inside)
        return (sums @ self.transform + outside) @ np.asarray(parameters, np.float64)

    def _cell(self, left: np.ndarray, t: np.ndarray) -> np.ndarray:
        """(points, functions) ∫ of each B-spline over the first part, of length t, of the interval ``left``."""
        a, b, c, d = self._pieces[:, left]
        t = t[:, None]
        return self._dense(self._numbers(left), (((a / 4 * t + b / 3) * t + c / 2) * t + d) * t)

    def roughness(self) -> np.ndarray:
        """(parameters, parameters) the quadratic form Σ (second differences of the values at the knots)²."""
        knots = len(self.values)
        if self.boundary == "periodic":
            differences = np.roll(np.eye(knots), 1, 0) - 2 * np.eye(knots) + np.roll(np.eye(knots), -1, 0)
        else:
            differences = np.diff(np.eye(knots), 2, axis=0)
        bend = differences @ self.values
        return bend.T @ bend

"""Solutions of force matching: smoothness by cross-validation, error bars, and what the data leave open."""

from dataclasses import dataclass

import numpy as np

from .force_matching import ForceMatching, NormalEquations
from .force_terms import DihedralForce, PairForce, TripletForce

#: Strengths of smoothing that cross-validation tries, in units of the mean curvature of the data.
_STRENGTHS = 10.0 ** np.arange(-10.0, 3.0)
_RESAMPLES = 200
#: A weak prior, against which data are weighed to see where there are any.
_WEAK = 1e-4
#: A parameter that the data determine by less than this share is not determined.
_DETERMINED = 0.5


@dataclass(frozen=True)
class Identifiability:
    """What the data determine, by the resolution matrix R = (N + λP)⁻¹ N; NumPy float64.

    Fields:
        effective: number of parameters that the data determine, tr R, at the smoothness of the fit.
        resolution: (parameters,) diagonal of R for a weak prior, λ = 1e-4: 1 where data decide, 0 where only the prior
            does.
        open: (term, from, to) stretches of coordinates, nm or rad, that the data do not determine.
        condition: ratio of the largest to the smallest eigenvalue of N after scaling its diagonal to one.
        couplings: (term, term, cosine) pairs of terms that can stand for each other: largest canonical correlation of
            their forces, where it is above 0.9.
    """

    effective: float
    resolution: np.ndarray
    open: tuple[tuple[str, float, float], ...]
    condition: float
    couplings: tuple[tuple[str, str, float], ...]

    def __str__(self) -> str:
        lines = [f"{self.effective:.1f} of {len(self.resolution)} parameters are determined by the data."]
        lines += [f"{name}: not determined from {a:.4g} to {b:.4g}." for name, a, b in self.open]
        lines += [f"{a} and {b} can stand for each other (correlation {c:.3f})." for a, b, c in self.couplings]
        return "\n".join(lines)


@dataclass(frozen=True)
class ForceFit:
    """Result of `solve_forces`; NumPy float64.

    Fields:
        problem: what was fitted.
        parameters: (parameters,) values of all splines at their knots: forces, kJ/mol/nm or kJ/mol/rad, and of triplets
            energies, kJ/mol.
        covariance: (parameters, parameters) by block bootstrap through the fit, or the posterior's with fewer than four
            blocks.
        posterior: (parameters, parameters) Bayesian covariance σ² (N + λP)⁻¹ with the smoothness as prior, for frames
            that are independent.
        residual: root mean square of the force component that is left, kJ/mol/nm.
        unexplained: share of the mean square force that is left.
        smoothness: λ, in units of the mean curvature of each term.
        validation: (strengths, 2) λ and the mean square force on frames that were left out, (kJ/mol/nm)²; None without.
        identifiability: what the data determine.
    """

    problem: ForceMatching
    parameters: np.ndarray
    covariance: np.ndarray
    posterior: np.ndarray
    residual: float
    unexplained: float
    smoothness: float
    validation: np.ndarray | None
    identifiability: Identifiability

    def _term(self, name: str):
        for term, columns in zip(self.problem.terms, self.problem.columns, strict=True):
            if term.name == name:
                return term, columns
        names = ", ".join(term.name for term in self.problem.terms)
        raise ValueError(f"ForceFit: there is no term {name}; there are {names}.")

    def function(self, name: str, q) -> tuple[np.ndarray, np.ndarray]:
        """The fitted function of a term at ``q`` and its standard error: the force −dU/dq, of triplets the energy.

        Arguments:
            name: of the term.
            q: (points,) nm or rad.
        """
        term, columns = self._term(name)
        design = term.space.design(np.asarray(q, np.float64))
        variance = np.einsum("ij,jk,ik->i", design, self.covariance[columns, columns], design)
        return design @ self.parameters[columns], np.sqrt(np.maximum(variance, 0.0))

    def potential(self, name: str, q) -> tuple[np.ndarray, np.ndarray]:
        """U(q) of a term, kJ/mol, and its standard error: zero at the cutoff, or at the lowest point of the range.

        Arguments:
            name: of the term.
            q: (points,) nm or rad.
        """
        term, columns = self._term(name)
        q, space = np.asarray(q, np.float64), term.space
        if isinstance(term, TripletForce):
            return self.function(name, q)
        identity = np.eye(space.parameters)
        if isinstance(term, PairForce):
            zero = space.end
        else:
            fine = np.linspace(space.start, space.end, 1001)
            zero = fine[np.argmin(-space.integral(self.parameters[columns], fine))]
        design = space.integral(identity, np.array([zero])) - space.integral(identity, q)
        if isinstance(term, PairForce):
            design = np.where((q < zero)[:, None], design, 0.0)
        variance = np.einsum("ij,jk,ik->i", design, self.covariance[columns, columns], design)
        return design @ self.parameters[columns], np.sqrt(np.maximum(variance, 0.0))

    def table(self, name: str, spacing: float = 0.002) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(rows,) coordinates, U in kJ/mol and dU/dq, ready for `TabulatedPair` and the bonded tables.

        Where no pairs were seen a pair potential goes on upwards from the first distance with data, its slope growing
        by a factor e over a tenth of that distance, and at least as steep as kT/(a tenth of it) at 300 K: pairs that
        come there in a simulation are sent back. Bonded tables keep to their range.

        Arguments:
            name: of the term.
            spacing: nm or rad.
        """
        term, _ = self._term(name)
        space = term.space
        if not isinstance(term, PairForce):
            rows = max(int(np.ceil((space.end - space.start) / spacing)) + 1, 8)
            q = np.linspace(space.start, space.end, rows)
            if isinstance(term, DihedralForce):
                q = q[:-1]
            if isinstance(term, TripletForce):
                _, columns = self._term(name)
                slope = space.design(q, derivative=True) @ self.parameters[columns]
                return q, self.function(name, q)[0], slope
            return q, self.potential(name, q)[0], -self.function(name, q)[0]
        first = self._first(name)
        rows = int(np.ceil((space.end - spacing) / spacing - 1e-9)) + 1
        r = np.linspace(spacing, space.end, max(rows, 8))
        u, slope = self.potential(name, r)[0], -self.function(name, r)[0]
        length = 0.1 * first
        at = np.array([first])
        u0, s0 = self.potential(name, at)[0][0], min(-self.function(name, at)[0][0], -2.494 / length)
        grown = np.exp(np.maximum(first - r, 0.0) / length)
        core = r < first
        return r, np.where(core, u0 - s0 * length * (grown - 1), u), np.where(core, s0 * grown, slope)

    def _first(self, name: str) -> float:
        """Where the data of a pair term begin: the first distance that the data rather than the prior determine."""
        term, columns = self._term(name)
        good = np.flatnonzero(self.identifiability.resolution[columns] >= _DETERMINED)
        return float(term.space.knots[good[0]]) if good.size else term.space.end


def solve_forces(
    problem: ForceMatching,
    sums: NormalEquations,
    *,
    smoothness: float | None = None,
    folds: int = 5,
    seed: int = 0,
) -> ForceFit:
    """The force field of least squares, with its errors.

    Minimises Σ |F − G c|² + Σ_terms λ w_t |second differences of the term's values|², with w_t the mean curvature of
    the data of term t.

    Arguments:
        problem, sums: see `ForceMatching`.
        smoothness: λ; None chooses it by cross-validation over blocks, 0 asks for plain least squares (of least norm
            where data do not decide).
        folds: of the cross-validation.
        seed: of the bootstrap, which repeats the fit with blocks drawn with replacement.

    Returns:
        The `ForceFit`.

    Raises:
        ValueError: no frames, a term that was never within its range, or too few blocks for the folds.
    """
    if not len(sums.frames):
        raise ValueError("solve_forces: no frames were added; call step or accumulate first.")
    counts = np.split(sums.seen, np.cumsum([term.space.intervals for term in problem.terms])[:-1])
    for term, seen in zip(problem.terms, counts, strict=True):
        if not seen.any():
            raise ValueError(
                f"solve_forces: no {term.name} lies between {term.space.start:g} and {term.space.end:g}; change the "
                "range, or leave the term out."
            )
    normal, right = sums.normal.sum(axis=0), sums.right.sum(axis=0)
    square, components = sums.square.sum(), int(sums.components.sum())
    prior = _prior(problem, normal)
    validation = None
    if smoothness is None:
        folds = min(folds, len(sums.frames))
        if folds < 2:
            raise ValueError("solve_forces: cross-validation needs two blocks; give more frames, or a smoothness.")
        validation = _validate(sums, prior, folds)
        smoothness = float(validation[np.argmin(validation[:, 1]), 0])
    inverse = _inverse(normal + smoothness * prior)
    found = inverse @ right
    left = max(square - 2 * found @ right + found @ normal @ found, 0.0)
    effective = float(np.trace(inverse @ normal))
    variance = left / max(components - effective, 1.0)
    posterior = variance * inverse
    covariance = posterior
    if len(sums.frames) >= 4:
        covariance = _bootstrap(sums, smoothness * prior, seed)
    return ForceFit(
        problem,
        found,
        covariance,
        posterior,
        float(np.sqrt(left / components)),
        float(left / square) if square > 0 else 0.0,
        smoothness,
        validation,
        _identify(problem, normal, effective, np.diag(_inverse(normal + _WEAK * prior) @ normal), counts),
    )


def _prior(problem: ForceMatching, normal: np.ndarray) -> np.ndarray:
    prior = np.zeros_like(normal)
    for term, columns in zip(problem.terms, problem.columns, strict=True):
        rough = term.space.roughness()
        prior[columns, columns] = rough * np.trace(normal[columns, columns]) / np.trace(rough)
    return prior


def _inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix after scaling its diagonal to one; directions that it does not hold stay zero."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 1e-300))
    scale = np.where(scale > 1e-12 * scale.max(), scale, np.inf)
    return np.linalg.pinv(matrix / np.outer(scale, scale), rcond=1e-13, hermitian=True) / np.outer(scale, scale)


def _validate(sums: NormalEquations, prior: np.ndarray, folds: int) -> np.ndarray:
    """(strengths, 2) the strength and the mean square force left on the blocks that were left out."""
    owner = np.arange(len(sums.frames)) * folds // len(sums.frames)
    total = np.zeros(len(_STRENGTHS))
    for fold in range(folds):
        out = owner == fold
        normal, right = sums.normal[~out].sum(axis=0), sums.right[~out].sum(axis=0)
        held, wanted = sums.normal[out].sum(axis=0), sums.right[out].sum(axis=0)
        for k, strength in enumerate(_STRENGTHS):
            found = _inverse(normal + strength * prior) @ right
            total[k] += sums.square[out].sum() - 2 * found @ wanted + found @ held @ found
    return np.stack([_STRENGTHS, total / sums.components.sum()], axis=1)


def _bootstrap(sums: NormalEquations, penalty: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    blocks = len(sums.frames)
    draws = []
    for _ in range(_RESAMPLES):
        weights = np.bincount(rng.integers(blocks, size=blocks), minlength=blocks).astype(np.float64)
        normal = np.tensordot(weights, sums.normal, 1)
        draws.append(_inverse(normal + penalty) @ (weights @ sums.right))
    # Of few blocks, resamples scatter too little by (n − 1)/n.
    return np.cov(np.stack(draws), rowvar=False) * blocks / (blocks - 1)


def _identify(
    problem: ForceMatching, normal: np.ndarray, effective: float, resolution: np.ndarray, counts
) -> Identifiability:
    diagonal = np.clip(resolution, 0.0, 1.0)
    stretches = []
    for term, columns, seen in zip(problem.terms, problem.columns, counts, strict=True):
        knots = term.space.knots[: term.space.parameters]
        low = diagonal[columns] < _DETERMINED
        # A knot between two intervals without data is open too, whatever the resolution says.
        empty = np.concatenate([[True], seen == 0]) & np.concatenate([seen == 0, [True]])
        low = low | empty[: len(knots)]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(int)))
        for a, b in zip(edges[::2], edges[1::2] - 1, strict=True):
            stretches.append((term.name, float(knots[a]), float(knots[b])))
    scale = np.sqrt(np.diag(normal))
    used = scale > 0
    scaled = normal[np.ix_(used, used)] / np.outer(scale[used], scale[used])
    values = np.linalg.eigvalsh(scaled)
    couplings = []
    for a in range(len(problem.terms)):
        for b in range(a):
            cosine = _canonical(normal, problem.columns[b], problem.columns[a])
            if cosine > 0.9:
                couplings.append((problem.terms[b].name, problem.terms[a].name, cosine))
    condition = float(values[-1] / max(values[0], 1e-300))
    return Identifiability(effective, diagonal, tuple(stretches), condition, tuple(couplings))


def _canonical(normal: np.ndarray, one: slice, other: slice) -> float:
    """Largest canonical correlation of the forces of two terms."""
    first, second = _half_inverse(normal[one, one]), _half_inverse(normal[other, other])
    found = np.linalg.svd(first.T @ normal[one, other] @ second, compute_uv=False).max(initial=0.0)
    return float(min(found, 1.0))


def _half_inverse(matrix: np.ndarray) -> np.ndarray:
    """(parameters, directions) W with Wᵀ N W = 1, of the directions that rounding leaves in N."""
    scale = np.sqrt(np.diag(matrix))
    scale = np.where(scale > 0, scale, np.inf)
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    kept = values > 1e-7 * values.max()
    return vectors[:, kept] / np.sqrt(values[kept]) / scale[:, None]

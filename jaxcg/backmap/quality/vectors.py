"""The few vector formulas the checks share (NumPy, batched over rows)."""

import numpy as np


def dihedrals(x: np.ndarray, quartets: np.ndarray) -> np.ndarray:
    """Dihedral angles of (n, 4) atom quartets, radians in (−π, π], IUPAC sign."""
    a, b, c, d = (x[quartets[:, k]] for k in range(4))
    before, axis, after = b - a, c - b, d - c
    normal_before, normal_after = np.cross(before, axis), np.cross(axis, after)
    sine = np.linalg.norm(axis, axis=1) * np.sum(before * normal_after, axis=1)
    return np.arctan2(sine, np.sum(normal_before * normal_after, axis=1))


def angles(x: np.ndarray, triples: np.ndarray) -> np.ndarray:
    """Angles of (n, 3) atom triples, radians."""
    a, b = x[triples[:, 0]] - x[triples[:, 1]], x[triples[:, 2]] - x[triples[:, 1]]
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=1), np.sum(a * b, axis=1))


def angle_difference(a, b) -> np.ndarray:
    """Smallest absolute difference of two angles, radians in [0, π]."""
    return np.abs((np.asarray(a) - np.asarray(b) + np.pi) % (2 * np.pi) - np.pi)


def rmsd(x: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square distance between paired points, as they lie."""
    return float(np.sqrt(np.mean(np.sum((x - reference) ** 2, axis=1)))) if len(x) else 0.0


def fitted_rmsd(x: np.ndarray, reference: np.ndarray) -> float:
    """Root mean square distance after the best rigid superposition (Kabsch 1976)."""
    if not len(x):
        return 0.0
    a, b = x - x.mean(axis=0), reference - reference.mean(axis=0)
    left, singular, right = np.linalg.svd(a.T @ b)
    singular[-1] *= np.sign(np.linalg.det(left @ right))
    square = np.sum(a * a) + np.sum(b * b) - 2 * singular.sum()
    return float(np.sqrt(max(square, 0.0) / len(x)))

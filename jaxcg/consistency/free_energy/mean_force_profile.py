"""Potentials of mean force from mean forces at fixed coordinates, and free energies by thermodynamic integration."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from ...sampling.estimators.mean_force import MeanForce
from ...typing import Array
from ..statistics import Estimate, block_average
from .profile import FreeEnergyProfile


def integration_matrix(positions: np.ndarray) -> np.ndarray:
    """The matrix A of cumulative integrals, (∫₀ᵏ f dξ)_k = A f, of the not-a-knot cubic spline through f.

    Fewer than four points are joined by the polynomial through them.

    Arguments:
        positions: (points,) ascending.

    Returns:
        (points, points) float64; the first row is zero.

    Raises:
        ValueError: fewer than two points, or not ascending.
    """
    x = np.asarray(positions, np.float64)
    if x.ndim != 1 or len(x) < 2 or not (np.diff(x) > 0).all():
        raise ValueError("integration_matrix: positions must be two numbers or more that ascend.")
    return CubicSpline(x, np.eye(len(x))).antiderivative()(x)


def integrated_profile(positions: np.ndarray, forces: Array) -> Array:
    """W(ξ) = −∫ F dξ from mean forces, zero at the first point: differentiable with respect to the forces.

    Arguments:
        positions: (points,) ξ, ascending, constants.
        forces: (points,) −dW/dξ.
    """
    forces = jnp.asarray(forces)
    return -jnp.matmul(jnp.asarray(integration_matrix(positions), forces.dtype), forces, precision="highest")


def mean_force_profile(
    positions: np.ndarray, forces: Sequence[MeanForce | Estimate], temperature: float
) -> FreeEnergyProfile:
    """W(ξ) of a collective coordinate from its mean force at fixed values, by integration.

    ``jaxcg.sampling.mean_force`` gives −dW/dξ from draws in which ξ is held: with the `CurvedLift` of any
    differentiable coordinate, or with a linear map. The convention is that of exp(−W/kT) = ∫ exp(−U/kT) δ(ξ − ξ(x)) dx:
    the density of ξ, without a factor from the constraint. Between the points the force is a cubic spline; the error is
    that of the forces. Compare with the result from every other point to see what the spline misses.

    Arguments:
        positions: (points,) values of ξ, ascending.
        forces: of a single coordinate at each of them, −dW/dξ, independent of each other; kJ/mol per unit of ξ.
        temperature: K.

    Returns:
        The `FreeEnergyProfile`, zero at the first point.

    Raises:
        ValueError: positions that do not ascend, or as many forces as there are not positions; forces of more than
            one coordinate; without errors.

    Source: den Otter & Briels, J. Chem. Phys. 109, 4139 (1998); Ciccotti, Kapral & Vanden-Eijnden, ChemPhysChem 6,
    1809 (2005).
    """
    if len(forces) != len(positions) or any(np.size(f.value) != 1 for f in forces):
        raise ValueError(
            f"mean_force_profile: {len(positions)} positions need as many forces, each of one coordinate; for several "
            "coordinates give a path to path_profile."
        )
    value = np.array([np.asarray(f.value, np.float64).item() for f in forces])
    error = np.array([np.asarray(f.error, np.float64).item() for f in forces])
    return _integrated(positions, -value, np.diag(error**2), temperature)


def path_profile(path: np.ndarray, forces: Sequence[MeanForce], temperature: float) -> FreeEnergyProfile:
    """W along a path y(s) through many coordinates, W(s) = −∫ F·dy, from the mean forces at its points.

    On a closed path the last value is zero within its error. The covariance of the components is allowed for.

    Arguments:
        path: (points, ...) the coordinates held at each point, e.g. (points, beads, 3) nm, no two neighbours equal.
        forces: −∂W/∂y there, each of the shape of y, independent of each other.
        temperature: K.

    Returns:
        The `FreeEnergyProfile` in the length of the path (of the straight pieces, in the unit of y), zero at its start.

    Raises:
        ValueError: forces that do not fit the path, fewer than two points, or equal neighbours.
    """
    y = np.asarray(path, np.float64)
    shape, y = y.shape[1:], y.reshape(len(y), -1)
    if len(forces) != len(y) or any(np.shape(f.value) != shape for f in forces):
        raise ValueError(
            f"path_profile: {len(y)} points of shape {shape} need as many forces of that shape, got {len(forces)} of "
            f"{sorted({np.shape(f.value) for f in forces})}."
        )
    steps = np.linalg.norm(np.diff(y, axis=0), axis=1)
    if len(y) < 2 or not (steps > 0).all():
        raise ValueError("path_profile: give two points or more, no two neighbours equal.")
    length = np.concatenate([[0.0], np.cumsum(steps)])
    tangent = CubicSpline(length, y)(length, 1)
    value = np.array([np.ravel(f.value) @ t for f, t in zip(forces, tangent, strict=True)])
    size = y.shape[1]
    variance = [t @ np.reshape(f.covariance, (size, size)) @ t for f, t in zip(forces, tangent, strict=True)]
    return _integrated(length, -value, np.diag(variance), temperature)


def thermodynamic_integration(
    couplings: np.ndarray, derivatives: Sequence[np.ndarray], temperature: float
) -> FreeEnergyProfile:
    """F(λ) − F(λ₀) = ∫ ⟨∂U/∂λ⟩ dλ from equilibrium simulations at fixed couplings, with its error.

    Arguments:
        couplings: (points,) λ, ascending.
        derivatives: for every coupling the series of ∂U/∂λ, (draws,) or (chains, draws) in the order the chains made
            them, kJ/mol per unit of λ; may be correlated.
        temperature: K; used for what the profile says in units of kT only.

    Returns:
        The `FreeEnergyProfile` in λ, zero at the first; ``difference(λ₀, λ₁)`` is the free-energy difference.

    Raises:
        ValueError: couplings that do not ascend, as many series as there are not couplings, or not finite.

    Source: Kirkwood, J. Chem. Phys. 3, 300 (1935).
    """
    if len(derivatives) != len(couplings):
        raise ValueError(f"thermodynamic_integration: {len(couplings)} couplings, but {len(derivatives)} series.")
    means = [block_average(list(np.atleast_2d(np.asarray(series, np.float64)))) for series in derivatives]
    value, error = (np.array([getattr(mean, name) for mean in means]) for name in ("value", "error"))
    return _integrated(couplings, value, np.diag(error**2), temperature)


def _integrated(positions, slope: np.ndarray, covariance: np.ndarray, temperature: float) -> FreeEnergyProfile:
    if not np.isfinite(slope).all():
        raise ValueError("free energies: the mean forces are not finite.")
    matrix = integration_matrix(positions)
    return FreeEnergyProfile(
        np.asarray(positions, np.float64), matrix @ slope, matrix @ covariance @ matrix.T, float(temperature)
    )

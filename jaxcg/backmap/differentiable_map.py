"""The MAP structure as a differentiable function of the beads and of the force field."""

import equinox as eqx
import jax
import optax
from jax import lax
from jax.core import Tracer

from ..errors import ResultError
from ..posterior import Posterior
from ..sampling.estimators.map_sensitivity import differentiable_map, newton_map
from ..sampling.estimators.tangent_solver import TangentSolver
from ..typing import Array, AtomVectors
from .map_estimate import map_estimate


def differentiable_map_estimate(
    posterior: Posterior,
    x0: AtomVectors,
    optimizer: optax.GradientTransformationExtraArgs | optax.GradientTransformation | None = None,
    *,
    steps: int = 500,
    tolerance: float = 10.0,
    newton: int = 6,
    solver: TangentSolver | None = None,
) -> Array:
    """The MAP nearest to ``x0``, for use under `jax.grad`, `jax.jvp` and their kin: `map_estimate` with derivatives.

    The search is `map_estimate`, brought to the bottom by Newton's method; derivatives with respect to y, the
    temperature and all parameters of the energy are those of the implicit function theorem (`differentiable_map`).
    It searches on the host, so it cannot stand inside `jax.jit` or `jax.vmap`: there, search first and use
    `differentiable_map`.

    Arguments:
        posterior: the function's argument; a linear map, exact or soft.
        x0: (atoms, 3) start, nm; constant. Use float64 for derivatives.
        optimizer, steps, tolerance: of the search, see `map_estimate`.
        newton: most Newton steps after it, at least one.
        solver: of the linear systems.

    Returns:
        (atoms, 3) the MAP, nm.

    Raises:
        ValueError: called inside `jax.jit` or `jax.vmap`.
        ResultError: no minimum was found.
    """
    arrays, rest = eqx.partition(posterior, eqx.is_inexact_array)
    fixed = jax.tree.map(lax.stop_gradient, arrays)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((fixed, eqx.filter(rest, eqx.is_array)))):
        raise ValueError(
            "differentiable_map_estimate: the search cannot run inside jax.jit or jax.vmap; find the MAP outside with "
            "map_estimate and use differentiable_map inside."
        )
    fixed = eqx.combine(fixed, rest)
    found = map_estimate(fixed, x0, optimizer, steps=steps, tolerance=tolerance)
    x, gradient = newton_map(fixed, found.x, steps=newton)
    if not gradient <= tolerance:
        raise ResultError(
            f"differentiable_map_estimate: {found.status} with a gradient of {gradient:.3g} kJ/mol/nm; "
            "give more steps or a better start."
        )
    return differentiable_map(posterior, x, solver=solver)

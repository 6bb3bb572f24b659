"""How the MAP structure moves with the beads and the parameters: the implicit function theorem on the fibre.

The MAP x* is where the gradient has no component along the fibre and the beads are right:

    F(x) = P ∇U(x) + L (M(x) − y) = 0,

with P the orthogonal projection on the tangent space and L = Wᵀ(W Wᵀ)⁻¹ the lift. F stays zero as parameters change, so

    dx*/dθ = −T ∂²U/∂x∂θ,    dx*/dy = L − T H L,    T = Z (Zᵀ H Z)⁻¹ Zᵀ,

with Z a basis of the tangent space, which is never formed. For soft beads P = 1, L = 0 and H is that of U plus the
restraint. For curved constraints c(x) = 0 with Jacobian J, P∇U becomes P ∇(U + λ·c) at the multipliers λ(x) of least
squares, and L the pseudoinverse of J: H then contains the curvature of the constraints, as in the KKT equations.
"""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from ...mapping.base import AbstractFibre
from ...mapping.residuals import residual
from ...posterior import Posterior
from ...typing import Array, AtomVectors, BeadArray
from .tangent_solver import TangentSolver

MapStatus = Literal["solved", "not a minimum", "not converged"]


class MapResponse(NamedTuple):
    """Result of `map_response`.

    Fields:
        displacement: (atoms, 3) derivative of the MAP along the change asked for.
        residual: residual of the linear system relative to the forces that the change makes.
        gradient: root mean square of F at x, kJ/mol/nm: how far x is from stationary; the derivative is wrong by about
            this relative to the forces that the change makes.
        curvature: lowest curvature met, kJ/mol/nm².
        zero_modes: tangent directions without curvature, such as overall rotations that no bead holds; the
            displacement has no component in them. −1 where the system was too large to count.
        iterations: of conjugate gradients; zero for a dense solution.
        status: "solved"; "not a minimum" where the curvature is negative; "not converged" where the residual is large.
    """

    displacement: Array
    residual: float
    gradient: float
    curvature: float
    zero_modes: int
    iterations: int
    status: MapStatus


def differentiable_map(
    posterior: Posterior,
    x: AtomVectors,
    *,
    fibre: AbstractFibre | None = None,
    solver: TangentSolver | None = None,
) -> Array:
    """The MAP ``x`` as a differentiable function of the posterior: of y, the temperature and all parameters.

    The value is ``x`` as it is; its derivatives are those of the minimiser of U on the fibre (of the potential for soft
    beads), in forward and reverse mode and to any order, at the cost of one linear system for each. Only the weights of
    the map are taken as constants. ``x`` itself is a constant: find it with `jaxcg.backmap.map_estimate`, best in
    float64, and as well converged as the derivatives are to be right (`newton_map`). Where the system cannot be solved,
    derivatives are nan; `map_response` tells why.

    Arguments:
        posterior: the function's argument.
        x: (atoms, 3) the MAP of ``posterior``, nm; constant.
        fibre: that of the posterior's map with unit masses, needed only where the whole posterior is an argument of
            `jax.jit`.
        solver: of the linear systems.

    Returns:
        (atoms, 3) ``x``, nm.
    """
    return _attached(posterior, lax.stop_gradient(x), _fibre(posterior, fibre), solver or TangentSolver())


def map_response(
    posterior: Posterior,
    x: AtomVectors,
    *,
    beads: BeadArray | None = None,
    energy: Any = None,
    temperature: float | None = None,
    solver: TangentSolver | None = None,
) -> MapResponse:
    """How the MAP moves along one change of the posterior, and how far to trust it.

    Arguments:
        posterior: the posterior.
        x: (atoms, 3) its MAP, nm.
        beads: direction of the change of y, of the shape of ``posterior.y``.
        energy: direction of the change of the parameters: a tree like
            ``equinox.filter(posterior.energy, equinox.is_inexact_array)``.
        temperature: change of the temperature, K; it moves the MAP of soft beads only.
        solver: of the linear system.

    Returns:
        The `MapResponse`; its displacement is nm for a direction of one.

    Raises:
        ValueError: no change was asked for.
    """
    if beads is None and energy is None and temperature is None:
        raise ValueError("map_response: give a change of beads, energy or temperature.")
    arrays = eqx.filter(posterior, eqx.is_inexact_array)
    change = jax.tree.map(jnp.zeros_like, arrays)
    if beads is not None:
        change = eqx.tree_at(lambda p: p.y, change, jnp.asarray(beads, posterior.y.dtype))
    if temperature is not None:
        change = eqx.tree_at(lambda p: p.temperature, change, jnp.asarray(temperature, posterior.temperature.dtype))
    if energy is not None:
        change = eqx.tree_at(lambda p: p.energy, change, energy)
    solver = solver or TangentSolver()
    x = jnp.asarray(x)
    solved, norm = _response(posterior, change, x, _fibre(posterior, None), solver)
    worst, curvature = float(solved.residual), float(solved.curvature)
    status: MapStatus = "solved"
    if not worst <= 100 * solver.accuracy(x.dtype):
        status = "not converged"
    if curvature < 0:
        status = "not a minimum"
    zero_modes, iterations = int(solved.zero_modes), int(solved.iterations)
    return MapResponse(solved.solution, worst, float(norm), curvature, zero_modes, iterations, status)


def newton_map(
    posterior: Posterior, x: AtomVectors, *, steps: int = 4, fibre: AbstractFibre | None = None
) -> tuple[Array, float]:
    """``x`` refined by Newton's method on the fibre, from near the MAP: ``(x, gradient)``.

    A step is taken only as far as it makes the gradient smaller, halved up to ten times.

    Arguments:
        posterior: the posterior.
        x: (atoms, 3) nm, converged to where the Hessian is positive.
        steps: most Newton steps, at least one; each squares the error.
        fibre: as for `differentiable_map`.

    Returns:
        Positions (atoms, 3), nm, and the root mean square of what is left of the gradient, kJ/mol/nm.
    """
    fibre = _fibre(posterior, fibre)
    x = jnp.asarray(x)
    norm = jnp.inf
    for _ in range(max(steps, 1)):
        x, norm, moved = _newton(posterior, x, fibre)
        if not moved:
            break
    return x, float(norm)


def _fibre(posterior: Posterior, fibre: AbstractFibre | None) -> AbstractFibre | None:
    if not (posterior.linear and posterior.exact):
        return None
    return _frozen(posterior).linear_map("differentiable_map").fibre() if fibre is None else fibre


def _conditions(posterior: Posterior, reference: Array, fibre: AbstractFibre | None):
    """``(P, F)``: the projection at ``reference``, a constant, and the function whose root is the MAP.

    Any reference near the root serves: its projection only has to span the same conditions.
    """
    posterior = posterior.rebuild(reference)
    gradient = jax.grad(posterior.potential)
    if posterior.linear:
        if fibre is None:
            return _itself, gradient
        mapping = _frozen(posterior).linear_map("differentiable_map")
        y = posterior.y.astype(reference.dtype)

        def on_fibre(x):
            return fibre.tangent(gradient(x)) + fibre.lift(mapping(x) - y)

        return fibre.tangent, on_fibre

    def constraint(posterior, x):
        beads = residual(posterior.mapping, x, posterior.y.astype(x.dtype)).ravel() if posterior.exact else None
        bonds = None if posterior.rigid_bonds is None else posterior.rigid_bonds.residual(x)
        return jnp.concatenate([part for part in (beads, bonds) if part is not None])

    def split(posterior, x):
        """Pseudoinverse-transpose product and projection from the Jacobian at x."""
        jacobian = jax.jacrev(lambda at: constraint(posterior, at))(x).reshape(-1, x.size)
        gram = _dot(jacobian, jacobian.T)

        def lift(values):
            return _dot(jnp.linalg.solve(gram, values), jacobian).reshape(x.shape)

        return lift, lambda v: v - lift(_dot(jacobian, v.ravel()))

    lift, project = split(_frozen(posterior), reference)

    def on_surface(x):
        return project(split(posterior, x)[1](gradient(x))) + lift(constraint(posterior, x))

    return project, on_surface


@eqx.filter_jit
def _attached(posterior, x, fibre, solver):
    x = jnp.asarray(x)
    project, conditions = _conditions(posterior, x, fibre)

    def tangent_solve(linear, b):
        return _solve(solver.differentiable, linear, project, b)

    return lax.custom_root(conditions, x, lambda _, x: x, tangent_solve)


@eqx.filter_jit
def _response(posterior, change, x, fibre, solver):
    arrays, rest = eqx.partition(posterior, eqx.is_inexact_array)

    def at(arrays):
        return _conditions(eqx.combine(arrays, rest), x, fibre)[1](x)

    value, pushed = jax.jvp(at, (arrays,), (change,))
    project, conditions = _conditions(posterior, x, fibre)
    linear = jax.linearize(conditions, x)[1]
    held = -(pushed - project(pushed))
    pull = linear(held)
    b = project(-pushed - pull)
    solved = solver.solve(linear, project, b)
    # By the terms that b is made of: where molecules move as one they cancel.
    terms = jnp.sqrt(jnp.sum(project(pushed) ** 2)) + jnp.sqrt(jnp.sum(pull**2))
    share = jnp.sqrt(jnp.sum(b**2)) / jnp.where(terms > 0, terms, 1)
    solved = solved._replace(solution=solved.solution + held, residual=solved.residual * share)
    return solved, jnp.sqrt(jnp.mean(value**2))


@eqx.filter_jit
def _newton(posterior, x, fibre):
    project, conditions = _conditions(posterior, x, fibre)

    def settled(x):
        """Back to the constraints: compared there, gradients are not mixed with deviations of the beads."""

        def once(_, x):
            value = conditions(x)
            return x - (value - project(value))

        return lax.fori_loop(0, 1 if posterior.linear else 8, once, x)

    x = settled(x)
    value, linear = jax.linearize(conditions, x)
    step = -_solve(lambda *args: TangentSolver().solve(*args).solution, linear, project, value)

    def norm(x):
        return jnp.sqrt(jnp.mean(conditions(x) ** 2))

    def halved(carry):
        share, tried, _, _ = carry
        new = settled(x + share * step)
        return 0.5 * share, tried + 1, new, norm(new)

    before = norm(x)
    start = jnp.ones((), x.dtype), jnp.int32(0), x, jnp.full((), jnp.inf, x.dtype)
    _, _, new, after = lax.while_loop(lambda c: ~(c[3] < before) & (c[1] < 10), halved, start)
    moved = after < before
    return jnp.where(moved, new, x), jnp.where(moved, after, before), moved


def _solve(solve, linear, project, b):
    """The v with linear(v) = b, where linear(v) = P H v + (1 − P) v."""
    held = b - project(b)
    return held + solve(linear, project, b - linear(held))


def _frozen(posterior: Posterior) -> Posterior:
    # What is no tracer has no derivative, and must not become one under jit: maps need their weights in NumPy.
    return jax.tree.map(lambda leaf: lax.stop_gradient(leaf) if isinstance(leaf, Tracer) else leaf, posterior)


def _itself(v):
    return v


def _dot(a, b) -> Array:
    return jnp.matmul(a, b, precision="highest")

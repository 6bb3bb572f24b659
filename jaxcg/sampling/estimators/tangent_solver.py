"""Linear systems with the Hessian on the tangent space of a fibre: P H P t = P b for t = P t."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax

from ...batching import batch_width
from ...typing import Array, Scalar

Linear = Callable[[Array], Array]

#: Coordinates up to which the matrix is formed and decomposed.
DENSE = 600


class Solved(NamedTuple):
    """Solution of a system and how good it is.

    Fields:
        solution: t, of the shape of b.
        residual: |P H t − P b| by |P b|.
        iterations: of conjugate gradients; zero for a dense solution.
        curvature: lowest curvature met, kJ/mol/nm²: lowest eigenvalue that counts, or Rayleigh quotient of a search
            direction.
        zero_modes: tangent directions without curvature, which the solution has no component in; −1 if not counted.
    """

    solution: Array
    residual: Scalar
    iterations: Array
    curvature: Scalar
    zero_modes: Array


class TangentSolver(eqx.Module):
    """How to solve the systems.

    Up to `DENSE` coordinates the matrix is formed and decomposed, and directions without curvature (overall rotations
    that no bead holds) are left out. Beyond, projected conjugate gradients use products with the Hessian alone; where
    there are such directions, only right-hand sides without a component in them can be solved for.

    Arguments:
        tolerance: of the residual; None for a thousandfold rounding error.
        iterations: of conjugate gradients, most.
        dense: False or True to force one of the two ways; None chooses by size.
        preconditioner: symmetric positive function of (atoms, 3) arrays, about the inverse Hessian; None for none.

    Source: Gould, Hribar & Nocedal, SIAM J. Sci. Comput. 23, 1376 (2001), for the projected iteration.
    """

    tolerance: float | None = eqx.field(static=True, default=None)
    iterations: int = eqx.field(static=True, default=5000)
    dense: bool | None = eqx.field(static=True, default=None)
    preconditioner: Callable[[Array], Array] | None = None

    def solve(self, hessian: Linear, project: Linear, b: Array) -> Solved:
        """The smallest t = P t with P H t = P b.

        Arguments:
            hessian: v → H v.
            project: the orthogonal projection P, symmetric.
            b: (atoms, 3).
        """
        b = project(b)

        def matvec(v):
            return project(hessian(project(v)))

        found = _decomposed(matvec, project, b) if self._forms(b) else self._iterated(matvec, project, b)
        solution = project(found.solution)
        size = jnp.sqrt(jnp.sum(b**2))
        residual = jnp.sqrt(jnp.sum((matvec(solution) - b) ** 2)) / jnp.where(size > 0, size, 1)
        return found._replace(solution=solution, residual=residual)

    def differentiable(self, hessian: Linear, project: Linear, b: Array) -> Array:
        """`solve` as a linear function of ``b`` that JAX transposes; nan where it fails, never a wrong number."""

        def matvec(v):
            return project(hessian(project(v)))

        def solve(_, b):
            found = self.solve(hessian, project, b)
            # Of a dense solution only directions without curvature are left over, which is as it should be.
            good = self._forms(b) | (found.residual <= 100 * self.accuracy(b.dtype))
            return jnp.where(good, found.solution, jnp.nan)

        return lax.custom_linear_solve(matvec, project(b), solve, symmetric=True)

    def accuracy(self, dtype) -> float:
        """Relative residual aimed at."""
        return 1000 * float(jnp.finfo(dtype).eps) if self.tolerance is None else self.tolerance

    def _forms(self, b) -> bool:
        return b.size <= DENSE if self.dense is None else self.dense

    def _iterated(self, matvec, project, b) -> Solved:
        precondition = (lambda r: r) if self.preconditioner is None else self.preconditioner
        limit = self.accuracy(b.dtype) * jnp.sqrt(jnp.sum(b**2))

        def going(carry):
            _, r, _, _, i, curvature = carry
            return (jnp.sqrt(jnp.sum(r**2)) > limit) & (i < self.iterations) & (curvature > 0)

        def step(carry):
            x, r, p, rz, i, curvature = carry
            hp = matvec(p)
            bend = jnp.sum(p * hp)
            quotient = bend / jnp.sum(p**2)
            along = jnp.where(bend > 0, rz / bend, 0)
            x, r = x + along * p, r - along * hp
            z = project(precondition(r))
            new = jnp.sum(r * z)
            return x, r, z + new / rz * p, new, i + 1, jnp.minimum(curvature, quotient)

        z = project(precondition(b))
        start = (jnp.zeros_like(b), b, z, jnp.sum(b * z), jnp.int32(0), jnp.asarray(jnp.inf, b.dtype))
        x, _, _, _, i, curvature = lax.while_loop(going, step, start)
        return Solved(x, jnp.zeros((), b.dtype), i, curvature, jnp.int32(-1))


def _decomposed(matvec, project, b) -> Solved:
    unit = jnp.eye(b.size, dtype=b.dtype).reshape(b.size, *b.shape)
    width = None if jax.default_backend() == "cpu" else batch_width()
    rows, free = lax.map(lambda v: (matvec(v), jnp.sum(v * project(v))), unit, batch_size=width)
    matrix = rows.reshape(b.size, b.size)
    held = b.size - jnp.round(jnp.sum(free))
    values, vectors = jnp.linalg.eigh(0.5 * (matrix + matrix.T))
    # The stiffest bonds and the softest torsions are five to six digits apart.
    cutoff = jnp.max(jnp.abs(values)) * float(jnp.finfo(b.dtype).eps) ** 0.65
    kept = jnp.abs(values) > cutoff
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    weights = inverse * jnp.matmul(vectors.T, b.ravel(), precision="highest")
    solution = jnp.matmul(vectors, weights, precision="highest").reshape(b.shape)
    zero_modes = jnp.sum(~kept, dtype=jnp.int32) - held.astype(jnp.int32)
    curvature = jnp.min(jnp.where(kept, values, jnp.inf))
    return Solved(solution, jnp.zeros((), b.dtype), jnp.int32(0), curvature, zero_modes.astype(jnp.int32))

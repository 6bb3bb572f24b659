"""Free energies of many states as differentiable functions of their energies."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import logsumexp

from ...typing import Array, Float
from ...units import GAS_CONSTANT
from .multistate import Multistate


def differentiable_free_energies(
    energies: Float[Array | np.ndarray, "states samples"], solution: Multistate
) -> Float[Array, " states"]:
    """−ln(Z_k/Z_0) of `multistate_free_energies` with its derivatives with respect to the energies, and so to what
    these depend on: parameters of a force field, say.

    One Newton step from the solution: it changes the value by rounding only, and its derivative is that of the solution
    of the equations (implicit function theorem). Where the samples come from the states themselves that is the
    derivative of the free energies of the states that were not sampled, at fixed samples; and to first order
    df_k/dθ = ⟨du_k/dθ⟩_k − ⟨du_0/dθ⟩_0 for all. Can be compiled and differentiated in both modes.

    Arguments:
        energies: (states, samples) U_k(x_n), kJ/mol, samples in the order of ``solution``; finite.
        solution: the solution at these energies.
    """
    energies = jnp.asarray(energies)
    dtype = energies.dtype
    sampled = len(solution.counts)
    u = energies / jnp.asarray(GAS_CONSTANT * solution.temperatures, dtype)[:, None]
    f = jnp.asarray(solution.reduced, dtype)
    counts = jnp.asarray(solution.counts, dtype)
    log_mixture = logsumexp(jnp.log(counts)[:, None] + f[:sampled, None] - u[:sampled], axis=0)
    off = jnp.exp(logsumexp(f[:, None] - u - log_mixture, axis=1)) - 1
    weights = lax.stop_gradient(jnp.exp(f[:, None] - u - log_mixture))
    coupling = jnp.matmul(weights, weights[:sampled].T, precision="highest") * counts
    jacobian = jnp.diag(jnp.sum(weights, axis=1)).at[:, :sampled].add(-coupling)
    step = jnp.linalg.solve(jacobian[1:, 1:], off[1:])
    return f - jnp.concatenate([jnp.zeros(1, dtype), step])

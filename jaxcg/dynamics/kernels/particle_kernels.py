"""Many particles, each with a memory kernel of its own."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...typing import Array
from .embedding import Embedding
from .forms import AbstractMemoryKernel


class ParticleKernels(eqx.Module):
    """Memory kernels of particles that do not share their baths, for `GLE` in place of one kernel.

    Scalar kernels act on every coordinate of their particle alone; kernels of d coordinates couple the d components of
    each particle. Kernels may differ in order: shorter ones are filled up with auxiliaries that nothing couples to.

    Arguments:
        kernels: one for each type of particle, all scalar or all of the same number of coordinates.
        types: (particles,) index of each particle's kernel; None where every particle has its own, in order.

    Raises:
        ValueError: kernels of different numbers of coordinates, a type without kernel, or a kernel without exact
            embedding.
    """

    embeddings: Embedding
    types: Array

    def __init__(self, kernels: Sequence[AbstractMemoryKernel | Embedding], types=None):
        made = [kernel if isinstance(kernel, Embedding) else Embedding.of(kernel) for kernel in kernels]
        if not made or len({(one.scalar, one.couplings.shape[1]) for one in made}) > 1:
            raise ValueError(
                "ParticleKernels: give at least one kernel, all scalar or all of the same number of coordinates."
            )
        types = np.arange(len(made)) if types is None else np.asarray(types)
        if (
            types.ndim != 1
            or not np.issubdtype(types.dtype, np.integer)
            or not np.all((types >= 0) & (types < len(made)))
        ):
            raise ValueError(f"ParticleKernels: types must be (particles,) integers from 0 to {len(made) - 1}.")
        most = max(one.auxiliaries for one in made)
        padded = [_padded(one, most) for one in made]
        self.embeddings = jax.tree.map(lambda *leaves: jnp.stack(leaves), *padded)
        self.types = jnp.asarray(types, jnp.int32)

    @property
    def components(self) -> int | None:
        """Number of coupled components of each particle; None for scalar kernels."""
        return None if self.embeddings.scalar else self.embeddings.couplings.shape[-1]


def _padded(embedding: Embedding, auxiliaries: int) -> Embedding:
    """The same with idle auxiliaries, each of which relaxes on its own."""
    more = auxiliaries - embedding.auxiliaries
    couplings = jnp.pad(embedding.couplings, ((0, more), (0, 0)))
    drift = jax.scipy.linalg.block_diag(embedding.drift, jnp.eye(more, dtype=embedding.drift.dtype))
    return Embedding(couplings, drift, embedding.friction, embedding.scalar)

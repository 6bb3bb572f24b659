"""Host data onto the device."""

import jax
import numpy as np

from ..typing import Array


def leaf(values, dtype=None) -> Array:
    """``values`` as a JAX array of ``dtype`` (or their own, in the precision JAX is set to).

    Unlike `jnp.asarray`, which compiles a program for every new shape, this only copies.
    """
    if isinstance(values, jax.Array):
        return values if dtype is None else values.astype(dtype)
    return jax.device_put(np.asarray(values, dtype))

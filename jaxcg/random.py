"""Normal random numbers for inner loops, where drawing them takes most of the time."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from .typing import Array, PRNGKeyArray


def standard_normal(key: PRNGKeyArray, count: int, dtype) -> Array:
    """Independent numbers of mean zero and variance one: (count,), a pure function of the key.

    In single precision with JAX's default generator both words of every hash become a number: half the work of
    `jax.random.normal`, which uses one of them. Otherwise they are those of `jax.random.normal`.

    Arguments:
        key: typed random key (`jax.random.key`).
        count: how many.
        dtype: floating type.

    Source: Salmon et al., SC '11, article 16 (Threefry); inversion of the normal distribution.
    """
    if jnp.dtype(dtype) != jnp.float32 or str(jax.random.key_impl(key)) != "threefry2x32":
        return jax.random.normal(key, (count,), dtype)
    words = threefry_2x32(jax.random.key_data(key), jnp.arange(count, dtype=jnp.uint32))
    # 23 random bits as the fraction of a number in [1, 2), moved to (−1, 1).
    unit = jax.lax.bitcast_convert_type((words >> 9) | np.uint32(0x3F800000), jnp.float32) - 1
    least = np.nextafter(np.float32(-1), np.float32(0))
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(least, unit * (1 - least) + least))

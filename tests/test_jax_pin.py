import jax
import jax.numpy as jnp
import numpy as np


def test_batched_small_matrix_products_are_right():
    # jax 0.10.2 and 0.11.0 get this wrong on the CPU; the dependency pins leave them out.
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(3, 3)).astype(np.float32)
    x = rng.normal(size=(40000, 3)).astype(np.float32)
    got = jax.jit(jax.vmap(lambda v: ((jnp.asarray(matrix) @ v) ** 2).sum()))(x)
    np.testing.assert_allclose(got, ((x @ matrix.T) ** 2).sum(axis=1), rtol=1e-4)

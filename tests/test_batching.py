import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.batching import batch_map


@pytest.mark.parametrize("size", [1, 3, 4])
def test_maps_each_system(size):
    def one(shared, x, tree):
        return {"sum": shared["a"] * x.sum() + tree["b"], "shape": jnp.full(2, x.shape[0])}

    x = jnp.arange(size * 5.0).reshape(size, 5)
    out = jax.jit(batch_map(one))({"a": jnp.array(2.0)}, x, {"b": jnp.ones(size)})
    np.testing.assert_allclose(out["sum"], 2 * x.sum(1) + 1)
    np.testing.assert_array_equal(out["shape"], np.full((size, 2), 5))


def test_batch_is_shared_out_over_devices_without_communication():
    if jax.local_device_count() < 2:
        pytest.skip("needs two local devices (XLA_FLAGS=--xla_force_host_platform_device_count=2)")
    mapped = jax.jit(batch_map(lambda shared, x: jnp.sin(shared @ x)))
    arguments = jnp.eye(4), jnp.ones((2 * jax.local_device_count(), 4))
    assert len(mapped(*arguments).sharding.device_set) == jax.local_device_count()
    text = mapped.lower(*arguments).compile().as_text()
    assert not any(word in text for word in ("all-reduce", "all-gather", "collective-permute", "all-to-all"))

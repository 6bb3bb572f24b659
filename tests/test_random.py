"""Normal random numbers: their distribution, independence, and what they are a function of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxcg.random import standard_normal

COUNT = 400_001  # odd: the last hash gives one number only


@pytest.fixture(scope="module")
def draws():
    return np.asarray(
        jax.jit(standard_normal, static_argnums=(1, 2))(jax.random.key(3), COUNT, jnp.float32), np.float64
    )


def test_they_are_normal(draws):
    assert stats.kstest(draws, "norm").pvalue > 1e-3
    for power, exact, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs(np.mean(draws**power) - exact) < 4 * np.sqrt(spread / COUNT)
    # The tails reach as far as 23 bits go, and are finite.
    assert 4 < np.abs(draws).max() < 5.5


def test_the_two_words_of_a_hash_are_independent(draws):
    half = (COUNT + 1) // 2
    first, second = draws[: COUNT - half], draws[half:]
    for a, b in ((first, second), (first[1:], first[:-1]), (first**2 - 1, second**2 - 1)):
        assert abs(np.mean(a * b)) < 4 * np.std(a) * np.std(b) / np.sqrt(len(a))


def test_other_keys_give_other_numbers_and_batches_the_same(draws):
    keys = jax.random.split(jax.random.key(0), 5)
    batch = np.asarray(jax.vmap(lambda key: standard_normal(key, 1001, jnp.float32))(keys))
    assert abs(np.corrcoef(batch)[np.triu_indices(5, 1)]).max() < 4 / np.sqrt(1001)
    np.testing.assert_array_equal(batch[2], standard_normal(keys[2], 1001, jnp.float32))


def test_other_types_and_generators_are_those_of_jax(x64):
    for key, dtype in ((jax.random.key(0), jnp.float64), (jax.random.key(0, impl="rbg"), jnp.float32)):
        np.testing.assert_array_equal(standard_normal(key, 10, dtype), jax.random.normal(key, (10,), dtype))

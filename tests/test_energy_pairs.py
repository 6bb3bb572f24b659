"""Row sums over pairs, against a double loop."""

import jax.numpy as jnp
import numpy as np
import pytest
from molecules import quick

from jaxcg.energy import _pairs
from jaxcg.energy._pairs import AllPairs, lookup, row_sums
from jaxcg.neighbors import NeighborTable


def kernel(source, target, present):
    return jnp.where(present, source[0] - 2.0 * target[0], 0.0), jnp.where(present, source[1] * target[0], 0.0)


def expected(a, b, present):
    """``present[i, j]``: j acts on i."""
    return [(present * (a[None] - 2.0 * a[:, None])).sum(axis=1), (present * (b[None] * a[:, None])).sum(axis=1)]


def features(n):
    rng = np.random.default_rng(n)
    return rng.normal(size=n).astype(np.float32), rng.normal(size=n).astype(np.float32)


@pytest.mark.parametrize("at_once", [1, 2, 100], ids=lambda k: f"{k} tiles at once")
@pytest.mark.parametrize("n", [1, 32, 70])
def test_all_pairs(monkeypatch, n, at_once):
    # A CPU takes one tile at a time, an accelerator several.
    monkeypatch.setattr(_pairs, "_tiles_at_once", lambda n_sources, n_tiles: min(at_once, n_tiles))
    excluded = [(0, 40), (69, 3), (40, 41)] if n == 70 else []
    present = ~np.eye(n, dtype=bool)
    for i, j in excluded:
        present[i, j] = present[j, i] = False
    pairs = AllPairs(n, excluded)
    got = quick(lambda a, b: row_sums(kernel, (a, b), pairs))(*features(n))
    for g, e in zip(got, expected(*features(n), present), strict=True):
        np.testing.assert_allclose(g, e, atol=1e-4)


@pytest.mark.parametrize("at_once", [1, 100], ids=lambda k: f"{k} tiles at once")
def test_table(monkeypatch, at_once):
    monkeypatch.setattr(_pairs, "_tiles_at_once", lambda n_sources, n_tiles: min(at_once, n_tiles))
    n = 45
    present = np.random.default_rng(0).random((n, n)) < 0.2
    index = np.full((n, n), n, np.int32)
    for i in range(n):
        partners = np.flatnonzero(present[i])
        # Padding may lie anywhere in a column.
        index[np.arange(len(partners)) * 2 % n, i] = partners
    table = NeighborTable(jnp.asarray(index), jnp.zeros((n, 3)), jnp.zeros((), jnp.int32))
    got = quick(lambda a, b: row_sums(kernel, (a, b), table))(*features(n))
    for g, e in zip(got, expected(*features(n), present), strict=True):
        np.testing.assert_allclose(g, e, atol=1e-4)


@pytest.mark.parametrize("shapes", [((5, 1), (1, 7)), ((1, 7), (5, 1)), ((1, 7), (5, 7))])
def test_lookup_in_every_layout(shapes):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 4)).astype(np.float32)
    row, column = (rng.integers(0, 4, size=s) for s in shapes)
    np.testing.assert_array_equal(lookup(jnp.asarray(table), jnp.asarray(row), jnp.asarray(column)), table[row, column])

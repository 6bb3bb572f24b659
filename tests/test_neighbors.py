import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import quick

from jaxcg.energy import Nonbonded
from jaxcg.neighbors import count_neighbors, make_table, neighbor_table, suggest_capacity

ORTHORHOMBIC = np.diag([2.0, 2.2, 1.9])
TRICLINIC = np.array([[2.0, 0, 0], [0.7, 1.9, 0], [-0.6, 0.8, 2.1]])
N = 150


def traced_table(x, radius, capacity, exclude=None, box=None):
    return quick(lambda x: neighbor_table(x, radius, capacity, exclude, box))(x)


def positions(seed=0):
    return np.random.default_rng(seed).uniform(-2.0, 3.0, size=(N, 3))


def expected_pairs(x, radius, box, excluded=()):
    """Neighbours by comparison with every periodic image."""
    d = x[:, None] - x[None]
    if box is not None:
        shifts = np.array(np.meshgrid(*[np.arange(-4, 5)] * 3)).reshape(3, -1).T @ box
        d = min_over_images(d, shifts)
    near = np.linalg.norm(d, axis=-1) < radius
    np.fill_diagonal(near, False)
    for i, j in excluded:
        near[i, j] = near[j, i] = False
    return near


def min_over_images(d, shifts):
    best = np.full(d.shape[:2], np.inf)
    for s in shifts:
        best = np.minimum(best, np.linalg.norm(d + s, axis=-1))
    return best[..., None] * np.array([1.0, 0, 0])


def as_matrix(table):
    near = np.zeros((N, N + 1), bool)
    index = np.asarray(table.index)
    for k in range(index.shape[0]):
        near[np.arange(N), index[k]] = True
    return near[:, :N]


@pytest.mark.parametrize("box", [None, ORTHORHOMBIC, TRICLINIC], ids=["open", "orthorhombic", "triclinic"])
def test_lists_every_pair_within_the_radius_but_the_excluded(box):
    x, radius = positions(), 0.6
    exclude = np.full((2, N), N, np.int32)
    exclude[0, [0, 5]] = 5, 0
    exclude[1, [5, 9]] = 9, 5
    expected = expected_pairs(x, radius, box, [(0, 5), (5, 9)])
    for maker in (traced_table, make_table):
        table = maker(jnp.asarray(x), radius, 96, jnp.asarray(exclude), None if box is None else jnp.asarray(box))
        np.testing.assert_array_equal(as_matrix(table), expected)
        assert int(table.overflow) == 0


@pytest.mark.parametrize("maker", [traced_table, make_table])
def test_overflow_is_counted(maker):
    x = positions()
    most = expected_pairs(x, 1.0, None).sum(axis=0).max()
    assert count_neighbors(x, 1.0) == most
    assert int(maker(jnp.asarray(x), 1.0, int(most)).overflow) == 0
    assert int(maker(jnp.asarray(x), 1.0, int(most) - 3).overflow) == 3
    assert suggest_capacity(most) > most


def test_maps_over_configurations():
    x = jnp.asarray(np.stack([positions(0), positions(1)]))
    tables = quick(jax.vmap(lambda x: neighbor_table(x, 0.8, 64)))(x)
    for k in range(2):
        np.testing.assert_array_equal(tables.index[k], make_table(x[k], 0.8, 64).index)


def liquid(n=1728, spacing=0.3):
    """A jittered lattice with unit-like charges, as an energy with a neighbour table."""
    rng = np.random.default_rng(3)
    side = round(n ** (1 / 3))
    grid = spacing * np.array(np.meshgrid(*[np.arange(side)] * 3)).reshape(3, -1).T
    x = grid + rng.normal(scale=0.02, size=(n, 3))
    exceptions = np.stack([np.arange(0, n, 2), np.arange(1, n, 2)], axis=1)
    parameters = (rng.normal(size=n), rng.uniform(0.2, 0.3, n), rng.uniform(0.1, 0.5, n), exceptions)
    zeros = np.zeros(len(exceptions))
    settings = {"cutoff": 0.7, "box": np.diag([side * spacing] * 3), "switch": 0.6, "skin": 0.12}
    return x, lambda **more: Nonbonded(*parameters, zeros, zeros + 0.1, zeros, **settings, **more)


def test_table_energy_is_exact_within_half_the_skin_and_says_when_not(monkeypatch):
    monkeypatch.setattr("jaxcg.energy.nonbonded._DENSE_ATOMS", 0)  # a small system would take all pairs
    x, make = liquid()
    rng = np.random.default_rng(0)
    step = rng.normal(size=x.shape)
    step *= 0.055 / np.linalg.norm(step, axis=1, keepdims=True)
    evaluate = quick(lambda e, x: jax.value_and_grad(e)(x))
    kept = make(positions=x)
    for moved in (x, x + step):
        fresh = kept.rebuild(jnp.asarray(moved, jnp.float32))
        assert fresh.pairs.index.shape == kept.pairs.index.shape
        value, gradient = evaluate(kept, jnp.asarray(moved, jnp.float32))
        expected, expected_gradient = evaluate(fresh, jnp.asarray(moved, jnp.float32))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, atol=1e-4 * np.abs(expected_gradient).max())
        assert not kept.stale(moved)
    assert kept.stale(x + 1.5 * step)
    assert np.isnan(evaluate(make(positions=x, capacity=32), jnp.asarray(x, jnp.float32))[0])


def test_table_and_all_pairs_agree(monkeypatch):
    monkeypatch.setattr("jaxcg.energy.nonbonded._DENSE_ATOMS", 0)
    x, make = liquid()
    listed = make(positions=x)
    monkeypatch.setattr("jaxcg.energy.nonbonded._DENSE_ATOMS", 10**6)
    evaluate = quick(lambda e, x: jax.value_and_grad(e)(x))
    value, gradient = evaluate(listed, jnp.asarray(x, jnp.float32))
    expected, expected_gradient = evaluate(make(), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-4 * np.abs(expected_gradient).max())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cutoff": 1.2, "box": np.eye(3)}, "more than half the box"),
        ({"box": np.eye(3)}, "needs a cutoff"),
        ({"cutoff": 0.4, "switch": 0.5}, "switching distance"),
        ({"dispersion": True}, "needs a periodic box"),
        ({"exception_atoms": [[0, 7]]}, "between 0 and 2"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        Nonbonded(np.zeros(3), np.ones(3), np.zeros(3), **settings)

"""Row sums over pairs and the gradient of pair energies, against a double loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import quick

from jaxcg import neighbors
from jaxcg.energy import _pairs
from jaxcg.energy._pairs import AllPairs, lookup, pair_gradient, row_sums
from jaxcg.neighbors import make_table, neighbor_table, partner_table, sequential_order


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


#: Side of the cloud, radius of the tables and distance up to which pairs count, nm.
SIDE, RADIUS, CUTOFF = 2.0, 0.7, 0.6
BOXES = {
    "open": None,
    "orthorhombic": SIDE * np.eye(3),
    "triclinic": SIDE * np.array([[1, 0, 0], [0.3, 1, 0], [-0.2, 0.4, 1]]),
}
EXCLUDED = np.array([[0, 1], [1, 2], [3, 90], [44, 5]])


def cloud(n, seed=0):
    return np.random.default_rng(seed).uniform(0, SIDE, size=(n, 3))


def partners_of(n):
    return EXCLUDED[(n > EXCLUDED).all(axis=1)]


def counted(n):
    """[i, j]: whether the pair is neither an atom with itself nor excluded."""
    present = ~np.eye(n, dtype=bool)
    for i, j in partners_of(n):
        present[i, j] = present[j, i] = False
    return present


def table_of(x, box=None, rows=16):
    """A table with a few rows to spare; of 100 atoms, every tile but the last needs two rows."""
    exclude = jnp.asarray(partner_table(partners_of(len(x)), len(x)))
    box = None if box is None else jnp.asarray(box, x.dtype)
    table = make_table(jnp.asarray(x), RADIUS, jnp.asarray(sequential_order(len(x))), rows, 3, exclude, box)
    assert int(table.overflow) == 0
    return table


def near_kernel(source, target, present):
    """`kernel` of the atoms that are near; features 2 to 4 are positions."""
    r2 = sum((s - t) ** 2 for s, t in zip(source[2:], target[2:], strict=True))
    return kernel(source, target, present & (r2 < CUTOFF**2))


def parts(monkeypatch, at_once):
    """Has rows evaluated in parts of at most ``at_once``; tables are made by the tree, which needs no compiling."""
    monkeypatch.setattr(neighbors, "_COMPARED_ATOMS", 0)
    for module in (neighbors, _pairs):
        monkeypatch.setattr(module, "ROWS_AT_ONCE", at_once)


@pytest.mark.parametrize(
    ("n", "at_once", "rows", "part"),
    [(9, 1024, 16, 16), (100, 1024, 16, 16), (100, 8, 16, 8), (100, 6, 16, 4), (100, 16, 17, 1)],
)
def test_table(monkeypatch, n, at_once, rows, part):
    parts(monkeypatch, at_once)
    assert _pairs._rows_at_once(rows) == part
    x = cloud(n).astype(np.float32)
    present = counted(n) & (((x[:, None] - x[None]) ** 2).sum(axis=-1) < CUTOFF**2)
    got = quick(lambda a, b, x, table: row_sums(near_kernel, (a, b, *x.T), table))(
        *features(n), x, table_of(x, rows=rows)
    )
    for g, e in zip(got, expected(*features(n), present), strict=True):
        np.testing.assert_allclose(g, e, atol=1e-4)


def test_tables_of_many_configurations_at_once(monkeypatch):
    parts(monkeypatch, 8)
    x = np.stack([cloud(100, seed) for seed in range(2)]).astype(np.float32)
    order = jnp.asarray(sequential_order(100))

    def sums(x, a, b):
        return row_sums(near_kernel, (a, b, *x.T), neighbor_table(x, RADIUS, order, 16, 3))

    got = quick(jax.vmap(sums, (0, None, None)))(x, *features(100))
    for k in range(2):
        present = ~np.eye(100, dtype=bool) & (((x[k][:, None] - x[k][None]) ** 2).sum(axis=-1) < CUTOFF**2)
        for g, e in zip(got, expected(*features(100), present), strict=True):
            np.testing.assert_allclose(g[k], e, atol=1e-4)


def pair_kernel(r2, source, target, present):
    """U = a_i b_j + b_i a_j times (r² − c²)², zero from the cutoff c on, and its derivative by r²/2."""
    present = present & (r2 < CUTOFF**2)
    strength = jnp.where(present, target[0] * source[1] + target[1] * source[0], 0.0)
    away = r2 - CUTOFF**2
    return strength * away**2, 4.0 * strength * away


def image_shifts(x, box):
    """(atoms, atoms, 3) what to add to x_i − x_j for the nearest image, from all that can be nearest."""
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3) @ (
        np.zeros((3, 3)) if box is None else box
    )
    d = x[:, None] - x[None]
    return shifts[np.argmin([((d + s) ** 2).sum(axis=-1) for s in shifts], axis=0)]


def plain_energies(x, a, b, shifts):
    """(atoms,) energies of `pair_kernel` by a double loop over all pairs."""
    d = x[:, None] - x[None] + shifts
    r2 = jnp.sum(d * d, axis=-1)
    energy = (a[:, None] * b[None] + b[:, None] * a[None]) * (r2 - CUTOFF**2) ** 2
    return jnp.sum(jnp.where(counted(len(x)) & (r2 < CUTOFF**2), energy, 0.0), axis=1)


def plain_gradient(x, a, b, shifts):
    return jax.grad(lambda x: 0.5 * jnp.sum(plain_energies(x, a, b, shifts)))(x)


plain = quick(lambda *arguments: (plain_energies(*arguments), plain_gradient(*arguments)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("listed", [False, True], ids=["all pairs", "table"])
def test_energies_and_gradient_of_pairs(x64, monkeypatch, listed, box, dtype):
    parts(monkeypatch, 8)
    n, box = 100, BOXES[box]
    # Far from the origin, where coordinates have few digits left but differences of them are exact.
    x = (cloud(n) + np.array([20.0, -30.0, 40.0])).astype(dtype)
    a, b = (f.astype(dtype) for f in features(n))
    pairs = table_of(x, box) if listed else AllPairs(n, partners_of(n))

    def compute(x, a, b, pairs):
        return pair_gradient(pair_kernel, x, (a, b), pairs, None if box is None else jnp.asarray(box, dtype))

    energies, gradient = quick(compute)(x, a, b, pairs)
    assert energies.dtype == gradient.dtype == dtype
    exact = [v.astype(np.float64) for v in (x, a, b)]
    wanted_energies, wanted = plain(*exact, image_shifts(exact[0], box))
    assert np.abs(wanted).max() > 0.1
    digits = 3e-6 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(energies, wanted_energies, rtol=0, atol=digits * np.abs(wanted_energies).max())
    np.testing.assert_allclose(gradient, wanted, rtol=0, atol=digits * np.abs(wanted).max())


@pytest.mark.parametrize("box", ["open", "orthorhombic"])
def test_derivatives_go_through_a_table(x64, monkeypatch, box):
    parts(monkeypatch, 8)
    n, box = 100, BOXES[box]
    x, (a, b) = cloud(n), (f.astype(float) for f in features(n))
    direction = np.random.default_rng(1).normal(size=(n, 3))
    table, shifts = table_of(x, box), image_shifts(x, box)

    def derivatives(gradient):
        def both(x, a, b, v):
            forward = jax.jvp(lambda x, a: gradient(x, a, b), (x, a), (v, a**2))[1]
            return forward, jax.grad(lambda b: jnp.vdot(gradient(x, a, b), v))(b)

        return quick(both)(x, a, b, direction)

    def of_table(x, a, b):
        return pair_gradient(pair_kernel, x, (a, b), table, None if box is None else jnp.asarray(box))[1]

    wanted = derivatives(lambda x, a, b: plain_gradient(x, a, b, shifts))
    for g, w in zip(derivatives(of_table), wanted, strict=True):
        np.testing.assert_allclose(g, w, rtol=0, atol=1e-11 * np.abs(w).max())


@pytest.mark.parametrize("shapes", [((5, 1), (1, 7)), ((1, 7), (5, 1)), ((1, 7), (5, 7))])
def test_lookup_in_every_layout(shapes):
    rng = np.random.default_rng(0)
    table = rng.normal(size=(4, 4)).astype(np.float32)
    row, column = (rng.integers(0, 4, size=s) for s in shapes)
    np.testing.assert_array_equal(lookup(jnp.asarray(table), jnp.asarray(row), jnp.asarray(column)), table[row, column])

"""Neighbour tables against comparison with every periodic image, by both builders."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import quick

from jaxcg import neighbors
from jaxcg.neighbors import (
    ROWS_AT_ONCE,
    TILE,
    WIDTH,
    make_table,
    neighbor_table,
    partner_table,
    rounded_rows,
    sequential_order,
    spatial_order,
    suggest_room,
)

BOXES = {
    "open": None,
    "orthorhombic": np.diag([2.0, 2.2, 1.9]),
    "triclinic": np.array([[2.0, 0, 0], [0.7, 1.9, 0], [-0.6, 0.8, 2.1]]),
}
RADIUS = 0.6
#: Between atoms of one tile, of different tiles, of atoms with several partners and of atoms far apart.
EXCLUDED = [(0, 5), (5, 8), (5, 1), (2, 40), (7, 148), (147, 148)]


@cache
def positions(n=150, seed=0):
    """Outside the box too, in single precision: 6 atoms lack to whole tiles of 150."""
    x = np.random.default_rng(seed).uniform(-2.0, 3.0, size=(n, 3)).astype(np.float32)
    x[: 2 * n // 3] *= 0.2  # a dense part, whose tiles need several rows
    return x


def tiles_of(n, kind):
    return sequential_order(n) if kind == "sequential" else spatial_order(positions(n))


def pairs_below(n):
    return np.array([p for p in EXCLUDED if max(p) < n]).reshape(-1, 2)


@cache
def within(n, box):
    """[i, j]: whether atoms i and j are within the radius, by comparison with every periodic image."""
    x = positions(n).astype(float)
    d = x[:, None] - x[None]
    shifts = np.zeros((1, 3)) if BOXES[box] is None else np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3), -1)
    shifts = shifts.reshape(-1, 3) @ (np.eye(3) if BOXES[box] is None else BOXES[box])
    return np.min([((d + s) ** 2).sum(axis=-1) for s in shifts], axis=0) < RADIUS**2


def actions(table):
    """[i, j]: how often atom j acts on atom i; the rows' places are checked on the way."""
    n, rows = table.n_atoms, table.rows
    order, place, tile, sources, words, rows_of_tile = (
        np.asarray(getattr(table, name)) for name in ("order", "place", "tile", "sources", "words", "rows_of_tile")
    )
    np.testing.assert_array_equal(order.ravel()[place], np.arange(n))
    assert sources.min() >= 0
    assert sources.max() < n  # padding too
    k, t = np.nonzero(rows_of_tile < rows)
    taken = rows_of_tile[k, t]
    assert len(set(taken)) == len(taken)
    np.testing.assert_array_equal(tile[taken], t)
    assert not words[np.setdiff1d(np.arange(rows), taken)].any()
    row, slot, bit = np.nonzero(words[:, :, None] >> np.arange(TILE, dtype=np.uint32) & 1)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (order[tile[row], bit], sources[row, slot]), 1)
    return counts


def check(table, n, box, excluded=()):
    """Every pair within the radius acts once in each direction, nothing acts that should not."""
    counts, near = actions(table), within(n, box)
    tile_of = np.asarray(table.place) // TILE
    near_tile = np.stack([near[tile_of == t].any(axis=0) for t in range(len(table.order))])[tile_of]
    barred = np.eye(n, dtype=bool)
    for i, j in excluded:
        barred[i, j] = barred[j, i] = True
    assert counts.max() <= 1
    assert counts[near & ~barred].all()
    assert not counts[barred].any()
    assert not counts[~near_tile].any()
    return counts


#: `make_table` compiled, where it must not look at the positions.
traced_table = jax.jit(
    lambda x, radius, order, rows, most, exclude=None, box=None: make_table(x, radius, order, rows, most, exclude, box),
    static_argnames=("rows", "most"),
    compiler_options={"xla_backend_optimization_level": 0},
)


@pytest.fixture(params=["traced", "compared", "tree"])
def build(request, monkeypatch):
    """`make_table` in each of its ways; a triclinic box never goes through the tree."""
    if request.param == "tree":
        monkeypatch.setattr(neighbors, "_COMPARED_ATOMS", 0)
    made = traced_table if request.param == "traced" else make_table

    def table(x, radius, order, rows, most, exclude=None, box=None):
        tree = request.param == "tree" and (box is None or np.count_nonzero(box) == 3)
        exclude, box = (None if a is None else jnp.asarray(a) for a in (exclude, box))
        with monkeypatch.context() as patch:
            patch.setattr(neighbors, "_compiled_table" if tree else "_from_tree", None)  # the way not to be taken
            return made(jnp.asarray(x), radius, jnp.asarray(order), rows, most, exclude, box)

    return table


CASES = [(150, "open"), (150, "orthorhombic"), (160, "triclinic"), (9, "orthorhombic")]


@pytest.mark.parametrize("tiles", ["sequential", "spatial"])
@pytest.mark.parametrize(("n", "box"), CASES)
def test_lists_every_pair_within_the_radius_but_the_excluded(build, n, box, tiles):
    order = tiles_of(n, tiles)
    excluded = pairs_below(n)
    table = build(positions(n), RADIUS, order, 64, 4, partner_table(excluded, n), BOXES[box])
    counts = check(table, n, box, excluded)
    assert (table.n_atoms, table.rows, int(table.overflow)) == (n, 64, 0)
    np.testing.assert_array_equal(table.reference, positions(n))
    if n > WIDTH:
        assert ((np.asarray(table.rows_of_tile) < 64).sum(axis=0) > 1).any()  # several rows for a tile
        assert tiles == "sequential" or counts.sum() < 0.9 * n**2  # and not simply everything


def test_an_exclusion_table_may_be_empty(build):
    empty = np.zeros((0, 150), np.int32)
    check(build(positions(), RADIUS, tiles_of(150, "spatial"), 64, 4, empty), 150, "open")


def test_an_atom_that_is_nowhere_leaves_the_others_their_pairs(monkeypatch):
    monkeypatch.setattr(neighbors, "_COMPARED_ATOMS", 0)
    x = jnp.asarray(positions()).at[3].set(jnp.nan)
    counts = actions(make_table(x, RADIUS, jnp.asarray(sequential_order(150)), 64, 4))
    near = within(150, "open") & ~np.eye(150, dtype=bool)
    near[3] = near[:, 3] = False
    assert (counts[near] == 1).all()


@pytest.mark.parametrize("box", ["open", "orthorhombic"])
def test_the_builders_agree(monkeypatch, box):
    order = spatial_order(positions())
    arguments = (RADIUS, jnp.asarray(order), 64, 4, jnp.asarray(partner_table(EXCLUDED, 150)))
    box = None if BOXES[box] is None else jnp.asarray(BOXES[box])
    compared = make_table(jnp.asarray(positions()), *arguments, box)
    monkeypatch.setattr(neighbors, "_COMPARED_ATOMS", 0)
    tree = make_table(jnp.asarray(positions()), *arguments, box)
    for name in ("order", "place", "tile", "words", "rows_of_tile", "reference", "overflow"):
        a, b = getattr(compared, name), getattr(tree, name)
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype
    listed = np.asarray(compared.words) != 0
    np.testing.assert_array_equal(np.asarray(compared.sources)[listed], np.asarray(tree.sources)[listed])


def needed_rows(n, box, order):
    """Rows that each tile needs."""
    near = within(n, box)
    sources = [near[tile[tile < n]].any(axis=0).sum() for tile in order]
    return -(-np.array(sources) // WIDTH)


def test_overflow_is_counted_and_nothing_wrong_listed(build):
    order = spatial_order(positions())
    needed = needed_rows(150, "open", order)
    rows, most = needed.sum(), needed.max()
    assert most > 1
    assert rows > len(order)
    table = build(positions(), RADIUS, order, int(rows), int(most))
    assert int(table.overflow) == 0
    whole = check(table, 150, "open")
    for fewer, narrower in ((3, 0), (0, 1)):
        table = build(positions(), RADIUS, order, int(rows - fewer), int(most - narrower))
        assert int(table.overflow) == max(fewer, narrower)
        part = actions(table)
        assert (part <= whole).all()
        assert part.sum() < whole.sum()


@pytest.mark.parametrize("tiles", ["sequential", "spatial"])
@pytest.mark.parametrize(("n", "box"), CASES)
def test_suggested_room_suffices(n, box, tiles):
    order = tiles_of(n, tiles)
    rows, most = suggest_room(positions(n), RADIUS, order, BOXES[box])
    needed = needed_rows(n, box, order)
    assert rows >= needed.sum()
    assert most >= needed.max()
    assert rows <= 2 * needed.sum() + 8
    assert rows % 8 == 0


@pytest.mark.parametrize("rows", [1, 8, 1000, 1024, 1025, 5000])
def test_rows_are_rounded_to_equal_parts(rows):
    rounded, parts = rounded_rows(rows), -(-rows // ROWS_AT_ONCE)
    assert rows <= rounded < rows + 8 * parts
    assert rounded % (8 * parts) == 0
    assert rounded // parts <= ROWS_AT_ONCE


def test_maps_over_configurations(monkeypatch):
    x = jnp.asarray(np.stack([positions(150, seed) for seed in range(3)]))
    order, box = jnp.asarray(tiles_of(150, "spatial")), jnp.asarray(BOXES["orthorhombic"])
    tables = quick(jax.vmap(lambda x: neighbor_table(x, RADIUS, order, 64, 4, None, box)))(x)
    assert tables.overflow.shape == (3,)
    monkeypatch.setattr(neighbors, "_COMPARED_ATOMS", 0)
    for k in range(3):
        one = make_table(x[k], RADIUS, order, 64, 4, None, box)
        np.testing.assert_array_equal(actions(jax.tree.map(lambda a, k=k: a[k], tables)), actions(one))


def test_an_accelerator_compares_several_tiles_at_once(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    order, exclude = jnp.asarray(tiles_of(150, "sequential")), jnp.asarray(partner_table(EXCLUDED, 150))
    table = quick(lambda x: make_table(x, RADIUS, order, 64, 4, exclude))(jnp.asarray(positions()))
    check(table, 150, "open", EXCLUDED)


def test_moved_tells_the_farthest_atom():
    table = make_table(jnp.asarray(positions()), RADIUS, jnp.asarray(sequential_order(150)), 64, 4)
    x = jnp.asarray(positions()).at[149].add(jnp.array([0.03, 0.0, -0.04]))
    assert table.moved(x, 0.049)
    assert not table.moved(x, 0.051)


@pytest.mark.parametrize("n", [1, 16, 33])
def test_tiles_of_consecutive_atoms(n):
    order = sequential_order(n)
    assert order.shape == (-(-n // TILE), TILE)
    np.testing.assert_array_equal(order.ravel(), np.minimum(np.arange(order.size), n))


@pytest.mark.parametrize("n", [1, 15, 16, 17, 40, 200, 1600])
def test_tiles_of_atoms_that_lie_together(n):
    x = np.random.default_rng(n).uniform(size=(n, 3)) * [1.0, 2.0, 0.5]
    order = spatial_order(x)
    assert order.shape == (-(-n // TILE), TILE)
    np.testing.assert_array_equal(np.sort(order.ravel()), np.minimum(np.arange(order.size), n))
    assert (order[:-1] < n).all()
    whole = order[(order < n).all(axis=1)]
    if n >= 200:
        # Sides of the smallest box around each tile, against those of a cube of its volume.
        extent = np.ptp(x[whole], axis=1)
        cube = (TILE / n) ** (1 / 3)
        assert extent.mean() < cube
        assert extent.max() < 3 * cube


def test_tiles_of_coincident_atoms():
    np.testing.assert_array_equal(np.sort(spatial_order(np.zeros((40, 3))).ravel()), [*range(40), *[40] * 8])


def test_partners_are_named_once_from_both_sides():
    table = partner_table([[3, 0], [0, 3], [3, 0], [1, 3], [4, 0]], 6)
    assert table.shape == (2, 6)
    partners = [sorted(set(column.tolist()) - {6}) for column in table.T]
    assert partners == [[3, 4], [3], [], [0, 1], [0], []]
    assert (table < 6).sum() == 6
    assert partner_table([], 6).shape == (0, 6)

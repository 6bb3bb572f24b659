"""Linear maps and their fibres against dense NumPy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxcg.mapping import LinearMap

N_ATOMS = 14
#: Beads that share atoms in a chain (0-1-2), one apart (3), one atom alone (4); atoms 11 to 13 belong to no bead.
ENTRIES = [
    (0, 0, 0.5),
    (0, 1, 0.25),
    (0, 2, 0.25),
    (1, 2, 0.6),
    (1, 3, 0.4),
    (2, 3, 0.3),
    (2, 4, 0.3),
    (2, 5, 0.4),
    (3, 6, 0.2),
    (3, 7, 0.2),
    (3, 8, 0.6),
    (4, 9, 1.0),
]


def dense(entries, n_beads, n_atoms=N_ATOMS):
    matrix = np.zeros((n_beads, n_atoms))
    for bead, atom, weight in entries:
        matrix[bead, atom] += weight
    return matrix


def build(entries, n_beads, n_atoms=N_ATOMS):
    beads, atoms, weights = zip(*entries)
    return LinearMap.from_weights(beads, atoms, weights, n_beads, n_atoms)


@pytest.fixture
def masses():
    return np.random.default_rng(0).uniform(1, 16, size=N_ATOMS)


@pytest.fixture
def x():
    return np.random.default_rng(1).normal(size=(N_ATOMS, 3))


MAPS = {
    "overlapping": (ENTRIES, 5, 5),
    "duplicated bead": ([*ENTRIES, (5, 0, 0.5), (5, 1, 0.25), (5, 2, 0.25)], 6, 5),
    "dependent beads": ([(0, 0, 0.5), (0, 1, 0.5), (1, 0, 1.0), (2, 1, 1.0)], 3, 2),
    "one atom each": ([(i, i, 1.0) for i in range(4)], 4, 4),
}
EVERY_MAP = pytest.mark.parametrize("name", MAPS)


@EVERY_MAP
def test_map_transpose_and_matrix(x64, name, x):
    entries, n_beads, _ = MAPS[name]
    matrix, mapping = dense(entries, n_beads), build(entries, n_beads)
    np.testing.assert_allclose(mapping(x), matrix @ x, atol=1e-14)
    v = np.random.default_rng(2).normal(size=(n_beads, 3))
    np.testing.assert_allclose(mapping.transpose(v), matrix.T @ v, atol=1e-14)
    np.testing.assert_allclose(mapping.matrix().toarray(), matrix, atol=1e-15)


@EVERY_MAP
def test_rank_nullity_and_null_space(name):
    entries, n_beads, rank = MAPS[name]
    matrix, mapping = dense(entries, n_beads), build(entries, n_beads)
    assert mapping.rank == 3 * rank == 3 * np.linalg.matrix_rank(matrix)
    assert mapping.nullity == 3 * (N_ATOMS - rank)
    basis = mapping.null_space().toarray()
    assert basis.shape == (N_ATOMS, N_ATOMS - rank)
    np.testing.assert_allclose(matrix @ basis, 0, atol=1e-14)
    np.testing.assert_allclose(basis.T @ basis, np.eye(N_ATOMS - rank), atol=1e-13)


@EVERY_MAP
def test_pseudoinverse_is_moore_penroses(x64, name):
    entries, n_beads, _ = MAPS[name]
    matrix, mapping = dense(entries, n_beads), build(entries, n_beads)
    # Beads that depend on each other have no other positions than images of some configuration.
    y = matrix @ np.random.default_rng(3).normal(size=(N_ATOMS, 3))
    np.testing.assert_allclose(mapping.pseudoinverse(y), np.linalg.pinv(matrix) @ y, atol=1e-12)


def test_the_pseudoinverse_of_a_centre_of_mass(x64):
    """Two atoms of masses 1 and 3: A⁺ = (m1, m2) / Σm² times the total mass, and every atom at y in the mass metric."""
    mapping = LinearMap.center_of_mass([[0, 1]], np.array([1.0, 3.0]))
    np.testing.assert_allclose(mapping.matrix().toarray(), [[0.25, 0.75]])
    y = np.array([[1.0, 2.0, -1.0]])
    np.testing.assert_allclose(mapping.pseudoinverse(y), np.array([[0.4], [1.2]]) * y, atol=1e-14)
    np.testing.assert_allclose(mapping.pseudoinverse(y, np.array([1.0, 3.0])), np.repeat(y, 2, axis=0), atol=1e-14)


@EVERY_MAP
def test_tangent_is_the_orthogonal_projector(x64, name, masses, x):
    entries, n_beads, _ = MAPS[name]
    matrix, mapping = dense(entries, n_beads), build(entries, n_beads)
    inverse = np.diag(1 / masses)
    projector = np.eye(N_ATOMS) - inverse @ matrix.T @ np.linalg.pinv(matrix @ inverse @ matrix.T, rcond=1e-10) @ matrix
    once = np.asarray(mapping.tangent(x, masses))
    np.testing.assert_allclose(once, projector @ x, atol=1e-12)
    np.testing.assert_allclose(mapping.tangent(once, masses), once, atol=1e-12)
    np.testing.assert_allclose(mapping(once), 0, atol=1e-13)
    # What is removed is orthogonal to what stays, in the metric of the masses.
    assert np.sum(masses[:, None] * (x - once) * once) == pytest.approx(0, abs=1e-11)
    force = np.random.default_rng(4).normal(size=x.shape)
    fibre = mapping.fibre(masses)
    np.testing.assert_allclose(fibre.cotangent(force), projector.T @ force, atol=1e-12)
    work = np.sum(np.asarray(fibre.cotangent(force)) * x)
    assert work == pytest.approx(np.sum(force * np.asarray(fibre.tangent(x))), abs=1e-10)


@EVERY_MAP
def test_retract_lands_on_the_fibre_at_the_nearest_point(x64, name, masses, x):
    entries, n_beads, _ = MAPS[name]
    mapping = build(entries, n_beads)
    y = np.asarray(mapping(np.random.default_rng(5).normal(size=x.shape)))
    on = np.asarray(mapping.retract(x, y, masses))
    np.testing.assert_allclose(mapping(on), y, atol=1e-13)
    np.testing.assert_allclose(mapping.retract(on, y, masses), on, atol=1e-12)
    # Any other point of the fibre is further away.
    for seed in range(3):
        other = on + np.asarray(mapping.tangent(np.random.default_rng(seed).normal(size=x.shape), masses))
        assert np.sum(masses[:, None] * (other - x) ** 2) > np.sum(masses[:, None] * (on - x) ** 2)


def test_projecting_and_coming_back(x64, x):
    """B∘M, back-mapping after mapping, is a projector: idempotent, and M∘B∘M = M."""
    mapping = build(ENTRIES, 5)
    once = mapping.pseudoinverse(mapping(x))
    np.testing.assert_allclose(mapping.pseudoinverse(mapping(once)), once, atol=1e-13)
    np.testing.assert_allclose(mapping(once), mapping(x), atol=1e-13)
    np.testing.assert_allclose(x - once, mapping.tangent(x), atol=1e-13)


def test_the_map_moves_with_the_molecule(x64, x):
    mapping = build(ENTRIES, 5)
    np.testing.assert_allclose(mapping(x + 2.5), mapping(x) + 2.5, atol=1e-13)
    rotation = np.linalg.qr(np.random.default_rng(6).normal(size=(3, 3)))[0]
    np.testing.assert_allclose(mapping(x @ rotation), np.asarray(mapping(x)) @ rotation, atol=1e-13)


@EVERY_MAP
def test_single_precision_holds_the_beads(name, masses, x):
    entries, n_beads, _ = MAPS[name]
    mapping = build(entries, n_beads)
    y = (dense(entries, n_beads) @ (x + 3)).astype(np.float32)
    on = mapping.retract(jnp.asarray(x, jnp.float32), y, masses)
    assert on.dtype == jnp.float32
    assert np.abs(np.asarray(mapping(on), dtype=np.float64) - y).max() <= 2e-6


def test_four_dimensions_and_batches(x64, masses):
    mapping = build(ENTRIES, 5)
    x = np.random.default_rng(7).normal(size=(6, N_ATOMS, 4))
    y = np.zeros((5, 4))
    batched = jax.vmap(lambda a: mapping.retract(a, y, masses))(x)
    for row, expected in zip(batched, (mapping.retract(a, y, masses) for a in x)):
        np.testing.assert_allclose(row, expected, atol=1e-13)
    np.testing.assert_allclose(jax.vmap(mapping)(batched), 0, atol=1e-13)


def test_gradients_are_gathers(x64, masses, x):
    """Reverse mode of the map and of the projections makes no scatter, and is right."""
    mapping = build(ENTRIES, 5)
    fibre = mapping.fibre(masses)

    def value(x):
        return jnp.sum(jnp.sin(fibre.retract(x, jnp.ones((5, 3))))) + jnp.sum(mapping(x) ** 3)

    # Lowered, so that the product is seen as what it is made of.
    lowered = jax.jit(jax.grad(value)).lower(x).as_text()
    assert "gather" in lowered
    assert "scatter" not in lowered
    jax.test_util.check_grads(value, (x,), order=2, modes=("rev",), atol=1e-5, rtol=1e-5)


def test_masses_may_be_traced(x64, masses, x):
    mapping = build(ENTRIES, 5)
    y = np.zeros((5, 3))
    jitted = eqx.filter_jit(lambda m: mapping.retract(x, y, m))(jnp.asarray(masses))
    np.testing.assert_allclose(jitted, mapping.retract(x, y, masses), atol=1e-12)


def test_centres_of_mass_and_geometry(masses, x):
    groups = [[0, 1, 2], [2, 3], [7]]
    mass = LinearMap.center_of_mass(groups, masses).matrix() @ x
    plain = LinearMap.center_of_geometry(groups, N_ATOMS).matrix() @ x
    for bead, group in enumerate(groups):
        np.testing.assert_allclose(mass[bead], np.average(x[group], axis=0, weights=masses[group]), atol=1e-13)
        np.testing.assert_allclose(plain[bead], x[group].mean(axis=0), atol=1e-13)


def test_slices_groups_and_composition(x64, masses, x):
    np.testing.assert_array_equal(LinearMap.slice([3, 0], N_ATOMS)(x), x[[3, 0]])
    residue = np.array([0, 0, 1, 1, 1, -1, 2, 2, 2, 2, -1, 3, 3, 0])
    groups = [np.flatnonzero(residue == r) for r in range(4)]
    for weights, same in (
        (masses, LinearMap.center_of_mass(groups, masses)),
        (None, LinearMap.center_of_geometry(groups, N_ATOMS)),
    ):
        made = LinearMap.per_group(residue, weights)
        np.testing.assert_allclose(made.matrix().toarray(), same.matrix().toarray(), atol=1e-15)
    with pytest.raises(ValueError, match="bead 1 has no atom"):
        LinearMap.per_group([0, 2])
    # Beads on beads: half-way points, and one bead as it is.
    first = build(ENTRIES, 5)
    second = LinearMap.from_weights([0, 0, 1, 1, 2], [0, 1, 1, 4, 3], [0.5, 0.5, 0.5, 0.5, 1.0], 3, 5)
    composed = first.then(second)
    np.testing.assert_allclose(composed.matrix().toarray(), second.matrix() @ dense(ENTRIES, 5), atol=1e-15)
    np.testing.assert_allclose(composed(x), second(first(x)), atol=1e-14)
    with pytest.raises(ValueError, match="the second map takes 5 beads, the first gives 3"):
        composed.then(second.then(LinearMap.slice(range(3), 3)))


# -- many atoms ---------------------------------------------------------------------------------------------------


def chain(n_beads, repeated=0):
    """Beads of four atoms of which each shares two with the next one, and some of the beads once more."""
    bead = np.repeat(np.arange(n_beads), 4)
    atom = (np.arange(n_beads)[:, None] * 2 + np.arange(4)).ravel()
    weight = np.random.default_rng(8).uniform(0.1, 1, size=len(bead))
    weight /= np.repeat(weight.reshape(-1, 4).sum(axis=1), 4)
    again = slice(0, 4 * repeated)
    bead, atom = np.append(bead, bead[again] + n_beads), np.append(atom, atom[again])
    return LinearMap.from_weights(bead, atom, np.append(weight, weight[again]), n_beads + repeated, 2 * n_beads + 2)


def test_long_chains_of_overlapping_beads(x64):
    """Blocks too large to be inverted are eliminated sparsely: the same fibre as with the dense inverse."""
    mapping = chain(500, repeated=3)
    matrix, rng = mapping.matrix().toarray(), np.random.default_rng(9)
    masses, x = rng.uniform(1, 16, size=mapping.n_atoms), rng.normal(size=(mapping.n_atoms, 3))
    y = matrix @ rng.normal(size=x.shape)
    assert mapping.rank == 3 * 500
    fibre = mapping.fibre(masses)
    assert fibre._chains is not None
    lift = matrix.T / masses[:, None] @ np.linalg.pinv(matrix / masses @ matrix.T, rcond=1e-12, hermitian=True)
    lifted, tangent, cotangent, on = jax.jit(
        lambda x, y: (fibre.lift(y), fibre.tangent(x), fibre.cotangent(x), fibre.retract(x, y))
    )(x, y)
    np.testing.assert_allclose(lifted, lift @ y, atol=1e-9)
    np.testing.assert_allclose(tangent, x - lift @ (matrix @ x), atol=1e-9)
    np.testing.assert_allclose(cotangent, x - matrix.T @ (lift.T @ x), atol=1e-9)
    np.testing.assert_allclose(matrix @ on, y, atol=1e-11)
    np.testing.assert_allclose(fibre.matrix() @ y, lifted, atol=1e-10)
    with pytest.raises(ValueError, match="masses that are known, not traced"):
        jax.jit(lambda m: mapping.fibre(m).tangent(x))(masses)


def test_the_factors_of_a_chain_grow_with_its_length():
    fibre = chain(20_000).fibre()
    size = sum(leaf.size for leaf in jax.tree.leaves(fibre))
    assert size < 150 * 20_000


def test_a_dense_mesh_of_beads_is_refused():
    n = 600
    bead, atom = np.nonzero(np.random.default_rng(10).random((n, 3 * n)) < 0.2)
    weight = 1.0 / np.bincount(bead)[bead]
    mapping = LinearMap.from_weights(
        np.append(bead, range(n)),
        np.append(atom, np.arange(n) + 3 * n),
        np.append(weight / 2, np.full(n, 0.5)),
        n,
        4 * n,
    )
    with pytest.raises(ValueError, match="600 beads overlap in one dense mesh"):
        mapping.fibre()


def test_one_wide_bead_costs_what_it_has(x64):
    """Among small beads a bead of many atoms, and an atom of many beads, get tables of their own."""
    n = 5000
    bead = np.concatenate([np.zeros(n, int), 1 + np.arange(n) // 2, 1 + np.arange(n // 2)])
    atom = np.concatenate([np.arange(n), n + np.arange(n), np.full(n // 2, 2 * n)])
    mapping = LinearMap.from_weights(bead, atom, 1.0 / np.bincount(bead)[bead], n // 2 + 1, 2 * n + 1)
    assert sum(leaf.size for leaf in jax.tree.leaves(mapping)) < 20 * mapping.n_atoms
    assert mapping.rank == 3 * mapping.n_beads
    matrix, rng = mapping.matrix(), np.random.default_rng(11)
    assert len(matrix.data) == len(bead)
    x, y = rng.normal(size=(mapping.n_atoms, 3)), rng.normal(size=(mapping.n_beads, 3))
    np.testing.assert_allclose(mapping(x), matrix @ x, atol=1e-13)
    np.testing.assert_allclose(mapping.transpose(y), matrix.T @ y, atol=1e-13)
    batch = jax.vmap(jax.vmap(mapping))(np.stack([x, 2 * x, 3 * x, 4 * x]).reshape(2, 2, -1, 3))
    np.testing.assert_allclose(batch[1, 1], 4 * (matrix @ x), atol=1e-13)
    gradient = jax.grad(lambda x: jnp.sum(y * mapping(x)))(x)
    np.testing.assert_allclose(gradient, matrix.T @ y, atol=1e-13)


def test_gradients_reach_the_weights(x64, x):
    """Learned maps: the weights in the tables may be differentiated."""
    mapping = build(ENTRIES, 5)
    float_leaves, others = eqx.partition(mapping, eqx.is_inexact_array_like)
    gradient = jax.grad(lambda leaves: jnp.sum(jnp.sin(eqx.combine(leaves, others)(x))))(float_leaves)
    bead, atom, weight = mapping.entries()
    expected = {(b, a): np.cos(np.asarray(mapping(x))[b]) @ x[a] for b, a in zip(bead, atom, strict=True)}
    index, slope = np.asarray(mapping._weights._rows[0]), np.asarray(gradient._weights._rows[1])
    for b, a in expected:
        slots = np.flatnonzero((index[:, b] == a) & (np.asarray(mapping._weights._rows[1])[:, b] != 0))
        assert slope[slots[0], b] == pytest.approx(expected[b, a], rel=1e-12)
    assert len(weight) == len(expected)


@pytest.mark.parametrize(
    ("masses", "message"),
    [
        (np.ones(3), r"masses have shape \(3,\); give one mass for each of the 14"),
        (np.zeros(14), "mass of atom 0 is 0"),
    ],
)
def test_bad_masses_say_what_is_wrong(masses, message):
    with pytest.raises(ValueError, match=message):
        build(ENTRIES, 5).fibre(masses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], [0], [0.5], 1, 2), "sum to 0.5, expected 1"),
        (([0], [0], [1.0], 2, 2), "bead 1 has no atom"),
        (([2], [0], [1.0], 2, 2), "bead_index outside 0..1"),
        (([0], [5], [1.0], 1, 2), "atom_index outside 0..1"),
        (([0], [0], [np.nan], 1, 2), "weights must be finite"),
        (([0, 0], [0], [1.0], 1, 2), "1-D and of equal length"),
    ],
)
def test_bad_maps_say_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        LinearMap.from_weights(*arguments)


def test_an_empty_group_is_named():
    with pytest.raises(ValueError, match="bead 1 has no atom"):
        LinearMap.center_of_geometry([[0], []], 3)

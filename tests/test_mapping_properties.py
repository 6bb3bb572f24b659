"""What holds for every linear map, on maps drawn by hypothesis: overlaps, atoms in no bead, duplicates, any weights.

Every map is padded to one shape, so that each operation is compiled once.
"""

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jaxcg.mapping import LinearMap
from jaxcg.mapping.replicated import JoinedMap, ReplicatedMap, explicit

#: Shape of every map drawn, and the most atoms of a bead.
BEADS, ATOMS, WIDTH = 5, 12, 4

bounded = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def matrices(draw, n_beads=BEADS, n_atoms=ATOMS, *, independent=False):
    """Weights (beads, atoms): rows sum to one, small integers before that, some of them negative."""
    rows = []
    for bead in range(n_beads):
        if rows and not independent and draw(st.integers(0, 4)) == 0:
            rows.append(rows[draw(st.integers(0, len(rows) - 1))])
            continue
        atoms = draw(st.sets(st.integers(0, n_atoms - 1), min_size=1, max_size=WIDTH))
        row = np.zeros(n_atoms)
        row[list(atoms)] = draw(st.lists(st.integers(1, 16), min_size=len(atoms), max_size=len(atoms)))
        if len(atoms) > 2 and draw(st.booleans()):
            row[min(atoms)] *= -1
        if row.sum() <= 0:
            row = np.abs(row)
        if independent:
            # An atom that no other bead has.
            row[bead] += 40
            row[:n_beads][np.arange(n_beads) != bead] = 0
        rows.append(row / row.sum())
    return np.array(rows)


masses = st.lists(st.integers(1, 60), min_size=ATOMS, max_size=ATOMS).map(lambda m: np.array(m, float))
seeds = st.integers(0, 2**16)


def build(weights):
    bead, atom = np.nonzero(weights)
    return LinearMap.from_weights(bead, atom, weights[bead, atom], *weights.shape)


@bounded
@given(weights=matrices(), m=masses, seed=seeds)
def test_lift_and_projector(x64, weights, m, seed):
    fibre = build(weights).fibre(m)
    rng = np.random.default_rng(seed)
    x, z = rng.normal(size=(2, ATOMS, 3))
    # M A⁺ = 1 on the row space: for the beads of any configuration.
    y = weights @ x
    np.testing.assert_allclose(weights @ np.asarray(fibre.lift(y)), y, atol=1e-9)
    # The projector is idempotent, moves no bead, and is self-adjoint in the metric of the masses.
    tx, tz = np.asarray(fibre.tangent(x)), np.asarray(fibre.tangent(z))
    np.testing.assert_allclose(np.asarray(fibre.tangent(tx)), tx, atol=1e-9)
    np.testing.assert_allclose(weights @ tx, 0, atol=1e-9)
    assert np.sum(m[:, None] * tx * z) == pytest.approx(np.sum(m[:, None] * x * tz), rel=1e-9, abs=1e-7)
    # Back-mapping the image of x gives x less what the map loses.
    np.testing.assert_allclose(np.asarray(fibre.lift(y)), x - tx, atol=1e-9)
    np.testing.assert_allclose(weights @ np.asarray(fibre.retract(z, y)), y, atol=1e-9)


@bounded
@given(weights=matrices(), seed=seeds)
def test_map_is_its_matrix_and_transpose_the_adjoint(x64, weights, seed):
    mapping = build(weights)
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(ATOMS, 3)), rng.normal(size=(BEADS, 3))
    y = np.asarray(mapping(x))
    np.testing.assert_allclose(mapping.matrix().toarray(), weights, atol=1e-14)
    np.testing.assert_allclose(y, weights @ x, atol=1e-12)
    assert np.sum(v * y) == pytest.approx(np.sum(np.asarray(mapping.transpose(v)) * x), rel=1e-9, abs=1e-9)
    # It moves and turns with the molecule, mirror images too.
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    np.testing.assert_allclose(mapping(x @ rotation + [1.0, -2.0, 3.0]), y @ rotation + [1.0, -2.0, 3.0], atol=1e-11)


@bounded
@given(weights=matrices())
def test_rank_nullity_and_null_space(weights):
    mapping = build(weights)
    assert mapping.rank == 3 * np.linalg.matrix_rank(weights, tol=1e-6)
    assert mapping.rank + mapping.nullity == 3 * ATOMS
    basis = mapping.null_space().toarray()
    assert 3 * basis.shape[1] == mapping.nullity
    np.testing.assert_allclose(weights @ basis, 0, atol=1e-12)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)


@bounded
@given(weights=matrices(independent=True))
def test_what_a_map_of_full_rank_loses(weights):
    """Nullity 3N − 3n."""
    assert build(weights).nullity == 3 * ATOMS - 3 * BEADS


@bounded
@given(first=matrices(), second=matrices(3, BEADS))
def test_composition_is_the_matrix_product(first, second):
    composed = build(first).then(build(second))
    np.testing.assert_allclose(composed.matrix().toarray(), second @ first, atol=1e-12)


@bounded
@given(one=matrices(), other=matrices(), m=masses, seed=seeds)
def test_replicas_and_joins_are_the_explicit_map(x64, one, other, m, seed):
    system = JoinedMap([build(one), ReplicatedMap(build(other), 2)])
    plain = explicit(system)
    assert (system.rank, system.nullity) == (plain.rank, plain.nullity)
    rng = np.random.default_rng(seed)
    x, v = rng.normal(size=(3 * ATOMS, 3)), rng.normal(size=(3 * BEADS, 3))
    np.testing.assert_allclose(system(x), plain.matrix() @ x, atol=1e-12)
    np.testing.assert_allclose(system.transpose(v), plain.matrix().T @ v, atol=1e-12)
    lift = plain.fibre(np.tile(m, 3)).matrix()
    np.testing.assert_allclose(system.pseudoinverse(v, np.tile(m, 3)), lift @ v, atol=1e-9)


def test_the_example_of_three_atoms_and_two_beads(x64):
    """A = [[1/2, 1/2, 0], [0, 0, 1]] has A⁺ = [[1, 0], [1, 0], [0, 1]] and x* = (y1, y1, y2)."""
    mapping = build(np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_array_equal(mapping.fibre().matrix().toarray(), [[1, 0], [1, 0], [0, 1]])
    y = np.array([[1.0, 2.0, 3.0], [-4.0, 5.0, 0.5]])
    np.testing.assert_array_equal(mapping.pseudoinverse(y), y[[0, 0, 1]])
    np.testing.assert_array_equal(jax.jit(lambda y: mapping(mapping.pseudoinverse(y)))(y), y)
    assert (mapping.rank, mapping.nullity) == (6, 3)
    # What is lost is the displacement of the two atoms against each other.
    lost = mapping.null_space().toarray()
    np.testing.assert_allclose(np.abs(lost), np.sqrt([[0.5], [0.5], [0.0]]), atol=1e-15)
    np.testing.assert_allclose(lost[0], -lost[1], atol=1e-15)

"""Force maps: conditions, closed forms, and the published package on the same data."""

from pathlib import Path

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from maps_of_forces import CONSTRAINTS, EVERY_CONSTRAINT, EVERY_MAP, MAPS, MASSES, N_ATOMS, dense, some_forces
from scipy.optimize import minimize

from jaxcg.mapping import LinearMap
from jaxcg.mapping.force_maps import ForceMap, aggregating_force_map
from jaxcg.mapping.optimal_force_maps import (
    ForceMoments,
    bonded_neighbours,
    force_variance,
    optimal_force_map,
)
from jaxcg.mapping.replicated import ReplicatedMap, explicit

# -- the conditions -------------------------------------------------------------------------------------------------


@EVERY_MAP
@EVERY_CONSTRAINT
def test_every_map_meets_the_conditions(name, constraints):
    mapping, pairs = MAPS[name], CONSTRAINTS[constraints]
    weights = mapping.matrix().toarray()
    maps = [aggregating_force_map(mapping, pairs), aggregating_force_map(mapping, pairs, MASSES)]
    maps.append(optimal_force_map(mapping, some_forces(), pairs).force_map)
    for force_map in maps:
        np.testing.assert_allclose(dense(force_map) @ weights.T, np.eye(mapping.n_beads), atol=1e-12)
        for i, j in [] if pairs is None else pairs:
            np.testing.assert_allclose(dense(force_map)[:, i], dense(force_map)[:, j], atol=1e-12)


def test_aggregating_is_the_sum_over_the_atoms():
    np.testing.assert_allclose(
        dense(aggregating_force_map(MAPS["centre of mass"])), MAPS["centre of mass"].matrix().toarray() > 0, atol=1e-14
    )
    np.testing.assert_allclose(dense(aggregating_force_map(MAPS["slice"])), MAPS["slice"].matrix().toarray())
    # Atoms joined to the atom of a bead bring their forces along.
    joined = dense(aggregating_force_map(MAPS["slice"], np.array([[1, 0], [1, 2], [7, 8], [5, 6]])))
    assert [np.flatnonzero(row).tolist() for row in joined] == [[0, 1, 2], [4], [7, 8]]
    np.testing.assert_allclose(joined[joined != 0], 1)


def test_the_mass_metric_gives_the_acceleration_of_the_beads():
    mapping = MAPS["overlapping"]
    weights = mapping.matrix().toarray()
    acceleration = weights @ np.diag(1 / MASSES)
    mass_matrix = np.linalg.inv(weights @ np.diag(1 / MASSES) @ weights.T)
    by_mass = aggregating_force_map(mapping, masses=MASSES)
    np.testing.assert_allclose(dense(by_mass), mass_matrix @ acceleration, atol=1e-12)
    f = some_forces()[0]
    np.testing.assert_allclose(by_mass(f), mapping.fibre(MASSES).lift_transpose(f), rtol=1e-5, atol=1e-5)
    # Where beads share no atoms the metric makes no difference to centres of mass.
    separate = MAPS["centre of mass"]
    np.testing.assert_allclose(
        dense(aggregating_force_map(separate, masses=MASSES)), dense(aggregating_force_map(separate)), atol=1e-13
    )


def test_many_beads_need_no_dense_matrix():
    n = 30_000
    groups = np.arange(n).reshape(-1, 3)
    mapping = LinearMap.center_of_geometry([*groups, *([[0, 3], [3, 6]])], n)
    force_map = aggregating_force_map(mapping, np.stack([groups[:, 0], groups[:, 1]], axis=1)[1000:])
    f = np.ones((n, 3), np.float32)
    np.testing.assert_allclose(np.asarray(force_map(f))[3:-2], 3)


def test_a_long_chain_of_overlapping_beads():
    """A thousand beads in one block: sparse, and the same as the dense formula."""
    n = 1000
    groups = [[2 * k, 2 * k + 1, 2 * k + 2] for k in range(n)]
    mapping = LinearMap.center_of_geometry(groups, 2 * n + 1)
    force_map = aggregating_force_map(mapping)
    assert len(force_map.entries()[0]) < 100 * n
    weights = mapping.matrix().toarray()
    scaled = weights / weights.sum(axis=0)
    np.testing.assert_allclose(dense(force_map), np.linalg.inv(scaled @ weights.T) @ scaled, atol=1e-10)
    with pytest.raises(ValueError, match=r"beads 0, 1, .* depend on each other"):
        aggregating_force_map(LinearMap.center_of_geometry([*groups, groups[n // 2]], 2 * n + 1))


def test_a_map_that_does_not_fit_is_refused():
    mapping = MAPS["slice"]
    with pytest.raises(ValueError, match=r"\(B Wᵀ\)\[1, 1\] is 2, must be 1"):
        ForceMap.from_coefficients([0, 1, 2], [1, 4, 7], [1, 2, 1], mapping)
    with pytest.raises(ValueError, match=r"\(B Wᵀ\)\[0, 2\] is 0.5, must be 0"):
        ForceMap.from_coefficients([0, 0, 1, 2], [1, 7, 4, 7], [1, 0.5, 1, 1], mapping)
    with pytest.raises(ValueError, match=r"bead 1 has different coefficients on atoms 4 and 5"):
        ForceMap.from_coefficients([0, 1, 2], [1, 4, 7], [1, 1, 1], mapping, np.array([[4, 5]]))
    twins = LinearMap.center_of_geometry([[0, 1], [2, 3], [0, 1]], N_ATOMS)
    with pytest.raises(ValueError, match=r"beads 0, 2 depend on each other"):
        aggregating_force_map(twins)
    with pytest.raises(ValueError, match=r"beads 0, 1 depend on each other"):
        aggregating_force_map(MAPS["slice"], np.array([[1, 4]]))
    with pytest.raises(ValueError, match="positive masses"):
        aggregating_force_map(mapping, masses=np.zeros(N_ATOMS))


def test_the_map_is_a_differentiable_function(x64):
    force_map = optimal_force_map(MAPS["overlapping"], some_forces()).force_map
    f = some_forces()
    np.testing.assert_allclose(force_map(f[0]), dense(force_map) @ f[0], atol=1e-12)
    np.testing.assert_allclose(
        jax.jit(jax.vmap(force_map))(f), np.einsum("ia,tak->tik", dense(force_map), f), atol=1e-12
    )
    v = np.random.default_rng(3).normal(size=(4, 3))
    np.testing.assert_allclose(force_map.transpose(v), dense(force_map).T @ v, atol=1e-12)
    # Moving the atoms along Bᵀ moves the beads by what was asked.
    np.testing.assert_allclose(MAPS["overlapping"](force_map.transpose(v)), v, atol=1e-12)
    jax.test_util.check_grads(lambda f: jnp.sum(jnp.sin(force_map(f))), (f[0],), order=2, modes=("rev",), atol=1e-5)
    assert force_map(f[0].astype(np.float32)).dtype == jnp.float32


# -- the optimum ----------------------------------------------------------------------------------------------------


@EVERY_MAP
@EVERY_CONSTRAINT
def test_optimum_against_a_numerical_minimiser(name, constraints):
    """The same programme, its conditions enforced by SLSQP instead of solved away."""
    mapping, pairs, f = MAPS[name], CONSTRAINTS[constraints], some_forces()
    fit = optimal_force_map(mapping, f, pairs, l2=0.3)
    weights = mapping.matrix().toarray()
    moment = np.einsum("tik,tjk->ij", f, f) / (3 * len(f)) + 0.3 * np.eye(N_ATOMS)
    conditions = [weights]
    for i, j in [] if pairs is None else pairs:
        conditions.append((np.eye(N_ATOMS)[i] - np.eye(N_ATOMS)[j])[None])
    conditions = np.concatenate(conditions)
    for bead in range(mapping.n_beads):
        target = np.append(np.eye(mapping.n_beads)[bead], np.zeros(len(conditions) - mapping.n_beads))
        found = minimize(
            lambda b: b @ moment @ b,
            np.zeros(N_ATOMS),
            jac=lambda b: 2 * moment @ b,
            constraints={"type": "eq", "fun": lambda b, t=target: conditions @ b - t, "jac": lambda b: conditions},
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        np.testing.assert_allclose(dense(fit.force_map)[bead], found.x, atol=2e-5)


def test_variances_are_those_of_the_mapped_forces():
    f = some_forces(frames=200)
    fit = optimal_force_map(MAPS["overlapping"], f, CONSTRAINTS["inside beads"])
    np.testing.assert_allclose(fit.variance, force_variance(fit.force_map, f), rtol=1e-10)
    basic = aggregating_force_map(MAPS["overlapping"], CONSTRAINTS["inside beads"])
    np.testing.assert_allclose(fit.aggregating_variance, force_variance(basic, f), rtol=1e-10)
    mapped = np.asarray(jax.vmap(basic)(f.astype(np.float32)))
    np.testing.assert_allclose(force_variance(basic, f), np.mean(mapped**2, axis=(0, 2)), rtol=1e-4)
    assert np.all(fit.reduction < 0.97)
    assert fit.reduction.min() < 0.5
    assert fit.frames == 200


def test_chunks_give_the_map_of_the_whole():
    f = some_forces(frames=90)
    whole = optimal_force_map(MAPS["slice"], f, CONSTRAINTS["inside beads"])
    moments = ForceMoments.start(MAPS["slice"], CONSTRAINTS["inside beads"])
    for chunk in np.split(f, [10, 11, 50]):
        moments = moments.update(chunk)
    fit = moments.result()
    np.testing.assert_allclose(dense(fit.force_map), dense(whole.force_map), atol=1e-12)
    np.testing.assert_allclose(fit.variance, whole.variance, rtol=1e-12)
    assert fit.frames == 90


def test_neighbours_limit_the_atoms_and_nothing_else():
    mapping, f, pairs = MAPS["slice"], some_forces(frames=200), CONSTRAINTS["inside beads"]
    chain = np.stack([np.arange(N_ATOMS - 1), np.arange(1, N_ATOMS)], axis=1)
    near = bonded_neighbours(mapping, chain, 2)
    assert [atoms.tolist() for atoms in near] == [[0, 1, 2, 3], [2, 3, 4, 5, 6], [5, 6, 7, 8, 9]]
    fit = optimal_force_map(mapping, f, pairs, neighbours=near)
    for row, atoms in zip(dense(fit.force_map), near):
        assert set(np.flatnonzero(row)) <= set(atoms)
    whole = optimal_force_map(mapping, f, pairs)
    assert np.all(whole.variance <= fit.variance + 1e-12)
    assert np.all(fit.variance < fit.aggregating_variance)
    everything = optimal_force_map(mapping, f, pairs, neighbours=bonded_neighbours(mapping, chain, N_ATOMS))
    np.testing.assert_allclose(dense(everything.force_map), dense(whole.force_map), atol=1e-12)
    # No neighbours at all leaves only the atoms that are needed.
    none = optimal_force_map(mapping, f, pairs, neighbours=[[]] * 3)
    np.testing.assert_allclose(dense(none.force_map), dense(aggregating_force_map(mapping, pairs)), atol=1e-12)


@EVERY_CONSTRAINT
def test_copies_of_a_molecule_share_one_map(x64, constraints):
    """Fitted to all copies as to so many frames, stored once; its conditions hold in the whole system."""
    mapping, pairs = MAPS["slice"], CONSTRAINTS[constraints]
    f = some_forces(frames=40, atoms=4 * N_ATOMS)
    whole = ReplicatedMap(mapping, 4)
    # Every copy has these constraints; that one copy shows each is enough.
    shown = None if pairs is None else np.concatenate([pairs[:1], pairs[1:] + 2 * N_ATOMS])
    fit = optimal_force_map(whole, f, shown)
    one = optimal_force_map(mapping, f.reshape(-1, N_ATOMS, 3), pairs)
    assert fit.frames == 160
    np.testing.assert_allclose(fit.variance, one.variance, rtol=1e-12)
    np.testing.assert_allclose(dense(fit.force_map), np.kron(np.eye(4), dense(one.force_map)), atol=1e-13)
    np.testing.assert_allclose(fit.force_map(f[0]), dense(fit.force_map) @ f[0], atol=1e-12)
    np.testing.assert_allclose(whole(fit.force_map.transpose(f[0, :12])), f[0, :12], atol=1e-12)
    for masses in (None, np.tile(MASSES, 4), np.linspace(1, 2, 4 * N_ATOMS)):
        everywhere = None if pairs is None else np.concatenate([pairs + k * N_ATOMS for k in range(4)])
        basic = dense(aggregating_force_map(whole, everywhere, masses))
        np.testing.assert_allclose(basic, dense(aggregating_force_map(explicit(whole), everywhere, masses)), atol=1e-13)
    with pytest.raises(ValueError, match="in different copies"):
        aggregating_force_map(whole, np.array([[0, N_ATOMS]]))


def test_few_frames_need_regularisation():
    mapping, f = MAPS["slice"], some_forces(frames=2)
    with pytest.raises(ValueError, match="2 frames cannot determine 7 free coefficients"):
        optimal_force_map(mapping, f)
    held_out = some_forces(frames=2000, seed=9)
    errors = [force_variance(optimal_force_map(mapping, f, l2=l2).force_map, held_out).sum() for l2 in (1e-6, 1.0)]
    assert errors[1] < errors[0]
    with pytest.raises(ValueError, match="negative"):
        optimal_force_map(mapping, f, l2=-1.0)
    # A strong ridge leaves the map with the smallest coefficients.
    strong = dense(optimal_force_map(MAPS["overlapping"], f, l2=1e9).force_map)
    np.testing.assert_allclose(strong, np.linalg.pinv(MAPS["overlapping"].matrix().toarray()).T, atol=1e-6)


def test_broken_input_is_refused():
    f = some_forces()
    with pytest.raises(ValueError, match="forces on 9 atoms, the map has 10"):
        optimal_force_map(MAPS["slice"], f[:, :9])
    f[3, 4, 1] = np.nan
    with pytest.raises(ValueError, match="not all finite"):
        optimal_force_map(MAPS["slice"], f)
    with pytest.raises(ValueError, match="2 lists for 3 beads"):
        ForceMoments.start(MAPS["slice"], neighbours=[[0], [1]])


def test_atoms_without_forces_and_without_freedom():
    """Singular moments: atoms that feel nothing keep the coefficients of the aggregating map."""
    f = some_forces(frames=100)
    f[:, [0, 9]] = 0
    fit = optimal_force_map(MAPS["centre of mass"], f)
    assert np.all(np.isfinite(dense(fit.force_map)))
    assert dense(fit.force_map)[0, 9] == pytest.approx(0, abs=1e-9)
    every_atom = LinearMap.center_of_geometry([[i] for i in range(4)], 4)
    np.testing.assert_allclose(dense(optimal_force_map(every_atom, f[:, :4]).force_map), np.eye(4), atol=1e-12)


# -- the published package ------------------------------------------------------------------------------------------


def test_coefficients_of_aggforce():
    """The same forces, map and constraints: coefficients of aggforce, kept in a file (see its README)."""
    with np.load(Path(__file__).parent / "data" / "force_maps" / "aggforce.npz") as data:
        stored = dict(data)
    n_atoms = stored["forces"].shape[1]
    mapping = LinearMap.from_weights(
        *np.nonzero(stored["weights"]), stored["weights"][stored["weights"] != 0], 5, n_atoms
    )
    for suffix, l2 in (("", 0.0), ("_l2", float(stored["l2"]))):
        # Their ridge is added to the sum over frames and components, ours to the mean.
        fit = optimal_force_map(mapping, stored["forces"], stored["constraints"], l2=l2 / (3 * len(stored["forces"])))
        theirs = stored[f"optimal{suffix}"]
        np.testing.assert_allclose(dense(fit.force_map), theirs, atol=1e-4)
        mapped = np.einsum("ia,tak->tik", theirs, stored["forces"].astype(np.float64))
        np.testing.assert_allclose(fit.variance, np.mean(mapped**2, axis=(0, 2)), rtol=1e-4)
    aggregating = aggregating_force_map(mapping, stored["constraints"])
    np.testing.assert_allclose(dense(aggregating), stored["basic"], atol=1e-12)

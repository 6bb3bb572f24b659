"""The non-bonded energy over a neighbour table against the same over all pairs, and the life of the table."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from molecules import liquid, quick

from jaxcg.energy import HarmonicBond, Nonbonded
from jaxcg.energy.base import SumEnergy
from jaxcg.mapping import LinearMap
from jaxcg.neighbors import NeighborTable
from jaxcg.posterior import Posterior
from jaxcg.run import AbstractKernel
from jaxcg.sampling import HMC, Chains

KEY = jax.random.key(0)
BOXES = {"open": None, "orthorhombic": np.eye(3), "triclinic": np.array([[1, 0, 0], [0.3, 1, 0], [-0.4, 0.3, 1]])}


@pytest.fixture
def listed(monkeypatch):
    """Small systems take a table too, by the tree, which needs no compiling."""
    monkeypatch.setattr("jaxcg.neighbors._COMPARED_ATOMS", 0)
    monkeypatch.setattr("jaxcg.energy.nonbonded._DENSE_ATOMS", 0)


def over_all_pairs(make, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("jaxcg.energy.nonbonded._DENSE_ATOMS", 10**6)
        return make()


evaluate = quick(lambda e, x: jax.value_and_grad(e)(x))
energy_of = quick(lambda e, x: e(x))


def shapes(energy):
    return [leaf.shape for leaf in jax.tree.leaves(energy)]


def room(energy):
    return energy.pairs.rows, energy.pairs.rows_of_tile.shape[0]


def single(x):
    return jnp.asarray(x, jnp.float32)


def assert_same(got, expected, digits):
    np.testing.assert_allclose(got, expected, rtol=0, atol=digits * np.abs(expected).max())


@pytest.mark.parametrize("box", ["open", "triclinic"])
def test_table_and_all_pairs_agree(x64, listed, monkeypatch, box):
    x, make = liquid(8, box=BOXES[box])
    over_table, over_all = make(positions=x, room=(256, 8)), over_all_pairs(make, monkeypatch)
    assert room(over_table) == (256, 8)
    assert not hasattr(over_all.pairs, "rows")
    names = ("charges", "sigmas", "epsilons", "dielectric", "exception_sigmas")

    @quick
    def derivatives(e, x):
        def at(x, *values):
            return eqx.tree_at(lambda e: tuple(getattr(e, n) for n in names), e, values)(x)

        values = [getattr(e, name) for name in names]
        return jax.value_and_grad(at, tuple(range(1 + len(names))))(x, *values)

    got, expected = (jax.tree.leaves(derivatives(e, x)) for e in (over_table, over_all))
    assert len(got) == 2 + len(names)
    for g, e in zip(got, expected, strict=True):
        assert_same(g, e, 1e-11)
    value, gradient = evaluate(over_table, single(x))
    assert value.dtype == gradient.dtype == np.float32
    assert_same(value, expected[0], 1e-4)
    assert_same(gradient, expected[1], 1e-5)


def test_table_energy_is_exact_within_half_the_skin_and_says_when_not(listed):
    x, make = liquid(box=np.eye(3))
    step = np.random.default_rng(0).normal(size=x.shape)
    step *= 0.055 / np.linalg.norm(step, axis=1, keepdims=True)
    kept = make(positions=x)
    for moved in (x, x + step):
        fresh = kept.rebuild(single(moved))
        assert shapes(fresh) == shapes(kept)
        np.testing.assert_array_equal(fresh.pairs.reference, single(moved))
        value, gradient = evaluate(kept, single(moved))
        expected, expected_gradient = evaluate(fresh, single(moved))
        np.testing.assert_allclose(value, expected, rtol=1e-5)
        assert_same(gradient, expected_gradient, 1e-5)
        assert not kept.stale(moved)
    assert kept.stale(x + 1.5 * step)
    assert np.isnan(evaluate(make(positions=x, room=(32, 2)), single(x))[0])


def test_a_sum_is_stale_as_soon_as_one_part_is(listed):
    x, make = liquid(6)
    table = make(positions=x)
    bond = HarmonicBond([[0, 1]], [0.3], [1.0], n_atoms=len(x))
    moved = x.copy()
    moved[7, 1] += 0.061  # the skin is 0.12
    for energy in (SumEnergy((bond, table)), SumEnergy((table, bond)), SumEnergy((SumEnergy((table,)), bond))):
        assert not energy.stale(single(x))
        assert energy.stale(single(moved))
        assert not energy.rebuild(single(moved)).stale(single(moved))
    assert not SumEnergy((bond,)).stale(single(moved))


def test_all_pairs_are_never_stale(monkeypatch):
    x, make = liquid(4)
    energy = over_all_pairs(make, monkeypatch)
    assert not energy.stale(single(x) + 10.0)
    assert energy.rebuild(single(x)) is energy


def test_a_table_grows_when_atoms_come_closer(listed, monkeypatch):
    x, make = liquid(8, spacing=0.33)
    kept, dense = make(positions=x), single(0.7 * x)
    grown = kept.rebuild(dense)
    assert room(grown)[0] > room(kept)[0]
    assert_same(energy_of(grown, dense), energy_of(over_all_pairs(make, monkeypatch), dense), 1e-5)
    # From then on there is room, also for what was there before.
    again = grown.rebuild(single(x))
    assert shapes(again) == shapes(grown)
    assert_same(energy_of(again, single(x)), energy_of(kept, single(x)), 1e-5)
    # Where nothing is known, or nothing can be learnt, the table stays as it is.
    assert shapes(kept.rebuild(dense.at[0].set(jnp.nan))) == shapes(kept)


def test_a_compiled_rebuild_cannot_grow_and_says_so(listed):
    x, make = liquid(8, spacing=0.33)
    rebuilt = quick(lambda e, x: e.rebuild(x)(x))
    kept = make(positions=x)
    assert_same(rebuilt(kept, single(x)), energy_of(kept, single(x)), 1e-5)
    assert np.isnan(rebuilt(kept, single(0.7 * x)))


def test_without_positions_the_first_rebuild_makes_the_table(listed, monkeypatch):
    x, make = liquid(8)
    expected = energy_of(over_all_pairs(make, monkeypatch), single(x))
    # A small system has all pairs until then, a large one says that it has none.
    assert_same(energy_of(make(), single(x)), expected, 1e-5)
    assert isinstance(make().rebuild(single(x)).pairs, NeighborTable)
    assert_same(energy_of(make().rebuild(single(x)), single(x)), expected, 1e-5)
    monkeypatch.setattr("jaxcg.energy.nonbonded._UNLISTED_ATOMS", 0)
    assert np.isnan(energy_of(make(), single(x)))
    assert np.isnan(jax.grad(make())(jnp.asarray(single(x)))).all()
    assert make().stale(single(x))
    assert_same(energy_of(make().rebuild(single(x)), single(x)), expected, 1e-5)
    assert room(make(room=(160, 9))) == room(make(room=(160, 9)).rebuild(single(x))) == (160, 9)


@pytest.mark.parametrize("box", BOXES)
def test_a_table_has_room_for_the_positions_it_is_made_from(listed, box):
    x, make = liquid(8, box=BOXES[box])
    energy = make(positions=x)
    assert np.isfinite(energy_of(energy, single(x)))
    rng = np.random.default_rng(1)
    moved = x + rng.normal(scale=0.05, size=x.shape)
    assert shapes(energy.rebuild(single(moved))) == shapes(energy)


class Evaluate(AbstractKernel):
    """Stays where it is and tells the energy; ``rebuilds`` lest rebuilding go on for ever."""

    energy: Nonbonded
    rebuilds: list = eqx.field(static=True)

    def init(self, key, position):
        return position

    def step(self, key, state):
        return state, self.energy(state)

    def rebuild(self, state):
        self.rebuilds.append(1)
        assert len(self.rebuilds) < 40
        return eqx.tree_at(lambda k: k.energy, self, self.energy.rebuild(state))


def shuffled(x):
    """Other atoms at the same places: tiles made for ``x`` are then as large as all of it."""
    return x[np.random.default_rng(0).permutation(len(x))]


@pytest.mark.slow
@pytest.mark.parametrize(
    "others",
    [
        lambda x: [0.9 * x, 0.8 * x, x],
        lambda x: [shuffled(x), shuffled(0.8 * x)],
        # With the tiles of the first it needs more rows than there are, with tiles of its own fewer.
        lambda x: [1.05 * shuffled(x)],
    ],
    ids=["denser", "shuffled", "shuffled and dilute"],
)
def test_all_chains_get_the_room_that_one_needs(listed, monkeypatch, others):
    x, make = liquid(10)
    states = single(np.stack([x, *others(x)]))
    chains = Chains(Evaluate(make(positions=x), [])).rebuild(states)
    energies = chains.step(jax.random.key(0), states)[1]
    over_all = over_all_pairs(make, monkeypatch)
    np.testing.assert_allclose(energies, [energy_of(over_all, state) for state in states], rtol=1e-4)
    # The room stays: every list is made once.
    before = len(chains.kernel.rebuilds)
    assert shapes(chains.rebuild(states)) == shapes(chains)
    assert len(chains.kernel.rebuilds) == before + len(states)


def test_positions_that_are_not_finite_leave_the_list_as_it_is(listed):
    x, make = liquid(8)
    broken = x.copy()
    broken[3] = np.nan
    energy = make()
    assert energy.rebuild(single(broken)) is energy
    assert np.isnan(energy_of(energy, single(broken)))
    assert np.isnan(energy_of(energy.rebuild(single(x)).rebuild(single(broken)), single(broken)))


def test_a_trajectory_makes_its_list_anew(listed):
    x, make = liquid(8)
    n = len(x)
    first = LinearMap.from_weights([0], [0], [1.0], 1, n)
    ends = []
    for listed_at in (x, x[np.random.default_rng(0).permutation(n)]):
        energy = make(positions=listed_at, room=(320, 9))
        posterior = Posterior(energy, first, single(x[:1]), noise=1.0)
        kernel = HMC(posterior, np.full(n, 12.0), step_size=1e-4, steps=2)
        ends.append(quick(lambda k, s: k.step(KEY, s))(kernel, kernel.init(KEY, single(x))))
    (good, info), (other, _) = ends
    assert bool(info.accepted)
    assert not np.array_equal(good.position, single(x))
    np.testing.assert_allclose(other.position, good.position, atol=1e-6)


def test_a_long_trajectory_is_that_of_all_pairs(x64, listed, monkeypatch):
    # Atoms fly several skins far: with the list of the start alone they would not see each other on the way.
    x, make = liquid(6)
    n = len(x)
    first = LinearMap.from_weights([0], [0], [1.0], 1, n)
    velocity = np.random.default_rng(2).normal(size=(n, 3))
    ends = []
    for energy in (make(positions=x, room=(300, 9), skin=0.04), over_all_pairs(make, monkeypatch)):
        posterior = Posterior(energy, first, jnp.asarray(x[:1]), noise=1.0)
        kernel = HMC(posterior, np.full(n, 12.0))
        end, *_ = quick(HMC.trajectory)(
            kernel, jnp.asarray(x), jnp.asarray(velocity), jnp.asarray(2e-3), jnp.asarray(60)
        )
        ends.append(end)
    assert np.median(np.linalg.norm(ends[1] - x, axis=1)) > 0.1
    np.testing.assert_allclose(ends[0], ends[1], rtol=0, atol=1e-7)


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

"""From beads to a judged structure on a stretch of ubiquitin: exact, noisy, cis and by other routes."""

import jax
import numpy as np
import openmm
import pytest
from fragments import fragment

from jaxcg.backmap import BeadMode, Engine, Posterior, relax, relaxer
from jaxcg.backmap.isomers import choose_isomers, proline_peptides
from jaxcg.backmap.map_estimate import _ADVANCE, _START
from jaxcg.backmap.pipeline import superposed
from jaxcg.energy import Nonbonded
from jaxcg.lockstep import Batched, alone, together


@pytest.fixture(scope="module")
def engine():
    return Engine(fragment())


@pytest.fixture(scope="module")
def exact(engine):
    return engine.frame(0, engine.molecule.y, jax.random.key(0))


@pytest.fixture(scope="module")
def noisy(engine):
    y = engine.molecule.y + np.random.default_rng(0).normal(scale=0.03, size=engine.molecule.y.shape)
    return engine.frame(1, y, jax.random.key(1))


def test_mapped_beads_are_held_exactly_and_the_structure_is_sound(engine, exact):
    assert exact.bead_mode == "exact"
    assert "strains bonds" in exact.bead_reason
    assert exact.quality.errors == {}
    assert exact.quality.bonds_within_10 == 100
    assert np.abs(engine.mapping.matrix() @ exact.positions - exact.y).max() < 1e-12
    assert exact.history[0]["stage"] == "embedding"
    assert exact.history[-1]["stage"] == "MAP"
    assert exact.energy == pytest.approx(sum(exact.energy_terms.values()))


def test_energy_agrees_with_openmm(engine, exact):
    context = openmm.Context(
        engine.molecule.openmm_system,
        openmm.VerletIntegrator(0.001),
        openmm.Platform.getPlatformByName("Reference"),
    )
    context.setPositions(exact.positions)
    value = context.getState(energy=True).getPotentialEnergy()._value
    assert exact.energy == pytest.approx(value, rel=1e-5)


def test_same_key_same_structure_another_key_another(engine, exact):
    again = engine.frame(0, engine.molecule.y, jax.random.key(0))
    np.testing.assert_array_equal(again.positions, exact.positions)
    other = engine.frame(0, engine.molecule.y, jax.random.key(5))
    assert np.abs(other.positions - exact.positions).max() > 1e-3
    assert other.quality.errors == {}


def test_noisy_beads_are_recognised_and_taken_as_soft(engine, noisy):
    assert noisy.bead_mode == "soft"
    assert "above" in noisy.bead_reason
    assert noisy.quality.errors == {}
    assert 0.005 < noisy.quality.bead_rms < 0.08


def test_a_second_frame_does_not_compile_again(engine, exact, noisy):
    def compiled():
        functions = (relaxer._EMBED, relaxer._REFINE, _START, _ADVANCE)
        return [f._cached._cache_size() for made in functions for f in (made.one, made.many)]

    engine.prepare(exact)
    engine.prepare(noisy)
    sizes = compiled()
    assert all(sizes[::2])
    y = engine.molecule.y + np.random.default_rng(3).normal(scale=0.03, size=engine.molecule.y.shape)
    engine.frame(2, y, jax.random.key(7))
    engine.frame(3, engine.molecule.y + 0.01, jax.random.key(8))
    assert compiled() == sizes


def test_repair_mends_what_is_broken(engine, exact):
    system, x = engine.system, exact.positions.astype(np.float32).copy()
    residue = 5
    atoms = np.flatnonzero(system.atom_residue == residue)
    ca = next(i for i in atoms if system.atom_names[i] == "CA")
    x[atoms] = 2 * x[ca] - x[atoms]  # the mirror image of a residue: wrong chirality, torn bonds
    x = np.asarray(engine.on_fibre(x, exact.y, BeadMode(None, "")))
    assert residue in engine.relaxer.bad_residues(x)
    mended, tries, bad = engine.relaxer.repair(x.astype(np.float32), exact.y, jax.random.key(2), noise=None)
    assert bad == ()
    assert tries >= 1
    # What was sound stays where it was.
    far = np.abs(system.atom_residue - residue) > 3
    backbone = np.isin(system.atom_names, ["N", "CA", "C", "O"])
    assert np.abs(mended - exact.positions)[far & backbone].max() < 0.05


def test_a_cis_proline_is_found_from_its_beads(engine, exact):
    trans_relaxer, prolines = engine.relaxer, engine.molecule.prolines
    assert len(prolines) == 1
    peptides = proline_peptides(trans_relaxer, prolines)
    cis = trans_relaxer.with_cis(tuple(peptides.values()))
    # Beads of a relaxed chain with a cis peptide: the bead springs are soft, so it settles in a shape of its own.
    heavy = cis.embed(engine.molecule.y, jax.random.key(3), soft=True)
    for _ in range(2):
        heavy = cis.embed(np.asarray(cis.heavy_map(heavy)), jax.random.key(4), soft=True)
    y = np.asarray(cis.heavy_map(heavy), dtype=np.float64)
    start = trans_relaxer.embed(y, jax.random.key(5), soft=False)
    _, _, chosen = alone(choose_isomers(trans_relaxer, prolines, start, y, jax.random.key(6), soft=False))
    assert chosen == tuple(prolines)
    # And the crystal's trans proline stays trans.
    trans = trans_relaxer.embed(engine.molecule.y, jax.random.key(5), soft=False)
    deciding = choose_isomers(trans_relaxer, prolines, trans, engine.molecule.y, jax.random.key(6), soft=False)
    assert alone(deciding)[2] == ()


def test_bead_modes_on_demand():
    molecule = fragment()
    assert Engine(molecule, beads="exact").choose(molecule.y, jax.random.key(0)).noise is None
    mode = Engine(molecule, beads="soft", bead_noise=0.05).choose(molecule.y, jax.random.key(0))
    assert mode.noise == 0.05
    assert mode.reason == "asked for"
    with pytest.raises(ValueError, match="choose 'auto'"):
        Engine(molecule, beads="hard")


def test_superposition_undoes_a_rigid_motion(engine, exact):
    angle = 0.7
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    moved = exact.positions @ turn.T + np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(superposed(moved, engine.mapping, exact.y), exact.positions, atol=1e-9)


@pytest.mark.slow
def test_many_stages_at_once_are_those_of_one_at_a_time(engine):
    made, y, keys = engine.relaxer, engine.molecule.y, jax.random.split(jax.random.key(9), 3)

    def program(y, key):
        heavy = yield from made.embedding(y, key, soft=False, steps=20)
        return (yield from made.refinement(made.complete(heavy), y, noise=None, chunks=(2, 1, 0, 0)))

    many = list(together((program(y + 0.1 * k, key) for k, key in enumerate(keys)), width=2))
    for k, key in enumerate(keys):
        np.testing.assert_allclose(many[k], alone(program(y + 0.1 * k, key)), atol=2e-3)


@pytest.mark.slow
def test_refinement_gets_more_room_when_it_needs_it(monkeypatch, engine, exact):
    made, x = engine.relaxer, exact.positions + np.random.default_rng(0).normal(scale=0.01, size=exact.positions.shape)
    chunks = (10, 5, 0, 0)  # as many as usual, lest this compile anew
    ample = made.refine(x, exact.y, noise=None, chunks=chunks)
    assert np.abs(ample - x).max() > 0.005
    assert made._room[0] > 16
    monkeypatch.setattr(made, "_room", (16, 1))
    inner = relaxer._refine
    compiled = Batched(lambda shared, y, x: inner(shared, y, x))
    monkeypatch.setattr(relaxer, "_REFINE", compiled)
    np.testing.assert_allclose(made.refine(x, exact.y, noise=None, chunks=chunks), ample, atol=2e-5)
    assert made._room[0] > 16
    assert made._room[1] > 1
    assert compiled.one._cached._cache_size() == 2


def test_room_for_a_structure_is_made_once(monkeypatch, exact):
    monkeypatch.setattr("jaxcg.energy.nonbonded._DENSE_ATOMS", 0)
    engine = Engine(fragment.__wrapped__())

    def shapes():
        return [leaf.shape for leaf in jax.tree.leaves(listed())]

    def listed():
        return engine._with_lists(engine.posterior(exact.y, BeadMode(None, ""))).energy

    before = shapes()
    engine.make_room(exact.positions)
    assert shapes() != before
    rebuilt = listed().rebuild(exact.positions.astype(np.float32))
    assert [leaf.shape for leaf in jax.tree.leaves(rebuilt)] == shapes()
    nonbonded = next(t for t in rebuilt.terms() if isinstance(t, Nonbonded))
    assert int(nonbonded.pairs.overflow) == 0
    kept = engine.energy
    engine.make_room(exact.positions + np.random.default_rng(0).normal(scale=0.02, size=exact.positions.shape))
    assert engine.energy is kept


def test_relax_takes_a_posterior(engine, exact):
    posterior = Posterior(engine.molecule.energy, engine.mapping, exact.y.astype(np.float32))
    relaxed = relax(posterior, engine.system, jax.random.key(2))
    assert relaxed.bad == ()
    assert np.abs(engine.mapping.matrix() @ relaxed.x - exact.y).max() < 2e-6

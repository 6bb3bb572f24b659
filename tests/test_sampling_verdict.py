import json

import numpy as np
import pytest
from oracles.gaussian import Gaussian

from jaxcg.sampling import SamplerHealth, Torsions, assess, torsion_mixing, typical_set

CHAINS, DRAWS = 4, 600
RNG = np.random.default_rng(0)
WHITE = RNG.normal(size=(CHAINS, DRAWS))
TORSIONS = Torsions(
    ["chi1 of LYS 33", "chi1 of LEU 8", "omega of GLY 9"],
    ["chi1", "chi1", "omega"],
    ["threefold", "threefold", "conjugated"],
    np.arange(12).reshape(3, 4),
)


def angles(stuck=None):
    """(chains, draws, 3): the first torsion moves but in one chain, the others never do."""
    degrees = np.stack([np.where(RNG.random(WHITE.shape) < 0.4, 60, 180), np.full(WHITE.shape, -60), 0 * WHITE], -1)
    if stuck is not None:
        degrees[stuck, :, 0] = -60
    return np.radians(degrees + RNG.normal(scale=7, size=degrees.shape))


def healthy(**changed):
    health = {
        "acceptance": np.full(CHAINS, 0.8),
        "divergences": np.zeros(CHAINS, int),
        "irreversible": np.zeros(CHAINS, int),
        "e_bfmi": np.ones(CHAINS),
        "step_size": np.full(CHAINS, 0.001),
        "trajectories": DRAWS,
    }
    return SamplerHealth(**health | changed)


def test_all_is_well():
    found = assess({"energy": WHITE}, torsions=torsion_mixing(TORSIONS, angles()), health=healthy())
    assert found.grade == "trusted"
    assert found.findings == ()
    assert found.trusted == ("energy", "chi1 of LYS 33", "omega of GLY 9")
    assert found.sentence == "May be trusted: energy, 2 of 3 torsions, 1 torsion within one well."
    # What nobody saw is said all the same.
    assert "chi1 of LEU 8" in found.notes[0]
    assert "nothing is known of their other wells" in found.words()


def test_a_stuck_chain_is_named():
    quantities = {"energy": WHITE, "radius of gyration": WHITE[:, ::-1]}
    found = assess(quantities, torsions=torsion_mixing(TORSIONS, angles(stuck=2)), health=healthy())
    assert found.grade == "trusted in part"
    first = found.findings[0]
    assert first.subject == "chi1 of LYS 33"
    assert first.words.startswith("chi1 of LYS 33: R-hat 1.")
    assert first.words.endswith("its populations differ between chains: chain 2 never left gauche−")
    assert "energy, radius of gyration" in found.words()
    assert [row.trust for row in found.rows] == ["yes", "yes", "no", "local", "yes"]
    table = found.table().splitlines()
    assert len(table) == 6
    assert table[3].split()[-1] == "no"
    assert len(found.table(2).splitlines()) == 3
    json.dumps(found.statistics(), allow_nan=False)


def test_chains_that_visit_all_wells_unevenly_are_named():
    x = angles()
    x[1, :, 0] = np.radians(np.where(RNG.random(DRAWS) < 0.95, 60, 180))
    words = assess({"energy": WHITE}, torsions=torsion_mixing(TORSIONS, x)).findings[0].words
    assert "0.95 in chain 1" in words
    many = np.tile(angles(stuck=1), (3, 1, 1))
    many[:6, :, 0] = np.radians(-60)
    words = assess({}, torsions=torsion_mixing(TORSIONS, many)).findings[0].words
    assert "7 of 12 chains never left gauche−" in words


@pytest.mark.parametrize(
    ("health", "words"),
    [
        ({"acceptance": np.array([0.8, 0.05, 0.02, 0.8])}, "chain 2 accepts 2 % of its trajectories, and 1 more"),
        ({"acceptance": np.full(CHAINS, 0.3)}, "only 30 % of the trajectories"),
        ({"e_bfmi": np.array([1, 1, 0.2, np.nan])}, "E-BFMI 0.20 in chain 2"),
        ({"divergences": np.array([0, 0, 0, 300])}, "12 % of the trajectories diverged"),
        ({"irreversible": np.array([60, 0, 0, 0])}, "2 % of the trajectories could not be undone"),
    ],
)
def test_what_the_sampler_says(health, words):
    found = assess({"energy": WHITE}, health=healthy(**health))
    assert words in found.findings[0].words
    assert len(found.findings) == 1
    serious = found.findings[0].severity >= 1
    assert found.grade == ("not trusted" if serious else "trusted in part")
    assert serious == ("May be trusted: energy" not in found.words())


def test_the_worst_comes_first():
    apart = WHITE + np.arange(CHAINS)[:, None]
    little = WHITE + 0.25 * np.arange(CHAINS)[:, None]
    found = assess({"energy": WHITE, "nearly": little, "apart": apart}, health=healthy(divergences=np.full(4, 30)))
    assert found.grade == "not trusted"
    assert [finding.subject for finding in found.findings] == ["apart", "nearly", "sampler"]
    assert found.sentence.startswith("Do not trust: apart: R-hat 1.")
    assert found.sentence.endswith("; and 2 more.")
    assert "May be trusted: energy" in found.words()
    assert len(found.words(findings=1).splitlines()) < len(found.words().splitlines())


def test_too_short_alone_or_nothing():
    assert assess({"energy": WHITE[:, :10]}).grade == "too short to judge"
    alone = assess({"energy": WHITE[:1]})
    assert alone.grade == "trusted in part"
    assert "One chain" in alone.words()
    constant = assess({"energy": np.ones((2, 50))})
    assert (constant.grade, constant.rows[0].trust) == ("too short to judge", "unknown")
    frozen = assess({"energy": WHITE, "state": np.repeat(np.arange(4.0)[:, None], DRAWS, axis=1)})
    assert frozen.findings[0].words == "state: no chain changes it, and they differ"
    json.dumps(frozen.statistics(), allow_nan=False)
    with pytest.raises(ValueError, match="nothing to judge"):
        assess({})
    with pytest.raises(ValueError, match="same chains"):
        assess({"energy": WHITE[:2]}, torsions=torsion_mixing(TORSIONS, angles()))


def test_typical_set_of_a_gaussian():
    problem = Gaussian(n_atoms=12)
    x = problem.exact_draws(3000, seed=1)
    z = problem.whiten(x)
    potentials = 0.5 * problem.kT * (z**2).sum(axis=-1).reshape(6, 500)
    found = typical_set(
        problem.mode,
        0.0,
        x,
        potentials,
        masses=problem.masses,
        dimension=problem.dimension,
        temperature=300.0,
        posterior=problem.posterior,
    )
    assert found.expected == pytest.approx(0.5 * problem.dimension * problem.kT)
    assert abs(found.excess.mean() - found.expected) < 4 * found.excess_error
    assert found.excess_error == pytest.approx(found.expected_spread / np.sqrt(3000), rel=0.15)
    assert found.excess.std() == pytest.approx(found.expected_spread, rel=4 / np.sqrt(6000) * 1.5)
    np.testing.assert_allclose(found.whitened, np.linalg.norm(z, axis=-1), rtol=2e-4)
    # tr(M C)/Σm of the closed form; the radii are spread less than their mean.
    exact = np.sqrt(np.trace(problem.covariance * np.repeat(problem.masses, 3)) / problem.masses.sum())
    assert found.statistics()["radius_nm"] == pytest.approx(exact, rel=4 / np.sqrt(3000))
    assert f"(d/2) kT = {found.expected:.4g}" in found.words()
    assert "whitened" in found.words()
    json.dumps(found.statistics(), allow_nan=False)
    with pytest.raises(ValueError, match="do not fit"):
        typical_set(problem.mode, 0.0, x, potentials[0], masses=problem.masses, dimension=3, temperature=300.0)

"""Force matching: forces of the basis, closed forms, VOTCA's reference files, errors, and what data leave open."""

from pathlib import Path

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.fit import (
    AngleForce,
    BondForce,
    DihedralForce,
    ForceMatching,
    PairForce,
    SplineSpace,
    TripletForce,
    load_sums,
    map_frames,
    save_sums,
    solve_forces,
)
from jaxcg.mapping import LinearMap, aggregating_force_map

SPCE = Path(__file__).parent / "data" / "votca" / "spce"
BOX = 1.86206 * np.eye(3)
rng = np.random.default_rng


def test_splines_are_what_they_say():
    for space in (
        SplineSpace.uniform(0.2, 1.0, 8),
        SplineSpace(np.array([0.2, 0.3, 0.35, 0.6, 0.7]), "zero at the end"),
        SplineSpace.uniform(-np.pi, np.pi, 7, "periodic"),
    ):
        c = rng(0).normal(size=space.parameters)
        knots = space.knots[: len(space.values)]
        np.testing.assert_allclose(space.design(knots) @ c, space.values @ c, atol=1e-12)
        q = np.linspace(space.start, space.end, 41)[1:-1] + 1e-4
        slope = (space.design(q + 1e-6) - space.design(q - 1e-6)) @ c / 2e-6
        np.testing.assert_allclose(space.design(q, derivative=True) @ c, slope, rtol=1e-5, atol=1e-5)
        grown = (space.integral(c, q + 1e-6) - space.integral(c, q - 1e-6)) / 2e-6
        np.testing.assert_allclose(grown, space.design(q) @ c, rtol=1e-5, atol=1e-5)
        ends = np.array([space.start, space.end])
        beyond = space.design(ends + np.array([-0.1, 0.1])) @ c
        if space.boundary != "periodic":
            np.testing.assert_allclose(beyond, space.design(ends) @ c)
        else:
            np.testing.assert_allclose(space.integral(c, ends[1:]), 0.0, atol=1e-10)
    with pytest.raises(ValueError, match="ascending"):
        SplineSpace(np.array([0.1, 0.3, 0.2, 0.4]))


def energies(term, c, x):
    """U of a term from its coordinates alone, with nothing of the forces: pairs by brute force."""
    d = x[:, None] - x
    r = np.sqrt((d**2).sum(-1))
    if isinstance(term, PairForce):
        u = -term.space.integral(c, r[np.triu_indices(len(x), 1)]) + term.space.integral(c, np.array([term.space.end]))
        return u[r[np.triu_indices(len(x), 1)] < term.space.end].sum()
    if isinstance(term, BondForce):
        return -term.space.integral(c, r[term.beads[:, 0], term.beads[:, 1]]).sum()
    if isinstance(term, AngleForce):
        a, b, e = term.beads.T
        cosine = ((x[a] - x[b]) * (x[e] - x[b])).sum(-1) / r[a, b] / r[e, b]
        return -term.space.integral(c, np.arccos(cosine)).sum()
    if isinstance(term, DihedralForce):
        a, b, e, f = (x[k] for k in term.beads.T)
        m, n = np.cross(b - a, e - b), np.cross(e - b, f - e)
        sign = np.sign(((b - a) * n).sum(-1))
        angle = np.arccos((m * n).sum(-1) / np.linalg.norm(m, axis=1) / np.linalg.norm(n, axis=1))
        return -term.space.integral(c, sign * angle).sum()
    total = 0.0
    for i in range(len(x)):
        near = [j for j in range(len(x)) if j != i and r[i, j] < term.range_]
        for a in near:
            for b in near:
                if a < b:
                    cosine = (x[a] - x[i]) @ (x[b] - x[i]) / r[i, a] / r[i, b]
                    shell = np.exp(term.decay / (r[i, a] - term.range_) + term.decay / (r[i, b] - term.range_))
                    total += (term.space.design(np.array([np.arccos(cosine)])) @ c).item() * shell
    return total


@pytest.mark.parametrize(
    "term",
    [
        PairForce("pair", SplineSpace.uniform(0.1, 0.8, 6, "zero at the end")),
        BondForce("bond", SplineSpace.uniform(0.1, 0.9, 6), beads=np.array([[0, 1], [1, 2], [5, 3]])),
        AngleForce("angle", SplineSpace.uniform(0.1, 3.1, 6), beads=np.array([[0, 1, 2], [3, 5, 4]])),
        DihedralForce(
            "dihedral", SplineSpace.uniform(-np.pi, np.pi, 6, "periodic"), beads=np.array([[0, 1, 2, 3], [5, 3, 4, 0]])
        ),
        TripletForce("triplet", SplineSpace.uniform(0.1, 3.1, 6), range_=0.6, decay=0.1),
    ],
    ids=lambda term: term.name,
)
def test_forces_are_derivatives_of_the_energy(term):
    x = rng(1).uniform(0, 0.6, (6, 3))
    c = rng(2).normal(size=term.space.parameters)
    design, seen = term.design(x, None)
    forces = np.tensordot(c, design, 1)
    step = 1e-6
    wanted = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[index] = step
        wanted[index] = -(energies(term, c, x + moved) - energies(term, c, x - moved)) / (2 * step)
    np.testing.assert_allclose(forces, wanted, atol=2e-6 * np.abs(wanted).max())
    assert np.abs(wanted).max() > 0.1
    assert seen.sum() > 0


def test_votca_force_matching():
    """One frame of 216 SPC/E molecules: the same linear problem, so the same numbers."""
    beads = np.loadtxt(SPCE / "beads.txt")
    x, f = beads[None, :, :3], beads[None, :, 3:]
    pairs = ForceMatching([PairForce("CG-CG", SplineSpace.uniform(0.24, 0.5, 13))])
    fit = solve_forces(pairs, pairs.accumulate(x, f, BOX), smoothness=0.0)
    wanted = np.loadtxt(SPCE / "CG-CG.force.fmatch", usecols=(0, 1))
    found = fit.function("CG-CG", wanted[:, 0])[0]
    assert np.abs(found - wanted[:, 1]).max() < 1e-6 * np.abs(wanted[:, 1]).max()

    # Angles reach below the first knot, where VOTCA goes on with the cubic of the first interval.
    angles = SplineSpace(np.append(0.8513716217 + 0.062831854 * np.arange(36), 3.1415927), beyond="cubic")
    both = ForceMatching(
        [
            PairForce("CG-CG", SplineSpace.uniform(0.24, 1.2, 48), nearest=True),
            TripletForce("CG-CG-CG", angles, range_=0.37, decay=0.08),
        ]
    )
    fit = solve_forces(both, both.accumulate(x, f, BOX), smoothness=0.0)
    for name, file in (("CG-CG", "CG-CG.force.fmatch_3body"), ("CG-CG-CG", "CG-CG-CG.pot.fmatch_3body")):
        wanted = np.loadtxt(SPCE / file, usecols=(0, 1))
        found = fit.function(name, wanted[:, 0])[0]
        assert np.abs(found - wanted[:, 1]).max() < 1e-6 * np.abs(wanted[:, 1]).max()


@pytest.fixture(scope="module")
def chains():
    """Gaussian chains of three beads with forces that scatter about the mean force, as mapped forces do."""
    random, stiffness, kt, frames = rng(3), 800.0, 2.5, 400
    steps = random.normal(size=(frames, 20, 2, 3)) * np.sqrt(kt / stiffness)
    x = np.concatenate([np.zeros((frames, 20, 1, 3)), np.cumsum(steps, axis=2)], axis=2)
    x += 50.0 * np.arange(20)[:, None, None]
    pull = stiffness * steps
    f = np.concatenate([pull[:, :, :1], pull[:, :, 1:] - pull[:, :, :1], -pull[:, :, 1:]], axis=2)
    f = f + 60.0 * random.normal(size=f.shape)
    beads = np.arange(60).reshape(20, 3)
    bonds = np.concatenate([beads[:, :2], beads[:, 1:]])
    return x.reshape(frames, 60, 3), f.reshape(frames, 60, 3), bonds, stiffness


def test_gaussian_chain(chains):
    """The closed form U = k r²/2 within its error bars, and error bars that are neither too long nor too short."""
    x, f, bonds, stiffness = chains
    problem = ForceMatching([BondForce("bond", SplineSpace.uniform(0.02, 0.2, 9), beads=bonds)], 10)
    fit = solve_forces(problem, problem.accumulate(x, f), smoothness=0.0)
    r = np.linspace(0.03, 0.17, 15)
    force, error = fit.function("bond", r)
    score = (force + stiffness * r) / error
    assert np.abs(score).max() < 4
    assert 0.4 < np.sqrt(np.mean(score**2)) < 1.8
    slope = np.polyfit(r, force, 1, w=1 / error)[0]
    assert slope == pytest.approx(-stiffness, rel=0.02)
    # What is left is the scatter that was put in.
    assert fit.residual == pytest.approx(60.0, rel=0.02)
    # The posterior knows the noise too.
    posterior = np.sqrt(np.diag(fit.posterior))
    assert np.all(np.abs(np.log(np.sqrt(np.diag(fit.covariance)) / posterior))[1:-1] < 0.4)
    u, error = fit.potential("bond", np.array([0.05, 0.15]))
    assert u[1] - u[0] == pytest.approx(0.5 * stiffness * (0.15**2 - 0.05**2), abs=4 * np.hypot(*error))


def test_smoothness_by_cross_validation_helps_with_few_data(chains):
    x, f, bonds, stiffness = chains
    problem = ForceMatching([BondForce("bond", SplineSpace.uniform(0.02, 0.2, 36), beads=bonds)], 1)
    sums = problem.accumulate(x[:15], f[:15])
    chosen, plain = solve_forces(problem, sums), solve_forces(problem, sums, smoothness=0.0)
    r = np.linspace(0.03, 0.17, 50)
    errors = [np.sqrt(np.mean((fit.function("bond", r)[0] + stiffness * r) ** 2)) for fit in (chosen, plain)]
    assert chosen.smoothness > 1e-6
    assert errors[0] < 0.6 * errors[1]
    assert chosen.identifiability.effective < 0.5 * plain.identifiability.effective


def test_what_the_data_leave_open_is_said(chains):
    x, f, bonds, _ = chains
    far = PairForce("pair", SplineSpace.uniform(0.02, 0.2, 9), excluded=np.zeros((0, 2), int))
    bond = BondForce("bond", SplineSpace.uniform(0.02, 0.9, 22), beads=bonds)
    problem = ForceMatching([bond], 10)
    report = solve_forces(problem, problem.accumulate(x, f)).identifiability
    (name, start, end) = report.open[-1]
    assert name == "bond"
    assert 0.2 < start < 0.35
    assert end == pytest.approx(0.9)
    assert "bond: not determined from" in str(report)
    # Bonds that are pairs as well: the two can stand for each other.
    both = ForceMatching([BondForce("bond", far.space, beads=bonds), far], 10)
    couplings = solve_forces(both, both.accumulate(x[:40], f[:40]), smoothness=1e-6).identifiability.couplings
    assert couplings[0][:2] == ("bond", "pair")
    excluded = PairForce("pair", far.space, excluded=bonds)
    apart = ForceMatching([BondForce("bond", far.space, beads=bonds), excluded], 10)
    assert not solve_forces(apart, apart.accumulate(x[:40], f[:40]), smoothness=1e-6).identifiability.couplings


def test_types_and_tables():
    """Forces that lie in the space come back exactly, for two types apart; tables are their integrals, with a core."""
    space = SplineSpace.uniform(0.3, 0.9, 12, "zero at the end")
    first, second = np.arange(20), np.arange(20, 40)
    terms = [
        PairForce("A-A", space, first, first),
        PairForce("A-B", space, first, second),
        PairForce("B-B", space, second, second),
    ]
    problem = ForceMatching(terms, 1)
    box = 2.0 * np.eye(3)
    # Beads on a lattice, shaken: no pair is nearer than 0.3 nm.
    lattice = np.stack(np.meshgrid(*[np.arange(4) * 0.5] * 3), -1).reshape(-1, 3)
    wanted = rng(5).normal(size=3 * space.parameters) * 50
    frames, forces = [], []
    for seed in range(6):
        x = lattice[rng(seed).permutation(64)[:40]] + rng(seed).uniform(-0.055, 0.055, (40, 3))
        design = np.concatenate([term.design(x, box)[0] for term in terms])
        frames.append(x)
        forces.append(np.tensordot(wanted, design, 1))
    fit = solve_forces(problem, problem.accumulate(frames, forces, box), smoothness=0.0)
    sampled = fit.identifiability.resolution > 0.99
    assert sampled.sum() > 30
    np.testing.assert_allclose(fit.parameters[4:12], wanted[4:12], atol=1e-6)
    r, u, slope = fit.table("A-B", 0.005)
    assert u[-1] == 0
    right = np.isclose(np.gradient(u, r), slope, rtol=0.02, atol=2.0)
    # Differences see the kinks at the core and at the cutoff; nothing else.
    assert (~right[r > 0.1]).sum() <= 3
    assert (slope[: int(0.2 / 0.005)] < 0).all()
    assert u[0] > u[20] > u[40]
    with pytest.raises(ValueError, match="there is no term C"):
        fit.potential("C", r)


def test_sums_are_saved_and_go_on(tmp_path, chains):
    x, f, bonds, _ = chains
    problem = ForceMatching([BondForce("bond", SplineSpace.uniform(0.02, 0.2, 9), beads=bonds)], 7)
    whole = problem.accumulate(x[:30], f[:30])
    save_sums(tmp_path / "sums.npz", problem.accumulate(x[:17], f[:17]))
    resumed = problem.accumulate(x[17:30], f[17:30], sums=load_sums(tmp_path / "sums.npz", problem))
    for a, b in zip(vars(whole).values(), vars(resumed).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(whole.frames) == [7, 7, 7, 7, 2]
    other = ForceMatching([BondForce("bond", SplineSpace.uniform(0.02, 0.2, 8), beads=bonds)], 7)
    with pytest.raises(InputError, match="other terms"):
        load_sums(tmp_path / "sums.npz", other)
    (tmp_path / "bad.npz").write_text("nothing")
    with pytest.raises(InputError, match="not a readable file"):
        load_sums(tmp_path / "bad.npz", problem)


def test_bad_input_is_refused(chains):
    x, f, bonds, _ = chains
    problem = ForceMatching([BondForce("bond", SplineSpace.uniform(2.0, 3.0, 9), beads=bonds)])
    with pytest.raises(ValueError, match="no bond lies between 2 and 3"):
        solve_forces(problem, problem.accumulate(x[:3], f[:3]))
    with pytest.raises(ValueError, match="no frames"):
        solve_forces(problem, problem.init())
    broken = f[0].copy()
    broken[4, 1] = np.nan
    with pytest.raises(ValueError, match="frame 0: the force of bead 4"):
        problem.step(problem.init(), x[0], broken)
    with pytest.raises(ValueError, match=r"\(60, 3\) and forces \(59, 3\)"):
        problem.step(problem.init(), x[0], f[0, 1:])
    pairs = ForceMatching([PairForce("pair", SplineSpace.uniform(0.2, 1.0, 9))])
    with pytest.raises(ValueError, match="beyond half the box"):
        pairs.step(pairs.init(), x[0, :5], f[0, :5], BOX)
    with pytest.raises(ValueError, match="different names"):
        ForceMatching([*problem.terms, *problem.terms])


def test_forces_of_another_map_are_refused():
    first = LinearMap.from_weights([0, 0, 1, 1], [0, 1, 2, 3], [0.5, 0.5, 0.5, 0.5], n_beads=2, n_atoms=4)
    other = LinearMap.from_weights([0, 0, 1, 1], [0, 2, 1, 3], [0.5, 0.5, 0.5, 0.5], n_beads=2, n_atoms=4)
    x, f = rng(0).normal(size=(3, 4, 3)).astype(np.float32), rng(1).normal(size=(3, 4, 3)).astype(np.float32)
    beads, forces = map_frames(first, aggregating_force_map(first), x, f)
    np.testing.assert_allclose(beads[:, 0], x[:, :2].mean(axis=1), atol=1e-6)
    np.testing.assert_allclose(forces[:, 1], f[:, 2:].sum(axis=1), atol=1e-5)
    with pytest.raises(ValueError, match="does not belong to this mapping"):
        map_frames(first, aggregating_force_map(other), x, f)

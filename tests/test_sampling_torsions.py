import warnings

import jax
import jax.numpy as jnp
import numpy as np
import openmm
import openmm.app
import pytest
from proteins import FRAMES, protein

from jaxcg.run import AbstractKernel, run
from jaxcg.sampling import LangevinState, Torsions, find_torsions, torsion_mixing
from jaxcg.system import System

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import MDAnalysis
    from MDAnalysis.lib.distances import calc_dihedrals


@pytest.fixture(scope="module")
def villin():
    system, positions, _ = protein("villin")
    return system, positions, find_torsions(system)


def by_name(system, torsions):
    """(kind, residue) → names of the four atoms."""
    return {
        (kind, int(system.atom_residue[q[1]])): tuple(system.atom_names[a] for a in q)
        for kind, q in zip(torsions.kinds, torsions.atoms.tolist(), strict=True)
    }


def test_torsions_are_those_of_mdanalysis(villin):
    system, positions, torsions = villin
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        universe = MDAnalysis.Universe(str(FRAMES / "villin" / "aa.pdb"))
    residues = universe.select_atoms("protein").residues
    found, angles = by_name(system, torsions), torsions.along(positions)
    assert len(residues) == system.n_residues
    compared = 0
    for i, residue in enumerate(residues):
        for kind in ("phi", "psi", "omega", "chi1"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                group = getattr(residue, f"{kind}_selection")()
            if group is None or (kind == "chi1" and residue.resname == "PRO"):
                continue
            assert found[kind, i] == tuple(group.names)
            number = list(found).index((kind, i))
            angle = calc_dihedrals(*(group.positions[k] for k in range(4)))
            assert abs(np.angle(np.exp(1j * (angles[number] - angle)))) < 1e-4
            compared += 1
    assert compared > 3.5 * system.n_residues


def test_torsion_angles_are_those_of_openmm(villin):
    system, positions, torsions = villin
    platform = openmm.Platform.getPlatformByName("Reference")
    chosen = torsions.subset(range(0, len(torsions), 9))
    expected = []
    for quartet in chosen.atoms.tolist():
        model = openmm.System()
        for _ in range(system.n_atoms):
            model.addParticle(1.0)
        force = openmm.CustomTorsionForce("theta")
        force.addTorsion(*quartet, [])
        model.addForce(force)
        context = openmm.Context(model, openmm.VerletIntegrator(0.001), platform)
        context.setPositions(positions)
        expected.append(context.getState(getEnergy=True).getPotentialEnergy()._value)
    with jax.enable_x64(True):
        np.testing.assert_allclose(chosen.along(positions), expected, atol=1e-9)


def test_side_chains_go_as_far_as_they_rotate(villin):
    system, _, torsions = villin
    found = by_name(system, torsions)
    longest = {}
    for (kind, residue), names in found.items():
        if kind.startswith("chi"):
            longest.setdefault(system.residue_names[residue], {})[int(kind[3])] = names[-1]
    ends = {name: [chis[k] for k in sorted(chis)] for name, chis in longest.items()}
    assert ends["LYS"] == ["CG", "CD", "CE", "NZ"]
    assert ends["ARG"] == ["CG", "CD", "NE", "CZ", "NH1"]
    assert ends["PHE"] == ["CG", "CD1"]
    assert ends["GLN"] == ["CG", "CD", "OE1"]
    assert ends["MET"] == ["CG", "SD", "CE"]
    assert ends["ASP"] == ["CG", "OD1"]
    assert ends["VAL"] == ["CG1"]
    assert "GLY" not in ends
    assert "ALA" not in ends
    wells = dict(zip(torsions.names, torsions.wells, strict=True))
    kinds = {name.split(" of ")[0] + name.split(" of ")[1][:3]: well for name, well in wells.items()}
    assert (kinds["chi1LYS"], kinds["chi2PHE"], kinds["chi3GLN"]) == ("threefold", "sided", "planar")
    assert (kinds["chi5ARG"], kinds["chi1PRO"], kinds["omegaALA"]) == ("conjugated", "sided", "conjugated")
    assert any(name.startswith("chi1 of LYS ") for name in torsions.names)


def butanol():
    """CH3-CH2-CH2-CH2-OH and a benzene ring on its first carbon: (C0 … C3, O4, ring 5 … 10, hydrogens)."""
    heavy = ["C"] * 4 + ["O"] + ["C"] * 6
    bonds = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 10), (10, 5)]
    carriers = [0, 0, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10]
    bonds += [(carrier, len(heavy) + k) for k, carrier in enumerate(carriers)]
    elements = heavy + ["H"] * len(carriers)
    n = len(elements)
    return System(
        masses=np.ones(n),
        elements=elements,
        atom_names=[f"{e}{k}" for k, e in enumerate(elements)],
        atom_residue=np.zeros(n, int),
        residue_names=["LIG"],
        residue_ids=["1"],
        chain_ids=["A"],
        bonds=bonds,
    )


def test_rotatable_bonds_of_what_is_no_protein():
    system = butanol()
    torsions = find_torsions(system)
    bonds = [tuple(q[1:3]) for q in torsions.atoms.tolist()]
    assert sorted(bonds) == [(0, 1), (0, 5), (1, 2), (2, 3)]  # no ring bond, no hydroxyl rotor
    assert dict(zip(bonds, torsions.wells, strict=True)) == {
        (0, 1): "threefold",
        (1, 2): "threefold",
        (2, 3): "threefold",
        (0, 5): "sided",
    }
    assert "C0-C1-C2-C3 of LIG 1" in torsions.names
    rotors = find_torsions(system, hydrogens=True)
    assert len(rotors) == 5
    assert next(q for q in rotors.atoms.tolist() if q[1:3] == [3, 4])[0] == 2
    own = Torsions.of_atoms(system, [[0, 1, 2, 3]], ["my torsion"])
    assert own.names == ("my torsion",)
    assert own.wells == ("threefold",)
    with pytest.raises(ValueError, match="between 0"):
        Torsions.of_atoms(system, [[0, 1, 2, 99]])
    with pytest.raises(ValueError, match="four different"):
        Torsions.of_atoms(system, [[0, 1, 2, 0]])
    with pytest.raises(ValueError, match="not known"):
        Torsions(["a"], ["a"], ["fourfold"], [[0, 1, 2, 3]])


def test_angles_of_many_configurations(villin):
    system, positions, torsions = villin
    del system
    few = torsions.only("phi", "chi1").subset(range(7))
    assert set(few.kinds) <= {"phi", "chi1"}
    x = positions + np.random.default_rng(0).normal(scale=0.01, size=(300, *positions.shape))
    x = x.astype(np.float32).reshape(3, 100, *positions.shape)
    angles = few.along(x)
    assert angles.shape == (3, 100, 7)
    for chain, draw in ((0, 0), (1, 99), (2, 99)):
        np.testing.assert_allclose(angles[chain, draw], few(x[chain, draw]), atol=1e-5)
    assert few.along(x[:0]).shape == (0, 100, 7)


class Still(AbstractKernel):
    """Chains that stay where they are."""

    def init(self, key, position):
        return LangevinState(position, 0 * position, jnp.zeros((), jnp.int32))

    def step(self, key, state):
        return state, LangevinState(jnp.zeros(()), jnp.zeros(()), state.count)


def test_angles_are_observed_on_the_way(villin):
    _, positions, torsions = villin
    few = torsions.only("chi1")
    x = jnp.asarray(np.stack([positions, positions[:, ::-1]]), jnp.float32)
    kernel, key = Still(), jax.random.key(0)
    seen = run(kernel, kernel.init(key, x), key, 4, every=2, observe=few.observed, chunk=2).observations
    assert seen.shape == (2, 2, len(few))
    np.testing.assert_allclose(seen[1], few.along(np.asarray(x)), atol=1e-6)


THREE = Torsions(["chi1 of LYS 33"], ["chi1"], ["threefold"], [[0, 1, 2, 3]])


def test_populations_and_their_errors():
    rng = np.random.default_rng(0)
    wells = rng.choice([-60, 60, 180], p=[0.2, 0.3, 0.5], size=(4, 2000))
    angles = np.radians(wells + rng.normal(scale=8, size=wells.shape))
    found = torsion_mixing(THREE, np.angle(np.exp(1j * angles))[..., None])
    assert found.wells(0) == ("gauche−", "gauche+", "trans")
    p, error = found.populations[0], found.population_errors[0]
    np.testing.assert_allclose(error, np.sqrt(p * (1 - p) / 8000), rtol=0.1)
    assert np.all(np.abs(p - [0.2, 0.3, 0.5]) < 4 * error)
    # Independent draws change well with probability 1 − Σ p².
    changes = found.transitions.sum() / (4 * 1999)
    assert changes == pytest.approx(1 - (0.04 + 0.09 + 0.25), abs=0.03)
    assert found.r_hat[0] < 1.01
    assert not found.unmoved()[0]


def test_stuck_chains_are_as_good_as_one_draw_each():
    wells = np.array([-60, 60, 60, 60])
    angles = np.radians(wells[:, None, None] + np.random.default_rng(0).normal(scale=5, size=(4, 400, 1)))
    found = torsion_mixing(THREE, angles)
    np.testing.assert_allclose(found.populations[0], [0.25, 0.75, 0])
    assert found.population_errors[0, 0] == pytest.approx(np.sqrt(0.25 * 0.75 / 4), rel=0.1)
    assert np.isnan(found.population_errors[0, 2])
    assert found.transitions.sum() == 0
    assert not found.unmoved()[0]
    assert found.r_hat[0] > 1.4
    assert torsion_mixing(THREE, angles[1:]).unmoved()[0]


def test_what_turns_back_at_a_border_has_not_left():
    touching = np.radians([60.0, 119, 121, 119, 125, 100, 60, 121, 180, 121, 119, 180, 119, 60])
    found = torsion_mixing(THREE, touching[None, :, None])
    assert found.transitions[0, 0] == 2  # to trans at 180°, back at 60°
    assert found.chain_populations[0, 0] == pytest.approx([0, 8 / 14, 6 / 14])
    around = np.radians([170.0, -170, 175, -175, 179])
    assert torsion_mixing(THREE, around[None, :, None]).transitions[0, 0] == 0
    with pytest.raises(ValueError, match="expected"):
        torsion_mixing(THREE, np.zeros((2, 10, 3)))


def test_oxygens_of_a_carboxylate_are_alike(villin):
    _, _, torsions = villin
    twofold = {n for n, wells in zip(torsions.names, torsions.wells, strict=True) if wells == "twofold"}
    assert {"chi3 of GLU 4", "chi2 of ASP 3"} <= twofold
    assert any("35" in name for name in twofold)  # the end of the chain
    one = Torsions(["chi3"], ["chi3"], ["twofold"], [[0, 1, 2, 3]])
    angles = np.random.default_rng(0).normal(0.4, 0.1, (4, 200, 1))
    # Two chains have turned by half a turn: nothing is different.
    mixing = torsion_mixing(one, angles + np.pi * (np.arange(4) // 2)[:, None, None])
    assert mixing.r_hat[0] < 1.02
    assert mixing.mean[0] == pytest.approx(0.4, abs=0.02)
    assert mixing.sd[0] == pytest.approx(0.1, rel=0.1)
    assert mixing.wells(0) == ("in plane", "across")
    assert mixing.populations[0, 0] > 0.99

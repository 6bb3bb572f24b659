"""Problem files: what goes in comes out, without the packages that made it, and nothing else is let in."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.io import build_molecule, load_problem, save_problem
from jaxcg.io.problem import load_tree, save_tree
from jaxcg.posterior import Posterior

VILLIN = Path(__file__).parent / "data" / "frames" / "villin" / "cg_crystal.pdb"


@pytest.fixture(scope="module")
def problem(tmp_path_factory):
    molecule = build_molecule(VILLIN)
    posterior = Posterior(molecule.energy, molecule.mapping, molecule.y.astype(np.float32), noise=0.03)
    path = tmp_path_factory.mktemp("problem") / "villin.npz"
    save_problem(path, posterior, molecule.system, seed=7, labels=molecule.bead_labels, nothing=None)
    return molecule, posterior, path


def test_round_trip(problem):
    molecule, posterior, path = problem
    loaded = load_problem(path)
    assert jax.tree.structure(loaded["posterior"]) == jax.tree.structure(posterior)
    for ours, theirs in zip(jax.tree.leaves(posterior), jax.tree.leaves(loaded["posterior"])):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    for name in ("atom_names", "residue_ids", "elements"):
        assert getattr(loaded["system"], name) == getattr(molecule.system, name)
    np.testing.assert_array_equal(loaded["system"].bonds, molecule.system.bonds)
    assert loaded["seed"] == 7
    assert loaded["labels"] == molecule.bead_labels
    assert loaded["nothing"] is None


def test_it_computes_the_same(problem):
    molecule, posterior, path = problem
    x = jnp.asarray(np.random.default_rng(0).normal(size=(molecule.system.n_atoms, 3)), jnp.float32)
    assert load_problem(path)["posterior"].restraint(x) == posterior.restraint(x)
    bonds, loaded = posterior.energy.terms()[0], load_problem(path)["posterior"].energy.terms()[0]
    assert loaded(x) == bonds(x)


def test_it_loads_without_the_packages_that_made_it(problem):
    _, _, path = problem
    code = (
        "import sys\n"
        "for name in ('openmm', 'MDAnalysis', 'vermouth', 'biotite', 'matplotlib'): sys.modules[name] = None\n"
        "from jaxcg.io import load_problem\n"
        f"p = load_problem({str(path)!r})\n"
        "print(p['posterior'].mapping.n_beads)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "88"


def test_trees_of_every_kind(tmp_path):
    tree = {
        "a": (1, 2.5, float("inf"), True, "text", None, 10**30, 1e-300, 2 + 3j),
        "b": [np.arange(3, dtype=np.int8), np.array(2.0), np.float32(3.5), jnp.ones((2, 1), jnp.float32)],
        "c": {"deep": ((), [], {})},
        "strings": np.array(["x", "yy"]),
        "double": np.array([1.0 + 1e-16 + 1e-9]),
    }
    save_tree(tmp_path / "t.npz", tree)
    read = load_tree(tmp_path / "t.npz")
    assert read["a"] == tree["a"]
    assert [type(value) for value in read["a"]] == [type(value) for value in tree["a"]]
    assert read["c"] == tree["c"]
    assert read["b"][0].dtype == np.int8
    assert isinstance(read["b"][3], jax.Array)
    assert not isinstance(read["double"], jax.Array)
    assert read["double"].dtype == np.float64
    assert read["double"][0] == tree["double"][0]
    assert list(read["strings"]) == ["x", "yy"]


def test_shared_arrays_are_written_once(tmp_path):
    array = np.random.default_rng(0).normal(size=100_000)
    save_tree(tmp_path / "once.npz", [array])
    save_tree(tmp_path / "thrice.npz", [array, array, array])
    once, thrice = ((tmp_path / f"{name}.npz").stat().st_size for name in ("once", "thrice"))
    assert thrice < 1.01 * once
    read = load_tree(tmp_path / "thrice.npz")
    np.testing.assert_array_equal(read[2], array)


@pytest.mark.parametrize("value", [object(), lambda: 0, {1: 2}, np.array([object()]), {"deep": [Path("x")]}])
def test_other_things_are_refused(tmp_path, value):
    with pytest.raises(TypeError, match="value"):
        save_tree(tmp_path / "t.npz", value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "jaxcg.io.problem:os", "jaxcg.io.problem:save_tree"])
def test_no_other_class_is_called(tmp_path, name):
    header = {"format": "jaxcg problem", "version": 1, "tree": {"class": name, "fields": {}}}
    np.savez(tmp_path / "t.npz", header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    with pytest.raises(InputError, match="damaged, or from another version"):
        load_tree(tmp_path / "t.npz")


def test_bad_files(tmp_path, problem):
    _, _, path = problem
    with pytest.raises(InputError, match="no such file"):
        load_problem(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="not a jaxcg problem"):
        load_problem(tmp_path / "text.npz")
    np.savez(tmp_path / "foreign.npz", a=np.ones(3))
    with pytest.raises(InputError, match="not a jaxcg problem"):
        load_problem(tmp_path / "foreign.npz")
    (tmp_path / "cut.npz").write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError, match="not a jaxcg problem file, or damaged"):
        load_problem(tmp_path / "cut.npz")
    header = {"format": "jaxcg problem", "version": 99, "tree": None}
    np.savez(tmp_path / "new.npz", header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    with pytest.raises(InputError, match="format 99"):
        load_problem(tmp_path / "new.npz")
    save_tree(tmp_path / "other.npz", [1])
    with pytest.raises(InputError, match="holds no jaxcg problem"):
        load_problem(tmp_path / "other.npz")

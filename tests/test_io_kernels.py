"""Kernels and profiles as files: every bit comes back, and a bad file is named."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.dynamics import DeltaKernel, PassiveKernel, PronyKernel, SumKernel, TabulatedKernel
from jaxcg.dynamics.kernels.spectral_densities import DrudeLorentz
from jaxcg.energy.coordinate import SplinePotential
from jaxcg.errors import InputError
from jaxcg.io.dynamics.kernels import read_energy, read_kernel, read_table, write_energy, write_kernel


def rng_array(*shape, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def every_kernel(dtype):
    def a(*shape, seed):
        return rng_array(*shape, seed=seed, dtype=dtype)

    passive = PassiveKernel(a(3, seed=1), a(3, 3, seed=2), a(3, 2, seed=3))
    matrix = PassiveKernel(a(3, 2, seed=1), a(3, 3, seed=2), a(3, 2, seed=3))
    return {
        "prony": PronyKernel(jnp.exp(a(4, seed=4)), jnp.exp(a(4, seed=5))),
        "delta": DeltaKernel(jnp.exp(a(seed=6))),
        "delta matrix": DeltaKernel(jnp.eye(2, dtype=dtype) / 3),
        "passive": passive,
        "passive matrix": matrix,
        "table": TabulatedKernel(a(7, seed=7), dtype(0.1)),
        "table matrix": TabulatedKernel(a(5, 2, 2, seed=7), dtype(0.1)),
        "sum": SumKernel(passive, DeltaKernel(a(seed=8)), SumKernel(PronyKernel(a(1, seed=9), dtype([1 / 3])))),
    }


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("name", every_kernel(np.float32))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_kernel_comes_back_to_the_last_bit(tmp_path, x64, name, dtype):
    kernel = every_kernel(dtype)[name]
    write_kernel(tmp_path / "kernel.json", kernel, about={"temperature": 300.0})
    same(read_kernel(tmp_path / "kernel.json"), kernel)
    assert jax.tree.leaves(read_kernel(tmp_path / "kernel.json", dtype=np.float32))[0].dtype == np.float32


def test_the_file_names_its_units(tmp_path):
    write_kernel(tmp_path / "kernel.json", PronyKernel([2.0], [1.0]))
    content = json.loads((tmp_path / "kernel.json").read_text())
    assert content["kernel"]["units"] == {"strengths": "amu/ps^2", "rates": "1/ps"}
    assert content["version"] == 1


def test_a_profile_comes_back_to_the_last_bit(tmp_path, x64):
    x = np.linspace(-0.31, 0.77, 23)
    energy = SplinePotential(x, np.cos(5 * x), least_curvature=1 / 3)
    write_energy(tmp_path / "u.json", energy)
    same(read_energy(tmp_path / "u.json"), energy)
    write_energy(tmp_path / "u.dat", energy)
    again = read_energy(tmp_path / "u.dat")
    at = jnp.linspace(-0.3, 0.76, 50)
    np.testing.assert_allclose(again.profile(at), energy.profile(at), rtol=0, atol=1e-13)
    assert read_energy(tmp_path / "u.dat", dtype=np.float32).coefficients.dtype == np.float32


def test_a_table_of_a_kernel(tmp_path, x64):
    (tmp_path / "k.xvg").write_text("# t K\n@ title\n0 2.0\n0.1, 1.5\n0.2 1.0  # comment\n\n")
    kernel = read_kernel(tmp_path / "k.xvg")
    same(kernel, TabulatedKernel(np.array([2.0, 1.5, 1.0]), np.float64(0.1)))


BAD_JSON = {
    "not JSON": ("{", "line 1: not JSON"),
    "a list": ("[]", "names no format"),
    "other format": ('{"format": "x"}', "it says 'x'"),
    "newer": ('{"format": "jaxcg memory kernel", "version": 9}', "of version 9; this program reads up to 1"),
    "no kernel": ('{"format": "jaxcg memory kernel", "version": 1}', "lacks 'kernel'"),
    "no kind": ({}, "'kernel' must hold a 'kind': one of prony, delta, passive, table, sum"),
    "kind": ({"kind": "pony"}, "is of kind 'pony'; known are prony, delta"),
    "missing": ({"kind": "prony", "strengths": [1]}, "'kernel' of kind 'prony' lacks 'rates'"),
    "ragged": ({"kind": "prony", "strengths": [1], "rates": [[1], [1, 2]]}, "'kernel.rates' must be a number or"),
    "nan": ({"kind": "delta", "friction": float("nan")}, "'kernel.friction' holds numbers that are not finite"),
    "rate": ({"kind": "prony", "strengths": [1], "rates": [-1]}, "rate -1 is not positive"),
    "precision": ({"kind": "delta", "friction": 1, "precision": "half"}, "precision 'half' is not known"),
    "parts": ({"kind": "sum", "parts": []}, "'kernel.parts' must be a list of kernels"),
    "part": ({"kind": "sum", "parts": [{"kind": "delta"}]}, "'kernel.parts[0]' of kind 'delta' lacks 'friction'"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_bad_json_is_named(tmp_path, name):
    content, message = BAD_JSON[name]
    path = tmp_path / "kernel.json"
    if isinstance(content, dict):
        content = json.dumps({"format": "jaxcg memory kernel", "version": 1, "kernel": content})
    path.write_text(content)
    with pytest.raises(InputError) as raised:
        read_kernel(path)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n0.1 nan\n", "line 2: expected two finite numbers, t (ps) and Γ (amu/ps²), not '0.1 nan'"),
        ("0 1 2\n", "line 1: expected two finite numbers"),
        ("0 1\n", "holds 1 rows"),
        ("0.1 1\n0.2 2\n", "must begin at 0 ps, not 0.1"),
        ("0 1\n0.1 2\n0.3 4\n", "the times must ascend in equal steps; number 2 is 0.1 ps where 0.15 is expected"),
    ],
)
def test_bad_tables_are_named(tmp_path, text, message):
    path = tmp_path / "kernel.dat"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        read_kernel(path)
    assert message in str(raised.value)


def test_other_bad_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_kernel(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path, "x and y")
    (tmp_path / "u.json").write_text('{"format": "jaxcg energy", "version": 1, "energy": {"kind": "x"}}')
    with pytest.raises(InputError, match="no known kind"):
        read_energy(tmp_path / "u.json")
    (tmp_path / "u.dat").write_text("0 1\n0.333 2\n0.667 3\n1 4\n")
    assert float(read_energy(tmp_path / "u.dat").spacing) == pytest.approx(1 / 3)
    (tmp_path / "u.dat").write_text("0 1\n1 2\n2 3\n")
    with pytest.raises(InputError, match="four or more positions"):
        read_energy(tmp_path / "u.dat")
    tree = {"kind": "spline", "start": 0, "spacing": 1, "values": [0, 1, 2, 3], "coefficients": [[1, 2]]}
    (tmp_path / "u.json").write_text(json.dumps({"format": "jaxcg energy", "version": 1, "energy": tree}))
    with pytest.raises(InputError, match="coefficients"):
        read_energy(tmp_path / "u.json")


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="DrudeLorentz cannot be written"):
        write_kernel(tmp_path / "k.json", DrudeLorentz(1.0, 1.0))
    with pytest.raises(ValueError, match="friction of the delta kernel"):
        write_kernel(tmp_path / "k.json", DeltaKernel(jnp.nan))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_kernel(tmp_path / "file" / "k.json", DeltaKernel(1.0))

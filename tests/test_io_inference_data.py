import builtins
import importlib.metadata
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from jaxcg.errors import InputError
from jaxcg.io.inference_data import to_inference_data
from jaxcg.sampling import HMCInfo, LangevinInfo, Torsions, energy_fraction, rank_normalised_r_hat, torsion_mixing

CHAINS, DRAWS = 3, 40
RNG = np.random.default_rng(0)
ENERGY = RNG.normal(size=(CHAINS, DRAWS)).cumsum(axis=1)
ANGLES = RNG.uniform(-3, 3, size=(CHAINS, DRAWS, 2))
TORSIONS = Torsions(["chi1 of LYS 33", "phi of ALA 2"], ["chi1", "phi"], ["threefold", "phi"], [range(4), range(1, 5)])
INFOS = HMCInfo(**{name: RNG.random((DRAWS, CHAINS)) for name in HMCInfo._fields})


def export(**more):
    settings = {"torsions": TORSIONS, "angles": ANGLES, "infos": INFOS, "attributes": {"temperature": 300.0}}
    return to_inference_data(
        {"energy": ENERGY, "positions": np.zeros((CHAINS, DRAWS, 5, 3))},
        dimensions={"positions": ("atom", "xyz")},
        **settings | more,
    )


def test_arviz_reads_what_we_write(tmp_path):
    arviz = pytest.importorskip("arviz")
    data = export()
    assert data.posterior["positions"].dims == ("chain", "draw", "atom", "xyz")
    assert data.posterior.attrs["temperature"] == 300.0
    assert data.posterior.attrs["inference_library"] == "jaxcg"
    chi = data.posterior["torsion"].sel(torsion_name="chi1 of LYS 33")
    np.testing.assert_array_equal(chi.values, ANGLES[..., 0])
    stats = data.sample_stats
    for name in ("acceptance_rate", "diverging", "energy", "step_size", "n_steps", "irreversible"):
        assert stats[name].dims == ("chain", "draw")
    np.testing.assert_array_equal(stats["energy"].values, INFOS.total_energy.T)
    # ArviZ's own figures of what it was given are ours.
    np.testing.assert_allclose(arviz.bfmi(data), energy_fraction(INFOS.total_energy.T))
    r_hat = arviz.rhat(data, var_names=["energy"])["energy"].item()
    assert r_hat == pytest.approx(rank_normalised_r_hat(ENERGY))
    raw = max(rank_normalised_r_hat(f(ANGLES[..., 0])) for f in (np.cos, np.sin))
    assert torsion_mixing(TORSIONS, ANGLES).r_hat[0] == pytest.approx(raw)
    data.to_netcdf(str(tmp_path / "samples.nc"))
    again = arviz.from_netcdf(str(tmp_path / "samples.nc"))
    np.testing.assert_array_equal(again.posterior["energy"].values, ENERGY)


def _versions(monkeypatch, **installed):
    real = importlib.metadata.version

    def version(name):
        if name not in ("arviz", "arviz-base"):
            return real(name)
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)


@pytest.mark.parametrize("installed", [{"arviz": "1.0.0", "arviz-base": "1.0.0"}, {"arviz-base": "0.8.2"}])
def test_newer_arviz_gets_nested_groups(monkeypatch, installed):
    _versions(monkeypatch, **installed)
    # What its `from_dict` takes: groups in one dictionary, attributes by group.
    seen = SimpleNamespace(from_dict=lambda data, *, coords, dims, attrs: (data, coords, dims, attrs))
    monkeypatch.setitem(sys.modules, "arviz_base", seen)
    data, coords, dims, attrs = export()
    assert set(data) == {"posterior", "sample_stats"}
    assert coords == {"torsion_name": list(TORSIONS.names)}
    assert dims == {"positions": ["atom", "xyz"], "torsion": ["torsion_name"]}
    assert attrs["posterior"]["temperature"] == 300.0


def test_without_arviz(monkeypatch):
    _versions(monkeypatch)

    def absent(name, *arguments, **more):
        assert not name.startswith("arviz")
        return real(name, *arguments, **more)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(InputError, match=r"pip install jaxcg\[arviz\]"):
        export()


def test_infos_with_fewer_fields_give_what_they_have():
    pytest.importorskip("arviz")
    infos = LangevinInfo(*(RNG.random((DRAWS, CHAINS)) for _ in LangevinInfo._fields))
    assert set(export(infos=infos).sample_stats.data_vars) == {"potential", "step_size", "irreversible"}


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="belong together"):
        export(angles=None)
    with pytest.raises(ValueError, match="same draws"):
        export(angles=ANGLES[:, 1:])
    with pytest.raises(ValueError, match="same draws"):
        to_inference_data({"energy": ENERGY[0]})

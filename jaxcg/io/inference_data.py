"""Samples as ArviZ ``InferenceData``: the plots and diagnostics of that package for everyone who knows them."""

from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import Any

import numpy as np

from ..errors import InputError
from ..sampling.diagnostics.torsions import Torsions

#: Our names of what a trajectory tells → those of the InferenceData schema.
_SAMPLE_STATS = {
    "acceptance": "acceptance_rate",
    "divergent": "diverging",
    "total_energy": "energy",
    "energy_error": "energy_error",
    "step_size": "step_size",
    "steps": "n_steps",
    "potential": "potential",
    "irreversible": "irreversible",
}


def to_inference_data(
    quantities: Mapping[str, np.ndarray],
    *,
    torsions: Torsions | None = None,
    angles: np.ndarray | None = None,
    infos: Any = None,
    dimensions: Mapping[str, Sequence[str]] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Any:
    """Samples and what the sampler said of them, as ArviZ has them.

    With ArviZ 0.x the result is an ``InferenceData``; with ArviZ 1.x, or its part ``arviz-base`` alone, it is an
    ``xarray.DataTree`` of the same groups. Either writes itself to NetCDF (``to_netcdf``).

    Arguments:
        quantities: (chains, draws, ...) of every observable by name, e.g. energy (kJ/mol) or positions (nm); they form
            the group ``posterior``.
        torsions, angles: named torsions and their angles (chains, draws, torsions) in radians, put into ``posterior``
            as ``torsion`` with the names as coordinate.
        infos: of the trajectories the draws are from, `HMCInfo` or another NamedTuple with some of its fields, leaves
            (draws, chains) as `jaxcg.run.run` returns them, thinned like the draws: the group ``sample_stats``. Its
            ``energy`` is the total energy of each trajectory, kJ/mol, from which ArviZ makes E-BFMI.
        dimensions: names of the axes of a quantity after chains and draws, e.g. ``{"positions": ("atom", "xyz")}``.
        attributes: of the run (temperature, names of files, settings), kept with the posterior.

    Returns:
        The ``InferenceData`` or ``DataTree``.

    Raises:
        InputError: ArviZ is not installed.
        ValueError: the numbers of chains or draws differ.
    """
    posterior = {name: np.asarray(values) for name, values in quantities.items()}
    coordinates, axes = {}, {name: list(names) for name, names in (dimensions or {}).items()}
    if (torsions is None) != (angles is None):
        raise ValueError("to_inference_data: torsions and angles belong together; give both or neither.")
    if torsions is not None:
        posterior["torsion"] = np.asarray(angles)
        coordinates["torsion_name"] = list(torsions.names)
        axes["torsion"] = ["torsion_name"]
    groups = {"posterior": posterior}
    if infos is not None:
        told = infos._asdict()
        groups["sample_stats"] = {
            theirs: np.asarray(told[ours]).T for ours, theirs in _SAMPLE_STATS.items() if ours in told
        }
    _check(groups)
    attributes = {"inference_library": "jaxcg", **(attributes or {})}
    if _major("arviz") == 0:
        make = import_module("arviz").from_dict
        return make(**groups, coords=coordinates, dims=axes, posterior_attrs=attributes)
    if _major("arviz-base") is None:
        raise InputError("ArviZ is not installed, which the export needs: pip install jaxcg[arviz]")
    make = import_module("arviz_base").from_dict
    return make(groups, coords=coordinates, dims=axes, attrs={"posterior": attributes})


def _major(package: str) -> int | None:
    """First number of the version of an installed package, None if it is not there."""
    try:
        return int(metadata.version(package).split(".")[0])
    except metadata.PackageNotFoundError:
        return None


def _check(groups: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    shapes = {name: values.shape for group in groups.values() for name, values in group.items()}
    if any(len(shape) < 2 for shape in shapes.values()) or len({shape[:2] for shape in shapes.values()}) > 1:
        raise ValueError(f"to_inference_data: everything must be (chains, draws, ...) of the same draws, got {shapes}.")

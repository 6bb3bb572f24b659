"""Memory kernels and free-energy profiles as files: JSON that keeps every digit, or text tables of two columns."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np

from ...dynamics.kernels.forms import (
    AbstractMemoryKernel,
    DeltaKernel,
    PassiveKernel,
    PronyKernel,
    SumKernel,
    TabulatedKernel,
)
from ...energy._arrays import leaf
from ...energy.coordinate import SplinePotential
from ...errors import InputError
from ..writers import write_text

#: Version of the JSON files written here; files of a newer one are refused.
FORMAT_VERSION = 1
_KERNEL, _ENERGY = "jaxcg memory kernel", "jaxcg energy"
_SPLINE = "spline"
#: Name in the file, class, and of each argument its name and unit, in the order of the constructor.
_KINDS: dict[str, tuple[type[AbstractMemoryKernel], dict[str, str]]] = {
    "prony": (PronyKernel, {"strengths": "amu/ps^2", "rates": "1/ps"}),
    "delta": (DeltaKernel, {"friction": "amu/ps"}),
    "passive": (PassiveKernel, {"couplings": "amu^(1/2)/ps", "skew": "1/ps", "damping": "ps^(-1/2)"}),
    "table": (TabulatedKernel, {"values": "amu/ps^2", "spacing": "ps"}),
}


def write_kernel(path: str | os.PathLike, kernel: AbstractMemoryKernel, *, about: Mapping | None = None) -> None:
    """Writes a memory kernel as JSON, with its units; `read_kernel` gives back the same numbers to the last bit.

    Arguments:
        path: file to write.
        kernel: a Prony, delta, passive or tabulated kernel, or a sum of them.
        about: more to note in the file (where the kernel comes from, its temperature, ...); readers pass over it.

    Raises:
        ValueError: the kernel is of another class, or holds numbers that are not finite.
    """
    content = {"format": _KERNEL, "version": FORMAT_VERSION, "kernel": _kernel_tree(kernel)}
    _write(path, content, about)


def read_kernel(path: str | os.PathLike, *, dtype=None) -> AbstractMemoryKernel:
    """A memory kernel from a JSON file of `write_kernel` or, with any other ending, a text table of t (ps) and Γ.

    A table has two columns, t in ps from zero in equal steps and Γ in amu/ps², and gives a `TabulatedKernel`.

    Arguments:
        path: the file; JSON if it ends with ``.json``.
        dtype: of the kernel's numbers; that of the file (float64 for a table) when None.

    Raises:
        InputError: the file cannot be read or does not hold a kernel.
    """
    if Path(path).suffix.lower() == ".json":
        return _guarded(path, lambda: _kernel_of(path, _open(path, _KERNEL)["kernel"], dtype, "kernel"))
    t, values = read_table(path, "t (ps) and Γ (amu/ps²)")
    if t[0] != 0:
        raise InputError(f"{path}: the times of a kernel must begin at 0 ps, not {t[0]:g}.")
    spacing = _equal_spacing(path, t, "times", "ps")
    return _guarded(path, lambda: TabulatedKernel(leaf(values, dtype), leaf(spacing, dtype)))


def write_energy(path: str | os.PathLike, energy: SplinePotential, *, about: Mapping | None = None) -> None:
    """Writes a free-energy profile: as JSON, or as a table of x (nm) and u (kJ/mol) if the name ends otherwise.

    JSON keeps the spline to the last bit; a table keeps its values, 17 digits each, and not ``least_curvature``.

    Arguments:
        path: file to write.
        energy: the profile.
        about: more to note in a JSON file.
    """
    start, spacing = float(energy.start), float(energy.spacing)
    coefficients = np.asarray(energy.coefficients)
    values = np.append(coefficients[:, 0], coefficients[-1].sum())
    if Path(path).suffix.lower() == ".json":
        tree = {
            "kind": _SPLINE,
            "precision": str(coefficients.dtype),
            "units": {"start": "nm", "spacing": "nm", "values": "kJ/mol", "least_curvature": "kJ/mol/nm^2"},
            "start": start,
            "spacing": spacing,
            "least_curvature": float(energy.least_curvature),
            "values": values.tolist(),
            "coefficients": coefficients.tolist(),
        }
        return _write(path, {"format": _ENERGY, "version": FORMAT_VERSION, "energy": tree}, about)
    rows = (f"{start + i * spacing:.17g} {value:.17g}\n" for i, value in enumerate(values.tolist()))
    write_text(path, "# x (nm)  u (kJ/mol)\n" + "".join(rows))


def read_energy(path: str | os.PathLike, *, dtype=None) -> SplinePotential:
    """A free-energy profile from a JSON file of `write_energy` or a text table of x (nm) and u (kJ/mol).

    Arguments:
        path: the file; JSON if it ends with ``.json``. The x of a table ascend in equal steps.
        dtype: of the numbers; that of the file (float64 for a table) when None.

    Raises:
        InputError: the file cannot be read or does not hold a profile.
    """
    if Path(path).suffix.lower() != ".json":
        x, u = read_table(path, "x (nm) and u (kJ/mol)")
        # Exactly equal, where the table is rounded.
        x = x[0] + _equal_spacing(path, x, "positions", "nm") * np.arange(len(x))
        return _guarded(path, lambda: _cast(SplinePotential(x, u), dtype))
    tree = _open(path, _ENERGY)["energy"]
    if not isinstance(tree, dict) or tree.get("kind") != _SPLINE:
        raise InputError(f"{path}: 'energy' is of no known kind; known is {_SPLINE}.")
    stored = np.dtype(_precision(path, tree)) if dtype is None else np.dtype(dtype)
    start, spacing = (_array(path, tree, "energy", name).item() for name in ("start", "spacing"))
    curvature = _array(path, tree, "energy", "least_curvature").item() if "least_curvature" in tree else 0.0
    values = _array(path, tree, "energy", "values").ravel()

    def build():
        made = SplinePotential(start + spacing * np.arange(len(values)), values, least_curvature=curvature)
        if "coefficients" in tree:
            table = _array(path, tree, "energy", "coefficients")
            if table.shape != (len(values) - 1, 4):
                raise ValueError(f"'coefficients' has shape {table.shape}, {len(values)} values need four a segment")
            made = eqx.tree_at(lambda e: e.coefficients, made, leaf(table))
        made = eqx.tree_at(lambda e: (e.start, e.spacing), made, (leaf(np.float64(start)), leaf(np.float64(spacing))))
        return _cast(made, stored)

    return _guarded(path, build)


def read_table(path: str | os.PathLike, columns: str) -> tuple[np.ndarray, np.ndarray]:
    """The two columns of a text table, float64: numbers apart by blanks or commas; lines with # or @ are comments.

    Arguments:
        path: the file.
        columns: what they are, for messages.

    Raises:
        InputError: the file cannot be read, or a line does not hold two finite numbers; the message names it.
    """
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        words = line.split("#")[0].replace(",", " ").split()
        if not words or words[0].startswith("@"):
            continue
        try:
            row = [float(word) for word in words]
        except ValueError:
            row = []
        if len(row) != 2 or not np.isfinite(row).all():
            raise InputError(f"{path}, line {number}: expected two finite numbers, {columns}, not {line.strip()!r}.")
        rows.append(row)
    if len(rows) < 2:
        raise InputError(f"{path}: holds {len(rows)} rows; expected two or more of {columns}.")
    table = np.asarray(rows)
    return table[:, 0], table[:, 1]


def _equal_spacing(path, x: np.ndarray, what: str, unit: str) -> float:
    """The distance of neighbouring ``x``, or the error that they are not equally far apart."""
    spacing = (x[-1] - x[0]) / (len(x) - 1)
    off = np.abs(x - (x[0] + spacing * np.arange(len(x))))
    # Tables are often printed with few digits.
    if not spacing > 0 or off.max() > 0.02 * spacing:
        worst = int(off.argmax())
        raise InputError(
            f"{path}: the {what} must ascend in equal steps; number {worst + 1} is {x[worst]:g} {unit} where "
            f"{x[0] + spacing * worst:g} is expected; interpolate the table first."
        )
    return float(spacing)


def _kernel_tree(kernel: AbstractMemoryKernel) -> dict:
    if isinstance(kernel, SumKernel):
        return {"kind": "sum", "parts": [_kernel_tree(part) for part in kernel.parts]}
    for kind, (made, arguments) in _KINDS.items():
        if isinstance(kernel, made):
            arrays = {name: np.asarray(getattr(kernel, name)) for name in arguments}
            for name, values in arrays.items():
                if not np.isfinite(values).all():
                    raise ValueError(f"write_kernel: {name} of the {kind} kernel holds numbers that are not finite.")
            numbers = {name: values.tolist() for name, values in arrays.items()}
            return {"kind": kind, "precision": str(np.result_type(*arrays.values())), "units": arguments, **numbers}
    raise ValueError(f"write_kernel: a {type(kernel).__name__} cannot be written; fit a PassiveKernel to it first.")


def _kernel_of(path, tree, dtype, place: str) -> AbstractMemoryKernel:
    if not isinstance(tree, dict) or "kind" not in tree:
        raise InputError(f"{path}: '{place}' must hold a 'kind': one of {', '.join((*_KINDS, 'sum'))}.")
    kind = tree["kind"]
    if kind == "sum":
        parts = tree.get("parts")
        if not isinstance(parts, list) or not parts:
            raise InputError(f"{path}: '{place}.parts' must be a list of kernels.")
        return SumKernel(*(_kernel_of(path, part, dtype, f"{place}.parts[{i}]") for i, part in enumerate(parts)))
    if kind not in _KINDS:
        raise InputError(f"{path}: '{place}' is of kind {kind!r}; known are {', '.join((*_KINDS, 'sum'))}.")
    made, arguments = _KINDS[kind]
    stored = _precision(path, tree) if dtype is None else dtype
    return made(*(leaf(_array(path, tree, place, name), stored) for name in arguments))


def _precision(path, tree: dict) -> str:
    precision = tree.get("precision", "float64")
    if precision not in ("float32", "float64"):
        raise InputError(f"{path}: precision {precision!r} is not known; choose float32 or float64.")
    return precision


def _array(path, tree: dict, place: str, name: str) -> np.ndarray:
    """An array of finite numbers under ``name``."""
    if name not in tree:
        raise InputError(f"{path}: '{place}' of kind {tree['kind']!r} lacks '{name}'.")
    try:
        values = np.asarray(tree[name], np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path}: '{place}.{name}' must be a number or an array of equally long rows.") from None
    if not np.isfinite(values).all():
        raise InputError(f"{path}: '{place}.{name}' holds numbers that are not finite.")
    return values


def _cast(energy: SplinePotential, dtype) -> SplinePotential:
    if dtype is None:
        return energy
    parts = (energy.start, energy.spacing, energy.coefficients, energy.least_curvature)
    return eqx.tree_at(
        lambda e: (e.start, e.spacing, e.coefficients, e.least_curvature), energy, tuple(leaf(p, dtype) for p in parts)
    )


def _write(path, content: dict, about: Mapping | None) -> None:
    try:
        text = json.dumps({**content, **({"about": dict(about)} if about else {})}, indent=1, allow_nan=False)
        write_text(path, text + "\n")
    except OSError as error:
        raise InputError(f"{os.fspath(path)}: cannot be written ({error.strerror or error}).") from error


def _open(path, format_name: str) -> dict[str, Any]:
    """The content of a JSON file of ours, of the format named."""
    try:
        content = json.loads(_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != format_name:
        other = f"it says {found!r}" if found else "it names no format"
        raise InputError(f"{path}: is not a file of format {format_name!r} ({other}).")
    version = content.get("version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(f"{path}: is of version {version}; this program reads up to {FORMAT_VERSION}; update it.")
    if format_name.split()[-1] not in content:
        raise InputError(f"{path}: lacks '{format_name.split()[-1]}'.")
    return content


def _text(path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from None


def _guarded(path, build: Callable[[], Any]):
    """What ``build`` makes; its ValueErrors become errors of the file."""
    try:
        return build()
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None

"""One file that holds a prepared problem, and loads without OpenMM, MDAnalysis, vermouth or biotite.

The file is a NumPy ``.npz`` archive: the arrays of the objects, and a JSON text that says how they are nested. Objects
are rebuilt by class name, and only classes of jaxcg are allowed; nothing is unpickled, so a file from a stranger cannot
run code.
"""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np

from ..errors import InputError
from ..system import System
from .writers import atomic_path

if TYPE_CHECKING:
    from ..posterior import Posterior

FORMAT = "jaxcg problem"
VERSION = 1


def save_problem(path: str | os.PathLike, posterior: Posterior, system: System, **extra: Any) -> None:
    """Writes a posterior, its system and whatever else a worker needs into one file, atomically.

    Arguments:
        path: file to write, e.g. ``problem.npz``.
        posterior: energy, map, beads, temperature and noise.
        system: what the molecule is.
        extra: further named values: arrays, numbers, strings, None, tuples, lists, dictionaries with string keys, and
            jaxcg's own Equinox modules and dataclasses.

    Raises:
        TypeError: a value of another kind.
    """
    save_tree(path, {"posterior": posterior, "system": system, **extra})


def load_problem(path: str | os.PathLike) -> dict[str, Any]:
    """Reads what `save_problem` wrote: a dictionary with ``posterior``, ``system`` and the extra values.

    Raises:
        InputError: the file is missing, damaged, of another kind, or from a newer jaxcg.
    """
    tree = load_tree(path)
    # Here, because energies take long to import and most readers of files need none.
    from ..posterior import Posterior

    if not isinstance(tree, dict) or not isinstance(tree.get("posterior"), Posterior):
        raise InputError(f"{path}: holds no jaxcg problem; write one with save_problem.")
    return tree


def save_tree(path: str | os.PathLike, tree: Any) -> None:
    """Writes any tree of the kinds `save_problem` names into one file, atomically."""
    arrays: dict[str, Any] = {}
    shared: dict[int, str] = {}
    # Kept alive while encoding, so that ids are not reused.
    alive: list[Any] = []
    structure = _encode(tree, arrays, shared, alive, "value")
    header = json.dumps({"format": FORMAT, "version": VERSION, "tree": structure})
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, header=np.frombuffer(header.encode(), dtype=np.uint8), **arrays)


def load_tree(path: str | os.PathLike) -> Any:
    """Reads what `save_tree` wrote.

    Raises:
        InputError: as `load_problem`.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            header = json.loads(bytes(archive["header"]).decode())
            arrays = {name: archive[name] for name in archive.files if name != "header"}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, KeyError, ValueError, AttributeError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a jaxcg problem file, or damaged ({error}); write it again.") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(f"{path}: not a jaxcg problem file.")
    if header.get("version") != VERSION:
        raise InputError(
            f"{path}: written in format {header.get('version')}, this jaxcg reads {VERSION}; write it again."
        )
    try:
        return _decode(header["tree"], arrays)
    except (KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise InputError(f"{path}: damaged, or from another version of jaxcg ({error}); write it again.") from error


def _encode(value: Any, arrays: dict, shared: dict, alive: list, where: str) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float, complex)) and not isinstance(value, np.generic):
        # repr keeps every digit, infinities and NaN.
        return {"number": repr(value), "kind": type(value).__name__}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _encode_array(value, arrays, shared, alive, where)
    if isinstance(value, (tuple, list)):
        if type(value) not in (tuple, list):
            raise TypeError(f"{where}: named tuples cannot be saved; use a plain tuple.")
        items = [_encode(item, arrays, shared, alive, f"{where}[{i}]") for i, item in enumerate(value)]
        return {type(value).__name__: items}
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{where}: dictionaries need string keys.")
        return {"dict": {k: _encode(v, arrays, shared, alive, f"{where}.{k}") for k, v in value.items()}}
    cls = type(value)
    if (isinstance(value, eqx.Module) or is_dataclass(value)) and cls.__module__.split(".")[0] == "jaxcg":
        content = {
            f.name: _encode(getattr(value, f.name), arrays, shared, alive, f"{where}.{f.name}") for f in fields(value)
        }
        return {"class": f"{cls.__module__}:{cls.__qualname__}", "fields": content}
    raise TypeError(f"{where}: a {cls.__module__}.{cls.__qualname__} cannot be saved in a problem file.")


def _encode_array(value, arrays: dict, shared: dict, alive: list, where: str) -> dict:
    if id(value) not in shared:
        array = np.asarray(value)
        if array.dtype.kind not in "biufcU":
            raise TypeError(f"{where}: arrays of {array.dtype} cannot be saved.")
        name = f"a{len(arrays)}"
        arrays[name] = array
        shared[id(value)] = name
        alive.append(value)
    return {"array": shared[id(value)], "jax": isinstance(value, jax.Array)}


def _decode(value: Any, arrays: dict) -> Any:
    if not isinstance(value, dict):
        return value
    if "number" in value:
        return {"int": int, "float": float, "complex": complex}[value["kind"]](value["number"])
    if "array" in value:
        array = arrays[value["array"]]
        return _jax_array(array) if value["jax"] else array
    if "tuple" in value:
        return tuple(_decode(item, arrays) for item in value["tuple"])
    if "list" in value:
        return [_decode(item, arrays) for item in value["list"]]
    if "dict" in value:
        return {key: _decode(item, arrays) for key, item in value["dict"].items()}
    cls = _class(value["class"])
    content = {name: _decode(item, arrays) for name, item in value["fields"].items()}
    if set(content) != {f.name for f in fields(cls)}:
        raise TypeError(f"{value['class']} has other fields now")
    # The constructor may compute fields from other arguments, so they are set as they were.
    instance = object.__new__(cls)
    for name, item in content.items():
        object.__setattr__(instance, name, item)
    return instance


def _class(name: str) -> type:
    module, _, qualified = name.partition(":")
    if module.split(".")[0] != "jaxcg" or not qualified.isidentifier():
        raise TypeError(f"class {name} is not allowed")
    cls = getattr(importlib.import_module(module), qualified)
    if not isinstance(cls, type) or not (issubclass(cls, eqx.Module) or is_dataclass(cls)):
        raise TypeError(f"class {name} is not allowed")
    return cls


def _jax_array(array: np.ndarray):
    import jax.numpy as jnp

    # Without 64-bit mode JAX rounds to single precision; NumPy arrays keep the digits and trace the same way.
    return jnp.asarray(array) if jax.dtypes.canonicalize_dtype(array.dtype) == array.dtype else array

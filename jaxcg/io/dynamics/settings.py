"""Settings from a YAML file, whose errors are one line with file, line, key and unit."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...mapping.formats.yaml_nodes import YamlTree


class Settings:
    """A YAML file of settings, read key by key.

    Arguments:
        path: the file. Files that it names are looked for beside it.

    ``files`` holds the name and the SHA-256 digest of every file named by a setting read so far.

    Raises:
        InputError: the file cannot be read, or is not YAML with keys at the top.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        if not self.path.is_file():
            what = "is a folder, not a file" if self.path.is_dir() else "there is no such file"
            raise InputError(f"{self.path}: {what}.")
        self.files: dict[str, str] = {}
        self._tree = YamlTree(path)

    @property
    def root(self) -> Any:
        """The node of the whole file."""
        return self._tree.root

    def error(self, node, reason: str) -> InputError:
        """The error to raise for what is wrong at ``node``."""
        return self._tree.error(node, reason)

    def section(self, node, key: str, required: Collection[str] = (), optional: Collection[str] = ()) -> dict[str, Any]:
        """Nodes of a section by key; unknown, missing and repeated keys are errors."""
        if node.id != "mapping":
            known = ", ".join([*required, *optional])
            raise self.error(node, f"'{key}' needs keys and values: {known}.")
        return self._tree.fields(node, f"'{key}'" if key else "the config", required, optional)

    def one_of(self, node, key: str, kinds: Collection[str], words: Collection[str] = ()) -> tuple[str, Any]:
        """A choice: a word of ``words`` (then the second value is None) or ``kind: settings`` with one of ``kinds``."""
        if node.id == "scalar" and node.value in words:
            return node.value, None
        known = ", ".join(dict.fromkeys([*words, *kinds]))
        if node.id == "mapping":
            names = [name.value for name, _ in node.value]
            found = self._tree.fields(node, f"'{key}'", (), kinds)
            if len(found) == 1:
                return next(iter(found.items()))
            given = f"these {len(names)} are given" if names else "none is given"
            raise self.error(node, f"'{key}' takes one of {known}; {given}.")
        said = repr(node.value) if node.id == "scalar" else "a list"
        raise self.error(node, f"'{key}' is {said}; choose from {known}.")

    def number(
        self, node, key: str, unit: str = "", *, above: float | None = None, least: float | None = None
    ) -> float:
        """A finite number, above ``above`` or at least ``least``."""
        value = _finite(node.value) if node.id == "scalar" else None
        bound = f" above {above:g}" if above is not None else f" of at least {least:g}" if least is not None else ""
        if value is None or (above is not None and value <= above) or (least is not None and value < least):
            raise self.error(node, f"'{key}'{_in(unit)} must be a number{bound}, not {self._said(node)}.")
        return value

    def integer(self, node, key: str, *, least: int = 0) -> int:
        """A whole number of at least ``least``; 1e6 is one."""
        value = _finite(node.value) if node.id == "scalar" else None
        if value is None or value != int(value) or value < least:
            raise self.error(node, f"'{key}' must be a whole number of at least {least}, not {self._said(node)}.")
        return int(value)

    def flag(self, node, key: str) -> bool:
        """Yes or no."""
        words = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
        if node.id != "scalar" or node.value.lower() not in words:
            raise self.error(node, f"'{key}' must be yes or no, not {self._said(node)}.")
        return words[node.value.lower()]

    def word(self, node, key: str, known: Collection[str]) -> str:
        """One of the words ``known``."""
        if node.id != "scalar" or node.value not in known:
            raise self.error(node, f"'{key}' is {self._said(node)}; choose from {', '.join(known)}.")
        return node.value

    def array(self, node, key: str, unit: str = "") -> np.ndarray:
        """A number, or lists of numbers nested to any depth, float64."""
        try:
            values = np.asarray(self._nested(node, key, unit), np.float64)
        except ValueError:
            raise self.error(node, f"'{key}'{_in(unit)} must be rows of equal length.") from None
        if not values.size:
            raise self.error(node, f"'{key}'{_in(unit)} is an empty list.")
        return values

    def file(self, node, key: str) -> Path:
        """An existing file; a name without a leading slash is taken from the folder of the settings."""
        if node.id != "scalar" or not node.value:
            raise self.error(node, f"'{key}' must be the name of a file, not {self._said(node)}.")
        path = self.path.parent / node.value
        if not path.is_file():
            what = "is a folder, not a file" if path.is_dir() else "there is no such file"
            raise self.error(node, f"'{key}': {path}: {what}.")
        try:
            self.files[node.value] = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise self.error(node, f"'{key}': {path}: cannot be read ({error.strerror}).") from None
        return path

    def build(self, node, key: str, make: Callable[[], Any]) -> Any:
        """What ``make`` makes; an error of it becomes an error of this key."""
        try:
            return make()
        except (ValueError, InputError) as error:
            raise self.error(node, f"'{key}': {error}") from None

    def plain(self, node=None) -> Any:
        """The settings as plain dictionaries, lists, numbers and words, for comparing and for keeping."""
        node = self.root if node is None else node
        if node.id == "mapping":
            return {key.value: self.plain(value) for key, value in node.value}
        if node.id == "sequence":
            return [self.plain(item) for item in node.value]
        value = _finite(node.value)
        return node.value if value is None else value

    def _nested(self, node, key: str, unit: str):
        if node.id == "sequence":
            return [self._nested(item, key, unit) for item in node.value]
        return self.number(node, key, unit)

    def _said(self, node) -> str:
        if node.id == "scalar":
            return repr(node.value) if node.value else "nothing"
        return "a list" if node.id == "sequence" else "keys and values"


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _in(unit: str) -> str:
    return f" ({unit})" if unit else ""

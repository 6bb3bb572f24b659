"""YAML with line numbers: a file's tree, read with checks whose messages name file and line."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ...errors import InputError


class YamlTree:
    """A YAML file as a tree of nodes that know their lines.

    Arguments:
        path: the file; it holds one document, a mapping at its root. Only plain data is read.

    Raises:
        InputError: the file cannot be read, is not YAML, or the root is something else.
    """

    def __init__(self, path: str | os.PathLike):
        import yaml

        self.path = Path(path)
        try:
            text = self.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error}).") from error
        try:
            root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f", line {mark.line + 1}" if mark else ""
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise InputError(f"{path}{line}: not YAML ({reason}).") from None
        if root is None or root.id != "mapping":
            raise InputError(f"{path}: expected keys and values at the top.")
        self.root = root

    def where(self, node) -> str:
        """File and line of a node."""
        return f"{self.path}, line {node.start_mark.line + 1}"

    def error(self, node, reason: str) -> InputError:
        """The error to raise for what is wrong at a node."""
        return InputError(f"{self.where(node)}: {reason}")

    def fields(self, node, what: str, required: Collection[str] = (), optional: Collection[str] | None = ()) -> dict:
        """Key → node of a mapping; unknown (unless ``optional`` is None), missing and repeated keys are errors."""
        if node.id != "mapping":
            raise self.error(node, f"{what} needs keys and values.")
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self.text(key)
            if name in found:
                raise self.error(key, f"'{name}' is given twice in {what}.")
            if optional is not None and name not in required and name not in optional:
                known = ", ".join([*required, *optional])
                raise self.error(key, f"'{name}' is not known in {what}; choose from {known}.")
            found[name] = value
        for name in required:
            if name not in found:
                raise self.error(node, f"{what} needs '{name}'.")
        return found

    def items(self, node, what: str) -> list:
        """Nodes of a list."""
        if node.id != "sequence":
            raise self.error(node, f"{what} must be a list.")
        return node.value

    def text(self, node) -> str:
        """A word or a number, as text."""
        if node.id != "scalar" or node.tag.endswith(":null"):
            raise self.error(node, "expected a word.")
        return node.value

    def texts(self, node, what: str) -> tuple[str, ...]:
        """A list of words; one word is a list of one."""
        if node.id == "scalar":
            return (self.text(node),)
        return tuple(self.text(item) for item in self.items(node, what))

    def number(self, node) -> float:
        """A finite number."""
        try:
            value = float(node.value)
        except (TypeError, ValueError):
            value = float("nan")
        if not abs(value) < float("inf"):
            raise self.error(node, "expected a number.")
        return value

    def numbers(self, node, what: str) -> tuple[float, ...]:
        """A list of numbers."""
        return tuple(self.number(item) for item in self.items(node, what))

    def integer(self, node, least: int | None = None) -> int:
        """A whole number, at least ``least``."""
        try:
            value = int(node.value)
        except (TypeError, ValueError):
            raise self.error(node, "expected a whole number.") from None
        if least is not None and value < least:
            raise self.error(node, f"expected a whole number of at least {least}.")
        return value

    def integers(self, node, what: str) -> tuple[int, ...]:
        """A list of whole numbers."""
        return tuple(self.integer(item) for item in self.items(node, what))

"""Small coarse-grained structures to try the program on; `README.md` beside them states their origin."""

from pathlib import Path
from typing import NamedTuple

from ..errors import InputError

_HERE = Path(__file__).parent


class Example(NamedTuple):
    """Files of one example: a coarse-grained structure, and its trajectory where it has one."""

    structure: Path
    trajectory: Path | None = None


EXAMPLES = {
    "ubiquitin": Example(_HERE / "ubiquitin_martini3.pdb"),
    "villin": Example(_HERE / "villin_martini3.pdb"),
    "ubiquitin-md": Example(_HERE / "ubiquitin_md_martini3.pdb", _HERE / "ubiquitin_md_martini3.xtc"),
}


def example(name: str) -> Example:
    """Files of the example called ``name``: ``ubiquitin``, ``villin`` (Martini 3 beads mapped from an all-atom
    structure) or ``ubiquitin-md`` (five frames of a Martini 3 simulation).

    Raises:
        InputError: there is no such example.
    """
    if name not in EXAMPLES:
        raise InputError(f"there is no example called {name!r}; choose one of: {', '.join(EXAMPLES)}")
    return EXAMPLES[name]

"""One residue of a coarse-grained structure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BeadResidue:
    """One residue of a coarse-grained structure: its names and which beads belong to it."""

    name: str
    id: str
    chain: str
    segment: int
    beads: tuple[int, ...]

    @property
    def label(self) -> str:
        """How messages name the residue, e.g. ``"LYS 33 (chain A)"``."""
        return f"{self.name} {self.id}" + (f" (chain {self.chain})" if self.chain else "")

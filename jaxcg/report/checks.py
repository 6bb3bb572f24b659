"""Which figures of `Quality` are checked, what is wanted of each, and the verdict."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..backmap.quality import Quality

#: (figure, name, the figure that counts what was looked at, in words)
_COUNTED = (
    ("stereo_errors", "Stereo centres of the wrong hand", "stereo_centers"),
    ("stereo_flat", "Stereo centres pressed flat", "stereo_centers"),
    ("peptides_cis", "Peptides cis where trans belongs", "peptides"),
    ("peptides_twisted", "Peptides twisted by more than 30°", "peptides"),
    ("double_bond_errors", "Other double bonds off their configuration", None),
    ("rings_pierced", "Rings with a bond through them", "rings"),
    ("bonds_off", "Bonds more than 10 % off their ideal length", "bonds"),
    ("contacts_012", "Heavy atoms closer than 0.12 nm", None),
    ("contacts_022", "Heavy atoms closer than 0.22 nm, no hydrogen bond", None),
)


@dataclass(frozen=True)
class Check:
    """One line of the table: what was counted, over every frame.

    Arguments:
        key: name of the figure in `Quality`.
        name: in words.
        found: how many are wrong.
        looked_at: of how many, or None.
        where: the first offenders in words.
    """

    key: str
    name: str
    found: int
    looked_at: int | None
    where: str

    @property
    def passed(self) -> bool:
        """True when nothing is wrong."""
        return self.found == 0


def checks(qualities: Sequence[tuple[str, Quality]], shown: int = 4) -> list[Check]:
    """The checks summed over frames.

    Arguments:
        qualities: for each frame a label (empty for a single frame) and its quality.
        shown: how many offenders are named.
    """
    rows = []
    for key, name, of in _COUNTED:
        counts = [getattr(quality, key) for _, quality in qualities]
        if all(count is None for count in counts):
            continue
        found = sum(count or 0 for count in counts)
        looked_at = sum(getattr(quality, of) or 0 for _, quality in qualities) if of else None
        names = [
            f"{offender.label}{f' ({label})' if label else ''}"
            for label, quality in qualities
            for offender in quality.offenders.get(key, ())
        ]
        where = "; ".join(names[:shown]) + (f"; {len(names) - shown} more" if len(names) > shown else "")
        rows.append(Check(key, name, found, looked_at, where))
    return rows


def verdict(rows: Sequence[Check], error: str | None) -> tuple[str, str]:
    """Outcome of a run as a word for machines (``good`` or ``bad``) and in words for people."""
    if error:
        return "bad", "failed"
    return ("good", "all checks passed") if all(row.passed for row in rows) else ("bad", "defects")

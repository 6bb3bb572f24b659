"""A pair potential as numbers, and whether its forces are those of its energies."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ...energy.pair_potentials import AbstractPairPotential
from ...energy.pair_tables import TabulatedPair
from ...errors import InputError

#: Rows a table has at least.
FEWEST = 4


class PairTable(NamedTuple):
    """A pair potential in rows.

    Fields:
        r: (rows,) distances, nm, ascending in equal steps.
        potential: (rows,) u, kJ/mol.
        slope: (rows,) du/dr, kJ/mol/nm; the force that drives the two apart is −du/dr.
    """

    r: np.ndarray
    potential: np.ndarray
    slope: np.ndarray

    @staticmethod
    def of(potential: AbstractPairPotential, spacing: float = 0.001, start: float | None = None) -> "PairTable":
        """A pair potential at equal steps up to its cutoff.

        The last row holds the values just inside the cutoff, so that a force that ends there with a step keeps it.

        Arguments:
            potential: u(r).
            spacing: nm; made a little smaller where it does not divide the range.
            start: first distance, nm; one step if None. Atoms must not come closer than that.

        Raises:
            ValueError: the range holds fewer than four rows, the start is not positive, or u is not finite somewhere.
        """
        first = spacing if start is None else start
        if not (spacing > 0 and first > 0 and potential.cutoff > first + (FEWEST - 2) * spacing):
            raise ValueError(
                f"PairTable: from {first:g} nm to the cutoff of {potential.cutoff:g} nm there are fewer than {FEWEST} "
                f"rows of {spacing:g} nm; the start and the spacing must be positive and smaller."
            )
        rows = int(np.ceil((potential.cutoff - first) / spacing - 1e-9)) + 1
        r = np.linspace(first, potential.cutoff, rows)
        inside = jnp.minimum(jnp.asarray(r), potential.cutoff * (1 - 1e-6))
        u, slope = (np.asarray(a, np.float64) for a in potential(inside))
        bad = np.flatnonzero(~(np.isfinite(u) & np.isfinite(slope)))
        if bad.size:
            raise ValueError(f"PairTable: u is not finite at {r[bad[-1]]:g} nm; begin the table beyond that (start=).")
        return PairTable(r, u, slope)

    def pair_potential(self) -> TabulatedPair:
        """The piecewise cubic through the values and slopes of the rows."""
        return TabulatedPair(self.r, self.potential, slopes=self.slope)


def checked(path: str, lines: Sequence[int], r, u, slope) -> PairTable:
    """The table of a file, if its distances ascend in equal steps and its forces are those of its energies.

    Between two rows the trapezoid of the forces gives the step of the energy up to a twelfth of the change that the
    slope's own change makes; a whole one is allowed, so only a wrong column, sign or unit is refused.

    Arguments:
        path: of the file, for messages.
        lines: (rows,) their line numbers.
        r, u, slope: (rows,) nm, kJ/mol, kJ/mol/nm.

    Raises:
        InputError: too few rows, not finite, not in equal steps, or forces of another potential.
    """
    r, u, slope = (np.asarray(a, np.float64) for a in (r, u, slope))
    if len(r) < FEWEST:
        raise InputError(f"{path}: holds {len(r)} rows; a table of a potential has {FEWEST} at least.")
    bad = np.flatnonzero(~(np.isfinite(r) & np.isfinite(u) & np.isfinite(slope)))
    if bad.size:
        raise InputError(f"{path}, line {lines[bad[0]]}: a number is not finite; repair the table.")
    step = (r[-1] - r[0]) / (len(r) - 1)
    bad = np.flatnonzero(~(np.abs(np.diff(r) - step) <= 0.02 * step))
    if bad.size:
        raise InputError(f"{path}, line {lines[bad[0] + 1]}: distances must ascend in equal steps of {step:g} nm.")
    gap = np.abs(np.diff(u) - 0.5 * step * (slope[1:] + slope[:-1]))
    allowed = step * np.abs(np.diff(slope)) + 1e-4 * (np.abs(u[1:]) + np.abs(u[:-1])) + 1e-6
    bad = np.flatnonzero(gap > allowed)
    # A table that ends with a step, or begins with a flattened core, breaks the rule in single places.
    if bad.size > max(2, len(r) // 20):
        row = int(bad[0])
        raise InputError(
            f"{path}, line {lines[row + 1]}: u changes by {u[row + 1] - u[row]:g} kJ/mol from the row before, where "
            f"the force column says {0.5 * step * (slope[row + 1] + slope[row]):g}; check columns, sign and units."
        )
    return PairTable(r, u, slope)

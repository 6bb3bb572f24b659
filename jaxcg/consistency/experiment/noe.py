"""Nuclear Overhauser effects: distances between protons as r⁻⁶ averages."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...typing import Array, AtomVectors


class NuclearOverhauserRates(eqx.Module):
    """What NOEs average: r⁻⁶ of every restraint in one configuration, an observable to be averaged over an ensemble.

    Averages over frames come first and the root after them (`noe_distance`): a proton that is near for a tenth of the
    time gives a strong NOE. With ``power`` 3 an average over fast motions keeps the phases of the dipolar coupling;
    the angular part of it is left out.

    Arguments:
        groups: for each restraint two lists of atoms, ``[([12], [40, 41, 42]), ...]``: protons that are equivalent or
            cannot be told apart stand together.
        combine: "sum" adds r⁻⁶ over the pairs of a restraint, as for ambiguous peaks; "mean" averages them, as for
            equivalent protons whose number the peak was divided by.
        power: 6, or 3 for motions faster than the molecule turns.

    Raises:
        ValueError: an empty group, an atom in both, or an unknown word.

    Source: Nilges, Proteins 17, 297 (1993) (sums); Tropp, J. Chem. Phys. 72, 6035 (1980) (powers).
    """

    first: np.ndarray  # (restraints, most pairs) atoms, the first pair repeated
    second: np.ndarray
    shares: np.ndarray  # (restraints, most pairs) weight of each pair; zero for what was filled up
    power: int = eqx.field(static=True)

    def __init__(self, groups: Sequence[tuple[Sequence[int], Sequence[int]]], combine: str = "sum", power: int = 6):
        if combine not in ("sum", "mean") or power not in (3, 6):
            raise ValueError("NuclearOverhauserRates: combine is 'sum' or 'mean', and power 6 or 3.")
        pairs = [[(int(i), int(j)) for i in left for j in right] for left, right in groups]
        for number, some in enumerate(pairs):
            if not some or any(i == j for i, j in some):
                raise ValueError(f"NuclearOverhauserRates: restraint {number} has an empty group, or an atom twice.")
        most = max((len(some) for some in pairs), default=1)
        filled = np.array([some + [some[0]] * (most - len(some)) for some in pairs], np.int32).reshape(-1, most, 2)
        count = np.array([len(some) for some in pairs])[:, None]
        self.first, self.second = filled[..., 0], filled[..., 1]
        self.shares = (np.arange(most) < count) / (count if combine == "mean" else 1.0)
        self.power = power

    def __call__(self, x: AtomVectors) -> Array:
        """(restraints,) r⁻⁶ (or r⁻³) of positions ``x`` (atoms, 3) in nm, nm⁻⁶ (nm⁻³)."""
        x = jnp.asarray(x)
        square = jnp.sum((x[self.first] - x[self.second]) ** 2, axis=-1)
        return jnp.sum(self.shares.astype(x.dtype) * square ** (-self.power / 2), axis=-1)


def noe_distance(averages: Any, power: int = 6) -> Any:
    """Effective distance ⟨r⁻⁶⟩^(−1/6), nm, of averages in nm⁻⁶; for use in `function_of_averages`.

    Arguments:
        averages: (restraints,) of `NuclearOverhauserRates` over the ensemble.
        power: the same as there.
    """
    return averages ** (-1 / power)


def noe_average(distance: Any, error: Any, power: int = 6) -> tuple[Any, Any]:
    """A measured distance and its error as an average of r⁻⁶ and its error, for `reweight_to_data`.

    An upper bound of a distance is a lower bound of the average.

    Arguments:
        distance, error: (restraints,) nm.
        power: 6 or 3.

    Returns:
        Both in nm⁻⁶ (nm⁻³), to first order in the error.
    """
    average = distance**-power
    return average, power * average * error / distance

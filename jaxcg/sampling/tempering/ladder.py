"""Ladders of temperatures and couplings, and where their rungs belong."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import erfcinv

from ...typing import Array, Float


class Ladder(eqx.Module):
    """Rungs of a replica exchange: the target first, the most tempered last.

    Rung r samples exp(−U_λr(x) / kT_r) on the fibre; the first is the posterior itself when its temperature is that of
    the posterior and its coupling 1.

    Arguments:
        temperatures: (rungs,) K, positive.
        couplings: (rungs,) λ of an energy path, in [0, 1]; all 1 if None.

    Raises:
        ValueError: shapes or ranges do not fit.
    """

    temperatures: Float[Array, " rungs"]
    couplings: Float[Array, " rungs"]

    def __init__(self, temperatures, couplings=None):
        temperatures = np.asarray(temperatures, np.float64)
        couplings = np.ones_like(temperatures) if couplings is None else np.asarray(couplings, np.float64)
        if temperatures.ndim != 1 or temperatures.size == 0 or couplings.shape != temperatures.shape:
            raise ValueError(
                f"Ladder: temperatures and couplings must be lists of one length, got shapes {temperatures.shape} and "
                f"{couplings.shape}."
            )
        if not (np.all(np.isfinite(temperatures)) and np.all(temperatures > 0)):
            raise ValueError("Ladder: every temperature must be finite and positive.")
        if not (np.all(couplings >= 0) and np.all(couplings <= 1)):
            raise ValueError("Ladder: couplings must lie between 0 and 1.")
        self.temperatures, self.couplings = jnp.asarray(temperatures), jnp.asarray(couplings)

    @staticmethod
    def geometric(
        temperature: float, highest: float | None = None, *, coupling: float = 1.0, rungs: int = 6
    ) -> "Ladder":
        """Temperatures from ``temperature`` to ``highest`` and couplings from 1 to ``coupling`` in equal ratios.

        Equal ratios of temperature are equally well exchanged where the heat capacity is constant.
        """
        if rungs < 1:
            raise ValueError(f"Ladder: {rungs} rungs; there must be at least one.")
        if not coupling > 0:
            raise ValueError("Ladder.geometric: the smallest coupling must be positive; give the couplings themselves.")
        highest = temperature if highest is None else highest
        return Ladder(np.geomspace(temperature, highest, rungs), np.geomspace(1.0, coupling, rungs))

    @property
    def rungs(self) -> int:
        """Number of rungs."""
        return self.temperatures.shape[0]


def exchange_lengths(acceptance: np.ndarray) -> np.ndarray:
    """Thermodynamic length between neighbouring rungs from their mean swap probability.

    If the logarithm of the swap ratio is Gaussian with standard deviation s, its mean is −s²/2 and the mean of
    min(1, ratio) is erfc(s / √8). That s adds up along a ladder whatever the spacing, while rejection rates do so only
    for close rungs, s/√(2π) each. Probabilities below 10⁻³ count as that: they say only "too far".

    Arguments:
        acceptance: (rungs − 1,) mean swap probabilities.

    Returns:
        (rungs − 1,) lengths s.

    Source: the mean acceptance, Kofke, J. Chem. Phys. 117, 6911 (2002), in its Gaussian limit.
    """
    return np.sqrt(8.0) * erfcinv(np.clip(np.asarray(acceptance, np.float64), 1e-3, 1 - 1e-6))


def place_rungs(
    ladder: Ladder, acceptance: np.ndarray, target: float, *, most: int = 64, rungs: int | None = None
) -> Ladder:
    """The ladder between the same ends whose pairs all exchange with probability ``target``.

    Arguments:
        ladder: a ladder that was run.
        acceptance: (rungs − 1,) mean swap probabilities seen.
        target: swap probability aimed at. 0.4-0.5 makes most round trips per replica; more rungs take longer to cross.
        most: rungs allowed.
        rungs: how many rungs instead of as many as the target needs.

    Returns:
        The new ladder, its rungs at equal thermodynamic lengths.

    Source: equal rejection as in Syed, Bouchard-Côté, Deligiannidis & Doucet, J. R. Stat. Soc. B 84, 321 (2022).
    """
    if not 0 < target < 1:
        raise ValueError(f"place_rungs: target acceptance {target} is not between 0 and 1.")
    if ladder.rungs < 2:
        raise ValueError("place_rungs: a ladder of one rung has nothing to place.")
    position = np.concatenate([[0.0], np.cumsum(exchange_lengths(acceptance))])
    step = float(np.sqrt(8.0) * erfcinv(target))
    needed = int(np.ceil(position[-1] / step - 0.1)) + 1 if rungs is None else rungs
    at = np.linspace(0.0, position[-1], min(max(needed, 2), most))
    logarithms = PchipInterpolator(position, np.log(np.asarray(ladder.temperatures, np.float64)))(at)
    couplings = PchipInterpolator(position, np.asarray(ladder.couplings, np.float64))(at)
    temperatures, couplings = np.exp(logarithms), np.clip(couplings, 0.0, 1.0)
    # The ends stay to the last digit: the first rung is the target.
    for new, old in ((temperatures, ladder.temperatures), (couplings, ladder.couplings)):
        new[0], new[-1] = float(old[0]), float(old[-1])
    return Ladder(temperatures, couplings)


def round_trips(replica: np.ndarray) -> np.ndarray:
    """How often replicas went from the first rung to the last and back.

    Arguments:
        replica: (sweeps, ladders, rungs) number of the replica at each rung.

    Returns:
        (ladders,) round trips, of all replicas of a ladder.
    """
    replica = np.asarray(replica)
    ladders, rungs = replica.shape[1:]
    trips = np.zeros(ladders, dtype=int)
    if rungs < 2:
        return trips
    # 0: nowhere yet; 1: was last at the target; 2: at the far end, having come from the target.
    phase = np.zeros((ladders, rungs), dtype=int)
    ladder = np.arange(ladders)
    for row in replica:
        near, far = row[:, 0], row[:, -1]
        trips += phase[ladder, near] == 2
        phase[ladder, near] = 1
        phase[ladder, far] = np.where(phase[ladder, far] >= 1, 2, 0)
    return trips

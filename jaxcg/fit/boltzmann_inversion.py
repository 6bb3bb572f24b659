"""Iterative Boltzmann inversion."""

import jax.numpy as jnp

from ..typing import Array, Float, Scalar
from .inversion import AbstractInversion, InversionSettings, Measured, float_type, log_ratio


class BoltzmannInversion(AbstractInversion):
    """The correction u ← u + α kT ln(g/g*). Robust, and slow in what g(r) hardly shows: see `AbstractInversion`.

    Arguments:
        r, target, temperature, cutoff, rate, least, smoothing, density, pressure: see `AbstractInversion`.

    Raises:
        ValueError: distances are not equally spaced, the target has a negative, missing or infinite value or no data,
            or a pressure came without a density.

    Source: Reith, Pütz & Müller-Plathe, J. Comput. Chem. 24, 1624 (2003); the ramp: Wang, Junghans & Kremer, Eur. Phys.
    J. E 28, 221 (2009). Uniqueness: Henderson, Phys. Lett. A 49, 197 (1974).
    """

    r: Float[Array, " points"]
    target: Float[Array, " points"]
    settings: InversionSettings

    def __init__(
        self,
        r,
        target,
        *,
        temperature: float,
        cutoff: float | None = None,
        rate: float = 1.0,
        least: float = 0.01,
        smoothing: int = 0,
        density: float | None = None,
        pressure: float | None = None,
    ):
        self.settings = InversionSettings(
            r,
            target,
            temperature=temperature,
            cutoff=cutoff,
            rate=rate,
            least=least,
            smoothing=smoothing,
            density=density,
            pressure=pressure,
        )
        self.r, self.target = jnp.asarray(r, float_type(r)), jnp.asarray(target, float_type(r))

    def correction(self, measured: Measured) -> tuple[Float[Array, " points"], Scalar]:
        """kT ln(g/g*): none where both are unsampled, a bounded one where one of them is; and the ramp."""
        return self._with_ramp(log_ratio(measured.rdf, self.target, self.settings.least), measured)

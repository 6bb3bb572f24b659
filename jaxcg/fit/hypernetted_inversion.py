"""Inversion with the hypernetted-chain response of a liquid."""

import math

import jax.numpy as jnp
import numpy as np

from ..typing import Array, Float
from .inversion import AbstractInversion, InversionSettings, float_type, log_ratio

#: Structure factors below this are noise: no liquid is that stiff.
_STIFFEST = 0.01


class HypernettedInversion(AbstractInversion):
    """The correction u ← u + α kT [ln(g/g*) + (g* − g) − (c* − c)], with c the direct correlation function of g.

    The exact relation βu = g − 1 − c − ln g + B holds with a bridge function B that hardly depends on u; taking it as
    constant, what two potentials of a liquid do to g(r) is known but for B, slow ramps included. So few steps do what
    takes Boltzmann's correction very many. The Ornstein–Zernike equation that gives c needs g(r) to where it is 1:
    several neighbours further than the cutoff.

    Arguments:
        r, target, temperature, cutoff, rate, least, smoothing, density, pressure: see `AbstractInversion`; the
            distances are the middles of bins that begin at zero, and the density is needed.

    Raises:
        ValueError: as `BoltzmannInversion`; the distances do not begin half a spacing from zero.

    Source: Levesque, Weis & Reatto, Phys. Rev. Lett. 54, 451 (1985).
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
        density: float,
        cutoff: float | None = None,
        rate: float = 1.0,
        least: float = 0.01,
        smoothing: int = 0,
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
        if not np.isclose(r[0], 0.5 * (r[1] - r[0]), rtol=1e-3):
            raise ValueError("HypernettedInversion: distances must be the middles of bins that begin at zero.")
        self.r, self.target = jnp.asarray(r, float_type(r)), jnp.asarray(target, float_type(r))

    def correction(self, rdf: Float[Array | np.ndarray, " points"]) -> Float[Array, " points"]:
        """ln(g/g*) + (g* − g) − (c* − c)."""
        change = self.target - rdf - (self._direct(self.target) - self._direct(rdf))
        return log_ratio(rdf, self.target, self.settings.least) + change

    def _direct(self, rdf):
        """The direct correlation function c(r) of g(r), by the Ornstein–Zernike equation in reciprocal space."""
        assert self.settings.density is not None
        points = self.r.shape[0]
        half = jnp.arange(points, dtype=self.r.dtype) + 0.5
        spacing = self.r[1] - self.r[0]
        waves = half * (math.pi / (points * spacing))
        # The sine transform between middles of bins (DST-IV); its own inverse but for a factor.
        sines = jnp.sin((math.pi / points) * half[:, None] * half)
        total = jnp.matmul(sines, self.r * (rdf - 1), precision="highest") * (4 * math.pi * spacing) / waves
        structure = jnp.maximum(1 + self.settings.density * total, _STIFFEST)
        direct = total / structure
        return jnp.matmul(sines, waves * direct, precision="highest") / (2 * math.pi * points * spacing * self.r)

"""Inversion with the hypernetted-chain response of a liquid."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..typing import Array, Float, Scalar
from .inversion import AbstractInversion, InversionSettings, Measured, float_type, log_ratio

#: Structure factors below this count as this: what little a stiff liquid shows of slow ramps would be lost in noise.
_STIFFEST = 0.05


class HypernettedInversion(AbstractInversion):
    """The correction u ← u + α kT [ln(g/g*) + (g* − g) − (c* − c)], with c the direct correlation function of g.

    The exact relation βu = g − 1 − c − ln g + B holds with a bridge function B that hardly depends on u; taking it as
    constant, what two potentials of a liquid do to g(r) is known but for B, slow ramps included. So few steps do what
    takes Boltzmann's correction very many. The Ornstein–Zernike equation that gives c needs g(r) to where it is 1:
    several neighbours further than the cutoff. In a box of N points g(r) ends not at 1 but at 1 + (1 − S(0))/N, against
    N(N − 1)/2 pairs; over a large volume that little is much, and is taken off if N is given.

    Arguments:
        r, target, temperature, cutoff, rate, least, smoothing, density, pressure: see `AbstractInversion`; the
            distances are the middles of bins that begin at zero, and the density is needed.
        points: N of the simulations, where g(r) is counted against N(N − 1)/2 pairs; None for an infinite system.

    Raises:
        ValueError: as `BoltzmannInversion`; the distances do not begin half a spacing from zero.

    Source: Levesque, Weis & Reatto, Phys. Rev. Lett. 54, 451 (1985).
    """

    r: Float[Array, " points"]
    target: Float[Array, " points"]
    settings: InversionSettings
    points: int | None = eqx.field(static=True)

    def __init__(
        self,
        r,
        target,
        *,
        temperature: float,
        density: float,
        points: int | None = None,
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
        self.points = points
        self.r, self.target = jnp.asarray(r, float_type(r)), jnp.asarray(target, float_type(r))

    def correction(self, measured: Measured) -> tuple[Float[Array, " points"], Scalar]:
        """kT [ln(g/g*) + (g* − g) − (c* − c)], and the ramp."""
        rdf = jnp.asarray(measured.rdf, self.r.dtype)
        change = self.target - rdf - (self._direct(self.target) - self._direct(rdf))
        return self._with_ramp(log_ratio(rdf, self.target, self.settings.least) + change, measured)

    def _correlation(self, rdf):
        """g − 1 of an infinite system."""
        correlation = rdf - 1
        if self.points is None:
            return correlation
        assert self.settings.density is not None
        half = 0.5 * (self.r[1] - self.r[0])
        inside = self.settings.density * (4 * math.pi / 3) * ((self.r + half) ** 3 - (self.r - half) ** 3)
        share = jnp.sum(inside) / self.points
        # S(0) from the fluctuations within the table, which take what they have from outside.
        structure = (1 + jnp.sum(inside * correlation) - share) / (1 - share)
        return correlation - (1 - jnp.clip(structure, 0.0, 1.0)) / self.points

    def _direct(self, rdf):
        """The direct correlation function c(r) of g(r), by the Ornstein–Zernike equation in reciprocal space."""
        assert self.settings.density is not None
        points = self.r.shape[0]
        half = jnp.arange(points, dtype=self.r.dtype) + 0.5
        spacing = self.r[1] - self.r[0]
        waves = half * (math.pi / (points * spacing))
        # The sine transform between middles of bins (DST-IV); its own inverse but for a factor.
        sines = jnp.sin((math.pi / points) * half[:, None] * half)
        total = (
            jnp.matmul(sines, self.r * self._correlation(rdf), precision="highest") * (4 * math.pi * spacing) / waves
        )
        structure = jnp.maximum(1 + self.settings.density * total, _STIFFEST)
        direct = total / structure
        return jnp.matmul(sines, waves * direct, precision="highest") / (2 * math.pi * points * spacing * self.r)

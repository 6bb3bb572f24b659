"""Pair potentials u(r): functions of a distance, with their derivative."""

import math
from abc import abstractmethod
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..typing import Array, Float, Scalar
from ._arrays import leaf
from ._dispersion import removed_tail
from .nonbonded import switching


class AbstractPairPotential(eqx.Module):
    """A potential energy u of one distance r.

    Its array fields are its parameters. `cutoff` is a number, not a parameter: lists of neighbours reach to it.
    """

    cutoff: eqx.AbstractVar[float]

    @abstractmethod
    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u (kJ/mol) and du/dr (kJ/mol/nm) at distances ``r`` (any shape, nm, positive); zero from the cutoff on.

        The force that drives the two atoms apart is −du/dr.
        """

    def tail(self) -> tuple[Scalar, Scalar]:
        """What the cutoff (or switching) removes of the potential that is meant, for a fluid with g(r) = 1 there.

        Returns:
            ∫ r² (u_whole − u) dr in kJ/mol nm³ and ∫ r³ d(u_whole − u)/dr dr in kJ/mol nm³, the latter without the
            step of u at a sharp cutoff, which acts in no virial that is summed over pairs. Zero for potentials that
            are meant to end at their cutoff.
        """
        return jnp.zeros(()), jnp.zeros(())


class LennardJones(AbstractPairPotential):
    """u = 4ε [(σ/r)¹² − (σ/r)⁶] up to a cutoff.

    Arguments:
        sigma: nm.
        epsilon: kJ/mol.
        cutoff: nm.
        switch: nm, from where u is multiplied by 1 − 10t³ + 15t⁴ − 6t⁵, t = (r − switch)/(cutoff − switch); None for no
            switching.
        shift: None truncates; "energy" subtracts u(cutoff), so that u is continuous; "force" also subtracts
            (r − cutoff) u′(cutoff), so that the force is.

    Raises:
        ValueError: the cutoff is not positive, the switching distance not below it, or both switch and shift are given.
    """

    sigma: Float[Array, ""]
    epsilon: Float[Array, ""]
    cutoff: float = eqx.field(static=True)
    switch: float | None = eqx.field(static=True)
    shift: Literal["energy", "force"] | None = eqx.field(static=True)

    def __init__(
        self,
        sigma,
        epsilon,
        cutoff: float,
        *,
        switch: float | None = None,
        shift: Literal["energy", "force"] | None = None,
    ):
        if not cutoff > 0:
            raise ValueError(f"LennardJones: the cutoff of {cutoff:g} nm must be positive.")
        if switch is not None and not 0 <= switch < cutoff:
            raise ValueError("LennardJones: the switching distance must lie between 0 and the cutoff.")
        if switch is not None and shift is not None:
            raise ValueError("LennardJones: give a switching distance or a shift, not both.")
        self.sigma, self.epsilon = leaf(sigma), leaf(epsilon)
        self.cutoff, self.switch, self.shift = float(cutoff), switch, shift

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        sigma, epsilon = self.sigma.astype(r.dtype), self.epsilon.astype(r.dtype)
        energy, slope = _lennard_jones(r, sigma, epsilon)
        if self.switch is not None:
            factor, by_r = switching(r, self.switch, self.cutoff)
            energy, slope = energy * factor, slope * factor + energy * by_r
        if self.shift is not None:
            end, end_slope = _lennard_jones(jnp.asarray(self.cutoff, r.dtype), sigma, epsilon)
            energy = energy - end
            if self.shift == "force":
                energy, slope = energy - (r - self.cutoff) * end_slope, slope - end_slope
        return _within(r, self.cutoff, energy, slope)

    def tail(self) -> tuple[Scalar, Scalar]:
        """Both integrals in closed form, or by quadrature over the switching range.

        Raises:
            ValueError: the potential is shifted; then what is missing is not only a tail.
        """
        if self.shift is not None:
            raise ValueError("LennardJones: a shifted potential has no tail correction; truncate or switch it instead.")
        powers = [4.0 * self.epsilon * self.sigma**power for power in (12, 6)]
        tails = [removed_tail(power, self.cutoff, self.switch) for power in (12, 6)]
        energy = powers[0] * tails[0] - powers[1] * tails[1]
        # By parts: ∫ r³ w′ dr = [r³ w] − 3 ∫ r² w dr, where w = u_whole − u has a step only at a sharp cutoff.
        virial = -3.0 * energy
        if self.switch is None:
            end = jnp.asarray(self.cutoff, self.sigma.dtype)
            virial = virial - end**3 * _lennard_jones(end, self.sigma, self.epsilon)[0]
        return energy, virial


class WCA(AbstractPairPotential):
    """The repulsive part of the Lennard-Jones potential: 4ε [(σ/r)¹² − (σ/r)⁶] + ε below 2^(1/6) σ, zero beyond.

    Arguments:
        sigma: nm.
        epsilon: kJ/mol.
        reach: nm, how far lists of neighbours reach; at least 2^(1/6) σ, which is the default. Give more if σ is to be
            varied.

    Raises:
        ValueError: the reach is too short.

    Source: Weeks, Chandler & Andersen, J. Chem. Phys. 54, 5237 (1971).
    """

    sigma: Float[Array, ""]
    epsilon: Float[Array, ""]
    cutoff: float = eqx.field(static=True)

    def __init__(self, sigma, epsilon, *, reach: float | None = None):
        self.sigma, self.epsilon = leaf(sigma), leaf(epsilon)
        self.cutoff = potential_reach(2.0 ** (1.0 / 6.0), sigma, reach, "WCA")

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        sigma, epsilon = self.sigma.astype(r.dtype), self.epsilon.astype(r.dtype)
        energy, slope = _lennard_jones(r, sigma, epsilon)
        return _within(r, 2.0 ** (1.0 / 6.0) * sigma, energy + epsilon, slope)


class StillingerWeberPair(AbstractPairPotential):
    """The two-body part of the Stillinger–Weber potential, u = Aε [B (σ/r)^p − (σ/r)^q] exp(σ/(r − aσ)) below aσ.

    Arguments:
        epsilon: kJ/mol.
        sigma: nm.
        strength: A.
        repulsion: B.
        powers: p and q.
        range_: a.
        reach: nm, how far lists of neighbours reach; at least aσ, which is the default.

    Raises:
        ValueError: the reach is too short.

    Source: Stillinger & Weber, Phys. Rev. B 31, 5262 (1985), eq. 2.3.
    """

    epsilon: Float[Array, ""]
    sigma: Float[Array, ""]
    strength: Float[Array, ""]
    repulsion: Float[Array, ""]
    range_: Float[Array, ""]
    powers: tuple[int, int] = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)

    def __init__(
        self,
        epsilon,
        sigma,
        strength,
        repulsion,
        powers: tuple[int, int] = (4, 0),
        range_: float | Array = 1.8,
        *,
        reach: float | None = None,
    ):
        self.epsilon, self.sigma = leaf(epsilon), leaf(sigma)
        self.strength, self.repulsion, self.range_ = leaf(strength), leaf(repulsion), leaf(range_)
        self.powers = (int(powers[0]), int(powers[1]))
        self.cutoff = potential_reach(range_, sigma, reach, "StillingerWeberPair")

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        sigma, range_ = self.sigma.astype(r.dtype), self.range_.astype(r.dtype)
        p, q = self.powers
        repulsion = self.repulsion.astype(r.dtype) * (sigma / r) ** p
        attraction = (sigma / r) ** q
        decay, decay_slope = vanishing_exponential(r, sigma, range_ * sigma)
        size = (self.strength * self.epsilon).astype(r.dtype)
        energy = size * (repulsion - attraction)
        slope = size * (q * attraction - p * repulsion) / r
        return _within(r, range_ * sigma, energy * decay, slope * decay + energy * decay_slope)


def vanishing_exponential(r: Array, length: Array, end: Array) -> tuple[Array, Array]:
    """exp(length / (r − end)) below ``end`` and zero beyond, smooth to all orders, and its derivative by r."""
    # From −length/1000 on the exponential is zero in either precision; staying there keeps every derivative finite.
    gap = jnp.minimum(r - end, -1e-3 * length)
    value = jnp.exp(length / gap)
    return value, -value * length / (gap * gap)


def _lennard_jones(r: Array, sigma: Array, epsilon: Array) -> tuple[Array, Array]:
    inverse = 1.0 / r
    s6 = (sigma * inverse) ** 6
    attraction = 4.0 * epsilon * s6
    repulsion = attraction * s6
    return repulsion - attraction, (6.0 * attraction - 12.0 * repulsion) * inverse


def _within(r: Array, end: Array | float, energy: Array, slope: Array) -> tuple[Array, Array]:
    outside = r >= end  # NaN stays in sight
    return jnp.where(outside, 0.0, energy), jnp.where(outside, 0.0, slope)


def potential_reach(factor, sigma, reach: float | None, what: str) -> float:
    """The static cutoff of a potential that ends at ``factor`` × ``sigma``."""
    if isinstance(sigma, Tracer) or isinstance(factor, Tracer):
        if reach is None:
            raise ValueError(f"{what}: give a reach where σ is traced.")
        return float(reach)
    end = math.nextafter(float(np.asarray(sigma, np.float64)) * float(factor), math.inf)
    if reach is not None and reach < end * (1 - 1e-6):
        raise ValueError(f"{what}: the reach of {reach:g} nm is shorter than the potential, {end:g} nm.")
    return end if reach is None else float(reach)

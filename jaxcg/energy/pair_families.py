"""The Mie potential, and potentials made of other potentials: switched off smoothly, or with a repulsive core."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ..typing import Array, Float, Scalar
from ._arrays import leaf
from .nonbonded import switching
from .pair_potentials import AbstractPairPotential, _within


class Mie(AbstractPairPotential):
    """u = C ε [(σ/r)ⁿ − (σ/r)ᵐ] up to a cutoff, C = n/(n − m) (n/m)^(m/(n − m)), so that its depth is ε.

    Both exponents are parameters. With 12 and 6 it is the `LennardJones` potential.

    Arguments:
        sigma: nm.
        epsilon: kJ/mol.
        cutoff: nm.
        repulsive: n.
        attractive: m.
        switch: nm, from where u is multiplied by 1 − 10t³ + 15t⁴ − 6t⁵, t = (r − switch)/(cutoff − switch); None for no
            switching.
        shift: None truncates; "energy" subtracts u(cutoff), so that u is continuous; "force" also subtracts
            (r − cutoff) u′(cutoff), so that the force is.

    Raises:
        ValueError: the cutoff is not positive, the switching distance not below it, both switch and shift are given,
            or the exponents are not n > m > 0.

    Source: Mie, Ann. Phys. 316, 657 (1903).
    """

    sigma: Float[Array, ""]
    epsilon: Float[Array, ""]
    repulsive: Float[Array, ""]
    attractive: Float[Array, ""]
    cutoff: float = eqx.field(static=True)
    switch: float | None = eqx.field(static=True)
    shift: Literal["energy", "force"] | None = eqx.field(static=True)

    def __init__(
        self,
        sigma,
        epsilon,
        cutoff: float,
        repulsive=12.0,
        attractive=6.0,
        *,
        switch: float | None = None,
        shift: Literal["energy", "force"] | None = None,
    ):
        if not cutoff > 0:
            raise ValueError(f"Mie: the cutoff of {cutoff:g} nm must be positive.")
        if switch is not None and not 0 <= switch < cutoff:
            raise ValueError("Mie: the switching distance must lie between 0 and the cutoff.")
        if switch is not None and shift is not None:
            raise ValueError("Mie: give a switching distance or a shift, not both.")
        concrete = not (isinstance(repulsive, Tracer) or isinstance(attractive, Tracer))
        if concrete and not float(repulsive) > float(attractive) > 0:
            raise ValueError("Mie: the repulsive exponent must be larger than the attractive one, and both positive.")
        self.sigma, self.epsilon = leaf(sigma), leaf(epsilon)
        self.repulsive, self.attractive = (
            n if isinstance(n, Array) else leaf(float(n)) for n in (repulsive, attractive)
        )
        self.cutoff, self.switch, self.shift = float(cutoff), switch, shift

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        energy, slope = self._whole(r)
        if self.switch is not None:
            energy, slope = _switched(r, energy, slope, self.switch, self.cutoff)
        if self.shift is not None:
            end, end_slope = self._whole(jnp.asarray(self.cutoff, r.dtype))
            energy = energy - end
            if self.shift == "force":
                energy, slope = energy - (r - self.cutoff) * end_slope, slope - end_slope
        return _within(r, self.cutoff, energy, slope)

    def _whole(self, r: Array) -> tuple[Array, Array]:
        sigma, epsilon, n, m = (p.astype(r.dtype) for p in (self.sigma, self.epsilon, self.repulsive, self.attractive))
        size = epsilon * n / (n - m) * (n / m) ** (m / (n - m))
        ratio = jnp.log(sigma / r)
        repulsion, attraction = size * jnp.exp(n * ratio), size * jnp.exp(m * ratio)
        return repulsion - attraction, (m * attraction - n * repulsion) / r

    def tail(self) -> tuple[Scalar, Scalar]:
        """Both integrals in closed form, and by quadrature over the switching range.

        Raises:
            ValueError: the potential is shifted; then what is missing is not only a tail.
            ValueError: the attractive exponent is not larger than 3, so that the integrals have no limit.
        """
        if self.shift is not None:
            raise ValueError("Mie: a shifted potential has no tail correction; truncate or switch it instead.")
        if not isinstance(self.attractive, Tracer) and not float(self.attractive) > 3:
            raise ValueError("Mie: the tail correction needs an attractive exponent larger than 3.")
        end = jnp.asarray(self.cutoff, self.sigma.dtype)
        n, m = self.repulsive, self.attractive
        # u = A r⁻ⁿ − B r⁻ᵐ, so that its two terms at the cutoff follow from its value and slope there.
        value, slope = self._whole(end)
        repulsion = -(end * slope + m * value) / (n - m)
        attraction = repulsion - value
        energy = end**3 * (repulsion / (n - 3.0) - attraction / (m - 3.0))
        virial = end**3 * (m / (m - 3.0) * attraction - n / (n - 3.0) * repulsion)
        if self.switch is not None:
            more = _removed(self._whole, self.switch, self.cutoff, self.sigma.dtype)
            energy, virial = energy + more[0], virial + more[1]
        return energy, virial


class SwitchedPair(AbstractPairPotential):
    """Another potential, switched off smoothly up to its cutoff.

    From ``switch`` on it is multiplied by 1 − 10t³ + 15t⁴ − 6t⁵, t = (r − switch)/(cutoff − switch), so that u, u′ and
    u″ vanish at the cutoff.

    Arguments:
        potential: any pair potential.
        switch: nm.

    Raises:
        ValueError: the switching distance is not below the cutoff.
    """

    potential: AbstractPairPotential
    cutoff: float = eqx.field(static=True)
    switch: float = eqx.field(static=True)

    def __init__(self, potential: AbstractPairPotential, switch: float):
        if not 0 <= switch < potential.cutoff:
            raise ValueError("SwitchedPair: the switching distance must lie between 0 and the cutoff.")
        self.potential, self.cutoff, self.switch = potential, potential.cutoff, float(switch)

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        energy, slope = self.potential(r)
        return _within(r, self.cutoff, *_switched(r, energy, slope, self.switch, self.cutoff))

    def tail(self) -> tuple[Scalar, Scalar]:
        """The tail of the other potential and, by quadrature, what switching removes of it."""
        energy, virial = self.potential.tail()
        more = _removed(self.potential, self.switch, self.cutoff, jnp.result_type(float))
        return energy + more[0], virial + more[1]


class RepulsiveCore(AbstractPairPotential):
    """Another potential, continued below ``start`` by a force that grows exponentially inwards.

    Keeps potentials that were fitted to data, which know nothing of distances never visited, from collapsing there.
    With s = start − r and F₀ = −u′(start), the force below start is F₀ + A (exp(s/λ) − 1), where A is |F₀| or
    ``force``, whichever is larger: u and u′ are continuous, and where F₀ ≥ ``force`` the force is F₀ exp(s/λ).
    Also where the potential attracts at start, the force is repulsive from s = λ ln 2 on, and at least ``force`` from
    s = λ ln 3 on.
    Everything stays finite down to r = 0.

    Arguments:
        potential: any pair potential.
        start: nm, below its cutoff.
        decay: λ, nm; a tenth of ``start`` when None.
        force: kJ/mol/nm; 2.5 kJ/mol (about kT) over λ when None.

    Raises:
        ValueError: start does not lie between zero and the cutoff, or decay or force is not positive.
    """

    potential: AbstractPairPotential
    cutoff: float = eqx.field(static=True)
    start: float = eqx.field(static=True)
    decay: float = eqx.field(static=True)
    force: float = eqx.field(static=True)

    def __init__(
        self,
        potential: AbstractPairPotential,
        start: float,
        *,
        decay: float | None = None,
        force: float | None = None,
    ):
        if not 0 < start < potential.cutoff:
            raise ValueError("RepulsiveCore: the core must start between 0 and the cutoff of the potential.")
        decay = 0.1 * start if decay is None else decay
        if not decay > 0 or (force is not None and not force > 0):
            raise ValueError("RepulsiveCore: decay and force must be positive.")
        # In single precision the exponential of more than 80 has no room.
        if start / decay > 60:
            raise ValueError("RepulsiveCore: the decay is too short; give at least a sixtieth of the start.")
        self.potential, self.cutoff = potential, potential.cutoff
        self.start, self.decay = float(start), float(decay)
        self.force = 2.5 / self.decay if force is None else float(force)

    def __call__(self, r: Array) -> tuple[Array, Array]:
        """u and du/dr at ``r``."""
        depth = jnp.maximum(self.start - r, 0.0)
        energy, slope = self.potential(jnp.maximum(r, self.start))
        first = -self.potential(jnp.asarray(self.start, r.dtype))[1]
        size = jnp.maximum(jnp.abs(first), self.force)
        growth = jnp.expm1(depth / self.decay)
        return energy + first * depth + size * (self.decay * growth - depth), slope - size * growth

    def tail(self) -> tuple[Scalar, Scalar]:
        """The tail of the other potential."""
        return self.potential.tail()


def _switched(r: Array, energy: Array, slope: Array, switch: float, cutoff: float) -> tuple[Array, Array]:
    factor, by_r = switching(r, switch, cutoff)
    return energy * factor, slope * factor + energy * by_r


def _removed(potential, switch: float, cutoff: float, dtype) -> tuple[Scalar, Scalar]:
    """∫ r² w dr and ∫ r³ w′ dr of what switching removes, w = u (1 − f), over the range where it does."""
    nodes, weights = np.polynomial.legendre.leggauss(128)
    r = leaf(switch + 0.5 * (cutoff - switch) * (nodes + 1.0), dtype)
    w = leaf(0.5 * (cutoff - switch) * weights, dtype)
    energy, slope = potential(r)
    kept, kept_slope = _switched(r, energy, slope, switch, cutoff)
    return jnp.sum(w * r**2 * (energy - kept)), jnp.sum(w * r**3 * (slope - kept_slope))

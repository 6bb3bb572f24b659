"""Generalised Born implicit solvent: the OBC and GBn families."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..neighbors import NeighborTable
from ..typing import Array, AtomVectors, Float, Int, Scalar
from ..units import COULOMB_CONSTANT
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import dot
from ._pairs import AllPairs, lookup, row_sums
from .nonbonded import NEAREST


class Neck(eqx.Module):
    """The neck correction of GBn and GBn2 to the pairwise descreening integral.

    Arguments:
        distance, height: (types, types) tables indexed [type of the descreened atom, type of the other], nm and 1/nm.
        types: (atoms,) radius type of each atom.
        scale: weight of the correction.
        reach: nm; necks exist while r < ρ_i + ρ_j + reach.

    Source: Mongan et al., J. Chem. Theory Comput. 3, 156 (2007).
    """

    distance: Float[Array, "types types"]
    height: Float[Array, "types types"]
    types: Int[Array, " atoms"]
    scale: Float[Array, ""]
    reach: Float[Array, ""]


class GeneralizedBorn(AbstractAnalyticEnergy):
    """Generalised Born solvation energy with an optional surface term.

    Effective radii are B_i = 1 / (1/o_i − tanh(α ψ − β ψ² + γ ψ³) / ρ_i), ψ = I_i o_i, where I_i sums the pairwise
    descreening by all other atoms (and necks). The energy is −K/2 Σ_ij (1/ε_in − e^{−κ f}/ε_out) q_i q_j / f with
    f = √(r² + B_i B_j e^{−r²/4B_iB_j}), i = j included, plus Σ A (ρ_i + 0.14)² (ρ_i/B_i)⁶. With a cutoff, pairs beyond
    it are left out of both sums and 1/f of the others is shifted by 1/cutoff. Conventions as in OpenMM.

    OBC2 has α, β, γ = 1, 0.8, 4.85; GBn2 has them per element, and necks.

    Arguments:
        charges: (atoms,) e.
        offset_radii: (atoms,) o, nm.
        scaled_radii: (atoms,) s, the descreening radii, nm.
        offset: ρ − o, nm.
        alpha, beta, gamma: (atoms,) or scalar coefficients of the radius function.
        neck: necks, or None.
        solute_dielectric, solvent_dielectric: ε_in and ε_out.
        screening: κ, 1/nm; None for no salt.
        surface_energy: A, kJ/mol/nm²; zero for none.
        coulomb_constant: K, kJ nm/mol/e².
        engulfing: whether an atom inside another's descreening sphere counts as fully descreened (OpenMM's
            GBSAOBCForce) or not (OpenMM's CustomGBForce versions).
        cutoff: nm, or None.

    Raises:
        ValueError: shapes do not fit.

    Source: Onufriev, Bashford & Case, Proteins 55, 383 (2004); Nguyen, Roe & Simmerling, J. Chem. Theory Comput. 9,
    2020 (2013); surface term: Schaefer, Bartels & Karplus, J. Mol. Biol. 284, 835 (1998).
    """

    charges: Float[Array, " atoms"]
    offset_radii: Float[Array, " atoms"]
    scaled_radii: Float[Array, " atoms"]
    offset: Float[Array, ""]
    alpha: Float[Array, " atoms"]
    beta: Float[Array, " atoms"]
    gamma: Float[Array, " atoms"]
    neck: Neck | None
    solute_dielectric: Float[Array, ""]
    solvent_dielectric: Float[Array, ""]
    screening: Float[Array, ""] | None
    surface_energy: Float[Array, ""]
    coulomb_constant: Float[Array, ""]
    pairs: AllPairs | NeighborTable
    engulfing: bool = eqx.field(static=True)
    cutoff: float | None = eqx.field(static=True)

    def __init__(
        self,
        charges,
        offset_radii,
        scaled_radii,
        *,
        offset: float = 0.009,
        alpha: float | np.ndarray = 1.0,
        beta: float | np.ndarray = 0.8,
        gamma: float | np.ndarray = 4.85,
        neck: Neck | None = None,
        solute_dielectric: float = 1.0,
        solvent_dielectric: float = 78.5,
        screening: float | None = None,
        surface_energy: float = 28.3919551,
        coulomb_constant: float = COULOMB_CONSTANT,
        engulfing: bool = False,
        cutoff: float | None = None,
    ):
        self.charges, self.offset_radii, self.scaled_radii = map(leaf, (charges, offset_radii, scaled_radii))
        if not self.charges.shape == self.offset_radii.shape == self.scaled_radii.shape:
            raise ValueError("GeneralizedBorn: charges, offset_radii and scaled_radii must have one value per atom.")
        dtype, n_atoms = self.charges.dtype, len(self.charges)
        self.alpha, self.beta, self.gamma = (_per_atom(c, dtype, n_atoms) for c in (alpha, beta, gamma))
        self.neck = neck
        self.offset = leaf(offset, dtype)
        self.solute_dielectric = leaf(solute_dielectric, dtype)
        self.solvent_dielectric = leaf(solvent_dielectric, dtype)
        self.screening = None if screening is None else leaf(screening, dtype)
        self.surface_energy = leaf(surface_energy, dtype)
        self.coulomb_constant = leaf(coulomb_constant, dtype)
        self.pairs = AllPairs(n_atoms)
        self.engulfing, self.cutoff = engulfing, cutoff

    def born_radii(self, x: AtomVectors) -> Array:
        """Effective Born radii, nm."""
        term = self._cast(x.dtype)
        return term._radius(term._descreening(jnp.asarray(x)))

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        return self._cast(x.dtype)._energy_and_gradient(jnp.asarray(x))

    def _cast(self, dtype) -> "GeneralizedBorn":
        return jax.tree.map(lambda a: a.astype(dtype) if eqx.is_inexact_array(a) else a, self)

    def _energy_and_gradient(self, x: Array) -> tuple[Scalar, Array]:
        integral = self._descreening(x)
        ones = jnp.ones_like(integral)
        born, born_by_integral = jax.jvp(self._radius, (integral,), (ones,))
        own, own_by_born = jax.jvp(self._own_energy, (born,), (ones,))
        pair, pair_by_born, direct = self._polar(x, born)
        chain = self._descreening_gradient(x, (own_by_born + pair_by_born) * born_by_integral)
        return jnp.sum(own) + pair, direct + chain

    def _radius(self, integral: Array) -> Array:
        psi = integral * self.offset_radii
        bend = jnp.tanh(psi * (self.alpha - psi * (self.beta - psi * self.gamma)))
        return 1.0 / (1.0 / self.offset_radii - bend / (self.offset_radii + self.offset))

    def _own_energy(self, born: Array) -> Array:
        radius = self.offset_radii + self.offset
        polar = -0.5 * self.coulomb_constant * self._contrast(born)[0] * self.charges**2 / born
        return polar + self.surface_energy * (radius + 0.14) ** 2 * (radius / born) ** 6

    def _contrast(self, f: Array) -> tuple[Array, Array]:
        """1/ε_in − e^{−κ f}/ε_out and its derivative with respect to f."""
        if self.screening is None:
            contrast = 1.0 / self.solute_dielectric - 1.0 / self.solvent_dielectric
            return contrast, jnp.zeros_like(contrast)
        screened = jnp.exp(-self.screening * f) / self.solvent_dielectric
        return 1.0 / self.solute_dielectric - screened, self.screening * screened

    def _features(self, x: Array) -> list[Array]:
        features = [x[:, 0], x[:, 1], x[:, 2], self.offset_radii, self.scaled_radii]
        return features if self.neck is None else [*features, self.neck.types]

    def _descreening(self, x: Array) -> Array:
        """Pairwise descreening integrals I, 1/nm."""

        def kernel(source, target, present):
            d = (target[0] - source[0], target[1] - source[1], target[2] - source[2])
            r2, present = self._within(d, present)
            r = jnp.sqrt(r2)
            value = _overlap(r, target[3], source[4], self.engulfing)
            if self.neck is not None:
                value = value + self._neck(r, source, target)[0]
            return (jnp.where(present, value, 0.0),)

        return row_sums(kernel, self._features(x), self.pairs)[0]

    def _descreening_gradient(self, x: Array, weights: Array) -> Array:
        """Gradient of Σ w_i I_i with the weights held."""

        def kernel(source, target, present):
            d = (target[0] - source[0], target[1] - source[1], target[2] - source[2])
            r2, present = self._within(d, present)
            inverse = jax.lax.rsqrt(r2)
            r = r2 * inverse
            slope = target[-1] * _overlap_slope(r, inverse, target[3], source[4], self.engulfing)
            slope = slope + source[-1] * _overlap_slope(r, inverse, source[3], target[4], self.engulfing)
            if self.neck is not None:
                slope = slope + target[-1] * self._neck(r, source, target)[1]
                slope = slope + source[-1] * self._neck(r, target, source)[1]
            # Ending in a division: see `row_sums`.
            slope = jnp.where(present, slope, 0.0) / r
            return slope * d[0], slope * d[1], slope * d[2]

        return jnp.stack(row_sums(kernel, [*self._features(x), weights], self.pairs), axis=-1)

    def _polar(self, x: Array, born: Array) -> tuple[Scalar, Array, Array]:
        """Polar energy of all pairs, its derivative with respect to the Born radii, and its direct gradient."""
        shift = 0.0 if self.cutoff is None else 1.0 / self.cutoff

        def kernel(source, target, present):
            d = (target[0] - source[0], target[1] - source[1], target[2] - source[2])
            r2, present = self._within(d, present)
            product = target[4] * source[4]
            exponent = 0.25 * r2 / product
            decay = jnp.exp(-exponent)
            inverse = jax.lax.rsqrt(r2 + product * decay)
            contrast, contrast_slope = self._contrast(1.0 / inverse)
            charge = jnp.where(present, -target[3] * source[3], 0.0)
            energy = charge * contrast * (inverse - shift)
            # ∂E/∂(f²/2), then f² by r² and by B_i.
            slope = charge * (contrast_slope * (inverse - shift) - contrast * inverse * inverse) * inverse
            by_distance = slope * (1.0 - 0.25 * decay)
            by_born = 0.5 * slope * decay * (1.0 + exponent) * source[4]
            return energy, by_born, by_distance * d[0], by_distance * d[1], by_distance * d[2]

        charges = self.charges * jnp.sqrt(self.coulomb_constant)
        features = [x[:, 0], x[:, 1], x[:, 2], charges, born]
        energy, by_born, gx, gy, gz = row_sums(kernel, features, self.pairs)
        return 0.5 * jnp.sum(energy), by_born, jnp.stack([gx, gy, gz], axis=-1)

    def _within(self, d, present: Array) -> tuple[Array, Array]:
        r2 = dot(d, d)
        if self.cutoff is not None:
            present = present & ~(r2 >= self.cutoff**2)  # NaN stays in sight
        return jnp.maximum(r2, NEAREST), present

    def _neck(self, r: Array, source, target) -> tuple[Array, Array]:
        """Neck integral of ``target`` due to ``source`` and its derivative with respect to r."""
        assert self.neck is not None
        distance = lookup(self.neck.distance, target[5], source[5])
        height = lookup(self.neck.height, target[5], source[5]) * self.neck.scale
        near = r < target[3] + source[3] + 2.0 * self.offset + self.neck.reach
        u = r - distance
        u2 = u * u
        inverse = 1.0 / (1.0 + u2 * (100.0 + 0.3e6 * u2 * u2))
        value = jnp.where(near, height * inverse, 0.0)
        return value, -value * inverse * u * (200.0 + 1.8e6 * u2 * u2)


def _per_atom(value, dtype, n_atoms: int) -> Array:
    """A scalar or (atoms,) coefficient as an (atoms,) array."""
    return leaf(value if np.ndim(value) else np.full(n_atoms, value), dtype)


def _limits(r: Array, o: Array, s: Array) -> tuple[Array, Array, Array]:
    """Inverse limits 1/U and 1/L of the descreening integral, and log(L/U).

    They coincide where a sphere does not reach beyond the offset radius.
    """
    upper = jnp.maximum(r + s, o)
    lower = jnp.maximum(jnp.abs(r - s), o)
    # One division instead of two.
    inverse = 1.0 / (upper * lower)
    iu = lower * inverse
    return iu, upper * inverse, jnp.log(lower * iu)


def _overlap(r: Array, o: Array, s: Array, engulfing: bool) -> Array:
    """Descreening of an atom with offset radius ``o`` by one with scaled radius ``s`` at distance ``r``."""
    iu, il, log = _limits(r, o, s)
    inverse = 1.0 / r
    value = il - iu + 0.25 * (r - s * s * inverse) * (iu * iu - il * il) + 0.5 * log * inverse
    if engulfing:
        value = value + jnp.where(s - r > o, 2.0 * (1.0 / o - il), 0.0)
    # For the negative scaled radii of GBn2 the limits cross.
    return jnp.where(r + s > o, 0.5 * value, 0.0)


def _overlap_slope(r: Array, inverse: Array, o: Array, s: Array, engulfing: bool) -> Array:
    """Derivative of `_overlap` with respect to ``r``; ``inverse`` is 1/r.

    The limits of the integral contribute nothing, except for an engulfed atom whose complement is not counted.
    """
    iu, il, log = _limits(r, o, s)
    inverse2 = inverse * inverse
    slope = 0.125 * (1.0 + s * s * inverse2) * (iu * iu - il * il) - 0.25 * log * inverse2
    if not engulfing:
        slope = slope + jnp.where(s - r > o, il * il, 0.0)
    return jnp.where(r + s > o, slope, 0.0)

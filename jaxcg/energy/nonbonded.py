"""Lennard-Jones and Coulomb interactions with exceptions."""

import equinox as eqx
import jax
import jax.numpy as jnp

from ..neighbors import NeighborTable, partner_table
from ..space import minimum_image
from ..typing import Array, AtomVectors, Bool, Float, Int, Scalar
from ..units import COULOMB_CONSTANT
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._dispersion import dispersion_correction
from ._geometry import as_indices, corners, dot, subtract
from ._incidence import Incidence
from ._lists import DENSE_ATOMS as _DENSE_ATOMS
from ._lists import UNLISTED_ATOMS as _UNLISTED_ATOMS
from ._lists import box_leaf, complete_or_nan, first_table, renewed, stale
from ._pairs import AllPairs, pair_gradient

#: Squared distance (nm²) below which a pair's energy and U′(r)/r stop growing, so that both stay finite in float32.
NEAREST = 4e-6


class Nonbonded(AbstractAnalyticEnergy):
    """Lennard-Jones and Coulomb energy of all pairs but the exceptions, which have parameters of their own.

    U = Σ 4 √(ε_i ε_j) [(σ/r)¹² − (σ/r)⁶] + K q_i q_j / r with σ = (σ_i + σ_j)/2. With a cutoff the Coulomb part is a
    reaction field, K q_i q_j (1/r + k r² − c), and the Lennard-Jones part is truncated, or switched off smoothly
    between ``switch`` and ``cutoff``. Exceptions have neither cutoff nor reaction field. Conventions as in OpenMM.

    Without a cutoff, or for few atoms, all pairs are visited. Otherwise a neighbour table of radius
    ``cutoff + skin`` is used; the energy is exact while no atom has moved by more than ``skin / 2`` since the table was
    made (see `stale`), and is NaN when the table has overflowed. `rebuild` makes it anew, with more room if need be.

    Arguments:
        charges: (atoms,) e.
        sigmas: (atoms,) nm.
        epsilons: (atoms,) kJ/mol.
        exception_atoms: (exceptions, 2) atom indices; their pairs interact only through the exception.
        exception_charge_products: (exceptions,) e².
        exception_sigmas: (exceptions,) nm.
        exception_epsilons: (exceptions,) kJ/mol.
        cutoff: nm, or None.
        switch: nm, where the switching function begins, or None for plain truncation.
        dielectric: of the reaction field.
        box: (3, 3) reduced box vectors in rows, nm, or None.
        periodic_exceptions: whether exceptions take the nearest periodic image.
        dispersion: whether to add the long-range dispersion correction (periodic boxes only).
        skin: nm.
        positions: (atoms, 3) nm, from which the first neighbour table is made. Without them all pairs are visited until
            `rebuild`, or, for more than 3000 atoms, the energy is NaN.
        room: rows of the neighbour table, in all and of one tile; chosen from the positions when None.
        softening: (atoms,) nm² or None: pairs are evaluated at √(r² + s_i + s_j) instead of r, so they may overlap.

    Raises:
        ValueError: shapes or ranges do not fit, with what to do.
    """

    charges: Float[Array, " atoms"]
    sigmas: Float[Array, " atoms"]
    epsilons: Float[Array, " atoms"]
    exception_atoms: Int[Array, "exceptions 2"]
    exception_charge_products: Float[Array, " exceptions"]
    exception_sigmas: Float[Array, " exceptions"]
    exception_epsilons: Float[Array, " exceptions"]
    box: Float[Array, "3 3"] | None
    dielectric: Float[Array, ""]
    coulomb_constant: Float[Array, ""]
    pairs: AllPairs | NeighborTable
    excluded: Int[Array, "width atoms"] | None
    incidence: Incidence
    softening: Float[Array, " atoms"] | None
    cutoff: float | None = eqx.field(static=True)
    switch: float | None = eqx.field(static=True)
    skin: float = eqx.field(static=True)
    periodic_exceptions: bool = eqx.field(static=True)
    dispersion: bool = eqx.field(static=True)

    def __init__(
        self,
        charges,
        sigmas,
        epsilons,
        exception_atoms=(),
        exception_charge_products=(),
        exception_sigmas=(),
        exception_epsilons=(),
        *,
        cutoff: float | None = None,
        switch: float | None = None,
        dielectric: float = 78.3,
        box=None,
        periodic_exceptions: bool = False,
        dispersion: bool = False,
        skin: float = 0.1,
        positions=None,
        room: tuple[int, int] | None = None,
        softening=None,
    ):
        n_atoms = len(charges)
        exceptions = as_indices(exception_atoms, 2, n_atoms, "Nonbonded")
        if not len(sigmas) == len(epsilons) == n_atoms:
            raise ValueError("Nonbonded: charges, sigmas and epsilons must have one value per atom.")
        if box is not None and cutoff is None:
            raise ValueError("Nonbonded: a periodic box needs a cutoff.")
        if cutoff is not None and switch is not None and not 0 <= switch < cutoff:
            raise ValueError("Nonbonded: the switching distance must lie between 0 and the cutoff.")
        if dispersion and box is None:
            raise ValueError("Nonbonded: the dispersion correction needs a periodic box.")
        self.charges, self.sigmas, self.epsilons = map(leaf, (charges, sigmas, epsilons))
        self.exception_atoms = leaf(exceptions)
        self.exception_charge_products = leaf(exception_charge_products, self.charges.dtype)
        self.exception_sigmas = leaf(exception_sigmas, self.charges.dtype)
        self.exception_epsilons = leaf(exception_epsilons, self.charges.dtype)
        self.box = None if box is None else box_leaf(box, cutoff, "Nonbonded")
        self.dielectric = leaf(dielectric, self.charges.dtype)
        self.coulomb_constant = leaf(COULOMB_CONSTANT, self.charges.dtype)
        self.incidence = Incidence(exceptions, n_atoms)
        self.softening = None if softening is None else leaf(softening)
        self.cutoff, self.switch, self.skin = cutoff, switch, skin
        self.periodic_exceptions, self.dispersion = periodic_exceptions, dispersion
        listed = cutoff is not None and n_atoms > _DENSE_ATOMS
        self.excluded = leaf(partner_table(exceptions, n_atoms)) if listed else None
        if cutoff is None or not listed or (positions is None and room is None and n_atoms <= _UNLISTED_ATOMS):
            self.pairs = AllPairs(n_atoms, exceptions)
        else:
            self.pairs = first_table(n_atoms, cutoff + skin, positions, room, self.excluded, box, self.charges.dtype)

    def rebuild(self, x: AtomVectors) -> "Nonbonded":
        """The same energy with its neighbour table made anew around ``x``.

        Shapes stay, unless ``x`` is concrete and there is no table yet, or it is too small for ``x``: then it gets more
        room.
        """
        if self.excluded is None or self.cutoff is None:
            return self
        radius = self.cutoff + self.skin
        pairs = renewed(self.pairs, x, radius, self.excluded, self.box, self.charges.dtype)
        return self if pairs is self.pairs else eqx.tree_at(lambda e: e.pairs, self, pairs)

    def stale(self, x: AtomVectors) -> Bool[Array, ""]:
        """Whether an atom has moved by more than half the skin, so that `rebuild` is due."""
        return stale(self.pairs, x, self.skin)

    def with_box(self, box: Array) -> "Nonbonded":
        """The same energy in another periodic box; one without a box returns itself."""
        return self if self.box is None else eqx.tree_at(lambda e: e.box, self, box_leaf(box, self.cutoff, "Nonbonded"))

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        energy, gradient = self._pair_sum(jnp.asarray(x))
        exception_energy, exception_gradient = self._exception_sum(x)
        energy = energy + exception_energy
        if self.dispersion and self.box is not None and self.cutoff is not None:
            sigmas, epsilons, box = (a.astype(x.dtype) for a in (self.sigmas, self.epsilons, self.box))
            energy = energy + dispersion_correction(sigmas, epsilons, box, self.cutoff, self.switch)
        energy, gradient = complete_or_nan(self.pairs, energy, gradient)
        return energy, gradient + exception_gradient

    def _pair_sum(self, x: Array) -> tuple[Scalar, Array]:
        charges = self.charges.astype(x.dtype) * jnp.sqrt(self.coulomb_constant).astype(x.dtype)
        half_sigma = 0.5 * self.sigmas.astype(x.dtype)
        root = 2.0 * safe_sqrt(self.epsilons.astype(x.dtype))
        field = self._reaction_field(x.dtype)
        box = None if self.box is None else self.box.astype(x.dtype)
        soft = () if self.softening is None else (self.softening.astype(x.dtype),)

        def kernel(r2, source, target, present):
            if self.cutoff is not None:
                present = present & ~(r2 >= self.cutoff**2)  # NaN stays in sight
            if soft:
                r2 = r2 + (target[3] + source[3])
            sigma, depth = target[1] + source[1], target[2] * source[2]
            energy, slope = pair_energy(
                jnp.where(present, r2, jnp.inf), target[0] * source[0], sigma, depth, field, self.switch, self.cutoff
            )
            if field is not None:
                energy, slope = jnp.where(present, energy, 0.0), jnp.where(present, slope, 0.0)
            return energy, slope

        energy, gradient = pair_gradient(kernel, x, (charges, half_sigma, root, *soft), self.pairs, box)
        return 0.5 * jnp.sum(energy), gradient

    def _exception_sum(self, x: AtomVectors) -> tuple[Scalar, Array]:
        start, end = corners(x, self.exception_atoms)
        d = subtract(start, end)
        if self.box is not None and self.periodic_exceptions:
            d = minimum_image(d, self.box.astype(x.dtype))
        products = self.exception_charge_products.astype(x.dtype) * self.coulomb_constant.astype(x.dtype)
        depth = 4.0 * self.exception_epsilons.astype(x.dtype)
        r2 = dot(d, d)
        if self.softening is not None:
            soft = self.softening.astype(x.dtype)
            r2 = r2 + (soft[self.exception_atoms[:, 0]] + soft[self.exception_atoms[:, 1]])
        energy, slope = pair_energy(r2, products, self.exception_sigmas.astype(x.dtype), depth)
        g = (slope * d[0], slope * d[1], slope * d[2])
        return jnp.sum(energy), self.incidence.total((g, (-g[0], -g[1], -g[2])))

    def _reaction_field(self, dtype) -> tuple[Array, Array] | None:
        if self.cutoff is None:
            return None
        e = self.dielectric.astype(dtype)
        return (e - 1) / (2 * e + 1) / self.cutoff**3, 3 * e / (2 * e + 1) / self.cutoff


def pair_energy(
    r2: Array,
    charge_product: Array,
    sigma: Array,
    depth: Array,
    field: tuple[Array, Array] | None = None,
    switch: float | None = None,
    cutoff: float | None = None,
) -> tuple[Array, Array]:
    """Energy of pairs and its derivative with respect to r²/2, i.e. U′(r)/r.

    Arguments:
        r2: squared distances; infinity gives zero.
        charge_product: K q_i q_j.
        sigma: nm.
        depth: 4 ε.
        field: reaction-field constants (k, c).
        switch, cutoff: where the Lennard-Jones part is switched off, see `switching`.
    """
    bounded = jnp.maximum(r2, NEAREST)
    inverse = jax.lax.rsqrt(bounded)
    inverse2 = inverse * inverse
    coulomb = charge_product * inverse
    s2 = sigma * sigma * inverse2
    s6 = s2 * s2 * s2
    attraction = depth * s6
    repulsion = attraction * s6
    lennard_jones = repulsion - attraction
    slope = 6.0 * attraction - 12.0 * repulsion
    if switch is not None and cutoff is not None:
        r = jnp.where(jnp.isinf(bounded), 0.0, bounded) * inverse
        factor, by_r = switching(r, switch, cutoff)
        slope = slope * factor + by_r * r * lennard_jones
        lennard_jones = lennard_jones * factor
    slope = (slope - coulomb) * inverse2
    energy = coulomb + lennard_jones
    if field is not None:
        k, c = field
        energy = energy + charge_product * (k * jnp.where(jnp.isinf(bounded), 0.0, bounded) - c)
        slope = slope + 2.0 * k * charge_product
    return energy, slope


def switching(r: Array, switch: float, cutoff: float) -> tuple[Array, Array]:
    """1 − 10 t³ + 15 t⁴ − 6 t⁵ with t = (r − switch)/(cutoff − switch) in [0, 1], and its derivative by r."""
    t = jnp.clip((r - switch) / (cutoff - switch), 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - t * (15.0 - 6.0 * t)), -30.0 * (t * (1.0 - t)) ** 2 / (cutoff - switch)


def safe_sqrt(a: Array) -> Array:
    """Square root whose derivative at zero is zero instead of infinite."""
    positive = a > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, a, 1.0)), 0.0)

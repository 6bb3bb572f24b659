"""Stillinger–Weber potentials: pairs, and triplets that want their angles tetrahedral."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp

from ..neighbors import NeighborTable
from ..space import minimum_image
from ..typing import Array, AtomVectors, Bool, Float, Scalar
from ..units import ANGSTROM, KILOCALORIE
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import Triple, dot
from ._lists import DENSE_ATOMS, UNLISTED_ATOMS, box_leaf, complete_or_nan, first_table, renewed, stale
from ._pairs import AllPairs, row_sums
from .base import SumEnergy
from .nonbonded import NEAREST
from .pair_energy import PairEnergy
from .pair_potentials import StillingerWeberPair, potential_reach, vanishing_exponential


class StillingerWeber(NamedTuple):
    """Parameters of a Stillinger–Weber potential of one kind of atom.

    U = Σ_pairs Aε [B (σ/r)^p − (σ/r)^q] exp(σ/(r − aσ))
      + Σ_centres Σ_pairs of neighbours λε (cos θ − cos θ₀)² exp(γσ/(r − aσ)) exp(γσ/(r′ − aσ)), for r and r′ below aσ.

    Fields:
        epsilon: ε, kJ/mol.
        sigma: σ, nm.
        triplet_strength: λ.
        triplet_decay: γ.
        cosine: cos θ₀.
        range_: a.
        pair_strength: A.
        repulsion: B.
        powers: p and q.

    Source: Stillinger & Weber, Phys. Rev. B 31, 5262 (1985).
    """

    epsilon: float | Array
    sigma: float | Array
    triplet_strength: float | Array = 21.0
    triplet_decay: float | Array = 1.2
    cosine: float | Array = -1.0 / 3.0
    range_: float | Array = 1.8
    pair_strength: float | Array = 7.049556277
    repulsion: float | Array = 0.6022245584
    powers: tuple[int, int] = (4, 0)


#: One-site water, mW. Source: Molinero & Moore, J. Phys. Chem. B 113, 4008 (2009).
MW_WATER = StillingerWeber(epsilon=6.189 * KILOCALORIE, sigma=2.3925 * ANGSTROM, triplet_strength=23.15)

#: Silicon, with ε = 2.1683 eV. Source: Stillinger & Weber, Phys. Rev. B 31, 5262 (1985).
SILICON = StillingerWeber(epsilon=2.1683 * 96.48533212331, sigma=2.0951 * ANGSTROM)


def stillinger_weber(
    parameters: StillingerWeber, n_atoms: int, *, box=None, skin: float = 0.1, positions=None, room=None
) -> SumEnergy:
    """The energy of a Stillinger–Weber liquid or solid: a `PairEnergy` and `StillingerWeberTriplets`, in this order.

    Arguments:
        parameters: `MW_WATER`, `SILICON` or others.
        n_atoms: number of atoms.
        box, skin, positions, room: as of `PairEnergy`.

    Raises:
        ValueError: the range of the potential is more than half the box.
    """
    p = parameters
    pair = StillingerWeberPair(p.epsilon, p.sigma, p.pair_strength, p.repulsion, p.powers, p.range_)
    pairs = PairEnergy(pair, n_atoms, box=box, skin=skin, positions=positions, room=room)
    triplets = StillingerWeberTriplets(p, n_atoms, box=box, skin=skin, positions=positions, room=room)
    return SumEnergy((pairs, triplets))


class StillingerWeberTriplets(AbstractAnalyticEnergy):
    """The three-body part of a Stillinger–Weber potential.

    No triplet is ever listed: with unit vectors w to the neighbours and weights f = exp(γσ/(r − aσ)), the sum over the
    pairs of neighbours of one centre is ½ λε [T:T − 2c V·V + c² S² − (1 − c)² Q] with T = Σ f w wᵀ, V = Σ f w, S = Σ f,
    Q = Σ f² and c = cos θ₀. So the cost grows with the neighbours and not with their pairs, memory is that of a pair
    energy, and no list of triplets can overflow. (A neighbour table can: then the energy is NaN until `rebuild`.)

    Arguments:
        parameters: of the potential; those of its pair part are not used.
        n_atoms: number of atoms.
        box: (3, 3) reduced box vectors, nm, or None.
        skin, positions, room: of the neighbour table, as in `PairEnergy`.
        reach: nm, how far lists of neighbours reach; at least aσ, which is the default.

    Raises:
        ValueError: the range of the potential is more than half the box, or the reach too short.
    """

    epsilon: Float[Array, ""]
    sigma: Float[Array, ""]
    strength: Float[Array, ""]
    decay: Float[Array, ""]
    cosine: Float[Array, ""]
    range_: Float[Array, ""]
    box: Float[Array, "3 3"] | None
    pairs: AllPairs | NeighborTable
    listed: bool = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)
    skin: float = eqx.field(static=True)

    def __init__(
        self,
        parameters: StillingerWeber,
        n_atoms: int,
        *,
        box=None,
        skin: float = 0.1,
        positions=None,
        room: tuple[int, int] | None = None,
        reach: float | None = None,
    ):
        p = parameters
        self.epsilon, self.sigma = leaf(p.epsilon), leaf(p.sigma)
        self.strength, self.decay = leaf(p.triplet_strength), leaf(p.triplet_decay)
        self.cosine, self.range_ = leaf(p.cosine), leaf(p.range_)
        self.cutoff = potential_reach(p.range_, p.sigma, reach, "StillingerWeberTriplets")
        self.skin = float(skin)
        self.box = None if box is None else box_leaf(box, self.cutoff, "StillingerWeberTriplets")
        self.listed = n_atoms > DENSE_ATOMS
        if not self.listed or (positions is None and room is None and n_atoms <= UNLISTED_ATOMS):
            self.pairs = AllPairs(n_atoms)
        else:
            self.pairs = first_table(n_atoms, self.cutoff + self.skin, positions, room, None, box, self.epsilon.dtype)

    def rebuild(self, x: AtomVectors) -> "StillingerWeberTriplets":
        """The same energy with its neighbour table made anew around ``x``, as `PairEnergy.rebuild` does."""
        if not self.listed:
            return self
        pairs = renewed(self.pairs, x, self.cutoff + self.skin, None, self.box, self.epsilon.dtype)
        return self if pairs is self.pairs else eqx.tree_at(lambda e: e.pairs, self, pairs)

    def stale(self, x: AtomVectors) -> Bool[Array, ""]:
        """Whether an atom has moved by more than half the skin, so that `rebuild` is due."""
        return stale(self.pairs, x, self.skin)

    def with_box(self, box: Array) -> "StillingerWeberTriplets":
        """The same energy in another periodic box; one without a box returns itself.

        Raises:
            ValueError: the range of the potential is more than half the box.
        """
        if self.box is None:
            return self
        return eqx.tree_at(lambda e: e.box, self, box_leaf(box, self.cutoff, "StillingerWeberTriplets"))

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        x = jnp.asarray(x)
        points = (x[:, 0], x[:, 1], x[:, 2])
        cosine = self.cosine.astype(x.dtype)
        scale = (self.strength * self.epsilon).astype(x.dtype)

        def moments(source, target, present):
            _, w, f, _ = self._neighbor(source, target, present)
            fw = (f * w[0], f * w[1], f * w[2])
            tensor = (fw[0] * w[0], fw[1] * w[1], fw[2] * w[2], fw[0] * w[1], fw[0] * w[2], fw[1] * w[2])
            return (f, f * f, *fw, *tensor)

        s, q, *rest = row_sums(moments, points, self.pairs)
        v, t = rest[:3], rest[3:]
        squared = t[0] ** 2 + t[1] ** 2 + t[2] ** 2 + 2.0 * (t[3] ** 2 + t[4] ** 2 + t[5] ** 2)
        centre = squared - 2.0 * cosine * dot(_triple(v), _triple(v)) + (cosine * s) ** 2 - (1.0 - cosine) ** 2 * q
        energy = 0.5 * scale * jnp.sum(centre)

        def forces(source, target, present):
            # Both ends are centres: that of the partner sees the vector reversed, which changes the sign of V alone.
            inverse, w, f, slope = self._neighbor(source[:3], target[:3], present)
            s_both = target[3] + source[3]
            v_both = _triple([a - b for a, b in zip(target[4:7], source[4:7], strict=True)])
            xx, yy, zz, xy, xz, yz = (a + b for a, b in zip(target[7:], source[7:], strict=True))
            tw = (
                xx * w[0] + xy * w[1] + xz * w[2],
                xy * w[0] + yy * w[1] + yz * w[2],
                xz * w[0] + yz * w[1] + zz * w[2],
            )
            wtw, vw = dot(w, tw), dot(v_both, w)
            along = slope * (wtw - 2.0 * cosine * vw + cosine**2 * s_both - 2.0 * (1.0 - cosine) ** 2 * f)
            # What turns w: f (T w − c V), of which only the part across w counts.
            across = 2.0 * f * inverse
            rest = along - across * (wtw - cosine * vw)
            return tuple(rest * w[k] + across * (tw[k] - cosine * v_both[k]) for k in range(3))

        gradient = scale * jnp.stack(row_sums(forces, (*points, s, *v, *t), self.pairs), axis=-1)
        energy, gradient = complete_or_nan(self.pairs, energy, gradient)
        return energy, gradient

    def _neighbor(self, source, target, present) -> tuple[Array, Triple, Array, Array]:
        """1/r, the unit vector from the partner, its weight f and df/dr; all zero but the first where there is none."""
        d = (target[0] - source[0], target[1] - source[1], target[2] - source[2])
        dtype = d[0].dtype
        if self.box is not None:
            d = minimum_image(d, self.box.astype(dtype))
        sigma = self.sigma.astype(dtype)
        end = self.range_.astype(dtype) * sigma
        r2 = dot(d, d)
        within = present & ~(r2 >= self.cutoff**2)  # NaN stays in sight
        r = jnp.sqrt(jnp.where(within, jnp.maximum(r2, NEAREST), self.cutoff**2))
        f, slope = vanishing_exponential(r, self.decay.astype(dtype) * sigma, end)
        f, slope = jnp.where(within, f, 0.0), jnp.where(within, slope, 0.0)
        inverse = 1.0 / r
        return inverse, (d[0] * inverse, d[1] * inverse, d[2] * inverse), f, slope


def _triple(values) -> Triple:
    return values[0], values[1], values[2]

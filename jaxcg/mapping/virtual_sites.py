"""Beads defined on beads: the virtual interaction sites of GROMACS.

Linear constructions are composed into a `LinearMap`. The others place a site at a fixed distance, at an angle or out
of a plane and give a `VirtualSites`, a map that is smooth wherever its construction is defined.

Source: GROMACS reference manual, "Virtual interaction sites"; Feenstra, Hess & Berendsen, J. Comput. Chem. 20, 786
(1999).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array

from ..typing import Array, AtomVectors, BeadVectors, Bool, Float
from ._sparse import SparseMatrix
from .base import AbstractMap
from .linear import LinearMap

#: Number of constructing beads and of parameters of every kind of site; None for any number.
_KINDS: dict[str, tuple[int | None, int | None]] = {
    "2": (2, 1),
    "3": (3, 2),
    "n": (None, None),
    "2fd": (2, 1),
    "3fd": (3, 2),
    "3fad": (3, 2),
    "3out": (3, 3),
    "4fdn": (4, 3),
}
_LINEAR = ("2", "3", "n")
#: Squared lengths (nm²) below which a direction is taken as undefined.
_NOTHING = 1e-24


@dataclass(frozen=True)
class Site:
    """A virtual site.

    With i, j, k, l the constructing beads in order, r_ij = r_j − r_i, and parameters in the order and units of a
    GROMACS topology (nm, degrees, nm⁻¹), a site is at

    - ``"2"`` (a): (1 − a) r_i + a r_j
    - ``"3"`` (a, b): (1 − a − b) r_i + a r_j + b r_k
    - ``"n"`` (weights): Σ w r / Σ w over any number of beads; equal weights when there are none. Masses give the
      centre of mass.
    - ``"2fd"`` (a): r_i + a r_ij/|r_ij|
    - ``"3fd"`` (a, d): r_i + d u/|u|, u = r_ij + a r_jk
    - ``"3fad"`` (θ, d): r_i + d cos θ r_ij/|r_ij| + d sin θ u/|u|, u the part of r_jk perpendicular to r_ij
    - ``"3out"`` (a, b, c): r_i + a r_ij + b r_ik + c r_ij × r_ik
    - ``"4fdn"`` (a, b, c): r_i + c u/|u|, u = (a r_ik − r_ij) × (b r_il − r_ij)

    Attributes:
        bead: number of the site among all beads.
        kind: one of the above.
        beads: numbers of the constructing beads among all beads; they may be sites too.
        parameters: see above.
    """

    bead: int
    kind: str
    beads: tuple[int, ...]
    parameters: tuple[float, ...] = ()


class VirtualSites(AbstractMap):
    """A linear map whose beads carry further beads, at least one of a non-linear construction.

    Build it with `with_virtual_sites`. Where a construction is undefined (coinciding or collinear beads) the site
    sits at its first constructing bead, or without the undefined part, and gradients are finite: see `degenerate`.
    """

    base: LinearMap
    _stages: tuple["_Stage", ...]
    _order: np.ndarray  # (beads,) place of each bead among the base's and then the stages'
    n_beads: int = eqx.field(static=True)
    n_atoms: int = eqx.field(static=True)
    #: Numbers of the beads that are non-linear sites, in the order of `definedness`.
    sites: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, x: AtomVectors) -> BeadVectors:
        """Bead positions (beads, 3) of the configuration ``x`` (atoms, 3); nm, as lengths of the sites are."""
        y = self.base(x)
        for stage in self._stages:
            y = jnp.concatenate([y, stage(y)[0]])
        return y[self._order]

    @property
    def order(self) -> np.ndarray:
        """(beads,) place of each bead among the base's beads and, after them, the sites stage by stage."""
        return self._order

    def stage_patterns(self) -> tuple[coo_array, ...]:
        """For each stage of sites a (sites, beads placed before) array that is 1 where a site uses a bead."""
        return tuple(stage.pattern() for stage in self._stages)

    def definedness(self, x: AtomVectors) -> Float[Array, " sites"]:
        """How well the construction of each non-linear site is defined at ``x``: 1 at best, 0 where it is not.

        It is the length of the vector that gives the direction relative to the lengths it is made of: the sine of
        the angle for ``"3fad"`` and ``"4fdn"``. Fixed distances from one bead to another compare it with the
        distance, and ``"3out"`` is always defined.
        """
        y = self.base(x)
        measures = []
        for stage in self._stages:
            positions, defined = stage(y)
            y = jnp.concatenate([y, positions])
            if stage.kind not in _LINEAR:
                measures.append(defined)
        return jnp.concatenate(measures)

    def degenerate(self, x: AtomVectors, tolerance: float = 1e-3) -> Bool[Array, " sites"]:
        """Whether the construction of each non-linear site (see ``sites``) is undefined at ``x`` or close to it."""
        return self.definedness(x) < tolerance


def with_virtual_sites(base: LinearMap, sites: Sequence[Site]) -> LinearMap | VirtualSites:
    """A map whose beads are those of ``base`` and virtual sites defined on them.

    Arguments:
        base: map to the beads that are no sites; they take the bead numbers that no site has, in order.
        sites: the sites, in any order; they may be defined on sites but not in a circle.

    Returns:
        A `LinearMap` when all sites are linear, else a `VirtualSites`.

    Raises:
        ValueError: a site of an unknown kind or with a wrong number of beads or parameters, two sites for one bead,
            bead numbers out of range, or sites defined in a circle.
    """
    sites = tuple(sites)
    n_beads = base.n_beads + len(sites)
    for site in sites:
        _check(site, n_beads)
    taken = [site.bead for site in sites]
    if len(set(taken)) < len(taken):
        twice = next(bead for bead in taken if taken.count(bead) > 1)
        raise ValueError(f"virtual sites: bead {twice} is defined twice; keep one definition.")
    own = np.setdiff1d(np.arange(n_beads), np.array(taken, dtype=int))
    place = np.full(n_beads, -1)
    place[own] = np.arange(base.n_beads)

    # Linear sites on beads that are linear themselves go into the base; what is left is done in stages.
    left = list(sites)
    while ready := [s for s in left if s.kind in _LINEAR and np.all(place[list(s.beads)] >= 0)]:
        base = base.then(_appended(base.n_beads, ready, place))
        place[[site.bead for site in ready]] = np.arange(base.n_beads - len(ready), base.n_beads)
        left = [site for site in left if place[site.bead] < 0]
    if not left:
        return base.then(LinearMap.slice(place, n_beads))
    stages, found, order = [], base.n_beads, []
    while left:
        ready = [site for site in left if np.all(place[list(site.beads)] >= 0)]
        if not ready:
            raise ValueError(f"virtual sites: bead {left[0].bead} is defined by itself, through other sites.")
        shape = ready[0].kind, len(ready[0].beads)
        group = [site for site in ready if (site.kind, len(site.beads)) == shape]
        stages.append(_Stage.of(group, place, found))
        if shape[0] not in _LINEAR:
            order += [site.bead for site in group]
        place[[site.bead for site in group]] = np.arange(found, found + len(group))
        found += len(group)
        left = [site for site in left if place[site.bead] < 0]
    return VirtualSites(
        base=base,
        _stages=tuple(stages),
        _order=place.astype(np.int32),
        n_beads=n_beads,
        n_atoms=base.n_atoms,
        sites=tuple(order),
    )


class _Stage(eqx.Module):
    """Sites of one kind whose constructing beads are known, placed together."""

    pick: SparseMatrix  # (sites × constructing beads of each, beads so far): a gather both ways
    parameters: Array | np.ndarray  # (parameters, sites)
    kind: str = eqx.field(static=True)

    @staticmethod
    def of(group: list[Site], place: np.ndarray, n_beads: int) -> "_Stage":
        beads = place[np.array([site.beads for site in group])].T.ravel()
        pick = SparseMatrix.of(np.arange(len(beads)), beads, np.ones(len(beads)), len(beads), n_beads)
        if group[0].kind in _LINEAR:
            return _Stage(pick, np.array([_weights(site) for site in group]).T, group[0].kind)
        parameters = np.array([site.parameters for site in group], dtype=np.float64).T
        if group[0].kind == "3fad":
            parameters[0] = np.deg2rad(parameters[0])
        return _Stage(pick, parameters, group[0].kind)

    def pattern(self) -> coo_array:
        """(sites, beads so far), 1 where a site is constructed on a bead."""
        row, bead, _ = self.pick.entries()
        sites = self.parameters.shape[1]
        return coo_array((np.ones(len(row)), (row % sites, bead)), shape=(sites, self.pick.n_columns))

    def __call__(self, y):
        """Positions (sites, 3) and how well they are defined (sites,)."""
        n_sites = self.parameters.shape[1]
        r = self.pick.apply(y).reshape(-1, n_sites, 3)
        p = jnp.asarray(self.parameters).astype(r.dtype)[:, :, None]
        if self.kind in _LINEAR:
            return jnp.sum(p * r, axis=0), jnp.ones(n_sites, r.dtype)
        ri, rij = r[0], r[1] - r[0]
        if self.kind == "2fd":
            unit, length = _direction(rij)
            return ri + p[0] * unit, length / (length + jnp.abs(p[0, :, 0]))
        rik = r[2] - r[0]
        if self.kind == "3fd":
            rjk = r[2] - r[1]
            unit, length = _direction(rij + p[0] * rjk)
            scale = _direction(rij)[1] + jnp.abs(p[0, :, 0]) * _direction(rjk)[1]
            return ri + p[1] * unit, _ratio(length, scale)
        if self.kind == "3fad":
            rjk = r[2] - r[1]
            along, length = _direction(rij)
            across, height = _direction(rjk - along * jnp.sum(along * rjk, axis=1, keepdims=True))
            position = ri + p[1] * (jnp.cos(p[0]) * along + jnp.sin(p[0]) * across)
            return position, jnp.where(length > 0, _ratio(height, _direction(rjk)[1]), 0.0)
        if self.kind == "3out":
            position = ri + p[0] * rij + p[1] * rik + p[2] * jnp.cross(rij, rik)
            return position, jnp.ones(n_sites, r.dtype)
        rja, rjb = p[0] * rik - rij, p[1] * (r[3] - r[0]) - rij
        unit, length = _direction(jnp.cross(rja, rjb))
        return ri + p[2] * unit, _ratio(length, _direction(rja)[1] * _direction(rjb)[1])


def _direction(v):
    """Unit vectors and lengths of ``v`` (sites, 3); both zero, with zero gradients, where v is nothing."""
    square = jnp.sum(v * v, axis=-1)
    something = square > _NOTHING
    length = jnp.sqrt(jnp.where(something, square, 1.0))
    unit = jnp.where(something[:, None], v, 0.0) / length[:, None]
    return unit, jnp.where(something, length, 0.0)


def _ratio(length, scale):
    return length / jnp.where(scale > 0, scale, 1.0)


def _weights(site: Site) -> tuple[float, ...]:
    """Weights of the constructing beads of a linear site."""
    if site.kind == "n":
        weights = np.ones(len(site.beads)) if not site.parameters else np.asarray(site.parameters, dtype=np.float64)
        return tuple((weights / weights.sum()).tolist())
    return (1.0 - sum(site.parameters), *site.parameters)


def _appended(n_beads: int, sites: list[Site], place: np.ndarray) -> LinearMap:
    """The beads as they are, followed by linear sites on them."""
    rows, columns, values = [np.arange(n_beads)], [np.arange(n_beads)], [np.ones(n_beads)]
    for number, site in enumerate(sites):
        rows.append(np.full(len(site.beads), n_beads + number))
        columns.append(place[list(site.beads)])
        values.append(np.array(_weights(site)))
    row, column, value = (np.concatenate(arrays) for arrays in (rows, columns, values))
    return LinearMap.from_weights(row, column, value, n_beads + len(sites), n_beads)


def _check(site: Site, n_beads: int) -> None:
    who = f"virtual site, bead {site.bead}"
    if site.kind not in _KINDS:
        raise ValueError(f"{who}: kind {site.kind!r} is not known; use one of {', '.join(_KINDS)}.")
    beads, parameters = _KINDS[site.kind]
    if not site.beads or (beads is not None and len(site.beads) != beads):
        raise ValueError(
            f"{who}: {len(site.beads)} constructing beads; kind {site.kind} takes {beads or 'one or more'}."
        )
    if parameters is None:
        parameters = len(site.beads) if site.parameters else 0
    if len(site.parameters) != parameters:
        raise ValueError(f"{who}: {len(site.parameters)} parameters; kind {site.kind} takes {parameters}.")
    if not np.all(np.isfinite(site.parameters)):
        raise ValueError(f"{who}: parameters must be finite.")
    if site.kind == "n" and site.parameters and not sum(site.parameters) > 0:
        raise ValueError(f"{who}: the sum of its weights must be positive.")
    wrong = [bead for bead in (site.bead, *site.beads) if not 0 <= bead < n_beads]
    if wrong:
        raise ValueError(f"{who}: bead {wrong[0]} is outside 0..{n_beads - 1}.")

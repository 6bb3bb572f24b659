"""A collective coordinate as a forward map, so that the samplers hold it."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...mapping.base import AbstractMap
from ...sampling.estimators.lifts import CurvedLift
from ...typing import Array, AtomScalars, AtomVectors, BeadVectors


class CoordinateMap(AbstractMap):
    """One collective coordinate as a map of one bead, (ξ(x), X, Y) with X and Y those of one atom.

    A bead has three numbers; the other two say where the molecule is. Where the energy does not depend on that (no box,
    no restraint of positions) holding them changes nothing, and the mean force of ξ is that of the coordinate alone.

        mapping = CoordinateMap(angle, n_atoms)
        posterior = Posterior(energy, mapping, mapping.bead(1.9))
        geometry = ConstrainedGeometry(posterior, masses)
        ...
        mean_force(draws, posterior, mapping.lift(masses))

    Arguments:
        coordinate: ξ(x), a differentiable function from positions (atoms, 3) in nm to a number of order one or below
            (nm, radians), that does not change when the molecule is moved as a whole. A module-level function or an
            Equinox module.
        n_atoms: number of atoms.
        anchor: the atom.

    Raises:
        ValueError: no such atom.
    """

    coordinate: Callable[[Array], Array]
    n_atoms: int = eqx.field(static=True)
    anchor: int = eqx.field(static=True)
    n_beads: int = eqx.field(static=True)

    def __init__(self, coordinate: Callable[[Array], Array], n_atoms: int, *, anchor: int = 0):
        if not 0 <= anchor < n_atoms:
            raise ValueError(f"CoordinateMap: there is no atom {anchor} among {n_atoms}.")
        self.coordinate, self.n_atoms, self.anchor, self.n_beads = coordinate, n_atoms, anchor, 1

    def __call__(self, x: AtomVectors) -> Array:
        """(1, 3): ξ, X and Y of ``x`` (atoms, 3)."""
        x = jnp.asarray(x)
        return jnp.concatenate([jnp.reshape(self.coordinate(x), (1,)), x[self.anchor, :2]])[None]

    def bead(self, value: float, dtype=None) -> BeadVectors:
        """(1, 3) what a posterior takes to hold ξ at ``value``, with the atom at X = Y = 0."""
        return jnp.asarray([[value, 0.0, 0.0]], dtype)

    def lift(self, masses: AtomScalars) -> CurvedLift:
        """The lift of ξ alone for `jaxcg.sampling.mean_force`: the mean force is a number, kJ/mol per unit of ξ."""
        return CurvedLift(self.coordinate, np.asarray(masses), _Anchor(self.anchor))


class _Anchor(eqx.Module):
    atom: int = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        return x[self.atom, :2]

"""CMAP: a tabulated energy of two dihedral angles."""

import math

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import CubicSpline

from ..typing import Array, AtomVectors, Float, Int, Scalar
from ._analytic import AbstractAnalyticEnergy
from ._arrays import leaf
from ._geometry import as_indices, corners, dihedral_angle, scale
from ._incidence import Incidence


class CMAPTorsion(AbstractAnalyticEnergy):
    """Energy correction maps, U = Σ E_map(φ, ψ), interpolated by a bicubic spline through a periodic grid.

    Arguments:
        atoms: (torsions, 8) atom indices: the four of φ, then the four of ψ.
        map_index: (torsions,) which map each pair of dihedrals uses.
        grids: (maps, size, size) energies in kJ/mol at φ = 2π i / size, ψ = 2π j / size, ``grids[map, i, j]``.
        n_atoms: number of atoms of the molecule.

    Raises:
        ValueError: an index is out of range or the grids are not square.

    Source: Mackerell, Feig & Brooks, J. Comput. Chem. 25, 1400 (2004).
    """

    atoms: Int[Array, "torsions 8"]
    map_index: Int[Array, " torsions"]
    grids: Float[Array, "maps size size"]
    incidence: Incidence

    def __init__(self, atoms, map_index, grids, *, n_atoms: int):
        table = as_indices(atoms, 8, n_atoms, "CMAPTorsion")
        values = np.asarray(grids)
        if values.ndim != 3 or values.shape[1] != values.shape[2]:
            raise ValueError(f"CMAPTorsion: grids must have shape (maps, size, size), not {values.shape}.")
        which = np.asarray(map_index, dtype=np.int32)
        if which.size and (which.min() < 0 or which.max() >= len(values)):
            raise ValueError(f"CMAPTorsion: map indices must be between 0 and {len(values) - 1}.")
        self.atoms = leaf(table)
        self.map_index = leaf(which)
        self.grids = leaf(values)
        self.incidence = Incidence(table, n_atoms)

    def energy_and_gradient(self, x: AtomVectors) -> tuple[Scalar, Array]:
        """Energy (kJ/mol) and gradient (kJ/mol/nm) at ``x``."""
        points = corners(x, self.atoms)
        phi, phi_gradients = dihedral_angle(*points[:4])
        psi, psi_gradients = dihedral_angle(*points[4:])
        size = self.grids.shape[1]
        u, v = phi * (size / (2 * math.pi)), psi * (size / (2 * math.pi))
        # The cell is a step function of the angles: it has no derivative.
        cell_u, cell_v = jnp.floor(u), jnp.floor(v)
        i, j = cell_u.astype(jnp.int32), cell_v.astype(jnp.int32)
        patches = self._patches(x.dtype)
        corner = [[patches[:, self.map_index, (i + a) % size, (j + b) % size] for b in (0, 1)] for a in (0, 1)]
        su, du = _hermite(u - cell_u)
        sv, dv = _hermite(v - cell_v)
        energy = slope_u = slope_v = jnp.zeros_like(u)
        for a in (0, 1):
            for b in (0, 1):
                value, by_u, by_v, by_uv = corner[a][b]
                inner = value * sv[b] + by_v * sv[2 + b]
                inner_u = by_u * sv[b] + by_uv * sv[2 + b]
                energy += inner * su[a] + inner_u * su[2 + a]
                slope_u += inner * du[a] + inner_u * du[2 + a]
                slope_v += (value * su[a] + by_u * su[2 + a]) * dv[b] + (by_v * su[a] + by_uv * su[2 + a]) * dv[2 + b]
        per_radian = size / (2 * math.pi)
        gradients = [scale(slope_u * per_radian, g) for g in phi_gradients]
        gradients += [scale(slope_v * per_radian, g) for g in psi_gradients]
        return jnp.sum(energy), self.incidence.total(gradients)

    def _patches(self, dtype) -> Array:
        """Value, ∂φ, ∂ψ and ∂φψ at the nodes, in grid units, from the periodic cubic spline through the values."""
        grids = self.grids.astype(dtype)
        slope = jnp.asarray(_spline_slopes(grids.shape[1]), dtype)
        by_u = jnp.einsum("ki,mij->mkj", slope, grids, precision="highest")
        by_v = jnp.einsum("lj,mij->mil", slope, grids, precision="highest")
        by_uv = jnp.einsum("lj,mij->mil", slope, by_u, precision="highest")
        return jnp.stack([grids, by_u, by_v, by_uv])


def _spline_slopes(size: int) -> np.ndarray:
    """(size, size) matrix from periodic values at the integers to the slopes of the cubic spline through them."""
    values = np.eye(size)
    spline = CubicSpline(np.arange(size + 1), np.vstack([values, values[:1]]), bc_type="periodic")
    return spline(np.arange(size), 1)


def _hermite(t: Array) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Cubic Hermite basis (value at 0, value at 1, slope at 0, slope at 1) and its derivative."""
    value = t * t * (3 - 2 * t)
    basis = (1 - value, value, t * (1 - t) ** 2, t * t * (t - 1))
    slope = 6 * t * (1 - t)
    return basis, (-slope, slope, (1 - t) * (1 - 3 * t), t * (3 * t - 2))

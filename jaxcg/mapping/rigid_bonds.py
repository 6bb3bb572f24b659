"""Bonds whose length is held exactly."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..typing import Array, AtomVectors


class RigidBonds(eqx.Module):
    """Pairs of atoms at fixed distance: the constraints |r_i − r_j| = l of a posterior.

    They need not be chemical bonds: two bonds and the distance that closes their angle make rigid water. Distances are
    plain ones, not between periodic images: give whole molecules.

    Build it with `RigidBonds.of`, or with `RigidBonds.at` from a configuration that has the lengths.
    """

    pairs: np.ndarray
    lengths: Array | np.ndarray
    n_atoms: int = eqx.field(static=True)

    @staticmethod
    def of(pairs, lengths, n_atoms: int) -> "RigidBonds":
        """Bonds of given lengths.

        Arguments:
            pairs: (bonds, 2) atom indices.
            lengths: (bonds,) positive lengths, nm.
            n_atoms: number of atoms of the molecule.

        Raises:
            ValueError: shapes that do not fit, indices out of range, an atom bonded to itself, a pair given twice, or
                a length that is not positive and finite.
        """
        pairs = np.asarray(pairs, dtype=np.int32).reshape(-1, 2)
        lengths = np.asarray(lengths)
        if lengths.shape != (len(pairs),):
            raise ValueError(f"RigidBonds: {len(pairs)} pairs but lengths of shape {lengths.shape}; give one for each.")
        if pairs.size and (pairs.min() < 0 or pairs.max() >= n_atoms):
            raise ValueError(f"RigidBonds: atom indices must be in 0..{n_atoms - 1}.")
        alone = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
        if alone.size:
            raise ValueError(f"RigidBonds: bond {alone[0]} joins atom {pairs[alone[0], 0]} to itself.")
        _, first, times = np.unique(np.sort(pairs, axis=1), axis=0, return_index=True, return_counts=True)
        if np.any(times > 1):
            i, j = pairs[first[np.argmax(times > 1)]]
            raise ValueError(f"RigidBonds: the pair of atoms {i} and {j} is given twice; keep one.")
        wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
        if wrong.size:
            raise ValueError(
                f"RigidBonds: bond {wrong[0]} has length {lengths[wrong[0]]}; lengths (nm) must be positive."
            )
        return RigidBonds(pairs=pairs, lengths=lengths, n_atoms=n_atoms)

    @staticmethod
    def at(pairs, x: AtomVectors) -> "RigidBonds":
        """Bonds of the lengths that they have in the configuration ``x`` (atoms, 3), nm; raises as `of`."""
        x, pairs = np.asarray(x), np.asarray(pairs, dtype=np.int32).reshape(-1, 2)
        if pairs.size and (pairs.min() < 0 or pairs.max() >= len(x)):
            raise ValueError(f"RigidBonds: atom indices must be in 0..{len(x) - 1}.")
        lengths = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
        return RigidBonds.of(pairs, lengths, len(x))

    def distances(self, x: AtomVectors) -> Array:
        """(bonds,) distances |r_i − r_j| at ``x`` (atoms, 3), nm; with gradient zero where atoms coincide."""
        x = jnp.asarray(x)
        between = x[self.pairs[:, 0]] - x[self.pairs[:, 1]]
        square = jnp.sum(between**2, axis=1)
        same = square == 0
        return jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, square)))

    def residual(self, x: AtomVectors) -> Array:
        """(bonds,) by how much each bond of ``x`` is too long, nm, in the dtype of ``x``."""
        x = jnp.asarray(x)
        return self.distances(x) - jnp.asarray(self.lengths).astype(x.dtype)

"""Sums over the pairs of a frame of hat functions of the distance: what every pair potential is made of."""

import jax
import jax.numpy as jnp
import numpy as np

from ...space import minimum_image
from ...typing import Array, AtomVectors, Float

#: Pairs times basis functions evaluated together.
_AT_ONCE = 1 << 22


def hats(r: Array, knots: Array) -> Array:
    """(..., knots − 1) weights of linear interpolation between equally spaced knots; zero from the last on.

    Below the first knot the first weight is one. The last knot has none: what is interpolated is zero there.
    """
    place = jnp.maximum((r - knots[0]) / (knots[1] - knots[0]), 0.0)
    return jnp.maximum(1.0 - jnp.abs(place[..., None] - jnp.arange(knots.shape[0] - 1, dtype=r.dtype)), 0.0)


def slopes(r: Array, knots: Array) -> Array:
    """(..., knots − 1) derivatives by r of `hats`, 1/nm."""
    spacing = knots[1] - knots[0]
    segment = jnp.floor((r - knots[0]) / spacing)[..., None]
    column = jnp.arange(knots.shape[0] - 1, dtype=r.dtype)
    rising, falling = segment == column - 1, segment == column
    return (rising.astype(r.dtype) - falling.astype(r.dtype)) / spacing


@jax.jit
def force_sums(
    x: AtomVectors, forces: AtomVectors, box: Float[Array, "3 3"], knots: Float[Array, " knots"]
) -> tuple[Array, Array, Array]:
    """Normal equations of a pair force Σ_k c_k φ_k(r) along the line of each pair, and its virials.

    Arguments:
        x: (atoms, 3) nm.
        forces: (atoms, 3) kJ/mol/nm that the pair force is to give.
        box: (3, 3) reduced box vectors, nm.
        knots: (knots,) of the hats φ, nm; the last is the cutoff.

    Returns:
        (knots − 1, knots − 1) Σ G_k·G_l and (knots − 1,) Σ G_k·F over the atoms, with G_k the force on each atom of
        φ_k alone (positive is repulsive), and (knots − 1,) Σ_pairs r φ_k(r), nm.
    """

    def of_atom(directions, r, weights):
        rows = jnp.concatenate([directions, r[None]])
        return jnp.matmul(rows, weights(hats), precision="highest")

    sums = _over_atoms(of_atom, x, box, knots)  # (atoms, 4, columns)
    response = sums[:, :3].reshape(-1, sums.shape[-1])
    normal = jnp.matmul(response.T, response, precision="highest")
    right = jnp.matmul(response.T, forces.reshape(-1), precision="highest")
    return normal, right, 0.5 * jnp.sum(sums[:, 3], axis=0)


@jax.jit
def potential_sums(x: AtomVectors, box: Float[Array, "3 3"], knots: Float[Array, " knots"]) -> tuple[Array, Array]:
    """Energies Σ_pairs φ_k(r) and virials −Σ_pairs r φ_k′(r) of a pair potential that is φ_k alone.

    Arguments and shapes: see `force_sums`.
    """

    def of_atom(directions, r, weights):
        del directions
        return jnp.stack([jnp.sum(weights(hats), axis=0), -jnp.matmul(r, weights(slopes), precision="highest")])

    sums = 0.5 * jnp.sum(_over_atoms(of_atom, x, box, knots), axis=0)
    return sums[0], sums[1]


def _over_atoms(function, x, box, knots):
    """``function(directions (3, atoms), r (atoms,), weights)`` of every atom; pairs out of reach weigh nothing."""

    def of_atom(i):
        d = minimum_image(tuple(x[i, k] - x[:, k] for k in range(3)), box)
        r2 = d[0] ** 2 + d[1] ** 2 + d[2] ** 2
        present = (r2 < knots[-1] ** 2) & (jnp.arange(x.shape[0]) != i)
        r = jnp.sqrt(jnp.where(present, r2, 1.0))
        return function(jnp.stack(d) / r, r, lambda basis: jnp.where(present[:, None], basis(r, knots), 0.0))

    at_once = max(1, _AT_ONCE // (x.shape[0] * (knots.shape[0] - 1)))
    return jax.lax.map(of_atom, jnp.arange(x.shape[0]), batch_size=min(at_once, x.shape[0]))


def check_pairs(name: str, positions, box, knots) -> tuple[np.ndarray, np.ndarray]:
    """Box and knots as NumPy arrays, after the checks that every function of pairs makes.

    Raises:
        ValueError: shapes, order or spacing do not fit, something is not finite, or the cutoff is beyond half the box.
    """
    box, knots = np.asarray(box, np.float64), np.asarray(knots, np.float64)
    if np.ndim(positions) != 3 or np.shape(positions)[-1] != 3 or np.shape(positions)[0] < 1:
        raise ValueError(f"{name}: positions of shape {np.shape(positions)}; give (frames, atoms, 3).")
    if not np.isfinite(positions).all():
        raise ValueError(f"{name}: positions are not finite in frame {_bad_frame(positions)}; leave it out.")
    if box.shape != (3, 3) or not (np.diag(box) > 0).all():
        raise ValueError(f"{name}: the box must be (3, 3) vectors as rows with a positive diagonal, nm.")
    steps = np.diff(knots)
    if knots.ndim != 1 or len(knots) < 4 or not (steps[0] > 0 and np.allclose(steps, steps[0], rtol=1e-6)):
        raise ValueError(f"{name}: give four or more knots that ascend in equal steps.")
    half = 0.5 * np.diag(box).min()
    if knots[-1] > half:
        raise ValueError(f"{name}: the last knot, {knots[-1]:g} nm, is beyond half the box, {half:.4g} nm.")
    return box, knots


def _bad_frame(positions) -> int:
    return int(np.flatnonzero(~np.isfinite(positions).all(axis=(1, 2)))[0])

"""What pair forces can do of a target's forces, and what of its virial remains."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ...typing import Array, Float
from ..statistics import Estimate, block_bootstrap, block_means
from ._pair_basis import check_pairs, force_sums

#: Draws of blocks for the errors.
_RESAMPLES = 200


class ForceProjection(NamedTuple):
    """Result of `project_forces`; NumPy float64.

    Fields:
        knots: nm.
        force: (knots,) the pair force −du/dr nearest to the target's forces, kJ/mol/nm, linear between the knots; NaN
            where no pairs were seen.
        potential: (knots,) its integral from the cutoff, kJ/mol; NaN where the force is.
        unexplained: share of the mean square force that no pair force gives, between 0 and 1.
        target: virial part of the target's pressure, kJ/mol/nm³.
        pair: of the pressure of the pair force, on the target's own configurations.
        remainder: target − pair: the part of the target's virial that no pair force carries.
    """

    knots: np.ndarray
    force: np.ndarray
    potential: np.ndarray
    unexplained: Estimate
    target: Estimate
    pair: Estimate
    remainder: Estimate


def project_forces(
    positions: Float[Array | np.ndarray, "frames atoms 3"],
    forces: Float[Array | np.ndarray, "frames atoms 3"],
    virials: Float[Array | np.ndarray, " frames"],
    box: Float[Array | np.ndarray, "3 3"],
    knots: Float[Array | np.ndarray, " knots"],
    *,
    blocks: int = 10,
) -> ForceProjection:
    """The pair force nearest to the forces of a target, and the virial that is left.

    Of all functions f(r), linear between the knots and zero from the last on, the one with the least
    ⟨Σ_i |F_i − Σ_j f(r_ij) r_ij/r_ij|²⟩ over the target's frames is found by linear least squares. It is the best that
    any pair potential with this cutoff can do for the forces; for a target made of pair forces within the cutoff
    nothing remains. What it leaves of the virial is many-body: no refinement of u(r) reaches it without spoiling the
    forces. This is the route by forces; by structure, the number is the difference between the target's pressure and
    that of the pair potential with its g(r), see `representability_gap`. For many-body targets the two pair potentials
    differ, which is a sign of many-body forces itself.

    Arguments:
        positions: (frames, atoms, 3) of the target, nm; one component.
        forces: (frames, atoms, 3) on them, kJ/mol/nm.
        virials: (frames,) Σ r·f of the target, kJ/mol: three times the volume times its part of the pressure.
        box: (3, 3) reduced box vectors, nm, of all frames.
        knots: (knots,) nm, equally spaced; the last is the cutoff.
        blocks: consecutive blocks of frames, at least 4; the errors come from drawing them with replacement.

    Returns:
        The `ForceProjection`.

    Raises:
        ValueError: shapes do not fit, too few frames for the blocks, or the cutoff is beyond half the box.

    Source: force matching as a projection: Noid et al., J. Chem. Phys. 128, 244114 (2008).
    """
    box, knots = check_pairs("project_forces", positions, box, knots)
    frames = len(positions)
    virials = np.asarray(virials, np.float64)
    if np.shape(forces) != np.shape(positions) or virials.shape != (frames,):
        raise ValueError(
            f"project_forces: forces of shape {np.shape(forces)} and virials of shape {virials.shape} for positions of "
            f"shape {np.shape(positions)}; give a force for each position and a virial for each frame."
        )
    if not (np.isfinite(forces).all() and np.isfinite(virials).all()):
        raise ValueError("project_forces: forces or virials are not finite.")
    if blocks < 4 or frames < blocks:
        raise ValueError(f"project_forces: {frames} frames for {blocks} blocks; four blocks or more, a frame in each.")
    dtype = jnp.result_type(jnp.asarray(positions[:1]), float)
    shared = jnp.asarray(box, dtype), jnp.asarray(knots, dtype)
    rows = []
    for x, f, w in zip(positions, forces, virials, strict=True):
        normal, right, virial = force_sums(jnp.asarray(x, dtype), jnp.asarray(f, dtype), *shared)
        square = np.sum(np.square(f, dtype=np.float64))
        rows.append(
            np.concatenate([*(np.asarray(a, np.float64).ravel() for a in (normal, right, virial)), [square, w]])
        )
    columns, volume = len(knots) - 1, float(np.linalg.det(box))

    def solve(mean):
        """Pair force of the averages, then the share unexplained, target, pair and remainder of the pressure."""
        normal = mean[: columns**2].reshape(columns, columns)
        right, virial = mean[columns**2 :][:columns], mean[columns**2 + columns :][:columns]
        square, target = mean[-2:]
        force = np.linalg.lstsq(normal, right, rcond=1e-9)[0]
        parts = np.array([target, force @ virial]) / (3 * volume)
        return np.concatenate([force, [1 - force @ right / square, *parts, parts[0] - parts[1]]])

    means = np.stack(rows)
    found = solve(means.mean(axis=0))
    in_blocks = block_means(means, frames // blocks)
    drawn = block_bootstrap(lambda mean: solve(mean)[columns:], in_blocks, resamples=_RESAMPLES, method="percentile")
    errors = drawn.error
    seen = np.diag(means.mean(axis=0)[: columns**2].reshape(columns, columns))
    force = np.append(np.where(seen > 1e-9 * seen.max(), found[:columns], np.nan), 0.0)
    steps = 0.5 * (force[1:] + force[:-1]) * np.diff(knots)
    potential = np.append(np.cumsum(steps[::-1])[::-1], 0.0)
    estimates = [Estimate(float(value), float(error)) for value, error in zip(found[columns:], errors, strict=True)]
    return ForceProjection(knots, force, potential, *estimates)

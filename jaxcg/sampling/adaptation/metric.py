"""Mass matrices from what is known of the target: its stiffness, or the spread of draws.

The best mass matrix is the inverse of the covariance: then every direction vibrates alike, and as few steps as
possible lead from one independent configuration to the next. All matrices are scaled so that directions vibrate with
the period of a stretched bond to hydrogen, 2π `VIBRATION`: the step sizes of physical masses stay in use.
"""

import numpy as np

from ...posterior import Posterior
from ...typing import Array
from ..geometry import AbstractGeometry, LinearGeometry
from ..geometry.atom_blocks import AtomBlocks
from ..geometry.blocks import BlockGeometry
from .moments import Moments

#: Inverse angular frequency of all directions, ps.
VIBRATION = 0.002
#: Largest standard deviation ascribed to a direction that nothing known stiffens, nm.
AMPLITUDE = 0.05
#: Directions that spread further than this many times what their masses stand for have turned over or hold several
#: wells: they say nothing about a period.
TURNED = 4.0
#: The longest length worth a try over the shortest, where masses make all directions vibrate about alike.
RANGE = 2.0
#: What the floor fitted to draws is kept between, as standard deviations in nm: freer than atoms within a bead are, and
#: stiffer than angles.
FREEST, TIGHTEST = 0.2, 0.01


def stiffness_geometry(
    posterior: Posterior, blocks: AtomBlocks, stiffness: Array | np.ndarray, moments: Moments | None = None
) -> BlockGeometry:
    """Masses M ∝ H + λ from average Hessians H, see `bonded_stiffness` and `mean_hessian`.

    Negative eigenvalues of H on the tangent space count as zero. The floor λ stands for all that H leaves out (pairs,
    solvent, anharmonic torsions). With draws at hand it is the one that makes them most likely: the λ for which the
    normal law of covariance kT (H + λ)⁻¹ has the largest likelihood, so that the softest directions get the mass
    that their own spread asks for and the stiff ones keep theirs. No one direction may say too much in this: atoms that
    turn over spread in stiff directions as well. Without draws it is kT/`AMPLITUDE`².

    Arguments:
        posterior: the target.
        blocks: of the matrices.
        stiffness: (blocks, 3 × atoms, 3 × atoms) H, kJ/mol/nm².
        moments: of draws split into ``blocks``, dense.
    """
    start = BlockGeometry(posterior, blocks, blocks.diagonal(np.ones(blocks.n_atoms)))
    basis = np.asarray(start.root, np.float64)
    values, axes = np.linalg.eigh(np.swapaxes(basis, 1, 2) @ np.asarray(stiffness, np.float64) @ basis)
    values, axes = np.maximum(values, 0), basis @ axes
    thermal = float(posterior.thermal_energy)
    floor = thermal / AMPLITUDE**2
    if moments is not None:
        covariance = np.asarray(moments.covariance(), np.float64)
        spread = np.einsum("bik,bij,bjk->bk", axes, covariance, axes)
        floor = _fitted_floor(values, spread / thermal, np.square(axes).sum(axis=1) > 0.5, thermal)
    matrix = np.einsum("bik,bk,bjk->bij", axes, VIBRATION**2 * (values + floor), axes)
    return BlockGeometry(posterior, blocks, matrix)


def _fitted_floor(values, compliance, real, thermal) -> float:
    """λ with Σ [compliance − 1/(value + λ)] = 0, where the likelihood is largest.

    Each compliance counts 2/(value + λ) at most: a methyl group that has turned over spreads in stiff directions too,
    and would have them all taken for soft.
    """
    low, high = np.log(thermal / FREEST**2), np.log(thermal / TIGHTEST**2)
    for _ in range(50):
        middle = 0.5 * (low + high)
        expected = 1 / (values[real] + np.exp(middle))
        excess = np.sum(np.minimum(compliance[real], 2 * expected) - expected)
        low, high = (low, middle) if excess > 0 else (middle, high)
    return float(np.exp(0.5 * (low + high)))


def covariance_geometry(posterior: Posterior, geometry: BlockGeometry, moments: Moments) -> BlockGeometry:
    """Masses from the covariance of draws, drawn towards those of ``geometry``.

    In coordinates whitened by ``geometry`` the n draws of a block of d directions count n, and d more are made up that
    have the same spread in all directions: what few draws cannot tell stays as it was.

    For wells without rotors: where methyl groups turn over, their hydrogens spread in stiff directions too, and steps
    become tiny. Masses from stiffness do not suffer from that.

    Arguments:
        posterior: the target.
        geometry: masses so far; those of atoms will do, those from stiffness are better.
        moments: of draws split into the blocks of ``geometry``, dense.
    """
    whitener = np.asarray(geometry.whitener, np.float64)
    white = whitener @ np.asarray(moments.covariance(), np.float64) @ np.swapaxes(whitener, 1, 2)
    real = np.square(whitener).sum(axis=2) > 0
    scale = float(np.trace(white, axis1=1, axis2=2).sum() / max(geometry.dimension, 1))
    if not scale > 0:
        raise ValueError("covariance_geometry: the draws do not differ; take moments of more of them.")
    count, made_up = float(moments.count), real.sum(axis=1)[:, None, None]
    white = (count * white + made_up * scale * np.eye(real.shape[1])) / (count + made_up)
    thermal = float(posterior.thermal_energy)
    matrix = VIBRATION**2 * thermal * np.swapaxes(whitener, 1, 2) @ np.linalg.solve(white, whitener)
    return BlockGeometry(posterior, geometry.blocks, matrix)


def variance_geometry(posterior: Posterior, geometry: LinearGeometry, moments: Moments) -> LinearGeometry:
    """One mass per atom, inverse to the variance of its three coordinates; 5 made-up draws are spread as ``geometry``.

    Arguments:
        posterior: the target.
        geometry: masses so far.
        moments: of draws (atoms, 3), variances only.
    """
    masses = np.asarray(geometry.masses, np.float64)
    variance = np.asarray(moments.covariance(), np.float64).mean(axis=1)
    if not np.mean(variance) > 0:
        raise ValueError("variance_geometry: the draws do not differ; take moments of more of them.")
    count = float(moments.count)
    prior = np.mean(masses * variance) / masses
    variance = (count * variance + 5 * prior) / (count + 5)
    return LinearGeometry(posterior, VIBRATION**2 * float(posterior.thermal_energy) / variance)


def length_bounds(posterior: Posterior, geometry: AbstractGeometry, moments: Moments) -> tuple[float, float]:
    """Shortest and longest mean length (ps) worth trying for trajectories with these masses.

    A direction that spreads by s = √(variance · mass/kT) vibrates with the period 2π s, and trajectories of the mean
    length (π/2) s, a quarter of that, jittered evenly from none to twice as much, forget it at once: ⟨cos(t/s)⟩ = 0.
    The shortest is that of the slowest direction that can be told: the largest s not above `TURNED` times `VIBRATION`,
    less what few draws feign; the longest is `RANGE` times that. With one mass per atom the slowest directions are not
    known: the shortest is then that of the median coordinate, and there is no longest.

    Arguments:
        posterior: the target.
        geometry: of the trajectories.
        moments: of draws, split into the blocks of ``geometry`` if it has any.
    """
    thermal, count = float(posterior.thermal_energy), float(moments.count)
    covariance = np.asarray(moments.covariance(), np.float64)
    if isinstance(geometry, BlockGeometry):
        whitener = np.asarray(geometry.whitener, np.float64)
        real = np.square(whitener).sum(axis=2) > 0
        values = np.linalg.eigvalsh(whitener @ covariance @ np.swapaxes(whitener, 1, 2)) / thermal
        # The largest eigenvalue for n draws of d directions that spread alike is (1 + √(d/n))², not 1.
        values /= (1 + np.sqrt(real.sum(axis=1, keepdims=True) / max(count, 1))) ** 2
        told = values[values <= (TURNED * VIBRATION) ** 2]
        slowest = max(float(np.sqrt(told.max(initial=0))), VIBRATION)
        return 0.5 * np.pi * slowest, 0.5 * np.pi * slowest * RANGE
    if isinstance(geometry, LinearGeometry):
        spread = np.asarray(geometry.masses, np.float64)[:, None] * covariance / thermal
        return 0.5 * np.pi * float(np.sqrt(np.median(spread))), np.inf
    return 0.0, np.inf

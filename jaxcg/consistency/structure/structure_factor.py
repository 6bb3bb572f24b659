"""Static structure factors: on the lattice of a periodic box, of a cluster by pairs (Debye), and from g(r)."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...typing import Array, Float
from ..experiment.scattering import ScatteringProfile
from ..statistics import Estimate, block_average
from .cells import box_widths, check_points
from .frame_blocks import FrameBlocks
from .radial import RadialDistribution

#: Points whose waves are summed at once.
_TILE = 1024


def debye_structure_factor(
    x: Float[Array | np.ndarray, "points 3"],
    q: Float[np.ndarray, " vectors"],
    weights: Float[np.ndarray, " points"] | None = None,
) -> Float[Array, " vectors"]:
    """S(q) = Σ_ij b_i b_j sin(q r_ij)/(q r_ij) / Σ b² of a cluster in empty space, averaged over its orientations.

    Right for finite objects. A periodic box has no such sum: cut at nearest images it shows the box; use
    `lattice_structure_factor` or `structure_factor_from_radial` there. Differentiable in ``x``; memory is that of a
    tile of pairs.

    Arguments:
        x: (points, 3) positions, nm.
        q: (vectors,) magnitudes, rising, 1/nm.
        weights: (points,) scattering lengths b; one each when None.
    """
    b = np.ones(x.shape[0]) if weights is None else np.asarray(weights, np.float64)
    kinds, kind = np.unique(b, return_inverse=True)
    profile = ScatteringProfile(q, np.repeat(kinds[:, None], len(q), axis=1), kind)
    return profile(x) / float(b @ b)


def lattice_structure_factor(
    x: Float[Array | np.ndarray, "points 3"],
    box: Float[Array | np.ndarray, "3 3"],
    most: tuple[int, int, int],
    weights: Float[Array | np.ndarray, " points"] | None = None,
) -> Float[Array, "first second third"]:
    """S(q) = |Σ_j b_j exp(−i q·x_j)|² / Σ b² at the wave vectors of a periodic box, q = 2π n B⁻¹; differentiable.

    Waves are products of powers along the three box vectors, so there is one product of matrices for each value of the
    first integer and no exponential for every point and vector.

    Arguments:
        x: (points, 3) positions, nm.
        box: (3, 3) box vectors as rows, nm.
        most: largest of each integer; n runs from 0 to ``most[0]``, −``most[1]`` to ``most[1]``, −``most[2]`` to
            ``most[2]`` (the other half of space is the same by symmetry); see `lattice_magnitudes`.
        weights: (points,) scattering lengths b; one each when None.

    Returns:
        (most[0] + 1, 2 most[1] + 1, 2 most[2] + 1) S, where S at n = 0 is (Σ b)²/Σ b².
    """
    x = jnp.asarray(x)
    box = jnp.asarray(box, x.dtype)
    b = jnp.ones(x.shape[0], x.dtype) if weights is None else jnp.asarray(weights, x.dtype)
    fraction = jnp.matmul(x, jnp.linalg.inv(box), precision="highest")
    # Whole periods carry no phase: what remains keeps its digits.
    fraction = fraction - lax.stop_gradient(jnp.round(fraction))
    tile = min(_TILE, x.shape[0])
    padding = -x.shape[0] % tile
    parts = jnp.pad(fraction, ((0, padding), (0, 0))).reshape(-1, tile, 3)
    amplitudes = jnp.pad(b, (0, padding)).reshape(-1, tile)

    def waves(s, low, high):
        phase = s * jnp.arange(low, high + 1, dtype=x.dtype)[:, None]
        phase = -2.0 * jnp.pi * (phase - lax.stop_gradient(jnp.round(phase)))
        return jnp.cos(phase), jnp.sin(phase)

    @jax.checkpoint
    def add(total, part):
        s, amplitude = part
        first = waves(s[:, 0], 0, most[0])
        second, third = (waves(s[:, k], -most[k], most[k]) for k in (1, 2))
        first = (first[0] * amplitude, first[1] * amplitude)

        def plane(one):
            real = one[0] * second[0] - one[1] * second[1]
            imaginary = one[0] * second[1] + one[1] * second[0]
            # Real and imaginary rows in one product.
            both = jnp.concatenate([real, imaginary])
            cosine = jnp.matmul(both, third[0].T, precision="highest")
            sine = jnp.matmul(both, third[1].T, precision="highest")
            half = real.shape[0]
            return cosine[:half] - sine[half:], sine[:half] + cosine[half:]

        real, imaginary = lax.map(plane, first)
        return (total[0] + real, total[1] + imaginary), None

    shape = (most[0] + 1, 2 * most[1] + 1, 2 * most[2] + 1)
    zero = jnp.zeros(shape, x.dtype)
    (real, imaginary), _ = lax.scan(add, (zero, zero), (parts, amplitudes))
    return (real**2 + imaginary**2) / jnp.sum(b * b)


def lattice_magnitudes(box: np.ndarray, q_max: float) -> tuple[tuple[int, int, int], np.ndarray]:
    """Largest integers of the wave vectors of a box up to ``q_max`` (1/nm), and |q| of all of them.

    Returns:
        ``most`` for `lattice_structure_factor`, and |q|, 1/nm, in the shape of its result; infinite for vectors that
        are there twice (the half of the plane n₁ = 0) and for n = 0.
    """
    inverse = np.linalg.inv(np.asarray(box, np.float64))
    # n_k = q·a_k/2π is at most |q||a_k|/2π.
    length = np.linalg.norm(np.asarray(box, np.float64), axis=1)
    most = tuple(int(n) for n in np.floor(q_max * length / (2 * np.pi) * (1 + 1e-9)))
    n = np.stack(np.meshgrid(np.arange(most[0] + 1), *(np.arange(-m, m + 1) for m in most[1:]), indexing="ij"), axis=-1)
    magnitude = 2 * np.pi * np.linalg.norm(n @ inverse.T, axis=-1)
    first, second, third = np.moveaxis(n, -1, 0)
    twice = (first == 0) & ((second < 0) | ((second == 0) & (third <= 0)))
    return (most[0], most[1], most[2]), np.where(twice, np.inf, magnitude)


class StructureFactorAccumulator:
    """S(q) of a periodic box by its lattice vectors, averaged over shells of |q|, added up frame by frame.

    Arguments:
        q_max: 1/nm.
        bins: shells of equal width from 0 to ``q_max``.
        weights: (points,) scattering lengths; one each when None.

    Raises:
        ValueError: q_max or bins is not positive.
    """

    def __init__(self, q_max: float, *, bins: int = 100, weights: np.ndarray | None = None) -> None:
        if not q_max > 0 or bins < 1:
            raise ValueError(f"structure factor: q_max {q_max:g} and bins {bins} must be positive.")
        self.edges = np.linspace(0.0, q_max, bins + 1)
        self._weights = None if weights is None else np.asarray(weights)
        self._blocks = FrameBlocks()
        self._compiled = jax.jit(lattice_structure_factor, static_argnums=2)

    def add(self, x: np.ndarray, box: np.ndarray | None) -> None:
        """Adds one frame.

        Arguments:
            x: (points, 3) positions, nm.
            box: (3, 3) box vectors as rows, nm.

        Raises:
            ValueError: no box, positions that are not finite, no wave vector below ``q_max``.
        """
        x = np.asarray(x)
        box = check_points(x, box)
        if self._weights is not None and len(self._weights) != len(x):
            raise ValueError(f"structure factor: {len(self._weights)} weights but {len(x)} points in the frame.")
        q_max, bins = float(self.edges[-1]), len(self.edges) - 1
        most, magnitude = lattice_magnitudes(box, q_max)
        inside = magnitude < q_max
        if not inside.any():
            raise ValueError(
                f"structure factor: no wave vector of the box is below q_max {q_max:g} 1/nm; the least is about "
                f"{2 * np.pi / float(box_widths(box).max()):.3g}."
            )
        value = np.asarray(self._compiled(x, box, most, self._weights), np.float64)
        place = np.minimum((magnitude[inside] * (bins / q_max)).astype(np.int64), bins - 1)
        sums = [np.bincount(place, w, bins) for w in (value[inside], magnitude[inside], np.ones(len(place)))]
        self._blocks.add(np.concatenate(sums))

    def result(self) -> tuple[np.ndarray, Estimate]:
        """S(q) so far.

        Returns:
            (shells,) mean |q| of each shell that has wave vectors, 1/nm, and the `Estimate` of S there.

        Raises:
            ValueError: no frame was added.
        """
        total, means = self._blocks.total().reshape(3, -1), self._blocks.means()
        found = total[2] > 0
        value = total[0, found] / total[2, found]
        means = means.reshape(len(means), 3, -1)[:, :, found]
        series = value + (means[:, 0] - value * means[:, 2]) * (self._blocks.frames / total[2, found])
        return total[1, found] / total[2, found], block_average(series)._replace(value=value)


def structure_factor(
    frames: Iterable[tuple[np.ndarray, np.ndarray | None]],
    q_max: float,
    *,
    bins: int = 100,
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, Estimate]:
    """S(q) of a trajectory of a periodic box; arguments and result as of `StructureFactorAccumulator`."""
    accumulator = StructureFactorAccumulator(q_max, bins=bins, weights=weights)
    for x, box in frames:
        accumulator.add(x, box)
    return accumulator.result()


def structure_factor_from_radial(found: RadialDistribution, q: np.ndarray, *, window: bool = True) -> Estimate:
    """S(q) = 1 + 4πρ ∫ (g(r) − 1) r² sin(qr)/(qr) w(r) dr of points of one type.

    Where g has not reached 1 at its last distance R, S is wrong below about 2π/R. The window w = sin(πr/R)/(πr/R)
    (Lorch) takes away the ripples of the cut, for a resolution of π/R.

    Arguments:
        found: of one type, all pairs.
        q: (vectors,) 1/nm, positive.
        window: whether to use it.

    Returns:
        The `Estimate` (vectors,) of S, with the error that blocks of g give.

    Raises:
        ValueError: a distribution of two types.

    Source: Lorch, J. Phys. C 2, 229 (1969).
    """
    if found.types[0] != found.types[1]:
        raise ValueError(f"structure_factor_from_radial: {found.types} are two types; give the g(r) of one.")
    q, r = np.asarray(q, np.float64), found.centers
    kernel = np.diff(found.edges**3) / 3 * np.sinc(q[:, None] * r / np.pi)
    if window:
        kernel = kernel * np.sinc(r / found.edges[-1])
    kernel = 4 * np.pi * found.density[0] * kernel
    spread = block_average((found.series - 1) @ kernel.T)
    return spread._replace(value=1 + kernel @ (found.value - 1))

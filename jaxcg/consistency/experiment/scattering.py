"""Small- and wide-angle scattering I(q) of X-rays and neutrons by molecules in solution, differentiable.

    I(q) = ⟨|Σ_j f_j(q) exp(i q·x_j)|²⟩ over all directions of q = Σ_ij f_i f_j sin(q r_ij)/(q r_ij)   (Debye).

An atom in solution scatters what it has more than the solvent that it displaces: f_j(q) = f₀_j(q) − ρ V_j exp(−q²
V_j^⅔/4π). Two ways to the same number: the sum over pairs, in tiles; or the average over directions, whose cost grows
with the number of atoms instead of its square and whose rule of quadrature is exact up to a stated size of molecule.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...typing import Array, AtomVectors, Float
from .atomic_scattering import (
    WATER_ELECTRON_DENSITY,
    WATER_LENGTH_DENSITY,
    displaced_volume,
    form_factor,
    kinds_of,
    scattering_length,
)
from .directions import half_sphere

#: Length of the bonds to hydrogens that are not there as atoms, nm.
_HYDROGEN_BOND = 0.1
#: Atoms of a tile of pairs; atoms and directions of a tile of waves: they stay in the cache.
_PAIRS, _ATOMS, _DIRECTIONS = 128, 256, 128
#: Ranges of q with directions of their own, where there are many directions.
_BANDS = 4


class ScatteringProfile(eqx.Module):
    """I(q) of one configuration of a molecule, an observable of an ensemble like any other.

    Made by `xray_profile` or `neutron_profile`; directly it takes any scatterers, for example coarse-grained beads
    with the amplitudes of `bead_amplitudes`.

    Arguments:
        q: (points,) magnitudes of the scattering vector 4π sin θ/λ, 1/nm, rising. Equal steps are several times
            cheaper than others.
        amplitudes: (kinds, points) what a scatterer of each kind scatters at each q; parameters, may be traced.
        kind: (atoms,) kind of each scatterer.
        radius: nm; average over directions, right for molecules within this distance from the centre of their box of
            edges along x, y and z, and nan for larger ones. None: the sum over all pairs.
    """

    q: Array
    amplitudes: Array
    kind: np.ndarray
    radius: float | None = eqx.field(static=True)
    uniform: bool = eqx.field(static=True)
    reaches: tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        q: Float[np.ndarray, " points"],
        amplitudes: Float[Array | np.ndarray, "kinds points"],
        kind: Any,
        radius: float | None = None,
    ):
        q = np.asarray(q, np.float64)
        kind = np.asarray(kind, np.int32)
        if q.ndim != 1 or q.size == 0 or not np.all(np.isfinite(q)) or q[0] < 0 or np.any(np.diff(q) <= 0):
            raise ValueError("ScatteringProfile: q must be a rising list of numbers from zero up, in 1/nm.")
        if amplitudes.ndim != 2 or amplitudes.shape[1] != q.size:
            raise ValueError(f"ScatteringProfile: amplitudes are {amplitudes.shape}, expected (kinds, {q.size}).")
        if kind.size and (kind.min() < 0 or kind.max() >= amplitudes.shape[0]):
            raise ValueError(f"ScatteringProfile: kinds must lie in 0..{amplitudes.shape[0] - 1}.")
        if radius is not None and not radius > 0:
            raise ValueError(f"ScatteringProfile: radius is {radius}, it must be positive (nm), or None for pairs.")
        self.q = jnp.asarray(q)
        self.amplitudes = jnp.asarray(amplitudes)
        self.kind = kind
        self.radius = radius
        self.uniform = q.size > 2 and bool(np.ptp(np.diff(q)) < 1e-6 * q[-1])
        self.reaches = () if radius is None else tuple(float(part[-1]) * radius for part in _bands(q, radius))

    def __call__(self, x: AtomVectors) -> Array:
        """I(q) of positions ``x`` (atoms, 3) in nm, of a whole molecule: (points,), the square of the amplitudes' unit.

        Raises:
            ValueError: another number of atoms.
        """
        if x.shape[0] != self.kind.size:
            raise ValueError(f"ScatteringProfile: x has {x.shape[0]} atoms, the profile {self.kind.size}.")
        x = jnp.asarray(x)
        amplitudes = self.amplitudes.astype(x.dtype)[self.kind].T
        q = self.q.astype(x.dtype)
        # Distances keep their digits where the origin is near.
        x = x - lax.stop_gradient(0.5 * (jnp.max(x, axis=0) + jnp.min(x, axis=0)))
        if self.radius is None:
            return _pair_sum(x, amplitudes, q, self.uniform)
        parts, start = [], 0
        for part, reach in zip(_bands(self.q, self.radius), self.reaches, strict=True):
            chosen = slice(start, start + len(part))
            parts.append(_direction_average(x, amplitudes[chosen], q[chosen], self.uniform, reach))
            start += len(part)
        extent = lax.stop_gradient(jnp.max(jnp.sum(x * x, axis=1)))
        return jnp.where(extent <= self.radius**2, jnp.concatenate(parts), jnp.nan)


def xray_profile(
    elements: Sequence[str],
    q: Float[np.ndarray, " points"],
    *,
    radius: float | None = None,
    solvent_density: Any = WATER_ELECTRON_DENSITY,
    volumes: Sequence[float] | np.ndarray | None = None,
    volume_scale: Any = 1.0,
    hydrogens: Sequence[int] | np.ndarray | None = None,
) -> ScatteringProfile:
    """SAXS or WAXS intensity of a molecule, in electrons squared, above that of the solvent it displaces.

    Hydration shells that are denser than the bulk are not in it; water molecules given as atoms are.

    Arguments:
        elements: (atoms,) symbols, hydrogens among them (or counted in ``hydrogens``); ions as ``"Na1+"``.
        q: (points,) 1/nm.
        radius: see `ScatteringProfile`.
        solvent_density: electrons per nm³; zero for a molecule in vacuo. May be traced.
        volumes: (atoms,) displaced volumes, nm³; by default those of Fraser, MacRae & Suzuki by element, with those of
            the atom's ``hydrogens``. Not needed in vacuo.
        volume_scale: factor on all volumes, near one; may be traced, to be fitted to data.
        hydrogens: (atoms,) number of hydrogens at each atom that are not atoms themselves, as in a PDB file without
            them. Each scatters as if spread over a sphere of 0.1 nm about the atom: good to about 1 nm⁻¹ ... 5 nm⁻¹.

    Raises:
        ValueError: unknown elements, or arrays that do not fit.

    Source: Fraser, MacRae & Suzuki, J. Appl. Cryst. 11, 693 (1978).
    """
    return _profile(
        elements, q, form_factor, radius, solvent_density, volumes, volume_scale, hydrogens, what="xray_profile"
    )


def neutron_profile(
    elements: Sequence[str],
    q: Float[np.ndarray, " points"],
    *,
    radius: float | None = None,
    solvent_density: Any = WATER_LENGTH_DENSITY,
    volumes: Sequence[float] | np.ndarray | None = None,
    volume_scale: Any = 1.0,
    hydrogens: Sequence[int] | np.ndarray | None = None,
) -> ScatteringProfile:
    """Coherent neutron intensity of a molecule, in fm², above that of the solvent it displaces.

    Arguments:
        elements: (atoms,) symbols; ``"D"`` for deuterium, also where hydrogens exchange with heavy water.
        q: (points,) 1/nm.
        radius: see `ScatteringProfile`.
        solvent_density: scattering length of the solvent, fm per nm³: −56.1 for H2O, 636 for D2O, linear between.
            May be traced.
        volumes, volume_scale, hydrogens: as in `xray_profile`.

    Raises:
        ValueError: unknown elements, or arrays that do not fit.
    """

    def length(element, q):
        return np.full(np.shape(q), scattering_length(element))

    return _profile(
        elements, q, length, radius, solvent_density, volumes, volume_scale, hydrogens, what="neutron_profile"
    )


def bead_amplitudes(
    profile: ScatteringProfile, frames: Float[Array | np.ndarray, "frames atoms 3"], bead: Any
) -> Array:
    """What each bead scatters on average, so that a coarse-grained model can be compared with scattering data.

    F_b(q) = ⟨Σ_{j in b} f_j(q) sin(q d_j)/(q d_j)⟩ with d_j the distance of atom j from the centre of its bead: exact
    for pairs of beads that turn independently of each other and of the vector between them; the terms of a bead with
    itself come out as F_b² in place of ⟨|F|²⟩. Good where q times the size of a bead is below about two.

    Arguments:
        profile: of the atoms; its solvent contrast goes into the beads.
        frames: (frames, atoms, 3) positions, nm, molecules whole.
        bead: (atoms,) index of the bead of each atom.

    Returns:
        (beads, points); give it to `ScatteringProfile` with ``kind = arange(beads)`` and positions of the beads'
        centres, the unweighted means of their atoms.

    Raises:
        ValueError: shapes that do not fit.

    Source: the form factors of Yang, Park, Makowski & Roux, Biophys. J. 96, 4449 (2009), with amplitudes in place of
    the roots of intensities.
    """
    bead = np.asarray(bead)
    if bead.shape != profile.kind.shape or frames.shape[1] != bead.size:
        raise ValueError(
            f"bead_amplitudes: {bead.size} beads of atoms, frames of {frames.shape[1]} atoms and a profile of "
            f"{profile.kind.size}; give one bead for every atom."
        )
    beads = int(bead.max()) + 1
    share = 1.0 / np.maximum(np.bincount(bead, minlength=beads), 1)
    frames = jnp.asarray(frames)
    q = profile.q.astype(frames.dtype)
    weights = profile.amplitudes.astype(frames.dtype)[profile.kind]

    def one(total, x):
        centers = jax.ops.segment_sum(x, bead, beads) * share.astype(x.dtype)[:, None]
        square = jnp.sum((x - centers[bead]) ** 2, axis=1)
        distance = jnp.where(square != 0, jnp.sqrt(jnp.where(square != 0, square, 1)), 0)
        wave = jnp.sinc(distance[:, None] * q / jnp.pi)
        return total + jax.ops.segment_sum(weights * wave, bead, beads), None

    total, _ = lax.scan(one, jnp.zeros((beads, q.size), frames.dtype), frames)
    return total / len(frames)


def _profile(elements, q, amplitude, radius, density, volumes, volume_scale, hydrogens, *, what) -> ScatteringProfile:
    """A profile whose kinds are the different combinations of element, number of hydrogens and volume."""
    q = np.asarray(q, np.float64)
    names, kind = kinds_of(elements)
    count = kind.size
    hydrogens = np.zeros(count, np.int32) if hydrogens is None else np.asarray(hydrogens, np.int32)
    for name, array in (("hydrogens", hydrogens), ("volumes", volumes)):
        if array is not None and np.shape(array) != (count,):
            raise ValueError(f"{what}: {name} have shape {np.shape(array)}, expected one for each of {count} atoms.")
    vacuum = isinstance(density, int | float) and density == 0
    if volumes is None:
        # In vacuo nothing is displaced, and no volume need be known.
        table = np.array([0.0 if vacuum else displaced_volume(name) for name in names])
        volumes = table[kind] + hydrogens * displaced_volume("H")
    features = np.stack([kind, hydrogens, np.asarray(volumes, np.float64)], axis=1)
    kinds, kind = np.unique(features, axis=0, return_inverse=True)
    spread = np.sinc(q * _HYDROGEN_BOND / np.pi) * amplitude("H", q)
    own = np.stack([amplitude(names[int(k[0])], q) + k[1] * spread for k in kinds])
    volume = jnp.asarray(kinds[:, 2])[:, None] * volume_scale
    hole = density * volume * jnp.exp(-(jnp.asarray(q) ** 2) * jnp.cbrt(volume) ** 2 / (4 * jnp.pi))
    return ScatteringProfile(q, jnp.asarray(own) - hole, kind.reshape(-1), radius)


def _bands(q, radius: float) -> list:
    """Ranges of q, low ones apart: they need fewer directions."""
    points = len(q)
    count = _BANDS if points >= 4 * _BANDS and radius > 1.0 else 1
    edges = [round(points * k / count) for k in range(count + 1)]
    return [q[low:high] for low, high in pairwise(edges)]


def _over_q(path: Array, q: Array, uniform: bool, measure: Callable, inputs: Any) -> Array:
    """``measure(cos(q path), sin(q path), q, input)`` for every q; with equal steps waves are turned, not evaluated."""
    if not uniform:
        return lax.map(lambda item: measure(jnp.cos(item[0] * path), jnp.sin(item[0] * path), *item), (q, inputs))
    turn = (q[-1] - q[0]) / (len(q) - 1) * path
    step_cosine, step_sine = jnp.cos(turn), jnp.sin(turn)

    def turned(wave, item):
        cosine, sine = wave
        value = measure(cosine, sine, *item)
        return (cosine * step_cosine - sine * step_sine, sine * step_cosine + cosine * step_sine), value

    return lax.scan(turned, (jnp.cos(q[0] * path), jnp.sin(q[0] * path)), (q, inputs))[1]


def _padded(x: Array, amplitudes: Array, tile: int) -> tuple[Array, Array]:
    """(tiles, tile, 3) positions and (tiles, points, tile) amplitudes, zero for what was added."""
    count = -(-len(x) // tile)
    missing = count * tile - len(x)
    x = jnp.pad(x, ((0, missing), (0, 0))).reshape(count, tile, 3)
    amplitudes = jnp.pad(amplitudes, ((0, 0), (0, missing))).reshape(len(amplitudes), count, tile)
    return x, jnp.moveaxis(amplitudes, 1, 0)


def _pair_sum(x: Array, amplitudes: Array, q: Array, uniform: bool) -> Array:
    """Debye's sum, a tile of pairs at a time; every pair of tiles once."""
    x, amplitudes = _padded(x, amplitudes, min(_PAIRS, max(len(x), 1)))
    first, second = np.triu_indices(len(x))

    def wave(cosine, sine, q, inputs):
        del cosine
        left, right, inverse, same = inputs
        # At q = 0, and for an atom with itself, the limit is one.
        ratio = jnp.where((q > 0) & ~same, sine * inverse / jnp.where(q > 0, q, 1), 1)
        return left @ jnp.matmul(ratio, right, precision="highest")

    @jax.checkpoint
    def pair(total, tiles):
        i, j = tiles
        square = jnp.sum((x[i][:, None] - x[j][None]) ** 2, axis=-1)
        same = square == 0
        distance = jnp.sqrt(jnp.where(same, 1, square))
        measure = lambda cosine, sine, q, f: wave(cosine, sine, q, (*f, 1 / distance, same))  # noqa: E731
        value = _over_q(distance, q, uniform, measure, (amplitudes[i], amplitudes[j]))
        return total + jnp.where(i == j, 1, 2) * value, None

    return lax.scan(pair, jnp.zeros_like(q), (jnp.asarray(first), jnp.asarray(second)))[0]


def _direction_average(x: Array, amplitudes: Array, q: Array, uniform: bool, reach: float) -> Array:
    """The average of |A(q)|² over directions, a tile of atoms and directions at a time."""
    directions, weights = half_sphere(reach)
    count = -(-len(directions) // _DIRECTIONS)
    missing = count * _DIRECTIONS - len(directions)
    directions = np.pad(directions, ((0, missing), (0, 0))).reshape(count, _DIRECTIONS, 3).astype(x.dtype)
    weights = np.pad(weights, (0, missing)).reshape(count, _DIRECTIONS).astype(x.dtype)
    atoms = _padded(x, amplitudes, min(_ATOMS, max(len(x), 1)))

    def wave(cosine, sine, q, amplitude):
        del q
        return jnp.stack([amplitude @ cosine, amplitude @ sine])

    def along(tile):
        direction, weight = tile

        @jax.checkpoint
        def some(total, atoms):
            x, amplitude = atoms
            path = jnp.matmul(x, direction.T, precision="highest")
            return total + _over_q(path, q, uniform, wave, amplitude), None

        start = jnp.zeros((len(q), 2, _DIRECTIONS), x.dtype)
        amplitude, _ = lax.scan(some, start, atoms)
        return jnp.sum(amplitude**2, axis=1) @ weight

    return jnp.sum(lax.map(along, (jnp.asarray(directions), jnp.asarray(weights))), axis=0)

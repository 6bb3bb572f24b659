"""The memory of trajectories in one call: correlation functions, mean force, kernel, and error bars."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...typing import Array
from ...units import GAS_CONSTANT
from ..kernels.forms import TabulatedKernel, require_positive
from ._memory_notes import notes_on
from ._trajectories import Trajectories, force_of, is_stream, once_more, segments, thinned
from .block_sums import BlockSums, block_sums
from .extraction import ExtractedKernel, Method, extract_kernel
from .profile import EstimatedProfile, estimate_profile
from .profile_response import force_changes
from .volterra import half_steps

#: Extractions of the bootstrap done side by side.
_TOGETHER = 16


@dataclass(frozen=True)
class Memory:
    """Result of `memory_from_velocities` and `memory_from_positions`.

    With several coordinates, matrices (coordinates, coordinates) take the place of numbers.

    Fields:
        extracted: the kernel of all the data.
        kernel_error, integral_error: standard errors of Γ and of its integral, (times,), from the bootstrap.
        velocity_correlation: (lags,) nm²/ps².
        velocity_correlation_error: (lags,) its standard error.
        force_correlation: (lags,) ⟨F(t) v(0)⟩ of the mean force, or None.
        blocks: number of independent blocks that were drawn from.
        spacing: between frames, ps.
        mass: amu, as given or found.
        kinetic_temperature, kinetic_temperature_error: mass ⟨v²⟩ over the gas constant, K; the temperature given where
            the mass was found from it.
        energy: potential of mean force that was used, kJ/mol; None for free motion.
        sums: correlation functions of every block, for further fits.
        notes: what a reader should know about these data.
    """

    extracted: ExtractedKernel
    kernel_error: np.ndarray
    integral_error: np.ndarray
    velocity_correlation: np.ndarray
    velocity_correlation_error: np.ndarray
    force_correlation: np.ndarray | None
    blocks: int
    spacing: float
    mass: float | np.ndarray
    kinetic_temperature: float
    kinetic_temperature_error: float
    energy: AbstractEnergy | None
    sums: "CorrelationData"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class CorrelationData:
    """What the Volterra equation is made of, for any weighting of the blocks.

    Fields:
        blocks: sums of every block.
        spacing: between frames, ps.
        mass: amu, a number, (coordinates,) or (coordinates, coordinates); None: kT ⟨v vᵀ⟩⁻¹ of the data.
        thermal_energy: kT, kJ/mol; None if not known.
        filtered: whether velocities are displacements between frames, whose average over a frame is to be undone.
        profile: which the mean force comes from, where it was made of the same data: made anew for other weights.
    """

    blocks: BlockSums
    spacing: float
    mass: Any
    thermal_energy: float | None
    filtered: bool
    profile: EstimatedProfile | None = None

    @property
    def scalar(self) -> bool:
        """Whether there is one kernel, not a matrix."""
        return next(iter(self.blocks.totals.values())).shape[-1] == 1

    def tables(self, weights: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Correlation functions (..., lags, d, d) of blocks that count ``weights`` (..., blocks) times.

        ``vv`` C_vv; ``mass`` (..., d, d); ``impulse`` ∫ C_Fv and ``fv`` C_Fv with a mean force; ``derivative`` C_vv′
        and ``initial`` (..., d, d), Γ(0), with total forces.
        """
        means = self.blocks.means(weights)
        histograms, response = self.blocks.histograms, self.blocks.response
        if weights is not None and self.profile is not None and histograms is not None and response is not None:
            flat = np.reshape(np.asarray(weights, np.float64), (-1, self.blocks.blocks))
            change = force_changes(self.profile, histograms, flat, response) / self.blocks.pairs.sum(axis=0)
            means["fv"] = means["fv"] + change.reshape(means["fv"].shape)
        found = {"vv": means["vv"]}
        if self.filtered:
            found["vv"] = undo_frame_average(means["vv"])
            if "fv" in means:
                middle = means["fv"][..., :-1, :, :]
                found["impulse"] = self.spacing * np.concatenate(
                    [np.zeros_like(middle[..., :1, :, :]), np.cumsum(middle, axis=-3)[..., :-1, :, :]], axis=-3
                )
                found["fv"] = _frames_of_odd(means["fv"])[..., :-1, :, :]
        elif "fv" in means:
            found["fv"] = means["fv"]
        size = found["vv"].shape[-1]
        start = np.linalg.inv(found["vv"][..., 0, :, :])
        if self.mass is None:
            assert self.thermal_energy is not None
            found["mass"] = self.thermal_energy * start
        else:
            mass = np.asarray(self.mass, np.float64)
            mass = mass if mass.ndim == 2 else np.eye(size) * mass
            found["mass"] = np.broadcast_to(mass, start.shape)
        if "av" in means:
            inverse = np.linalg.inv(found["mass"])
            found["derivative"] = inverse[..., None, :, :] @ means["av"]
            random = means["rf"][..., 0, :, :]
            found["initial"] = random @ inverse @ start
        return found


def memory_from_velocities(
    velocities: Trajectories,
    mass: Any,
    spacing: float,
    *,
    lags: int,
    positions: Trajectories | None = None,
    forces: Trajectories | None = None,
    energy: AbstractEnergy | EstimatedProfile | Literal["profile"] | None = None,
    temperature: float | None = None,
    isotropic: bool = False,
    method: Method = "integral",
    blocks: int = 20,
    resamples: int = 100,
    seed: int = 0,
) -> Memory:
    """Memory kernel of a coordinate, or of several coupled ones, from velocities, with errors by block bootstrap.

    Correlation functions take every pair of frames. Trajectories are cut into blocks; the extraction is repeated on
    blocks drawn with replacement. Data may come as one array or, for campaigns larger than the memory, as an iterable
    of arrays, which are seen one at a time.

    Arguments:
        velocities: nm/ps: (trajectories, frames) of a coordinate, (trajectories, frames, coordinates) of coupled ones,
            or an iterable of such arrays; velocities and positions of the same instants.
        mass: amu: a number, (coordinates,) or a matrix; None: the effective mass kT ⟨v vᵀ⟩⁻¹, with ``temperature``.
        spacing: between frames, ps.
        lags: how far to go, in frames.
        positions: nm, of the shape of the velocities; with ``energy``.
        forces: total forces on the coordinates (mass times acceleration), kJ/mol/nm, of the same shape: Γ(0) is then
            measured, not extrapolated, and the first and second kind need no differences of C_vv.
        energy: potential of mean force, kJ/mol: a function of the positions (coordinates,) of a frame;
            ``"profile"``: `free_energy_profile` of the positions of one coordinate, or that of `estimate_profile`; with
            less smoothing for the mean force, and made anew for every bootstrap sample, so that errors include its
            own; None: free motion.
        temperature: K; for ``"profile"`` and for a mass of None, else only compared with that of the velocities.
        isotropic: all numbers of a frame, e.g. (particles, 3), are equivalent and uncoupled: one scalar kernel from all
            of them, as for tagged particles of a fluid.
        method: of `extract_kernel`.
        blocks: how many blocks in all, at least; each should be many correlation times long.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        ValueError: trajectories too short for the lags, numbers that are not finite, shapes that differ, positions
            without energy or the other way round, or a temperature that is needed and missing.

    Source: Künsch, Ann. Stat. 17, 1217 (1989) (block bootstrap).
    """
    owner = "memory_from_velocities"
    if (positions is None) != (energy is None):
        raise ValueError(f"{owner}: positions and energy belong together; give both or neither.")
    if mass is None and temperature is None:
        raise ValueError(f"{owner}: a mass of None is found from the temperature; give it.")
    _require(owner, spacing, temperature, mass)
    energy, profile = _energy(owner, energy, positions, temperature, isotropic)
    given = {"velocities": velocities, "positions": positions, "forces": forces}
    mean_force = None if energy is None else force_of(energy if profile is None else profile.rough)

    def sums(arrays: dict[str, np.ndarray]) -> BlockSums:
        v = _columns(owner, arrays["velocities"], isotropic)
        quantities = {"vv": (v, v)}
        f = None
        if mean_force is not None:
            f = mean_force(arrays["positions"]).reshape(v.shape)
            quantities["fv"] = f, v
        if "forces" in arrays:
            total = arrays["forces"].reshape(v.shape)
            quantities["av"] = total, v
            quantities["rf"] = (total if f is None else total - f), total
        pieces = _pieces(owner, v.shape, lags, blocks, is_stream(velocities))
        x = None if profile is None else arrays["positions"].reshape(v.shape)
        return block_sums(quantities, lags, pieces, isotropic=isotropic, profile=profile, positions=x)

    collected = BlockSums.of(sums(arrays) for arrays in segments(owner, given))
    thermal_energy = None if temperature is None else GAS_CONSTANT * temperature
    data = CorrelationData(collected, spacing, mass, thermal_energy, False, profile)
    return _memory(data, method, energy, mass, temperature, resamples, seed)


def memory_from_positions(
    positions: Trajectories,
    mass: Any,
    spacing: float,
    *,
    temperature: float,
    lags: int,
    energy: AbstractEnergy | EstimatedProfile | Literal["profile"] | None = None,
    isotropic: bool = False,
    method: Method = "integral",
    blocks: int = 20,
    resamples: int = 100,
    seed: int = 0,
) -> Memory:
    """Memory kernel from positions alone, with errors by block bootstrap.

    A displacement between frames gives the velocity averaged over a frame, whose correlation function, half the second
    difference of the mean square displacement, is C_vv seen through a triangle two frames wide; its first correction,
    −1/12 of its own second difference, undoes the triangle to fourth order. The mean force enters as the work on
    displacements, ⟨F(t) [x(t) − x(0)]⟩, with no velocity at all. The mass in the Volterra equation is kT ⟨v vᵀ⟩⁻¹ of
    these velocities, which keeps diffusion, and so the plateau of ∫Γ, right whatever the spacing.

    Central differences [x(t+Δ) − x(t−Δ)]/2Δ with the true mass, as often done, lose friction: for a fast mode
    Γ(0) = ω₀² M the plateau is low by 8 % at ω₀Δ = 0.5 and 25 % at ω₀Δ = 1, where this function errs by less than 1 %.
    Rounding of positions (1e-3 nm in XTC files) acts as noise of variance 2σ²/Δ² on velocities: frames must be so far
    apart that this is small against kT/M.

    Arguments:
        positions: nm, unwrapped: (trajectories, frames), (trajectories, frames, coordinates), or an iterable of arrays.
        mass: amu: a number, (coordinates,) or a matrix, compared with kT ⟨v vᵀ⟩⁻¹; None: taken from it.
        spacing: between frames, ps.
        temperature: K.
        lags, energy, isotropic, method, blocks, resamples, seed: as in `memory_from_velocities`.

    Raises:
        ValueError: as `memory_from_velocities`.

    Source: Mitterwallner, Schreiber, Daldrop, Rädler & Netz, Phys. Rev. E 101, 032408 (2020), for what discretised
    velocities do to correlation functions.
    """
    owner = "memory_from_positions"
    _require(owner, spacing, temperature, mass)
    found, profile = _energy(owner, energy, positions, temperature, isotropic)
    mean_force = None if found is None else force_of(found if profile is None else profile.rough)

    def sums(arrays: dict[str, np.ndarray]) -> BlockSums:
        x = arrays["positions"]
        if x.shape[1] < 2:
            raise ValueError(f"{owner}: a trajectory of {x.shape[1]} frame has no velocity; give more frames.")
        v = _columns(owner, np.diff(np.asarray(x, np.float64), axis=1) / spacing, isotropic)
        quantities = {"vv": (v, v)}
        if mean_force is not None:
            # Lag 0 of this is half a frame: the force at the end of a displacement.
            quantities["fv"] = mean_force(x[:, 1:]).reshape(v.shape), v
        # One lag more, for the second difference at the last.
        pieces = _pieces(owner, v.shape, lags + 1, blocks, is_stream(positions))
        ends = None if profile is None else x[:, 1:].reshape(v.shape)
        return block_sums(quantities, lags + 1, pieces, isotropic=isotropic, profile=profile, positions=ends)

    collected = BlockSums.of(sums(arrays) for arrays in segments(owner, {"positions": positions}))
    data = CorrelationData(collected, spacing, None, GAS_CONSTANT * temperature, True, profile)
    return _memory(data, method, found, mass, temperature, resamples, seed)


def undo_frame_average(averaged: np.ndarray) -> np.ndarray:
    """C_vv from the correlation function of velocities averaged over a frame, to fourth order.

    Arguments:
        averaged: (..., lags + 1, d, d) ⟨v̄(t) v̄(0)ᵀ⟩.

    Returns:
        (..., lags, d, d).
    """
    before = np.swapaxes(averaged[..., 1:2, :, :], -1, -2)
    whole = np.concatenate([before, averaged], axis=-3)
    second = whole[..., 2:, :, :] - 2 * whole[..., 1:-1, :, :] + whole[..., :-2, :, :]
    return averaged[..., :-1, :, :] - second / 12


def _frames_of_odd(middle: np.ndarray) -> np.ndarray:
    """Values at 0, 1, … of an odd function known at ½, 3/2, …; (..., lags, d, d) → the same shape."""
    moved = np.moveaxis(middle, -3, 0)
    return np.moveaxis(np.asarray(half_steps(np.concatenate([-moved[1::-1], moved])))[1:], 0, -3)  # pyright: ignore[reportArgumentType]


def _memory(data: CorrelationData, method: Method, energy, mass, temperature, resamples: int, seed: int) -> Memory:
    whole = data.tables()
    drawn = data.tables(data.blocks.draws(resamples, seed))
    names = [name for name in drawn if name in ("vv", "fv", "mass", "impulse", "derivative", "initial")]
    # The whole first, then the samples: one compiled map.
    stacked = {name: jnp.asarray(np.concatenate([whole[name][None], drawn[name]])) for name in names}
    values, times, integrals = _extractions(stacked, jnp.asarray(data.spacing, stacked["vv"].dtype), method)
    if data.scalar:
        values, integrals = values[..., 0, 0], integrals[..., 0, 0]
    extracted = ExtractedKernel(TabulatedKernel(values[0], data.spacing), times[0], integrals[0])

    def shown(table: np.ndarray) -> np.ndarray:
        return table[..., 0, 0] if data.scalar else table

    inertia = whole["mass"] if mass is None else _as_matrix(mass, whole["mass"].shape[-1])
    size = inertia.shape[-1]

    def kinetic(table: np.ndarray) -> np.ndarray:
        return np.einsum("ij,...ji->...", inertia, table[..., 0, :, :]) / (size * GAS_CONSTANT)

    memory = Memory(
        extracted=extracted,
        kernel_error=np.asarray(values[1:]).std(axis=0, ddof=1),
        integral_error=np.asarray(integrals[1:]).std(axis=0, ddof=1),
        velocity_correlation=shown(whole["vv"]),
        velocity_correlation_error=shown(drawn["vv"]).std(axis=0, ddof=1),
        force_correlation=shown(whole["fv"]) if "fv" in whole else None,
        blocks=data.blocks.blocks,
        spacing=float(data.spacing),
        mass=float(inertia[0, 0]) if data.scalar else inertia,
        kinetic_temperature=float(kinetic(whole["vv"])),
        kinetic_temperature_error=float(kinetic(drawn["vv"]).std(ddof=1)),
        energy=energy,
        sums=data,
    )
    return Memory(**{**vars(memory), "notes": notes_on(memory, temperature, found_mass=mass is None)})


@partial(jax.jit, static_argnames="method")
def _extractions(tables: dict[str, Array], spacing: Array, method: Method) -> tuple[Array, Array, Array]:
    """Γ, times and ∫Γ of every row of the tables."""

    def one(row: dict[str, Array]) -> tuple[Array, Array, Array]:
        use = {name: row[name] for name in ("derivative", "impulse", "initial") if name in row}
        found = extract_kernel(row["vv"], row.get("fv"), row["mass"], spacing, method=method, **use)
        return found.kernel.values, found.times, found.integral

    return jax.lax.map(one, tables, batch_size=_TOGETHER)


def _as_matrix(mass, size: int) -> np.ndarray:
    mass = np.asarray(mass, np.float64)
    return mass if mass.ndim == 2 else np.eye(size) * mass


def _require(owner: str, spacing: float, temperature: float | None, mass) -> None:
    require_positive(owner, "spacing", spacing)
    if temperature is not None:
        require_positive(owner, "temperature", temperature)
    if mass is not None:
        require_positive(owner, "mass", mass if np.ndim(mass) < 2 else np.linalg.eigvalsh(np.asarray(mass)))


def _energy(
    owner: str, energy, positions, temperature, isotropic: bool
) -> tuple[AbstractEnergy | None, EstimatedProfile | None]:
    """The potential of mean force, and how it was made where it comes from the data."""
    if isinstance(energy, str):
        if energy != "profile":
            raise ValueError(f"{owner}: energy {energy!r} is not known; give an energy, 'profile', or None.")
        if temperature is None:
            raise ValueError(f"{owner}: a free-energy profile needs the temperature; give it.")
        once_more(owner, positions)
        energy = estimate_profile(thinned(_single(owner, positions, isotropic)), temperature)
    return (energy.potential, energy) if isinstance(energy, EstimatedProfile) else (energy, None)


def _single(owner: str, positions: Trajectories, isotropic: bool) -> Iterator[np.ndarray]:
    for arrays in segments(owner, {"positions": positions}):
        x = arrays["positions"]
        if not isotropic and x[0, 0].size > 1:
            raise ValueError(f"{owner}: a profile is that of one coordinate; give an energy of all coordinates.")
        yield x


def _columns(owner: str, array: np.ndarray, isotropic: bool) -> np.ndarray:
    if array.ndim > 3 and not isotropic:
        raise ValueError(
            f"{owner}: frames of shape {array.shape[2:]}; give (trajectories, frames, coordinates), or isotropic=True "
            "for equivalent particles and components."
        )
    return array.reshape(*array.shape[:2], -1)


def _pieces(owner: str, shape: tuple[int, ...], lags: int, blocks: int, stream: bool) -> int:
    """Into how many blocks to cut each trajectory of an array."""
    trajectories, frames = shape[:2]
    pieces = max(-(-blocks // trajectories), 1)
    if stream:
        # Every array adds blocks of its own.
        pieces = min(pieces, max(frames // (2 * lags), 1))
    length = frames // pieces
    if length < (2 * lags if pieces > 1 else lags):
        most = trajectories * max(frames // (2 * lags), 0)
        advice = f"or at most {most} blocks" if most else f"at most {frames // 2} lags in any case"
        raise ValueError(
            f"{owner}: blocks of {length} frames are too short for {lags} lags; give longer trajectories, at most "
            f"{length // 2 if pieces > 1 else frames} lags, {advice}."
        )
    return pieces

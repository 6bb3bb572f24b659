"""Isothermal compressibility: from volumes, from the fluctuations of the virial, and from the structure factor.

κ = −(1/V)(∂V/∂p) at constant temperature, in nm³ mol/kJ: the inverse of a pressure in kJ/mol/nm³.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...space import Box
from ...typing import Array, AtomVectors, Float, Scalar
from ...units import GAS_CONSTANT
from ..statistics import Estimate
from ._functions import function_of_averages
from .molecules import Molecules
from .pressure import Boxes, Frames, frame_boxes


class VolumeDerivatives(NamedTuple):
    """How the energy changes with the volume when everything is scaled.

    Fields:
        first: V ∂U/∂V, kJ/mol; minus a third of the trace of the virial.
        second: V ∂/∂V (V ∂U/∂V), kJ/mol.
    """

    first: Array | np.ndarray
    second: Array | np.ndarray


def volume_derivatives(
    energy: AbstractEnergy, x: AtomVectors, box: Box, molecules: Molecules | None = None
) -> VolumeDerivatives:
    """First and second derivative of the energy by ln V, by forward differentiation through positions and box.

    Arguments:
        energy: any energy with two derivatives: switch it off smoothly at the cutoff, where a jump of the force
            would be missed.
        x: (atoms, 3) nm.
        box: (3, 3) nm.
        molecules: scale centres of mass instead of atoms.
    """
    x = jnp.asarray(x)
    box = jnp.asarray(box, x.dtype)
    moved = x if molecules is None else molecules.centers(x, box)

    def scaled(log_volume: Scalar) -> Scalar:
        factor = jnp.exp(log_volume / 3)
        return energy.with_box(factor * box)(x + (factor - 1) * moved)

    def first(log_volume: Scalar) -> Scalar:
        return jax.jvp(scaled, (log_volume,), (jnp.ones_like(log_volume),))[1]

    zero = jnp.zeros((), x.dtype)
    return VolumeDerivatives(*jax.jvp(first, (zero,), (jnp.ones_like(zero),)))


def frame_volume_derivatives(
    energy: AbstractEnergy, positions: Frames, boxes: Boxes, molecules: Molecules | None = None
) -> VolumeDerivatives:
    """`volume_derivatives` of every frame, (frames,) each; pair lists are made anew for each."""
    positions = np.asarray(positions)
    found = []
    for x, box in zip(positions, frame_boxes(boxes, len(positions)), strict=True):
        x, box = jnp.asarray(x), jnp.asarray(box, x.dtype)
        found.append(_derivatives(energy.with_box(box).rebuild(x), x, box, molecules))
    return VolumeDerivatives(*(np.stack([np.asarray(f[i]) for f in found]) for i in range(2)))


def compressibility_from_virial(
    derivatives: VolumeDerivatives, particles: int, volume: float, temperature: float
) -> Estimate:
    """κ from a run at constant volume: 1/κ = (N kT + ⟨u″⟩ − ⟨u′⟩ − Var(u′)/kT)/V with u′, u″ by ln V.

    Arguments:
        derivatives: (frames,) each, in the order of time.
        particles: N, of atoms, or of molecules if they were scaled as wholes.
        volume: nm³.
        temperature: K.

    Source: derivative by V of ⟨∂U/∂V⟩ in the canonical ensemble; Rowlinson's hypervirial, see Allen & Tildesley,
    Computer Simulation of Liquids (Oxford, 2017), section 2.5.
    """
    thermal_energy = GAS_CONSTANT * temperature
    first, second = (np.asarray(d, np.float64) for d in derivatives)
    middle = first.mean()

    def compressibility(averages):
        # About a fixed number near the mean, so that the variance keeps its digits.
        first, second, square = averages
        variance = square - (first - middle) ** 2
        return volume / (particles * thermal_energy + second - first - variance / thermal_energy)

    return function_of_averages(compressibility, (first, second, (first - middle) ** 2))


def compressibility_from_volume(volumes: Float[Array | np.ndarray, " frames"], temperature: float) -> Estimate:
    """κ = Var(V)/(kT ⟨V⟩) of a run at constant pressure.

    Arguments:
        volumes: (frames,) nm³, in the order of time.
        temperature: K.
    """
    volumes = np.asarray(volumes, np.float64)
    middle, thermal_energy = volumes.mean(), GAS_CONSTANT * temperature

    def compressibility(averages):
        mean, square = averages
        return (square - (mean - middle) ** 2) / (thermal_energy * mean)

    return function_of_averages(compressibility, (volumes, (volumes - middle) ** 2))


def compressibility_from_structure(
    wavenumbers: Float[Array | np.ndarray, " points"],
    structure_factor: Float[Array | np.ndarray, " points"],
    errors: Float[Array | np.ndarray, " points"],
    *,
    density: float,
    temperature: float,
    largest: float | None = None,
) -> Estimate:
    """κ = S(0)/(ρ kT), with S(0) from a straight line in q² through the smallest wave vectors.

    Of a one-component fluid; molecules count as particles, by their centres.

    Arguments:
        wavenumbers: (points,) q, 1/nm, those of lattice vectors of the box.
        structure_factor: (points,) S(q).
        errors: (points,) standard errors of S(q), positive.
        density: ρ, particles per nm³.
        temperature: K.
        largest: largest q of the line, 1/nm; the six smallest different ones by default.

    Returns:
        κ and the error that those of S(q) leave in it; not what the straight line leaves out.

    Raises:
        ValueError: fewer than three wave numbers for the line, or errors that are not positive.
    """
    q, s, errors = (np.asarray(a, np.float64) for a in (wavenumbers, structure_factor, errors))
    known = np.unique(np.round(q[q > 0], 9))
    end = float(known[:6].max(initial=0.0)) * (1 + 1e-6) if largest is None else largest
    chosen = (q > 0) & (q <= end)
    if len(np.unique(np.round(q[chosen], 9))) < 3:
        raise ValueError(
            f"compressibility_from_structure: fewer than three different wave numbers up to {end:g}/nm; give S(q) "
            "at smaller q, or a larger `largest`."
        )
    if not (errors[chosen] > 0).all():
        raise ValueError("compressibility_from_structure: the errors of S(q) must be positive.")
    design = np.stack([np.ones(chosen.sum()), q[chosen] ** 2], axis=1) / errors[chosen, None]
    covariance = np.linalg.inv(design.T @ design)
    value = covariance @ design.T @ (s[chosen] / errors[chosen])
    scale = 1 / (density * GAS_CONSTANT * temperature)
    return Estimate(float(scale * value[0]), float(scale * np.sqrt(covariance[0, 0])))


@eqx.filter_jit
def _derivatives(energy, x, box, molecules) -> VolumeDerivatives:
    return volume_derivatives(energy, x, box, molecules)

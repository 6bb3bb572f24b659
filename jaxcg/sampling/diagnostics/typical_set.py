"""Where the samples are, seen from the MAP: in d dimensions they live in a shell around it, not near it."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ...posterior import Posterior
from ...typing import Array, AtomScalars, AtomVectors
from ...units import GAS_CONSTANT
from .convergence import mean_standard_error


@dataclass(frozen=True)
class TypicalSet:
    """Energies and distances of samples from the MAP.

    In a harmonic well of d dimensions the potential above the minimum is Gamma distributed, (d/2) kT on average with
    a standard deviation of √(d/2) kT; the whitened radius is √d in root mean square, with a spread of √½.

    Fields:
        excess: (chains, draws) potential above the MAP's, kJ/mol.
        excess_error: Monte Carlo standard error of its mean, kJ/mol.
        radius: (samples,) mass-weighted root-mean-square displacement from the MAP, nm, not superposed: the beads hold
            the frame, so this is along the fibre.
        whitened: (samples,) √(δᵀHδ/kT) of the displacement δ, H the Hessian at the MAP; None if it was not asked for.
            It is √d only where the well is harmonic in Cartesian coordinates: a methyl group that has turned lies far
            outside, as no bond of the quadratic model turns with it.
        dimension: d.
        temperature: K.
    """

    excess: np.ndarray
    excess_error: float
    radius: np.ndarray
    whitened: np.ndarray | None
    dimension: int
    temperature: float

    @property
    def expected(self) -> float:
        """(d/2) kT, kJ/mol."""
        return 0.5 * self.dimension * GAS_CONSTANT * self.temperature

    @property
    def expected_spread(self) -> float:
        """√(d/2) kT, kJ/mol."""
        return float(np.sqrt(0.5 * self.dimension)) * GAS_CONSTANT * self.temperature

    def words(self) -> str:
        """What there is to see, in a few sentences."""
        error = "" if np.isnan(self.excess_error) else f" ± {self.excess_error:.2g}"
        text = (
            f"Samples lie {self.excess.mean():.4g}{error} kJ/mol above the MAP on average, the lowest "
            f"{self.excess.min():.4g}; a harmonic well of d = {self.dimension} has (d/2) kT = {self.expected:.4g} with "
            f"a spread of {self.expected_spread:.3g}. They are {_rms(self.radius):.3g} nm (mass-weighted rms) from it"
        )
        if self.whitened is not None:
            text += f"; whitened, {_rms(self.whitened):.4g}, where √d = {np.sqrt(self.dimension):.4g}"
        return text + "."

    def statistics(self) -> dict[str, Any]:
        """Plain numbers, for files."""
        return {
            "dimension": self.dimension,
            "excess_energy": float(self.excess.mean()),
            "excess_energy_error": None if np.isnan(self.excess_error) else self.excess_error,
            "excess_energy_spread": float(self.excess.std()),
            "excess_energy_least": float(self.excess.min()),
            "excess_energy_expected": self.expected,
            "excess_energy_spread_expected": self.expected_spread,
            "radius_nm": _rms(self.radius),
            "whitened_radius": None if self.whitened is None else _rms(self.whitened),
            "whitened_radius_expected": float(np.sqrt(self.dimension)),
        }


def typical_set(
    mode: AtomVectors,
    mode_potential: float,
    positions: np.ndarray,
    potentials: np.ndarray,
    *,
    masses: AtomScalars,
    dimension: int,
    temperature: float,
    posterior: Posterior | None = None,
) -> TypicalSet:
    """Compares samples with the MAP they belong to.

    Arguments:
        mode: (atoms, 3) the MAP, nm: a minimum of the posterior's potential on the fibre.
        mode_potential: −kT log p there, kJ/mol.
        positions: (..., atoms, 3) samples, nm.
        potentials: (chains, draws) −kT log p of samples, kJ/mol; not necessarily of the same ones.
        masses: (atoms,) amu, weights of the radius.
        dimension: d of the space that was sampled.
        temperature: K.
        posterior: if given, the whitened radius is computed too, one Hessian-vector product a sample.

    Raises:
        ValueError: shapes do not fit.
    """
    mode, masses = np.asarray(mode, np.float64), np.asarray(masses, np.float64)
    potentials = np.asarray(potentials, np.float64)
    positions = np.asarray(positions)
    if positions.shape[-2:] != mode.shape or masses.shape != mode.shape[:1] or potentials.ndim != 2:
        raise ValueError(
            f"typical_set: positions {positions.shape}, mode {mode.shape}, masses {masses.shape} and potentials "
            f"{potentials.shape} do not fit: expected (..., atoms, 3), (atoms, 3), (atoms,) and (chains, draws)."
        )
    displacements = positions.reshape(-1, *mode.shape).astype(np.float64) - mode
    whitened = None
    if posterior is not None:
        dtype = posterior.y.dtype
        curvature = _curvatures(posterior, jnp.asarray(mode, dtype), jnp.asarray(displacements, dtype))
        thermal = GAS_CONSTANT * float(temperature)
        whitened = np.sqrt(np.maximum(np.asarray(curvature, np.float64), 0) / thermal)
    excess = potentials - float(mode_potential)
    return TypicalSet(
        excess=excess,
        excess_error=float(mean_standard_error(excess)),
        radius=np.sqrt(np.einsum("sad,a->s", displacements**2, masses) / masses.sum()),
        whitened=whitened,
        dimension=int(dimension),
        temperature=float(temperature),
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


@eqx.filter_jit
def _curvatures(posterior: Posterior, mode: Array, displacements: Array) -> Array:
    """δᵀHδ (kJ/mol) of displacements (samples, atoms, 3), one after the other."""
    gradient = jax.grad(posterior.rebuild(mode).potential)
    return lax.map(lambda d: jnp.sum(d * jax.jvp(gradient, (mode,), (d,))[1]), displacements)

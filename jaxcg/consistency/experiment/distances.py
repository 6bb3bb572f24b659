"""Distances between labels: distributions as EPR (DEER) sees them, FRET efficiencies, paramagnetic relaxation."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...typing import Array, AtomVectors, Float

#: Dipolar frequency of two nitroxides (g = 2.0023) times their distance cubed, MHz nm³: µ0 g² µB²/(4π h).
DIPOLAR_CONSTANT = 52.04
#: S(S + 1)/15 (µ0/4π)² γ² g² µB² of a nitroxide (S = ½) and a proton, nm⁶/s² (1.23e-32 cm⁶/s²).
#: Source: Battiste & Wagner, Biochemistry 39, 5355 (2000).
RELAXATION_CONSTANT = 1.23e10


class LabelDistances(eqx.Module):
    """Distance of every pair of labels in one configuration.

    Arguments:
        pairs: (pairs, 2) atoms that carry the labels, or stand for them.
    """

    pairs: np.ndarray

    def __init__(self, pairs: Any):
        self.pairs = _pairs(pairs, "LabelDistances")

    def __call__(self, x: AtomVectors) -> Array:
        """(pairs,) nm, of positions ``x`` (atoms, 3) in nm, molecules whole."""
        return _distances(x, self.pairs)


class DistanceDistribution(eqx.Module):
    """Distribution P(r) of every pair of labels in one configuration; averages over frames are what DEER measures.

    Each distance counts as a normal distribution whose width is that of the flexible labels on their atoms (about 0.3
    nm for two nitroxide side chains, of which no model is made here), which also makes it differentiable.

    Arguments:
        pairs: (pairs, 2) atoms that carry the labels.
        r: (points,) distances at which the distribution is wanted, nm.
        width: standard deviation that the labels add, nm; may be traced.
    """

    pairs: np.ndarray
    r: Array
    width: Array

    def __init__(self, pairs: Any, r: Float[Array | np.ndarray, " points"], width: Any = 0.3):
        self.pairs = _pairs(pairs, "DistanceDistribution")
        self.r = jnp.asarray(r)
        self.width = jnp.asarray(width)
        if self.r.ndim != 1:
            raise ValueError(f"DistanceDistribution: r has shape {self.r.shape}, expected (points,) in nm.")

    def __call__(self, x: AtomVectors) -> Array:
        """(pairs, points) 1/nm of positions ``x`` (atoms, 3) in nm, molecules whole."""
        distance = _distances(x, self.pairs)
        width = self.width.astype(distance.dtype)
        off = (self.r.astype(distance.dtype) - distance[:, None]) / width
        return jnp.exp(-0.5 * off**2) / (width * np.sqrt(2 * np.pi).astype(distance.dtype))


class FretEfficiency(eqx.Module):
    """Efficiency 1/(1 + (r/R₀)⁶) of energy transfer between every pair of labels in one configuration.

    Averaged over frames it is the measured efficiency for dyes that turn fast and molecules that move slowly against
    the nanoseconds of the donor's lifetime; the efficiency of the average distance is something else.

    Arguments:
        pairs: (pairs, 2) atoms that stand for donor and acceptor.
        forster_radius: R₀, nm, a number or (pairs,); may be traced.
    """

    pairs: np.ndarray
    forster_radius: Array

    def __init__(self, pairs: Any, forster_radius: Any):
        self.pairs = _pairs(pairs, "FretEfficiency")
        self.forster_radius = jnp.asarray(forster_radius)

    def __call__(self, x: AtomVectors) -> Array:
        """(pairs,) between 0 and 1, of positions ``x`` (atoms, 3) in nm, molecules whole."""
        distance = _distances(x, self.pairs)
        return 1 / (1 + (distance / self.forster_radius.astype(distance.dtype)) ** 6)


class ParamagneticRelaxation(eqx.Module):
    """Enhancement Γ₂ of the transverse relaxation of protons by a nitroxide label, in one configuration.

    Γ₂ = K r⁻⁶ (4 τ + 3 τ/(1 + ω² τ²)), to be averaged over the ensemble: a label that is near for a moment relaxes
    strongly. `intensity_ratio` makes it into what is measured.

    Arguments:
        pairs: (pairs, 2) atoms of label and proton.
        correlation_time: τ of the vector between them, ps; may be traced.
        proton_frequency: of the spectrometer, MHz.

    Source: Solomon & Bloembergen's equation as in Battiste & Wagner, Biochemistry 39, 5355 (2000).
    """

    pairs: np.ndarray
    correlation_time: Array
    proton_frequency: Array

    def __init__(self, pairs: Any, correlation_time: Any, proton_frequency: Any = 600.0):
        self.pairs = _pairs(pairs, "ParamagneticRelaxation")
        self.correlation_time = jnp.asarray(correlation_time)
        self.proton_frequency = jnp.asarray(proton_frequency)

    def __call__(self, x: AtomVectors) -> Array:
        """(pairs,) 1/s of positions ``x`` (atoms, 3) in nm, molecules whole."""
        distance = _distances(x, self.pairs)
        # In microseconds all factors stay near one, also in single precision.
        time = self.correlation_time.astype(distance.dtype) * 1e-6
        turn = 2 * np.pi * self.proton_frequency.astype(distance.dtype) * time
        spectrum = 4 * time + 3 * time / (1 + turn**2)
        return RELAXATION_CONSTANT * 1e-6 * spectrum * distance**-6


def intensity_ratio(rate: Any, relaxation_rate: Any, delay: Any) -> Any:
    """Ratio of peak intensities with and without the paramagnetic label, R₂ exp(−Γ₂ t)/(R₂ + Γ₂).

    Arguments:
        rate: Γ₂, 1/s, averaged over the ensemble.
        relaxation_rate: R₂ without the label, 1/s.
        delay: t, time in which the magnetisation is transverse, s.

    Source: Battiste & Wagner, Biochemistry 39, 5355 (2000).
    """
    return relaxation_rate * jnp.exp(-rate * delay) / (relaxation_rate + rate)


def dipolar_kernel(times: Float[Array | np.ndarray, " times"], r: Float[Array | np.ndarray, " points"]) -> Array:
    """K(t, r) = ∫₀¹ cos[(3z² − 1) ω t] dz of two spins at distance r in a powder, with ω = 2π · 52.04 MHz nm³/r³.

    Arguments:
        times: (times,) µs.
        r: (points,) nm, positive.

    Returns:
        (times, points); one at t = 0. Right to 1e-6 for |ω t| up to 450 rad: 4.6 µs at 1.5 nm.

    Source: Pake, J. Chem. Phys. 16, 327 (1948).
    """
    nodes, weights = np.polynomial.legendre.leggauss(_KERNEL_NODES)
    phase = 2 * np.pi * DIPOLAR_CONSTANT * jnp.asarray(times)[:, None] / jnp.asarray(r) ** 3
    heights = 3 * (0.5 * (nodes + 1)) ** 2 - 1

    def add(total, node):
        height, weight = node
        return total + weight * jnp.cos(height * phase), None

    pairs = (jnp.asarray(heights, phase.dtype), jnp.asarray(0.5 * weights, phase.dtype))
    return jax.lax.scan(add, jnp.zeros_like(phase), pairs)[0]


def dipolar_signal(
    distribution: Float[Array | np.ndarray, "... points"],
    r: Float[Array | np.ndarray, " points"],
    times: Float[Array | np.ndarray, " times"],
    *,
    modulation_depth: Any = 1.0,
    background_rate: Any = 0.0,
) -> Array:
    """DEER signal V(t) = (1 − λ + λ ∫ K(t, r) P(r) dr) exp(−k |t|) of a distribution of distances.

    Arguments:
        distribution: (..., points) P(r), 1/nm, averaged over the ensemble; a part outside of ``r`` is lost.
        r: (points,) nm, equal steps.
        times: (times,) µs.
        modulation_depth: λ, from 0 to 1; may be traced.
        background_rate: k of molecules far away, 1/µs.

    Returns:
        (..., times).
    """
    kernel = dipolar_kernel(times, r) * (r[1] - r[0])
    form = jnp.matmul(jnp.asarray(distribution), kernel.T, precision="highest")
    return (1 - modulation_depth + modulation_depth * form) * jnp.exp(-background_rate * jnp.abs(jnp.asarray(times)))


#: Nodes of the average over orientations.
_KERNEL_NODES = 512


def _pairs(pairs: Any, what: str) -> np.ndarray:
    pairs = np.asarray(pairs, np.int32)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or np.any(pairs[:, 0] == pairs[:, 1]):
        raise ValueError(f"{what}: pairs must be (pairs, 2) different atoms; got shape {pairs.shape}.")
    return pairs


def _distances(x: Any, pairs: np.ndarray) -> Array:
    x = jnp.asarray(x)
    square = jnp.sum((x[pairs[:, 0]] - x[pairs[:, 1]]) ** 2, axis=-1)
    # Labels on one point have no direction to move apart in: zero gradient.
    apart = square != 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)

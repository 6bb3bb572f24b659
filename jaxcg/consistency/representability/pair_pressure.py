"""The pressure of a pair potential, from g(r) alone."""

import math

import jax.numpy as jnp
import numpy as np

from ...typing import Array, Float, Scalar
from ...units import GAS_CONSTANT


def pair_pressure(
    edges: Float[Array | np.ndarray, " edges"],
    rdf: Float[Array | np.ndarray, " bins"],
    slope: Float[Array | np.ndarray, " bins"],
    *,
    density: float | Array,
    temperature: float | Array,
    points: int | None = None,
) -> Scalar:
    """P = ρkT − (2π/3) ρ² ∫ r³ u′(r) g(r) dr of a one-component fluid with pair potential u.

    All that pair forces have to do with the pressure goes through g(r): two systems of one density with the same g(r)
    and the same pair potential have the same pressure, and many-body forces add to it what g(r) does not know.
    Differentiable. It is one number for one g(r): give it each block's g(r) and take the error from their spread.

    Arguments:
        edges: (bins + 1,) edges of the bins of g(r), nm.
        rdf: (bins,) g(r), the mean over each shell.
        slope: (bins,) du/dr in the middles of the bins, kJ/mol/nm; zero beyond the cutoff.
        density: number density ρ, nm⁻³.
        temperature: K.
        points: number of points N, where g(r) was counted against their N(N − 1)/2 pairs, as that of
            `jaxcg.consistency.radial_distribution`; None where it was counted against N²/2 or comes from a theory.

    Returns:
        kJ/mol/nm³ (divide by `jaxcg.units.BAR` for bar).

    Raises:
        ValueError: the shapes do not fit.

    Source: the virial theorem; Hansen & McDonald, Theory of Simple Liquids, chapter 2.
    """
    if rdf.shape != slope.shape or rdf.shape != (edges.shape[0] - 1,):
        raise ValueError(
            f"pair_pressure: {edges.shape[0]} edges for g(r) of shape {rdf.shape} and a slope of shape {slope.shape}; "
            "give one edge more than bins, and a slope for each bin."
        )
    rdf = jnp.asarray(rdf)
    edges, slope = jnp.asarray(edges, rdf.dtype), jnp.asarray(slope, rdf.dtype)
    middles = 0.5 * (edges[1:] + edges[:-1])
    shells = 4 * math.pi / 3 * (edges[1:] ** 3 - edges[:-1] ** 3)
    ideal = density * GAS_CONSTANT * temperature
    pairs = density**2 if points is None else density**2 * (1 - 1 / points)
    return ideal - pairs / 6 * jnp.sum(shells * rdf * middles * slope)

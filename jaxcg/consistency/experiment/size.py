"""The size of a molecule: its radius of gyration, from positions and from the start of I(q)."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ...typing import Array, AtomScalars, AtomVectors, Float, Scalar


class SquaredRadiusOfGyration(eqx.Module):
    """R_g² = Σ w (x − x̄)²/Σ w of one configuration. Scattering measures √⟨R_g²⟩: average first, then take the root.

    Arguments:
        weights: (atoms,) masses; or, for what X-rays see, the excess electrons f_j(0) of each atom (which may be
            negative); equal ones when None.

    Raises:
        ValueError: weights of sum zero.
    """

    weights: Array | None

    def __init__(self, weights: AtomScalars | None = None):
        if weights is not None and np.sum(weights) == 0:
            raise ValueError("SquaredRadiusOfGyration: the weights have sum zero; give masses.")
        self.weights = None if weights is None else jnp.asarray(weights)

    def __call__(self, x: AtomVectors) -> Scalar:
        """nm² of positions ``x`` (atoms, 3) in nm, molecules whole."""
        x = jnp.asarray(x)
        weights = jnp.ones(len(x), x.dtype) if self.weights is None else self.weights.astype(x.dtype)
        share = (weights / jnp.sum(weights))[:, None]
        x = x - jnp.mean(x, axis=0)
        return jnp.sum(share * (x - jnp.sum(share * x, axis=0)) ** 2)


def guinier_fit(
    q: Float[Array | np.ndarray, " points"],
    intensity: Float[Array | np.ndarray, " points"],
    *,
    errors: Float[Array | np.ndarray, " points"] | None = None,
    largest: float = 1.3,
) -> tuple[float, float]:
    """Radius of gyration and I(0) from ln I(q) = ln I(0) − q² R_g²/3 where q R_g is small.

    Arguments:
        q: (points,) 1/nm, rising.
        intensity: (points,) positive at small q.
        errors: (points,) of the intensity; None weighs all points alike in ln I.
        largest: q R_g up to which points are taken; found by repeating the fit.

    Returns:
        R_g (nm) and I(0). The straight line is itself approximate: of a compact molecule R_g comes out right to about
        1 % with the default, better with less.

    Raises:
        ValueError: fewer than three points in the range, or an intensity that does not fall there.

    Source: Guinier & Fournet, Small-Angle Scattering of X-Rays (1955).
    """
    q, intensity = np.asarray(q, np.float64), np.asarray(intensity, np.float64)
    weight = np.ones_like(q) if errors is None else intensity / np.asarray(errors, np.float64)
    # From the first points outwards, as far as the radius that they show allows.
    count, seen = 3, set()
    while count not in seen:
        seen.add(count)
        if q.size < 3 or not np.all(intensity[:count] > 0):
            raise ValueError("guinier_fit: three points of positive intensity are needed at small q.")
        slope, start = np.polyfit(q[:count] ** 2, np.log(intensity[:count]), 1, w=weight[:count])
        if not slope < 0:
            raise ValueError(f"guinier_fit: the intensity does not fall over the first {count} points.")
        radius = float(np.sqrt(-3 * slope))
        found = int(np.sum(q * radius <= largest))
        if found < 3:
            raise ValueError(
                f"guinier_fit: only {found} points have q below {largest / radius:.3g} /nm (R_g about {radius:.3g}); "
                "give I(q) at smaller q."
            )
        count = found
    return radius, float(np.exp(start))

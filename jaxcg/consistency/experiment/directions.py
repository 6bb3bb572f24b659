"""Directions on the sphere that average the intensity of a molecule exactly."""

import math

import numpy as np


def bandlimit(reach: float) -> int:
    """Degree of spherical harmonics beyond which a plane wave has nothing left within the radius ``reach`` / q.

    Source: Wiscombe, Appl. Opt. 19, 1505 (1980).
    """
    return math.ceil(reach + 4.05 * reach ** (1 / 3) + 2)


def half_sphere(reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Directions and weights for the average of |A(q)|² over all directions of q.

    Gauss–Legendre nodes in cos θ times equally spaced angles φ, fewer of them near the pole: exact for products of two
    waves of degree `bandlimit`. Intensities are the same at q and −q, so that half the sphere does.

    Arguments:
        reach: largest q times the radius of the molecule about its centre.

    Returns:
        (directions, 3) unit vectors and (directions,) weights of sum one; about ``bandlimit(reach)``² of them.
    """
    degree = bandlimit(reach)
    # An even number of nodes: none on the equator, which would be its own mirror image.
    nodes, shares = np.polynomial.legendre.leggauss(degree + 1 + (degree + 1) % 2)
    vectors, weights = [], []
    for height, share in zip(nodes[nodes > 0], shares[nodes > 0], strict=True):
        radius = math.sqrt(1 - height**2)
        # Around a circle of latitude the wave has harmonics up to the degree of its radius only.
        count = 2 * min(bandlimit(reach * radius), degree) + 1
        angle = 2 * np.pi * np.arange(count) / count
        vectors.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, height)], axis=1))
        weights.append(np.full(count, share / count))
    return np.concatenate(vectors), np.concatenate(weights)

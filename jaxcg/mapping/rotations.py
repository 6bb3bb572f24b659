"""Rotations in three dimensions: conversions, distance, principal axes and the best superposition, all differentiable.

A rotation is a proper orthogonal matrix R (3, 3), a unit quaternion (w, x, y, z), or a rotation vector (axis times
angle, radians). Every function takes arrays with any leading axes, keeps the dtype, and has finite gradients where the
plain formulas divide by zero: at no rotation, at a half turn, at equal eigenvalues, for linear and empty fragments.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from ..typing import Array, Float

Matrices = Float[Array | np.ndarray, "*batch 3 3"]
Quaternions = Float[Array | np.ndarray, "*batch 4"]
Vectors = Float[Array | np.ndarray, "*batch 3"]


def quaternion_to_matrix(q: Quaternions) -> Matrices:
    """Rotation matrix of the quaternion ``q`` = (w, x, y, z); ``q`` need not have length one, but must not be zero.

    Source: Shoemake, SIGGRAPH 1985.
    """
    q = jnp.asarray(q)
    q = q / jnp.sqrt(jnp.sum(q * q, axis=-1, keepdims=True))
    w, x, y, z = jnp.moveaxis(q, -1, 0)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def matrix_to_quaternion(rotation: Matrices) -> Quaternions:
    """Unit quaternion (w, x, y, z) with w ≥ 0 of a rotation matrix.

    The four rows of 4 q qᵀ are linear in the matrix; the longest is normalised, so nothing small is divided by and
    the gradient is right everywhere (the sign jumps at a half turn, where w = 0).

    Source: Bar-Itzhack, J. Guid. Control Dyn. 23, 1085 (2000), for rotations without noise.
    """
    r = jnp.asarray(rotation)
    xx, yy, zz = r[..., 0, 0], r[..., 1, 1], r[..., 2, 2]
    wx, wy, wz = r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]
    xy, xz, yz = r[..., 0, 1] + r[..., 1, 0], r[..., 0, 2] + r[..., 2, 0], r[..., 1, 2] + r[..., 2, 1]
    rows = (
        (1 + xx + yy + zz, wx, wy, wz),
        (wx, 1 + xx - yy - zz, xy, xz),
        (wy, xy, 1 - xx + yy - zz, yz),
        (wz, xz, yz, 1 - xx - yy + zz),
    )
    outer = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    largest = jnp.argmax(jnp.diagonal(outer, axis1=-2, axis2=-1), axis=-1)
    row = jnp.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    q = row / jnp.sqrt(jnp.sum(row * row, axis=-1, keepdims=True))
    return q * _sign(q[..., :1])


def rotation_exp(vector: Vectors) -> Matrices:
    """Rotation matrix of the rotation vector ``vector`` (axis times angle, radians); smooth at zero.

    Source: Rodrigues' formula, R = 1 + (sin θ/θ) K + ((1 − cos θ)/θ²) K².
    """
    v = jnp.asarray(vector)
    square = jnp.sum(v * v, axis=-1)[..., None, None]
    # Below this the next term of the series is under the rounding of either precision's result.
    small = square < (1e-4 if v.dtype == jnp.float64 else 1e-2)
    safe = jnp.where(small, 1.0, square)
    angle = jnp.sqrt(safe)
    a = jnp.where(small, 1 - square / 6 * (1 - square / 20 * (1 - square / 42)), jnp.sin(angle) / angle)
    half = jnp.sin(angle / 2) / angle
    b = jnp.where(small, 0.5 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56))), 2 * half * half)
    cross = cross_matrix(v)
    return jnp.eye(3, dtype=v.dtype) + a * cross + b * _matmul(cross, cross)


def rotation_log(rotation: Matrices) -> Vectors:
    """Rotation vector (axis times angle, radians, length in [0, π]) of a rotation matrix.

    Smooth at no rotation; at a half turn the sign of the axis is a choice and the gradient stays finite.
    """
    q = matrix_to_quaternion(rotation)
    w, u = q[..., :1], q[..., 1:]
    square = jnp.sum(u * u, axis=-1, keepdims=True)
    small = square < (1e-6 if q.dtype == jnp.float64 else 1e-4)
    length = jnp.sqrt(jnp.where(small, 1.0, square))
    # w ≥ 0, so atan2 covers [0, π/2]; near zero θ/sin(θ/2) by its series in sin²(θ/2).
    scale = jnp.where(small, 2 + square / 3 + 3 * square * square / 20, 2 * jnp.arctan2(length, w) / length)
    return scale * u


def geodesic_distance(first: Matrices, second: Matrices) -> Float[Array, "*batch"]:
    """Angle of the rotation that takes ``first`` to ``second``, radians in [0, π]; gradient zero where they agree."""
    q = matrix_to_quaternion(_matmul(jnp.swapaxes(jnp.asarray(first), -1, -2), jnp.asarray(second)))
    square = jnp.sum(q[..., 1:] ** 2, axis=-1)
    same = square == 0
    length = jnp.sqrt(jnp.where(same, 1.0, square))
    return jnp.where(same, 0.0, 2 * jnp.arctan2(length, jnp.where(same, 1.0, q[..., 0])))


def smallest_rotation(source: Vectors, target: Vectors) -> Matrices:
    """The rotation of smallest angle that turns the unit vector ``source`` into the unit vector ``target``.

    Zero vectors give no rotation. Opposite vectors leave the axis open: a half turn about some normal is returned.
    """
    a, b = jnp.asarray(source), jnp.asarray(target)
    cosine = jnp.sum(a * b, axis=-1)[..., None, None]
    opposite = cosine < -1 + 8 * jnp.finfo(a.dtype).eps
    cross = cross_matrix(jnp.cross(a, b))
    turn = jnp.eye(3, dtype=a.dtype) + cross + _matmul(cross, cross) / jnp.where(opposite, 1.0, 1 + cosine)
    # Any direction off the axis, made normal to it, carries the half turn 2 n nᵀ − 1.
    off = jax.nn.one_hot(jnp.argmin(jnp.abs(a), axis=-1), 3, dtype=a.dtype)
    normal = jnp.cross(jnp.where(opposite[..., 0], a, jnp.roll(off, 1, axis=-1)), off)
    normal = normal / jnp.sqrt(jnp.sum(normal * normal, axis=-1, keepdims=True))
    half_turn = 2 * normal[..., :, None] * normal[..., None, :] - jnp.eye(3, dtype=a.dtype)
    return jnp.where(opposite, half_turn, turn)


def cross_matrix(v: Vectors) -> Matrices:
    """The antisymmetric matrix K with K u = v × u."""
    x, y, z = jnp.moveaxis(jnp.asarray(v), -1, 0)
    zero = jnp.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


# -- principal axes ---------------------------------------------------------------------------------------------------


@jax.custom_jvp
def principal_axes(tensor: Matrices) -> tuple[Vectors, Matrices]:
    """Eigenvalues (ascending) and orthonormal eigenvectors (columns) of symmetric matrices.

    The derivative is that of perturbation theory. Pairs of eigenvalues closer than `gap_tolerance` of the matrix's
    scale leave the eigenvectors undetermined among themselves: the rotation between them has derivative zero, so
    gradients are finite at degenerate tensors, and exact for the axes that are determined. Signs are not fixed.

    Source: Magnus, Econometric Theory 1, 179 (1985), dV = V (F ∘ Vᵀ dA V), F_ij = 1/(λ_j − λ_i).
    """
    values, vectors = jnp.linalg.eigh(jnp.asarray(tensor), symmetrize_input=True)
    return values, vectors


@principal_axes.defjvp
def _principal_axes_jvp(primals, tangents):
    (tensor,), (change,) = primals, tangents
    values, vectors = principal_axes(tensor)
    change = 0.5 * (change + jnp.swapaxes(change, -1, -2))
    inner = _matmul(jnp.swapaxes(vectors, -1, -2), _matmul(change, vectors))
    gap = values[..., None, :] - values[..., :, None]
    scale = jnp.max(jnp.abs(values), axis=-1)[..., None, None]
    apart = jnp.abs(gap) > gap_tolerance(values.dtype) * scale
    factor = jnp.where(apart, 1.0 / jnp.where(apart, gap, 1.0), 0.0)
    return (values, vectors), (jnp.diagonal(inner, axis1=-2, axis2=-1), _matmul(vectors, factor * inner))


def gap_tolerance(dtype) -> float:
    """Relative gap of eigenvalues under which axes count as undetermined in derivatives: √ε of the precision."""
    return float(np.sqrt(float(jnp.finfo(dtype).eps)))


# -- best superposition -----------------------------------------------------------------------------------------------


@jax.custom_jvp
def nearest_rotation(covariance: Matrices) -> Matrices:
    """The rotation R that maximises tr(Rᵀ C) for the matrix C = Σ w a bᵀ: the best turn of the b onto the a.

    Always right-handed. C may have rank two (planar fragments) and equal singular values (symmetric fragments):
    value and derivative are smooth there. Only a matrix whose two smaller signed singular values add up to zero
    (linear fragments, mirror images) leaves R open; it is then one of the best rotations and its derivative along
    the open direction is zero.

    Source: Kabsch, Acta Cryst. A 32, 922 (1976); derivative from the symmetry of Rᵀ C.
    """
    left, _, right = jnp.linalg.svd(jnp.asarray(covariance))
    handed = jnp.linalg.det(left) * jnp.linalg.det(right)
    # The last column carries the smallest singular value: turning it over costs least.
    left = left.at[..., :, 2].multiply(_sign(handed)[..., None])
    return _matmul(left, right)


@nearest_rotation.defjvp
def _nearest_rotation_jvp(primals, tangents):
    (covariance,), (change,) = primals, tangents
    rotation = nearest_rotation(covariance)
    turned = jnp.swapaxes(rotation, -1, -2)
    stretch = _matmul(turned, covariance)
    stretch = 0.5 * (stretch + jnp.swapaxes(stretch, -1, -2))
    inner = _matmul(turned, change)
    # dR = R K(ω) and Rᵀ C stays symmetric: (tr(P) − P) ω = axial vector of Rᵀ dC − dCᵀ R.
    skew = inner - jnp.swapaxes(inner, -1, -2)
    axial = jnp.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1)
    trace = jnp.trace(stretch, axis1=-2, axis2=-1)[..., None, None]
    metric = trace * jnp.eye(3, dtype=stretch.dtype) - stretch
    omega = _matmul(_inverse_or_pseudoinverse(metric), axial[..., None])[..., 0]
    return rotation, _matmul(rotation, cross_matrix(omega))


def superposition(
    mobile: Float[Array | np.ndarray, "atoms 3"],
    target: Float[Array | np.ndarray, "atoms 3"],
    weights: Float[Array | np.ndarray, " atoms"],
) -> Float[Array, "atoms 3"]:
    """``mobile`` moved and turned as a whole onto ``target`` with the least weighted square distance.

    Arguments:
        mobile, target: (atoms, 3) positions, nm.
        weights: (atoms,) weights, e.g. masses.

    Source: Kabsch, Acta Cryst. A 32, 922 (1976).
    """
    mobile, target = jnp.asarray(mobile), jnp.asarray(target)
    share = (jnp.asarray(weights) / jnp.sum(jnp.asarray(weights))).astype(mobile.dtype)[:, None]
    centre = jnp.sum(share * target, axis=0)
    a, b = target - centre, mobile - jnp.sum(share * mobile, axis=0)
    rotation = nearest_rotation(_matmul((share * a).T, b))
    return centre + _matmul(b, rotation.T)


def _inverse_or_pseudoinverse(g):
    """Inverse of positive semidefinite (3, 3) matrices; where singular, an inverse on the determined part only."""
    rows = jnp.stack(
        [
            jnp.cross(g[..., 1, :], g[..., 2, :]),
            jnp.cross(g[..., 2, :], g[..., 0, :]),
            jnp.cross(g[..., 0, :], g[..., 1, :]),
        ],
        axis=-1,
    )
    determinant = jnp.sum(g[..., 0, :] * rows[..., :, 0], axis=-1)[..., None, None]
    scale = jnp.trace(g, axis1=-2, axis2=-1)[..., None, None]
    regular = determinant > 16 * jnp.finfo(g.dtype).eps * scale**3
    eye = jnp.eye(3, dtype=g.dtype)
    # G (G² + ε²)⁻¹ inverts what is large and sends what is zero to zero; a zero matrix becomes the identity first.
    filled = jnp.where(regular, eye, jnp.where(scale > 0, g / jnp.where(scale > 0, scale, 1.0), eye))
    damped = _matmul(filled, jnp.linalg.inv(_matmul(filled, filled) + gap_tolerance(g.dtype) * eye))
    damped = jnp.where(scale > 0, damped / jnp.where(scale > 0, scale, 1.0), 0.0)
    return jnp.where(regular, rows / jnp.where(regular, determinant, 1.0), damped)


def _sign(x):
    return jnp.where(x < 0, -1.0, 1.0).astype(x.dtype)


_matmul = partial(jnp.matmul, precision="highest")

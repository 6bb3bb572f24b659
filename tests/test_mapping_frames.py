"""Rotations, frames of beads, and rigid fragments put back: against SciPy, finite differences and symmetry."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxcg.mapping import rotations
from jaxcg.mapping.frames import FrameMap, ReferenceFrameMap

RANDOM = Rotation.random(40, random_state=3)
EXP, LOG = jax.jit(rotations.rotation_exp), jax.jit(rotations.rotation_log)
LOG_JACOBIAN = jax.jit(jax.jacobian(rotations.rotation_log))
TURN = Rotation.from_rotvec([0.7, -1.1, 0.4]).as_matrix()


def hexagon(radius=0.14):
    angle = np.arange(6) * np.pi / 3
    return radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)


TETRAHEDRON = 0.1 * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
WATER = np.array([[0.0, 0.0, 0.0], [0.0757, 0.0586, 0.0], [-0.0757, 0.0586, 0.0]])
#: One bead of each kind: (positions, masses, kind).
BEADS = [
    (np.random.default_rng(0).normal(scale=0.2, size=(5, 3)), [12.0, 1.0, 14.0, 16.0, 12.0], "asymmetric"),
    (WATER, [16.0, 1.0, 1.0], "asymmetric"),
    (hexagon(), [12.0] * 6, "oblate"),
    (TETRAHEDRON @ TURN, [1.0] * 4, "spherical"),
    (np.array([[0.0, 0, 0], [0.12, 0, 0], [-0.12, 0, 0]]) @ TURN, [12.0, 16.0, 16.0], "linear"),
    (np.array([[0.0, 0, 0], [0.11, 0.02, 0.03]]), [14.0, 1.0], "linear"),
    (np.zeros((1, 3)), [12.0], "point"),
    (np.array([[0.3, 0, 0], [-0.3, 0.1, 0], [-0.3, -0.05, 0.0866], [-0.3, -0.05, -0.0866]]), [12.0] * 4, "prolate"),
]
KINDS = [kind for _, _, kind in BEADS]
DETERMINED = [0, 1]
NOT_LINEAR = [bead for bead, kind in enumerate(KINDS) if kind not in ("linear", "point")]


def system():
    """All beads apart from each other, atoms in mixed order, one atom in no bead."""
    sizes = [len(x) for x, _, _ in BEADS]
    order = np.random.default_rng(1).permutation(sum(sizes))
    x = np.concatenate([x + 2.0 * bead for bead, (x, _, _) in enumerate(BEADS)])
    masses = np.concatenate([np.asarray(m) for _, m, _ in BEADS])
    place = np.argsort(order)
    groups = [place[end - size : end] for size, end in zip(sizes, np.cumsum(sizes))]
    return np.append(x[order], [[1.0, 1.0, 1.0]], axis=0), np.append(masses[order], 1.0), groups


class Checked:
    """A function and its Jacobian, compiled once, to be compared by central differences in random directions."""

    def __init__(self, function, jacobian=jax.jacrev):
        self.value, self.jacobian = jax.jit(function), jax.jit(jacobian(function))

    def check(self, x, rtol=1e-6):
        jacobian = np.asarray(self.jacobian(x))
        assert np.isfinite(jacobian).all()
        for direction in np.random.default_rng(20).normal(size=(3, *np.shape(x))):
            there, back = self.value(x + 1e-6 * direction), self.value(x - 1e-6 * direction)
            numeric = (np.asarray(there) - np.asarray(back)) / 2e-6
            exact = np.tensordot(jacobian, direction, axes=direction.ndim)
            np.testing.assert_allclose(exact, numeric, rtol=rtol, atol=1e-8 * max(1, np.abs(jacobian).max()))


# -- rotations --------------------------------------------------------------------------------------------------------


def test_conversions_match_scipy(x64):
    matrices = RANDOM.as_matrix()
    np.testing.assert_allclose(jax.jit(rotations.rotation_exp)(RANDOM.as_rotvec()), matrices, atol=1e-14)
    np.testing.assert_allclose(jax.jit(rotations.rotation_log)(matrices), RANDOM.as_rotvec(), atol=1e-13)
    q = np.asarray(jax.jit(rotations.matrix_to_quaternion)(matrices))
    oracle = RANDOM.as_quat(canonical=True)[:, [3, 0, 1, 2]]
    np.testing.assert_allclose(q, oracle, atol=1e-14)
    np.testing.assert_allclose(jax.jit(rotations.quaternion_to_matrix)(3 * q), matrices, atol=1e-14)
    distance = jax.jit(rotations.geodesic_distance)(matrices, matrices[::-1])
    np.testing.assert_allclose(distance, (RANDOM.inv() * RANDOM[::-1]).magnitude(), atol=1e-13)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.0019, 0.0099, 0.0101, np.pi - 1e-6, np.pi])
def test_log_and_exp_are_inverse_for_every_angle(x64, angle):
    vector = angle * np.array([0.48, -0.6, 0.64])
    matrix = EXP(vector)
    np.testing.assert_allclose(matrix, Rotation.from_rotvec(vector).as_matrix(), atol=1e-15)
    back = np.asarray(LOG(matrix))
    if angle == np.pi:
        back = back * np.sign(back @ vector)
    np.testing.assert_allclose(back, vector, rtol=1e-12, atol=1e-14)
    assert np.isfinite(LOG_JACOBIAN(matrix)).all()


def test_derivatives_of_log_and_exp(x64):
    both = jax.jit(jax.jacfwd(lambda v: rotations.rotation_log(rotations.rotation_exp(v))))
    second = Checked(jax.jacfwd(rotations.rotation_exp), jax.jacfwd)
    for vector in (np.zeros(3), np.array([1e-3, 2e-3, -1e-3]), np.array([0.5, 1.0, -2.0])):
        # Inverse functions have inverse derivatives.
        np.testing.assert_allclose(both(vector), np.eye(3), atol=1e-9)
        second.check(vector)
    gradient = jax.jit(jax.grad(lambda a: rotations.geodesic_distance(a, jnp.eye(3))))
    assert np.isfinite(gradient(jnp.eye(3))).all()
    assert np.isfinite(gradient(jnp.diag(jnp.asarray([1.0, -1.0, -1.0])))).all()


def test_smallest_rotation(x64):
    rng = np.random.default_rng(4)
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 20, 3)))
    smallest = jax.jit(rotations.smallest_rotation)
    turn = smallest(a, b)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", turn, a), b, atol=1e-14)
    np.testing.assert_allclose(Rotation.from_matrix(turn).magnitude(), np.arccos(np.sum(a * b, axis=1)), atol=1e-7)
    back = smallest(a, -a)
    np.testing.assert_allclose(np.einsum("nij,nj->ni", back, a), -a, atol=1e-14)
    np.testing.assert_allclose(np.linalg.det(back), 1, atol=1e-14)
    np.testing.assert_array_equal(smallest(0 * a, 0 * a)[0], np.eye(3))


def test_principal_axes_derivative(x64):
    tensor = np.random.default_rng(5).normal(size=(3, 3))
    tensor = tensor + tensor.T

    def parts(t):
        values, vectors = rotations.principal_axes(t)
        return jnp.concatenate([values[None], vectors[:, 0:1] * vectors[:, 0], vectors[:, 2:] * vectors[:, 2]])

    Checked(parts).check(tensor)
    Checked(jax.jacfwd(parts), jax.jacfwd).check(tensor, rtol=1e-5)
    # Two equal eigenvalues: the third axis is determined and its derivative right.
    equal = TURN @ np.diag([1.0, 1.0, 2.0]) @ TURN.T
    Checked(lambda t: parts(t)[4:]).check(equal)
    jacobian = jax.jit(jax.jacrev(rotations.principal_axes))
    for tensor in (equal, np.eye(3), np.zeros((3, 3))):
        assert all(np.isfinite(part).all() for part in jacobian(tensor))


def test_nearest_rotation_matches_scipy_and_finite_differences(x64):
    rng = np.random.default_rng(6)
    nearest = Checked(rotations.nearest_rotation)
    b = rng.normal(size=(6, 3))
    for a in (rng.normal(size=(6, 3)), b * [1, 1, -1] + 0.1 * rng.normal(size=(6, 3))):
        np.testing.assert_allclose(nearest.value(a.T @ b), Rotation.align_vectors(a, b)[0].as_matrix(), atol=1e-12)
        nearest.check(a.T @ b)
    Checked(jax.jacfwd(rotations.nearest_rotation), jax.jacfwd).check(a.T @ b, rtol=1e-5)
    # Planar, disc-like and ball-like covariances are regular points.
    for values in ([1.0, 0.5, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [1.0, 1.0, 0.2]):
        nearest.check(TURN @ np.diag(values))
        np.testing.assert_allclose(nearest.value(TURN @ np.diag(values)), TURN, atol=1e-12)
    for values in ([1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.5, -0.5]):
        assert np.abs(nearest.jacobian(TURN @ np.diag(values))).max() < 1e3


def test_superposition_undoes_a_motion(x64):
    x, masses, _ = system()
    moved = x @ TURN.T + [1.0, -2.0, 3.0]
    np.testing.assert_allclose(jax.jit(rotations.superposition)(moved, x, masses), x, atol=1e-13)


# -- frames -----------------------------------------------------------------------------------------------------------


def frame_map():
    x, masses, groups = system()
    return FrameMap.of(groups, masses, x), x, masses, groups


def reference_map():
    x, masses, groups = system()
    return ReferenceFrameMap.of(groups, masses, x, smallest=True), x, masses, groups


BOTH = pytest.mark.parametrize("build", [frame_map, reference_map])


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_frames_are_right_handed_and_centred(x64, build, dtype):
    mapping, x, masses, groups = build()
    x = x + 0.01 * np.random.default_rng(7).normal(size=x.shape)
    frames = eqx.filter_jit(mapping)(jnp.asarray(x, dtype))
    assert frames.centers.dtype == frames.rotations.dtype == dtype
    atol = 1e-13 if dtype == "float64" else 3e-6
    centers = [np.average(x[group], axis=0, weights=masses[group]) for group in groups]
    np.testing.assert_allclose(frames.centers, centers, atol=atol)
    product = np.einsum("nji,njk->nik", frames.rotations, frames.rotations)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=atol)
    np.testing.assert_allclose(np.linalg.det(frames.rotations), 1, atol=atol)


@BOTH
def test_frames_turn_with_the_molecule(x64, build):
    mapping, x, masses, groups = build()
    if build is frame_map:  # with the rule of the first atom
        mapping = FrameMap.of(groups, masses)
    x = x + 1e-3 * np.random.default_rng(8).normal(size=x.shape)
    mapping = eqx.filter_jit(mapping)
    turned, frames = mapping(x @ TURN.T + [0.5, 1.0, -2.0]), mapping(x)
    np.testing.assert_allclose(turned.centers, np.asarray(frames.centers) @ TURN.T + [0.5, 1.0, -2.0], atol=1e-12)
    np.testing.assert_allclose(
        np.asarray(turned.rotations)[NOT_LINEAR], np.asarray(TURN @ frames.rotations)[NOT_LINEAR], atol=1e-9
    )


def test_axes_follow_the_convention(x64):
    x = np.array([[0.0, 0.3, 0.0], [0.0, -0.3, 0.0], [0.1, 0.0, 0.0], [-0.1, 0.0, 0.0], [0.0, 0.0, 0.02]])
    masses = np.ones(5)
    frames = eqx.filter_jit(FrameMap.of([range(5)], masses))(x)
    # Long axis y towards atom 0, then x towards atom 2, then their cross product.
    np.testing.assert_allclose(frames.rotations[0], [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-12)
    listed = eqx.filter_jit(FrameMap.of([[1, 0, 3, 2, 4]], masses))(x)
    np.testing.assert_allclose(listed.rotations[0], [[0, -1, 0], [-1, 0, 0], [0, 0, -1]], atol=1e-12)
    # A reference fixes the farthest atom as the sign atom, and it stays that where another is farther.
    reference = x + np.array([[0, 0, 0], [0, -0.02, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0.0]])
    fixed = eqx.filter_jit(FrameMap.of([range(5)], masses, reference))
    for configuration in (reference, x + np.array([[0, 0.1, 0], *np.zeros((4, 3))])):
        assert fixed(configuration).rotations[0, 1, 0] < -0.99


def test_water_frames_are_stable_under_vibration(x64):
    rng = np.random.default_rng(9)
    for reference in (None, WATER):
        mapping = eqx.filter_jit(FrameMap.of([[0, 1, 2]], np.array([16.0, 1.0, 1.0]), reference))
        rest = mapping(WATER).rotations[0]
        for _ in range(10):
            angle = rotations.geodesic_distance(mapping(WATER + 0.003 * rng.normal(size=(3, 3))).rotations[0], rest)
            assert angle < 0.3


@BOTH
def test_gradients_are_finite_for_every_kind_and_right_where_determined(x64, build):
    mapping, x, _, _ = build()
    jacobian = np.asarray(jax.jit(jax.jacrev(lambda x: mapping(x).rotations))(x))
    assert np.isfinite(jacobian).all()
    beads = DETERMINED if build is frame_map else NOT_LINEAR
    function = jax.jit(lambda x: mapping(x).rotations)
    step = 1e-6
    rng = np.random.default_rng(10)
    for _ in range(6):
        v = rng.normal(size=x.shape)
        numeric = np.asarray(function(x + step * v) - function(x - step * v)) / (2 * step)
        exact = np.einsum("nijak,ak->nij", jacobian, v)
        np.testing.assert_allclose(exact[beads], numeric[beads], atol=1e-7 * np.abs(exact).max(), rtol=1e-5)
        if build is reference_map:
            # The smallest rotation is differentiable as well.
            np.testing.assert_allclose(exact, numeric, atol=1e-7 * np.abs(exact).max(), rtol=1e-5)
        else:
            # Of linear and prolate beads the first axis, of discs the third, up to sign.
            for bead, axis in ((2, 2), (4, 0), (5, 0), (7, 0)):
                moved = np.asarray(function(x))[bead][:, axis]
                there = [np.asarray(function(x + s * step * v))[bead][:, axis] for s in (1, -1)]
                there = [t * np.sign(t @ moved) for t in there]
                np.testing.assert_allclose(
                    exact[bead][:, axis], (there[0] - there[1]) / (2 * step), atol=1e-6 * np.abs(exact).max()
                )


@BOTH
def test_single_precision_gradients_are_finite(build):
    mapping, x, _, _ = build()
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(mapping(x).rotations * jnp.arange(9.0).reshape(3, 3))))
    for configuration in (x, np.zeros_like(x), x * [1, 1, 0], x * [1, 0, 0]):
        value = gradient(jnp.asarray(configuration, "float32"))
        assert value.dtype == jnp.float32
        assert np.isfinite(value).all()


def test_frames_far_from_the_origin_keep_their_digits(x64):
    mapping, x, _, _ = frame_map()
    rounded = (x + 64.0).astype("float32")
    mapping = eqx.filter_jit(mapping)
    found, exact = mapping(rounded), mapping(rounded.astype("float64"))
    np.testing.assert_allclose(found.rotations[:2], exact.rotations[:2], atol=3e-6)
    np.testing.assert_allclose(found.centers, exact.centers, atol=1e-5)


def test_degenerate_beads_are_reported():
    mapping, x, _, _ = frame_map()
    report = mapping.degenerate(x)
    assert list(report.kinds) == KINDS
    np.testing.assert_array_equal(report.degenerate, [kind != "asymmetric" for kind in KINDS])
    assert report.moments.shape == (8, 3)
    text = str(report)
    assert text.startswith("6 of 8 beads")
    assert "bead 2: oblate, only the third axis determined" in text
    assert "bead 0" not in text
    assert report.text(2).splitlines()[-1] == "... and 4 more"


@BOTH
def test_place_inverts_the_map_for_rigid_beads(x64, build):
    mapping, x, _, groups = build()
    beads = np.concatenate([groups[bead] for bead in range(len(groups))])
    rng = np.random.default_rng(11)
    moved = x.copy()
    for group, turn in zip(groups, Rotation.random(len(groups), random_state=2).as_matrix()):
        moved[group] = x[group] @ turn.T + rng.normal(size=3)
    function = eqx.filter_jit(mapping)
    frames = function(moved)
    placed = np.asarray(eqx.filter_jit(lambda m, f: m.place(*f))(mapping, frames))
    kept = np.concatenate([groups[bead] for bead in (NOT_LINEAR if build is reference_map else DETERMINED)])
    np.testing.assert_allclose(placed[kept], moved[kept], atol=1e-12)
    np.testing.assert_allclose(placed[len(x) - 1], 0)
    # And the other way: frames, fragments, the same frames.
    if build is reference_map:
        np.testing.assert_allclose(function(placed).rotations, frames.rotations, atol=1e-9)
        linear = np.concatenate([groups[bead] for bead in range(len(groups))])
        np.testing.assert_allclose(placed[linear], moved[linear], atol=1e-12)
    assert len(beads) == len(x) - 1
    Checked(lambda r: mapping.place(frames.centers, r)).check(np.asarray(frames.rotations))
    Checked(lambda c: mapping.place(c, frames.rotations)).check(np.asarray(frames.centers))


def test_overlapping_beads_place_shared_atoms_at_the_mean(x64):
    x = np.random.default_rng(12).normal(size=(6, 3))
    mapping = ReferenceFrameMap.of([[0, 1, 2, 3], [3, 4, 5]], np.ones(6), x)
    centers, turns = eqx.filter_jit(mapping)(x)
    np.testing.assert_allclose(mapping.place(centers, turns), x, atol=1e-13)
    placed = mapping.place(centers + np.array([[1.0, 0, 0], [0, 0, 0]]), turns)
    np.testing.assert_allclose(placed[3], x[3] + [0.5, 0, 0], atol=1e-13)


def test_frames_batch_over_configurations(x64):
    mapping, x, _, _ = frame_map()
    many = x + 0.01 * np.random.default_rng(13).normal(size=(3, *x.shape))
    batch = jax.jit(jax.vmap(mapping))(many)
    np.testing.assert_allclose(batch.rotations[1], eqx.filter_jit(mapping)(many[1]).rotations, atol=1e-12)


def test_refusals():
    x, masses, groups = system()
    with pytest.raises(ValueError, match=r"bead 4 is a linear \(3 such\)"):
        ReferenceFrameMap.of(groups, masses, x)
    with pytest.raises(ValueError, match="place needs fragments"):
        FrameMap.of(groups, masses).place(np.zeros((8, 3)), np.zeros((8, 3, 3)))
    with pytest.raises(ValueError, match="bead 1 has no atom"):
        FrameMap.of([[0], []], masses)
    with pytest.raises(ValueError, match="listed twice"):
        FrameMap.of([[0, 0]], masses)
    with pytest.raises(ValueError, match="outside"):
        FrameMap.of([[0, 1000]], masses)
    with pytest.raises(ValueError, match="has no mass"):
        FrameMap.of([[0, 1]], 0 * masses)
    with pytest.raises(ValueError, match="not finite"):
        FrameMap.of(groups, masses, np.full_like(x, np.nan))

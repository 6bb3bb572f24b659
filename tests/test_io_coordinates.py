"""Coordinates along trajectories: unwrapped paths, groups, distances and angles, tables, and what is refused."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

from jaxcg.errors import InputError
from jaxcg.io.atoms import read_atoms, selector
from jaxcg.io.dynamics.coordinate_groups import bead_groups, particle_groups, selection_groups
from jaxcg.io.dynamics.coordinates import read_coordinates
from jaxcg.io.dynamics.series_tables import is_table, read_series
from jaxcg.mapping.formats.build import build_model

FRAMES, MOLECULES = 60, 5
TRICLINIC = np.array([[2.0, 0, 0], [0.5, 1.9, 0], [-0.4, 0.6, 1.8]])
SHAPE = np.array([[0, 0, 0], [0.0957, 0, 0], [-0.024, 0.0927, 0]])
MASSES = np.array([15.999, 1.008, 1.008])


def topology(path="top.gro"):
    lines = ["water", str(3 * MOLECULES)]
    for m in range(MOLECULES):
        for k, name in enumerate(("OW", "HW1", "HW2")):
            x, y, z = SHAPE[k] + 0.3 * m
            lines.append(f"{m + 1:5d}SOL  {name:>5s}{3 * m + k + 1:5d}{x:8.3f}{y:8.3f}{z:8.3f}")
    Path(path).write_text("\n".join([*lines, "   2.0   1.9   1.8"]) + "\n")
    atoms = read_atoms(path)
    return atoms, selector(path)


def walk(seed=1, frames=FRAMES):
    """Unwrapped positions (frames, atoms, 3) of rigid molecules that wander far beyond the box."""
    rng = np.random.default_rng(seed)
    centers = np.cumsum(rng.normal(size=(frames, MOLECULES, 3)) * 0.15, axis=0) + rng.random((MOLECULES, 3))
    return (centers[:, :, None] + SHAPE).reshape(frames, 3 * MOLECULES, 3)


def wrapped(x, boxes):
    fraction = np.einsum("fak,fkl->fal", x, np.linalg.inv(boxes))
    return np.einsum("fak,fkl->fal", fraction - np.floor(fraction), boxes)


def write_trr(path, x, boxes, *, v=None, spacing=0.5, times=None):
    times = spacing * np.arange(len(x)) if times is None else times
    with TRRFile(str(path), "w") as file:
        for k, frame in enumerate(x):
            velocity = None if v is None else v[k].astype(np.float32)
            file.write(
                frame.astype(np.float32), velocity, None, boxes[k].astype(np.float32), k, times[k], 0.0, len(frame)
            )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def constant(box, frames=FRAMES):
    return np.repeat(np.asarray(box, float)[None], frames, axis=0)


@pytest.mark.parametrize("box", [np.diag([2.0, 1.9, 1.8]), TRICLINIC], ids=["brick", "triclinic"])
@pytest.mark.parametrize("per", ["atom", "residue"])
def test_particles_are_followed_across_the_box(folder, monkeypatch, box, per):
    # Blocks of a few frames: what is carried over from one to the next counts.
    monkeypatch.setattr("jaxcg.io.trajectories.BLOCK_BYTES", 12 * 3 * MOLECULES * 7)
    atoms, select = topology()
    x = walk()
    write_trr("a.trr", wrapped(x, constant(box)), constant(box))
    groups = particle_groups(atoms, select, "name OW" if per == "atom" else "resname SOL", per)
    found = read_coordinates(["a.trr"], atoms, groups)
    centers = x.reshape(FRAMES, MOLECULES, 3, 3)
    expected = centers[:, :, 0] if per == "atom" else np.einsum("k,fmkd->fmd", MASSES / MASSES.sum(), centers)
    assert found.positions.shape == (MOLECULES, FRAMES, 3)
    assert found.velocities is None
    assert found.mass == pytest.approx(15.999 if per == "atom" else MASSES.sum(), rel=1e-3)
    assert found.spacing == pytest.approx(0.5, rel=1e-6)
    moved = found.positions - found.positions[:, :1]
    np.testing.assert_allclose(moved, (expected - expected[:1]).transpose(1, 0, 2), atol=2e-5)


def test_a_box_that_changes_adds_up_moves(folder):
    atoms, select = topology()
    rng = np.random.default_rng(4)
    boxes = constant(np.eye(3) * 2) * (1 + 0.02 * rng.normal(size=(FRAMES, 1, 1)))
    moves = np.zeros((FRAMES, 3 * MOLECULES, 3))
    # In frame k a particle that moves by d in the box of this frame, wherever its images are.
    moves[1:] = rng.normal(size=(FRAMES - 1, 1, 3)) * 0.05
    raw = np.empty_like(moves)
    raw[0] = topology()[0].positions
    for k in range(1, FRAMES):
        raw[k] = raw[k - 1] + moves[k]
        raw[k] -= np.floor(raw[k] / boxes[k, 0, 0]) * boxes[k, 0, 0]
    write_trr("a.trr", raw, boxes)
    found = read_coordinates(["a.trr"], atoms, particle_groups(atoms, select, "name OW"))
    expected = np.cumsum(moves, axis=0)[:, ::3].transpose(1, 0, 2)
    np.testing.assert_allclose(found.positions - found.positions[:, :1], expected, atol=3e-5)
    assert any("constant pressure" in note for note in found.notes)


def test_velocities_and_replicas(folder):
    atoms, select = topology()
    box = constant(np.diag([2.0, 1.9, 1.8]))
    x, v = walk(), np.random.default_rng(0).normal(size=(FRAMES, 3 * MOLECULES, 3))
    write_trr("a.trr", x, box, v=v)
    write_trr("b.trr", x[:50], box, v=v[:50])
    found = read_coordinates(
        ["a.trr", "b.trr"], atoms, particle_groups(atoms, select, "all", "molecule"), component="y"
    )
    assert found.positions.shape == (2 * MOLECULES, 50, 1)
    assert any("first 50 frames" in note for note in found.notes)
    means = np.einsum("k,fmkd->mfd", MASSES / MASSES.sum(), v.reshape(FRAMES, MOLECULES, 3, 3))
    np.testing.assert_allclose(found.velocities[:MOLECULES, :, 0], means[:, :50, 1], atol=1e-5)


def test_a_drift_of_the_whole_system_is_taken_away(folder):
    rng = np.random.default_rng(4)
    count, frames, spacing = 12, 60, 0.5
    lines = [f"{k + 1:5d}AR   {'AR':>5s}{k + 1:5d}{0.1:8.3f}{0.1:8.3f}{0.1:8.3f}" for k in range(count)]
    Path("top.gro").write_text("\n".join(["argon", str(count), *lines, "   2.0   2.0   2.0"]) + "\n")
    atoms = read_atoms("top.gro")
    boxes = np.tile(2.0 * np.eye(3), (frames, 1, 1))
    v = rng.normal(size=(frames, count, 3)) * 0.1
    v -= v.mean(axis=1, keepdims=True)
    x = rng.random((count, 3)) + spacing * np.cumsum(v, axis=0)
    drift = np.array([0.2, -0.1, 0.05])
    moved = wrapped(x + spacing * drift * np.arange(frames)[:, None, None], boxes)
    write_trr("a.trr", moved, boxes, v=v + drift, spacing=spacing)
    write_trr("b.trr", moved, boxes, spacing=spacing)

    def read(name, selection):
        return read_coordinates([name], atoms, particle_groups(atoms, selector("top.gro"), selection))

    for name in ("a.trr", "b.trr"):
        found = read(name, "all")
        np.testing.assert_allclose(np.diff(found.positions, axis=1), spacing * v.transpose(1, 0, 2)[:, 1:], atol=1e-6)
        assert found.notes == (
            "the whole system drifts (0.23 nm/ps): particles are followed relative to its centre of mass",
        )
    np.testing.assert_allclose(read("a.trr", "all").velocities, v.transpose(1, 0, 2), atol=1e-6)
    # Of some particles the common motion is their own.
    some = read("a.trr", "bynum 1:11")
    np.testing.assert_allclose(some.velocities, (v + drift).transpose(1, 0, 2)[:11], atol=1e-6)
    assert some.notes == ()
    # A centre that wanders is no drift.
    wandering = x + np.cumsum(0.1 * rng.normal(size=(frames, 1, 3)), axis=0)
    write_trr("c.trr", wrapped(wandering, boxes), boxes, spacing=spacing)
    np.testing.assert_allclose(
        np.diff(read("c.trr", "all").positions, axis=1), np.diff(wandering, axis=0).transpose(1, 0, 2), atol=1e-6
    )


def test_beads_of_a_mapping(folder):
    atoms, _ = topology()
    x, box = walk(), constant(np.diag([2.0, 1.9, 1.8]))
    write_trr("a.trr", wrapped(x, box), box)
    model = build_model(atoms, "com")
    groups = bead_groups(model)
    found = read_coordinates(["a.trr"], atoms, groups)
    expected = np.einsum("ba,fad->bfd", model.mapping.matrix().toarray(), x)
    np.testing.assert_allclose(found.positions - found.positions[:, :1], expected - expected[:, :1], atol=2e-5)
    with pytest.raises(InputError, match="no such bead"):
        bead_groups(model, "nothing")


def test_distance_angle_and_dihedral(folder):
    atoms, select = topology()
    box = constant(TRICLINIC)
    # Points so close that the nearest image is the true one, each as three atoms.
    points = np.arange(MOLECULES)[:, None] * [0.2, -0.1, 0.05] + np.where(np.arange(MOLECULES) == 3, 0.3, 0)[:, None]
    x = points + np.random.default_rng(2).normal(size=(FRAMES, MOLECULES, 3)) * 0.02
    x = x.repeat(3, axis=1)
    write_trr("a.trr", wrapped(x, box), box, v=np.diff(x, axis=0, prepend=x[:1]))
    centers = np.einsum("k,fmkd->fmd", MASSES / MASSES.sum(), x.reshape(FRAMES, MOLECULES, 3, 3))
    ends = ["resid 1", "resid 2", "resid 3", "resid 4"]

    def series(kind, count, **options):
        groups = selection_groups(atoms, select, ends[:count])
        return read_coordinates(["a.trr"], atoms, groups, kind=kind, **options)

    a, b = (centers[:, k + 1] - centers[:, k] for k in range(2))
    distance = series("distance", 2)
    np.testing.assert_allclose(distance.positions[0, :, 0], np.linalg.norm(a, axis=1), atol=1e-5)
    rate = np.einsum("fk,fk->f", np.diff(a, axis=0, prepend=a[:1]), a) / np.linalg.norm(a, axis=1)
    np.testing.assert_allclose(distance.velocities[0, :, 0], rate, atol=1e-5)
    np.testing.assert_allclose(series("distance", 2, component="z").positions[0, :, 0], a[:, 2], atol=1e-5)
    cosine = np.einsum("fk,fk->f", -a, b) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    np.testing.assert_allclose(series("angle", 3).positions[0, :, 0], np.arccos(cosine), atol=1e-4)
    from MDAnalysis.lib.distances import calc_dihedrals

    expected = calc_dihedrals(*(centers[:, k].astype(np.float32) for k in range(4)))
    dihedral = series("dihedral", 4)
    np.testing.assert_allclose(np.exp(1j * dihedral.positions[0, :, 0]), np.exp(1j * expected), atol=1e-3)
    assert dihedral.unit == "rad"
    assert dihedral.period == pytest.approx(2 * np.pi)
    assert np.abs(np.diff(dihedral.positions[0, :, 0])).max() < np.pi


def test_rounding_of_xtc_is_found(folder):
    atoms, select = topology()
    x = walk(frames=4).astype(np.float32)
    for digits in (3, 4):
        with XTCFile("a.xtc", "w") as file:
            for k, frame in enumerate(x):
                file.write(frame, np.eye(3, dtype=np.float32) * 9, k, 2.0 * k, precision=10**digits)
        found = read_coordinates(["a.xtc"], atoms, particle_groups(atoms, select, "name OW"))
        assert found.rounding == pytest.approx(10.0**-digits)


def test_what_is_refused(folder):
    atoms, select = topology()
    x, box = walk(), constant(np.diag([2.0, 1.9, 1.8]))
    oxygens = particle_groups(atoms, select, "name OW")

    def refused(pattern, **changes):
        write_trr("bad.trr", changes.get("x", x), box, times=changes.get("times"))
        with pytest.raises(InputError, match=pattern):
            read_coordinates(["bad.trr"], atoms, changes.get("groups", oxygens), frames=changes.get("frames"))

    times = 0.5 * np.arange(FRAMES)
    times[20:] += 0.5
    refused(r"frame 20: 1 ps after the frame before, the others 0\.5 ps", times=times)
    jump = x.copy()
    jump[13:, 3:6] += [0.95, 0, 0]
    refused(r"frame 13: atom 4 has moved by .* about half the box", x=jump)
    hole = x.copy()
    hole[31, 6, 1] = np.nan
    refused(r"frame 31: atom OW \(7\) has a coordinate that is not a number", x=hole)
    refused("different masses, from 1.008 amu", groups=particle_groups(atoms, select, "name OW HW1"))
    refused("only 1 frame", frames="3")
    with pytest.raises(InputError, match="selection 'name XX' holds no atom"):
        particle_groups(atoms, select, "name XX")
    # Neither wrong times nor long moves matter to those who say so.
    write_trr("bad.trr", jump, box, times=times)
    found = read_coordinates(["bad.trr"], atoms, oxygens, spacing=0.5, unwrap=False)
    np.testing.assert_allclose(found.positions, jump[:, ::3].transpose(1, 0, 2), atol=1e-5)


def test_a_trajectory_that_breaks_off_is_read_to_there(folder):
    atoms, select = topology()
    write_trr("a.trr", walk(), constant(np.eye(3) * 2))
    whole = Path("a.trr").read_bytes()
    Path("b.trr").write_bytes(whole[: len(whole) - 40])
    found = read_coordinates(["b.trr"], atoms, particle_groups(atoms, select, "name OW"))
    assert found.frames == FRAMES - 1
    assert "after 59 whole frames" in found.damage


def test_tables_of_text(folder):
    t, x, y = 0.1 * np.arange(50), np.random.default_rng(0).normal(size=50), np.arange(50.0)
    rows = [f"{a:.6g} {b:.10g} {c:.10g}" for a, b, c in zip(t, x, y)]
    Path("a.xvg").write_text(
        "\n".join(['@ xaxis label "Time (ns)"', '@ s0 legend "d"', '@ s1 legend "e"', *rows]) + "\n"
    )
    Path("COLVAR").write_text("\n".join(["#! FIELDS time d e", *rows]) + "\n")
    Path("a.csv").write_text("\n".join(["t,d,e", *(row.replace(" ", ",") for row in rows)]) + "\n")
    Path("a.dat").write_text("\n".join(["# plain", *rows]) + "\n")
    for name, column, spacing in (("a.xvg", "d", 100), ("COLVAR", "d", 0.1), ("a.csv", "d", 0.1), ("a.dat", "2", 0.1)):
        assert is_table(name)
        found = read_series([name], column=column)
        np.testing.assert_allclose(found.positions[0, :, 0], x, rtol=1e-8)
        assert found.spacing == pytest.approx(spacing, rel=1e-5)
    assert read_series(["COLVAR", "a.csv"], column="e", spacing=3.0).positions.shape == (2, 50, 1)
    with pytest.raises(InputError, match=r"has 2 columns \(d, e\); choose one"):
        read_series(["COLVAR"])
    with pytest.raises(InputError, match="has no column 'z'; it has d, e"):
        read_series(["COLVAR"], column="z")
    Path("bad.dat").write_text("\n".join([*rows[:9], "0.9 1.0", *rows[10:]]))
    with pytest.raises(InputError, match=r"line 10: expected 3 numbers, found '0\.9 1\.0'"):
        read_series(["bad.dat"], column="2")
    Path("bad.dat").write_text("\n".join([*rows[:9], "0.9 nan 1.0", *rows[10:]]))
    with pytest.raises(InputError, match="frame 9: the position is not a number"):
        read_series(["bad.dat"], column="2")
    Path("one.dat").write_text("\n".join(map(str, x)))
    with pytest.raises(InputError, match="one column and no times"):
        read_series(["one.dat"])
    np.testing.assert_allclose(read_series(["one.dat"], spacing=2.0).positions[0, :, 0], x)


def test_tables_of_arrays(folder):
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 30, 4, 3)), rng.normal(size=(2, 30, 4, 3))
    np.savez("a.npz", positions=x, velocities=v, times=0.2 * np.arange(30))
    found = read_series(["a.npz"])
    assert found.positions.shape == (8, 30, 3)
    assert found.spacing == pytest.approx(0.2)
    np.testing.assert_array_equal(found.positions[5], x[1, :, 1])
    np.testing.assert_array_equal(found.velocities[2], v[0, :, 2])
    np.save("a.npy", x[0, :, 0, 0])
    assert read_series(["a.npy"], spacing=1.0).positions.shape == (1, 30, 1)
    with pytest.raises(InputError, match="does not say when"):
        read_series(["a.npy"])
    with pytest.raises(InputError, match="no array 'phi' but positions, velocities, times"):
        read_series(["a.npz"], column="phi")
    np.savez("b.npz", positions=x[0, :, 0, 0], times=np.arange(29))
    with pytest.raises(InputError, match="29 times"):
        read_series(["b.npz"])
    Path("c.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"c\.npz: cannot be read as NPZ"):
        read_series(["c.npz"])
    with pytest.raises(InputError, match=r"d\.npz: there is no such file"):
        read_series(["d.npz"])


def test_a_dihedral_in_degrees_goes_round(folder):
    angle = np.cumsum(np.full(40, 30.0))
    np.save("a.npy", (angle + 180) % 360 - 180)
    found = read_series(["a.npy"], unit="degree", periodic=True, spacing=1.0)
    np.testing.assert_allclose(np.diff(found.positions[0, :, 0]), np.pi / 6, atol=1e-12)
    with pytest.raises(InputError, match="--periodic is for angles"):
        read_series(["a.npy"], periodic=True, spacing=1.0)


def test_zarr(folder):
    zarr = pytest.importorskip("zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group("a.zarr", mode="w")
        group.create_array("positions", data=np.arange(60.0).reshape(2, 30))
        group.create_array("times", data=np.arange(30.0))
        found = read_series(["a.zarr"])
    assert found.positions.shape == (2, 30, 1)
    assert found.spacing == 1.0

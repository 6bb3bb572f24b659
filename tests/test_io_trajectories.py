"""Trajectories: every format written and read back, and files that break off."""

import struct
import warnings

import numpy as np
import pytest
from MDAnalysis.lib.formats.libmdaxdr import TRRFile, XTCFile

from jaxcg.errors import InputError
from jaxcg.io import xdr
from jaxcg.io.trajectories import BrokenFrame, FrameBlock, open_trajectory
from jaxcg.io.trajectory_writers import BeadLabels, check_ending, open_writer

N, FRAMES = 30, 7
TRICLINIC = np.array([[4.0, 0.0, 0.0], [1.0, 3.8, 0.0], [-1.2, 0.9, 3.5]])


def labels(n=N):
    return BeadLabels(
        names=[f"S{i % 3}" for i in range(n)],
        residue_names=["POPC" if i % 2 else "ALA" for i in range(n)],
        residue_ids=[str(i // 2 + 1) for i in range(n)],
        chain_ids=["A"] * n,
        ends=np.arange(n) == n - 1,
        bonds=np.array([[0, 1], [1, 2]]),
    )


def block(n=N, frames=FRAMES, seed=0):
    rng = np.random.default_rng(seed)
    return FrameBlock(
        positions=rng.uniform(-1, 5, (frames, n, 3)).astype(np.float32),
        boxes=np.repeat(TRICLINIC[None], frames, axis=0).astype(np.float32),
        times=np.arange(frames) * 2.0 + 10.0,
        steps=np.arange(frames) * 1000,
        velocities=rng.normal(size=(frames, n, 3)).astype(np.float32),
        forces=(rng.normal(size=(frames, n, 3)) * 100).astype(np.float32),
    )


def write(path, frames=None, n=N):
    whole = block(n) if frames is None else block(n, frames)
    with open_writer(path, labels(n), len(whole)) as writer:
        half = len(whole) // 2
        writer.write(whole.head(half))
        rest = FrameBlock(
            *(getattr(whole, name)[half:] for name in ("positions", "boxes", "times", "steps", "velocities", "forces"))
        )
        writer.write(rest)
    return whole


@pytest.mark.parametrize(
    ("ending", "digits"), [("xtc", 5.1e-4), ("trr", 1e-7), ("dcd", 1e-6), ("gro", 5.1e-4), ("pdb", 5.1e-5)]
)
def test_what_is_written_is_read_back(tmp_path, ending, digits):
    path = tmp_path / f"cg.{ending}"
    written = write(path)
    trajectory = open_trajectory(path, N)
    assert (trajectory.n_atoms, trajectory.damage) == (N, None)
    if ending == "gro":  # MDAnalysis reads the first frame of a GRO file
        trajectory.n_frames = 1
    numbers = range(trajectory.n_frames)
    read = trajectory.read(list(numbers))
    np.testing.assert_allclose(read.positions, written.positions[: len(read)], atol=digits)
    np.testing.assert_allclose(read.boxes, written.boxes[: len(read)], atol=2e-3 if ending == "pdb" else 2e-5)
    if ending in ("xtc", "trr", "dcd"):
        assert trajectory.n_frames == FRAMES
        np.testing.assert_allclose(read.times, written.times, atol=1e-4)
    if ending in ("xtc", "trr"):
        assert read.steps.tolist() == written.steps.tolist()
        some = trajectory.read([5, 2])
        np.testing.assert_array_equal(some.positions, read.positions[[5, 2]])
    if ending == "trr":
        np.testing.assert_array_equal(read.forces, written.forces)
        np.testing.assert_array_equal(read.velocities, written.velocities)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_structures_keep_the_names(tmp_path):
    import MDAnalysis

    for ending in ("gro", "pdb"):
        path = tmp_path / f"cg.{ending}"
        with open_writer(path, labels(), 1) as writer:
            writer.write(block().head(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            atoms = MDAnalysis.Universe(str(path), to_guess=()).atoms
        assert atoms.names.tolist() == list(labels().names)
        assert atoms.resnames.tolist() == list(labels().residue_names)
        assert [str(number) for number in atoms.resids] == list(labels().residue_ids)
    text = (tmp_path / "cg.pdb").read_text()
    assert "CRYST1" in text
    assert "MODEL" not in text
    assert "CONECT    1    2\n" in text
    assert text.count("TER") == 1


def test_the_fast_reader_agrees_with_mdanalysis(tmp_path, monkeypatch):
    write(tmp_path / "a.xtc")
    write(tmp_path / "a.trr")
    for name, reader in (("a.xtc", XTCFile), ("a.trr", TRRFile)):
        ours = open_trajectory(tmp_path / name).read(list(range(FRAMES)))
        with reader(str(tmp_path / name)) as file:
            for i, frame in enumerate(file):
                np.testing.assert_array_equal(ours.positions[i], frame.x)
                np.testing.assert_array_equal(ours.boxes[i], frame.box)
                assert (ours.steps[i], ours.times[i]) == (frame.step, frame.time)
    fast = open_trajectory(tmp_path / "a.xtc").read([4, 1])
    bytes_of_fast = (tmp_path / "a.xtc").read_bytes()
    monkeypatch.setattr(xdr, "_library", lambda: None)
    write(tmp_path / "a.xtc")
    assert (tmp_path / "a.xtc").read_bytes() == bytes_of_fast
    slow = open_trajectory(tmp_path / "a.xtc").read([4, 1])
    np.testing.assert_array_equal(fast.positions, slow.positions)
    assert fast.steps.tolist() == slow.steps.tolist()


def test_few_atoms_are_stored_uncompressed(tmp_path):
    written = write(tmp_path / "a.xtc", n=4)
    read = open_trajectory(tmp_path / "a.xtc").read(list(range(FRAMES)))
    np.testing.assert_allclose(read.positions, written.positions, atol=1e-6)


def test_double_precision_and_frames_without_positions(tmp_path):
    x, f = np.arange(6.0).reshape(2, 3) / 7, np.ones((2, 3))
    box = np.eye(3) * 2

    def frame(step, sizes, *arrays):
        numbers = [0, 0, sizes[0], 0, 0, 0, 0, sizes[1], 0, sizes[2], 2, step, 0]
        head = struct.pack(">3i12s13i2d", 1993, 13, 12, b"GMX_trn_file", *numbers, 0.5 * step, 0.0)
        return head + b"".join(a.astype(">f8").tobytes() for a in arrays)

    with open(tmp_path / "a.trr", "wb") as file:
        file.write(frame(0, (72, 48, 48), box, x, f))
        file.write(frame(1, (72, 0, 48), box, f))
        file.write(frame(2, (72, 48, 0), box, x + 1))
    trajectory = open_trajectory(tmp_path / "a.trr")
    assert (trajectory.n_frames, trajectory.n_atoms, trajectory.has_forces) == (2, 2, False)
    read = trajectory.read([0, 1])
    np.testing.assert_allclose(read.positions, [x, x + 1], atol=1e-7)
    assert read.times.tolist() == [0.0, 1.0]
    assert read.steps.tolist() == [0, 2]


@pytest.mark.parametrize("ending", ["xtc", "trr", "dcd"])
def test_a_file_that_breaks_off_is_read_to_there(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    written = write(path)
    whole = path.read_bytes()
    for missing in (1, 30, len(whole) // FRAMES // 2):
        path.write_bytes(whole[:-missing])
        trajectory = open_trajectory(path, N)
        assert trajectory.n_frames == FRAMES - 1
        assert f"after {FRAMES - 1} whole frames" in trajectory.damage
        read = trajectory.read(list(range(FRAMES - 1)))
        np.testing.assert_allclose(read.positions, written.positions[:-1], atol=6e-4)


def test_a_frame_that_is_damaged_is_named(tmp_path):
    path = tmp_path / "a.xtc"
    write(path)
    data, index = bytearray(path.read_bytes()), xdr.index_xtc(path)
    data[index.offsets[3] : index.offsets[3] + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    trajectory = open_trajectory(path)
    assert trajectory.n_frames == 3
    assert "no frame starts" in trajectory.damage
    write(path)
    trajectory = open_trajectory(path)
    data = bytearray(path.read_bytes())
    data[index.offsets[3] + 52 : index.offsets[3] + 56] = struct.pack(">i", N + 1)
    path.write_bytes(data)
    with pytest.raises(BrokenFrame) as broken:
        trajectory.read([2, 3])
    assert broken.value.number == 3
    assert len(broken.value.block) == 1


def test_what_cannot_be_read_or_written_is_refused(tmp_path):
    (tmp_path / "empty.xtc").write_bytes(b"")
    (tmp_path / "text.xtc").write_text("not a trajectory, but long enough to hold a header of one" * 9)
    (tmp_path / "text.trr").write_text("not a trajectory, but long enough to hold a header of one" * 9)
    (tmp_path / "text.dcd").write_text("not a trajectory, but long enough to hold a header of one" * 9)
    write(tmp_path / "one.xtc", frames=2)
    (tmp_path / "one.xtc").write_bytes((tmp_path / "one.xtc").read_bytes()[:200])
    for name, said in (
        ("none.xtc", "no such file"),
        ("empty.xtc", "the file is empty"),
        ("text.xtc", "cannot be read as a trajectory"),
        ("text.trr", "cannot be read as a trajectory"),
        ("text.dcd", "cannot be read as a trajectory"),
        ("one.xtc", "not one whole frame"),
    ):
        with pytest.raises(InputError, match=said) as refused:
            open_trajectory(tmp_path / name, N)
        assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=r"\.xtc, \.trr, \.dcd, \.gro, \.pdb"):
        check_ending("cg.xyz")


def test_a_failure_leaves_no_file(tmp_path):
    path = tmp_path / "cg.xtc"

    def interrupted():
        with open_writer(path, labels(), 1) as writer:
            writer.write(block())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    far = block().head(1)
    far.positions[0, 0] = 2000.0
    with pytest.raises(InputError, match="1000 nm"), open_writer(tmp_path / "cg.pdb", labels(), 1) as writer:
        writer.write(far)
    assert list(tmp_path.iterdir()) == []

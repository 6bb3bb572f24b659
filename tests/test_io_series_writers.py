"""Time series on disk: what every format holds, blocks that come again, and what happens on a full disk."""

import json
from itertools import pairwise

import numpy as np
import pytest
import zarr
from MDAnalysis.lib.formats.libmdaxdr import XTCFile

from jaxcg.dynamics.motion.simulation import Frames
from jaxcg.errors import InputError, ResultError
from jaxcg.io.dynamics import series_writers
from jaxcg.io.dynamics.series_writers import RawArray, SeriesLayout, open_series

SHAPE, COUNT, LENGTH, INTERVAL = (12, 3), 3, 11, 0.5


def layout(**changes):
    given = {"trajectories": COUNT, "frames": LENGTH, "shape": SHAPE, "interval": INTERVAL, "dtype": np.dtype("f8")}
    return SeriesLayout(**{**given, "about": {"config": {"seed": 1.0}}, **changes})


def series(seed=0):
    rng = np.random.default_rng(seed)
    whole, scalar = (COUNT, LENGTH, *SHAPE), (COUNT, LENGTH)
    times = INTERVAL * np.arange(1, LENGTH + 1)
    return Frames(times, *(rng.normal(size=size) for size in (whole, whole, scalar, scalar)))


def block(data, first, last):
    return Frames(data.times[first:last], *(array[:, first:last] for array in data[1:]))


def fill(writer, data, edges=(0, 4, 8, LENGTH)):
    for first, last in pairwise(edges):
        writer.write(first, block(data, first, last))


def read_xtc(path):
    with XTCFile(str(path)) as file:
        return [(frame.step, frame.time, frame.x.copy()) for frame in file]


def check(kind, folder, data):
    """The files in ``folder`` hold ``data``."""
    if kind == "xtc":
        for number in range(COUNT):
            frames = read_xtc(folder / f"trajectory_{number}.xtc")
            assert [step for step, _, _ in frames] == list(range(1, LENGTH + 1))
            np.testing.assert_allclose([time for _, time, _ in frames], data.times, rtol=1e-6)
            np.testing.assert_allclose([x for *_, x in frames], data.positions[number], atol=0.6e-5)
        return
    if kind == "npz":
        with np.load(folder / "trajectory.npz", allow_pickle=False) as file:
            found = dict(file)
        about = json.loads(str(found.pop("about")))
    else:
        group = zarr.open_group(str(folder / "trajectory.zarr"), mode="r")
        found = {name: group[name][:] for name in group.array_keys()}
        about = dict(group.attrs)
        assert group["velocities"].attrs["units"] == "nm/ps"
    assert set(found) == {"times", "positions", "velocities", "potential", "temperature"}
    for name, values in found.items():
        np.testing.assert_array_equal(values, getattr(data, name))
        assert values.dtype == np.float64
    assert about["units"]["positions"] == "nm"
    assert about["config"] == {"seed": 1.0}


@pytest.mark.parametrize("kind", ["npz", "zarr", "xtc"])
def test_blocks_make_the_whole_series(tmp_path, kind):
    writer = open_series(kind, tmp_path / "running", layout())
    fill(writer, series())
    names = writer.finish(tmp_path)
    # A run that was killed after this comes here once more, with nothing to write.
    assert open_series(kind, tmp_path / "running", layout()).finish(tmp_path) == names
    assert all((tmp_path / name).exists() for name in names)
    check(kind, tmp_path, series())


@pytest.mark.parametrize("kind", ["npz", "zarr", "xtc"])
def test_blocks_that_come_again_replace_what_was_there(tmp_path, kind):
    writer = open_series(kind, tmp_path / "running", layout())
    fill(writer, block(series(), 0, 4), (0, 4))
    # What a run that was killed wrote beyond its checkpoint, and half a frame more.
    fill(writer, series(seed=9), (4, 9))
    for path in (tmp_path / "running").glob("trajectory_*.xtc"):
        with open(path, "ab") as file:
            file.write(b"half a frame")
    again = open_series(kind, tmp_path / "running", layout())
    fill(again, series(), (4, 8, LENGTH))
    again.finish(tmp_path)
    check(kind, tmp_path, series())


def test_the_same_series_makes_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        writer = open_series("npz", tmp_path / name / "running", layout())
        fill(writer, series())
        writer.finish(tmp_path / name)
    one, other = ((tmp_path / name / "trajectory.npz").read_bytes() for name in ("a", "b"))
    assert one == other


def test_velocities_may_be_left_out_and_numbers_be_short(tmp_path):
    short = layout(velocities=False, dtype=np.dtype("f4"))
    for kind in ("npz", "zarr"):
        writer = open_series(kind, tmp_path / kind, short)
        fill(writer, series())
        writer.finish(tmp_path)
    with np.load(tmp_path / "trajectory.npz") as file:
        assert "velocities" not in file
        assert file["positions"].dtype == np.float32
        assert "velocities" not in json.loads(str(file["about"]))["units"]
    group = zarr.open_group(str(tmp_path / "trajectory.zarr"), mode="r")
    assert "velocities" not in group
    assert group["positions"].dtype == np.float32


def test_chunks_of_zarr_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(series_writers, "_ZARR_BYTES", 3 * COUNT * 36 * 8)
    writer = open_series("zarr", tmp_path / "running", layout())
    fill(writer, series(), (0, 2, 7, LENGTH))
    writer.finish(tmp_path)
    assert zarr.open_group(str(tmp_path / "trajectory.zarr"), mode="r")["positions"].chunks == (COUNT, 3, *SHAPE)
    check("zarr", tmp_path, series())


def test_one_trajectory_has_one_xtc_file(tmp_path):
    writer = open_series("xtc", tmp_path / "running", layout(trajectories=1))
    data = series()
    writer.write(0, Frames(data.times, *(array[:1] for array in data[1:])))
    assert writer.finish(tmp_path) == ["trajectory.xtc"]
    assert len(read_xtc(tmp_path / "trajectory.xtc")) == LENGTH


def test_what_xtc_cannot_hold(tmp_path):
    with pytest.raises(InputError, match=r"must be \(particles, 3\), not \(2,\)"):
        open_series("xtc", tmp_path, layout(shape=(2,)))
    writer = open_series("xtc", tmp_path, layout())
    far = series()._replace(positions=np.full((COUNT, LENGTH, *SHAPE), 3e4))
    with pytest.raises(ResultError, match="21474 nm"):
        writer.write(0, far)


def test_unknown_formats_and_files_of_other_runs_are_refused(tmp_path):
    with pytest.raises(InputError, match="choose npz, zarr or xtc"):
        open_series("hdf5", tmp_path, layout())
    open_series("npz", tmp_path, layout())
    with pytest.raises(InputError, match="is of another run"):
        open_series("npz", tmp_path, layout(frames=LENGTH + 1))


def test_without_zarr_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(InputError, match=r"pip install 'jaxcg\[zarr\]'"):
        open_series("zarr", tmp_path, layout())


def test_raw_arrays_are_numpy_files(tmp_path):
    array = RawArray(tmp_path / "a.npy", (2, 5, 3), np.dtype("f4"))
    values = np.arange(30.0).reshape(2, 5, 3)
    array.write(2, values[:, 2:])
    array.write(0, values[:, :2])
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), values.astype(np.float32))
    np.testing.assert_array_equal(array.read(), values)


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(series_writers.XtcFile, "write", lambda *_: None)
    with pytest.raises(OSError, match="did not reach the disk"):
        open_series("xtc", tmp_path, layout()).write(0, series())

import os
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcg.chains import Chains
from jaxcg.errors import InputError, ResultError
from jaxcg.run import AbstractKernel, run
from jaxcg.typing import Array

TRACES = []


class Info(NamedTuple):
    total: Array


class Walk(AbstractKernel):
    """Random walk that turns into NaN above ``limit``."""

    scale: Array
    limit: Array

    def init(self, key, position):
        del key
        return {"x": jnp.asarray(position)}

    def step(self, key, state):
        TRACES.append(1)
        x = state["x"] + self.scale * jax.random.normal(key, state["x"].shape, state["x"].dtype)
        x = jnp.where(jnp.sum(x) > self.limit, jnp.nan, x)
        return {"x": x}, Info(jnp.sum(x))


def walk(scale=1.0, limit=np.inf):
    return Walk(jnp.asarray(scale, jnp.float32), jnp.asarray(limit, jnp.float32))


def observe(state):
    return state["x"]


KEY = jax.random.key(3)
START = {"x": jnp.zeros((2, 3), jnp.float32)}


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_result_does_not_depend_on_chunk():
    whole = run(walk(), START, KEY, 30, every=3, observe=observe, chunk=30)
    pieces = run(walk(), START, KEY, 30, every=3, observe=observe, chunk=12)  # the last chunk is half full
    assert whole.infos.total.shape == (30,)
    assert whole.observations.shape == (10, 2, 3)
    assert same(whole, pieces)
    np.testing.assert_array_equal(whole.observations.sum((1, 2)), whole.infos.total[2::3])
    x, totals = START["x"], []
    for step in range(30):  # the plain loop it stands for
        x = x + jax.random.normal(jax.random.fold_in(KEY, step), (2, 3), jnp.float32)
        totals.append(x.sum())
    np.testing.assert_allclose(whole.infos.total, totals, rtol=1e-5, atol=1e-5)


def test_interrupted_run_resumes_to_the_same_numbers(tmp_path):
    whole = run(walk(), START, KEY, 40, every=2, observe=observe, chunk=10)
    file = tmp_path / "deep" / "run.npz"

    def interrupt(done, total, infos):
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(walk(), START, KEY, 40, every=2, observe=observe, chunk=10, progress=interrupt, checkpoint=file)
    seen = []
    resumed = run(
        walk(), START, KEY, 40, every=2, observe=observe, chunk=10, checkpoint=file,
        progress=lambda done, total, infos: seen.append(done),
    )  # fmt: skip
    assert seen == [30, 40]
    assert same(whole, resumed)
    finished = run(walk(), START, KEY, 40, every=2, observe=observe, chunk=10, checkpoint=file)
    assert same(whole, finished)
    assert os.listdir(file.parent) == ["run.npz"]  # no temporary file left


def test_interruption_while_saving_leaves_a_valid_file(tmp_path, monkeypatch):
    file = tmp_path / "run.npz"
    run(walk(), START, KEY, 10, chunk=10, checkpoint=file)
    before = file.read_bytes()

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", killed)
    with pytest.raises(KeyboardInterrupt):
        run(walk(), START, KEY, 20, chunk=10, checkpoint=file)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == ["run.npz"]


def test_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.npz"
    run(walk(), START, KEY, 10, chunk=10, checkpoint=file)
    for kernel, key, state in [
        (walk(scale=2.0), KEY, START),
        (walk(), jax.random.key(4), START),
        (walk(), KEY, {"x": jnp.zeros((5, 3), jnp.float32)}),
        (walk(), KEY, {"x": jnp.ones((2, 3), jnp.float32)}),
    ]:
        with pytest.raises(InputError, match="another run"):
            run(kernel, state, key, 20, chunk=10, checkpoint=file)
    with pytest.raises(InputError, match="beyond the 5"):
        run(walk(), START, KEY, 5, chunk=10, checkpoint=file)
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        run(walk(), START, KEY, 20, chunk=10, checkpoint=file)


def test_writer_gets_every_chunk():
    pieces = []
    result = run(
        walk(), START, KEY, 25, every=5, observe=observe, chunk=10,
        writer=lambda start, infos, seen: pieces.append((start, infos.total, seen)),
    )  # fmt: skip
    whole = run(walk(), START, KEY, 25, every=5, observe=observe)
    assert result.infos is None
    assert result.observations is None
    assert [start for start, _, _ in pieces] == [0, 10, 20]
    np.testing.assert_array_equal(np.concatenate([seen for _, _, seen in pieces]), whole.observations)
    np.testing.assert_array_equal(np.concatenate([total for _, total, _ in pieces]), whole.infos.total)


def test_non_finite_state_names_step_and_chain(tmp_path):
    totals = run(walk(), START, KEY, 50).infos.total
    limit = np.sort(totals)[-3]
    first = int(np.argmax(totals > limit))
    file = tmp_path / "run.npz"
    with pytest.raises(ResultError, match=f"the state is not finite after step {first + 1};"):
        run(walk(limit=limit), START, KEY, 50, chunk=first + 10, checkpoint=file)
    assert not file.exists()  # the bad chunk is not saved

    chains = Chains(walk())
    state = chains.init(KEY, jnp.zeros((4, 2, 3), jnp.float32))
    totals = run(chains, state, KEY, 50).infos.total
    limit = np.sort(totals.ravel())[-2]
    step, chain = np.argwhere(totals > limit)[0]
    with pytest.raises(ResultError, match=f"heating: chain {chain} is not finite after step {step + 1};"):
        run(Chains(walk(limit=limit)), state, KEY, 50, label="heating")


def test_no_recompilation_for_another_problem_of_the_same_shape():
    run(walk(scale=0.5), START, KEY, 12, chunk=6)
    TRACES.clear()
    run(walk(scale=0.7), {"x": jnp.ones((2, 3), jnp.float32)}, jax.random.key(9), 18, chunk=6)
    assert not TRACES
    run(walk(scale=0.7), {"x": jnp.ones((4, 3), jnp.float32)}, KEY, 6, chunk=6)
    assert TRACES  # the count does notice a new shape


class Listed(AbstractKernel):
    """Adds ``shift``, which a rebuild makes anew from the state."""

    shift: Array

    def init(self, key, position):
        del key
        return {"x": jnp.asarray(position)}

    def step(self, key, state):
        return {"x": state["x"] + self.shift}, Info(self.shift)

    def rebuild(self, state):
        return eqx.tree_at(lambda k: k.shift, self, jnp.asarray(state["x"]) + 1)


@pytest.mark.parametrize("chains", [False, True])
def test_rebuild_happens_between_chunks_and_per_chain(chains):
    start = {"x": jnp.array([0.0, 10.0])} if chains else {"x": jnp.array(0.0)}
    kernel = Chains(Listed(jnp.array(0.0))) if chains else Listed(jnp.array(0.0))
    shifts = run(kernel, start, KEY, 4, chunk=2).infos.total
    # Chunk 1 adds x + 1 twice, so x goes 0 → 2, 10 → 32; chunk 2 adds 3, 33.
    expected = [[1, 11], [1, 11], [3, 33], [3, 33]] if chains else [1, 1, 3, 3]
    np.testing.assert_array_equal(shifts, expected)


def test_bad_step_counts():
    with pytest.raises(ValueError, match="multiple of every"):
        run(walk(), START, KEY, 10, every=3)
    empty = run(walk(), START, KEY, 0, every=3, observe=observe)
    assert same(empty.state, START)
    assert empty.infos.total.shape == (0,)
    assert empty.observations.shape == (0, 2, 3)

"""The one driver of everything that is iterated: sampling, heating, dynamics.

A run is a Python loop over chunks; a chunk is one compiled `lax.scan`. The loop carries what must not be
compiled: progress, pair lists made anew, the check that every number is finite, outputs, checkpoints.
"""

import hashlib
import json
import os
import tempfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .errors import InputError, ResultError
from .typing import Array, AtomVectors, PRNGKeyArray


class AbstractKernel(eqx.Module):
    """One step of an iteration x → x', random or not: a sampler or an integrator.

    A kernel is a pytree that holds all it needs (the posterior, masses, step size) as leaves, so it is an argument
    of the compiled loop: another frame of the same shape does not recompile. States are pytrees of arrays only.
    """

    @abstractmethod
    def init(self, key: PRNGKeyArray, position: AtomVectors) -> Any:
        """The state that starts at ``position``; ``key`` draws what the state needs besides (velocities)."""

    @abstractmethod
    def step(self, key: PRNGKeyArray, state: Any) -> tuple[Any, Any]:
        """One step: ``(state, info)``, info a NamedTuple of scalars."""

    def rebuild(self, state: Any) -> Self:
        """The same kernel with its pair lists made anew around ``state``; called between chunks."""
        del state
        return self

    def healthy(self, state: Any) -> Array:
        """True where the state is finite: a scalar, or one flag per chain. Checked after every step."""
        leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


class Run(NamedTuple):
    """What a run returns.

    Fields:
        state: the last state.
        infos: the infos of all steps, NumPy arrays with a leading axis (steps).
        observations: ``observe(state)`` of every ``every``-th state, leading axis (steps // every).
    """

    state: Any
    infos: Any
    observations: Any


def run(
    kernel: AbstractKernel,
    state: Any,
    key: PRNGKeyArray,
    steps: int,
    *,
    every: int = 1,
    observe: Callable[[Any], Any] | None = None,
    chunk: int = 100,
    progress: Callable[[int, int, Any], None] | None = None,
    writer: Callable[[int, Any, Any], None] | None = None,
    checkpoint: str | os.PathLike | None = None,
    label: str = "run",
    complain: Callable[[int, np.ndarray], str] | None = None,
) -> Run:
    """Runs ``kernel`` for ``steps`` steps from ``state``.

    Step i uses ``fold_in(key, i)``: results do not depend on the chunk length, and a resumed run equals an
    uninterrupted one. (Energies with pair lists are rebuilt at chunk boundaries, which may change the last digit.)

    Arguments:
        kernel: the iteration; its arrays are arguments of the compiled chunk.
        state: starting state, from ``kernel.init``.
        key: random key of the whole run.
        steps: number of steps, a multiple of ``every``.
        every: states are observed after every this many steps.
        observe: what to keep of an observed state; a module-level function (a new lambda recompiles).
        chunk: steps per compiled call, rounded to a multiple of ``every``. Progress, writing, checkpoints and the
            abort on numbers that are not finite happen between chunks.
        progress: called as ``progress(done, steps, infos)`` after each chunk with the chunk's infos.
        writer: called as ``writer(start, infos, observations)`` after each chunk; then nothing is collected in
            memory and the result's infos and observations are None. After a crash a chunk may be written again with
            the same ``start``: a writer overwrites from there.
        checkpoint: file written atomically after each chunk. If it exists the run resumes from it, and a finished
            run returns at once. An interruption at any moment leaves a valid file.
        label: what the run is called in messages.
        complain: ``complain(step, chains)`` makes the message of the error when these chains are not finite after that
            step; by default it speaks of chains and steps.

    Returns:
        The `Run`: last state, infos, observations.

    Raises:
        ValueError: steps is not a multiple of every.
        InputError: the checkpoint belongs to another run or cannot be read.
        ResultError: a state is not finite; the message names chain and step. The checkpoint holds the last good state.
    """
    if every < 1 or steps < 0 or steps % every:
        raise ValueError(f"run: steps ({steps}) must be a multiple of every ({every}), and every at least 1.")
    observe = _nothing if observe is None else observe
    saves = max(chunk // every, 1)
    store = None if checkpoint is None else _Checkpoint(Path(checkpoint), _digest(kernel, state, key, every))
    done, parts = 0, []
    if store is not None and store.path.exists():
        done, state, parts = store.load(state, lambda: _output_shapes(kernel, state, key, every, observe))
        if done > steps:
            raise InputError(
                f"{store.path}: this checkpoint is at step {done} of {label}, beyond the {steps} asked for."
            )
    while done < steps:
        active = min(saves, (steps - done) // every)
        kernel = kernel.rebuild(state)
        # Arrays, not Python numbers: those would be compile-time constants.
        start, count = jnp.asarray(done, jnp.int32), jnp.asarray(active, jnp.int32)
        new, (infos, healthy, seen) = _chunk(kernel, state, key, start, count, saves, every, observe)
        healthy = np.asarray(healthy)[:active].reshape(active * every, -1)
        if not healthy.all():
            _raise_unhealthy(label, done, healthy, complain)
        infos = jax.tree.map(lambda a, k=active: np.asarray(a)[:k].reshape(k * every, *a.shape[2:]), infos)
        seen = jax.tree.map(lambda a, k=active: np.asarray(a)[:k], seen)
        state = new
        if writer is None:
            parts.append((infos, seen))
        else:
            writer(done, infos, seen)
        done += active * every
        if store is not None:
            store.save(done, state, parts)
        if progress is not None:
            progress(done, steps, infos)
    if writer is not None:
        return Run(state, None, None)
    if not parts:
        parts = [_output_shapes(kernel, state, key, every, observe)]
    infos, seen = jax.tree.map(lambda *pieces: np.concatenate(pieces), *parts)
    return Run(state, infos, seen)


@eqx.filter_jit
def _chunk(kernel, state, key, start, active, saves, every, observe):
    """``saves`` × ``every`` steps, of which only the first ``active`` saves are carried out (one shape for all)."""

    def one(state, step):
        state, info = kernel.step(jax.random.fold_in(key, step), state)
        return state, (info, kernel.healthy(state))

    def save(index, state):
        state, (infos, healthy) = lax.scan(one, state, start + index * every + jnp.arange(every, dtype=jnp.int32))
        return state, (infos, healthy, observe(state))

    shapes = jax.eval_shape(lambda state: save(0, state)[1], state)

    def skip(index, state):
        del index
        return state, jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def save_or_skip(state, index):
        return lax.cond(index < active, save, skip, index, state)

    return lax.scan(save_or_skip, state, jnp.arange(saves, dtype=jnp.int32))


def _output_shapes(kernel, state, key, every, observe):
    """Empty (infos, observations) of the right structure, from shapes alone."""
    arrays, static = eqx.partition((kernel, state, key), eqx.is_array_like)

    def outputs(arrays):
        kernel, state, key = eqx.combine(arrays, static)
        state, info = kernel.step(key, state)
        return info, observe(state)

    shapes = jax.eval_shape(outputs, arrays)
    return jax.tree.map(lambda leaf: np.zeros((0, *leaf.shape), leaf.dtype), shapes)


def _nothing(state):
    del state
    return ()


def _raise_unhealthy(label: str, done: int, healthy: np.ndarray, complain):
    step, chain = np.argwhere(~healthy)[0]
    if complain is not None:
        raise ResultError(f"{label}: {complain(int(done + step + 1), np.flatnonzero(~healthy[step]))}")
    bad = np.unique(np.argwhere(~healthy)[:, 1])
    where = f"chain {chain}" if healthy.shape[1] > 1 else "the state"
    others = f" ({len(bad)} of {healthy.shape[1]} chains in all)" if len(bad) > 1 else ""
    raise ResultError(
        f"{label}: {where} is not finite after step {done + step + 1}{others}; "
        "the start may be strained (minimise it further) or the step size too long."
    )


def _digest(kernel, state, key, every: int) -> str:
    """Fingerprint of a run: all numbers of the kernel and of the starting state, the key, the saving interval."""
    sha = hashlib.sha256(repr(every).encode())
    for leaf in (*jax.tree.leaves(eqx.filter((kernel, state), eqx.is_array_like)), jax.random.key_data(key)):
        leaf = np.asarray(leaf)
        sha.update(f"{leaf.shape}{leaf.dtype}".encode())
        sha.update(leaf.tobytes())
    return sha.hexdigest()


class _Checkpoint:
    """A checkpoint file: leaves of the state and of the outputs so far in one .npz, replaced atomically."""

    def __init__(self, path: Path, digest: str):
        self.path = path
        self.digest = digest

    def save(self, done: int, state, parts):
        arrays: dict[str, Any] = {f"state{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        if parts:
            for i, pieces in enumerate(zip(*(jax.tree.leaves(part) for part in parts), strict=True)):
                arrays[f"output{i}"] = np.concatenate(pieces)
        arrays["header"] = np.array(json.dumps({"format": 1, "digest": self.digest, "done": done}))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=self.path.name, suffix=".tmp")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **arrays)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def load(self, state, template: Callable[[], Any]):
        try:
            with np.load(self.path, allow_pickle=False) as data:
                arrays = dict(data)
            header = json.loads(str(arrays.pop("header")))
        except Exception as error:
            raise InputError(f"{self.path}: not a readable checkpoint ({error}); delete it to start over.") from error
        leaves, structure = jax.tree.flatten(state)
        if header["digest"] != self.digest:
            raise InputError(
                f"{self.path}: this checkpoint belongs to another run (other input, settings, seed or precision); "
                "delete it to start over or name another file."
            )
        state = jax.tree.unflatten(structure, [jnp.asarray(arrays[f"state{i}"]) for i in range(len(leaves))])
        outputs = [arrays[f"output{i}"] for i in range(len(arrays) - len(leaves))]
        parts = [jax.tree.unflatten(jax.tree.structure(template()), outputs)] if outputs else []
        return header["done"], state, parts

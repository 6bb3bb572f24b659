"""Trajectories as they are given, in one array or a stream of arrays, checked and in one shape."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...energy.base import AbstractEnergy
from ...typing import Array

#: Frames whose forces are worked out at a time.
_CHUNK = 1 << 16

#: (trajectories, frames, *shape of a frame) or an iterable of such arrays.
Trajectories = Any


def is_stream(data: Trajectories) -> bool:
    """Whether ``data`` are several arrays, one after the other."""
    return not hasattr(data, "shape")


def segments(owner: str, named: dict[str, Trajectories | None]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of a stream, those of all names side by side, each (trajectories, frames, *shape of a frame).

    Arguments:
        owner: who complains.
        named: name → what was given; None is left out. Where frames are numbers, an axis for one coordinate is added.

    Raises:
        ValueError: shapes differ, or a number is not finite: the array, trajectory and frame are named.
    """
    given = {name: data for name, data in named.items() if data is not None}
    streams = {name: is_stream(data) for name, data in given.items()}
    if len(set(streams.values())) > 1:
        raise ValueError(f"{owner}: give {' and '.join(given)} all as arrays, or all as iterables of arrays.")
    several = any(streams.values())
    columns = [data if several else (data,) for data in given.values()]
    missing = object()
    for number, row in enumerate(_side_by_side(columns, missing)):
        where = f" of array {number}" if several else ""
        if any(part is missing for part in row):
            raise ValueError(f"{owner}: {' and '.join(given)} do not have equally many arrays.")
        arrays = {name: _shaped(owner, np.asarray(part)) for name, part in zip(given, row, strict=True)}
        shapes = {array.shape for array in arrays.values()}
        if len(shapes) > 1:
            told = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
            raise ValueError(f"{owner}: the shapes{where} differ: {told}.")
        for name, array in arrays.items():
            wrong = np.argwhere(~np.isfinite(array))
            if len(wrong):
                trajectory, frame = wrong[0][:2]
                raise ValueError(
                    f"{owner}: the {name}{where} are not finite in trajectory {trajectory}, frame {frame}; leave that "
                    "trajectory out, or cut it before this frame."
                )
        yield arrays


def _side_by_side(columns: list, missing: object) -> Iterator[tuple]:
    iterators = [iter(column) for column in columns]
    while True:
        row = tuple(next(iterator, missing) for iterator in iterators)
        if all(part is missing for part in row):
            return
        yield row


def _shaped(owner: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{owner}: an array of type {array.dtype}; give real numbers.")
    array = np.atleast_2d(array)
    return array[..., None] if array.ndim == 2 else array


def once_more(owner: str, data: Trajectories) -> None:
    """Raises ValueError if a stream cannot be gone through twice."""
    if is_stream(data) and isinstance(data, Iterator):
        raise ValueError(
            f"{owner}: the free-energy profile needs the positions twice, and a generator gives them once; give a list "
            "or another object that can be gone through again, or an energy."
        )


def thinned(arrays: Iterable[np.ndarray], most: int = 1 << 22) -> np.ndarray:
    """All numbers of all arrays, evenly thinned out so that no more than ``most`` are kept."""
    kept: list[np.ndarray] = []
    stride = 1
    for array in arrays:
        kept.append(array.ravel()[::stride])
        while sum(len(k) for k in kept) > most:
            kept, stride = [k[::2] for k in kept], 2 * stride
    return np.concatenate(kept) if kept else np.zeros(0)


def force_of(energy: AbstractEnergy) -> Callable[[np.ndarray], np.ndarray]:
    """Mean forces of an array (trajectories, frames, *shape of a frame)."""

    def forces(x: np.ndarray) -> np.ndarray:
        frames = x.reshape(-1, *x.shape[2:])
        chunk = min(_CHUNK, len(frames))
        found = np.empty(frames.shape)
        for start in range(0, len(frames), chunk):
            # The last chunk reaches back, so that one length is compiled.
            low = min(start, len(frames) - chunk)
            found[low : low + chunk] = np.asarray(_forces(energy, jnp.asarray(frames[low : low + chunk])))
        return found.reshape(x.shape)

    return forces


@eqx.filter_jit
def _forces(energy: AbstractEnergy, frames: Array) -> Array:
    # Energies of one kind share what was compiled.
    return jax.vmap(jax.grad(lambda x: -energy(x)))(frames)

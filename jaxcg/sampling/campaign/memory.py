"""How many walkers fit into memory: an estimate before anything is compiled, and the compiler's own account."""

import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .walkers import Walkers

#: Share of what is free that a campaign takes.
SHARE = 0.6
#: Arrays of the size of the positions that a step may hold at once, and of the size of all pairs of atoms: a guess.
_VECTORS, _PAIRS = 80, 24
#: Within this factor of the limit the estimate decides nothing: the compiler is asked.
_MARGIN = 4


def available_memory() -> int:
    """Bytes a campaign may take: of each accelerator (the least), or of the host where the CPU does the work."""
    if jax.default_backend() != "cpu":
        known = [d.memory_stats() or {} for d in jax.local_devices()]
        free = [s["bytes_limit"] - s.get("bytes_in_use", 0) for s in known if "bytes_limit" in s]
        if free:
            return int(SHARE * min(free)) * jax.local_device_count()
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            table = dict(line.split(":", 1) for line in file)
        return int(SHARE * 1024 * int(table["MemAvailable"].split()[0]))
    except (OSError, KeyError, ValueError):
        return int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))


def estimate(n_atoms: int, itemsize: int, walkers: int, *, own: int = 0, looped: bool | None = None) -> int:
    """Bytes that a step of ``walkers`` walkers may take: a guess from the number of atoms, without compiling anything.

    It knows neither the energy nor what the compiler makes of it, so it is no bound: terms with many parameters or
    intermediates take more, and a large molecule with a cutoff far less, as every pair of atoms is counted. It only
    tells batches that are small beyond doubt from those that must be `measured`.

    Arguments:
        n_atoms: of one walker.
        itemsize: bytes of a number.
        walkers: of a batch, on all devices.
        own: bytes of what each walker has to itself, such as a mass matrix.
        looped: whether walkers of a device take turns, as they do on a CPU; None: whether this is one.
    """
    looped = jax.default_backend() == "cpu" if looped is None else looped
    at_once = min(walkers, jax.local_device_count()) if looped else walkers
    vectors = 3 * n_atoms * itemsize
    # The Metropolis test is done in double precision where that is enabled.
    wide = 8 if jax.config.jax_enable_x64 else itemsize  # pyright: ignore[reportAttributeAccessIssue]
    return walkers * (8 * vectors + own) + at_once * (_VECTORS * vectors + _PAIRS * wide * n_atoms**2)


def measured(walkers: Walkers, state: Any) -> int:
    """Bytes that one step of ``walkers`` takes on all devices, as the compiler counts them.

    Arguments:
        walkers: the batch.
        state: as from ``walkers.init``.
    """
    compiled = _step.lower(walkers, jax.random.key(0), state).compile().compiled
    found = compiled.memory_analysis()
    if found is None:
        return 0
    used = found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
    return int(used) * min(len(walkers.labels), jax.local_device_count())


def walkers_that_fit(
    limit: int, n_atoms: int, itemsize: int, wanted: int, measure: Callable[[int], int] | None = None, *, own: int = 0
) -> int:
    """The most walkers, up to ``wanted``, whose step stays below ``limit`` bytes; zero when not even one does.

    What the compiler says decides. It is not asked where the `estimate` is below the limit by a factor of `_MARGIN`.

    Arguments:
        limit: bytes.
        n_atoms: of one walker.
        itemsize: bytes of a number.
        wanted: walkers.
        measure: ``measure(walkers)`` gives the bytes of a batch as the compiler counts them; asked twice or not at
            all. Without it the estimate decides.
        own: bytes of what each walker has to itself.
    """
    if _MARGIN * estimate(n_atoms, itemsize, wanted, own=own) <= limit:
        return wanted
    if measure is None:
        return _largest(lambda w: estimate(n_atoms, itemsize, w, own=own), limit, wanted)
    devices = jax.local_device_count()
    one, two = measure(devices), measure(2 * devices)
    each = max((two - one) / devices, 1.0) + own
    return int(np.clip((limit - (one - each * devices)) // each, 0, wanted))


def _largest(size, limit: int, most: int) -> int:
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if size(middle) <= limit else (low, middle - 1)
    return low


@eqx.filter_jit
def _step(walkers, key, state):
    return walkers.step(key, state)

"""The one place that decides how a batch of independent systems is carried out on the devices at hand."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

#: Systems of one batch on a GPU: enough to fill it with molecules of a few hundred atoms, few enough for its memory.
_ACCELERATOR_WIDTH = 32


def batch_width() -> int:
    """How many independent systems are best taken at once: as many as a CPU has devices, 32 for each GPU."""
    count = jax.local_device_count()
    return count if jax.default_backend() == "cpu" else _ACCELERATOR_WIDTH * count


def batch_map(function: Callable, *, vectorized: bool = False) -> Callable:
    """Maps ``function(shared, *one)`` over the leading axis of all arguments but the first.

    On a GPU the batch is vectorised (`jax.vmap`); on a CPU it is a loop (`lax.map`), where one system at a time stays
    in cache and is several times faster than a vectorised batch. With several local devices (on a CPU:
    ``--xla_force_host_platform_device_count``) the batch is shared out over as many of them as divide it; the
    systems do not communicate.

    Arguments:
        function: takes a pytree shared by all systems, then one system's arrays; returns arrays.
        vectorized: vectorise on a CPU too: for systems of a few numbers each, whose loop would be all overhead.

    Returns:
        ``mapped(shared, *batch)`` whose results have the leading batch axis.
    """

    def mapped(shared, *batch):
        arrays, static = eqx.partition(shared, eqx.is_array)

        def local(arrays, batch):
            def one(batch):
                return function(eqx.combine(arrays, static), *batch)

            loop = jax.default_backend() == "cpu" and not vectorized
            return lax.map(one, batch) if loop else jax.vmap(one)(batch)

        size = jax.tree.leaves(batch)[0].shape[0]
        count = math.gcd(size, jax.local_device_count())
        if count == 1:
            return local(arrays, batch)
        mesh = Mesh(np.array(jax.local_devices()[:count]), ("batch",))
        split, whole = PartitionSpec("batch"), PartitionSpec()
        return jax.shard_map(local, mesh=mesh, in_specs=(whole, split), out_specs=split, check_vma=False)(arrays, batch)

    return mapped

"""Frames in, samples out: campaigns in a single call, and frames shared out over processes."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...posterior import Posterior
from ...typing import AtomScalars, PRNGKeyArray
from ..geometry import AbstractGeometry
from .campaign import Campaign
from .samples import FrameSamples
from .settings import SamplingSettings


def sample_frames(
    posteriors: Sequence[Posterior],
    starts: Any,
    key: PRNGKeyArray,
    *,
    masses: AtomScalars | AbstractGeometry,
    settings: SamplingSettings | None = None,
    frames: Sequence[int] | None = None,
    memory: int | None = None,
    folder: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[FrameSamples]:
    """Draws from p(x|y) of many frames, frame by frame as batches are done.

    Arguments:
        posteriors: one for each frame; see `Campaign`.
        starts: (frames, chains, atoms, 3) nm, from independent relaxations; their dtype is that of the run.
        key: random key; the same key gives the same samples.
        masses: (atoms,) masses of the sampler, amu, see `heavy_hydrogen_masses`; or a geometry.
        settings: of the sampler.
        frames: (frames,) numbers of the frames; see `Campaign`.
        memory: bytes that may be taken.
        folder: where checkpoints and draws are kept; an interrupted call goes on from them.
        progress: called as ``progress(stage, done, total)``.

    Returns:
        The `FrameSamples` of each frame, in order.

    Raises:
        ValueError, ResultError: as `Campaign` and `Campaign.run`.
    """
    starts = np.asarray(starts)
    if starts.ndim != 4 or len(starts) != len(posteriors):
        raise ValueError(
            f"sample_frames: starts have shape {starts.shape}, expected ({len(posteriors)}, chains, atoms, 3)."
        )
    listed = with_lists(posteriors, starts.reshape(-1, *starts.shape[2:])[0])
    campaign = Campaign(
        listed,
        starts.shape[1],
        masses=masses,
        settings=settings,
        frames=frames,
        dtype=starts.dtype,
        memory=memory,
    )
    for number, chosen in enumerate(campaign.batches):
        part = None if folder is None else Path(folder) / f"batch-{number:04d}"
        given = starts[chosen.start : chosen.stop]
        yield from campaign.run(number, given, key, folder=part, progress=progress)


def with_lists(posteriors: Sequence[Posterior], x: Any) -> list[Posterior]:
    """The posteriors with pair lists made around ``x`` (atoms, 3), the same for all; walkers make their own."""
    made: dict[int, Any] = {}
    for one in posteriors:
        if id(one.energy) not in made:
            made[id(one.energy)] = one.energy.rebuild(jnp.asarray(x))
    return [eqx.tree_at(lambda p: p.energy, one, made[id(one.energy)]) for one in posteriors]


def frames_of_this_process(frames: Sequence[Any]) -> list[Any]:
    """The share of ``frames`` that this process of a `jax.distributed` run takes: every process_count-th.

    Frames do not communicate, so each process samples its own, with its own devices and output folder; together they
    do all of them, and each frame has the numbers it would have in a single process.
    """
    return list(frames[jax.process_index() :: jax.process_count()])

"""Samples of p(x|y) for many frames y: frames times chains in batches that fill the devices and fit into memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...posterior import Posterior
from ...run import AbstractKernel, run
from ...typing import Array, AtomScalars, PRNGKeyArray
from ..geometry import AbstractGeometry, as_geometry
from ..kernels.hmc import HMC
from ..kernels.langevin import Heating, Langevin
from .checks import check_finite, check_on_fibre
from .kernels import Steady, Tuned
from .memory import available_memory, measured, walkers_that_fit
from .samples import FrameSamples, gather
from .storage import Rows
from .walkers import Walkers, differing_leaves, potentials

#: Gradients, of all walkers of a batch together, between two checkpoints.
GRADIENTS_PER_CHUNK = 6000
#: Most walkers of a batch: few on a CPU, so that frames are done one after the other; many fill an accelerator.
_WIDEST_CPU, _WIDEST = 64, 4096
_STAGES = ("heating", "tuning", "sampling")


@dataclass(frozen=True)
class SamplingSettings:
    """How every chain of a campaign is sampled.

    Arguments:
        draws: samples of each chain.
        thin: trajectories between two of them.
        sampler: ``"hmc"``, or ``"langevin"``, which has no Metropolis test.
        step_size: first step size, ps, and that of the burn-in; Langevin keeps it.
        steps: (mean) steps of a trajectory.
        heat, hold: Langevin steps of the burn-in from minima; 0 and 0 for starts that are typical already.
        warmup: trajectories that tune the step size.
        target: acceptance aimed at.
        friction: of Langevin dynamics, 1/ps.
    """

    draws: int = 100
    thin: int = 4
    sampler: Literal["hmc", "langevin"] = "hmc"
    step_size: float = 0.001
    steps: int = 40
    heat: int = 750
    hold: int = 750
    warmup: int = 40
    target: float = 0.8
    friction: float = 20.0

    def __post_init__(self):
        if self.draws < 1 or self.thin < 1 or self.steps < 1:
            raise ValueError(
                f"campaign: draws ({self.draws}), thin ({self.thin}) and steps ({self.steps}) must be at least 1."
            )
        if min(self.heat, self.hold, self.warmup) < 0 or self.heat + self.hold < 0:
            raise ValueError("campaign: heat, hold and warmup cannot be negative.")
        if self.sampler not in ("hmc", "langevin"):
            raise ValueError(f"campaign: sampler {self.sampler!r} is not known; choose 'hmc' or 'langevin'.")


class Campaign:
    """A campaign of ``chains`` chains for each of many frames, planned: what is sampled how, and in which batches.

    A batch holds whole frames; all batches have one shape, so only the first compiles. Chains of a batch are shared
    out over the local devices and do not communicate; the step sizes of a frame's chains are pooled on the host.

    Arguments:
        posteriors: one for each frame: of one molecule and map, with beads all exact or all soft.
        chains: of each frame.
        masses: (atoms,) masses of the sampler, amu, or a geometry.
        settings: of the sampler.
        frames: (frames,) numbers that name the frames in messages and choose their random numbers; 0, 1, ... if None.
        dtype: of the positions.
        memory: bytes the campaign may take; what `available_memory` finds when None.
        widest: most walkers of a batch; what suits the device when None.
        vectorized: see `jaxcg.batching.batch_map`.

    Raises:
        ValueError: nothing to sample, posteriors that do not go together, a noise that is not positive, or more chains
            than memory: the message says how many fit.
    """

    def __init__(
        self,
        posteriors: Sequence[Posterior],
        chains: int,
        *,
        masses: AtomScalars | AbstractGeometry,
        settings: SamplingSettings | None = None,
        frames: Sequence[int] | None = None,
        dtype: Any = np.float32,
        memory: int | None = None,
        widest: int | None = None,
        vectorized: bool = False,
    ):
        if not len(posteriors) or chains < 1:
            raise ValueError(f"campaign: {len(posteriors)} frames and {chains} chains; there must be one of each.")
        for number, one in enumerate(posteriors):
            if one.noise is not None and not float(one.noise) > 0:
                raise ValueError(f"campaign: the bead noise of frame {number} is {float(one.noise):g} nm, not above 0.")
        self.settings = SamplingSettings() if settings is None else settings
        self.frames = tuple(range(len(posteriors))) if frames is None else tuple(int(f) for f in frames)
        if len(self.frames) != len(posteriors) or len(set(self.frames)) < len(self.frames):
            raise ValueError("campaign: frames must have one number for each posterior, each once.")
        self.posteriors, self.chains, self.dtype = tuple(posteriors), chains, np.dtype(dtype)
        self.geometry, self.vectorized = as_geometry(posteriors[0], masses), vectorized
        self.memory = available_memory() if memory is None else memory
        narrow = jax.default_backend() == "cpu"
        most = (_WIDEST_CPU if narrow else _WIDEST) if widest is None else widest
        wanted = chains * max(min(most // chains, len(posteriors)), 1)
        n_atoms = posteriors[0].mapping.n_atoms
        fit = walkers_that_fit(self.memory, n_atoms, self.dtype.itemsize, wanted, self._measure)
        if fit < chains:
            raise ValueError(
                f"campaign: {chains} chains of {n_atoms} atoms do not fit into {self.memory / 2**30:.2g} GiB of "
                f"memory; at most {fit} chains do."
            )
        rounds = -(-len(posteriors) // (fit // chains))
        self.frames_at_once = -(-len(posteriors) // rounds)

    @property
    def batches(self) -> list[range]:
        """Positions (not numbers) of the frames of each batch."""
        count, size = len(self.posteriors), self.frames_at_once
        return [range(first, min(first + size, count)) for first in range(0, count, size)]

    @property
    def width(self) -> int:
        """Walkers of a batch, those included that only fill it up."""
        devices = jax.local_device_count()
        return -(-self.chains * self.frames_at_once // devices) * devices

    def run(
        self,
        batch: int,
        starts: Any,
        key: PRNGKeyArray,
        *,
        folder: str | Path | None = None,
        beads: Any = None,
        bead_labels: Sequence[str] | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[FrameSamples]:
        """Heats, tunes and samples one batch.

        Arguments:
            batch: its number.
            starts: (frames of the batch, chains, atoms, 3) nm: minima, or typical points when there is no burn-in.
            key: random key of the campaign; a frame and a chain have their own numbers whatever the batch.
            folder: where checkpoints and draws are kept; the same call goes on from them. In memory when None.
            beads: (frames of the batch, beads, 3) nm in full precision, for the check of the starts.
            bead_labels: names of the beads for messages.
            progress: called as ``progress(stage, done, total)``.

        Raises:
            ValueError: a start is off the fibre or of the wrong shape.
            ResultError: an energy is not finite, or a frame accepts nothing.
        """
        chosen = self.batches[batch]
        starts = np.asarray(starts)
        expected = (len(chosen), self.chains, self.posteriors[0].mapping.n_atoms, 3)
        if starts.shape != expected:
            raise ValueError(f"campaign: starts have shape {starts.shape}, expected {expected}.")
        for i, frame in enumerate(chosen):
            y = np.asarray(self.posteriors[frame].y if beads is None else beads[i])
            check_on_fibre(self.posteriors[frame], starts[i], y, frame=self.frames[frame], bead_labels=bead_labels)
        # Filled up by walkers that repeat the last one; their results are thrown away.
        walkers = [(frame, chain) for frame in chosen for chain in range(self.chains)]
        count = len(walkers)
        walkers += [walkers[-1]] * (self.width - count)
        index = [frame for frame, _ in walkers]
        labels = np.array([(self.frames[frame], chain) for frame, chain in walkers])
        x = starts.reshape(-1, *starts.shape[2:]).astype(self.dtype)
        x = jnp.asarray(np.concatenate([x, np.repeat(x[-1:], self.width - count, axis=0)]))
        keys = [jax.random.fold_in(key, i) for i in range(2 * len(_STAGES))]
        work = None if folder is None else Path(folder)
        at = self.settings

        def complain(step, chains):
            frame, chain = labels[chains[0]]
            return f"frame {frame}: chain {chain} is not finite after step {step}; try a shorter step size."

        def go(stage, kernel, state, steps, every=1, observe=None):
            number = _STAGES.index(stage)
            total = steps * len(self.batches)
            rows = None if work is None else Rows(work, stage)
            chunk = (
                max(GRADIENTS_PER_CHUNK // (self.width * every * (1 if stage == "heating" else at.steps)), 1) * every
            )

            def write(start, infos, seen):
                assert rows is not None
                rows.write(start, infos)
                Rows(rows.folder, f"{stage}-x").write(start // every, seen)

            def forward(done, steps, infos):
                del infos
                if progress is not None:
                    progress(stage, batch * steps + done, total)

            if progress is not None:
                progress(stage, batch * steps, total)
            found = run(
                kernel,
                state,
                keys[number],
                steps,
                every=every,
                observe=observe,
                chunk=chunk,
                progress=forward,
                writer=None if rows is None else write,
                checkpoint=None if work is None else work / f"{stage}.npz",
                label=stage,
                complain=complain,
            )
            if rows is None:
                return found
            return found._replace(infos=rows.read(_row(kernel, found.state), steps), observations=None)

        heating = Walkers.of(self._heating, index, labels, self._heating_own, vectorized=self.vectorized)
        state = heating.init(keys[3], x)
        start_potentials = np.asarray(potentials(heating.rebuild(state), keys[0], x), dtype=np.float64)
        check_finite(start_potentials, np.asarray(x), labels)
        temperature = np.full(len(walkers), np.nan)
        if at.heat + at.hold:
            warm = go("heating", heating, state, at.heat + at.hold)
            tail = max((at.heat + at.hold) // 5, 1)
            temperature = np.asarray(warm.infos.temperature[-tail:]).mean(axis=0)
            x = warm.state.position
        sampling = Walkers.of(self._sampling, index, labels, self._sampling_own, vectorized=self.vectorized)
        state, gradients = sampling.init(keys[4], x), at.heat + at.hold
        if at.warmup and at.sampler != "langevin":
            # As many as whole draws, so that one compiled chunk serves both stages.
            tuning = -(-at.warmup // at.thin) * at.thin
            tuned = go("tuning", sampling, state, tuning, at.thin, _observe)
            gradients += int(np.asarray(tuned.infos.steps)[:, 0].sum())
            state = _pooled(tuned.state, labels)
        drawn = go("sampling", sampling, state, at.draws * at.thin, at.thin, _observe)
        positions = drawn.observations
        if work is not None:
            shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
            positions = Rows(work, "sampling-x").read(shape, at.draws)
        gradients += int(np.asarray(drawn.infos.steps)[:, 0].sum())
        return [
            gather(
                self.frames[frame],
                slice(i * self.chains, (i + 1) * self.chains),
                drawn.infos,
                positions,
                thin=at.thin,
                start_potentials=start_potentials,
                temperature=temperature,
                gradients=gradients,
                dimension=self.geometry.dimension,
                posterior=self.posteriors[frame],
                heated=bool(at.heat + at.hold),
            )
            for i, frame in enumerate(chosen)
        ]

    # -- kernels of every frame; what they do not share is found once, so that all batches look alike to the compiler --

    @cached_property
    def _heating(self) -> list[AbstractKernel]:
        at = self.settings
        return [
            Heating(
                Langevin(one, self.geometry, step_size=at.step_size, friction=at.friction),
                ramp=at.heat,
                start_temperature=0.03 * float(one.temperature),
                start_step_size=0.25 * at.step_size,
            )
            for one in self.posteriors
        ]

    @cached_property
    def _heating_own(self) -> tuple[int, ...]:
        return differing_leaves(self._heating)

    @cached_property
    def _sampling(self) -> list[AbstractKernel]:
        return [self._sampler(one) for one in self.posteriors]

    @cached_property
    def _sampling_own(self) -> tuple[int, ...]:
        return differing_leaves(self._sampling)

    def _sampler(self, posterior: Posterior) -> AbstractKernel:
        at = self.settings
        if at.sampler == "langevin":
            langevin = Langevin(posterior, self.geometry, step_size=at.step_size, friction=at.friction)
            return Steady(langevin, steps=at.steps)
        hmc = HMC(posterior, self.geometry, step_size=at.step_size, steps=at.steps)
        return Tuned(hmc, warmup=-(-at.warmup // at.thin) * at.thin, target=at.target)

    def _measure(self, count: int) -> int:
        """Bytes of a step of ``count`` walkers."""
        walkers = Walkers.of(self._sampling[:1], [0] * count, np.zeros((count, 2)), (), vectorized=self.vectorized)
        x = jnp.zeros((count, self.posteriors[0].mapping.n_atoms, 3), self.dtype)
        return measured(walkers, walkers.init(jax.random.key(0), x))


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


def _observe(state) -> Array:
    return state.chain.position


def _pooled(state, labels):
    """One step size for the chains of a frame: the geometric mean of what each has found alone."""
    averaging = state.averaging
    log_step = np.array(averaging.log_average, dtype=np.float64)
    for frame in np.unique(labels[:, 0]):
        mine = labels[:, 0] == frame
        _, once = np.unique(labels[mine, 1], return_index=True)
        log_step[mine] = log_step[mine][once].mean()
    log_step = jnp.asarray(log_step, averaging.log_average.dtype)
    chain = state.chain._replace(step_size=jnp.exp(log_step).astype(state.chain.step_size.dtype))
    return state._replace(chain=chain, averaging=averaging._replace(log_step=log_step, log_average=log_step))


def _row(kernel, state):
    return jax.eval_shape(lambda s: kernel.step(jax.random.key(0), s)[1], state)

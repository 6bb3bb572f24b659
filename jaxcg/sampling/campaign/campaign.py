"""Samples of p(x|y) for many frames y: frames times chains in batches that fill the devices and fit into memory."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...mapping.base import AbstractLinearMap
from ...posterior import Posterior
from ...run import AbstractKernel, run
from ...typing import Array, AtomScalars, PRNGKeyArray
from ..adaptation.curvature import bonded_stiffness
from ..adaptation.metric import stiffness_geometry
from ..geometry import AbstractGeometry, as_geometry
from ..geometry.atom_blocks import AtomBlocks
from ..geometry.blocks import BlockGeometry
from ..kernels.generalized_hmc import GeneralizedHMC
from ..kernels.hmc import HMC
from ..kernels.langevin import Heating, Langevin
from .checks import check_finite, check_on_fibre
from .kernels import Steady, Tuned
from .memory import available_memory, measured, walkers_that_fit
from .samples import FrameSamples, gather
from .settings import SamplingSettings
from .storage import Rows
from .walkers import Walkers, differing_leaves, potentials

#: Gradients, of all walkers of a batch together, between two checkpoints.
GRADIENTS_PER_CHUNK = 6000
#: Most walkers of a batch: few on a CPU, so that frames are done one after the other; many fill an accelerator.
_WIDEST_CPU, _WIDEST = 64, 4096
#: Atoms up to which one mass matrix couples them all.
_DENSE = 64
_STAGES = ("heating", "tuning", "sampling")


class Campaign:
    """A campaign of ``chains`` chains for each of many frames, planned: what is sampled how, and in which batches.

    A batch holds whole frames; all batches have one shape, so only the first compiles. Chains of a batch are shared
    out over the local devices and do not communicate; the step sizes of a frame's chains are pooled on the host.

    Arguments:
        posteriors: one for each frame: of one molecule and map, with beads all exact or all soft.
        chains: of each frame.
        masses: (atoms,) masses of the sampler, amu, or a geometry.
        settings: of the sampler.
        group: (atoms,) numbers of the blocks of atoms, such as residues, whose masses may be coupled; for molecules
            that are too large for one block.
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
        group: np.ndarray | None = None,
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
        self.blocks = None if self.settings.masses == "given" else _blocks(posteriors[0], group)
        # Three matrices for each block, of each walker.
        own = 0 if self.blocks is None else 3 * int(np.prod(self.blocks.shape)) * self.dtype.itemsize
        self.memory = available_memory() if memory is None else memory
        narrow = jax.default_backend() == "cpu"
        most = (_WIDEST_CPU if narrow else _WIDEST) if widest is None else widest
        wanted = chains * max(min(most // chains, len(posteriors)), 1)
        n_atoms = posteriors[0].mapping.n_atoms
        fit = walkers_that_fit(self.memory, n_atoms, self.dtype.itemsize, wanted, self._measure, own=own)
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
        kernels = self._sampling
        if self.blocks is not None:
            kernels = list(kernels)
            for i, frame in enumerate(chosen):
                mine = x[i * self.chains : (i + 1) * self.chains]
                kernels[frame] = self._sampler(self.posteriors[frame], self._stiff(self.posteriors[frame], mine))
        sampling = Walkers.of(kernels, index, labels, self._sampling_own, vectorized=self.vectorized)
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
        geometry = self.geometry
        if self.blocks is not None:
            matrix = self.blocks.diagonal(np.ones(self.blocks.n_atoms))
            geometry = BlockGeometry(self.posteriors[0], self.blocks, matrix)
        return [self._sampler(one, geometry) for one in self.posteriors]

    @cached_property
    def _sampling_own(self) -> tuple[int, ...]:
        own = set(differing_leaves(self._sampling))
        if self.blocks is not None:
            # Frames will have mass matrices of their own.
            other = BlockGeometry(
                self.posteriors[0], self.blocks, self.blocks.diagonal(np.full(self.blocks.n_atoms, 2.0))
            )
            own |= set(differing_leaves([self._sampling[0], self._sampler(self.posteriors[0], other)]))
        return tuple(sorted(own))

    def _stiff(self, posterior: Posterior, positions: Array) -> AbstractGeometry:
        """Masses of one frame from the bonded terms at ``positions`` (chains, atoms, 3)."""
        assert self.blocks is not None
        return stiffness_geometry(posterior, self.blocks, bonded_stiffness(posterior, self.blocks, positions))

    def _sampler(self, posterior: Posterior, geometry: AbstractGeometry) -> AbstractKernel:
        at = self.settings
        if at.sampler == "langevin":
            langevin = Langevin(posterior, geometry, step_size=at.step_size, friction=at.friction)
            return Steady(langevin, steps=at.steps)
        shared = {"step_size": at.step_size, "steps": at.steps}
        if at.sampler == "ghmc":
            sampler = GeneralizedHMC(posterior, geometry, persistence=at.persistence, **shared)
        else:
            sampler = HMC(posterior, geometry, **shared)
        warmup = -(-at.warmup // at.thin) * at.thin
        return Tuned(sampler, step_size=at.step_size, warmup=warmup, target=at.target)

    def _measure(self, count: int) -> int:
        """Bytes of a step of ``count`` walkers."""
        walkers = Walkers.of(self._sampling[:1], [0] * count, np.zeros((count, 2)), (), vectorized=self.vectorized)
        x = jnp.zeros((count, self.posteriors[0].mapping.n_atoms, 3), self.dtype)
        return measured(walkers, walkers.init(jax.random.key(0), x))


def _blocks(posterior: Posterior, group: np.ndarray | None) -> AtomBlocks:
    """One block for all atoms where that is not too large, else those of ``group``."""
    mapping = posterior.mapping
    if not isinstance(mapping, AbstractLinearMap):
        raise ValueError("campaign: masses from the bonded terms are for linear maps; take them as given.")
    try:
        return AtomBlocks(mapping, largest=_DENSE)
    except ValueError:
        return AtomBlocks(mapping, group)


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

    # Where the walkers are, like what it replaces: elsewhere the compiled chunk of the tuning would not serve again.
    def placed(values, like):
        values = jnp.asarray(values, like.dtype)
        # A state out of a checkpoint is bound to no device; bound to one, it would not go with the others.
        return jax.device_put(values, like.sharding) if like.committed else values

    log_average = placed(log_step, averaging.log_average)
    averaging = averaging._replace(log_step=placed(log_step, averaging.log_step), log_average=log_average)
    step_size = placed(np.exp(log_step), state.chain.step_size)
    return state._replace(chain=state.chain._replace(step_size=step_size), averaging=averaging)


def _row(kernel, state):
    return jax.eval_shape(lambda s: kernel.step(jax.random.key(0), s)[1], state)

"""The config of `jaxcg gle`: what to simulate, read from YAML and checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...errors import InputError
from .gle_parts import KernelPart, PotentialPart, kernel_part, potential_part
from .settings import Settings

Format = Literal["npz", "zarr", "xtc"]

_REQUIRED = ("temperature", "time_step", "mass", "kernel")
_OPTIONAL = (
    "steps",
    "duration",
    "every",
    "trajectories",
    "seed",
    "shape",
    "potential",
    "integrator",
    "start",
    "equilibrate",
    "output",
    "precision",
)


@dataclass(frozen=True)
class Integrator:
    """How the equation is integrated.

    Arguments:
        kind: ``"auxiliaries"``, ``"history"`` or ``"bath"``.
        window: ps of the past that ``"history"`` sums over; None: until the kernel is gone.
        oscillators, highest, rule: of ``"bath"``; ``highest`` in 1/ps.
    """

    kind: str
    window: float | None = None
    oscillators: int = 0
    highest: float = 0.0
    rule: Any = "midpoint"


@dataclass(frozen=True)
class GleConfig:
    """A simulation to run; ``jaxcg gle --example`` tells the meaning of each field.

    Arguments:
        steps, equilibrate, every: time steps; the first two are multiples of the third.
        masses: amu, a number or (particles,).
        shape: of the coordinates of one trajectory.
        start: ``"minimum"``, or positions that broadcast to (trajectories, *shape), nm.
        settings: the config as plain values, defaults filled in.
        files: SHA-256 digests of the files it names.
    """

    path: Path
    temperature: float
    time_step: float
    steps: int
    equilibrate: int
    every: int
    trajectories: int
    seed: int
    masses: np.ndarray
    shape: tuple[int, ...]
    kernel: KernelPart
    potential: PotentialPart
    integrator: Integrator
    start: Literal["minimum"] | np.ndarray
    format: Format
    velocities: bool
    precision: Literal["float32", "float64"]
    settings: dict[str, Any]
    files: dict[str, str]

    @property
    def frames(self) -> int:
        """Frames of each trajectory that are written."""
        return self.steps // self.every


def read_gle_config(path: str | os.PathLike) -> GleConfig:
    """Reads and checks a config of `jaxcg gle`.

    Arguments:
        path: a YAML file as ``jaxcg gle --example`` shows it.

    Raises:
        InputError: a setting is wrong, missing or not known; the message names file, line, key and unit.
    """
    read = Settings(path)
    nodes = read.section(read.root, "", _REQUIRED, _OPTIONAL)

    def integer(key: str, default: int, least: int) -> int:
        return read.integer(nodes[key], key, least=least) if key in nodes else default

    temperature = read.number(nodes["temperature"], "temperature", "K", above=0)
    time_step = read.number(nodes["time_step"], "time_step", "ps", above=0)
    every, trajectories = integer("every", 1, 1), integer("trajectories", 1, 1)
    seed = integer("seed", 0, 0)
    if seed >= 2**32:
        raise read.error(nodes["seed"], f"'seed' must be below {2**32}, not {seed}.")
    steps = _steps(read, nodes, time_step, every)
    thrown = read.number(nodes["equilibrate"], "equilibrate", "ps", least=0) if "equilibrate" in nodes else 0.0
    equilibrate = every * int(np.ceil(thrown / time_step / every - 1e-9))
    kernel = kernel_part(read, nodes["kernel"])
    shape = _shape(read, nodes, kernel)
    masses = _masses(read, nodes["mass"], kernel, shape)
    potential = potential_part(read, nodes["potential"]) if "potential" in nodes else PotentialPart(None, None, (0, 0))
    kind, velocities = _output(read, nodes.get("output"), shape)
    precision: Any = (
        read.word(nodes["precision"], "precision", ("float32", "float64")) if "precision" in nodes else "float64"
    )
    if steps + equilibrate >= 2**31:
        raise read.error(read.root, f"{steps + equilibrate} steps are more than one run can count (2147483647).")
    defaults = {"every": 1, "trajectories": 1, "seed": 0, "equilibrate": 0.0, "potential": "none", "start": "minimum"}
    defaults |= {"integrator": "auxiliaries", "precision": "float64"}
    return GleConfig(
        path=Path(path),
        temperature=temperature,
        time_step=time_step,
        steps=steps,
        equilibrate=equilibrate,
        every=every,
        trajectories=trajectories,
        seed=seed,
        masses=masses,
        shape=shape,
        kernel=kernel,
        potential=potential,
        integrator=_integrator(read, nodes.get("integrator"), kernel, masses),
        start=_start(read, nodes.get("start"), trajectories, shape),
        format=kind,
        velocities=velocities,
        precision=precision,
        settings={**defaults, **read.plain(), "shape": list(shape)},
        files=read.files,
    )


def _steps(read: Settings, nodes: dict, time_step: float, every: int) -> int:
    if ("steps" in nodes) == ("duration" in nodes):
        raise read.error(read.root, "the config needs either 'steps' or 'duration' (ps).")
    if "steps" in nodes:
        steps = read.integer(nodes["steps"], "steps", least=1)
        if steps % every:
            fitting = max(round(steps / every), 1) * every
            raise read.error(
                nodes["steps"], f"'steps' ({steps}) must be a multiple of 'every' ({every}); take {fitting}."
            )
        return steps
    duration = read.number(nodes["duration"], "duration", "ps", above=0)
    frames = round(duration / time_step / every)
    if frames < 1:
        raise read.error(
            nodes["duration"],
            f"'duration' ({duration:g} ps) is shorter than one frame, {every} steps of {time_step:g} ps.",
        )
    return frames * every


def _shape(read: Settings, nodes: dict, kernel: KernelPart) -> tuple[int, ...]:
    coupled, particles = kernel.kernel.coordinates, kernel.particles
    if "shape" not in nodes:
        return (coupled or 1,) if particles is None else (len(particles.types), *((coupled,) if coupled else ()))
    node = nodes["shape"]
    items = node.value if node.id == "sequence" else [node]
    shape = tuple(read.integer(item, "shape", least=1) for item in items)
    if not shape:
        raise read.error(node, "'shape' is empty; give the number of coordinates, or [particles, components].")
    if particles is not None:
        if shape[0] != len(particles.types) or (coupled is not None and shape[1:] != (coupled,)):
            wanted = f"[{len(particles.types)}, {coupled or 'components'}]"
            raise read.error(node, f"'shape' is {list(shape)}, but the kernels are those of {wanted}.")
        return shape
    if coupled is not None and np.prod(shape) != coupled:
        raise read.error(node, f"'shape' has {np.prod(shape)} coordinates, but the kernel couples {coupled}.")
    return shape


def _masses(read: Settings, node, kernel: KernelPart, shape: tuple[int, ...]) -> np.ndarray:
    masses = read.array(node, "mass", "amu")
    if (masses <= 0).any():
        raise read.error(node, f"'mass' (amu) must be above zero, not {masses[masses <= 0][0]:g}.")
    whole = kernel.kernel.coordinates is not None and kernel.particles is None
    wanted = int(np.prod(shape)) if whole else shape[0]
    if masses.ndim and masses.shape != (wanted,):
        what = "coordinate of the kernel" if whole else "particle of 'shape'"
        raise read.error(node, f"'mass' (amu) must be a number or one for each {what} ({wanted}), not {masses.size}.")
    return masses


def _integrator(read: Settings, node, kernel: KernelPart, masses: np.ndarray) -> Integrator:
    if node is None:
        return Integrator("auxiliaries")
    kind, inner = read.one_of(node, "integrator", ("history", "bath"), ("auxiliaries", "history"))
    if kind != "auxiliaries" and (kernel.particles is not None or kernel.depends_on_position):
        what = "'particles'" if kernel.particles is not None else "'profile'"
        raise read.error(node, f"'integrator' {kind} does not go with {what} in the kernel; choose auxiliaries.")
    if kind != "auxiliaries" and kernel.kernel.coordinates is not None:
        raise read.error(node, f"'integrator' {kind} is for kernels of single coordinates; choose auxiliaries.")
    if kind == "history" and inner is not None:
        values = read.section(inner, "history", ("window",))
        return Integrator("history", window=read.number(values["window"], "window", "ps", above=0))
    if kind == "bath":
        if masses.ndim:
            raise read.error(node, "'integrator' bath takes one mass for all particles; give 'mass' as a number.")
        values = read.section(inner, "bath", ("oscillators", "highest"), ("rule",))
        rules = ("midpoint", "logarithmic", "equal")
        return Integrator(
            "bath",
            oscillators=read.integer(values["oscillators"], "oscillators", least=1),
            highest=read.number(values["highest"], "highest", "1/ps", above=0),
            rule=read.word(values["rule"], "rule", rules) if "rule" in values else "midpoint",
        )
    return Integrator(kind)


def _start(read: Settings, node, trajectories: int, shape: tuple[int, ...]):
    if node is None or (node.id == "scalar" and node.value == "minimum"):
        return "minimum"
    plain = read.plain(node)
    if isinstance(plain, str):
        path = read.file(node, "start")
        values = read.build(node, "start", lambda: _positions(path))
    else:
        values = read.array(node, "start", "nm")
    whole = (trajectories, *shape)
    try:
        np.broadcast_to(values, whole)
    except ValueError:
        raise read.error(
            node, f"'start' (nm) has shape {values.shape}; expected {shape}, or {whole} with one start a trajectory."
        ) from None
    return values


def _positions(path: Path) -> np.ndarray:
    """Positions of a file, nm: an array, a text table, or the last frames of an earlier run."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as data:
                if "positions" not in data:
                    raise InputError(f"{path}: holds no 'positions'.")
                values = data["positions"][:, -1]
        else:
            values = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.loadtxt(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: holds no positions that can be read ({error}).") from None
    if not np.issubdtype(values.dtype, np.number) or not np.isfinite(values).all():
        raise InputError(f"{path}: holds values that are not finite numbers.")
    return np.asarray(values, np.float64)


def _output(read: Settings, node, shape: tuple[int, ...]) -> tuple[Any, bool]:
    if node is None:
        return "npz", True
    values = read.section(node, "output", (), ("format", "velocities"))
    kind = read.word(values["format"], "format", ("npz", "zarr", "xtc")) if "format" in values else "npz"
    if kind == "xtc" and (len(shape) != 2 or shape[1] != 3):
        raise read.error(
            values["format"], f"XTC holds particles in space: 'shape' must be [particles, 3], not {list(shape)}."
        )
    if "velocities" not in values:
        return kind, kind != "xtc"
    velocities = read.flag(values["velocities"], "velocities")
    if velocities and kind == "xtc":
        raise read.error(values["velocities"], "XTC holds no velocities; choose format npz or zarr, or velocities: no.")
    return kind, velocities

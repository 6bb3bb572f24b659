"""Parts of a config of `jaxcg gle`: the memory kernel and the potential of mean force as YAML nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...dynamics.kernels.forms import (
    AbstractMemoryKernel,
    DeltaKernel,
    PassiveKernel,
    PronyKernel,
    SumKernel,
    TabulatedKernel,
)
from ...dynamics.kernels.particle_kernels import ParticleKernels
from ...dynamics.kernels.passive_fit import fit_passive_kernel
from ...dynamics.kernels.spectral_densities import (
    AbstractSpectralDensity,
    BrownianOscillator,
    DrudeLorentz,
    PowerLaw,
    TabulatedSpectralDensity,
)
from ...dynamics.motion.position_friction import SplineProfile
from ...energy import AbstractEnergy, DoubleWell, HarmonicPotential, SumEnergy
from ...energy._arrays import leaf
from .kernels import read_energy, read_kernel, read_table
from .settings import Settings

_KERNELS = ("file", "prony", "delta", "passive", "spectral_density")
_POTENTIALS = ("harmonic", "double-well", "file")
#: Arguments of the spectral densities and their units.
_DENSITIES: dict[str, tuple[Any, dict[str, str]]] = {
    "drude-lorentz": (DrudeLorentz, {"friction": "amu/ps", "cutoff": "1/ps"}),
    "brownian-oscillator": (BrownianOscillator, {"strength": "amu/ps^2", "frequency": "1/ps", "damping": "1/ps"}),
    "power-law": (PowerLaw, {"friction": "amu/ps", "cutoff": "1/ps", "exponent": ""}),
}
#: Points of the table of a kernel that is known by its spectral density only.
_TABLE = 4000


@dataclass(frozen=True)
class KernelPart:
    """A kernel of a config.

    Arguments:
        kernel: the kernel, after a fit if one was asked for; the first one, where particles have their own.
        density: its spectral density, where the config gives that.
        notes: what to tell the user of it.
        terms: the baths that it is the sum of, and the profile of each with position-dependent friction.
        particles: kernels that differ between particles.
        every: all kernels.
    """

    kernel: AbstractMemoryKernel
    density: AbstractSpectralDensity | None = None
    notes: tuple[str, ...] = ()
    terms: tuple[tuple[AbstractMemoryKernel, SplineProfile | None], ...] = ()
    particles: ParticleKernels | None = None
    every: tuple[AbstractMemoryKernel, ...] = ()

    @property
    def depends_on_position(self) -> bool:
        """Whether a part has a profile."""
        return any(profile is not None for _, profile in self.terms)


@dataclass(frozen=True)
class PotentialPart:
    """A potential of a config.

    Arguments:
        energy: None for free motion.
        stiffness: kJ/mol/nm², if the potential is harmonic and nothing else.
        span: (lowest, highest) position, nm, between which its minimum is to be looked for.
    """

    energy: AbstractEnergy | None
    stiffness: float | None
    span: tuple[float, float]


def kernel_part(settings: Settings, node) -> KernelPart:
    """The kernel at a node: a file's name, a section with one kind of kernel, a list of such, which is their sum, or
    ``particles``, a list of kernels that are not summed.

    Raises:
        InputError: a setting is wrong; the message names file, line and key.
    """
    if node.id == "mapping" and any(key.value == "particles" for key, _ in node.value):
        return _particles(settings, node)
    return _one_kernel(settings, node)


def _particles(settings: Settings, node) -> KernelPart:
    found = settings.section(node, "kernel", ("particles",), ("types",))
    listed = found["particles"]
    if listed.id != "sequence" or not listed.value:
        raise settings.error(listed, "'particles' must be a list of kernels.")
    parts = [_one_kernel(settings, item) for item in listed.value]
    if any(part.depends_on_position for part in parts):
        raise settings.error(listed, "'profile' and 'particles' do not go together; leave one of them out.")
    types = None
    if "types" in found:
        node = found["types"]
        if node.id != "sequence":
            raise settings.error(node, "'types' must be a list with the number of a kernel, from 0, for each particle.")
        types = [settings.integer(item, "types") for item in node.value]
    every = tuple(part.kernel for part in parts)
    made = settings.build(node, "particles", lambda: ParticleKernels(every, types))
    return KernelPart(every[0], None, tuple(note for part in parts for note in part.notes), (), made, every)


def _one_kernel(settings: Settings, node) -> KernelPart:
    if node.id == "sequence":
        if not node.value:
            raise settings.error(node, "'kernel' is an empty list.")
        parts = [_one_kernel(settings, item) for item in node.value]
        total = settings.build(node, "kernel", lambda: SumKernel(*(part.kernel for part in parts)))
        notes = tuple(note for part in parts for note in part.notes)
        return KernelPart(total, None, notes, tuple(term for part in parts for term in part.terms), None, (total,))
    if node.id == "scalar":
        kernel = _kernel_file(settings, node)
        return KernelPart(kernel, None, (), ((kernel, None),), None, (kernel,))
    found = settings.section(node, "kernel", (), (*_KERNELS, "particles", "fit", "profile"))
    fit, table = found.pop("fit", None), found.pop("profile", None)
    if len(found) != 1:
        given = f"{' and '.join(found)} are given" if found else "none is given"
        raise settings.error(node, f"'kernel' takes one of {', '.join(_KERNELS)} ({given}); a list is their sum.")
    kind, inner = next(iter(found.items()))
    density = None
    if kind == "file":
        kernel = _kernel_file(settings, inner)
    elif kind == "prony":
        kernel = _prony(settings, inner)
    elif kind == "delta":
        friction = settings.array(inner, "delta", "amu/ps")
        if friction.ndim == 0 and friction < 0:
            raise settings.error(inner, f"'delta' (amu/ps) is a friction and must not be negative, not {friction:g}.")
        kernel = settings.build(inner, "delta", lambda: DeltaKernel(leaf(friction)))
    elif kind == "passive":
        names = {"couplings": "amu^(1/2)/ps", "skew": "1/ps", "damping": "ps^(-1/2)"}
        values = settings.section(inner, "passive", names)
        arrays = [leaf(settings.array(values[name], name, unit)) for name, unit in names.items()]
        kernel = settings.build(inner, "passive", lambda: PassiveKernel(*arrays))
    else:
        density, kernel = _spectral_density(settings, inner)
    kernel, notes = _fitted(settings, kernel, fit)
    profile = None if table is None else _from_file(settings, table, "profile", _profile)
    return KernelPart(kernel, density, notes, ((kernel, profile),), None, (kernel,))


def potential_part(settings: Settings, node) -> PotentialPart:
    """The potential at a node: ``none``, a file's name, a section with one kind, or a list of such: their sum.

    Raises:
        InputError: a setting is wrong; the message names file, line and key.
    """
    if node.id == "sequence":
        parts = [potential_part(settings, item) for item in node.value]
        energies = tuple(part.energy for part in parts if part.energy is not None)
        if len(energies) < 2:
            raise settings.error(node, "'potential' as a list is a sum; it needs two or more.")
        # Springs about different centres are one spring too.
        springs = [part.stiffness for part in parts if part.stiffness is not None]
        harmonic = sum(springs) if len(springs) == len(energies) else None
        span = min(part.span[0] for part in parts), max(part.span[1] for part in parts)
        return PotentialPart(SumEnergy(energies), harmonic, span)
    if node.id == "scalar" and node.value == "none":
        return PotentialPart(None, None, (0.0, 0.0))
    if node.id == "scalar":
        kind, inner = "file", node
    else:
        kind, inner = settings.one_of(node, "potential", _POTENTIALS, ("none", "FILE"))
    if kind == "file":
        energy = _from_file(settings, inner, "potential", read_energy)
        start, width = float(energy.start), float(energy.spacing) * energy.coefficients.shape[0]
        return PotentialPart(energy, None, (start, start + width))
    if kind == "harmonic":
        values = settings.section(inner, "harmonic", ("stiffness",), ("center",))
        stiffness = settings.number(values["stiffness"], "stiffness", "kJ/mol/nm^2", above=0)
        center = settings.number(values["center"], "center", "nm") if "center" in values else 0.0
        return PotentialPart(HarmonicPotential(stiffness, center), stiffness, (center, center))
    values = settings.section(inner, "double-well", ("barrier", "half_distance"), ("center",))
    barrier = settings.number(values["barrier"], "barrier", "kJ/mol", above=0)
    half = settings.number(values["half_distance"], "half_distance", "nm", above=0)
    center = settings.number(values["center"], "center", "nm") if "center" in values else 0.0
    return PotentialPart(DoubleWell(barrier, half, center), None, (center - 2 * half, center + 2 * half))


def _prony(settings: Settings, node) -> PronyKernel:
    """Strengths c (amu/ps²) or frictions c τ (amu/ps), and times τ (ps) or rates 1/τ."""
    values = settings.section(node, "prony", (), ("strengths", "frictions", "times", "rates"))
    for one, other in (("strengths", "frictions"), ("times", "rates")):
        if (one in values) == (other in values):
            raise settings.error(node, f"'prony' takes either '{one}' or '{other}'.")
    name, unit = ("times", "ps") if "times" in values else ("rates", "1/ps")
    given = np.atleast_1d(settings.array(values[name], name, unit))
    if (given <= 0).any():
        raise settings.error(values[name], f"'{name}' ({unit}) must be above zero, not {given[given <= 0][0]:g}.")
    rates = 1 / given if name == "times" else given
    what, unit = ("strengths", "amu/ps^2") if "strengths" in values else ("frictions", "amu/ps")
    strengths = np.atleast_1d(settings.array(values[what], what, unit))
    if strengths.shape != rates.shape:
        raise settings.error(
            values[what], f"'{what}' are {strengths.size} and '{name}' are {rates.size}; give one for each term."
        )
    if what == "frictions":
        strengths = strengths * rates
    return settings.build(node, "prony", lambda: PronyKernel(leaf(strengths), leaf(rates)))


def _spectral_density(settings: Settings, node) -> tuple[AbstractSpectralDensity, AbstractMemoryKernel]:
    names = (*_DENSITIES, "table")
    every = dict.fromkeys(name for _, arguments in _DENSITIES.values() for name in arguments)
    found = settings.section(node, "spectral_density", ("kind",), (*every, "file", "duration"))
    kind = settings.word(found.pop("kind"), "kind", names)
    exact = kind in ("drude-lorentz", "brownian-oscillator")
    arguments = {"file": ""} if kind == "table" else _DENSITIES[kind][1]
    wanted = (*arguments, *(() if exact else ("duration",)))
    for name, value in found.items():
        if name not in wanted:
            raise settings.error(value, f"'{name}' is not known in a {kind} 'spectral_density'; {_list(wanted)}.")
    for name in wanted:
        if name not in found:
            raise settings.error(node, f"a {kind} 'spectral_density' needs '{name}'; {_list(wanted)}.")
    if kind == "table":

        def table(path: Path) -> AbstractSpectralDensity:
            omega, values = read_table(path, "ω (1/ps) and J(ω)/ω (amu/ps)")
            return TabulatedSpectralDensity(leaf(omega), leaf(values))

        density = _from_file(settings, found["file"], "file", table)
    else:
        numbers = [settings.number(found[name], name, unit, above=0) for name, unit in arguments.items()]
        density = _DENSITIES[kind][0](*(leaf(number) for number in numbers))
    if isinstance(density, DrudeLorentz | BrownianOscillator):
        return density, density.kernel()
    duration = settings.number(found["duration"], "duration", "ps", above=0)
    times = leaf(np.linspace(0, duration, _TABLE + 1))
    return density, TabulatedKernel(density.memory_kernel(times), leaf(duration / _TABLE))


def _fitted(settings: Settings, kernel: AbstractMemoryKernel, fit) -> tuple[AbstractMemoryKernel, tuple[str, ...]]:
    """A passive kernel in place of this one, if the config asks for that, and what to tell of it."""
    if fit is None:
        return kernel, ()
    options: dict[str, Any] = {}
    if not (fit.id == "scalar" and fit.value == "passive"):
        if fit.id == "scalar":
            raise settings.error(fit, f"'fit' is {fit.value!r}; choose passive, or give keys.")
        values = settings.section(fit, "fit", (), ("duration", "largest_order", "tolerance", "friction"))
        for name, unit in (("duration", "ps"), ("tolerance", ""), ("friction", "amu/ps")):
            if name in values:
                options[name] = settings.number(values[name], name, unit, above=0)
        if "largest_order" in values:
            options["largest_order"] = settings.integer(values["largest_order"], "largest_order", least=1)
    made = settings.build(fit, "fit", lambda: fit_passive_kernel(kernel, **options))
    note = f"kernel fitted by {made.order} auxiliaries ({made.family}), relative residual {made.residual:.2g}"
    if np.any(np.asarray(kernel.friction)):
        return SumKernel(made.kernel, DeltaKernel(kernel.friction)), (note,)
    return made.kernel, (note,)


def _profile(path: Path) -> SplineProfile:
    x, g = read_table(path, "x (nm) and g(x)")
    return SplineProfile(x, leaf(g))


def _kernel_file(settings: Settings, node) -> AbstractMemoryKernel:
    return _from_file(settings, node, "kernel", read_kernel)


def _from_file(settings: Settings, node, key: str, read):
    path = settings.file(node, key)
    return settings.build(node, key, lambda: read(path))


def _list(names: Sequence[str]) -> str:
    return f"its keys are kind, {', '.join(names)}"

"""Non-Markovian dynamics of coarse coordinates: memory kernels, the generalised Langevin equation and its inverse.

A bath has a spectral density; it gives a memory kernel Γ(t); a kernel with a Markovian embedding drives trajectories
(`GLE`), and `extract_kernel` finds the kernel of a trajectory again. Units: nm, ps, amu, kJ/mol; Γ is in amu/ps².
"""

from .extraction.correlation import Correlation, CorrelationStream, correlation, mean_square_displacement
from .extraction.correlation_fit import CorrelationFit, fit_correlations
from .extraction.extraction import ExtractedKernel, extract_kernel
from .extraction.likelihood import LikelihoodFit, fit_likelihood, log_likelihood
from .extraction.memory import Memory, memory_from_positions, memory_from_velocities
from .extraction.position_extraction import PositionMemory, position_dependent_memory
from .extraction.profile import EstimatedProfile, estimate_profile, free_energy_profile
from .extraction.separable_memory import SeparableMemory, separable_memory
from .kernels.embedding import Embedding
from .kernels.forms import AbstractMemoryKernel, DeltaKernel, PassiveKernel, PronyKernel, SumKernel, TabulatedKernel
from .kernels.noise import auxiliary_noise, colored_noise
from .kernels.particle_kernels import ParticleKernels
from .kernels.passive_fit import PassiveFit, fit_passive_kernel
from .kernels.passivity import Passivity, is_positive_real
from .kernels.spectral_densities import (
    AbstractSpectralDensity,
    BrownianOscillator,
    DrudeLorentz,
    PowerLaw,
    TabulatedSpectralDensity,
    spectral_density,
)
from .kernels.transforms import cosine_transform
from .motion.annealing import Annealing, AnnealingState, change_temperature
from .motion.base import AbstractDynamics
from .motion.bath import CaldeiraLeggett, HarmonicBath, discretize
from .motion.gle import GLE, GLEState, langevin
from .motion.history import HistoryGLE, HistoryState, history_trajectory, longest_window
from .motion.linear import LinearCorrelations, linear_correlations
from .motion.position_friction import FrictionTerm, PositionDependentGLE, SplineProfile, position_dependent_langevin
from .motion.rollout import Rollout, rollout
from .motion.simulation import Frames, Simulation, simulate
from .motion.stability import largest_stable_step, require_stable
from .observables.comparison import Comparison
from .observables.diffusion import Diffusion, diffusion_coefficient
from .observables.first_passage import (
    FirstPassage,
    Passages,
    Survival,
    first_passage_distribution,
    first_passage_times,
    passages,
    survival_function,
)
from .observables.fluctuation_dissipation import FluctuationDissipation, fluctuation_dissipation_test
from .observables.rates import (
    BarrierRate,
    barrier_rate,
    grote_hynes_frequency,
    grote_hynes_rate,
    overdamped_passage_time,
)
from .observables.reactive_flux import Transmission, transmission_coefficient
from .observables.spectra import Spectrum, friction_spectrum, model_spectrum, velocity_spectrum, wavenumbers
from .observables.validation import Validation, validate

__all__ = [
    "GLE",
    "AbstractDynamics",
    "AbstractMemoryKernel",
    "AbstractSpectralDensity",
    "Annealing",
    "AnnealingState",
    "BarrierRate",
    "BrownianOscillator",
    "CaldeiraLeggett",
    "Comparison",
    "Correlation",
    "CorrelationFit",
    "CorrelationStream",
    "DeltaKernel",
    "Diffusion",
    "DrudeLorentz",
    "Embedding",
    "EstimatedProfile",
    "ExtractedKernel",
    "FirstPassage",
    "FluctuationDissipation",
    "Frames",
    "FrictionTerm",
    "GLEState",
    "HarmonicBath",
    "HistoryGLE",
    "HistoryState",
    "LikelihoodFit",
    "LinearCorrelations",
    "Memory",
    "ParticleKernels",
    "Passages",
    "PassiveFit",
    "PassiveKernel",
    "Passivity",
    "PositionDependentGLE",
    "PositionMemory",
    "PowerLaw",
    "PronyKernel",
    "Rollout",
    "SeparableMemory",
    "Simulation",
    "Spectrum",
    "SplineProfile",
    "SumKernel",
    "Survival",
    "TabulatedKernel",
    "TabulatedSpectralDensity",
    "Transmission",
    "Validation",
    "auxiliary_noise",
    "barrier_rate",
    "change_temperature",
    "colored_noise",
    "correlation",
    "cosine_transform",
    "diffusion_coefficient",
    "discretize",
    "estimate_profile",
    "extract_kernel",
    "first_passage_distribution",
    "first_passage_times",
    "fit_correlations",
    "fit_likelihood",
    "fit_passive_kernel",
    "fluctuation_dissipation_test",
    "free_energy_profile",
    "friction_spectrum",
    "grote_hynes_frequency",
    "grote_hynes_rate",
    "history_trajectory",
    "is_positive_real",
    "langevin",
    "largest_stable_step",
    "linear_correlations",
    "log_likelihood",
    "longest_window",
    "mean_square_displacement",
    "memory_from_positions",
    "memory_from_velocities",
    "model_spectrum",
    "overdamped_passage_time",
    "passages",
    "position_dependent_langevin",
    "position_dependent_memory",
    "require_stable",
    "rollout",
    "separable_memory",
    "simulate",
    "spectral_density",
    "survival_function",
    "transmission_coefficient",
    "validate",
    "velocity_spectrum",
    "wavenumbers",
]

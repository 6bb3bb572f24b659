"""The config that `jaxcg gle --example` prints."""

#: Every key, its unit and its default.
EXAMPLE = """\
# Generalised Langevin dynamics: M x'' = -dU/dx - integral of Gamma(t-s) x'(s) ds + noise.
# Units: nm, ps, amu, kJ/mol, K. Files are looked for beside this one. Run it with:  jaxcg gle config.yaml -o out

temperature: 300            # K
time_step: 0.002            # ps
duration: 200               # ps of every trajectory; or  steps: 100000
every: 10                   # steps between the frames kept (default 1)
equilibrate: 20             # ps thrown away before the first frame (default 0)
trajectories: 8             # independent ones (default 1)
seed: 1                     # same seed, same numbers (default 0)

mass: 40                    # amu; a list gives one for each particle
shape: 1                    # coordinates of a trajectory (default); [5, 3] are five particles in space

# The memory kernel Gamma(t), amu/ps^2. One of, or a list of them, which is their sum:
#   kernel.json                        a file that `jaxcg memory` wrote
#   {file: kernel.dat, fit: passive}   two columns t (ps), Gamma; 'fit' makes auxiliaries of any kernel
#   prony: {strengths: [...], times: [...]}            sum of c exp(-t/tau): c in amu/ps^2, tau in ps
#                                                      (or frictions: c tau in amu/ps, or rates: 1/tau in 1/ps)
#   delta: 100                                         Markovian friction, amu/ps
#   passive: {couplings: [...], skew: [[...]], damping: [[...]]}
#   spectral_density: {kind: drude-lorentz, friction: 400, cutoff: 5}          amu/ps, 1/ps
#   spectral_density: {kind: brownian-oscillator, strength: 900, frequency: 8, damping: 2}
#   spectral_density: {kind: power-law, friction: 400, cutoff: 5, exponent: 1, duration: 10}
#   spectral_density: {kind: table, file: j.dat, duration: 10}                 omega (1/ps), J/omega (amu/ps)
# A section may have  profile: g.dat  besides, two columns x (nm), g: the friction depends on the position, g(x)^2 times
# the kernel. Particles with kernels of their own:  {particles: [KERNEL, KERNEL], types: [0, 0, 1]}
kernel:
  - prony: {strengths: [1200, 300], times: [0.05, 0.8]}
  - delta: 20

# The potential of mean force: none (default), a file (x in nm, u in kJ/mol: JSON or two columns), or one of
#   harmonic: {stiffness: 500, center: 0}              kJ/mol/nm^2, nm
#   double-well: {barrier: 8, half_distance: 0.2, center: 0}   minima at center +- half_distance
# or a list of them, which is their sum. It acts on every coordinate.
potential:
  double-well: {barrier: 8, half_distance: 0.2}

# auxiliaries (default): exact for kernels that have auxiliary variables
# history: {window: 2}      any positive-real kernel, summed over the last 2 ps; the noise of the run is kept in memory
# bath: {oscillators: 400, highest: 80, rule: midpoint}   explicit harmonic bath, frequencies up to 80 1/ps
integrator: auxiliaries

start: minimum              # the default; or a number or list (nm), or a file (.npy, .npz of an earlier run, text)

output: {format: npz, velocities: yes}   # npz (default), zarr, or xtc (shape [n, 3], to 1e-5 nm, no velocities)
precision: float64          # or float32
"""

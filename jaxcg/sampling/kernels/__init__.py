"""One step of a chain: Hamiltonian Monte Carlo and Langevin dynamics, written against a geometry."""

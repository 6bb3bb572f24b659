"""Files of `jaxcg check`: ensembles of beads from trajectories, tables of pair potentials and equations of state."""

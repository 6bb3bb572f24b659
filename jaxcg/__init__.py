"""jaxcg: a differentiable interface between all-atom and coarse-grained molecular models.

`jaxcg.mapping` holds the maps y = M(x), `jaxcg.energy` the potential energies U(x), `jaxcg.posterior` the distribution
p(x|y), `jaxcg.backmap` and `jaxcg.sampling` its mode and its samples, `jaxcg.io` the files.
"""

"""Moving between basins that no chain leaves by itself: temperatures and softened energies in exchange."""

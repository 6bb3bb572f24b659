"""Many frames times many chains in one batch: what `jaxcg sample` runs."""

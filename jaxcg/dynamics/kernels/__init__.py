"""Memory kernels: their forms, the baths they come from, passivity, embeddings, fits of tables, and their noise."""

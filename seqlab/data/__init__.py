"""Makes batches of fixed shape from ids. Needs no JAX."""

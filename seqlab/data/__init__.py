"""Ids to batches of fixed shape. No JAX here, but in the loader."""

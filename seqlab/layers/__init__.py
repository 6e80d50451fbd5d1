"""Arrays to arrays: what models are built from."""

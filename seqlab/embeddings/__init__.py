"""Words as vectors, by counting and by neural nets."""

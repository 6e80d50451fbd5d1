"""Files and the terminal: what every other package writes through. Needs no JAX."""

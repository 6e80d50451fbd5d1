"""seqlab: a laboratory for sequence learning in JAX/Flax."""

__version__ = '0.1.0'

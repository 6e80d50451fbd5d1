"""The registry of paper results: published numbers, and what this code measures.

An experiment names its numbers with `Row`. Nothing here needs JAX.
"""

from seqlab.results.row import Row

__all__ = ['Row']

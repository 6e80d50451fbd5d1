"""Sequences to numbers."""

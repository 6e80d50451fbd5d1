"""Finds output sequences with a model's step function."""

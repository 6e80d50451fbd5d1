"""A step function to sequences."""

"""Strings to ids and back. No JAX here."""

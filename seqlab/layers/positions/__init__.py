"""Kinds of positions, one class per file.

A kind is a subclass of `interface.Positions`, in this folder or anywhere on the Python
path. Short names are in `seqlab.layers.POSITIONS`.
"""

"""Data, a model and a loss: something to train."""

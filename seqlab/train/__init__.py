"""The machinery of training; it knows no task."""

"""Finished runs, put to use: scores, translations, comparisons."""

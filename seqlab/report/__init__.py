"""Finished runs -> tables and figures; knows of a run only what is in its folder."""

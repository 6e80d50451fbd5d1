"""The verbs of the `seqlab` command: functions without any logic, and their options.

A verb imports what it needs when it runs, so that `seqlab --help` needs no JAX.
"""

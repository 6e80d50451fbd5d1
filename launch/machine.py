"""This machine: its cores, and the settings of a process that computes on it."""

from collections.abc import Sequence
import os
import signal
import sys

from seqlab.cli import MALLOC


def environment() -> dict[str, str]:
  """What must be set before a process starts; the user's own settings stand."""
  own = {'GLIBC_TUNABLES': MALLOC} if sys.platform == 'linux' else {}
  return own | os.environ


def share(cores: Sequence[int], i: int, n: int) -> list[int]:
  """Neighbouring cores for the i-th of n; one that others have too if there are few."""
  count = len(cores)
  return list(cores[i * count // n : (i + 1) * count // n]) or [cores[i % count]]


def how_it_ended(status: int) -> str:
  """Of a process, by its exit status: 'with status 1', 'by SIGKILL'."""
  return (
    f'with status {status}' if status >= 0 else f'by {signal.Signals(-status).name}'
  )

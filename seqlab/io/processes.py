"""Processes on this machine: their cores, and how they end."""

from collections.abc import Sequence
from pathlib import Path
import signal


def share(cores: Sequence[int], i: int, n: int) -> list[int]:
  """Returns neighbouring cores for process i of n; shared ones if too few."""
  count = len(cores)
  return list(cores[i * count // n : (i + 1) * count // n]) or [cores[i % count]]


def is_suspended(process: int) -> bool:
  """Returns whether a process was stopped by a signal, and so computes nothing."""
  try:
    text = Path(f'/proc/{process}/stat').read_text('utf-8', errors='replace')
  except OSError:  # it has ended, or the system is not Linux
    return False
  return text.rpartition(')')[2].split()[0] in ('T', 't')


def how_it_ended(status: int) -> str:
  """Returns how a process ended, by its exit status: 'with status 1', 'by SIGKILL'."""
  return (
    f'with status {status}' if status >= 0 else f'by {signal.Signals(-status).name}'
  )

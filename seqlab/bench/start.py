"""Seconds from the command to the end of the first training step."""

import os
import subprocess
import sys
import tempfile

from seqlab.bench.measure import Row, Subject, timed


def measure_start(subject: Subject) -> list[Row]:
  """Starts a training of one step twice: with empty caches, then with full ones."""
  rows = []
  with tempfile.TemporaryDirectory() as cache:
    environment = os.environ | {'SEQLAB_CACHE': cache, 'PYTHONUNBUFFERED': '1'}
    for name, note in (
      ('cold', 'empty caches'),
      ('warm', 'compilations and data in the cache'),
    ):
      with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-m', 'seqlab.cli', 'train', subject.experiment]
        command += ['--workdir', folder, '--config.steps=1']
        seconds = _seconds_until('first step', command, environment)
      rows.append(Row(f'command to first step, {name}', seconds, 's', note))
  return rows


def _seconds_until(
  beginning: str, command: list[str], environment: dict[str, str]
) -> float:
  """Runs a command; returns the seconds until it prints a line that begins so.

  Raises:
    RuntimeError: it printed no such line; with the last lines that it did print.
  """
  printed: list[str] = []
  with subprocess.Popen(
    command,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:

    def read() -> bool:
      for line in process.stdout:
        printed.append(line)
        if line.startswith(beginning):
          return True
      return False

    seconds, succeeded = timed(read)
    printed += process.stdout  # a full pipe would keep the command from ending
  if not succeeded:
    raise RuntimeError(f'{" ".join(command)} failed:\n{"".join(printed[-20:])}')
  return seconds

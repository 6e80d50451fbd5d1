"""A contender in a process of its own, with the Python of its library."""

from collections.abc import Mapping
import contextlib
import json
import math
import os
from pathlib import Path
import signal
import subprocess
import sys
from typing import Any

from seqlab.bench.baselines import serve
from seqlab.bench.turns import Load, Turn

_SECONDS = 1.0  # of a turn, at least
_LOG_LINES = 20


class Worker:
  """A process that runs `baselines/serve.py`, in a session of its own.

  Its threads cannot disturb those of another contender, since it waits for a request
  while others work. By the session, its processor time is distinguished, with that of
  processes which it starts, from that of all others.

  Attributes:
    facts: what the contender says about itself, once `wait` has returned.
  """

  def __init__(
    self,
    name: str,
    job: Mapping[str, Any],
    *,
    folder: Path,
    python: str = sys.executable,
    tunables: str | None = None,
  ):
    """Starts the process, which builds the contender.

    Args:
      name: name of the contender, for messages.
      job: see `baselines.serve`.
      folder: an empty folder, for the job and for what the process prints.
      python: path of the interpreter.
      tunables: settings of glibc's allocator; None for the usual ones.
    """
    self.name = name
    self.facts: dict[str, Any] = {}
    self._steps = 0
    self._log = folder / 'log.txt'
    path = folder / 'job.json'
    path.write_text(json.dumps(job), 'utf-8')
    environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    if tunables:
      environment['GLIBC_TUNABLES'] = tunables
    with self._log.open('wb') as log:
      self._process = subprocess.Popen(
        [python, serve.__file__, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment,
        start_new_session=True,
      )

  def wait(self) -> None:
    """Waits until the contender is built; takes a step to warm it up.

    Raises:
      RuntimeError: the process ended; with the last lines that it printed.
    """
    self.facts = self._read()['facts']
    self._ask(steps=1)

  def outputs(self) -> Any:
    """Returns what the contender computes, for comparisons."""
    return self._ask(outputs=1)['outputs']

  def turn(self) -> Turn:
    """Takes as many steps as fit into about a second; see `turns.Contender`."""
    if not self._steps:  # the step before may have compiled or allocated
      seconds = self._ask(steps=1)['seconds']
      self._steps = max(1, math.ceil(_SECONDS / seconds))
    start = Load.read(self._process.pid)
    answer = self._ask(steps=self._steps)
    others = Load.read(self._process.pid).others_since(start)
    return Turn(answer['units'] / answer['seconds'], others)

  def close(self) -> None:
    """Ends the process and those that it started."""
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)
    self._process.wait()
    for stream in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(BrokenPipeError):
        stream.close()

  def _ask(self, **request: int) -> dict[str, Any]:
    with contextlib.suppress(BrokenPipeError):  # `_read` says why the process ended
      self._process.stdin.write(json.dumps(request) + '\n')
      self._process.stdin.flush()
    return self._read()

  def _read(self) -> dict[str, Any]:
    line = self._process.stdout.readline()
    if not line:
      printed = self._log.read_text('utf-8', 'replace').splitlines()[-_LOG_LINES:]
      raise RuntimeError(f'{self.name} failed:\n' + '\n'.join(printed))
    return json.loads(line)

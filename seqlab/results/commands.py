"""Commands of seqlab that run side by side, each with a share of the cores."""

from collections.abc import Iterator, Sequence
import contextlib
import os
from pathlib import Path
import queue
import signal
import subprocess
import sys
import threading

from seqlab.io import leash
from seqlab.io.processes import share
from seqlab.text.workers import all_cores


class StoppingError(Exception):
  """Commands were asked to stop, so no new one is started."""


class Commands:
  """Runs commands of seqlab in processes, from several threads.

  Attributes:
    received: the signal that asked to stop; None if there was none.
  """

  def __init__(self, parallel: int):
    """Starts nothing yet.

    Args:
      parallel: number of commands that run at a time, each on its share of the cores.
    """
    self.received: int | None = None
    self._running: set[subprocess.Popen] = set()
    self._lock = threading.Lock()
    self._shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
    cores = all_cores()
    for i in range(parallel):
      self._shares.put(share(cores, i, parallel))
    # Several processes cannot each have most of the memory of a GPU.
    shared = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'} if parallel > 1 else {}
    self._environment = shared | os.environ

  def run(self, words: Sequence[str], log: Path | None = None) -> int:
    """Runs one command, and returns its exit status.

    Args:
      words: words of the command after `seqlab`.
      log: file to which its output is added; None shows it.

    Raises:
      StoppingError: a signal came before it started or while it ran.
    """
    cores = self._shares.get()
    try:
      with contextlib.ExitStack() as stack:
        output = stack.enter_context(open(log, 'ab')) if log else None
        process = self._start(words, output, cores)
        status = process.wait()
        with self._lock:
          self._running.discard(process)
    finally:
      self._shares.put(cores)
    if self.received is not None and status:
      raise StoppingError
    return status

  def _start(self, words: Sequence[str], output, cores: list[int]) -> subprocess.Popen:
    command = leash.leashed([sys.executable, '-m', 'seqlab.cli', *words])
    with self._lock:
      if self.received is not None:
        raise StoppingError
      process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output and subprocess.STDOUT,
        env=self._environment,
        start_new_session=True,  # ctrl-C reaches this process, which passes it on
      )
      self._running.add(process)
    if self.received is not None:  # while it was being started
      self._send(process, signal.SIGTERM)
    if hasattr(os, 'sched_setaffinity'):  # before JAX counts the cores
      with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(process.pid, cores)
    return process

  def _receive(self, number: int, _) -> None:
    """Handles a signal: the first one stops the commands, the second one kills them."""
    # Without the lock, which the interrupted code may hold.
    send = signal.SIGTERM if self.received is None else signal.SIGKILL
    self.received = number
    for process in [*self._running]:
      self._send(process, send)

  @staticmethod
  def _send(process: subprocess.Popen, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
      os.killpg(process.pid, number)

  @contextlib.contextmanager
  def handle_signals(self) -> Iterator[None]:
    """Passes SIGTERM and ctrl-C on to the commands inside of the block."""
    numbers = signal.SIGTERM, signal.SIGINT
    before = {number: signal.signal(number, self._receive) for number in numbers}
    try:
      yield
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)

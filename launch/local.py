r"""Trains one experiment in several processes on this machine.

  python -m launch.local --processes 2 experiments/agreement/transformer.py \
    --workdir runs/two --config.seed=1

Each process has a share of the devices and cores and computes its rows of every batch.
Process 0 writes the run's folder. logs/process-N.log in it keeps the output of process
N (of a run in a bucket: $SEQLAB_CACHE/logs/ on this machine).

Options that are not known here are passed to `seqlab train`. On SIGTERM all processes
write a checkpoint at the same step; the exit status is then 75, as after
`seqlab train`. SIGHUP, which is sent when a terminal closes, does the same, unless
nohup ignores it. If one process dies, or this command does, the others are stopped. The
same command resumes the run.
"""

import argparse
from collections.abc import Sequence
import contextlib
import os
from pathlib import Path
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

from launch.machine import environment
from launch.options import Parser, port, positive
from seqlab.io import leash
from seqlab.io.processes import how_it_ended, is_suspended, share
from seqlab.io.secrets import hide_urls, scrub
from seqlab.text.download import cache_dir
from seqlab.text.remote import is_remote
from seqlab.text.workers import all_cores

# Seconds within which the other processes have to end once one has ended: after a
# failure, enough to report which process did not answer; else, for the last checkpoint.
_FAILED, _DONE = 15.0, 120.0
_SUSPENDED = 5.0  # seconds that a process may be suspended before that is reported
_REFUSALS = (ValueError, OSError, RuntimeError)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status, 75 if it should be started again."""
  args, rest = _parser().parse_known_args(argv)
  command = ['train', args.experiment, '--workdir', args.workdir, *rest]
  command = [sys.executable, '-m', 'seqlab.cli', *command]
  n = args.processes
  try:
    number = args.port or _free_port()
    settings = [
      cluster_settings(i, n, args.devices_per_process, number) for i in range(n)
    ]
    if args.dry_run:
      for process_settings in settings:
        words = (f'{name}={value}' for name, value in process_settings.items())
        print(shlex.join(['env', *words, *map(hide_urls, command)]))
      return 0
    _check_port(number)
    logs = logs_of(args.workdir)
    logs.mkdir(parents=True, exist_ok=True)
    return Processes(command, settings, logs).run()
  except _REFUSALS as error:
    print(f'launch.local: {scrub(str(error))}', file=sys.stderr)
    return 1


def logs_of(workdir: str) -> Path:
  """Returns the folder of the logs: in the run's, or for a bucket on this machine."""
  if is_remote(workdir):
    return cache_dir() / 'logs' / workdir.replace('://', '/')
  return Path(workdir) / 'logs'


def cluster_settings(i: int, n: int, devices: int, port: int) -> dict[str, str]:
  """Returns the variables by which process i of n finds the others and its devices."""
  address = f'127.0.0.1:{port}'
  return {
    'JAX_COORDINATOR_ADDRESS': address,
    'JAX_COORDINATOR_BIND_ADDRESS': address,  # else other machines could connect too
    'JAX_NUM_PROCESSES': str(n),
    'JAX_PROCESS_ID': str(i),
    # Which accelerators it uses, and as how many devices its CPU counts.
    'JAX_LOCAL_DEVICE_IDS': ','.join(map(str, range(i * devices, (i + 1) * devices))),
    'JAX_NUM_CPU_DEVICES': str(devices),
  }


class Processes:
  """The processes of one run, monitored until the last has ended."""

  def __init__(
    self, command: Sequence[str], settings: Sequence[dict[str, str]], logs: Path
  ):
    """Starts nothing yet; process i runs `command` with `settings[i]`."""
    self._command, self._settings, self._logs = command, settings, logs
    self._running: dict[int, subprocess.Popen] = {}
    self._ended: dict[int, int] = {}  # process -> exit status
    self._readers: list[threading.Thread] = []
    self._suspended: dict[int, float] = {}  # process -> when that was first seen
    self._reported: set[int] = set()
    self._stop_requested = False

  def run(self) -> int:
    """Starts them, waits for them, and returns an exit status."""
    before = {
      signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: self._request_stop())
    }
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup sets
      before[signal.SIGHUP] = signal.signal(
        signal.SIGHUP, lambda *_: self._request_stop()
      )
    try:
      for i, settings in enumerate(self._settings):
        self._start(i, settings)
      if self._stop_requested:
        self._request_stop()  # of processes that had not started then
      self._watch()
      self._kill()
      return self._exit_status()
    except KeyboardInterrupt:
      print('\nlaunch.local: interrupted', file=sys.stderr)
      return 130
    finally:
      self._kill()
      for number, handler in before.items():
        signal.signal(number, handler)

  def _start(self, i: int, settings: dict[str, str]) -> None:
    """Starts process i, and a thread that logs its output."""
    process = subprocess.Popen(
      leash.leashed(self._command),
      stdin=subprocess.DEVNULL,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      env=environment() | settings,
      start_new_session=True,  # Ctrl-C reaches this process, which then ends them
    )
    self._running[i] = process
    if hasattr(os, 'sched_setaffinity'):  # before JAX counts the cores
      cores = share(all_cores(), i, len(self._settings))
      with contextlib.suppress(ProcessLookupError):
        os.sched_setaffinity(process.pid, cores)
    reader = threading.Thread(target=self._log_output, args=(i, process), daemon=True)
    reader.start()
    self._readers.append(reader)

  def _log_output(self, i: int, process: subprocess.Popen) -> None:
    """Writes the output of a process to its log, and prints that of process 0."""
    with process.stdout, contextlib.ExitStack() as stack:
      log = None
      # Neither a full disk nor a closed terminal may end this loop: a process whose
      # output is not read blocks.
      with contextlib.suppress(OSError):
        log = stack.enter_context(open(self._log(i), 'ab', buffering=0))
      for line in process.stdout:
        with contextlib.suppress(OSError):
          if log:
            log.write(line)
        if i == 0:
          with contextlib.suppress(OSError):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

  def _log(self, i: int) -> Path:
    return self._logs / f'process-{i}.log'

  def _watch(self) -> None:
    """Waits until all have ended, or some run for too long after another has ended."""
    until = float('inf')
    while self._running and time.monotonic() < until:
      for i, process in list(self._running.items()):
        if process.poll() is not None:
          self._ended[i] = process.returncode
          del self._running[i]
          failed = process.returncode not in (0, os.EX_TEMPFAIL)
          until = min(until, time.monotonic() + (_FAILED if failed else _DONE))
      self._report_suspended()
      time.sleep(0.05)

  def _report_suspended(self) -> None:
    """Reports processes that were suspended: the others wait for them."""
    now = time.monotonic()
    for i, process in self._running.items():
      if not is_suspended(process.pid):
        self._suspended.pop(i, None)
      elif now - self._suspended.setdefault(i, now) > _SUSPENDED:
        if i not in self._reported:
          print(
            f'launch.local: process {i} is suspended, and the others wait for it: '
            f'`kill -CONT {process.pid}` lets it continue',
            file=sys.stderr,
          )
        self._reported.add(i)

  def _request_stop(self) -> None:
    """Passes SIGTERM on: the processes agree on a step after which they stop."""
    self._stop_requested = True
    for process in self._running.values():
      process.terminate()

  def _kill(self) -> None:
    for process in self._running.values():
      if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
          os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for reader in self._readers:
      reader.join()

  def _exit_status(self) -> int:
    """Returns the exit status of all; reports which process failed, and its log."""
    statuses = set(self._ended.values())
    terminated = -signal.SIGTERM  # before it could handle the signal
    good = {0, os.EX_TEMPFAIL, terminated}
    failed = {i: s for i, s in self._ended.items() if s not in good}
    if not failed and (
      terminated in statuses or (self._running and self._stop_requested)
    ):
      return os.EX_TEMPFAIL
    if not failed and not self._running:
      return max(statuses)
    host = f'on {socket.gethostname()}'
    # JAX aborts the processes that wait for one that died or does not answer. All that
    # can answer have ended by now, so one that still runs is the cause.
    aborted = all(status == -signal.SIGABRT for status in failed.values())
    if self._running and aborted:
      i = min(self._running, key=lambda i: i not in self._suspended)
      cause = f'process {i} {host} did not end after the others'
      if i in self._suspended:
        cause = f'process {i} {host} was suspended (SIGSTOP) and did not answer'
      elif failed:
        cause = f'process {i} {host} did not answer the others'
    else:
      i = min(failed, key=lambda i: (failed[i] == -signal.SIGABRT, failed[i] > 0))
      cause = f'process {i} {host} was ended {how_it_ended(failed[i])}'
      if silent := sorted({*self._suspended} & {*self._running}):
        cause += f', while process {silent[0]} was suspended (SIGSTOP)'
    print(
      f'launch.local: {cause}; all processes have ended. The last lines of '
      f'{self._log(i)} may say why. The same command resumes from the last checkpoint',
      file=sys.stderr,
    )
    return 1


def _parser() -> argparse.ArgumentParser:
  parser = Parser(
    prog='python -m launch.local',
    description='Trains one experiment in several processes on this machine.',
    epilog='Other options are passed to `seqlab train`, such as --config.seed=1.',
    allow_abbrev=False,
  )
  add = parser.add_argument
  add('experiment', metavar='EXPERIMENT', help='a file, and maybe :arguments for it')
  add('--workdir', required=True, help='folder of the run')
  add('--processes', type=positive, required=True, help='number of processes')
  text = 'accelerators of each process, or devices that its CPU counts as (1)'
  add('--devices-per-process', type=positive, default=1, help=text)
  add('--port', type=port, help='TCP port of process 0 (a free one)')
  add('--dry-run', action='store_true', help='print the commands and start nothing')
  return parser


def _check_port(number: int) -> None:
  """Raises OSError if process 0 cannot listen at a port of this machine."""
  try:
    with socket.create_server(('127.0.0.1', number)):
      pass
  except OSError as error:
    raise OSError(
      f'port {number} of this machine cannot be used ({os.strerror(error.errno)}): leave --port '
      f'out for a free one, or name another'
    ) from None


def _free_port() -> int:
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    return free.getsockname()[1]


if __name__ == '__main__':
  sys.exit(main())

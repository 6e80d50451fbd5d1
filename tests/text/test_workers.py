import itertools
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

from seqlab.text.workers import in_order


def square(x):
  if x == 13:
    raise ValueError('13 brings bad luck')
  return x * x


def process(_):
  return os.getpid()


@pytest.mark.parametrize('workers', [None, 0, 2])
def test_results_are_in_the_order_of_the_jobs(workers):
  results = list(in_order(square, iter(range(12)), workers=workers))
  assert results == [x * x for x in range(12)]


def test_only_many_jobs_start_processes():
  assert set(in_order(process, range(4))) == {os.getpid()}
  assert os.getpid() not in set(in_order(process, range(5)))


@pytest.mark.parametrize('workers', [0, 2])
def test_jobs_are_taken_from_a_stream_only_when_needed(workers):
  jobs = itertools.count()
  results = in_order(square, jobs, workers=workers)
  assert list(itertools.islice(results, 3)) == [0, 1, 4]
  results.close()
  assert next(jobs) <= 9


@pytest.mark.parametrize('workers', [0, 2])
def test_the_error_of_a_job_is_raised_in_place_of_its_result(workers):
  results = in_order(square, range(10, 20), workers=workers)
  assert list(itertools.islice(results, 3)) == [100, 121, 144]
  with pytest.raises(ValueError, match='bad luck'):
    next(results)


# Shares jobs of a given duration, and prints the ids of the processes.
SHARE = """
import functools, os, sys, time
from seqlab.text.workers import in_order

def work(seconds, job):
  time.sleep(seconds)
  return os.getpid()

if __name__ == '__main__':
  quick = in_order(functools.partial(work, 0.01), range(10**9), workers=2)
  seen = {next(quick) for _ in range(40)}
  print(*seen, flush=True)
  if sys.argv[1] == 'busy':
    for _ in in_order(functools.partial(work, 0.3), range(10**9), workers=2):
      pass
  time.sleep(60)
"""


def children(process):
  """Processes of which `process` is the parent, or the parent's parent."""
  descendants, parents = set(), {}
  for path in Path('/proc').glob('[0-9]*'):
    try:
      fields = (path / 'stat').read_text().rpartition(')')[2].split()
    except OSError:  # the process has ended
      continue
    if fields[0] != 'Z':
      parents[int(path.name)] = int(fields[1])
  for pid, parent in parents.items():
    if process in (parent, parents.get(parent)):
      descendants.add(pid)
  return descendants


def alive(pid):
  try:
    state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
  except FileNotFoundError:
    return False
  return state != 'Z'


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
@pytest.mark.parametrize('state', ['idle', 'busy'])
def test_processes_end_with_the_one_that_started_them(tmp_path, state):
  script = tmp_path / 'share.py'
  script.write_text(SHARE)
  command = [sys.executable, script, state]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    workers = {int(pid) for pid in process.stdout.readline().split()}
    time.sleep(0.5)
    everyone = workers | children(process.pid)
    process.send_signal(signal.SIGKILL)
  assert len(everyone) >= len(workers) >= 1
  deadline = time.monotonic() + 20
  while any(map(alive, everyone)) and time.monotonic() < deadline:
    time.sleep(0.05)
  left = [pid for pid in everyone if alive(pid)]
  for pid in left:
    os.kill(pid, signal.SIGKILL)
  assert not left

"""A pool of processes that returns results in the order of the jobs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
import itertools
import multiprocessing
import os
import threading
from typing import Any, TypeVar

_Job = TypeVar('_Job')
_Result = TypeVar('_Result')

_FEW = 4  # for so few jobs, starting processes takes longer than the jobs
_AHEAD = 2  # jobs per process that are queued, or whose results are not yielded yet
_function: Callable[[Any], Any]  # the function of a worker process, sent to it once


def all_cores() -> list[int]:
  """Returns the numbers of the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def machine_memory() -> int:
  """Returns the memory of this machine in bytes."""
  return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')


def in_order(
  function: Callable[[_Job], _Result],
  jobs: Iterable[_Job],
  *,
  workers: int | None = None,
) -> Iterator[_Result]:
  """Yields function(job) for every job; the result does not depend on `workers`.

  Unlike Executor.map it takes jobs from a stream only as they are worked on, so neither
  jobs nor results accumulate in memory.

  Args:
    function: a picklable function; it is sent to each process once.
    jobs: picklable jobs; a stream of them may be larger than memory.
    workers: number of processes; None decides by the number of jobs, 0 uses none.
  """
  jobs = iter(jobs)
  if workers is None:
    first = list(itertools.islice(jobs, _FEW + 1))
    workers = (os.cpu_count() or 1) if len(first) > _FEW else 0
    jobs = itertools.chain(first, jobs)
  if not workers:
    yield from map(function, jobs)
    return
  context = multiprocessing.get_context('spawn')  # forks and threads do not mix
  pool = ProcessPoolExecutor(workers, context, _start, (function,))
  waiting: deque[Future] = deque()
  try:
    for job in jobs:
      waiting.append(pool.submit(_run, job))
      if len(waiting) > _AHEAD * workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    pool.shutdown(cancel_futures=True)


def _start(function: Callable[[Any], Any]) -> None:
  global _function
  _function = function
  end_with_parent()


def end_with_parent() -> None:
  """Ends this process after its parent has died, even by SIGKILL.

  A process of a pool waits for jobs on a pipe whose other end it also holds, so without
  this it would wait forever.
  """
  parent = multiprocessing.parent_process()

  def wait() -> None:
    parent.join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _run(job: Any) -> Any:
  return _function(job)

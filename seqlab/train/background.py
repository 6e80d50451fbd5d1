"""Compiles programs in a thread, one after the other, while the run goes on."""

from collections.abc import Callable, Hashable, Iterable
import threading
from typing import Any

from jax._src.config import trace_context  # has no public interface

from seqlab.train.compile_counter import uncounted

_POLL_SECONDS = 0.1  # between questions whether to stop waiting
_THREAD = 'seqlab-compile'


class BackgroundCompiler:
  """Compiles programs in the order in which they are needed.

  One thread suffices: XLA itself divides the compilation of a program among all cores.
  A compilation cannot be interrupted. After `close` the thread ends with the program
  that it is compiling.

  Contexts of JAX, such as `jax.default_matmul_precision`, hold in one thread only. If
  `start` is called inside one, the thread ends at once, and `wait` compiles.
  """

  def __init__(self, jobs: dict[Hashable, Callable[[], Any]], *, reorder: bool = True):
    """Takes the programs; `start` starts to compile them.

    Args:
      jobs: name of a program -> function that compiles it, in the order in which they
        are compiled.
      reorder: whether `prefer` and `wait` change this order. Compilers of several
        processes that exchange results need the same order in all of them.
    """
    self._jobs, self._reorder = dict(jobs), reorder
    self._results: dict[Hashable, Any] = {}
    self._error: BaseException | None = None
    self._context: Any = None
    self._is_left_to_callers = False
    self._changed = threading.Condition()
    self._thread = threading.Thread(target=self._work, name=_THREAD)

  def start(self, first: Hashable | None = None) -> None:
    """Starts to compile, with the program named `first` if there is one."""
    self._move_to_front([first])
    self._context = trace_context()
    self._thread.start()

  def _work(self) -> None:
    if trace_context() != self._context:
      self._is_left_to_callers = True
      return
    with uncounted():
      while self._compile_next():
        pass

  def _compile_next(self) -> bool:
    """Compiles one program; returns False if there is none, or after an error."""
    with self._changed:
      if not self._jobs:
        return False
      name = next(iter(self._jobs))
      compile_ = self._jobs[name]
    try:
      result, error = compile_(), None
    except BaseException as raised:  # whatever it is, the thread that waits raises it
      result, error = None, raised
    with self._changed:
      self._jobs.pop(name, None)
      self._error = error
      if error is None:
        self._results[name] = result
      self._changed.notify_all()
    return error is None

  def __contains__(self, name: Hashable) -> bool:
    """Returns whether a program is compiled."""
    return name in self._results

  def results(self, names: Iterable[Hashable]) -> list[Any]:
    """Returns the results for those of some programs that are compiled."""
    return [self._results[name] for name in names if name in self._results]

  @property
  def num_waiting(self) -> int:
    """Number of programs that are not compiled yet."""
    return len(self._jobs)

  def check(self) -> None:
    """Raises the error of the thread, if a program could not be compiled."""
    if self._error is not None:
      raise self._error

  def prefer(self, names: Iterable[Hashable]) -> None:
    """Moves programs to the front of those that wait, the first name first."""
    if self._reorder:
      self._move_to_front(names)

  def _move_to_front(self, names: Iterable[Hashable]) -> None:
    with self._changed:
      first = {name: self._jobs[name] for name in names if name in self._jobs}
      self._jobs = first | self._jobs

  def wait(
    self, name: Hashable, should_stop: Callable[[], bool] = lambda: False
  ) -> None:
    """Waits until a program is compiled, or `should_stop` returns True.

    Raises:
      BaseException: the error of the thread, if a program could not be compiled.
      RuntimeError: no such program will be compiled.
    """
    self.prefer([name])
    with self._changed:
      while name not in self._results and not should_stop():
        self.check()
        if name not in self._jobs:  # it stays there until it is compiled
          raise RuntimeError(
            f'the program {name!r} will not be compiled: it is not among `jobs`, or '
            f'`close` was called before it was compiled; wait for it before `close`'
          )
        if self._is_left_to_callers:
          self._compile_here()
        else:
          self._changed.wait(_POLL_SECONDS)

  def _compile_here(self) -> None:
    with uncounted():
      self._compile_next()

  def close(self) -> None:
    """Leaves out the programs that are not being compiled yet; waits for nothing."""
    with self._changed:
      self._jobs.clear()


def is_compiling() -> bool:
  """Returns whether a thread of this process still compiles."""
  return any(thread.name == _THREAD for thread in threading.enumerate())

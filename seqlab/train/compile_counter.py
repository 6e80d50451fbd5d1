"""A counter of compilations, which tells whether a run declared all its shapes."""

from collections.abc import Iterator
import contextlib
import threading

import jax

_thread = threading.local()


@contextlib.contextmanager
def uncounted() -> Iterator[None]:
  """Leaves out what this thread compiles inside the block, since it was declared."""
  before = getattr(_thread, 'is_uncounted', False)
  _thread.is_uncounted = True
  try:
    yield
  finally:
    _thread.is_uncounted = before


class CompileCounter:
  """Counts what is compiled in this process from the moment that it is made.

  JAX calls the listener in the thread that compiles, which `uncounted` relies on.
  """

  _total = 0
  _is_listening = False

  def __init__(self):
    if not CompileCounter._is_listening:  # JAX keeps a listener until the process ends
      CompileCounter._is_listening = True
      jax.monitoring.register_event_duration_secs_listener(CompileCounter._listen)
    self._before = CompileCounter._total

  @staticmethod
  def _listen(event: str, duration: float, **kwargs) -> None:
    del duration, kwargs
    if event == '/jax/core/compile/backend_compile_duration':
      CompileCounter._total += not getattr(_thread, 'is_uncounted', False)

  @property
  def count(self) -> int:
    """Number of compilations so far; the steps of a run should need 0."""
    return CompileCounter._total - self._before

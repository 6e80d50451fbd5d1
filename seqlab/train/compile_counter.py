"""A counter of compilations, which tells whether a run declared all its shapes."""

import jax


class CompileCounter:
  """Counts what is compiled in this process from the moment that it is made."""

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
    CompileCounter._total += event == '/jax/core/compile/backend_compile_duration'

  @property
  def count(self) -> int:
    """Number of compilations so far; the steps of a run should need 0."""
    return CompileCounter._total - self._before

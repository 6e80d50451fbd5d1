"""Traces of a few steps, for Perfetto (https://ui.perfetto.dev) and XProf."""

from collections.abc import Callable, Mapping
import contextlib
from pathlib import Path
from typing import Any

import jax

from seqlab.train import processes


class Profile:
  """Traces the steps from `profile[0]` to `profile[1]` of an experiment.

  A run that resumes inside of this range traces the rest of it. Among several processes
  the first one traces its devices. The trace has no Python functions, whose recording
  would slow the steps. A trace that fails gives a message, and the run continues. A
  context manager, which also ends a trace that the end of the run cuts short.
  """

  def __init__(
    self, config: Mapping[str, Any], folder: Path, say: Callable[[str], None]
  ):
    """Traces nothing yet.

    Args:
      config: a resolved experiment.
      folder: folder of the run on this machine.
      say: called with a message that names the files.
    """
    steps = config.get('profile') if processes.is_primary() else None
    self._first, self._last = steps or (0, 0)  # steps are counted from 1
    self._folder, self._say = folder / 'profile', say
    self._started: int | None = None  # the first step of the trace that is being taken

  def __enter__(self) -> 'Profile':
    return self

  def __exit__(self, *_) -> None:
    if self._started is not None:
      self._end(f'steps from {self._started:,} to the end of the run')

  def begins(self, step: int) -> bool:
    """Returns whether `begin` is to be called before a step."""
    return self._started is None and self._first <= step <= self._last

  def begin(self, step: int) -> None:
    """Starts the trace; the steps before have been waited for."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with self._explain_errors():
      jax.profiler.start_trace(
        self._folder, create_perfetto_trace=True, profiler_options=options
      )
      self._started = step

  def step(self, step: int) -> contextlib.AbstractContextManager:
    """Returns a context in which a step is dispatched; names it in the trace."""
    if self._started is None:
      return contextlib.nullcontext()
    return jax.profiler.StepTraceAnnotation('train', step_num=step)

  def ends(self, step: int) -> bool:
    """Returns whether `end` is to be called after a step."""
    return self._started is not None and step >= self._last

  def end(self, step: int) -> None:
    """Writes the trace; the step has been waited for."""
    self._end(f'steps {self._started:,} to {step:,}')

  def _end(self, content: str) -> None:
    self._started, self._last = None, 0
    with self._explain_errors():
      jax.profiler.stop_trace()
      traces = self._folder.glob('plugins/profile/*/perfetto_trace.json.gz')
      file = max(traces, key=lambda path: path.stat().st_mtime)
      self._say(
        f'profile: {content} are in {file}: open it at https://ui.perfetto.dev, or '
        f'run `xprof {self._folder}` (pip install xprof)'
      )

  @contextlib.contextmanager
  def _explain_errors(self):
    try:
      yield
    except Exception as error:  # whatever it is, the run continues
      self._started, self._last = None, 0
      self._say(f'profile: there is no trace: {type(error).__name__}: {error}')


def check_profile(config: Mapping[str, Any], steps: int) -> None:
  """Raises ValueError if an experiment traces steps that the run does not have."""
  profile = config.get('profile')
  if profile is not None and profile[1] > steps:
    raise ValueError(
      f'profile is {tuple(profile)}, and the run has {steps:,} steps: choose two steps '
      f'from 1 to {steps:,}'
    )

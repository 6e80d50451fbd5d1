"""A run in progress: its files, its history, and the step that it has reached."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import functools
import os
from typing import Any

from seqlab.config import call
from seqlab.train import processes
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.definition import Definition
from seqlab.train.evaluation import measure, save_samples
from seqlab.train.fallback import DivergenceError, Fallback
from seqlab.train.folder import RunFolder
from seqlab.train.history import History
from seqlab.train.retry import GaveUp, may_pass, remedy, retry
from seqlab.train.state import TrainState
from seqlab.train.timetable import Timetable
from seqlab.train.warm_start import WarmStart
from seqlab.train.writer import NoWriter, Progress, Writer
from seqlab.types import Variables


class Session:
  """One run in progress: its folder, rows of metrics, checkpoints and history.

  A session knows neither task nor devices: an engine computes the steps, and `loop`
  passes their metrics and states to the session. It is a context manager that closes
  all files.

  Attributes:
    folder: folder of the run.
    config: the run's experiment.
    timetable: when to evaluate and to save.
    evaluators: name -> evaluator; the sessions of a population share them.
    history: what is kept in checkpoints besides the state.
    start: the step that the run resumes at; 0 for a fresh one.
    over: whether the run has taken its last step.
    error: the error that ended the run; None if it reached its end.
  """

  def __init__(
    self,
    folder: RunFolder,
    timetable: Timetable,
    evaluators: Mapping[str, Any],
    *,
    name: str = '',
    on_end: Callable[[Exception | None], None] = lambda error: None,
    warm_start: WarmStart | None = None,
  ):
    """Opens the files of the run, and writes `config.json`.

    Args:
      folder: folder of the run, locked.
      timetable: steps at which to evaluate and to save.
      evaluators: name -> evaluator.
      name: shown before each message, where several sessions share a terminal.
      on_end: called once when the run is over, with `error`.
      warm_start: state that the run begins with; None for a fresh one.

    Raises:
      OSError: a file cannot be opened.
      ValueError: an option is wrong.
    """
    self.folder, self.config = folder, folder.config
    self.timetable, self.evaluators = timetable, evaluators
    self.history = History()
    self.start, self.over, self.error = 0, False, None
    self._on_end, self._closed, self._warm_start = on_end, False, warm_start
    self._fallback = Fallback(factor=1.0, times=0)
    if self.config['fallback']:
      self._fallback = call(Fallback, self.config['fallback'], 'fallback')
    # First of all that may fail, since `say` needs it.
    log = folder.log if processes.is_primary() else os.devnull
    self.progress = Progress(log, total=timetable.steps)
    self.progress.name = name
    self._checkpoints = Checkpoints(
      folder.checkpoints,
      keep_latest=self.config['keep_latest'],
      keep_best=self.config['keep_best'],
      keep_best_n=self.config['keep_best_n'],
      best_mode=self.config['best_is'],
      retries=self.config['retries'],
      say=self.say,
    )
    if processes.is_primary():
      folder.write_config()
    self._upload()
    self._writer: Writer | NoWriter = NoWriter()

  def say(self, text: str) -> None:
    """Shows a message and writes it to the run's log."""
    self.progress.message(text)

  @property
  def hyper(self) -> dict[str, float | None]:
    """The traced hyperparameters, with the learning rate after falling back."""
    hyper, times = self.config['hyper'], self.history.fallbacks
    if not times:
      return dict(hyper)
    return hyper | {'peak': self._fallback.peak(hyper['peak'], times)}

  @property
  def out_of_time(self) -> bool:
    """Whether the run has trained for as many minutes as the experiment allows."""
    minutes = self.config['minutes']
    return minutes is not None and self.history.minutes >= minutes

  @property
  def out_of_patience(self) -> bool:
    """Whether too many evaluations have passed since the best one."""
    patience = self.config['patience']
    return patience is not None and self.history.bad >= patience

  def takes(self, step: int) -> bool:
    """Returns whether the run takes a step, counted from 1."""
    return not self.over and self.start < step

  # How a run begins, and how it ends.

  def restore(self, definition: Definition) -> TrainState | None:
    """Returns the newest checkpoint's state, or a fresh one.

    Returns:
      The state; None if the run had reached its end before, so that it is over.
    """
    state = self._restore(definition)
    if self.start:
      self.say(
        f'resuming from the checkpoint of step {self.start:,} of '
        f'{self.timetable.steps:,}'
      )
    if self.start < self.timetable.steps and not (
      self.out_of_time or self.out_of_patience
    ):
      return state
    self.finish()
    return None

  def _restore(self, definition: Definition) -> TrainState:
    saved = self._checkpoints.restore({'state': definition.abstract, 'meta': None})
    if saved is None:
      self.start, self.history = 0, History()
      return self._begin(definition)
    self.start, parts = saved
    self.history = History.from_checkpoint(parts['meta'])
    return parts['state']

  def _begin(self, definition: Definition) -> TrainState:
    """Returns the state of step 0."""
    seed = self.config['seed']
    if self._warm_start is None:
      return definition.init(seed)
    state, report = self._warm_start.begin(seed)
    if report is not None:
      for message in report.messages:
        self.say(message)
      if processes.is_primary():
        report.write(self.folder)
    return state

  def open_writer(self) -> None:
    """Opens the files of rows; cuts off the rows that come after `start`."""
    if processes.is_primary():
      self._writer = Writer(self.folder, start_step=self.start, say=self.say)

  @contextlib.contextmanager
  def isolate_errors(self) -> Iterator[None]:
    """Ends this session, and no other one, after an error inside the block.

    Raises:
      DivergenceError: training diverged, and the run has to fall back.
    """
    try:
      yield
    except DivergenceError:
      raise
    except Exception as error:  # any error: the other sessions continue
      self.finish(error)

  def finish(self, error: Exception | None = None) -> None:
    """Ends the run, after an error if there was one, and closes its files."""
    self.over, self.error = True, error
    try:
      self.close()
    except Exception as late:
      self.error = self.error or late
    self._on_end(self.error)

  def close(self) -> None:
    """Waits for checkpoints that are being written, and closes the files."""
    if self._closed:
      return
    self._closed = True
    with contextlib.ExitStack() as stack:
      stack.callback(self._upload)  # runs last: the log gets its last lines before
      stack.callback(self.progress.close)
      stack.callback(self._checkpoints.close)
      stack.callback(self._writer.close)

  def __enter__(self) -> 'Session':
    return self

  def __exit__(self, kind: type | None, *_) -> None:
    try:
      self.close()
    except Exception:
      if kind is None:  # else the first error is the one to report
        raise

  # Metrics of a step.

  def write_row(self, step: int, row: Mapping[str, float]) -> None:
    """Writes the metrics of a step.

    Raises:
      DivergenceError: training diverged, and the run has to fall back.
      FloatingPointError: training diverged, and the run ends.
    """
    self.history.minutes += row['speed/seconds'] / 60
    self._writer.write(step, row)
    self.progress.update(step, row)
    try:
      self._fallback.check(step, self.config['seed'], row)
    except DivergenceError as error:
      if self.history.fallbacks < self._fallback.times:
        raise
      raise FloatingPointError(f'{error}. {self._advice()}') from None

  def _advice(self) -> str:
    self._checkpoints.wait()
    steps, times = self._saved_steps(), self.history.fallbacks
    back = f'It fell back {times} times before. ' if times else ''
    stays = f'The last good checkpoint, of step {steps[-1]:,}, stays. ' if steps else ''
    return (
      f'{back}{stays}Lower hyper.peak, lengthen schedule.warmup or set optimizer.clip, '
      f'in another workdir, or with --force to continue in this one'
    )

  def _saved_steps(self) -> list[int]:
    return processes.broadcast_from_primary(self._checkpoints.steps())

  def fall_back(self, diverged: DivergenceError, definition: Definition) -> TrainState:
    """Returns the state of the last good checkpoint, from which the run resumes.

    The learning rate is smaller from there on; see `hyper`.
    """
    writer, self._writer = self._writer, NoWriter()
    writer.close()
    self._checkpoints.wait()
    steps = self._saved_steps()
    good = [step for step in steps if step < diverged.state]
    # SIGTERM may have left a checkpoint that an undisturbed run does not have: from
    # one that any run has, this run takes the same steps as an undisturbed one.
    regular = [step for step in good if self.timetable.has_checkpoint(step)]
    back = (regular or good or [0])[-1]
    self._checkpoints.set_aside([step for step in steps if step > back])
    minutes, times = self.history.minutes, self.history.fallbacks
    state = self._restore(definition)
    self.history.minutes, self.history.fallbacks = minutes, times + 1
    self.say(
      f'{diverged}: back to step {self.start:,}, with a peak of '
      f'{self.hyper["peak"]:.4g} ({times + 1} of {self._fallback.times} times)'
    )
    return state

  # Evaluation and checkpoints.

  def due(self, step: int, *, last: bool) -> list[str]:
    """Returns the evaluators that run after a step, which are all after the last one."""
    return [*self.evaluators] if last else self.timetable.due(step)

  def evaluate(
    self, step: int, variables: Variables, *, last: bool
  ) -> dict[str, float]:
    """Runs the evaluators that are due, all of them after the last step.

    Returns:
      Their metrics, and the seconds of each; empty if no evaluator is due.
    """
    metrics: dict[str, float] = {}
    for name in self.due(step, last=last):
      evaluator = self.evaluators[name]
      values = measure(name, evaluator, variables)
      metrics |= values
      shown = (f'{k} {v:.4g}' for k, v in values.items() if k.startswith(f'{name}/'))
      self.say(f'step {step:,}: {", ".join(shown)}')
      path = f'{self.folder.samples}/{name}-{step:08d}'
      self._retry(functools.partial(save_samples, evaluator, path), 'samples')
      self._writer.show(step, name, evaluator)
    if metrics:
      self._writer.write(step, metrics)
    if (best := self.config['keep_best']) in metrics:
      self.history.add(metrics[best], -1.0 if self.config['best_is'] == 'min' else 1.0)
    return metrics

  def save(
    self, step: int, state: TrainState, metrics: Mapping[str, float], *, wait: bool
  ) -> None:
    """Saves a checkpoint, and all rows before it.

    Args:
      step: updates made so far.
      state: state of the run.
      metrics: what was measured at this step.
      wait: until it is written.

    Raises:
      OSError: the disk stayed full; names the last good step.
      ValueError: an evaluator did not measure what `keep_best` names.
    """
    # First the rows: a resumed run removes those after its checkpoint, but could not
    # recover any from before it.
    self._retry(self._writer.flush, 'metrics.jsonl')
    self._retry(self._upload, 'files')
    parts = {'state': state, 'meta': dataclasses.asdict(self.history)}
    indirect = self.folder.checkpoints_locally_first
    self._checkpoints.save(step, parts, dict(metrics), wait=wait or indirect)
    if indirect:
      self._retry(self._upload, f'the checkpoint of step {step:,}')
    self._check_best(metrics)  # after saving, since it may end the run

  def _check_best(self, metrics: Mapping[str, float]) -> None:
    best = self.config['keep_best'] or ''
    evaluator = best.partition('/')[0]
    if f'speed/{evaluator}_seconds' in metrics and best not in metrics:
      raise ValueError(f'keep_best is {best!r}, and there are {", ".join(metrics)}')

  def _retry(self, action: Callable[[], object], content: str) -> None:
    """Writes something of the run, and tries again while the disk is full."""
    try:
      content, tries = f'{content} in {self.folder.name}', self.config['retries']
      retry(lambda _: action(), content, tries=tries, say=self.say)
    except GaveUp as error:
      raise OSError(
        f'{error}; the last good checkpoint is of step {self._checkpoints.latest}. '
        f'{remedy(may_pass(error))}'
      ) from error

  def _upload(self) -> None:
    """Uploads what is new, if the folder is in a bucket."""
    if processes.is_primary():
      self.folder.upload()

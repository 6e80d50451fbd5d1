"""The training loop: dispatch, log, evaluate, save."""

from collections.abc import Callable, Mapping
import contextlib
import dataclasses
import errno
import math
import os
from pathlib import Path
import time

import jax
import numpy as np

from seqlab.config import call, steps_of, task_of, with_defaults
from seqlab.data.loader import feed
from seqlab.io import files
from seqlab.tasks.interface import data_report, tokens_per_step
from seqlab.text.remote import is_remote
from seqlab.train import processes
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.checks import check_experiment, check_metric, make_evaluators
from seqlab.train.compile_counter import CompileCounter
from seqlab.train.device import peak_flops
from seqlab.train.engines import make_engine
from seqlab.train.fallback import DivergenceError, Fallback
from seqlab.train.folder import RunFolder, open_folder
from seqlab.train.mesh import batch_sharding
from seqlab.train.overview import overview
from seqlab.train.retry import GaveUp, lasting, may_pass, remedy, retry
from seqlab.train.state import TrainState
from seqlab.train.writer import NoWriter, Progress, Writer
from seqlab.types import Batch, Sums


@dataclasses.dataclass
class History:
  """What a run must remember besides its state; kept in every checkpoint.

  Attributes:
    best: the best value so far of the metric that chooses, None before the first.
    bad: evaluations since then.
    minutes: of training so far, over all sessions.
    fallbacks: times that training diverged and went back to a checkpoint.
  """

  best: float | None = None
  bad: int = 0
  minutes: float = 0.0
  fallbacks: int = 0

  @classmethod
  def of(cls, meta: Mapping) -> 'History':
    """Reads what a checkpoint holds.

    Raises:
      ValueError: another version of the project wrote it.
    """
    try:
      return cls(**meta)
    except TypeError:
      raise ValueError(
        f'a checkpoint holds {sorted(meta)} besides its state, and this version of '
        'seqlab does not know all of that: use the version that made the run'
      ) from None

  def add(self, value: float, sign: float) -> None:
    """Takes in one more value; `sign` is -1 where less is better. NaN is never better."""
    none = self.best is None or math.isnan(self.best)
    better = not math.isnan(value) and (none or sign * value > sign * self.best)
    self.best, self.bad = (value, 0) if better else (self.best, self.bad + 1)


def train(config: Mapping, workdir: str, *, force: bool = False) -> RunFolder:
  """Trains the experiment in `workdir`, going on from its last checkpoint if any.

  Among several processes each calls this, and process 0 writes the folder.

  Args:
    config: a resolved experiment.
    workdir: the run's folder.
    force: go on although the folder was made by a different experiment.

  Returns:
    The run's folder.

  Raises:
    ValueError: the experiment is wrong, or another one made the folder.
    FloatingPointError: training diverged; the last good checkpoint stays.
    RuntimeError: another process trains in the folder.
    OSError: the disk is full, or processes do not share the folder.
    Stopped: SIGTERM came, and a checkpoint is written if there was something to save.
  """
  try:
    with contextlib.ExitStack() as stack:
      stack.enter_context(processes.StopImmediately())
      with processes.primary_first('the folder'):
        # There already where it is not the first process that comes, and shared.
        shared = is_remote(workdir) or processes.is_primary() or Path(workdir).is_dir()
        if not shared:
          raise FileNotFoundError(
            f'process {jax.process_index()} does not see {workdir}, which process 0 '
            f'made: let --workdir be on a disk that all processes share'
          )
        folder = open_folder(workdir, with_defaults(config), force=force)
        if processes.is_primary():
          stack.enter_context(folder.lock())
          if force:
            folder.forget_inputs()
      return Run(folder).go()
  except OSError as error:
    full = error.errno == errno.ENOSPC and 'no space left for' not in str(error)
    reason = 'no space left' if full else None
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EFBIG):
      reason = lasting(error)
    if not reason:
      raise
    what = error.filename or workdir
    raise OSError(f'{reason} for {what}. {remedy(reason)}') from error


class Run:
  """One experiment on its way. `go` is the loop; the rest is what it calls."""

  def __init__(self, folder: RunFolder):
    """Makes all that the experiment names; `config.json` is kept if that went well."""
    config = folder.config
    check_experiment(config)
    task = task_of(config)
    self.fallback = Fallback(factor=1.0, times=0)
    if config['fallback']:
      self.fallback = call(Fallback, config['fallback'], 'fallback')
    if folder.by_way_of_disk and jax.process_count() > 1:
      raise ValueError(
        f'several processes can save together on gs:// or on a disk that they share, '
        f'and not in {folder.name}'
      )
    with processes.primary_first('the data'):  # and makes what is kept of them
      if not processes.is_primary():
        folder.receive()
      self.task = task.from_config(config, folder.vocabulary)
      self.data = self.task.batches('train')
      self.steps = self._steps(config['steps'])
      if processes.is_primary():
        folder.send()
    self.engine = make_engine(config, self.task, self.steps)
    self.engine.definition.check(self.data.shapes)
    evals, rows = config['evals'], batch_sharding(self.engine.definition.mesh)
    self.evaluators = make_evaluators(evals, task=self.task, sharding=rows)
    check_metric(config['keep_best'], self.evaluators)
    self._check_text(folder)
    self.every = {
      n: self._steps(e.get('every')) or self.steps for n, e in evals.items()
    }
    often = min([*self.every.values(), 1000])
    self.save_every = self._steps(config['save_every']) or often
    self.sign = -1.0 if config['best_is'] == 'min' else 1.0
    self._take(folder)

  def _check_text(self, folder: RunFolder) -> None:
    """Raises ValueError if the run in this folder began with other text."""
    if hasattr(self.task, 'check_text') and processes.is_primary():
      splits = [x['split'] for x in folder.config['evals'].values() if x.get('split')]
      self.task.check_text(splits, folder.path)

  def _take(self, folder: RunFolder) -> None:
    """Makes what keeps the run in a folder, and says there what it is."""
    self.folder, self.config, self.history = folder, folder.config, History()
    self.checkpoints = Checkpoints(
      folder.checkpoints,
      keep_latest=self.config['keep_latest'],
      keep_best=self.config['keep_best'],
      keep_best_n=self.config['keep_best_n'],
      best_mode=self.config['best_is'],
      retries=self.config['retries'],
      say=lambda text: self.progress.message(text),
    )
    if processes.is_primary():
      folder.keep_config()
      folder.send()
    log = folder.log if processes.is_primary() else os.devnull
    self.progress = Progress(log, total=self.steps)

  def go(self) -> RunFolder:
    """Trains to the end, from wherever the folder stands."""
    with contextlib.ExitStack() as stack:
      stack.push(self._send_the_rest)
      stack.callback(self.progress.close)
      stack.callback(self.checkpoints.close)
      state, start = self._begin()
      if start >= self.steps or self._out_of_time() or self._out_of_patience():
        return self.folder
      self._compile(state)
      self.progress.start(start)
      with processes.StopSignal() as self.signal:
        while diverged := self._try(state, start):
          state, start = self._fall_back(diverged)
    return self.folder

  def _try(self, state: TrainState, start: int) -> DivergenceError | None:
    """Trains to the end, or until it diverges: then says how."""
    writes = processes.is_primary()
    say = self.progress.message
    writer = Writer(self.folder, start_step=start, say=say) if writes else NoWriter()
    with contextlib.closing(writer) as self.writer:
      try:
        self._train(state, start)
      except DivergenceError as error:
        return error.with_traceback(None)  # whose frames hold the state that diverged
    return None

  def _train(self, state: TrainState, start: int) -> None:
    """Takes one step after the other until the run is over."""
    pending, self.clock = None, time.monotonic()
    batches = feed(self._batch, start, self.steps)
    for k, batch in zip(range(start, self.steps), batches, strict=True):
      state, sums = self.engine.step(state, self.engine.put(batch))
      if pending:  # written while the devices work on this step
        self._fetch(*pending)
      pending = k + 1, sums, batch
      told, over = self._told()
      last = k + 1 == self.steps or over
      if last or told or self.saved_at(k + 1):
        pending = self._fetch(*pending)
        if self.look(k + 1, state, last=last, told=told):
          return
        if told:
          raise processes.Stopped(
            f'stopped at step {k + 1:,} of {self.steps:,}, as SIGTERM asked; the '
            f'same command resumes it'
          )

  def look(self, step: int, state: TrainState, *, last: bool, told: bool) -> bool:
    """Evaluates what is due and saves; whether the run is over then."""
    due = [name for name, every in self.every.items() if last or step % every == 0]
    metrics = self._evaluate(step, state, due)
    last |= self._out_of_patience()
    self._save(step, state, metrics, wait=last or told)
    self._check_best(metrics, due)  # after saving, since it may end the run
    return last

  def saved_at(self, step: int) -> bool:
    """Whether the experiment wants a checkpoint of this step, or something measured."""
    return any(step % every == 0 for every in (self.save_every, *self.every.values()))

  def _told(self) -> tuple[bool, bool]:
    """Whether to stop after a step, and whether that is since time is used up.

    Clocks differ: it is process 0's that counts, and it tells the others.
    """
    if processes.is_primary() and self._out_of_time():
      self.signal.request()
    if not self.signal.requested():
      return False, False
    return True, processes.broadcast_from_primary(self._out_of_time())

  def _out_of_time(self) -> bool:
    minutes = self.config['minutes']
    return minutes is not None and self.history.minutes >= minutes

  def _out_of_patience(self) -> bool:
    patience = self.config['patience']
    return patience is not None and self.history.bad >= patience

  def _begin(self) -> tuple[TrainState, int]:
    """The newest checkpoint's state, or a fresh one; and its step."""
    n = sum(x.size for x in jax.tree.leaves(self.engine.definition.abstract.params))
    mesh, say = self.engine.definition.mesh, self.progress.message
    kind = mesh.devices.flat[0].device_kind
    many = jax.process_count()
    among = f' in {many} processes' if many > 1 else ''
    say(f'{self.folder.name}: {n:,} parameters, {mesh.size} x {kind}{among}')
    report = (
      f'{k} {v:,.4g}' if isinstance(v, float) else f'{k} {v:,}'
      for k, v in data_report(self.task, self.data).items()
    )
    say(f'data: {", ".join(report)}')
    for name, evaluator in self.evaluators.items():
      if evaluator.about:
        say(f'{name}: {evaluator.about}')
    if self.folder.spool:
      say(f'buckets have no locks: let no other run train in {self.folder.name}')
    state, step = self._restore()
    if step:
      say(f'resuming from the checkpoint of step {step:,} of {self.steps:,}')
    self._set_rate()
    return state, step

  def _restore(self) -> tuple[TrainState, int]:
    """The newest checkpoint's state and step, and its history; or a fresh start."""
    found = self.checkpoints.restore(
      {'state': self.engine.definition.abstract, 'meta': None}
    )
    if found is None:
      self.history = History()
      return self.engine.init(self.config['seed']), 0
    step, saved = found
    self.history = History.of(saved['meta'])
    return self.engine.join(saved['state']), step

  def _fall_back(self, diverged: DivergenceError) -> tuple[TrainState, int]:
    """Goes back to the last good checkpoint, with a smaller rate.

    Raises:
      FloatingPointError: that was done as often as the experiment wants it.
    """
    self.checkpoints.wait()
    steps = processes.broadcast_from_primary(self.checkpoints.steps())
    times, minutes = self.history.fallbacks, self.history.minutes
    if times >= self.fallback.times:
      raise FloatingPointError(f'{diverged}. {self._advice(steps)}')
    good = [step for step in steps if step < diverged.state]
    # Best to one that any run has: where SIGTERM made another one, this run shall go
    # the way of one that was not disturbed.
    back = ([step for step in good if self.saved_at(step)] or good or [0])[-1]
    self.checkpoints.set_aside([step for step in steps if step > back])
    state, step = self._restore()
    self.history.minutes, self.history.fallbacks = minutes, times + 1
    self._set_rate()
    self.compiles = CompileCounter()  # a fresh start compiles what makes the state
    self.progress.message(
      f'{diverged}: back to step {step:,}, with a peak of '
      f'{self._peak():.4g} ({times + 1} of {self.fallback.times} times)'
    )
    return state, step

  def _advice(self, steps: list[int]) -> str:
    times = self.history.fallbacks
    back = f'It fell back {times} times before. ' if times else ''
    stays = f'The last good checkpoint, of step {steps[-1]:,}, stays. ' if steps else ''
    return (
      f'{back}{stays}Lower hyper.peak, lengthen schedule.warmup or set optimizer.clip, '
      f'in another workdir, or with --force to go on in this one'
    )

  def _peak(self) -> float:
    return self.fallback.peak(self.config['hyper']['peak'], self.history.fallbacks)

  def _set_rate(self) -> None:
    """Makes the learning rate what it is after so many times falling back."""
    if not self.history.fallbacks:
      return
    self.engine.set_hyper(self.config['hyper'] | {'peak': self._peak()})

  def _compile(self, state: TrainState) -> None:
    """Compiles steps and evaluators for every shape, then starts counting."""
    shapes = self.data.shapes
    started = time.monotonic()
    compiled = []
    for i, batch in enumerate(shapes):
      self.progress.message(f'compiling shape {i + 1} of {len(shapes)}')
      compiled.append(self.engine.compile(batch))
    variables = self.engine.member(state).averaged
    for evaluator in self.evaluators.values():
      evaluator.compile(variables)
    check_metric(self.config['keep_best'], self.evaluators, variables)
    peak_flops(self.engine.definition.mesh.size)
    processes.barrier(
      'all is compiled'
    )  # so that the first step is not said to be slow
    self.progress.message(f'compiled in {time.monotonic() - started:.0f} s')
    if processes.is_primary():
      self.progress.message(overview(self.engine, compiled))
    self.compiles = CompileCounter()

  def _batch(self, k: int) -> Batch:
    seed, share = self.config['seed'], self.engine.definition.rows_share
    return self.data.batch(k, seed=seed, rows=share)

  def _steps(self, duration: int | str | None) -> int | None:
    return steps_of(
      duration,
      steps_per_epoch=self.data.steps_per_epoch,
      tokens_per_step=tokens_per_step(self.task, self.data),
    )

  def _fetch(self, step: int, sums: Sums, batch: Batch) -> None:
    """Waits for a step's sums and writes its row."""
    self._write(step, self.engine.fetch(sums)[0], batch)

  def _write(self, step: int, row: dict[str, float], batch: Batch) -> None:
    now = time.monotonic()
    seconds, self.clock = now - self.clock, now
    self.history.minutes += seconds / 60
    shares = self.engine.definition.rows_share[1]  # alike in number of words, nearly
    words = self.task.tokens(batch) * shares
    row['epoch'] = step / self.data.steps_per_epoch
    row['compiles'] = self.compiles.count
    row['speed/seconds'] = seconds
    row['speed/tokens_per_s'] = words / seconds
    if peak := peak_flops(self.engine.definition.mesh.size):
      flops = self.task.flops(batch) * shares
      row['speed/flops_utilisation'] = flops / seconds / peak
    self.writer.write(step, row)
    self.progress.update(step, row)
    self.fallback.check(step, self.config['seed'], row)

  def _evaluate(
    self, step: int, state: TrainState, names: list[str]
  ) -> dict[str, float]:
    """Runs evaluators and writes what they say, its time beside it."""
    metrics: dict[str, float] = {}
    if not names:
      return metrics
    variables = self.engine.member(state).averaged
    for name in names:
      started = time.monotonic()
      found = {k: float(v) for k, v in self.evaluators[name].run(variables)}
      # All shall draw the same conclusions, to the last bit.
      values = {
        f'{name}/{k}': v for k, v in processes.broadcast_from_primary(found).items()
      }
      text = ', '.join(f'{k} {v:.4g}' for k, v in values.items())
      self.progress.message(f'step {step:,}: {text}')
      metrics |= values | {f'speed/{name}_seconds': time.monotonic() - started}
      self._patiently(lambda name=name: self._keep_samples(step, name), 'samples')
    self.writer.write(step, metrics)
    self._remember(metrics)
    self.clock = time.monotonic()  # evaluation is no training time
    return metrics

  def _keep_samples(self, step: int, name: str) -> None:
    if not processes.is_primary():
      return
    path = f'{self.folder.samples}/{name}-{step:08d}'
    if samples := self.evaluators[name].samples:
      files.write_text(f'{path}.txt', '\n'.join(samples))
    if arrays := getattr(self.evaluators[name], 'arrays', None):
      with files.replacing(f'{path}.npz') as temporary, temporary.open('wb') as file:
        np.savez_compressed(file, **arrays)

  def _remember(self, metrics: Mapping[str, float]) -> None:
    best = self.config['keep_best']
    if best in metrics:
      self.history.add(metrics[best], self.sign)

  def _check_best(self, metrics: Mapping[str, float], names: list[str]) -> None:
    """Raises ValueError if an evaluator did not measure what `keep_best` names."""
    best = self.config['keep_best']
    if best and best not in metrics and best.split('/')[0] in names:
      raise ValueError(f'keep_best is {best!r}, and there are {", ".join(metrics)}')

  def _save(
    self, step: int, state: TrainState, metrics: dict[str, float], *, wait: bool
  ) -> None:
    self._patiently(self.writer.flush, 'metrics.jsonl')
    self._patiently(self._send, 'files')  # a checkpoint has its rows there before it
    meta = dataclasses.asdict(self.history)
    parts = {'state': self.engine.member(state), 'meta': meta}
    wait = wait or self.folder.by_way_of_disk
    self.checkpoints.save(step, parts, metrics, wait=wait)
    if self.folder.by_way_of_disk:
      self._patiently(self._send, f'the checkpoint of step {step:,}')

  def _patiently(self, action: Callable[[], object], what: str) -> None:
    """Writes something of the run, again and again if the disk is full for a while."""
    try:
      what, tries = f'{what} in {self.folder.name}', self.config['retries']
      retry(lambda _: action(), what, tries=tries, say=self.progress.message)
    except GaveUp as error:
      raise OSError(
        f'{error}; the last good checkpoint is of step {self.checkpoints.latest}. '
        f'{remedy(may_pass(error))}'
      ) from error

  def _send(self) -> None:
    if processes.is_primary():
      self.folder.send()

  def _send_the_rest(self, kind: type | None, *_) -> None:
    """Brings the last lines of the log to the bucket, if the folder is in one."""
    try:
      self._send()
    except Exception:
      if kind is None:  # else what went wrong before is what has to be said
        raise

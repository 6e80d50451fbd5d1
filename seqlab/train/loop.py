"""The training loop: dispatch, log, evaluate, save. It knows no task."""

from collections.abc import Mapping
import dataclasses
import math
import time

import jax
import numpy as np

from seqlab.config import call, check_keys, resolve, steps_of
from seqlab.data.loader import feed
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.device import peak_flops
from seqlab.train.folder import RunFolder, open_folder
from seqlab.train.mesh import batch_sharding
from seqlab.train.program import CompileCounter, Program
from seqlab.train.state import TrainState
from seqlab.train.writer import Progress, Writer
from seqlab.types import Batch, Sums

NEEDED = ('task', 'seed', 'steps', 'hyper', 'schedule')
KNOWN = (
  *('optimizer', 'mesh', 'parallel', 'accumulate', 'ema', 'minutes', 'patience'),
  *('evals', 'keep_best', 'best_is', 'keep_best_n', 'keep_latest', 'save_every'),
)


@dataclasses.dataclass
class History:
  """What a run must remember besides its state; kept in every checkpoint.

  Attributes:
    best: the best value so far of the metric that chooses, None before the first.
    bad: evaluations since then.
    minutes: of training so far, over all sessions.
  """

  best: float | None = None
  bad: int = 0
  minutes: float = 0.0

  def add(self, value: float, sign: float) -> None:
    """Takes in one more value; `sign` is -1 where less is better."""
    better = self.best is None or sign * value > sign * self.best
    self.best, self.bad = (value, 0) if better else (self.best, self.bad + 1)


def train(config: Mapping, workdir: str, *, force: bool = False) -> RunFolder:
  """Trains the experiment in `workdir`, going on from its last checkpoint if any.

  Args:
    config: a resolved experiment.
    workdir: the run's folder.
    force: go on although the folder was made by a different experiment.

  Returns:
    The run's folder.

  Raises:
    ValueError: the experiment is wrong, or another one made the folder.
    FloatingPointError: the loss is no number; the last good checkpoint stays.
  """
  return Run(config, workdir, force=force).go()


class Run:
  """One experiment on its way. `go` is the loop; the rest is what it calls."""

  def __init__(self, config: Mapping, workdir: str, *, force: bool = False):
    task = resolve(config.get('task', 'none given'))
    check_keys(config, (*KNOWN, *task.sections), needed=NEEDED)
    self.config = config
    self.folder = open_folder(workdir, config, force=force)
    self.task = task(config, self.folder.vocabulary)
    self.steps = self._steps(config['steps'])
    self.program = Program(config, self.task, self.steps)
    self.program.check(self.task.shapes())
    rows = batch_sharding(self.program.mesh)
    self.evaluators = {
      name: call(
        resolve(f'evaluators.{spec["type"]}:Evaluator'),
        {k: v for k, v in spec.items() if k not in ('type', 'every')},
        f'evals.{name}',
        task=self.task,
        sharding=rows,
      )
      for name, spec in config.get('evals', {}).items()
    }
    self.every = {
      name: self._steps(spec.get('every')) or self.steps
      for name, spec in config.get('evals', {}).items()
    }
    self.save_every = self._steps(config.get('save_every')) or max(
      1, min([*self.every.values(), 1000])
    )
    self.keep_best = config.get('keep_best')
    self.sign = -1.0 if config.get('best_is', 'max') == 'min' else 1.0
    self.checkpoints = Checkpoints(
      self.folder.checkpoints,
      keep_latest=config.get('keep_latest', 1),
      keep_best=self.keep_best,
      keep_best_n=config.get('keep_best_n', 1),
      best_mode=config.get('best_is', 'max'),
    )
    self.history = History()

  def go(self) -> RunFolder:
    """Trains to the end, from wherever the folder stands."""
    state, start = self._begin()
    self.progress = Progress(self.folder.log, start=start, total=self.steps)
    self.writer = Writer(self.folder, start_step=start)
    self._say_what_there_is(start)
    pending = None
    try:
      if start >= self.steps or self._enough():
        return self.folder
      state = self._compile(state)
      self.clock = time.monotonic()
      batches = feed(self._batch, start, self.steps)
      for k, batch in zip(range(start, self.steps), batches, strict=False):
        state, sums = self.program.step(state, self.program.put(batch))
        if pending:  # written while the devices work on this step
          self._write(*pending)
        pending = k + 1, sums, batch
        due = [name for name, every in self.every.items() if (k + 1) % every == 0]
        last = k + 1 == self.steps or self._enough()
        if due or last or (k + 1) % self.save_every == 0:
          pending = self._write(*pending)
          metrics = self._evaluate(k + 1, state, list(self.every) if last else due)
          self._save(k + 1, state, metrics)
          if last or self._enough():
            break
    finally:
      self.writer.close()
      self.progress.close()
      self.checkpoints.close()
    return self.folder

  def _enough(self) -> bool:
    """Whether time or patience is used up."""
    out_of_time = self.history.minutes >= self.config.get('minutes', math.inf)
    return out_of_time or self.history.bad >= self.config.get('patience', math.inf)

  def _begin(self) -> tuple[TrainState, int]:
    """The newest checkpoint's state, or a fresh one; and its step."""
    abstract = {'state': self.program.abstract, 'meta': None}
    found = self.checkpoints.restore(abstract)
    if found is None:
      return self.program.start(self.config['seed']), 0
    step, saved = found
    self.history = History(**saved['meta'])
    return self.program.spread(saved['state']), step

  def _compile(self, state: TrainState) -> TrainState:
    """Compiles steps and evaluators for every shape, then starts counting."""
    shapes = self.task.shapes()
    started = time.monotonic()
    for i, batch in enumerate(shapes):
      self.progress.message(f'compiling shape {i + 1} of {len(shapes)}')
      self.program.compile(state, batch)
    variables = self.program.gather(state).averaged
    for evaluator in self.evaluators.values():
      evaluator.compile(variables)
    peak_flops()
    self.progress.message(f'compiled in {time.monotonic() - started:.0f} s')
    self.compiles = CompileCounter()
    return state

  def _batch(self, k: int) -> Batch:
    here = jax.process_index(), jax.process_count()
    return self.task.batch('train', k, seed=self.config['seed'], rows=here)

  def _steps(self, duration: int | str | None) -> int | None:
    return steps_of(
      duration,
      steps_per_epoch=self.task.steps_per_epoch,
      tokens_per_step=self.task.tokens_per_step,
    )

  def _write(self, step: int, sums: Sums, batch: Batch) -> None:
    """Waits for a step's sums and writes its row."""
    row = {
      name: float(s) / max(float(w), 1e-9)
      for name, (s, w) in jax.device_get(sums).items()
    }
    now = time.monotonic()
    seconds, self.clock = now - self.clock, now
    self.history.minutes += seconds / 60
    words = np.count_nonzero(batch['target']) * jax.process_count()
    row['epoch'] = step / self.task.steps_per_epoch
    row['compiles'] = self.compiles.count
    row['speed/seconds'] = seconds
    row['speed/tokens_per_s'] = words / seconds
    if peak := peak_flops():
      flops = self.task.flops(batch) * jax.process_count()
      row['speed/flops_utilisation'] = flops / seconds / peak
    self.writer.write(step, row)
    self.progress.update(step, row)
    if not (math.isfinite(row['loss']) and math.isfinite(row['grad_norm'])):
      good = self.checkpoints.latest
      raise FloatingPointError(
        f'the loss is {row["loss"]} and the gradient norm {row["grad_norm"]} at step '
        f'{step:,} (batch {step - 1:,} of seed {self.config["seed"]}); the last good '
        f'checkpoint is that of step {good if good is not None else "none"}. Lower '
        f'hyper.peak, lengthen schedule.warmup or set optimizer.clip, and go on from it'
      )

  def _evaluate(
    self, step: int, state: TrainState, names: list[str]
  ) -> dict[str, float]:
    """Runs evaluators and writes what they say, its time beside it."""
    metrics: dict[str, float] = {}
    if not names:
      return metrics
    variables = self.program.gather(state).averaged
    for name in names:
      started = time.monotonic()
      values = {f'{name}/{k}': v for k, v in self.evaluators[name].run(variables)}
      text = ', '.join(f'{k} {v:.4g}' for k, v in values.items())
      self.progress.message(f'step {step:,}: {text}')
      metrics |= values | {f'speed/{name}_seconds': time.monotonic() - started}
      if self.evaluators[name].samples:
        path = self.folder.samples / f'{name}-{step:08d}.txt'
        path.write_text('\n'.join(self.evaluators[name].samples), 'utf-8')
    self.writer.write(step, metrics)
    if self.keep_best in metrics:
      self.history.add(metrics[self.keep_best], self.sign)
    elif self.keep_best and self.keep_best.split('/')[0] in names:
      raise ValueError(
        f'keep_best is {self.keep_best!r}, and the evaluators give {", ".join(metrics)}'
      )
    self.clock = time.monotonic()  # evaluation is no training time
    return metrics

  def _save(self, step: int, state: TrainState, metrics: dict[str, float]) -> None:
    self.writer.flush()
    saved = {
      'state': self.program.gather(state),
      'meta': dataclasses.asdict(self.history),
    }
    self.checkpoints.save(step, saved, metrics)

  def _say_what_there_is(self, start: int) -> None:
    n = sum(x.size for x in jax.tree.leaves(self.program.abstract.params))
    say = self.progress.message
    say(
      f'{self.folder.path}: {n:,} parameters, {len(jax.devices())} x {jax.devices()[0].device_kind}'
    )
    say(
      'data: '
      + ', '.join(
        f'{k} {v:,.4g}' if isinstance(v, float) else f'{k} {v}'
        for k, v in self.task.report.items()
      )
    )
    if start:
      say(f'going on from the checkpoint of step {start:,} of {self.steps:,}')

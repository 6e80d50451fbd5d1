"""Populations: runs that differ in seed and hyperparameters, as one program.

Both are arguments of the step, and so a population of N runs is its `vmap`: state,
batch and hyperparameters have an axis of members in front. On an accelerator, of which
a small model leaves most idle, N steps at once take little longer than one.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import time
from typing import Any

import jax

from seqlab.config import call, flatten, resolve, with_defaults
from seqlab.data.loader import feed
from seqlab.train import processes
from seqlab.train.checks import check_experiment
from seqlab.train.device import peak_flops
from seqlab.train.folder import open_folder
from seqlab.train.member import Member
from seqlab.train.mesh import make_mesh
from seqlab.train.program import CompileCounter
from seqlab.train.stacked import Stacked, stack
from seqlab.train.state import TrainState
from seqlab.types import Batch, PyTree, Sums

_REMEDY = 'run these trials one by one (--on local)'


def train_population(
  configs: Sequence[Mapping],
  workdirs: Sequence[str],
  *,
  ended: Callable[[int, Exception | None], None] = lambda i, error: None,
  force: bool = False,
) -> list[Exception | None]:
  """Trains experiments that differ in seed and hyperparameters, all at once.

  Each leaves in its folder what `train` leaves there, and goes on from its newest
  checkpoint. Those whose checkpoints are of one step go on together; where a kill left
  them at different steps, those behind do first, by themselves.

  A member that diverges, that has seen no new best for too long, or whose folder cannot
  be used is over: its state is frozen, and the others do not notice.

  Args:
    configs: resolved experiments.
    workdirs: a folder for each.
    ended: called once for each that is over, with its number and what went wrong.
    force: go on in folders that different experiments made.

  Returns:
    What went wrong with each, such as FloatingPointError where it diverged, or None.

  Raises:
    ValueError: they cannot be one program.
    Stopped: SIGTERM came, and those that were not over have a checkpoint.
  """
  configs = [with_defaults(config) for config in configs]
  check(configs)
  errors: dict[int, Exception | None] = {}

  def end(i: int, error: Exception | None) -> None:
    errors[i] = error
    ended(i, error)

  with contextlib.ExitStack() as stack:
    stack.enter_context(processes.EndsAtOnce())
    members = _open(configs, workdirs, end, stack, force)
    begun: dict[int, list[tuple[Member, TrainState]]] = {}
    for member in members:
      with member.apart():
        if found := member.begin():
          state, step = found
          begun.setdefault(step, []).append((member, state))
    with processes.Notice() as notice:
      for step in sorted(begun):
        members, states = zip(*begun.pop(step), strict=True)
        Population(members, step).go(states, notice)
  return [errors[i] for i in range(len(configs))]


def check(configs: Sequence[Mapping]) -> None:
  """Raises ValueError for experiments that cannot be one program."""
  first = configs[0]
  for config in configs:
    if differing := _differing(first, config):
      raise ValueError(
        f'members of a population differ in seed and hyper alone, and these in '
        f'{", ".join(differing)} too'
      )
  # What is refused -> whether it is asked for.
  refused = {
    "parallel='pmap'": first['parallel'] == 'pmap',
    'minutes, which its members would share': first['minutes'] is not None,
    'fallback, after which a member would be steps behind': bool(first['fallback']),
    f'{first["task"]}, which has an update of its own': hasattr(
      resolve(first['task']), 'update'
    ),
    'several processes': jax.process_count() > 1,
  }
  for what, wanted in refused.items():
    if wanted:
      raise ValueError(f'a population cannot have {what}: {_REMEDY}')
  mesh = call(make_mesh, first['mesh'], 'mesh')
  if mesh.shape['data'] != mesh.size:
    raise ValueError(
      f'a population lies over the devices by its members, each of them whole: set '
      f'mesh.fsdp=1 and mesh.tensor=1, or {_REMEDY}'
    )
  for config in configs:
    check_experiment(config)


def _differing(one: Mapping, other: Mapping) -> list[str]:
  """Keys, besides those that are data, in which two experiments differ."""
  one, other = flatten(one), flatten(other)
  return [
    key
    for key in sorted({*one, *other})
    if key != 'seed' and _compiled(key, one) != _compiled(key, other)
  ]


def _compiled(key: str, flat: Mapping) -> Any:
  """What the program depends on: of a hyperparameter, only whether there is one."""
  return flat.get(key) is None if key.startswith('hyper.') else flat.get(key)


def _open(
  configs: Sequence[Mapping],
  workdirs: Sequence[str],
  end: Callable[[int, Exception | None], None],
  stack: contextlib.ExitStack,
  force: bool,
) -> list[Member]:
  """Members in their folders, which stay locked; without those that failed there."""
  members: list[Member] = []
  folders = []
  for i, (config, workdir) in enumerate(zip(configs, workdirs, strict=True)):
    try:
      folder = open_folder(workdir, config, force=force)
      stack.enter_context(folder.lock())
      if force:
        folder.forget_inputs()
      folders.append((folder, functools.partial(end, i)))
    except Exception as error:  # whatever it is, the others go on
      end(i, error)
  for folder, ended in folders:
    try:
      more = members[0].beside(folder, ended) if members else Member(folder, ended)
    except Exception as error:
      if not members:  # what is wrong here is wrong with all
        raise
      ended(error)
    else:
      stack.callback(more.close)
      members.append(more)
  if members:
    _check_shapes(members[0].task.shapes(), configs)
  return members


def _check_shapes(shapes: Sequence[Batch], configs: Sequence[Mapping]) -> None:
  if len(shapes) > 1 and len({config['seed'] for config in configs}) > 1:
    raise ValueError(
      f'batches of different seeds have different shapes at a step (there are '
      f"{len(shapes)}): set batching.kind='packed' or batching.shapes=1, or {_REMEDY}"
    )


class Population:
  """Members that stand at one step, on their way to the end."""

  def __init__(self, members: Sequence[Member], start: int):
    """`start` is the step they stand at."""
    self._members, self._start = members, start
    self._stacked = Stacked(members[0].program, [m.config['hyper'] for m in members])

  def go(self, states: Sequence[TrainState], notice: processes.Notice) -> None:
    """Takes steps until all are over.

    Raises:
      Stopped: SIGTERM came.
    """
    first, put = self._members[0], self._stacked.put
    state = put(stack(states))  # [M, ...]
    self._compile(state)
    self._restart_clocks()
    pending, alive = None, self._alive()
    batches = feed(self._batches, self._start, first.steps)
    for k, batch in zip(range(self._start, first.steps), batches, strict=True):
      state, sums = self._stacked.step(state, put(batch), alive)
      if pending:  # written while the devices work on this step
        self._write(*pending)
      pending = k + 1, sums, batch
      last, told = k + 1 == first.steps, notice.reached()
      if last or told or first.saved_at(k + 1):
        pending = self._write(*pending)
        self._look(k + 1, state, last=last, told=told)
      if all(member.over for member in self._members):
        return
      if told:
        raise processes.Stopped(
          f'stopped at step {k + 1:,} of {first.steps:,}, as SIGTERM asked; the same '
          f'command goes on from there'
        )
      alive = self._alive()

  def _alive(self) -> jax.Array:
    return self._stacked.alive([not member.over for member in self._members])

  def _batches(self, k: int) -> Batch:
    """Batch k of each member's seed, [N, B, ...]."""
    task, seeds = self._members[0].task, [m.config['seed'] for m in self._members]
    built = {seed: task.batch('train', k, seed=seed) for seed in dict.fromkeys(seeds)}
    return stack([built[seed] for seed in seeds])

  def _compile(self, state: PyTree) -> None:
    """Compiles steps and evaluators, then starts counting."""
    first, N, started = self._members[0], len(self._members), time.monotonic()
    first.progress.message(f'compiling for {N} members')
    for batch in first.task.shapes():
      self._stacked.compile(state, self._stacked.put(stack([batch] * N)))
    variables = self._stacked.member(state, 0).averaged
    for evaluator in first.evaluators.values():
      evaluator.compile(variables)
    peak_flops(first.program.mesh.size)
    compiles, seconds = CompileCounter(), time.monotonic() - started
    for member in self._members:
      member.compiles = compiles
      text = f'compiled in {seconds:.0f} s, for a population of {N}'
      member.progress.message(text)

  def _restart_clocks(self) -> None:
    """What came before this was no training time."""
    now = time.monotonic()
    for member in self._members:
      member.clock = now

  def _write(self, step: int, sums: Sums, batch: Batch) -> None:
    """Waits for a step's sums, and writes a row for each member."""
    sums = jax.device_get(sums)
    for i, member in enumerate(self._members):
      if not member.over:
        with member.apart():
          own, rows = jax.tree.map(lambda x, i=i: x[i], (sums, batch))
          member.take_row(step, own, rows)

  def _look(self, step: int, state: PyTree, *, last: bool, told: bool) -> None:
    """Has each member evaluated and saved."""
    for i, member in enumerate(self._members):
      if not member.over:
        with member.apart():
          own = self._stacked.member(state, i)
          if member.look(step, own, last=last, told=told):
            member.finish()
    self._restart_clocks()

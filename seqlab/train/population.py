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
from seqlab.tasks.interface import CustomUpdate, has
from seqlab.train import processes
from seqlab.train.checks import check_experiment
from seqlab.train.compile_counter import CompileCounter
from seqlab.train.device import peak_flops
from seqlab.train.engine_population import PopulationEngine
from seqlab.train.folder import open_folder
from seqlab.train.member import Member
from seqlab.train.mesh import make_mesh
from seqlab.train.state import TrainState
from seqlab.types import Batch, PyTree, Sums

_REMEDY = 'run these trials one by one (--on local)'


def train_population(
  configs: Sequence[Mapping],
  workdirs: Sequence[str],
  *,
  ended: Callable[[int, Exception | None], None] = lambda i, error: None,
  force: bool = False,
  places: Sequence[int] | None = None,
  width: int | None = None,
) -> list[Exception | None]:
  """Trains experiments that differ in seed and hyperparameters, all at once.

  Each leaves in its folder what `train` leaves there, and resumes from its newest
  checkpoint. Where a kill left them at different steps, those ahead are frozen until
  the others come to their step. The program has one place per member from the first
  start to the last, whoever is over meanwhile, since a narrower one rounds differently:
  a population that was killed and resumed has the bits of one that was not.

  A member that diverges, that has seen no new best for too long, or whose folder cannot
  be used is over: its state is frozen, and the others do not notice.

  Args:
    configs: resolved experiments.
    workdirs: a folder for each.
    ended: called once for each that is over, with its number and what went wrong.
    force: go on in folders that different experiments made.
    places: place of each in the program, if these are the rest of a larger population;
      by default 0, 1, 2, ...
    width: number of places; by default one per experiment.

  Returns:
    What went wrong with each, such as FloatingPointError where it diverged, or None.

  Raises:
    ValueError: they cannot be one program.
    Stopped: SIGTERM came, and those that were not over have a checkpoint.
  """
  configs = [with_defaults(config) for config in configs]
  check(configs)
  places = [*range(len(configs))] if places is None else [*places]
  width = len(configs) if width is None else width
  if len({*places}) < len(configs) or not {*places} <= {*range(width)}:
    raise ValueError(f'places {places} are not those of a population of {width}')
  errors: dict[int, Exception | None] = {}

  def end(i: int, error: Exception | None) -> None:
    errors[i] = error
    ended(i, error)

  with contextlib.ExitStack() as stack:
    stack.enter_context(processes.StopImmediately())
    members = _open(configs, workdirs, end, stack, force)
    begun: list[tuple[Member, TrainState, int]] = []
    for i, member in members.items():
      with member.apart():
        if found := member.begin():
          member.place = places[i]
          begun.append((member, *found))
    if begun:
      with processes.StopSignal() as signal:
        members, states, starts = zip(*begun, strict=True)
        Population(members, starts, width).go(states, signal)
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
    f'{first["task"]}, which has an update of its own': has(
      resolve(first['task']), CustomUpdate
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
) -> dict[int, Member]:
  """Members in their folders, which stay locked; without those that failed there."""
  members: dict[int, Member] = {}
  folders = []
  for i, (config, workdir) in enumerate(zip(configs, workdirs, strict=True)):
    try:
      folder = open_folder(workdir, config, force=force)
      stack.enter_context(folder.lock())
      if force:
        folder.forget_inputs()
      folders.append((i, folder))
    except Exception as error:  # whatever it is, the others go on
      end(i, error)
  first: Member | None = None
  for i, folder in folders:
    ended = functools.partial(end, i)
    try:
      more = first.beside(folder, ended) if first else Member(folder, ended)
    except Exception as error:
      if first is None:  # what is wrong here is wrong with all
        raise
      ended(error)
    else:
      first = first or more
      stack.callback(more.close)
      members[i] = more
  if first:
    _check_shapes(first.data.shapes, configs)
  return members


def _check_shapes(shapes: Sequence[Batch], configs: Sequence[Mapping]) -> None:
  if len(shapes) > 1 and len({config['seed'] for config in configs}) > 1:
    raise ValueError(
      f'batches of different seeds have different shapes at a step (there are '
      f"{len(shapes)}): set batching.kind='packed' or batching.shapes=1, or {_REMEDY}"
    )


class Population:
  """Members on their way to the end, each from the step that it has come to."""

  def __init__(self, members: Sequence[Member], starts: Sequence[int], width: int):
    """Makes the program.

    Args:
      members: those that take steps, with their places.
      starts: the step that each has come to.
      width: number of places. Those of no member hold a copy of the first, frozen.
    """
    self._members, self._width = members, width
    self._starts = dict(zip(members, starts, strict=True))
    self._engine = PopulationEngine(
      members[0].engine.definition,
      [member.config['hyper'] for member in members],
      [member.place for member in members],
      width,
    )

  def go(self, states: Sequence[TrainState], signal: processes.StopSignal) -> None:
    """Takes steps until all are over.

    Raises:
      Stopped: SIGTERM came.
    """
    first = self._members[0]
    start = min(self._starts.values())
    state = self._engine.join(*states)
    del states
    self._compile(state)
    self._restart_clocks()
    pending, alive = None, self._alive(start)
    batches = feed(self._batches, start, first.steps)
    for k, batch in zip(range(start, first.steps), batches, strict=True):
      state, sums = self._engine.step(state, self._engine.put(*batch), alive)
      if pending:  # written while the devices work on this step
        self._write(*pending)
      pending = k + 1, sums, batch
      last, told = k + 1 == first.steps, signal.requested()
      if last or told or first.saved_at(k + 1):
        pending = self._write(*pending)
        self._look(k + 1, state, last=last, told=told)
      if all(member.over for member in self._members):
        return
      if told:
        raise processes.Stopped(
          f'stopped at step {k + 1:,} of {first.steps:,}, as SIGTERM asked; the same '
          f'command resumes it'
        )
      alive = self._alive(k + 1)

  def _alive(self, k: int) -> list[bool]:
    """The members that take step k + 1."""
    return [not m.over and self._starts[m] <= k for m in self._members]

  def _at(self, step: int) -> list[Member]:
    """The members that took this step."""
    return [m for m in self._members if not m.over and self._starts[m] < step]

  def _batches(self, k: int) -> list[Batch]:
    """Batch k of each member's seed."""
    data, seeds = self._members[0].data, [m.config['seed'] for m in self._members]
    built = {seed: data.batch(k, seed=seed) for seed in dict.fromkeys(seeds)}
    return [built[seed] for seed in seeds]

  def _compile(self, state: PyTree) -> None:
    """Compiles steps and evaluators, then starts counting."""
    first, N, started = self._members[0], self._width, time.monotonic()
    first.progress.message(f'compiling for {N} members')
    for batch in first.data.shapes:
      self._engine.compile(batch)
    variables = self._engine.member(state, 0).averaged
    for evaluator in first.evaluators.values():
      evaluator.compile(variables)
    peak_flops(first.engine.definition.mesh.size)
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

  def _write(self, step: int, sums: Sums, batches: Sequence[Batch]) -> None:
    """Waits for a step's sums, and writes a row for each member."""
    rows = self._engine.fetch(sums)
    now = time.monotonic()
    for member in self._members:
      if step <= self._starts[member]:  # it waits for the others
        member.clock = now
    at = self._at(step)
    for member, row, batch in zip(self._members, rows, batches, strict=True):
      if member in at:
        with member.apart():
          member.take_row(step, row, batch)

  def _look(self, step: int, state: PyTree, *, last: bool, told: bool) -> None:
    """Has each member evaluated and saved."""
    at = self._at(step)
    for i, member in enumerate(self._members):
      if member not in at:
        continue
      with member.apart():
        own = self._engine.member(state, i)
        if member.look(step, own, last=last, told=told):
          member.finish()
    self._restart_clocks()

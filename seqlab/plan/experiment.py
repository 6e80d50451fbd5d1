"""Plans an experiment: the command's choices, and the order of its output."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import itertools
import json
from pathlib import Path
import sys
import tempfile
from typing import Annotated

import jax

from seqlab.compile.chips import CHIPS, Chip, find_chip
from seqlab.compile.fit import largest_tokens
from seqlab.compile.memory import DoesNotFitError
from seqlab.compile.roofline import ASSUMPTIONS
from seqlab.compile.topologies import CompilerMissingError, Topology, make_topology
from seqlab.data.batching import smallest_batch
from seqlab.domains import Count, OneOf, checked
from seqlab.io.console import console
from seqlab.plan import report
from seqlab.plan.programs import WHAT, PlannedStep, plan_step
from seqlab.tasks import task_of
from seqlab.tasks.interface import Estimator, Task, Translates, has
from seqlab.train.checks import check_experiment

FORMATS = ('text', 'json')
COMPILERS = ('auto', 'stand-in')


@checked
def plan_experiment(
  config: Mapping,
  devices: Sequence[Count],
  chips: Sequence[str] = (),
  *,
  what: Annotated[str, OneOf(WHAT)] = 'train',
  format: Annotated[str, OneOf(FORMATS)] = 'text',
  compiler: Annotated[str, OneOf(COMPILERS)] = 'auto',
  variants: Mapping[str, Mapping] | None = None,
  fit: bool = False,
) -> None:
  """Prints what a program of an experiment takes, for each number of devices.

  Args:
    config: a resolved experiment.
    devices: numbers of devices; one axis of the experiment's mesh may be -1, which then
      takes what the others leave.
    chips: names in `seqlab.compile.chips.CHIPS`. The compiler of a chip is used where
      it is installed. Without names, the stand-in estimates for all chips.
    what: 'train' for a training step, 'evaluate' for an evaluator's program.
    format: 'text' or 'json'.
    compiler: 'auto', or 'stand-in' for XLA's CPU compiler even where there is a chip's.
    variants: what differs -> an experiment, to be compared with `config`.
    fit: find the largest `batching.tokens` that the chip's memory admits.

  Raises:
    ValueError: a chip is unknown, or the mesh or a batch does not fit the devices.
    OSError: the batch shapes depend on data that cannot be read.
    RuntimeError: JAX already runs on fewer devices.
  """
  known = {name.lower(): find_chip(name) for name in chips} or CHIPS
  for one in (config, *(variants or {}).values()):
    check_experiment(one)
  out = _Output(format)
  own = known if chips and compiler == 'auto' else {}
  topologies = _topologies(own, devices, out)
  others = {x: chip for x, chip in known.items() if (x, devices[0]) not in topologies}
  simulate_devices(max(devices) if others else 1)
  with tempfile.TemporaryDirectory() as folder:
    task = open_task(config, Path(folder))
    if has(task, Estimator):
      out.text(_describe_estimator(config['task'], task))
      return
    targets = _targets(topologies, others, devices)
    if fit:
      _print_fit(out, config, targets, what, Path(folder))
    elif variants:
      everything = {'as given': config, **variants}
      _print_comparison(out, everything, targets, what, Path(folder))
    else:
      _print_plans(out, config, task, targets, what)
  out.finish()


@dataclasses.dataclass(frozen=True)
class _Target:
  """What to compile for.

  Attributes:
    devices: number of devices.
    topology: devices of a chip with its own compiler; None for simulated ones.
    chips: name -> data sheet of the chips whose times are estimated.
  """

  devices: int
  topology: Topology | None
  chips: Mapping[str, Chip]

  @property
  def chip(self) -> Chip | None:
    """The chip whose memory and time count, if there is one only."""
    return next(iter(self.chips.values())) if len(self.chips) == 1 else None

  @property
  def title(self) -> str:
    """Names the devices."""
    names = ', '.join(self.chips) if self.topology or self.chip else 'any chip'
    return f'{self.devices} x {names}'


def _topologies(
  chips: Iterable[str], devices: Sequence[int], out: '_Output'
) -> dict[tuple[str, int], Topology]:
  """Finds the compilers of chips.

  Says for which chips the CPU compiler is used instead, and why.
  """
  topologies = {}
  for name in chips:
    try:
      topologies |= {(name, n): make_topology(name, n) for n in devices}
    except CompilerMissingError as error:
      out.text(f'{error}. Without it, XLA compiles for simulated CPU devices instead')
  return topologies


def _targets(
  topologies: Mapping[tuple[str, int], Topology],
  others: Mapping[str, Chip],
  devices: Sequence[int],
) -> list[_Target]:
  own = [_Target(n, x, {name: x.chip}) for (name, n), x in topologies.items()]
  return own + [_Target(n, None, others) for n in devices if others]


def _print_plans(
  out: '_Output', config: Mapping, task: Task, targets: Sequence[_Target], what: str
) -> None:
  stand_in: list[PlannedStep] = []
  for target in targets:
    try:
      step = plan_step(config, task, target.devices, target.topology, what)
    except DoesNotFitError as error:
      _print_refusal(out, target, error)
      continue
    out.result(
      functools.partial(report.describe, step, target.chip),
      functools.partial(report.as_json, step),
    )
    stand_in += [] if target.topology else [step]
  if stand_in:
    chips = targets[-1].chips
    out.text(report.table(stand_in, chips))
    out.text(ASSUMPTIONS)
  if len(stand_in) < len(targets):
    out.text(report.COMPILED)


def _print_refusal(out: '_Output', target: _Target, error: Exception) -> None:
  data = {'chip_name': ', '.join(target.chips), 'devices': target.devices}
  out.result(
    lambda: f'{target.title}: {error}', lambda: data | {'does_not_fit': str(error)}
  )


def _print_comparison(
  out: '_Output',
  variants: Mapping[str, Mapping],
  targets: Sequence[_Target],
  what: str,
  folder: Path,
) -> None:
  for target in targets:
    steps: dict[str, PlannedStep | str] = {}
    for i, (name, config) in enumerate(variants.items()):
      task = open_task(config, folder / f'variant-{i}')
      try:
        steps[name] = plan_step(config, task, target.devices, target.topology, what)
      except DoesNotFitError as error:
        steps[name] = str(error)
    out.result(
      functools.partial(_compared, target, steps),
      functools.partial(_compared_as_json, steps),
    )


def _compared(target: _Target, steps: Mapping[str, PlannedStep | str]) -> str:
  compiler = next((x.compiler for x in steps.values() if not isinstance(x, str)), '')
  title = f'{target.title}, compiled by {compiler}' if compiler else target.title
  return f'{title}\n{report.compare(steps, target.chip)}'


def _compared_as_json(steps: Mapping[str, PlannedStep | str]) -> dict:
  return {
    name: {'does_not_fit': x} if isinstance(x, str) else report.as_json(x)
    for name, x in steps.items()
  }


def _print_fit(
  out: '_Output',
  config: Mapping,
  targets: Sequence[_Target],
  what: str,
  folder: Path,
) -> None:
  numbers, batching = itertools.count(), config['batching']
  if 'tokens' not in batching:
    raise ValueError(
      '--fit varies batching.tokens, which this experiment does not have'
    )
  for target in targets:
    if target.chip is None:
      raise ValueError('--fit needs the memory of one chip: add --chip, as in v5p')

    def plan(tokens: int, target: _Target = target) -> tuple[int, PlannedStep]:
      out.text(f'{target.title}: compiling for batching.tokens={tokens:,}')
      changed = {**config, 'batching': {**batching, 'tokens': tokens}}
      task = open_task(changed, folder / f'fit-{next(numbers)}')
      step = plan_step(changed, task, target.devices, target.topology, what)
      return step.memory.total, step

    tokens, step = largest_tokens(
      plan,
      first=batching['tokens'],
      unit=smallest_batch(batching),
      memory=target.chip.memory,
    )
    out.result(
      functools.partial(_fitted, target, tokens, step),
      functools.partial(_fitted_as_json, tokens, step),
    )


def _fitted(target: _Target, tokens: int, step: PlannedStep) -> str:
  return (
    f'{target.title}: the largest batch that fits is batching.tokens={tokens:,}\n'
    f'{report.describe(step, target.chip)}'
  )


def _fitted_as_json(tokens: int, step: PlannedStep) -> dict:
  return {'tokens': tokens, **report.as_json(step)}


def open_task(config: Mapping, folder: Path) -> Task:
  """Makes a task without its data, or with them if its shapes depend on them.

  Raises:
    OSError: the data cannot be read; the message says why they are needed.
  """
  # Printing is outside, since it may fail as well, as in `seqlab plan | head`.
  with _explain_missing_data(config):
    kind = task_of(config)
    task = kind.from_shapes(config)
    if task is None:
      # As in a run, whose record of its text is beside the vocabulary's folder.
      vocabulary = folder / 'vocabulary'
      vocabulary.mkdir(parents=True)
      task = kind.from_config(config, vocabulary)
    if not has(task, Estimator):
      task.batches('train').shapes  # noqa: B018  # reads what they depend on
  return task


@contextlib.contextmanager
def _explain_missing_data(config: Mapping) -> Iterator[None]:
  """Adds to an OSError why a plan needs data at all."""
  try:
    yield
  except OSError as error:
    kind = task_of(config)
    remedy = f'{kind.__name__}.from_shapes would have to give them without'
    if has(kind, Translates):
      remedy = (
        "with batching.kind='packed', batching.max_length and a vocabulary of subwords "
        'it is planned without'
      )
    raise OSError(
      f"{error}. The shapes of this experiment's batches depend on its data; {remedy}"
    ) from error


def _describe_estimator(name: str, task: Estimator) -> str:
  """Returns the sizes of an estimator's data; there is no training step to compile."""
  report = getattr(task, 'report', {}).items()
  sizes = ''.join(f'\n  {key}: {value:,.4g}' for key, value in report)
  return (
    f'{name} is fitted in its own steps, by one process, on all of its devices: there '
    f'is no training step to plan{sizes}'
  )


class _Output:
  """Text as soon as it is known, or one JSON document at the end."""

  def __init__(self, format: str):
    self._json = format == 'json'
    self._console = console()
    self._document: list = []

  def text(self, text: str) -> None:
    """Prints a text; beside JSON it goes to the standard error stream."""
    if self._json:
      print(text, file=sys.stderr)
    else:
      self._console.print(text)

  def result(self, text: Callable[[], str], data: Callable[[], dict]) -> None:
    """Prints a result, as text now or as data at the end."""
    if self._json:
      self._document.append(data())
    else:
      self._console.print(text())

  def finish(self) -> None:
    """Prints the document."""
    if self._json:
      self._console.print(json.dumps(self._document, indent=1))


def simulate_devices(devices: int) -> None:
  """Has JAX run on simulated CPU devices, whatever hardware there is.

  Raises:
    RuntimeError: JAX runs already, on fewer.
  """
  try:
    jax.config.update('jax_platforms', 'cpu')
    jax.config.update('jax_num_cpu_devices', devices)
  except RuntimeError:  # JAX runs already, perhaps on enough devices
    pass
  if jax.device_count() < devices:
    raise RuntimeError(
      f'JAX runs on {jax.device_count()} devices already, and {devices} are to be '
      f'planned for: start a process for it'
    )

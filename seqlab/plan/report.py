"""Plans as text, as a table of variants, and as JSON."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
from typing import Any

from seqlab.compile.buffers import Buffer, named_by
from seqlab.compile.chips import Chip
from seqlab.compile.collectives import summary
from seqlab.compile.cost import LAUNCH, PRODUCT_SHARE, Cost, Costs
from seqlab.compile.roofline import Estimate, estimate
from seqlab.io.columns import aligned
from seqlab.io.console import amount
from seqlab.plan.evaluation import measured_seconds, search_seconds
from seqlab.plan.programs import PlannedStep
from seqlab.train.overview import named_sizes

_EXPENSIVE = 10  # number of instructions that are listed
_LONG_LOOP = 0.02  # share of the time from which on a loop is listed
_PATH = 60  # characters of a path of layers

COMPILED = f"""\
Times are estimates. On a TPU they are the compiler's cycles, with the runs of loops; an
instruction without cycles, and on a GPU every instruction, takes the time of its memory
traffic or of its matrix products ({PRODUCT_SHARE:.0%} of the peak on a GPU, and {LAUNCH * 1e6:.0f} us to start).
Of a conditional the most expensive branch is counted, an upper bound.
Messages take the time of rings on the links of the data sheet; 'waiting' is what other
instructions do not cover in the compiler's schedule. Nothing was run."""


def describe(step: PlannedStep, chip: Chip | None = None) -> str:
  """Describes a program: shapes, memory, messages, and where its time goes.

  Args:
    step: the program.
    chip: data sheet of the chip that it was compiled for, if it was.
  """
  return '\n'.join([*_head(step), *_messages(step), *_compiled(step, chip)])


def _head(step: PlannedStep) -> Iterator[str]:
  shapes = ', '.join(f'{k} {" x ".join(map(str, v))}' for k, v in step.batch.items())
  yield (
    f'{step.devices} devices ({named_sizes(step.mesh)}), {step.what}: compiled in '
    f'{step.seconds:.0f} s by {step.compiler}'
  )
  yield f'  batch: {shapes}'
  yield f'  {step.parameters:,} parameters; {step.sharding}'
  yield (
    f'  per device: {step.flops / 1e9:,.1f} GFLOP of matrix products, '
    f'{amount(step.state)} of state, {amount(step.temporary)} of activations, gradients '
    f'and the like'
  )


def _messages(step: PlannedStep) -> Iterator[str]:
  for (kind, axes), (runs, size) in summary(step.collectives, step.mesh).items():
    yield f'  {runs} {kind} over {" x ".join(axes)}: {amount(size)} per step'


def _compiled(step: PlannedStep, chip: Chip | None) -> Iterator[str]:
  """Yields what only the chip's own compiler knows."""
  costs = step.costs
  if costs is None or chip is None:
    return
  memory = dataclasses.asdict(step.memory)
  kinds = ', '.join(f'{amount(size)} {kind}' for kind, size in memory.items() if size)
  share = step.memory.total / chip.memory
  verdict = 'fits' if share <= 1 else 'does not fit'
  yield (
    f'  memory: {kinds}; {amount(step.memory.total)} of {amount(chip.memory)} '
    f'({share:.0%}): {verdict}'
  )
  unit = 'step' if step.what == 'train' else 'batch'
  yield f'  time: {_time_of(costs, unit)}; {step.peak_share:.1%} of the peak'
  yield from _decoding(step, chip)
  if costs.unestimated:
    yield f'  without an estimate of the compiler: {_unestimated(costs)}'
  if step.endless:
    loops = ', '.join(step.endless)
    yield f'  loops of unknown length, counted as {step.trips} runs each: {loops}'
  if loops := _loops(costs):
    yield '  loops, whose runs follow one another:'
    yield from _rows(loops)
  yield '  largest arrays:'
  rows = [_array_cells(x) for x in step.buffers]
  yield from _rows(rows)
  yield '  most expensive instructions:'
  yield from _rows([_expense(cost, costs) for cost in costs.largest(_EXPENSIVE)])


def _decoding(step: PlannedStep, chip: Chip) -> Iterator[str]:
  """Yields what a step of a search takes, and the share of what is not the search."""
  reading, costs = step.reading, step.costs
  if reading is None:
    return
  least = reading.seconds(chip.memory_speed)
  taken = search_seconds(costs) / reading.steps
  yield (
    f'  a step of the search reads at least {amount(reading.weights)} of weights and '
    f'{amount(reading.cache)} of cache: {least * 1e6:.0f} us; estimate '
    f'{taken * 1e6:.0f} us ({taken / least:.1f} times), in {reading.steps} steps'
  )
  share = measured_seconds(costs) / costs.seconds
  yield f'  detokenisation and measures: {share:.1%} of the time'


def _array_cells(buffer: Buffer) -> tuple[str, ...]:
  return (
    amount(buffer.bytes),
    f'{buffer.count} x' if buffer.count > 1 else '',
    buffer.name,
    buffer.array,
    _layer(buffer.layer),
    _place(buffer.source),
  )


def _time_of(costs: Costs, unit: str) -> str:
  parts = {
    'compiler': "by the compiler's cycles",
    'analytic': 'analytic',
    'waiting': 'waiting for messages and copies',
  }
  given = ((text, costs.seconds_of(source)) for source, text in parts.items())
  by_source = ', '.join(f'{milliseconds(x)} {text}' for text, x in given if x)
  return f'{milliseconds(costs.seconds)} per {unit} ({by_source})'


def _loops(costs: Costs) -> list[tuple[str, ...]]:
  """Returns the time of each long loop, of one of its runs, and what it computes."""
  rows = []
  for loop, seconds in sorted(costs.loops(), key=lambda pair: -pair[1]):
    if seconds < _LONG_LOOP * costs.seconds:
      break
    runs = costs.module.trips(costs.module.entry, loop)
    rows.append(
      (
        milliseconds(seconds),
        f'{seconds / costs.seconds:.1%}',
        f'{runs} x {milliseconds(seconds / runs)}',
        loop.name,
        _layer(loop.op_name),
        _place(costs.module.source(loop)),
      )
    )
  return rows


def _unestimated(costs: Costs) -> str:
  kinds = [
    f'{runs} {kind} ({milliseconds(seconds)})'
    for kind, (runs, seconds) in costs.unestimated.items()
  ]
  rest = len(kinds) - 5
  return ', '.join(kinds[:5]) + (f' and {rest} further kinds' if rest > 0 else '')


def _expense(cost: Cost, costs: Costs) -> tuple[str, ...]:
  one = cost.instruction
  named = named_by(costs.module, cost.computation, one)
  return (
    milliseconds(cost.seconds),
    f'{cost.seconds / costs.seconds:.1%}',
    f'{cost.runs} x' if cost.runs > 1 else '',
    one.name,
    '' if cost.source == 'compiler' else cost.source,
    _layer(named.op_name),
    _place(costs.module.source(named)),
  )


def _layer(path: str) -> str:
  """Shortens the path of a JAX function to its end, which names the layer."""
  parts = [x for x in path.split('/') if x not in ('while', 'body', 'closed_call')]
  backward = 'transpose(' in path
  short = '/'.join(parts[1:] if len(parts) > 1 else parts)
  if len(short) > _PATH:
    short = '...' + short[-_PATH:]
  return f'{short} (backward)' if backward else short


def _place(source: str) -> str:
  """Shortens 'file:line' to a path below the working directory or of the package."""
  path, _, line = source.rpartition(':')
  if 'site-packages/' in path:
    path = path.rpartition('site-packages/')[2]
  elif path:
    path = os.path.relpath(path)
  return f'{path}:{line}' if path else ''


def _rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
  for line in aligned(rows):
    yield f'    {line}'.rstrip()


def compare(variants: Mapping[str, PlannedStep | str], chip: Chip | None) -> str:
  """Formats variants of an experiment side by side, the first one as the reference.

  Args:
    variants: what differs -> the program, or why there is none.
    chip: data sheet of the chip that they were compiled for, if they were.
  """
  head = ('variant', 'step', 'of the first', 'of the peak', 'temporary', 'memory')
  rows = [(*head, 'compiled in')]
  first = next((x for x in variants.values() if isinstance(x, PlannedStep)), None)
  notes = []
  for name, step in variants.items():
    if isinstance(step, str):
      rows.append((name, *'-' * len(head)))
      notes.append(f'{name}: {step}')
      continue
    rows.append((name, *_compared(step, first, chip)))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = (
    row[0].ljust(widths[0])
    + ''.join(f'  {x:>{width}}' for x, width in zip(row[1:], widths[1:], strict=True))
    for row in rows
  )
  return '\n'.join([*lines, *notes])


def _compared(
  step: PlannedStep, first: PlannedStep, chip: Chip | None
) -> tuple[str, ...]:
  timed = step.costs is not None and first.costs is not None
  return (
    milliseconds(step.costs.seconds) if timed else '-',
    f'{step.costs.seconds / first.costs.seconds:.0%}' if timed else '-',
    f'{step.peak_share:.1%}' if timed else '-',
    amount(step.temporary),
    f'{step.memory.total / chip.memory:.0%}' if chip else amount(step.memory.total),
    f'{step.seconds:.0f} s',
  )


def as_json(step: PlannedStep) -> dict[str, Any]:
  """Returns a plan as numbers and texts; times in seconds, sizes in bytes."""
  plain = {
    field.name: getattr(step, field.name)
    for field in dataclasses.fields(step)
    if field.name not in ('costs', 'collectives', 'buffers', 'memory', 'reading')
  }
  plain['memory'] = dataclasses.asdict(step.memory)
  plain['buffers'] = [dataclasses.asdict(x) for x in step.buffers]
  plain['collectives'] = [
    {'kind': kind, 'axes': list(axes), 'runs': runs, 'bytes': size}
    for (kind, axes), (runs, size) in summary(step.collectives, step.mesh).items()
  ]
  if step.costs is not None:
    plain['time'] = _times_as_json(step.costs) | {'peak_share': step.peak_share}
    if step.reading is not None:
      plain['decoding'] = _decoding_as_json(step)
  return plain


def _decoding_as_json(step: PlannedStep) -> dict[str, Any]:
  reading, costs = step.reading, step.costs
  return {
    'weights': reading.weights,
    'cache': reading.cache,
    'steps': reading.steps,
    'least': reading.seconds(costs.chip.memory_speed),
    'estimate': search_seconds(costs) / reading.steps,
    'measures': measured_seconds(costs),
  }


def _times_as_json(costs: Costs) -> dict[str, Any]:
  return {
    'step': costs.seconds,
    **{x: costs.seconds_of(x) for x in ('compiler', 'analytic', 'waiting')},
    'unestimated': {
      kind: {'runs': runs, 'seconds': seconds}
      for kind, (runs, seconds) in costs.unestimated.items()
    },
    'most_expensive': [_expense_as_json(x, costs) for x in costs.largest(_EXPENSIVE)],
  }


def _expense_as_json(cost: Cost, costs: Costs) -> dict[str, Any]:
  named = named_by(costs.module, cost.computation, cost.instruction)
  return {
    'instruction': cost.instruction.name,
    'layer': named.op_name,
    'source': costs.module.source(named),
    'runs': cost.runs,
    'seconds': cost.seconds,
    'by': cost.source,
  }


def table(steps: Sequence[PlannedStep], chips: Mapping[str, Chip]) -> str:
  """Formats the times and speed-ups expected from data sheets, by chip and devices.

  They are those of the stand-in: of no chip's own program.
  """
  head = ('chip', 'devices', 'mesh', 'memory', 'alone', 'sending', 'latency')
  rows = [(*head, 'step', 'at best', 'speed-up', 'efficiency')]
  for name, chip in chips.items():
    rows += [(name, *cells) for cells in _cells_of_chip(steps, chip)]
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return '\n'.join(
    '  '.join(text.rjust(width) for text, width in zip(row, widths, strict=True))
    for row in rows
  )


def _cells_of_chip(
  steps: Sequence[PlannedStep], chip: Chip
) -> Iterator[tuple[str, ...]]:
  base = steps[0]
  base_seconds = _estimate(base, chip).step
  for step in steps:
    e = _estimate(step, chip)
    # Per position, since a batch that grew with the devices has more work in it.
    speed_up = base_seconds / e.step * step.positions / base.positions
    yield (
      str(step.devices),
      'x'.join(str(size) for size in step.mesh.values()),
      f'{(step.state + step.temporary) / chip.memory:.0%}',
      *map(milliseconds, (e.alone, e.sending, e.latency, e.step, e.at_best)),
      f'{speed_up:.2f}',
      f'{speed_up * base.devices / step.devices:.0%}',
    )


def _estimate(step: PlannedStep, chip: Chip) -> Estimate:
  return estimate(chip, step.flops, step.memory_traffic, step.collectives)


def milliseconds(seconds: float) -> str:
  """Formats a time: '12.3 ms'."""
  return f'{seconds * 1e3:.3g} ms' if seconds else '-'

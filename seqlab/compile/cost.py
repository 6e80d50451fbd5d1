"""The time of a compiled program on its chip, instruction by instruction as scheduled.

On a TPU the compiler notes at almost every instruction how many cycles it expects
(`estimated_cycles`). On a GPU the time of an instruction is that of a roofline: its
matrix products at a share of the peak, or its memory traffic, whichever is longer.

An instruction without a note is never free. Its time is that of a roofline too, for a
kernel that of the steps of its grid (`mosaic`), and it is counted in `Costs.unestimated`. A transfer between devices, or between memories of a chip,
that runs beside other instructions costs what the schedule leaves uncovered: the time
from its '-done' until it would be complete.

Which branch of a conditional runs is not known. The most expensive one is counted, so that
the time of a program with conditionals is an upper bound.
"""

from collections.abc import Iterator
import dataclasses
import functools
import re
from typing import Literal

from seqlab.compile import mosaic, work
from seqlab.compile.chips import Chip
from seqlab.compile.collectives import (
  ASYNC_DONE,
  ASYNC_START,
  KINDS,
  Collective,
  collectives,
  continues,
)
from seqlab.compile.hlo import Instruction, Module
from seqlab.compile.roofline import estimate

PRODUCT_SHARE = 0.7  # assumed share of the peak that matrix products of a GPU reach
LAUNCH = 2e-6  # assumed seconds to start a kernel on a GPU
_ISSUE = 30  # assumed cycles to start an instruction of a TPU that has no estimate
_FLOW = ('while', 'conditional', 'call')
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
# Custom calls that reserve memory or mark a place in the program.
_NO_CALLS = re.compile(r'custom_call_target="(?:AllocateBuffer|Sharding|SPMD\w+)"')

Source = Literal['compiler', 'analytic', 'waiting']


@dataclasses.dataclass(frozen=True)
class Cost:
  """The time that an instruction takes in one execution of the program.

  Attributes:
    instruction: the instruction.
    computation: name of its computation.
    runs: number of runs.
    seconds: time of all of its runs.
    source: whether 'compiler' or 'analytic' estimated it, or the program is 'waiting'
      for a transfer that other instructions do not cover.
  """

  instruction: Instruction
  computation: str
  runs: int
  seconds: float
  source: Source


class Costs:
  """The costs of a program on a chip.

  Attributes:
    module: the program.
    chip: data sheet of the device.
    items: cost of every instruction that takes time, in order of the text.
    unestimated: kind -> (runs, seconds) of instructions that only have analytic costs
      where the compiler could have given one; empty on a GPU.
  """

  def __init__(self, module: Module, chip: Chip):
    """Estimates the time of every instruction."""
    self.module, self.chip = module, chip
    self._collectives = {
      (one.place, one.name): one for one in collectives(module) if one.name
    }
    self.items = [
      dataclasses.replace(cost, runs=runs, seconds=cost.seconds * runs)
      for name, runs in module.count_runs(self._executed).items()
      for cost in (self._of_computation(name) if runs else ())
    ]
    self.unestimated = self._count_unestimated() if chip.is_tpu else {}

  @property
  def seconds(self) -> float:
    """Estimated time of one execution."""
    return sum(cost.seconds for cost in self.items)

  def seconds_of(self, source: Source) -> float:
    """Returns the part of the time that was estimated in this way."""
    return sum(cost.seconds for cost in self.items if cost.source == source)

  def largest(self, number: int) -> list[Cost]:
    """Returns the most expensive instructions, the most expensive one first."""
    return sorted(self.items, key=lambda cost: -cost.seconds)[:number]

  def loops(self) -> list[tuple[Instruction, float]]:
    """Returns the outermost loops, and the time of all runs of each."""
    entry = self.module.entry
    loops = (x for x in self.module.computations[entry].values() if x.kind == 'while')
    return [(loop, self._flow(entry, loop)) for loop in loops]

  def _count_unestimated(self) -> dict[str, tuple[int, float]]:
    total: dict[str, tuple[int, float]] = {}
    for cost in self.items:
      if cost.source == 'analytic':
        runs, seconds = total.get(cost.instruction.kind, (0, 0.0))
        total[cost.instruction.kind] = runs + cost.runs, seconds + cost.seconds
    return dict(sorted(total.items(), key=lambda item: -item[1][1]))

  @functools.cache  # noqa: B019  # as long as the costs themselves
  def _of_computation(self, name: str) -> tuple[Cost, ...]:
    """Returns the costs of one run of a computation, without the loops in it."""
    return tuple(self._schedule(name))

  @functools.cache  # noqa: B019
  def _duration(self, name: str) -> float:
    """Returns the time of one run of a computation, with the loops in it."""
    inside = sum(cost.seconds for cost in self._of_computation(name))
    for one in self.module.computations[name].values():
      if one.kind in _FLOW:
        inside += self._flow(name, one)
    return inside

  def _flow(self, name: str, one: Instruction) -> float:
    """Returns the time of a loop, a call, or the longest branch of a conditional."""
    trips = self.module.trips(name, one) if one.kind == 'while' else 1
    return trips * sum(map(self._duration, self._executed(one)))

  def _executed(self, one: Instruction) -> list[str]:
    """Returns the computations that are counted whenever an instruction runs."""
    if one.kind == 'conditional':
      return [max(one.called, key=self._duration)]
    return one.called if one.kind in _FLOW else []

  def _schedule(self, name: str) -> Iterator[Cost]:
    """Goes through a computation in the order in which it is executed."""
    now = 0.0
    free = {'links': 0.0, 'memory': 0.0}  # when the last transfer will be complete
    complete: dict[str, float] = {}  # transfer -> the same for this one
    for one in self.module.computations[name].values():
      if one.kind in _FLOW:
        now += self._flow(name, one)
      elif one.kind.endswith('-start') or one.name.startswith(ASYNC_START):
        channel, seconds = self._transfer(name, one)
        free[channel] = max(free[channel], now) + seconds
        complete[one.name] = free[channel]
      elif one.kind.endswith('-update'):
        complete[one.name] = complete.get(one.operands[0], now)
      elif one.kind.endswith('-done') or one.name.startswith(ASYNC_DONE):
        start = one.name.replace(ASYNC_DONE, ASYNC_START)
        start = start if start in complete else one.operands[0]
        waiting = max(0.0, complete.get(start, now) - now)
        now += waiting
        if waiting:
          yield Cost(one, name, 1, waiting, 'waiting')
      elif one.kind not in work.FREE and not _NO_CALLS.search(one.rest):
        seconds, source = self._instruction(name, one)
        now += seconds
        yield Cost(one, name, 1, seconds, source)

  def _transfer(self, name: str, start: Instruction) -> tuple[str, float]:
    """Returns which channel an asynchronous operation uses, and its time."""
    if collective := self._collectives.get((name, start.name)):
      return 'links', self._sending(collective)
    if any(self._instructions_within(start, KINDS)):
      return 'links', self._sent_within(start)
    # A transfer between memories: its result is (destination, source, counter).
    size = min((x.padded_bytes for x in start.shapes[:2]), default=0)
    return 'memory', size / self.chip.memory_speed

  def _instruction(self, name: str, one: Instruction) -> tuple[float, Source]:
    """Returns the time of a synchronous instruction, and the source of the estimate."""
    if collective := self._collectives.get((name, one.name)):
      return self._sending(collective), 'waiting'
    if any(self._instructions_within(one, KINDS)) and not continues(one):
      return self._sent_within(one), 'waiting'
    noted = _CYCLES.search(one.rest) if self.chip.is_tpu else None
    if noted:
      return int(noted[1]) / self.chip.clock, 'compiler'
    share, start = PRODUCT_SHARE, LAUNCH
    if self.chip.is_tpu:
      share, start = 1.0, _ISSUE / self.chip.clock
    products = work.flops(self.module, name, one) / (share * self.chip.flops)
    memory = work.traffic(self.module, name, one) / self.chip.memory_speed
    if mosaic.is_kernel(one.rest):
      products = mosaic.read_kernel(one.rest).seconds(self.chip)
    return max(products, memory) + start, 'analytic'

  def _instructions_within(
    self, one: Instruction, kinds: tuple[str, ...]
  ) -> Iterator[tuple[str, Instruction]]:
    """Yields the instructions of these kinds in the computations of a fusion."""
    for name in one.called:
      for inside in self.module.computations[name].values():
        if inside.kind.removesuffix('-start') in kinds:
          yield name, inside

  def _sent_within(self, one: Instruction) -> float:
    instructions = self._instructions_within(one, KINDS)
    known = (self._collectives.get((name, x.name)) for name, x in instructions)
    return sum(self._sending(x) for x in known if x)

  def _sending(self, collective: Collective) -> float:
    """Returns the time of one run of a collective."""
    one = dataclasses.replace(collective, runs=1)
    return estimate(self.chip, 0.0, 0.0, [one]).sending

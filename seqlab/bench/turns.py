"""Contenders measured in turns; turns in which other processes ran are left out.

A shared machine changes its speed from minute to minute. Contenders that take turns (A,
B, C, A, B, C, ...) meet the same conditions, and a ratio is taken between turns of one
round. The kernel counts the processor time of all processes, so a turn during which
others ran is known, and is left out. Cores that this process may not use (`taskset`) do
not count.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import os
from pathlib import Path
import time
from typing import NamedTuple, Protocol

import numpy as np

from seqlab.text.workers import all_cores

TURNS = 9
MAX_SHARE = 0.03  # of the cores, for other processes
_PROC = Path('/proc')


class Turn(NamedTuple):
  """What one contender did in one round.

  Attributes:
    speed: units per second.
    others: share of the cores that other processes used meanwhile, 0 to 1.
  """

  speed: float
  others: float

  @property
  def is_quiet(self) -> bool:
    """Whether other processes used at most 3 % of the cores."""
    return self.others <= MAX_SHARE


class Contender(Protocol):
  """What is measured."""

  def turn(self) -> Turn:
    """Works for about a second."""
    ...


@dataclasses.dataclass(frozen=True)
class Load:
  """Processor time since the machine started, in seconds, summed over the cores.

  Attributes:
    clock: time of the reading.
    busy: of all processes, the kernel, and other virtual machines on these cores.
    own: of the processes of one session.
  """

  clock: float
  busy: float
  own: float

  @classmethod
  def read(cls, session: int) -> 'Load':
    """Returns the load now; `session` is the id of the session of a process.

    Raises:
      ValueError: the system does not count processor time as Linux does.
    """
    if not (_PROC / 'stat').exists():
      raise ValueError(
        f'--against needs Linux, which counts the processor time of all processes in '
        f'{_PROC}/stat'
      )
    busy = busy_ticks((_PROC / 'stat').read_text('ascii'), all_cores())
    own = sum(session_ticks(text, session) for text in _process_stats())
    ticks = os.sysconf('SC_CLK_TCK')
    return cls(time.perf_counter(), busy / ticks, own / ticks)

  def others_since(self, start: 'Load') -> float:
    """Returns the share of the cores that other processes used since `start`."""
    others = (self.busy - start.busy) - (self.own - start.own)
    seconds = (self.clock - start.clock) * len(all_cores())
    return max(0.0, others) / seconds


def busy_ticks(stat: str, cores: Iterable[int]) -> int:
  """Returns the ticks of some cores that were not idle, from /proc/stat."""
  lines = {line.split()[0]: line.split()[1:] for line in stat.splitlines() if line}
  total = 0
  for core in cores:
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(
      int, lines[f'cpu{core}']
    )
    total += user + nice + system + irq + softirq + steal
  return total


def session_ticks(stat: str, session: int) -> int:
  """Returns the ticks of a process and its ended children, from /proc/PID/stat.

  0 for a process of another session.
  """
  fields = stat.rpartition(')')[2].split()  # the name may have spaces and brackets
  return sum(map(int, fields[11:15])) if int(fields[3]) == session else 0


def _process_stats() -> Iterable[str]:
  for path in _PROC.glob('[0-9]*/stat'):
    try:
      yield path.read_text('utf-8', 'replace')
    except (FileNotFoundError, ProcessLookupError):  # it has ended
      continue


def take_turns(
  contenders: Mapping[str, Contender], turns: int = TURNS
) -> dict[str, list[Turn]]:
  """Measures contenders in rounds, each of which has one turn per contender.

  Args:
    contenders: name -> contender.
    turns: number of quiet turns that every contender should get. The number of rounds
      is between this and twice as many, however noisy the machine is.
  """
  rounds: dict[str, list[Turn]] = {name: [] for name in contenders}
  for i in range(2 * turns):
    counts = [sum(turn.is_quiet for turn in taken) for taken in rounds.values()]
    if i >= turns and min(counts) >= turns:
      break
    for name, contender in contenders.items():
      rounds[name].append(contender.turn())
  return rounds


class Spread(NamedTuple):
  """Median and quartiles.

  Attributes:
    low: first quartile.
    median: second quartile.
    high: third quartile.
  """

  low: float
  median: float
  high: float

  @classmethod
  def of(cls, values: Sequence[float]) -> 'Spread | None':
    """Returns the quartiles; None if there are no values."""
    if not len(values):
      return None
    return cls(*np.quantile(values, (0.25, 0.5, 0.75)).tolist())


def speed_of(turns: Sequence[Turn]) -> Spread | None:
  """Returns the speeds of the quiet turns; None if no turn was quiet."""
  return Spread.of([turn.speed for turn in turns if turn.is_quiet])


def ratio_of(turns: Sequence[Turn], baseline: Sequence[Turn]) -> Spread | None:
  """Returns the ratio of speeds over the rounds in which both turns were quiet."""
  pairs = zip(turns, baseline, strict=True)
  return Spread.of([a.speed / b.speed for a, b in pairs if a.is_quiet and b.is_quiet])

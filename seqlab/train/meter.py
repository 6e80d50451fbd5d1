"""The metrics of a step, and its cost."""

from collections.abc import Sequence
import time

from seqlab.tasks.interface import Batches, Task
from seqlab.train.compile_counter import CompileCounter
from seqlab.train.device import peak_flops, peak_memory
from seqlab.train.engine import Engine
from seqlab.train.run_programs import RunPrograms
from seqlab.types import Batch, Sums


class Meter:
  """Completes the rows of metrics with times, speeds and counts of compilations."""

  def __init__(
    self, engine: Engine, task: Task, batches: Batches, programs: RunPrograms
  ):
    """Starts to measure: what was compiled or waited for before does not count."""
    self._programs = programs
    self._engine, self._task = engine, task
    self._steps_per_epoch = batches.steps_per_epoch
    definition = engine.definition
    # Each process sees its own rows, and shares have about the same number of tokens.
    self._shares = definition.rows_share[1]
    self._peak_flops = peak_flops(definition.mesh.size)
    self._compiles = CompileCounter()
    self._seconds, self._since = 0.0, 0.0
    self.restart_clock()

  def restart_clock(self) -> None:
    """Excludes the time since the last step, such as that of an evaluation."""
    self._since = time.monotonic()

  def rows(
    self, step: int, sums: Sums, batches: Sequence[Batch]
  ) -> list[dict[str, float]]:
    """Waits for a step's sums and returns each member's row of metrics.

    Args:
      step: number of the step, from 1.
      sums: what the engine's step returned.
      batches: each member's batch, this process's share of the rows.
    """
    rows = self._engine.fetch(sums)
    now = time.monotonic()
    self._seconds, self._since = now - self._since, now
    return [
      row | self._costs(step, batch) for row, batch in zip(rows, batches, strict=True)
    ]

  def _costs(self, step: int, batch: Batch) -> dict[str, float]:
    tokens = self._task.tokens(batch) * self._shares
    costs = {
      'epoch': step / self._steps_per_epoch,
      'compiles': self._compiles.count,
      # Where it is not 0, the compiler shares the processor with the step.
      'speed/compiling': self._programs.num_waiting,
      'speed/seconds': self._seconds,
      'speed/tokens_per_s': tokens / self._seconds,
      **peak_memory(),
    }
    if self._peak_flops:
      flops = self._task.flops(batch) * self._shares
      costs['speed/flops_utilisation'] = flops / self._seconds / self._peak_flops
    return costs

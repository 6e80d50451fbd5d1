"""How fast training steps are, over the batch shapes of an epoch."""

import dataclasses

from seqlab.bench.measure import Row, Subject, best, timed
from seqlab.train.device import peak_flops
from seqlab.types import Batch

_MAX_BATCHES = 2_000  # enough for the frequencies of shapes; an epoch may have 100,000


@dataclasses.dataclass
class ShapeTotals:
  """The batches of one shape.

  Attributes:
    example: one of them.
    count: number of them.
    tokens: tokens of all of them.
    flops: floating-point operations of all of them.
  """

  example: Batch
  count: int = 0
  tokens: int = 0
  flops: float = 0.0


def measure_train(subject: Subject) -> list[Row]:
  """Returns tokens per second, share of the peak, and the seconds of compiling."""
  shapes = group_by_shape(subject)
  step = subject.training_step(steps=1_000)
  compiling, _ = timed(lambda: [step.compile(shape.example) for shape in shapes])
  seconds = 0.0
  for shape in shapes:
    batch = step.put(shape.example)
    # Weighted by frequency, since a shape of few rows is slower per token.
    seconds += shape.count * best(lambda batch=batch: step.update(batch), 4)
  tokens, flops = (sum(getattr(s, key) for s in shapes) for key in ('tokens', 'flops'))
  note = f'an epoch: {len(shapes)} shapes, best of 4 each'
  rows = [
    Row('train', tokens / seconds, f'{subject.token_name}/s', note),
    Row('train', flops / seconds / 1e9, 'model GFLOP/s', '6 per weight and token'),
    Row('compile', compiling, 's', f'{len(shapes)} shapes; cached ones cost less'),
  ]
  if peak := peak_flops(step.num_devices):
    share = 100 * flops / seconds / peak
    rows.append(Row('train', share, '% of peak', f'peak {peak / 1e9:,.0f} GFLOP/s'))
  return rows


def group_by_shape(subject: Subject) -> list[ShapeTotals]:
  """Returns the batches of an epoch by their shape."""
  totals: dict[tuple, ShapeTotals] = {}
  for k in range(min(subject.batches.steps_per_epoch, _MAX_BATCHES)):
    batch = subject.batches.batch(k, seed=0)
    shape = tuple(x.shape for x in batch.values())
    group = totals.setdefault(shape, ShapeTotals(batch))
    group.count += 1
    group.tokens += subject.task.tokens(batch)
    group.flops += subject.task.flops(batch)
  return list(totals.values())

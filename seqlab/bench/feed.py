"""How fast batches are made, without the model."""

from seqlab.bench.measure import Row, Subject, timed
from seqlab.data.loader import feed


def measure_feed(subject: Subject) -> list[Row]:
  """Returns batches and tokens per second of the training split."""
  task, batches = subject.task, subject.batches
  steps = min(max(200, batches.steps_per_epoch), 2_000)
  batches.batch(0, seed=0)  # plans the first epoch, which happens once

  def read() -> int:
    stream = feed(lambda k: batches.batch(k, seed=0), 0, steps)
    return sum(task.tokens(batch) for batch in stream)

  seconds, tokens = min(timed(read) for _ in range(3))
  note = f'{steps} batches, shuffled, {tokens / steps:,.0f} tokens each; best of 3'
  return [
    Row('feed', steps / seconds, 'batches/s', note),
    Row('feed', tokens / seconds, f'{subject.token_name}/s', note),
  ]

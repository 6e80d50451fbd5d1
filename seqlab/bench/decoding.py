"""How fast sentences are translated."""

from collections.abc import Mapping

from seqlab.bench.measure import Row, Subject, timed
from seqlab.decoding.config import Beam
from seqlab.tasks.translator import Translator

_MAX_LINES = 512


def measure_decoding(subject: Subject) -> list[Row]:
  """Returns sentences and tokens per second of greedy and of beam search.

  The weights are untrained, so that all outputs have the greatest length allowed.
  """
  task = subject.task
  split = _split(subject)
  lines = task.corpus.read(split)[0][:_MAX_LINES]
  variables = subject.training_step(steps=1).variables
  note = f'{len(lines)} sentences of {split}, untrained weights'
  rows = []
  for beam in (1, 5):
    translator = Translator(task.model, variables, task.vocabularies, Beam(beam=beam))
    translator.translate(lines)  # compiles
    translator.written = 0
    seconds, _ = timed(lambda t=translator: t.translate(lines))
    written = translator.written / seconds
    rows += [
      Row(f'decode, beam {beam}', len(lines) / seconds, 'sentences/s', note),
      Row(f'decode, beam {beam}', written, 'tokens/s', note),
    ]
  return rows


def _split(subject: Subject) -> str:
  """Returns the split of the first evaluator that has one."""
  evaluators = subject.config['evals'].values()  # names, or sections
  splits = (x.get('split') for x in evaluators if isinstance(x, Mapping))
  return next(filter(None, splits), 'train')

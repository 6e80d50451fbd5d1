"""How fast sentences are translated, and text is generated."""

from collections.abc import Mapping
import dataclasses

from seqlab.bench.measure import Row, Subject, measure_speed, timed
from seqlab.decoding.config import Beam, MinimumBayesRisk, Sampling
from seqlab.tasks.generator import Generator
from seqlab.tasks.translator import Translator

_MAX_LINES = 512
_LENGTH = 128  # tokens of a generated text
_MBR_LINES = 20


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


def measure_mbr(subject: Subject) -> list[Row]:
  """Returns the CPU time of minimum Bayes risk, and of its samples alone.

  What is left is that of the utilities of all pairs of samples. The weights are
  untrained, so that samples have the greatest length allowed.
  """
  task, split = subject.task, _split(subject)
  lines = task.corpus.read(split)[0][:_MBR_LINES]
  variables = subject.training_step(steps=1).variables
  seconds = {}
  for kind in (MinimumBayesRisk, _Unranked):
    translator = Translator(task.model, variables, task.vocabularies, kind())
    translator.best_ids(lines)  # compiles
    speed = measure_speed(lambda t=translator: len(t.best_ids(lines)), tries=2)
    seconds[kind] = 1 / speed.cpu
  both, samples = seconds.values()
  note = f'{len(lines)} sentences of {split}, chrF, untrained weights'
  unit = 's of CPU per sentence'
  return [
    Row('mbr 64', both, unit, note),
    Row('mbr 64, samples', samples, unit, note),
  ]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Unranked(MinimumBayesRisk):
  """The samples in the order in which they are drawn."""

  def rank(self, tokens, scores, pieces):
    """Compares nothing."""
    del pieces
    return tokens, scores


def measure_generation(subject: Subject) -> list[Row]:
  """Returns the tokens per second of sampled texts, one and 64 at a time."""
  variables, rows = subject.training_step(steps=1).variables, []
  for texts in (1, 64):
    generator = Generator(subject.task, variables, Sampling(), rows=texts)

    def generate(generator: Generator = generator, texts: int = texts) -> None:
      generator.generate([''], length=_LENGTH, samples=texts)

    generate()  # compiles
    generator.written = 0
    seconds, _ = timed(generate)
    note = f'{texts} texts of {_LENGTH} tokens, untrained weights'
    rows.append(
      Row(f'generate, {texts} at once', generator.written / seconds, 'tokens/s', note)
    )
  return rows


def _split(subject: Subject) -> str:
  """Returns the split of the first evaluator that has one."""
  evaluators = subject.config['evals'].values()  # names, or sections
  splits = (x.get('split') for x in evaluators if isinstance(x, Mapping))
  return next(filter(None, splits), 'train')

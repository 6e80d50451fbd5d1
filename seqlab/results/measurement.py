"""How a row is measured: the call of `seqlab evaluate`, and the value in its record.

The metric decides which of the three measurements of `seqlab evaluate` it is:

- 'test/bleu', where the second part is a measure of outputs: the split is decoded;
- 'men/known' and 'men/all': the word vectors are scored on a set;
- all else, such as 'valid/nll': an evaluator of the experiment is run by its name. An
  evaluator that decodes is chosen by `evaluate='--evals NAME'`.
"""

from collections.abc import Iterable, Mapping, Sequence
import math
import shlex
from typing import Any, NamedTuple

from seqlab.results.row import Row

# seqlab.metrics.measures.MEASURES, which needs JAX.
OUTPUTS = (
  *('exact', 'cer', 'per', 'wer', 'word_errors', 'symbol_accuracy'),
  *('bleu', 'chrf', 'chrf++', 'ter'),
)
COVERAGES = ('known', 'all')


class Measurement(NamedTuple):
  """One call of `seqlab evaluate`, which may measure several rows of a run.

  Attributes:
    kind: 'outputs', 'sets' or 'evaluators'.
    split: the split or evaluator or set; rows of one search have the same.
    evaluate: `Row.evaluate`.
  """

  kind: str
  split: str
  evaluate: str

  @classmethod
  def of(cls, row: Row) -> 'Measurement':
    """Returns the measurement of a row."""
    options = shlex.split(row.evaluate)
    if any(option.partition('=')[0] == '--evals' for option in options):
      return cls('evaluators', row.split, row.evaluate)
    if row.measure.partition('/')[0] in OUTPUTS:
      return cls('outputs', row.split, row.evaluate)
    if row.measure in COVERAGES:
      return cls('sets', row.split, row.evaluate)
    return cls('evaluators', row.split, row.evaluate)

  def command(self, run: str, rows: Iterable[Row]) -> list[str]:
    """Returns the words of `seqlab evaluate` that measure rows in one search.

    Args:
      run: folder of the run.
      rows: rows with this measurement.
    """
    options = shlex.split(self.evaluate)
    if self.kind == 'outputs':
      measures = dict.fromkeys(row.measure.partition('/')[0] for row in rows)
      chosen = ['--split', self.split, '--measures', *measures]
    elif self.kind == 'sets':
      chosen = ['--sets', self.split.partition(' ')[0]]
    else:
      chosen = [] if self._evaluator() else ['--evals', self.split]
    return ['evaluate', run, *chosen, *options]

  def data_split(self, evals: Mapping[str, Any]) -> str:
    """Returns the split whose evaluations the ledger counts.

    Args:
      evals: section `evals` of the experiment.
    """
    if self.kind != 'evaluators':
      return self.split
    options = evals.get(self._evaluator() or self.split)
    own = options.get('split') if isinstance(options, Mapping) else None
    return _option(self.evaluate, '--split') or own or self.split

  def value(self, row: Row, record: Mapping[str, Any]) -> float:
    """Returns the value of a row in the record that `seqlab evaluate` has written.

    Raises:
      ValueError: the record does not have it, or it is not a number.
    """
    value = self._value(row, record.get('scores', {}))
    if value is None or not math.isfinite(value):
      raise ValueError(
        f'{row.name}: the evaluation has {"no number" if value is None else value} for '
        f'it (it has {", ".join(_names(record)) or "nothing"}): correct Row.metric'
      )
    return float(value)

  def _value(self, row: Row, scores: Any) -> float | None:
    if self.kind == 'outputs':
      named = {score['name']: score['score'] for score in scores}
      if row.measure != 'bleu':
        return named.get(row.measure)
      # The first one is by the convention of the corpus.
      return next((x for name, x in named.items() if name.startswith('bleu (')), None)
    if self.kind == 'sets':
      return scores.get(self.split, {}).get(row.measure, {}).get('value')
    return scores.get(f'{self._evaluator() or self.split}/{row.measure}')

  def _evaluator(self) -> str | None:
    """Returns the evaluator that `evaluate` names, if it names one."""
    return _option(self.evaluate, '--evals')


def grouped(rows: Sequence[Row]) -> dict[Measurement, list[Row]]:
  """Groups rows by the search that measures them."""
  groups: dict[Measurement, list[Row]] = {}
  for row in rows:
    groups.setdefault(Measurement.of(row), []).append(row)
  return groups


def _option(text: str, name: str) -> str | None:
  """Returns the value of an option: '--evals valid' or '--evals=valid' -> 'valid'."""
  words = shlex.split(text)
  for i, word in enumerate(words):
    option, equals, value = word.partition('=')
    if option == name:
      return value if equals else next(iter(words[i + 1 : i + 2]), None)
  return None


def _names(record: Mapping[str, Any]) -> list[str]:
  """Returns the names of the scores of a record."""
  scores = record.get('scores', {})
  return [x['name'] for x in scores] if isinstance(scores, list) else [*scores]

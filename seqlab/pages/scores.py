"""Scores of runs after training: with intervals, beside the paper's, compared."""

from collections.abc import Callable, Mapping, Sequence
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seqlab.metrics.bootstrap import compare, confidence_interval
from seqlab.metrics.measures import BLEU, SHARES, make_measures
from seqlab.pages.html import Markup, element, table
from seqlab.report.runs import Run
from seqlab.results.beside import rows_of_run
from seqlab.results.measurement import Measurement
from seqlab.results.row import Row
from seqlab.results.verdicts import WITHIN, judge
from seqlab.use.records import arrays_in
from seqlab.use.translations import decoding_of

_SAMPLES = 1_000  # of the bootstrap


class Recorded(NamedTuple):
  """The last evaluation of a run on one split.

  Attributes:
    record: what `seqlab evaluate` wrote.
    statistics: tokeniser of BLEU, or measure -> integers of each line, [R, C].
  """

  record: dict[str, Any]
  statistics: dict[str, np.ndarray]


def recorded_evaluations(folder: Path) -> dict[str, Recorded]:
  """Returns split -> its last evaluation that decoded it."""
  path = folder / 'evaluations.jsonl'
  lines = path.read_text('utf-8').splitlines() if path.is_file() else []
  evaluations = {}
  for line in lines:
    try:
      record = json.loads(line)
    except ValueError:  # a line that a power cut left incomplete
      continue
    if 'split' in record and isinstance(record.get('scores'), list):
      split = record['split']
      statistics = arrays_in(folder / 'evaluations' / f'{split}.npz')
      evaluations[split] = Recorded(record, statistics)
  return evaluations


def scores_section(evaluations: Mapping[str, Mapping[str, Recorded]]) -> list[Markup]:
  """Returns a table of all scores with intervals, and paired tests of several runs.

  Args:
    evaluations: name of a run -> split -> its evaluation.
  """
  if not any(evaluations.values()):
    return [
      element(
        'p',
        'No split has been decoded after training: ',
        element('code', 'seqlab evaluate RUN --split test'),
        ', or ',
        element('code', 'seqlab report RUN --split test'),
        ', does that.',
      )
    ]
  head = ('run', 'split', 'measure', 'score', '95 % interval', 'signature')
  rows = [
    (run, split, score['name'], *_shown(score, recorded), _how(score, recorded.record))
    for run, by_split in evaluations.items()
    for split, recorded in by_split.items()
    for score in recorded.record['scores']
    if '/' not in score['name']
  ]
  note = (
    f'Intervals are those of {_SAMPLES:,} bootstrap samples of the lines (Koehn 2004), '
    'as mean ± half of the width.'
  )
  return [element('p', note, class_='muted'), table(head, rows), *_tests(evaluations)]


def _shown(score: Mapping[str, Any], recorded: Recorded) -> tuple[str, str]:
  """Returns a score and its interval as texts."""
  value = _number(score['name'], score['score'])
  counted = _counted(score, recorded)
  if counted is None:
    return value, '-'
  mean, half = confidence_interval(
    counted.rows, samples=_SAMPLES, score=counted.measure.score
  )
  return value, f'{_number(score["name"], mean)} ± {_number(score["name"], half)}'


class _Counted(NamedTuple):
  """What a score is computed from.

  Attributes:
    key: name of the integers in the folder of the run.
    measure: function of them.
    rows: the integers of each line, [R, C].
  """

  key: str
  measure: Any
  rows: np.ndarray


def _counted(score: Mapping[str, Any], recorded: Recorded) -> _Counted | None:
  """Returns what a recorded score is computed from.

  Returns:
    None if the folder has no integers of the measure, or those of another evaluation:
    they stay when a later evaluation counts other measures.
  """
  key, measure = _measure_of(score)
  rows = recorded.statistics.get(key)
  if measure is None or rows is None or not len(rows):
    return None
  counted = float(measure.score(rows.sum(axis=0)))
  if not math.isclose(counted, score['score'], rel_tol=1e-4, abs_tol=1e-4):
    return None
  return _Counted(key, measure, rows)


def _number(name: str, value: float) -> str:
  """Returns a share with four digits, and a percentage with two."""
  return f'{value:.4f}' if name.partition('/')[0] in SHARES else f'{value:.2f}'


def _measure_of(score: Mapping[str, Any]) -> tuple[str, Any]:
  """Returns the key of a score's statistics, and the measure; None if it has none."""
  name = score['name']
  if name.startswith('bleu ('):
    tokenizer = name.removeprefix('bleu (').partition(',')[0].rstrip(')')
    return f'{tokenizer}{"-lc" * ("case:lc" in score["signature"])}', BLEU()
  try:
    (measure,) = make_measures([name])
  except ValueError:
    return name, None
  return name, measure


def _how(score: Mapping[str, Any], record: Mapping[str, Any]) -> Markup:
  steps = ', '.join(f'{step:,}' for step in record.get('steps', ()))
  text = (
    f'{decoding_of(record["search"])}; checkpoints of steps {steps}; '
    f'{record.get("lines", 0):,} lines'
  )
  return element('small', ' '.join(filter(None, (score['signature'], f'({text})'))))


def _tests(evaluations: Mapping[str, Mapping[str, Recorded]]) -> list[Markup]:
  """Returns paired tests of all runs that were scored on the same text."""
  splits = dict.fromkeys(split for own in evaluations.values() for split in own)
  shown = []
  for split in splits:
    runs = {run: own[split] for run, own in evaluations.items() if split in own}
    if len(runs) < 2:
      continue
    if len({recorded.record.get('text') for recorded in runs.values()}) > 1:
      shown.append(element('p', f'The runs have different texts in {split}.'))
      continue
    shown += _tests_of(split, runs)
  if not shown:
    return []
  note = (
    'p is that of the paired bootstrap: how probable a difference of at least this size '
    'is between equal systems. It does not say what another seed would give.'
  )
  return [
    element('h3', 'Differences from the first run'),
    element('p', note, class_='muted'),
    *shown,
  ]


class Shared(NamedTuple):
  """A score that several runs have the integers of.

  Attributes:
    name: its name in a record, such as 'bleu (13a)'.
    score: function of summed statistics.
    statistics: integers of each line of each run, [R, C].
  """

  name: str
  score: Callable[[np.ndarray], Any]
  statistics: list[np.ndarray]


def shared_score(runs: Sequence[Recorded]) -> Shared | None:
  """Returns the first score of all runs whose integers they have for the same lines."""
  for score in runs[0].record['scores'] if runs else ():
    counted = [_counted_by_name(score['name'], x) for x in runs]
    if None in counted or len({(x.key, len(x.rows)) for x in counted}) > 1:
      continue
    return Shared(score['name'], counted[0].measure.score, [x.rows for x in counted])
  return None


def _counted_by_name(name: str, recorded: Recorded) -> _Counted | None:
  """Returns what a run's score of this name is computed from; None if it has none."""
  for score in recorded.record['scores']:
    if score['name'] == name:
      return _counted(score, recorded)
  return None


def _tests_of(split: str, runs: Mapping[str, Recorded]) -> list[Markup]:
  """Returns a table of the first score that all runs have the integers of."""
  shared = shared_score([*runs.values()])
  if shared is None:
    return []
  compared = compare(shared.statistics, samples=_SAMPLES, score=shared.score)
  cells = [
    (
      run,
      _number(shared.name, x.score),
      '' if not i else f'{x.score - compared[0].score:+.4g}',
      'baseline' if x.p_value is None else f'{x.p_value:.4f}',
    )
    for i, (run, x) in enumerate(zip(runs, compared, strict=True))
  ]
  head = ('run', f'{shared.name}, {split}', 'difference', 'p')
  return [*_different_searches(runs), table(head, cells)]


def _different_searches(runs: Mapping[str, Recorded]) -> list[Markup]:
  """Returns a note if outputs were found in different ways, with what differs."""
  searches = {run: recorded.record['search'] for run, recorded in runs.items()}
  names = dict.fromkeys(name for search in searches.values() for name in search)
  values = {name: [x.get(name) for x in searches.values()] for name in names}
  differing = [name for name, x in values.items() if any(y != x[0] for y in x)]
  if not differing:
    return []
  described = [
    f'{run} with ' + ', '.join(f'{n} {search.get(n, "default")}' for n in differing)
    for run, search in searches.items()
  ]
  text = f'The runs were decoded with different options: {"; ".join(described)}.'
  return [element('p', text, class_='bad')]


def paper_section(
  groups: Mapping[str, Sequence[Run]],
  evaluations: Mapping[Path, Mapping[str, Recorded]],
) -> list[Markup]:
  """Returns the published value beside the mean of each group, and the verdict.

  Nothing is returned where the experiment states no value, or has changed since.

  Args:
    groups: label -> runs that differ in the seed only.
    evaluations: folder of a run -> split -> its evaluation.
  """
  rows = []
  for label, runs in groups.items():
    for row in rows_of_run(runs[0].path):
      values = [x for run in runs if (x := _value(row, run, evaluations)) is not None]
      rows.append((label, *_verdict(row, values)))
  if not rows:
    return []
  head = ('runs', 'row', 'published', 'here', 'seeds', 'verdict', 'known differences')
  return [element('h2', 'Beside the paper'), table(head, rows)]


def _value(
  row: Row, run: Run, evaluations: Mapping[Path, Mapping[str, Recorded]]
) -> float | None:
  """Returns what a run has for a row: from an evaluation, or from its training."""
  measurement = Measurement.of(row)
  own = evaluations.get(run.path, {})
  if recorded := own.get(measurement.data_split(run.config.get('evals', {}))):
    try:
      return measurement.value(row, recorded.record)
    except (ValueError, TypeError, KeyError, AttributeError):  # of another kind
      pass
  return run.final(row.metric) if run.has(row.metric) and not row.evaluate else None


def _verdict(row: Row, values: Sequence[float]) -> tuple[str, ...]:
  published = f'{row.value:g} ± {row.tolerance:g} ({row.of})'
  if not values:
    return row.name, published, '-', '0', 'not measured', row.differs
  verdict = judge(row, values)
  interval = '' if verdict.interval is None else f' ± {verdict.interval:.2g}'
  colour = 'good' if verdict.relation == WITHIN else 'bad'
  seeds = f'{verdict.n} of {row.seeds}'
  text = verdict.verdict
  if text != verdict.relation:
    text = f'{text} ({verdict.relation})'
  shown = element('span', text, class_=colour)
  return row.name, published, f'{verdict.mean:.4g}{interval}', seeds, shown, row.differs

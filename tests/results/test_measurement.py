"""The command that measures a row, and the value in its record."""

import pytest

from seqlab.metrics.measures import MEASURES
from seqlab.results.measurement import OUTPUTS, Measurement, grouped
from seqlab.results.row import Row

BLEU = [
  {'name': 'exact', 'score': 0.1},
  {'name': 'exact/active', 'score': 0.2},
  {'name': 'bleu (none)', 'score': 41.0},
  {'name': 'bleu (13a, of tokens)', 'score': 42.0},
]
WORDS = {'google semantic': {'known': {'value': 60.0}, 'all': {'value': None}}}


def row(metric, evaluate=''):
  fields = dict(value=1.0, of='A', url='https://a.org', tolerance=0.1)
  return Row(metric=metric, evaluate=evaluate, **fields)


def test_the_measures_of_outputs_are_those_of_the_program():
  assert OUTPUTS == MEASURES


@pytest.mark.parametrize(
  ('metric', 'evaluate', 'command', 'scores', 'value', 'split'),
  [
    (
      *('test/bleu', '--beam 1', '--split test --measures bleu --beam 1'),
      *(BLEU, 41.0, 'test'),
    ),
    ('gen/exact/active', '', '--split gen --measures exact', BLEU, 0.2, 'gen'),
    ('valid/nll', '', '--evals valid', {'valid/nll': 1.8}, 1.8, 'dev'),
    (
      *('valid/bleu', '--evals=valid --average 2', '--evals=valid --average 2'),
      *({'valid/bleu': 3.0}, 3.0, 'dev'),
    ),
    (
      *('test/nll', '--evals valid --split test', '--evals valid --split test'),
      *({'valid/nll': 1.9}, 1.9, 'test'),
    ),
    ('google semantic/known', '', '--sets google', WORDS, 60.0, 'google semantic'),
  ],
)
def test_the_metric_decides_the_command(
  metric, evaluate, command, scores, value, split
):
  measured = row(metric, evaluate)
  measurement = Measurement.of(measured)
  words = measurement.command('run', [measured])
  assert words == ['evaluate', 'run', *command.split()]
  assert measurement.value(measured, {'scores': scores}) == value
  evals = {'valid': {'kind': 'bits', 'split': 'dev'}}
  assert measurement.data_split(evals) == split


def test_rows_of_one_search_are_measured_together():
  rows = [row('test/bleu'), row('test/exact'), row('test/bleu', '--beam 1')]
  first, second = grouped(rows).items()
  assert first[0].command('run', first[1])[-2:] == ['bleu', 'exact']
  assert second[1] == rows[2:]


def test_a_missing_value_is_explained():
  missing = row('google semantic/all')
  with pytest.raises(ValueError, match=r'no number for it \(it has google semantic\)'):
    Measurement.of(missing).value(missing, {'scores': WORDS})

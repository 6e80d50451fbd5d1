"""The table and the figures of a search, from trials that are never run."""

import datetime

import pytest

optuna = pytest.importorskip('optuna', reason='Optuna is not installed')

from optuna.distributions import CategoricalDistribution as Categorical  # noqa: E402
from optuna.distributions import FloatDistribution as Float  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

from seqlab.report.search import (  # noqa: E402
  _scale,
  importances,
  parallel_coordinates,
  trials_table,
  write,
)

SPACE = {
  'hyper.peak': Float(1e-4, 1e-2, log=True),
  'cell': Categorical(['gru', 'lstm']),
}


def _trial(peak, cell, value=None, state=TrialState.COMPLETE, **attributes):
  now = datetime.datetime(2026, 1, 1)
  trial = create_trial(
    params={'hyper.peak': peak, 'cell': cell},
    distributions=SPACE,
    value=value,
    state=state,
    user_attrs=attributes,
  )
  trial.datetime_complete = now
  return trial


TRIALS = {
  0: _trial(1e-3, 'gru', 10.0, seconds=90.0),
  1: _trial(2e-3, 'lstm', 30.0, seconds=60.0),
  2: _trial(5e-4, 'gru', 50.0, TrialState.PRUNED, seconds=30.0),
  3: _trial(1e-2, 'lstm', None, TrialState.FAIL, reason='ValueError: no\nmore'),
}


def test_a_table_has_the_best_first_and_a_pruned_one_is_never_best():
  assert trials_table(TRIALS, 'valid/bleu') == (
    '| trial | peak   | cell | valid/bleu | state    | minutes |\n'
    '| ----- | ------ | ---- | ---------: | -------- | ------- |\n'
    '| 0001  | 0.002  | lstm |  **30.00** | finished | 1.0     |\n'
    '| 0000  | 0.001  | gru  |      10.00 | finished | 1.5     |\n'
    '| 0002  | 0.0005 | gru  |         50 | pruned   | 0.5     |\n'
    '| 0003  | 0.01   | lstm |          - | failed   | -       |\n'
  )


def test_lower_values_may_be_better():
  lines = trials_table(TRIALS, 'nll', best_is='min').splitlines()
  assert [line[2:6] for line in lines[2:]] == ['0000', '0001', '0002', '0003']
  assert '**10.00**' in lines[2]


def test_too_few_trials_for_a_figure_are_reported(tmp_path):
  wrote = write(TRIALS, tmp_path, metric='valid/bleu')
  assert sorted(path.name for path in wrote) == [
    *('parallel-coordinates.png', 'parallel-coordinates.svg', 'table.md')
  ]
  assert (tmp_path / 'table.md').read_text('utf-8').splitlines()[-3:] == [
    '0003 failed: ValueError: no',
    '',
    'There is no figure of importance: 2 trials are finished, and it needs 4.',
  ]


def _many():
  """Returns ten trials whose value depends on the learning rate only."""
  return {i: _trial(1e-4 * 1.5**i, ('gru', 'lstm')[i % 2], float(i)) for i in range(10)}


def test_the_parameter_that_matters_is_important(tmp_path):
  pytest.importorskip('sklearn', reason='scikit-learn is not installed')
  shares, method = importances(_many())
  assert list(shares) == ['peak', 'cell']
  assert shares['peak'] > 0.9
  assert sum(shares.values()) == pytest.approx(1)
  assert method == 'fANOVA'
  names = {path.name for path in write(_many(), tmp_path, metric='valid/bleu')}
  assert {'importance.png', 'importance.svg'} < names


def test_trials_that_are_equally_good_have_no_importance():
  trials = {i: _trial(1e-3 / (i + 1), 'gru', 1.0) for i in range(5)}
  assert importances(trials) == ({}, 'all trials are equally good')


def test_an_axis_covers_all_possible_values():
  peak, cell = _scale([SPACE['hyper.peak']]), _scale([SPACE['cell']])
  assert [peak.height(x) for x in (1e-4, 1e-3, 1e-2)] == pytest.approx([0, 0.5, 1])
  assert [label for _, label in peak.ticks] == ['0.0001', '0.001', '0.01']
  narrow = _scale([Float(3e-4, 3e-2, log=True)])
  assert [label for _, label in narrow.ticks] == [
    *('0.0003', '0.001', '0.003', '0.01', '0.03')
  ]
  assert [cell.height(x) for x in ('gru', 'lstm')] == [0, 1]


def test_parallel_coordinates_name_their_axes(tmp_path):
  _, svg = parallel_coordinates(tmp_path / 'a', TRIALS, 'valid/bleu')
  text = svg.read_text('utf-8')
  for words in (
    *('peak', 'cell', 'valid/bleu', 'lstm', '0.001'),
    *('3 trials, 1 of them pruned', 'pruned, with its last value'),
  ):
    assert f'<!-- {words} -->' in text

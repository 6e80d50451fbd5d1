"""`seqlab reproduce`: what it runs, what it does not run again, what it records."""

import json
from pathlib import Path
import re

import pytest

from seqlab.results import Row
from seqlab.results.records import read_lines
from seqlab.results.reproduce import choose_rows

LEDGER = Path('docs/results/ledger.jsonl')


def test_each_run_is_trained_once_and_each_split_evaluated_once(experiment, fake):
  assert experiment.reproduce() == 0
  base = 'runs/reproduce/small-reverse/base/seed'
  other = 'runs/reproduce/small-reverse/width=9/seed-0'
  train = ['train', str(experiment), '--workdir']
  assert fake.called == [
    [*train, f'{base}-0', '--config.seed=0'],
    ['evaluate', f'{base}-0', '--split', 'test', '--measures', 'exact', 'per'],
    [*train, f'{base}-1', '--config.seed=1'],
    ['evaluate', f'{base}-1', '--split', 'test', '--measures', 'exact', 'per'],
    ['train', f'{experiment}:width=9', '--workdir', other, '--config.seed=0'],
    ['evaluate', other, '--evals', 'valid'],
  ]
  fake.called.clear()
  before = experiment.records.read_text()
  assert experiment.reproduce() == 0
  assert fake.called == []
  assert experiment.records.read_text() == before


def test_a_seed_is_recorded_with_all_that_it_came_from(experiment, fake):
  experiment.reproduce('--rows', 'test/exact', '--parallel', '2')
  seed = next(line for line in experiment.lines('seed') if line['seed'] == 1)
  known = dict(row='test/exact', metric='test/exact', args='', evaluate='', value=0.51)
  known |= dict(paper=0.5, tolerance=0.05, split='test', steps=[4], device='1 x cpu')
  known |= dict(data={'test': 'def', 'train': 'abc'}, dtype='float32')
  known |= dict(training_seconds=2.0)
  assert {key: seed[key] for key in known} == known
  assert seed['command'].startswith('seqlab evaluate runs/reproduce/small-reverse/base')
  assert set(seed['signature']) == {'experiment', 'configuration', 'numerics'}
  assert {'commit', 'dirty', 'machine', 'date', 'evaluation'} <= set(seed)
  copies = experiment.records.with_suffix('')
  assert json.loads((copies / 'base-seed-1.config.json').read_text())['seed'] == 1
  assert len((copies / 'base-seed-1.metrics.jsonl').read_text().splitlines()) == 4


def test_verdicts_compare_all_seeds(experiment, fake, capsys):
  experiment.reproduce()
  exact, per, nll = experiment.lines('verdict')
  assert exact['values'] == {'0': 0.5, '1': 0.51}
  assert exact['mean'] == pytest.approx(0.505)
  assert exact['verdict'] == exact['relation'] == 'reproduced'
  assert (per['verdict'], per['relation']) == ('different protocol', 'above')
  assert (nll['n'], nll['interval']) == (1, None)
  assert 'test/exact: 0.505 ± 0.064 (n = 2), published 0.5' in capsys.readouterr().out


def test_rows_and_seeds_are_chosen(experiment, fake):
  assert experiment.reproduce('--rows', 'test/exact', '--seeds', '1') == 0
  assert [line['seed'] for line in experiment.lines('seed')] == [1]
  assert experiment.lines('verdict') == []
  assert experiment.reproduce(args=':width=9') == 0
  assert [line['row'] for line in experiment.lines('verdict')] == ['valid/nll:width=9']
  assert experiment.reproduce('--rows', 'test/exact') == 0
  assert [line['row'] for line in experiment.lines('verdict')][1:] == ['test/exact']


def _row(args):
  url = 'https://a.org'
  return Row(metric='a/bleu', value=1.0, of='A', url=url, tolerance=0.1, args=args)


def test_a_row_is_chosen_by_some_of_its_arguments():
  rows = [_row('split=simple,model=lstm'), _row('split=length,model=lstm'), _row('')]
  path = Path('mine.py')
  assert choose_rows(rows, path, 'split=simple', ()) == rows[:1]
  assert choose_rows(rows, path, 'model=lstm', ()) == rows[:2]
  assert choose_rows(rows, path, '', ()) == rows
  with pytest.raises(ValueError, match="has the arguments 'split=sim'"):
    choose_rows(rows, path, 'split=sim', ())


def test_a_dry_run_prints_the_commands(experiment, fake, capsys):
  assert experiment.reproduce('--seeds', '0', '--dry-run') == 0
  assert [x.split()[1] for x in capsys.readouterr().out.splitlines()] == [
    *('train', 'evaluate', 'train', 'evaluate')
  ]
  assert fake.called == []
  assert not experiment.records.exists()


def test_a_run_that_fails_has_no_verdict_and_the_others_go_on(experiment, fake, capsys):
  fake.failing = {'--config.seed=1': 3}
  assert experiment.reproduce() == 1
  error = capsys.readouterr().err
  assert 'failed: base/seed-1: `seqlab train' in error
  assert 'ended with status 3' in error
  assert [line['row'] for line in experiment.lines('verdict')] == ['valid/nll:width=9']


def test_a_stopped_run_is_resumed_by_the_same_command(experiment, fake, capsys):
  fake.failing = {'--config.seed=1': 75}
  assert experiment.reproduce() == 75
  assert 'stopped; the same command resumes' in capsys.readouterr().err
  assert 'test/exact' not in [line['row'] for line in experiment.lines('verdict')]
  fake.failing = {}
  fake.called.clear()
  assert experiment.reproduce() == 0
  assert all('base/seed-0' not in ' '.join(words) for words in fake.called)
  assert {line['row'] for line in experiment.lines('verdict')} >= {
    'test/exact',
    'test/per',
  }


def test_a_value_that_is_not_in_the_record_is_a_failure(experiment, fake, capsys):
  fake.values = {'exact': 0.5}
  assert experiment.reproduce('--rows', 'test/per') == 1
  assert (
    'no number for it (it has exact): correct Row.metric' in capsys.readouterr().err
  )


@pytest.mark.parametrize(
  ('old', 'new'),
  [('width=8', 'width=10'), ('NUMERICS', '')],
)
def test_a_run_of_another_experiment_is_refused(
  experiment, fake, capsys, monkeypatch, old, new
):
  experiment.reproduce('--seeds', '0')
  fake.called.clear()
  if old == 'NUMERICS':
    monkeypatch.setattr('seqlab.results.runs.NUMERICS', 7)
  else:
    experiment.change(old, new)
  assert experiment.reproduce('--seeds', '0') == 1
  error = capsys.readouterr().err
  assert 'is not the one that experiments/small/reverse.py describes now' in error
  assert re.search(r'width: 8 there, 10 now|NUMERICS: 1 there, 7 now', error)
  assert 'delete that folder to train the run again, or use another --workdir' in error
  assert fake.called == []


def test_the_ledger_counts_evaluations_by_hand_and_in_training(experiment, fake):
  experiment.reproduce('--rows', 'test/exact', '--seeds', '0')
  fake(1).run(
    ['evaluate', 'runs/reproduce/small-reverse/base/seed-0', '--split', 'test']
  )
  experiment.reproduce()
  entered = [
    (x['args'], x['seed'], x['split'], x['on_record'], x['in_training'])
    for x in read_lines(LEDGER)
  ]
  assert entered == [
    ('', 0, 'test', 1, 0),
    ('', 0, 'test', 3, 0),  # of 'per'; one in between was by hand
    ('', 1, 'test', 1, 0),
    ('width=9', 0, 'valid', 1, 1),
  ]
  assert experiment.lines('verdict')[0]['evaluations'] == 4


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--rows', 'test/exakt'], "has no row 'test/exakt'; did you mean 'test/exact'?"),
    (['--seeds', '5'], 'no row has a seed 5: they have the seeds 0 to 1'),
  ],
)
def test_an_unknown_row_or_seed_is_named(experiment, fake, capsys, options, message):
  assert experiment.reproduce(*options) == 1
  assert message in capsys.readouterr().err


def test_wrong_options_are_refused_before_training(experiment, fake, capsys):
  experiment.change('seeds=2\n', "seeds=2, evaluate='--bem 1'\n")
  assert experiment.reproduce() == 1
  assert '--bem 1; correct Row.evaluate' in capsys.readouterr().err
  assert experiment.reproduce(args=':width=3') == 1
  assert "has the arguments 'width=3'" in capsys.readouterr().err
  experiment.change('PAPER', 'OTHER')
  assert experiment.reproduce() == 1
  assert 'has no rows: add PAPER = [Row(...)]' in capsys.readouterr().err
  assert fake.called == []


def test_an_experiment_that_is_edited_while_it_runs_is_a_failure(
  experiment, fake, monkeypatch, capsys
):
  train = fake._train

  def edit_and_train(self, *words):
    if words[-1].endswith('=1'):
      experiment.change('steps=4', 'steps=400')
    train(self, *words)

  monkeypatch.setattr(fake, '_train', edit_and_train)
  assert experiment.reproduce('--rows', 'test/exact') == 1
  assert 'steps: 400 there, 4 now' in capsys.readouterr().err
  assert [line['seed'] for line in experiment.lines('seed')] == [0]


def test_seeds_with_other_data_have_no_verdict(experiment, fake, monkeypatch, capsys):
  train = fake._train

  def train_on_other_data(self, *words):
    train(self, *words)
    inputs = {'text': {'train': {'sha256': words[-1]}}}
    (Path(words[2]) / 'inputs.json').write_text(json.dumps(inputs))

  monkeypatch.setattr(fake, '_train', train_on_other_data)
  experiment.reproduce('--rows', 'test/exact')
  assert 'seeds have other data, so there is no verdict' in capsys.readouterr().err
  assert experiment.lines('verdict') == []

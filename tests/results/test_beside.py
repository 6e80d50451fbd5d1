"""The paper's value beside that of a run, after training and evaluation."""

import json
from pathlib import Path

import numpy as np

from seqlab.results.beside import (
  compared,
  print_after_evaluation,
  print_after_training,
)
from seqlab.results.provenance import thinned
from seqlab.results.row import Row

RUN = Path('runs/reproduce/small-reverse/base/seed-0')
NLL = Path('runs/reproduce/small-reverse/width=9/seed-0')
RECORD = {'split': 'test', 'scores': [{'name': 'exact', 'score': 0.52}]}


def test_an_evaluation_is_compared_with_its_row(experiment, fake, capsys):
  experiment.reproduce()
  capsys.readouterr()
  print_after_evaluation(RUN, RECORD)
  assert capsys.readouterr().out == (
    'paper: test/exact 0.5 (A); this run: 0.52, 0.02 above it, within the tolerance of '
    '0.05\n'
  )
  print_after_evaluation(RUN, RECORD | {'split': 'dev'})
  print_after_evaluation(NLL, RECORD)
  print_after_evaluation(NLL, {'scores': {'ws353': {'known': {'value': 1.0}}}})
  assert capsys.readouterr() == ('', '')


def test_a_value_of_single_precision_is_equal_to_the_published_one():
  row = Row(metric='test/per', value=0.49, of='A', url='https://a.b', tolerance=0.1)
  assert 'this run: 0.49, equal to it, within' in compared(row, float(np.float32(0.49)))


def test_the_end_of_training_shows_the_value_or_how_to_measure_it(
  experiment, fake, capsys
):
  experiment.reproduce()
  capsys.readouterr()
  print_after_training(NLL)
  assert 'paper: valid/nll 9 (B); this run: 9, equal to it,' in capsys.readouterr().out
  print_after_training(RUN)
  exact, _ = capsys.readouterr().out.splitlines()
  assert exact == (
    f'paper: test/exact 0.5 (A); `seqlab evaluate {RUN} --split test --measures exact` '
    'measures it'
  )


def test_nothing_is_shown_for_another_experiment(experiment, fake, capsys, tmp_path):
  experiment.reproduce()
  capsys.readouterr()
  print_after_training(tmp_path)  # a run without a record
  record = json.loads((RUN / 'experiment.json').read_text())
  other = record | {'overrides': ['--config.steps=5']}
  (RUN / 'experiment.json').write_text(json.dumps(other))
  print_after_training(RUN)
  (RUN / 'experiment.json').write_text(json.dumps(record))
  experiment.change('steps=4', 'steps=5')
  print_after_training(RUN)
  assert capsys.readouterr() == ('', '')


def test_a_malformed_paper_is_a_message(experiment, fake, capsys):
  experiment.reproduce()
  capsys.readouterr()
  experiment.change('tolerance=0.05', 'tolerance=-1.0')
  print_after_training(RUN)
  out, error = capsys.readouterr()
  assert out == ''
  assert error.startswith("the paper's value cannot be shown: PAPER of ")


def test_a_curve_keeps_its_evaluations_and_both_ends():
  rows = [{'step': k} for k in range(1, 101)]
  rows[49]['valid/nll'] = 1.0
  kept = [row['step'] for row in thinned(rows, 10)]
  assert len(kept) == 10
  assert {1, 50, 100} <= {*kept}
  assert kept == sorted(kept)
  assert thinned(rows, 100) == rows

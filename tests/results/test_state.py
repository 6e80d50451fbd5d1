"""`seqlab results`: its formats, and each reason for which a result is stale."""

import json
from pathlib import Path

import pytest

from seqlab.cli import main
from seqlab.results.signature import Signature
from seqlab.results.state import read_results

FOLDER = Path('docs/results')


def stale(experiment, index=0):
  return read_results([str(experiment)], FOLDER)[index].stale


def test_rows_without_a_run_and_with_some_seeds_are_shown(experiment, fake, capsys):
  experiment.reproduce('--rows', 'test/exact', '--seeds', '1')
  capsys.readouterr()
  assert main(['results']) == 0
  head, exact, per, _ = capsys.readouterr().out.splitlines()
  assert head.split() == [
    *('experiment', 'row', 'paper', 'here', 'n', 'verdict', 'stale', 'evaluations'),
    'date',
  ]
  assert 'unfinished: 1 of 2 seeds' in exact
  assert ' 0.51 ' in exact
  assert 'not run' in per


def test_results_are_also_json_and_a_page(experiment, fake, capsys):
  experiment.reproduce()
  capsys.readouterr()
  assert main(['results', f'{experiment}:width=9', '--format=json']) == 0
  (nll,) = json.loads(capsys.readouterr().out)
  assert nll['state'] == 'reproduced'
  assert nll['values'] == {'0': 9.0}
  assert nll['evaluations'] == 1
  assert main(['results', '--format', 'md']) == 0
  page = capsys.readouterr().out
  row = next(line for line in page.splitlines() if '`test/per`' in line)
  assert row.startswith('| [small/reverse](results/small-reverse.jsonl) | `test/per` |')
  assert '0.5 ± 0.05 ([A](https://a.org))' in row
  assert '| different protocol (above) | 2 |' in row
  assert '- Differs: the text' in page


def test_a_result_of_the_present_experiment_is_not_stale(experiment, fake):
  experiment.reproduce()
  assert stale(experiment) == []
  experiment.change('Reverses', 'Still reverses')
  experiment.change('\n\ndef', '  # about\n\ndef')
  assert stale(experiment) == []


def test_a_changed_file_is_stale_until_the_verdict_is_renewed(experiment, fake):
  experiment.reproduce()
  experiment.change('\n\ndef', '\n\nOTHER = 3\n\n\ndef')
  assert stale(experiment) == ["the experiment's file has changed"]
  fake.called.clear()
  experiment.reproduce()  # the resolved experiment is the same, so nothing is run
  assert fake.called == []
  assert stale(experiment) == []


def test_a_changed_configuration_and_changed_numerics_are_stale(
  experiment, fake, monkeypatch
):
  experiment.reproduce()
  experiment.change('steps=4', 'steps=5')
  assert stale(experiment)[1:] == ['the configuration has changed']
  experiment.change('steps=5', 'steps=4')
  monkeypatch.setattr('seqlab.results.signature.NUMERICS', 2)
  assert stale(experiment) == ['NUMERICS was 1 and is 2']


def test_a_tolerance_that_was_changed_after_the_run_stays_visible(experiment, fake):
  experiment.reproduce()
  experiment.change('tolerance=0.05, seeds=2\n', 'tolerance=0.2, seeds=2\n')
  reason = ['tolerance was 0.05 at the run and is 0.2']
  assert stale(experiment) == reason
  experiment.reproduce()
  assert stale(experiment) == reason
  experiment.change('value=9.0', 'value=9.1')
  assert stale(experiment, 2) == ['the published value was 9 at the run and is 9.1']


def test_other_options_of_the_evaluation_are_stale(experiment, fake):
  experiment.reproduce()
  experiment.change("args='width=9', seeds=1", "args='width=9', evaluate='--average 2'")
  reasons = stale(experiment, 2)
  assert reasons[0] == "evaluate was '' and is '--average 2'"
  assert reasons[1] == '3 seeds are asked for, of 1'


def test_a_row_that_was_removed_is_still_shown(experiment, fake):
  experiment.reproduce()
  experiment.change("metric='test/per'", "metric='test/cer'")
  *_, removed = read_results([str(experiment)], FOLDER)
  assert removed.row.name == 'test/per'
  assert removed.state == 'different protocol (above)'
  assert removed.stale == ['the experiment no longer has this row']
  assert len(removed.seeds) == 2


def test_an_experiment_that_cannot_be_loaded_is_stale(experiment, fake):
  experiment.reproduce()
  experiment.change('def get_config', 'def config')
  (reason,) = stale(experiment)
  assert reason.startswith('the experiment cannot be loaded:')


def test_a_signature_reads_back(experiment, fake):
  experiment.reproduce()
  result = read_results([str(experiment)], FOLDER)[0]
  assert isinstance(Signature(**result.verdict['signature']).numerics, int)


def test_a_damaged_record_is_named(experiment, fake, capsys):
  experiment.reproduce()
  experiment.records.write_text(f'{experiment.records.read_text()}{{"line":')
  assert main(['results']) == 1
  assert f'of {experiment.records} is damaged' in capsys.readouterr().err
  with pytest.raises(FileNotFoundError, match='there is no experiment nowhere'):
    read_results(['nowhere.py'], FOLDER)


@pytest.mark.parametrize(
  ('old', 'new', 'reason'),
  [
    ("differs='the text'", "differs=''", 'differs was changed after the run'),
    ('tolerance=0.05, seeds=2,\n    d', 'tolerance=0.2, seeds=2,\n    d', 'tolerance'),
  ],
)
def test_what_a_row_states_is_that_of_the_start_of_training(
  experiment, fake, monkeypatch, old, new, reason
):
  train = fake._train

  def train_and_change(self, *words):
    train(self, *words)
    if words[-1].endswith('=1'):  # after the last seed, before its evaluation
      experiment.change(old, new)

  monkeypatch.setattr(fake, '_train', train_and_change)
  experiment.reproduce('--rows', 'test/per')
  assert any(reason in text for text in stale(experiment, 1))


def test_other_line_ends_in_a_text_do_not_divide_a_row(experiment, fake):
  experiment.change('the text', 'the\u2028text')
  experiment.reproduce()
  assert stale(experiment, 1) == []
  assert experiment.lines('verdict')[1]['differs'] == 'the\u2028text'

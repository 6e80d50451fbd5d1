"""Hyperparameter searches by Optuna; only the slow tests train real runs."""

import json
import os
from pathlib import Path
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import psutil
import pytest

optuna = pytest.importorskip('optuna', reason='Optuna is not installed')

from optuna.trial import TrialState  # noqa: E402

from launch import storage  # noqa: E402
from launch.search import HyperSearch, _check_unchanged  # noqa: E402
from launch.sweep import RUNNERS, main  # noqa: E402
from launch.trials import write_state  # noqa: E402
from seqlab.config import flatten, with_defaults  # noqa: E402
from seqlab.report.runs import left_out  # noqa: E402
from seqlab.train.folder import open_folder  # noqa: E402

TEXT = """
import ml_collections
import optuna


def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.seed, c.steps, c.keep_best = 0, 30, 'valid/bleu'
  c.hyper, c.model = dict(peak=1e-3), dict(layers=1, cell='gru')
  return c
"""
SEARCH = """
def search(trial):
  return {
    'hyper.peak': trial.suggest_float('peak', 1e-4, 1e-2, log=True),
    'model.layers': trial.suggest_int('layers', 1, 4),
    'model.cell': trial.suggest_categorical('cell', ['gru', 'lstm']),
  }
"""


@pytest.fixture
def experiment(tmp_path):
  """experiment(text): writes an experiment with this text after its `get_config`."""

  def make(text=SEARCH):
    file = tmp_path / 'mine.py'
    file.write_text(f'{TEXT}\n{text}', 'utf-8')
    return str(file)

  return make


@pytest.fixture
def opened(experiment, tmp_path):
  """opened(trials=5, ...): makes a search."""

  def make(text=SEARCH, trials=5, **options):
    return HyperSearch(experiment(text), tmp_path / 'runs', trials=trials, **options)

  return make


@pytest.fixture
def database(tmp_path):
  return f'sqlite:///{tmp_path}/searches.db'


def _write_run(trial, values, status='finished', reason=None, **state):
  """Writes the folder of a run with a value every 10 steps; returns its state."""
  open_folder(trial.folder, with_defaults(trial.config)).write_config()
  rows = [{'step': 10 * i, 'valid/bleu': x} for i, x in enumerate(values, 1)]
  text = ''.join(f'{json.dumps(row)}\n' for row in rows)
  (trial.folder / 'metrics.jsonl').write_text(text, 'utf-8')
  return dict(status=status, reason=reason, seconds=60.0, **state)


def _finish(study, trial, values=(1.0, 3.0, 2.0)):
  return study.finish(trial, _write_run(trial, values))


def _params(study):
  return {number: trial.params for number, trial in study.queue.latest().items()}


def test_a_search_has_the_requested_number_of_trials(opened):
  with opened(trials=3) as study:
    trials = []
    while trial := study.next_trial():
      trials.append(trial)
      assert _finish(study, trial).startswith('60 s, valid/bleu 3 (peak=0.0')
    assert not study.queue.wait_for_work()
    assert study.summary == '3 of 3 trials are finished'
  assert [trial.name for trial in trials] == ['0000', '0001', '0002']
  assert set(trials[0].overrides) == {'hyper.peak', 'model.layers', 'model.cell'}
  assert trials[0].config['model']['layers'] == trials[0].overrides['model.layers']
  with opened(trials=4) as study:  # one more trial than before
    assert study.num_ended == 3
    assert study.next_trial().name == '0003'
    assert study.next_trial() is None


def test_the_best_value_is_the_result_and_all_are_reported(opened):
  with opened() as study:
    _finish(study, study.next_trial())
    (trial,) = study.queue.latest().values()
  assert (trial.state, trial.value) == (TrialState.COMPLETE, 3.0)
  assert trial.intermediate_values == {10: 1.0, 20: 3.0, 30: 2.0}
  assert study.study.direction.name == 'MAXIMIZE'


def test_the_same_seed_asks_for_the_same_trials_interrupted_or_not(
  experiment, tmp_path
):
  def ask(folder, *parts, seed=1):
    file = experiment()
    for n in parts:  # each is a sweep that is interrupted in its nth trial
      with HyperSearch(file, tmp_path / folder, trials=14, seed=seed) as study:
        while n and (trial := study.next_trial()):
          n -= 1
          if n:
            best = -abs(trial.config['hyper']['peak'] - 1e-3)
            _finish(study, trial, [best])
    return _params(study)

  whole, cut = ask('a', 15), ask('b', 3, 12, 15)
  assert len(whole) == 14
  assert cut == whole
  assert ask('c', 15, seed=2) != whole


def test_sweeps_share_a_database_and_run_nothing_twice(opened, database):
  with opened(url=database) as a, opened(url=database) as b:
    trials = [study.next_trial() for study in (a, b, b, a, b)]
    assert [a.next_trial(), b.next_trial()] == [None, None]
    assert [trial.name for trial in trials] == ['0000', '0001', '0002', '0003', '0004']
    assert len({json.dumps(trial.overrides) for trial in trials}) == 5


def test_a_trial_that_was_asked_for_too_late_is_not_counted(
  opened, database, monkeypatch
):
  with opened(url=database, trials=1) as a, opened(url=database, trials=1) as b:
    trial = a.next_trial()
    answers = iter([True, False])  # it checked before the other process asked
    monkeypatch.setattr(b.queue, 'has_work', lambda: next(answers))
    assert b.next_trial() is None
    _finish(a, trial)
    assert list(b.queue.latest()) == [0]
    assert b.summary == '1 of 1 trials are finished'


def test_a_pruner_stops_a_poor_trial(opened):
  pruner = '\n\ndef pruner():\n  return optuna.pruners.ThresholdPruner(lower=5.0)\n'
  with opened(SEARCH + pruner) as study:
    good, bad, late = study.next_trial(), study.next_trial(), study.next_trial()
    _write_run(good, [6.0]), _write_run(bad, [6.0, 1.0])
    assert (study.should_stop(good), study.should_stop(bad)) == (False, True)
    assert not study.should_stop(bad)  # not stopped twice, unless it continues
    _write_run(bad, [6.0, 1.0, 9.0])
    assert study.should_stop(bad)
    outcome = study.finish(
      bad, _write_run(bad, [6.0, 1.0, 9.0], 'stopped', 'by SIGTERM')
    )
    assert outcome.startswith('pruned at step 20: valid/bleu 1 (peak=')
    assert left_out([bad.folder]) == {bad.folder: 'pruned: at step 20: valid/bleu 1'}
    # Only its last value was poor: it has finished.
    assert study.finish(late, _write_run(late, [7.0, 6.0, 1.0])).startswith(
      '60 s, valid'
    )
    trial = study.queue.latest()[1]
  assert (trial.state, trial.value) == (TrialState.PRUNED, 1.0)
  assert trial.user_attrs['reason'] == 'at step 20: valid/bleu 1'


def test_a_trial_of_another_runner_cannot_be_stopped(opened):
  pruner = '\n\ndef pruner():\n  return optuna.pruners.ThresholdPruner(lower=5.0)\n'
  with opened(SEARCH + pruner, prunes=False) as study:
    lot = study.next_trials(9)
    assert len(lot) == 5
    assert _finish(study, lot[0], [1.0, 2.0]).startswith('60 s, valid/bleu 2')


def test_other_runners_get_as_many_trials_as_they_run_at_once(
  experiment, tmp_path, monkeypatch, capsys
):
  lots = []

  def runner(trials, done, *, workers, force):
    lots.append([trial.name for trial in trials])
    for trial in trials:
      state = _write_run(trial, [1.0])
      write_state(trial.folder, state)
      done(trial, state)

  monkeypatch.setitem(RUNNERS, 'moon', runner)
  argv = [experiment(), '--trials', '5', '--workdir', str(tmp_path / 'runs')]
  docs = tmp_path / 'docs'
  argv += ['--on', 'moon', '--workers', '2', '--report-to', str(docs)]
  assert main(argv) == 0
  assert lots == [['0000', '0001'], ['0002', '0003'], ['0004']]
  lines = capsys.readouterr().out.splitlines()
  assert lines[1].startswith('[1/5] 0000: 60 s, valid/bleu 1 (peak=')
  assert lines[-1].startswith('5 of 5 trials are finished: ')
  assert (docs / 'mine' / 'parallel-coordinates.svg').is_file()
  rows = (docs / 'mine' / 'rows.csv').read_text('utf-8').splitlines()
  assert rows[1:] == [f'000{i},0,valid/bleu,1.0,,,' for i in range(5)]
  assert main(argv) == 0
  assert len(lots) == 3  # no trial was left


def test_a_trial_whose_process_died_is_requeued_a_limited_number_of_times(opened):
  with opened(trials=1) as study:
    names = set()
    for _ in range(6):
      trial = study.next_trial()
      names.add((trial.name, str(trial.overrides)))
      died = _write_run(trial, [1.0], 'failed', 'ended by SIGKILL', died=True)
      outcome = study.finish(trial, died)
    assert len(names) == 1
    assert outcome.startswith('failed: ended by SIGKILL (peak=')
    assert study.next_trial() is None
    assert study.failures == {'0000': 'ended by SIGKILL'}


def test_a_trial_that_was_stopped_by_a_user_is_requeued(opened):
  with opened(trials=1) as study:
    trial = study.next_trial()
    outcome = study.finish(
      trial, _write_run(trial, [1.0], 'stopped', 'stopped at step 12')
    )
    assert outcome.startswith('stopped: stopped at step 12; it is queued again (peak=')
    assert study.next_trial().overrides == trial.overrides


def test_a_failure_has_a_reason_and_divergence_counts_as_pruned(opened):
  with opened() as study:
    first, second = study.next_trial(), study.next_trial()
    study.finish(first, _write_run(first, [], 'failed', 'ValueError: no such cell'))
    outcome = study.finish(
      second, _write_run(second, [], 'failed', 'FloatingPointError: NaN')
    )
    assert outcome.startswith('failed: FloatingPointError: NaN (peak=')
    assert study.failures == {'0000': 'ValueError: no such cell'}
    assert [t.state.name for t in study.queue.latest().values()] == ['FAIL', 'PRUNED']
    third = study.next_trial()
    assert 'no number among its valid/bleu' in _finish(study, third, [None])


def test_trials_of_a_sweep_that_died_are_requeued(
  opened, database, monkeypatch, capsys
):
  monkeypatch.setattr(storage, 'GRACE', 1)
  monkeypatch.setattr(storage, 'HEARTBEAT', 1)
  monkeypatch.setattr(storage, 'POLL', 0.1)
  dead = opened(url=database, trials=1)  # not entered, so it sends no heartbeat
  lost = dead.next_trial()
  with opened(url=database, trials=1) as study:
    assert study.next_trial() is None
    assert study.queue.wait_for_work()
    assert 'waiting for a trial that runs elsewhere' in capsys.readouterr().out
    requeued = study.next_trial()
    assert (requeued.name, requeued.overrides) == (lost.name, lost.overrides)
    # The process was still running; its result is ignored.
    assert dead.finish(lost, _write_run(lost, [9.0])).startswith('had no heartbeat')
    _finish(study, requeued, [1.0])
    assert not study.queue.wait_for_work()
    assert [trial.value for trial in study.queue.latest().values()] == [1.0]


def test_a_sweep_that_died_before_its_first_heartbeat(opened, database, monkeypatch):
  monkeypatch.setattr(storage, 'GRACE', 1)
  monkeypatch.setattr(storage, 'HEARTBEAT', 1)
  monkeypatch.setattr(storage, 'POLL', 0.1)
  with opened(url=database, trials=1) as dead, storage.without_heartbeat_warnings():
    dead.study.ask()
  with opened(url=database, trials=1) as study:
    assert study.queue.wait_for_work()
    assert study.next_trial().name == '0000'


def test_a_search_waits_for_a_server_that_does_not_answer(
  opened, database, monkeypatch, capsys
):
  from sqlalchemy.exc import OperationalError

  monkeypatch.setattr(storage, 'POLL', 0.01)
  with opened(url=database, trials=1) as study:
    trial, tell, errors = study.next_trial(), study.study.tell, [None, None]

    def away(*args):
      if errors:
        errors.pop()
        cause = OperationalError('UPDATE', {}, ConnectionRefusedError('refused'))
        raise optuna.exceptions.StorageInternalError('during the commit') from cause
      return tell(*args)

    monkeypatch.setattr(study.study, 'tell', away)
    _finish(study, trial)
    assert study.summary == '1 of 1 trials are finished'
    error = capsys.readouterr().err
    assert error.count('the storage of the search cannot be reached: refused') == 1
    monkeypatch.setattr(storage, 'PATIENCE', 0.0)
    errors.extend([None, None])
    with pytest.raises(OSError, match='refused'):
      study._connection.retry(away)


def test_a_file_that_a_killed_sweep_left_is_repaired(opened, tmp_path):
  with opened(trials=2) as study:
    _finish(study, study.next_trial())
    lost = study.next_trial()
    study.queue.claims.clear()  # killed
  folder = tmp_path / 'runs' / 'mine'
  with (folder / 'search.journal').open('a') as file:
    file.write('{"op_code": 4, ')
  (folder / 'search.journal.lock').symlink_to('nowhere')
  with opened(trials=2) as study:
    study.queue.requeue_abandoned()
    requeued = study.next_trial()
    assert (requeued.name, requeued.overrides) == (lost.name, lost.overrides)
    assert study.next_trial() is None


def test_two_sweeps_do_not_use_one_file(opened):
  with opened(), pytest.raises(RuntimeError, match='another process'):
    opened()


def test_an_experiment_that_changed_is_refused(opened, experiment, tmp_path):
  with opened():
    pass
  file = Path(experiment())
  file.write_text(file.read_text('utf-8').replace('30', '40'), 'utf-8')
  with pytest.raises(ValueError, match=r'since the search mine .*(.|\n)*steps: 30 th'):
    HyperSearch(str(file), tmp_path / 'runs', trials=5)
  with HyperSearch(str(file), tmp_path / 'runs', trials=5, force=True) as study:
    assert study.next_trial()


def test_a_sampler_of_the_experiment_is_used(opened):
  sampler = '\n\ndef sampler(seed):\n  return optuna.samplers.RandomSampler(0)\n'
  with opened(SEARCH + sampler) as study:
    first, second = study.next_trials(2)
  assert first.overrides == second.overrides  # it ignores the seed


def test_values_that_the_search_skips_are_pruned(opened):
  text = SEARCH.replace(
    '  return', '  if trial.number == 1:\n    raise optuna.TrialPruned("no")\n  return'
  )
  with opened(text, trials=3) as study:
    assert [trial.name for trial in study.next_trials(9)] == ['0000', '0002']
    assert study.summary == '0 of 3 trials are finished, 1 pruned'


@pytest.mark.parametrize(
  ('kind', 'wrong'), [('rms', None), ('rsm', "did you mean 'rms'")]
)
def test_an_option_that_the_file_leaves_out_may_be_searched_for(tmp_path, kind, wrong):
  agreement = Path(__file__).parents[2] / 'experiments/agreement/transformer.py'
  search = f"""
def search(trial):
  return {{'model.normalization': trial.suggest_categorical('norm', [{kind!r}])}}
"""
  file = tmp_path / 'mine.py'
  file.write_text(f'{agreement.read_text("utf-8")}\n{search}', 'utf-8')
  if wrong:  # found before the first trial
    with pytest.raises(ValueError, match=wrong):
      HyperSearch(str(file), tmp_path / 'runs', trials=2)
    return
  with HyperSearch(str(file), tmp_path / 'runs', trials=2) as study:
    assert study.next_trial().config['model']['normalization'] == kind


def test_an_argument_may_be_searched_for(opened):
  text = "def search(trial):\n  return {'arg': trial.suggest_categorical('a', ['x'])}\n"
  with opened(text) as study:
    assert study.next_trial().experiment.endswith('mine.py:x')


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', r'mine\.py has no function search\(trial\)'),
    ("def search(trial):\n  return {'hyper.paek': 1.0}", "'hyper.paek'; did you mean"),
    ("def search(trial):\n  return {'model.layers': 1.5}", 'should be a int'),
    ('def search(trial):\n  trial.suggest_int("a", 1, 2)', 'returned None: let it ret'),
    ("def search(trial):\n  return {'best_is': 'min'}", 'changes keep_best or best_is'),
    (
      f"{SEARCH}\ndef sampler(seed):\n  return optuna.samplers.GridSampler({{'a': [1]}})",
      r'goes through a grid: add its trials in sweep\(add\)',
    ),
  ],
)
def test_an_invalid_search_is_refused(opened, text, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    opened(text)
  assert not (tmp_path / 'runs').exists()


def test_a_search_needs_a_metric(experiment, tmp_path, capsys):
  file = Path(experiment())
  file.write_text(file.read_text('utf-8').replace("'valid/bleu'", 'None'), 'utf-8')
  assert main([str(file), '--trials', '2', '--workdir', str(tmp_path)]) == 1
  assert 'sets no keep_best' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('url', 'message'),
  [
    ('searches.db', '--storage searches.db is not a URL: write postgresql://'),
    ('moon://host/db', 'is not a URL of a database'),
    ('mysql+pymysql://me@host/db', 'needs a driver that is not installed'),
    (
      'postgresql://me:secret@127.0.0.1:1/db',
      'postgresql+psycopg://me:***@127.0.0.1:1/db cannot be reached: ',
    ),
  ],
)
def test_an_invalid_storage_is_one_line(experiment, tmp_path, url, message, capsys):
  argv = [experiment(), '--trials', '2', '--workdir', str(tmp_path), '--storage', url]
  assert main(argv) == 1
  error = capsys.readouterr().err
  assert message in error
  assert 'secret' not in error


SECRET = 's3cr3t-value'
ODD_URLS = [
  f'postgresql://me:{SECRET}@127.0.0.1:1/db',
  f'postgresql://me:a/{SECRET}@127.0.0.1:1/db',
  f'postgresql://me:{SECRET}/b@127.0.0.1:1/db',
  f'postgresql://me:{SECRET}%2Fb@127.0.0.1:1/db',
  f'postgresql://me:a@{SECRET}@127.0.0.1:1/db',
  f'postgresql://me:a@b:{SECRET}@127.0.0.1:1/db',
  f'postgresql://me:a?{SECRET}@127.0.0.1:1/db',
  f'postgresql://me:a#{SECRET}@127.0.0.1:1/db',
  f'postgresql://127.0.0.1:1/db?password={SECRET}',
  f'postgresql://127.0.0.1:1/db?password=a@{SECRET}',
  f'postgresql://127.0.0.1:1/db?sslpassword={SECRET}&user=me',
  f'postgresql://me/x:{SECRET}@127.0.0.1:1/db',
  f'postgresql://me:{SECRET}@127.0.0.1:99999/db',
  f'postgresql://me:{SECRET}@127.0.0.1:port/db',
  f'postgresql://me:{SECRET}',
  f'postgresql:me:{SECRET}@127.0.0.1/db',
  f'me:{SECRET}@127.0.0.1/db',
  f'moon://me:{SECRET}@127.0.0.1/db',
  f'mysql+pymysql://me:{SECRET}@127.0.0.1/db',
  f'sqlite:///nowhere/x.db?key={SECRET}',
]


@pytest.mark.parametrize('url', ODD_URLS)
@pytest.mark.parametrize('trace', ['', '1'])
def test_no_error_shows_a_password(
  experiment, tmp_path, capsys, monkeypatch, url, trace
):
  monkeypatch.setenv('SEQLAB_TRACEBACK', trace)
  argv = [experiment(), '--trials', '2', '--workdir', str(tmp_path / 'runs')]
  assert main([*argv, f'--storage={url}']) == 1
  captured = capsys.readouterr()
  assert SECRET not in captured.out + captured.err
  assert trace or len(captured.err.splitlines()) == 1, captured.err


@pytest.mark.parametrize('url', ODD_URLS)
def test_an_error_of_other_options_does_not_show_the_password(
  experiment, capsys, monkeypatch, url
):
  argv = [experiment(), '--trials', '2', '--workdir', 'x', f'--sturage={url}', url]
  monkeypatch.setattr(sys, 'argv', ['sweep', *argv])
  with pytest.raises(SystemExit):
    main()
  errors = capsys.readouterr().err
  assert 'unrecognized arguments' in errors
  assert SECRET not in errors


@pytest.mark.parametrize('url', ODD_URLS)
@pytest.mark.parametrize('form', ['--storage={}', '--storage {}'])
def test_the_command_of_an_interruption_has_no_password(
  experiment, tmp_path, monkeypatch, capsys, url, form
):
  def interrupt(_):
    raise KeyboardInterrupt

  monkeypatch.setattr('launch.sweep.search', interrupt)
  argv = [experiment(), '--trials', '2', '--workdir', str(tmp_path / 'my runs')]
  assert main([*argv, *form.format(url).split(' ', 1)]) == 130
  error = capsys.readouterr().err
  assert '***' in error
  assert f"--workdir '{tmp_path}/my runs'" in error
  assert SECRET not in error


def test_a_message_of_a_driver_shows_no_password(
  experiment, tmp_path, monkeypatch, capsys
):
  from sqlalchemy.exc import OperationalError

  def refuse(*_, **__):
    cause = OperationalError('SELECT', {}, Exception(f'no {SECRET} for me'))
    raise optuna.exceptions.StorageInternalError('no') from cause

  monkeypatch.setattr(storage, 'RDBStorage', refuse)
  argv = [experiment(), '--trials', '2', '--workdir', str(tmp_path)]
  assert main([*argv, '--storage', f'postgresql://me:{SECRET}@h/db']) == 1
  assert 'cannot be reached: no *** for me.' in capsys.readouterr().err


def test_a_report_on_a_search_without_trials_is_refused(experiment, tmp_path, capsys):
  argv = [experiment(), '--trials', '2', '--workdir', str(tmp_path), '--report-only']
  assert main(argv) == 1
  assert 'there is nothing to report on' in capsys.readouterr().err


def test_all_experiments_of_a_search_are_checked_before_one_starts(
  experiment, tmp_path, capsys, monkeypatch
):
  monkeypatch.setattr('launch.sweep._search', lambda *_: pytest.fail('it started'))
  bad = tmp_path / 'bad.py'
  bad.write_text(TEXT, 'utf-8')  # has no search
  argv = [experiment(), str(bad), '--trials', '2', '--workdir', str(tmp_path)]
  assert main(argv) == 1
  assert 'bad.py has no function search(trial)' in capsys.readouterr().err


def test_options_of_a_search_need_trials(capsys):
  with pytest.raises(SystemExit):
    main(['mine.py', '--workdir', 'runs', '--storage', 'sqlite:///x.db'])
  assert '--storage is an option of a search: add --trials' in capsys.readouterr().err


def test_a_sweep_of_an_experiment_that_only_searches(experiment, tmp_path, capsys):
  assert main([experiment(), '--workdir', str(tmp_path)]) == 1
  assert 'but a search(trial): add --trials N' in capsys.readouterr().err


def test_without_optuna_the_extra_is_named(experiment, monkeypatch, capsys):
  monkeypatch.delitem(sys.modules, 'launch.search')
  monkeypatch.delattr('launch.search')
  monkeypatch.setitem(sys.modules, 'optuna', None)
  assert main([experiment(), '--trials', '2', '--workdir', 'runs']) == 1
  error = capsys.readouterr().err
  assert "needs optuna, which is not installed: pip install 'seqlab[launch]'" in error


REAL = """
import ml_collections
import optuna


def get_config(arg=None):
  return ml_collections.ConfigDict({config!r})


def search(trial):
  steps = trial.suggest_categorical('steps', {steps})
  return {{'hyper.peak': trial.suggest_float('peak', 1e-3, 1e-2), 'steps': steps}}


def pruner():
  return optuna.pruners.ThresholdPruner(upper=0.0, n_warmup_steps={patience})
"""


@pytest.fixture
def real(tiny, tmp_path):
  """real(steps, patience): a small experiment that is pruned at step `patience`."""

  def make(steps, patience=10**6):
    config = tiny | {'keep_best': 'valid/perplexity', 'best_is': 'min', 'save_every': 4}
    evals = {'type': 'perplexity', 'split': 'valid', 'every': 4, 'shapes': 1}
    config['evals'] = {'valid': evals}
    file = tmp_path / 'mine.py'
    text = REAL.format(config=config, steps=steps, patience=patience)
    file.write_text(text, 'utf-8')
    return str(file)

  return make


@pytest.mark.slow
def test_a_trial_is_stopped_with_a_checkpoint_and_the_next_one_runs(real, tmp_path):
  command = [sys.executable, '-m', 'launch.sweep', real([10**6], 9), '--workers', '1']
  command += ['--trials', '2', '--workdir', str(tmp_path / 'runs')]
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert [line[:32] for line in lines[1:3]] == [
    '[1/2] 0000: pruned at step 12: v',
    '[2/2] 0001: pruned at step 12: v',
  ]
  folder = tmp_path / 'runs' / 'mine'
  assert lines[3].startswith('0 of 2 trials are finished, 2 pruned: ')
  assert (folder / 'parallel-coordinates.png').stat().st_size > 10_000
  for name in ('0000', '0001'):
    state = json.loads((folder / name / 'trial.json').read_text('utf-8'))
    assert state['status'] == 'pruned'
    assert (
      max(int(p.name) for p in (folder / name / 'checkpoints').glob('[0-9]*')) >= 12
    )


def _binary(name):
  """Returns the path of a program of PostgreSQL, which Debian keeps outside of PATH."""
  places = sorted(Path('/usr/lib/postgresql').glob(f'*/bin/{name}'))
  return shutil.which(name) or (str(places[-1]) if places else None)


class Server:
  """A PostgreSQL server for the tests, on a free port of this machine."""

  def __init__(self, folder):
    self.folder = folder
    root = os.geteuid() == 0  # PostgreSQL refuses to run as root
    users = {entry.pw_name for entry in pwd.getpwall()}
    user = next((u for u in ('postgres', 'nobody') if root and u in users), None)
    self.options = dict(user=user, cwd=folder, stderr=subprocess.STDOUT)
    if root:
      shutil.chown(folder, user)
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      self.port = free.getsockname()[1]
    self.url = f'postgresql://me@127.0.0.1:{self.port}/postgres'
    command = [_binary('initdb'), '-D', folder / 'data', '-U', 'me', '-A', 'trust']
    self._run([*command, '--no-sync']).wait()

  def _run(self, command):
    with open(self.folder / 'log', 'wb') as log:
      return subprocess.Popen(command, stdout=log, **self.options)

  def start(self):
    settings = ('fsync=off', 'listen_addresses=127.0.0.1', f'port={self.port}')
    settings = (*settings, f'unix_socket_directories={self.folder}')
    command = [_binary('postgres'), '-D', self.folder / 'data']
    self.process = self._run([*command, *(x for s in settings for x in ('-c', s))])
    until = time.monotonic() + 60
    while b'ready to accept' not in (log := (self.folder / 'log').read_bytes()):
      assert self.process.poll() is None, log.decode()
      assert time.monotonic() < until
      time.sleep(0.05)

  def stop(self):
    self.process.send_signal(signal.SIGINT)  # does not wait for open connections
    self.process.wait()


@pytest.fixture
def server():
  pytest.importorskip('psycopg', reason='psycopg is not installed')
  if not (_binary('initdb') and _binary('postgres')):
    pytest.skip('PostgreSQL is not installed')
  folder = Path(
    tempfile.mkdtemp(prefix='pg-')
  )  # pytest's folders are readable by one user only
  server = Server(folder)
  server.start()
  yield server
  server.stop()
  shutil.rmtree(folder)


def _sweep(experiment, workdir, url, *options):
  command = [sys.executable, '-m', 'launch.sweep', experiment, '--workers', '1']
  command += ['--trials', '6', '--workdir', str(workdir), '--storage', url, *options]
  return subprocess.Popen(
    command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
  )


@pytest.mark.slow  # several processes and a database server
def test_two_sweeps_share_a_postgresql_server(real, tmp_path, server):
  experiment = real([8])
  sweeps = [_sweep(experiment, tmp_path / name, server.url) for name in 'ab']
  outputs = [sweep.communicate() for sweep in sweeps]
  assert [sweep.returncode for sweep in sweeps] == [0, 0], outputs
  trials = [
    {p.parent.name for p in tmp_path.glob(f'{x}/mine/*/trial.json')} for x in 'ab'
  ]
  assert all(trials), 'one of them had nothing to do'
  assert not trials[0] & trials[1]
  assert sorted(trials[0] | trials[1]) == [f'{i:04d}' for i in range(6)]
  with HyperSearch(experiment, tmp_path / 'a', trials=6, url=server.url) as study:
    assert study.summary == '6 of 6 trials are finished'
    assert len({trial.params['peak'] for trial in study.queue.latest().values()}) == 6
  assert all('6 of 6 trials are finished: ' in out for out, _ in outputs)


@pytest.mark.slow  # several processes and a database server
def test_a_killed_sweep_resumes_from_its_checkpoint(
  real, tmp_path, server, monkeypatch, capsys
):
  monkeypatch.setattr(storage, 'GRACE', 2)
  monkeypatch.setattr(storage, 'HEARTBEAT', 1)
  experiment = real([200])
  sweep = _sweep(experiment, tmp_path, server.url)
  checkpoints = tmp_path / 'mine' / '0000' / 'checkpoints'
  while not any(path.name.isdigit() for path in checkpoints.glob('*')):
    assert sweep.poll() is None, sweep.communicate()
    time.sleep(0.01)
  workers = psutil.Process(sweep.pid).children(recursive=True)
  sweep.kill()
  sweep.communicate()
  psutil.wait_procs(workers, timeout=10)  # no process is left
  argv = [experiment, '--workers', '1', '--trials', '1', '--workdir', str(tmp_path)]
  assert main([*argv, '--storage', server.url]) == 0
  assert '[1/1] 0000: ' in capsys.readouterr().out
  log = (checkpoints.parent / 'train.log').read_text('utf-8')
  assert 'resuming from the checkpoint' in log


@pytest.mark.slow  # a database server
def test_a_server_may_be_restarted(opened, server, monkeypatch, capsys):
  monkeypatch.setattr(storage, 'POLL', 0.1)
  monkeypatch.setattr(storage, 'HEARTBEAT', 1)
  with opened(url=server.url, trials=2) as study:
    first = study.next_trial()
    server.stop()
    threading.Timer(3.0, server.start).start()
    _finish(study, first)
    _finish(study, study.next_trial())
    assert study.summary == '2 of 2 trials are finished'
  error = capsys.readouterr().err
  assert 'cannot be reached: ' in error
  assert 'got no heartbeat of its trials' in error


def test_a_study_of_the_first_edition_continues():
  study = optuna.create_study()
  old = {'model_name': 'models.recurrent:Recurrent', 'evals': {'x': {'type': 'leak'}}}
  stored = {k: repr(v) for k, v in flatten(old).items()}
  study.set_user_attr('experiment', stored)
  today = {'model': {'kind': 'recurrent'}, 'evals': {'x': {'kind': 'leak'}}}
  _check_unchanged(study, today, force=False)
  with pytest.raises(ValueError, match=r"model.kind: 'recurrent' there, 'x' now"):
    _check_unchanged(study, today | {'model': {'kind': 'x'}}, force=False)

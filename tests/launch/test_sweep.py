"""`python -m launch.sweep`: trials in workers, failures, resuming, reports."""

import argparse
import csv
import json
import signal
import subprocess
import sys
import time

import psutil
import pytest

from launch.sweep import RUNNERS, _publish, main
from launch.trials import plan, write_state
from seqlab.report.runs import read_run, read_runs
from seqlab.results.origin import read_origin
from seqlab.results.raw_rows import COLUMNS
from seqlab.train.folder import open_folder

# A report without figures, which is quick.
TEXT = """
import ml_collections


def get_config(arg=None):
  return ml_collections.ConfigDict({config!r})


def sweep(add):
  for peak in {peaks}:
    for seed in range(2):
      add(seed=seed, **{{'hyper.peak': peak}})
  {text}


def report(runs, folder):
  (folder / 'table.md').write_text(f'{{len(runs)}} runs\\n')
  (folder / 'notes.txt').write_text('not for others')
"""
# A number of heads that does not divide the width, and a task that kills its process.
FAILING = "add(**{'model.heads': 3}), add(task='ends_its_process:Task')"
SEEDS = ['peak=0.01,seed=0', 'peak=0.01,seed=1', 'peak=0.02,seed=0', 'peak=0.02,seed=1']


def _write(path, tiny, text='', peaks=(1e-2, 2e-2), **changes):
  config = tiny | {'steps': 4, 'keep_best': 'valid/nll', 'best_is': 'min'}
  # An evaluator that compiles quickly.
  evals = {'type': 'perplexity', 'split': 'valid', 'every': 4, 'shapes': 1}
  config['evals'] = {'valid': evals}
  config |= changes
  path.write_text(TEXT.format(config=config, peaks=peaks, text=text), 'utf-8')
  return str(path)


@pytest.fixture(scope='module')
def swept(tiny, tmp_path_factory):
  """Returns a folder of a sweep in which four of six trials succeed, and its output."""
  folder = tmp_path_factory.mktemp('swept')
  (folder / 'ends_its_process.py').write_text('import os\nos.kill(os.getpid(), 9)\n')
  experiment = _write(folder / 'mine.py', tiny, FAILING)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PYTHONPATH', str(folder))
    command = [sys.executable, '-m', 'launch.sweep', experiment, '--workers', '2']
    done = subprocess.run(
      [
        *command,
        '--workdir',
        str(folder / 'runs'),
        '--report-to',
        str(folder / 'docs'),
      ],
      capture_output=True,
      text=True,
    )
  return folder, done


def test_all_trials_but_the_failing_ones_finish(swept):
  folder, done = swept
  assert done.returncode == 1, done.stderr
  runs = read_runs(folder / 'runs')
  assert [run.path.name for run in runs] == SEEDS
  assert all(run.rows[-1]['step'] == 4 for run in runs)
  assert runs[3].overrides == {'seed': 1, 'hyper.peak': 2e-2}


def test_each_trial_has_a_line_of_progress(swept):
  lines = [line for line in swept[1].stdout.splitlines() if line.startswith('[')]
  assert [line.split('] ')[0] for line in lines] == [f'[{i}/6' for i in range(1, 7)]
  (line,) = (line for line in lines if SEEDS[0] in line)
  assert ' s, valid/nll ' in line


def test_failures_are_listed_with_their_reasons(swept):
  error = swept[1].stderr
  assert 'heads=3: ValueError: ' in error
  assert 'its process was ended by SIGKILL' in error
  assert 'Traceback' not in error


def test_a_trial_keeps_its_state_and_its_output(swept):
  folder = swept[0] / 'runs' / 'mine' / SEEDS[0]
  state = json.loads((folder / 'trial.json').read_text('utf-8'))
  assert (state['status'], state['reason']) == ('finished', None)
  assert state['seconds'] > 0
  assert 'CPU core' in state['device']
  assert 'first step: loss' in (folder / 'trial.log').read_text('utf-8')
  failed = folder.with_name('heads=3') / 'trial.log'
  assert 'Traceback' in failed.read_text('utf-8')


def test_a_report_is_kept_with_the_command_that_made_it(swept):
  docs = swept[0] / 'docs' / 'mine'
  assert {path.name for path in docs.iterdir()} == {'table.md', 'rows.csv'}
  first, _, last = (docs / 'table.md').read_text('utf-8').splitlines()
  assert first == '4 runs'
  assert last.startswith('Made by `python -m launch.sweep ')
  assert ': 4 trials on ' in last
  assert last.endswith(' minutes in all.')


def _rows(folder):
  with open(folder / 'rows.csv', encoding='utf-8', newline='') as file:
    return [*csv.DictReader(file)]


def test_the_final_metrics_of_finished_trials_are_kept_as_raw_rows(swept):
  folder = swept[0]
  rows = _rows(folder / 'runs' / 'mine')
  assert _rows(folder / 'docs' / 'mine') == rows
  assert tuple(rows[0]) == COLUMNS
  assert [*dict.fromkeys(row['trial'] for row in rows)] == SEEDS
  for name in SEEDS:
    run = read_run(folder / 'runs' / 'mine' / name)
    of_trial = [row for row in rows if row['trial'] == name]
    values = {row['metric']: float(row['value']) for row in of_trial}
    assert values['valid/nll'] == run.rows[-1]['valid/nll']
    assert values['loss'] == run.rows[-1]['loss']
    assert not any(metric.startswith('speed/') for metric in values)
    assert len(of_trial) == len(values)
    state = json.loads((run.path / 'trial.json').read_text('utf-8'))
    commit = read_origin(run.path).commit or ''
    for row in of_trial:
      assert row['seed'] == name[-1]
      assert row['commit'].removesuffix('-dirty') == commit
      assert (row['machine'], row['date']) == (state['machine'], state['date'])


def test_finished_trials_are_not_run_again(swept, tiny, capsys):
  folder = swept[0]
  log = folder / 'runs' / 'mine' / SEEDS[0] / 'trial.log'
  before = log.stat().st_mtime_ns
  experiment = _write(folder / 'mine.py', tiny)
  assert main([experiment, '--workdir', str(folder / 'runs')]) == 0
  assert '4 of 4 trials are finished' in capsys.readouterr().out
  assert log.stat().st_mtime_ns == before


def test_a_changed_experiment_is_refused(swept, tiny, capsys):
  folder = swept[0]
  experiment = _write(folder / 'mine.py', tiny, steps=5)
  assert main([experiment, '--workdir', str(folder / 'runs')]) == 1
  error = capsys.readouterr().err
  assert f'since trial {SEEDS[0]}' in error
  assert 'steps: 4 there, 5 now' in error


def test_a_report_alone_runs_no_trial(swept, tiny, capsys):
  folder = swept[0]
  experiment = _write(folder / 'mine.py', tiny, 'add(seed=7)')
  command = [experiment, '--workdir', str(folder / 'runs'), '--report-only']
  assert main(command) == 0
  assert 'report of 4 trials: ' in capsys.readouterr().out
  assert not (folder / 'runs' / 'mine' / 'seed=7').exists()


def test_a_report_that_fails_is_reported(swept, tiny, capsys):
  folder = swept[0]
  experiment = _write(folder / 'mine.py', tiny)
  with open(experiment, 'a', encoding='utf-8') as file:
    file.write('  raise KeyError(folder)\n')
  assert main([experiment, '--workdir', str(folder / 'runs')]) == 1
  assert f'failed: the report of {experiment}' in capsys.readouterr().err


def test_an_interrupted_sweep_stops_its_workers_and_resumes(tiny, tmp_path):
  options = dict(steps=150, save_every=10, evals={}, keep_best=None)
  experiment = _write(tmp_path / 'mine.py', tiny, 'add()', (), **options)
  command = [experiment, '--workdir', str(tmp_path / 'runs')]
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.sweep', *command],
    stderr=subprocess.PIPE,
    text=True,
  )
  (trial,) = plan(experiment, tmp_path / 'runs')
  checkpoints = trial.folder / 'checkpoints'
  while not any(path.name.isdigit() for path in checkpoints.glob('*')):
    assert process.poll() is None, 'it ended before it could be stopped'
    time.sleep(0.002)
  workers = psutil.Process(process.pid).children(recursive=True)
  process.send_signal(signal.SIGTERM)
  error = process.communicate()[1]
  assert process.returncode == 130
  assert 'The same command resumes:\n  python -m launch.sweep' in error
  assert workers
  assert not any(worker.is_running() for worker in workers)
  assert trial.state['status'] == 'running'

  assert main(command) == 0
  assert 'resuming from the checkpoint' in (trial.folder / 'train.log').read_text()
  assert [row['step'] for row in read_run(trial.folder).rows] == list(range(1, 151))


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--on', 'moon'], "invalid choice: 'moon' (choose from "),
    (['--workers', '0'], '--workers: it is 0; it must be at least 1'),
    (['--trials', '0'], '--trials: it is 0; it must be at least 1'),
    (['--trials', '-1'], '--trials: it is -1; it must be at least 1'),
    (['--trials', '2.5'], "--trials: it is '2.5'; it must be a whole number"),
    (['--trials', '٣'], "--trials: it is '٣'; it must be a whole number"),
    (['--trials', '2', '--seed', '-1'], '--seed: it is -1; it must be at least 0'),
    (['--slurm', '--time 4'], '--slurm has no effect without --on slurm'),
  ],
)
def test_an_option_that_is_not_known_is_refused(argv, message, capsys):
  with pytest.raises(SystemExit):
    main(['mine.py', '--workdir', 'runs', *argv])
  assert message in capsys.readouterr().err


def test_an_experiment_named_twice_is_refused(tiny, tmp_path, capsys):
  experiment = _write(tmp_path / 'mine.py', tiny)
  assert main([experiment, experiment, '--workdir', str(tmp_path / 'runs')]) == 1
  assert 'two of the experiments have the same name' in capsys.readouterr().err


PLANNED = """
import ml_collections


def get_config(arg=None):
  return ml_collections.ConfigDict(dict(seed=0, steps=1))


def sweep(add):
  {sweep}
"""
REPORT = """

def report(runs, folder):
  (folder / 'table.md').write_text('x')
"""


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
  """refused(argv): returns the error of a sweep that is refused before any trial."""
  started = []
  monkeypatch.setitem(RUNNERS, 'local', lambda *_, **__: started.append(1))

  def run(*argv, sweep='add(seed=1)', text=REPORT):
    file = tmp_path / 'mine.py'
    file.write_text(PLANNED.format(sweep=sweep) + text, 'utf-8')
    assert main([str(file), '--workdir', str(tmp_path / 'runs'), *argv]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert not started
    return line

  return run


def test_a_sweep_without_trials_is_refused(refused):
  assert 'adds no trial' in refused(sweep='pass')


@pytest.mark.parametrize('target', ['/proc/nowhere', 'file'])
def test_a_report_that_could_not_be_written_is_refused(refused, tmp_path, target):
  (tmp_path / 'file').write_text('')
  target = target if target[0] == '/' else str(tmp_path / target)
  assert f'--report-to {target} cannot be written to' in refused('--report-to', target)


def test_a_report_does_not_overwrite_itself(refused, tmp_path):
  line = refused('--report-to', str(tmp_path / 'runs'))
  assert 'is the folder of the study itself' in line


@pytest.mark.parametrize('option', [['--report-only'], ['--report-to', 'docs']])
def test_an_experiment_without_a_report_is_not_reported_on(refused, option):
  line = refused(*option, text='')
  assert f'has no function report(runs, folder): leave {option[0]} out' in line


def test_a_report_on_nothing_is_refused(refused):
  assert 'there is nothing to report on' in refused('--report-only')


@pytest.mark.parametrize('text', ['', '{', '[]', '\x00\x00'])
def test_a_damaged_state_is_named(refused, tmp_path, text):
  folder = tmp_path / 'runs' / 'mine' / 'seed=1'
  folder.mkdir(parents=True)
  (folder / 'trial.json').write_text(text)
  line = refused()
  assert line.startswith(f'sweep: {folder}/trial.json is damaged')
  assert 'delete it; the trial then runs again' in line


def test_a_sweep_in_a_bucket_is_refused(refused):
  line = refused('--workdir', 'gs://key:secret@mine/runs')
  assert 'gs://key:***@mine/runs is in a bucket' in line


def test_a_report_is_published_whole_each_time(tmp_path):
  args = argparse.Namespace(report_to=str(tmp_path / 'a`b'), workdir='w', trials=None)
  table = tmp_path / 'table.md'
  table.write_text('numbers\n')
  state = dict(device='1 CPU core', date='2026-01-01', seconds=60.0)
  for _ in range(2):
    _publish('mine.py', tmp_path, [table], [state], args)
  text = (tmp_path / 'a`b' / tmp_path.name / 'table.md').read_text('utf-8')
  assert text.count('numbers') == text.count('Made by') == 1
  assert 'Made by ``python -m launch.sweep mine.py' in text


def test_a_trial_whose_folder_was_deleted_does_not_end_the_sweep(
  tmp_path, capsys, monkeypatch
):
  def run(trials, done, **_):
    for trial in trials:
      done(trial, dict(status='finished', seconds=1.0, reason=None))

  monkeypatch.setitem(RUNNERS, 'local', run)
  file = tmp_path / 'mine.py'
  file.write_text(PLANNED.format(sweep='add(seed=1), add(seed=2)'), 'utf-8')
  assert main([str(file), '--workdir', str(tmp_path / 'runs')]) == 1
  captured = capsys.readouterr()
  assert '[2/2] seed=2: 1 s, and cannot be read: ' in captured.out
  assert f'failed: {tmp_path}/runs/mine/seed=1: its state is unknown' in captured.err


def _finish(trial, rows, **state):
  """Writes the folder of a finished trial; returns its state."""
  open_folder(trial.folder, trial.config).write_config()
  text = ''.join(f'{json.dumps(row)}\n' for row in rows)
  (trial.folder / 'metrics.jsonl').write_text(text, 'utf-8')
  state |= dict(status='finished', seconds=1.0, reason=None)
  state |= dict(overrides=trial.overrides, device='1 CPU core', date='2026-01-01')
  write_state(trial.folder, state)
  return state


def test_raw_rows_are_written_as_each_trial_ends(tmp_path, monkeypatch):
  interrupted = True

  def run(trials, done, **_):
    for trial in trials:
      value = trial.config['seed'] / 3
      row = {'step': 1, 'valid/bleu': None if value == 1 else value}
      done(trial, _finish(trial, [{'step': 0, 'valid/bleu': 9.0, 'epoch': 2.0}, row]))
      if interrupted:
        raise KeyboardInterrupt

  monkeypatch.setitem(RUNNERS, 'local', run)
  file = tmp_path / 'mine.py'
  file.write_text(PLANNED.format(sweep='[add(seed=i) for i in (1, 2, 3)]'), 'utf-8')
  command = [str(file), '--workdir', str(tmp_path / 'runs')]
  of_first = [
    ['seed=1', '1', metric, value, '', '1 CPU core', '2026-01-01']
    for metric, value in (('valid/bleu', '0.3333333333333333'), ('epoch', '2.0'))
  ]
  assert main(command) == 130
  assert [[*row.values()] for row in _rows(tmp_path / 'runs' / 'mine')] == of_first
  interrupted = False
  (tmp_path / 'runs' / 'mine' / 'rows.csv').unlink()  # as of an older version
  assert main(command) == 0
  rows = [[*row.values()] for row in _rows(tmp_path / 'runs' / 'mine')]
  assert rows[:2] == of_first
  bleu = {row[0]: row[3] for row in rows if row[2] == 'valid/bleu'}
  assert bleu == {'seed=1': repr(1 / 3), 'seed=2': repr(2 / 3), 'seed=3': 'nan'}


def test_a_trial_that_cannot_be_read_has_no_raw_rows(tmp_path, monkeypatch, capsys):
  def run(trials, done, **_):
    for trial in trials:
      state = _finish(trial, [{'step': 1, 'valid/bleu': 1.0}])
      if trial.overrides['seed'] == 1:
        (trial.folder / 'config.json').write_text('{')
      done(trial, state)

  monkeypatch.setitem(RUNNERS, 'local', run)
  file = tmp_path / 'mine.py'
  file.write_text(PLANNED.format(sweep='add(seed=1), add(seed=2)'), 'utf-8')
  assert main([str(file), '--workdir', str(tmp_path / 'runs')]) == 1
  rows = _rows(tmp_path / 'runs' / 'mine')
  assert [row['trial'] for row in rows] == ['seed=2']
  error = capsys.readouterr().err
  assert error.count('rows.csv leaves out trial seed=1: ') == 1


def test_a_missing_experiment_is_one_line_on_stderr(capsys):
  assert main(['nowhere.py', '--workdir', 'runs']) == 1
  assert capsys.readouterr().err.startswith('sweep: there is no experiment nowhere.py')

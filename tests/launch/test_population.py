"""`python -m launch.sweep --on population`: each group of trials is one program."""

import csv
import os
from pathlib import Path
import signal

import pytest

from launch import population
from launch.sweep import main
from launch.trials import Trial, plan, unfinished, write_running_state
from launch.workers import grouped
from seqlab.report.runs import read_run
from seqlab.results.origin import read_origin
from seqlab.use.runs import load_run

TEXT = """
import ml_collections


def get_config(arg=None):
  return ml_collections.ConfigDict({config!r})


def sweep(add):
  for seed in range(2):
    add(seed=seed)
  add(seed=0, **{{'hyper.peak': 1e20}})  # diverges
"""
NAMES = ['seed=0', 'seed=1', 'peak=1e+20,seed=0']


@pytest.fixture(scope='module')
def swept(tiny, tmp_path_factory):
  """Returns the trials of a sweep in which one diverges, its status and its command."""
  folder = tmp_path_factory.mktemp('swept')
  config = tiny | {'steps': 4, 'keep_best': 'valid/nll', 'best_is': 'min'}
  config['batching'] = {'kind': 'packed', 'tokens': 160, 'max_length': 20}
  evals = {'type': 'perplexity', 'split': 'valid', 'every': 2, 'shapes': 1}
  config['evals'] = {'valid': evals}
  (folder / 'mine.py').write_text(TEXT.format(config=config), 'utf-8')
  experiment, runs = str(folder / 'mine.py'), folder / 'runs'
  command = [experiment, '--workdir', str(runs), '--on', 'population']
  status = main(command)
  return plan(experiment, runs), status, command


def test_members_finish_and_the_one_that_diverges_fails(swept):
  trials, status, _ = swept
  assert status == 1
  assert [trial.name for trial in trials] == NAMES
  assert [trial.state['status'] for trial in trials] == ['finished'] * 2 + ['failed']
  assert unfinished(trials) == [trials[2]]
  for seed, trial in enumerate(trials[:2]):
    run = read_run(trial.folder)
    assert [row['step'] for row in run.rows] == [1, 2, 3, 4]
    assert run.overrides == {'seed': seed}


def test_raw_rows_have_the_commit_of_each_member(swept):
  folder = swept[0][0].folder
  with open(folder.parent / 'rows.csv', encoding='utf-8', newline='') as file:
    rows = [row for row in csv.DictReader(file) if row['metric'] == 'valid/nll']
  assert [row['trial'] for row in rows] == NAMES[:2]
  assert [float(row['value']) for row in rows] == [
    read_run(trial.folder).final('valid/nll') for trial in swept[0][:2]
  ]
  origin = read_origin(folder)
  assert origin.file.endswith('mine.py')
  assert {row['commit'].removesuffix('-dirty') for row in rows} == {origin.commit or ''}


def test_a_failure_has_its_reason_and_its_traceback(swept):
  state, log = swept[0][2].state, swept[0][2].folder / 'trial.log'
  assert state['reason'].startswith('FloatingPointError: the norm of the update')
  first, _, trace = log.read_text('utf-8').partition('\n')
  assert first.startswith('in a population: its process writes to ')
  assert trace.startswith('Traceback')


def test_trials_share_their_time(swept):
  states = [trial.state for trial in swept[0]]
  assert {state['population'] for state in states} == {3}
  assert {'CPU core' in state['device'] for state in states} == {True}
  assert 0 < states[2]['seconds'] < states[0]['seconds']  # it ended earlier
  log = (swept[0][0].folder / 'trial.log').read_text('utf-8')
  assert 'seed=1: first step: loss' in log


def test_a_member_can_be_evaluated_like_any_run(swept):
  _, _, variables, steps = load_run(swept[0][1].folder)
  assert list(steps) == [4]
  assert variables['params']


def test_finished_trials_are_not_run_again(swept, capsys, monkeypatch):
  trials, _, command = swept
  groups = []
  monkeypatch.setattr(population, '_run', lambda group, *_: groups.append(group.trials))
  before = trials[0].state
  assert main(command) == 1
  assert groups == [[trials[2]]]
  assert trials[0].state == before
  assert '2 of 3 trials are finished' in capsys.readouterr().out


def _trials(*overrides, hyper=None):
  return [Trial('a.py', str(o), Path(), o, {'hyper': hyper or {}}) for o in overrides]


def test_groups_share_a_program():
  a = _trials({'seed': 0}, {'seed': 1, 'hyper.peak': 0.1}, hyper={'peak': 0.1})
  b = _trials({'seed': 0, 'model.layers': 2}, hyper={'peak': 0.1})
  c = _trials({'seed': 2}, hyper={'peak': 0.1, 'dropout': 0.1})
  d = _trials({'seed': 3}, hyper={'peak': 0.2, 'dropout': None})
  assert grouped([a[0], *b, *c, a[1], *d]) == [[*a, *d], b, c]


@pytest.fixture
def ran(monkeypatch):
  """Collects of each population the seeds of the trials, their places, its width."""
  ran = []

  def run(group, *_):
    seeds = [trial.overrides['seed'] for trial in group.trials]
    ran.append((seeds, [*group.places], group.width))

  monkeypatch.setattr(population, '_run', run)
  return ran


def _eight(folder):
  return [
    Trial('a.py', str(i), folder / str(i), {'seed': i}, {'hyper': {}}) for i in range(8)
  ]


def test_workers_limit_a_population(ran, tmp_path):
  population.run_many(_eight(tmp_path / 'a'), lambda *_: None, workers=3)
  population.run_many(_eight(tmp_path / 'b'), lambda *_: None)
  assert [len(seeds) for seeds, _, _ in ran] == [3, 3, 2, 8]


def test_trials_of_an_interrupted_sweep_keep_their_places(ran, tmp_path):
  trials = _eight(tmp_path)
  population.run_many(trials[:5], lambda *_: None, workers=3)
  for trial in trials[:3]:  # the second population wrote no checkpoint
    (trial.folder / 'checkpoints').mkdir()
  ran.clear()
  population.run_many([trials[2], *trials[3:]], lambda *_: None, workers=4)
  # The first two are finished.
  assert ran == [([2], [2], 3), ([3, 4, 5, 6], [0, 1, 2, 3], 4), ([7], [0], 1)]
  ran.clear()
  population.run_many(trials[2:4], lambda *_: None, workers=2)  # less memory
  assert ran == [([2, 3], [0, 1], 2)]


def test_the_trials_of_a_process_that_dies_fail(tmp_path, monkeypatch):
  monkeypatch.setattr(population.sys, 'executable', str(tmp_path / 'dies'))
  (tmp_path / 'dies').write_text('#!/bin/sh\nkill -9 $$\n')
  (tmp_path / 'dies').chmod(0o755)
  trials = [Trial('a.py', i, tmp_path / i, {}, {}) for i in 'xy']
  states = []
  population.run_many(trials, lambda trial, state: states.append((trial.name, state)))
  assert [name for name, _ in states] == ['x', 'y']
  for trial, (_, state) in zip(trials, states, strict=True):
    assert state == trial.state
    assert state['reason'].startswith(
      'its process was ended by SIGKILL; the last lines'
    )
    assert 'set --workers to less than 2' in state['reason']


def test_time_is_shared_among_running_trials(tmp_path, monkeypatch):
  clock = iter([0.0, 6.0, 8.0, 9.0])
  monkeypatch.setattr(population.time, 'monotonic', lambda: next(clock))
  orders = [dict(folder=str(tmp_path / i), overrides={}) for i in 'xyz']
  ended = {}
  states = population.MemberStates(orders, ended.__setitem__)
  states.end(1, None)
  states.end(0, ValueError('no good'))
  states.stop('as SIGTERM asked')
  assert {i: state['seconds'] for i, state in ended.items()} == {1: 2.0, 0: 3.0, 2: 4.0}
  assert [ended[i]['status'] for i in range(3)] == ['failed', 'finished', 'stopped']
  again = write_running_state(tmp_path / 'z', {})
  assert again['seconds'] == 4.0  # to which later time is added


def test_an_interrupted_sweep_leaves_no_process(tmp_path, monkeypatch):
  monkeypatch.setattr(population.sys, 'executable', str(tmp_path / 'waits'))
  (tmp_path / 'waits').write_text(
    '#!/bin/sh\necho $$ > "$0.pid"\necho "[0, {}]"\ncat\n'
  )
  (tmp_path / 'waits').chmod(0o755)
  trials = [Trial('a.py', i, tmp_path / i, {}, {}) for i in 'xy']

  def interrupt(*_):
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    population.run_many(trials, interrupt)
  with pytest.raises(ProcessLookupError):
    os.kill(int((tmp_path / 'waits.pid').read_text()), signal.SIGCONT)

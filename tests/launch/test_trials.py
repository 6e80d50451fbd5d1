"""Planning a sweep: names, refusals, and the trials that are still to be run."""

import gc
import os
from pathlib import Path
import signal
import subprocess
import sys
import weakref

import pytest

from launch.trials import (
  Trial,
  experiment_name,
  make_trial,
  other_folders,
  plan,
  read_state,
  run_trial,
  unfinished,
  write_state,
)
from launch.workers import GroupedQueue
from seqlab.config import with_defaults
from seqlab.experiment import split_name
from seqlab.io.processes import share
from seqlab.tasks.translation import Translation
from seqlab.train.folder import open_folder
from seqlab.train.writer import Writer

EXPERIMENTS = Path(__file__).parents[2] / 'experiments'
SWEEPS = [x for x in sorted(EXPERIMENTS.rglob('*.py')) if 'def sweep(' in x.read_text()]

TEXT = """
import ml_collections
import numpy as np


def get_config(arg=None):
  c = ml_collections.ConfigDict()
  c.seed, c.steps = 0, 5
  c.task, c.name = 'of_the_users_own:Task', None
  c.hyper, c.schedule = dict(peak=1e-3), dict(kind='constant', warmup='2 epochs')
  c.model = dict(width=8, cell='gru', tie=False)
  c.embedding = dict(width=8)
  return c


def sweep(add):
"""


@pytest.fixture
def planned(tmp_path):
  """planned(lines): the trials of an experiment whose sweep has these lines."""

  def make(*lines):
    file = tmp_path / 'experiments' / 'deep' / 'mine.py'
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TEXT + ''.join(f'  {line}\n' for line in lines), 'utf-8')
    return plan(str(file), tmp_path / 'runs')

  return make


def test_trials_are_named_by_their_overrides(planned, tmp_path):
  trials = planned(
    'for cell in ("gru", "lstm"):',
    '  for seed in range(2):',
    '    add(**{"model.cell": cell}, seed=seed)',
  )
  assert [trial.name for trial in trials] == [
    *('cell=gru,seed=0', 'cell=gru,seed=1', 'cell=lstm,seed=0', 'cell=lstm,seed=1')
  ]
  assert trials[3].folder == tmp_path / 'runs' / 'deep-mine' / 'cell=lstm,seed=1'
  assert trials[3].overrides == {'model.cell': 'lstm', 'seed': 1}
  assert (trials[3].config['model']['cell'], trials[3].config['seed']) == ('lstm', 1)


def test_keys_of_the_same_last_part_are_named_in_full(planned):
  (trial,) = planned(
    'add(**{"model.width": 4, "embedding.width": 16, "model.tie": True})'
  )
  assert trial.name == 'model.width=4,embedding.width=16,tie=True'


def test_names_are_safe_and_unique(planned):
  names = [
    trial.name
    for trial in planned(
      'add()',
      'add(name="../a b:c")',
      'add(name="../a b*c")',
      'add(name="x" * 300)',
      'add(name="x" * 301)',
      'add(name="кот")',
    )
  ]
  assert names[:2] == ['base', 'name=.._a_b_c']
  assert names[2].startswith('name=.._a_b_c-')
  assert names[5] == 'name=кот'
  assert len(set(names)) == 6
  assert max(map(len, names)) < 120


def test_values_are_read_as_the_types_that_the_experiment_has(planned):
  (trial,) = planned(
    'add(name="5", steps="3 epochs", seed=np.int64(2), '
    '**{"hyper.peak": np.float64(0.5), "schedule.warmup": 3})'
  )
  config = trial.config
  assert (config['name'], config['steps'], config['seed']) == ('5', '3 epochs', 2)
  assert (config['hyper']['peak'], config['schedule']['warmup']) == (0.5, 3)
  assert type(trial.overrides['hyper.peak']) is float


@pytest.mark.parametrize(
  ('line', 'message'),
  [
    ('add(**{"hyper.paek": 1.0})', "no key 'hyper.paek'; did you mean 'peak'"),
    ('add(**{"model.width": 2.5})', r'trial width=2\.5 of .*should be a int'),
    ('add(name={1})', 'trial name=_1 of .*not JSON serializable'),
    ('add(seed=1), add(seed=1)', r"adds the same trial twice: \{'seed': 1\}"),
    ('pass', 'adds no trial'),
  ],
)
def test_an_invalid_sweep_is_refused(planned, line, message):
  with pytest.raises(ValueError, match=message):
    planned(line)


def test_an_experiment_without_a_sweep_is_refused(tmp_path):
  file = tmp_path / 'mine.py'
  file.write_text(TEXT.partition('\n\ndef sweep')[0], 'utf-8')
  with pytest.raises(ValueError, match=r'mine\.py has no function sweep\(add\)'):
    plan(str(file), tmp_path)


@pytest.mark.parametrize(
  ('experiment', 'name'),
  [
    ('experiments/multi30k/transformer.py', 'multi30k-transformer'),
    ('/a/experiments/b/experiments/c.py:smoke,size=a/b', 'c-smoke,size=a_b'),
    ('elsewhere/mine.py', 'mine'),
  ],
)
def test_an_experiment_is_named_by_its_path(experiment, name):
  assert experiment_name(experiment) == name


@pytest.mark.parametrize(
  ('experiment', 'parts'),
  [
    ('a.py', ('a.py', '')),
    ('a.py:b', ('a.py', 'b')),
    ('a:b/c.py:d:e', ('a:b/c.py', 'd:e')),
    ('a.py:b/c.py', ('a.py', 'b/c.py')),
    ('a', ('a', '')),
  ],
)
def test_a_colon_in_a_folder_does_not_start_an_argument(experiment, parts):
  assert split_name(experiment) == (Path(parts[0]), parts[1])


def test_a_file_that_exists_decides_where_its_argument_begins(tmp_path):
  file = tmp_path / 'a.py:b' / 'c.py'
  file.parent.mkdir()
  file.write_text('')
  assert split_name(f'{file}:d') == (file, 'd')
  assert experiment_name(str(file)) == 'c'


def test_names_fit_a_file_system(planned):
  long = '木' * 150  # 450 bytes
  (trial,) = planned(f'add(name="{long}")')
  assert len(trial.name.encode()) < 255
  names = [experiment_name(f'mine.py:{long}{i}') for i in range(2)]
  assert names[0] != names[1]
  assert max(len(name.encode()) for name in names) < 255
  assert experiment_name('_.py') == 'experiment'


def test_a_removed_folder_is_created_again(tmp_path):
  write_state(tmp_path / 'gone' / 'trial', {'status': 'failed'})
  assert read_state(tmp_path / 'gone' / 'trial') == {'status': 'failed'}


def _finish(trial):
  open_folder(trial.folder, with_defaults(trial.config)).write_config()
  write_state(trial.folder, {'status': 'finished', 'overrides': trial.overrides})


def test_a_finished_trial_is_not_run_again(planned):
  trials = planned('add(seed=1), add(seed=2), add(seed=3)')
  _finish(trials[1])
  write_state(Path(open_folder(trials[2].folder, {}).path), {'status': 'running'})
  assert unfinished(trials) == [trials[0], trials[2]]


def test_a_trial_keeps_the_folder_of_its_old_name(planned, tmp_path):
  """Renaming an option or an argument renames the trials, but trains none again."""
  trials = planned('add(seed=1), add(seed=2), add(seed=3)')
  for trial in trials[:2]:
    _finish(trial)
  study = trials[0].folder.parent
  old = trials[0].folder.rename(study / 'road=a,seed=1')
  state = {
    'status': 'finished',
    'overrides': {'arg': 'road=a', 'seed': 1},
    'seconds': 9,
  }
  write_state(old, state)
  strange = trials[1].folder.rename(study / 'road=b,seed=2')
  (strange / 'config.json').write_text('{"seed": 2, "task": "another"}', 'utf-8')
  again = planned('add(seed=1), add(seed=2), add(seed=3)')
  assert [trial.folder for trial in again] == [old, *(x.folder for x in trials[1:])]
  assert unfinished(again) == again[1:]
  assert read_state(old) == state | {'overrides': {'seed': 1}}
  assert other_folders(again, study) == [strange]


def test_a_study_under_its_old_name_is_not_started_anew(tmp_path):
  experiment = f'{EXPERIMENTS}/enwiki/methods.py:d=300'
  (tmp_path / 'enwiki-roads-d=300').mkdir()
  with pytest.raises(ValueError, match=r'rename the folder to enwiki-methods-d=300'):
    plan(experiment, tmp_path)


def test_names_in_libraries_are_checked_before_a_sweep(tmp_path):
  experiment = str(EXPERIMENTS / 'agreement' / 'transformer.py')
  make_trial(experiment, tmp_path / 'x', {'optimizer.kind': 'optax:lion'})
  for overrides in (
    {'optimizer.kind': 'optax:lionn'},
    {'model.activation': 'flax.linen:geluu'},
  ):
    with pytest.raises(ValueError, match=r'trial x of .* has no .*; did you mean'):
      make_trial(experiment, tmp_path / 'x', overrides)


def test_a_changed_experiment_is_refused_unless_forced(planned):
  trials = planned('add(seed=1), add(seed=2)')
  for trial in trials:
    _finish(trial)
  changed = planned('add(seed=1), add(seed=2)')
  changed[1].config['steps'] = 6
  with pytest.raises(ValueError, match=r'since trial seed=2: (.|\n)*steps: 5 there, 6'):
    unfinished(changed)
  assert unfinished(changed, force=True) == [changed[1]]


def test_a_trial_stopped_by_sigterm_is_run_again(tiny, tmp_path, monkeypatch):
  config = tiny | {'evals': {}, 'keep_best': None}
  text = f'ml_collections.ConfigDict({config!r})'
  file = tmp_path / 'mine.py'
  file.write_text(
    f'import ml_collections\n\n\ndef get_config(arg=None):\n  return {text}\n\n\n'
    'def sweep(add):\n  add(seed=1)\n',
    'utf-8',
  )
  (trial,) = plan(str(file), tmp_path)
  stop = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
  monkeypatch.setattr(Writer, 'write', stop)
  state = run_trial(trial.experiment, trial.overrides, trial.folder)
  assert (state['status'], trial.state['status']) == ('stopped', 'stopped')
  assert 'stopped at step 2 of 12' in state['reason']
  assert unfinished([trial]) == [trial]


def test_a_task_and_its_open_files_end_with_their_run(tiny, tmp_path):
  """Otherwise the trials of one worker would exceed the limit of open files."""
  task = Translation.from_config(tiny, tmp_path / 'vocabulary')
  assert task.stores('valid')[0] is task.stores('valid')[0]
  ended = weakref.ref(task)
  del task
  gc.collect()
  assert ended() is None


def _trials(*overrides):
  return [Trial('a.py', str(o), Path(), o, {}) for o in overrides]


def test_workers_take_groups_that_share_a_program():
  a = _trials(*({'cell': 'gru', 'seed': i, 'hyper.peak': 0.1 * i} for i in range(3)))
  b = _trials(*({'cell': 'lstm', 'seed': i} for i in range(2)))
  queue = GroupedQueue([*a, *b])
  assert [queue.next_trial(worker) for worker in 'xyyx'] == [a[0], b[0], b[1], a[1]]
  assert queue.next_trial('y') == a[2]  # its group is done: it helps with another's
  assert [queue.next_trial(worker) for worker in 'xy'] == [None, None]


def test_cores_are_divided_among_workers():
  cores = [0, 1, 2, 3, 8]
  assert [share(cores, i, 2) for i in range(2)] == [[0, 1], [2, 3, 8]]
  shares = [share([4, 7], i, 3) for i in range(3)]
  assert all(share and set(share) <= {4, 7} for share in shares)


def test_an_argument_makes_another_experiment(planned):
  first, second = planned("add(arg='small', seed=1)", "add(arg='large', seed=1)")
  assert first.experiment.endswith('mine.py:small')
  assert second.experiment.endswith('mine.py:large')
  assert (first.name, second.name) == ('arg=small,seed=1', 'arg=large,seed=1')


def test_planning_needs_no_jax():
  code = 'import sys, launch.sweep; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.parametrize('path', SWEEPS, ids=lambda p: str(p.relative_to(EXPERIMENTS)))
def test_the_sweep_of_every_experiment_can_be_planned(path, tmp_path):
  assert plan(str(path), tmp_path)


def test_an_option_of_the_last_trial_is_checked_before_the_first_starts(tmp_path):
  file = tmp_path / 'mine.py'
  source = (EXPERIMENTS / 'agreement' / 'transformer.py').read_text('utf-8')
  adds = "\n\ndef sweep(add):\n  add(seed=1)\n  add(**{'hyper.dropout': 1.5})\n"
  file.write_text(source + adds, 'utf-8')
  with pytest.raises(ValueError, match=r'trial .* hyper\.dropout is 1\.5; it must be'):
    plan(str(file), tmp_path / 'runs')


def test_options_that_the_file_leaves_out_can_be_swept(tmp_path):
  file = tmp_path / 'mine.py'
  source = (EXPERIMENTS / 'agreement' / 'transformer.py').read_text('utf-8')
  adds = "\n\ndef sweep(add):\n  for kind in ('layer', 'rms'):\n    add(**{'model.normalization': kind})\n"
  file.write_text(source + adds, 'utf-8')
  trials = plan(str(file), tmp_path / 'runs')
  assert [t.config['model']['normalization'] for t in trials] == ['layer', 'rms']

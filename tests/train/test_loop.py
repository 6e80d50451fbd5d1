"""Small runs: which files they write, when they stop, and how they resume."""

import gc
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from seqlab.cli import main
from seqlab.evaluators.outputs import Evaluator as Outputs
from seqlab.train import retry, session
from seqlab.train import writer as writer_module
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.engine_jit import JitEngine
from seqlab.train.folder import open_folder
from seqlab.train.history import History
from seqlab.train.loop import train
from seqlab.train.processes import Stopped
from seqlab.train.writer import Progress, Writer, read_metrics
from seqlab.use.runs import load_run


def _rows(folder):
  """Returns the rows of metrics.jsonl without times."""
  return [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for row in read_metrics(folder / 'metrics.jsonl')
  ]


def _params(folder):
  """Returns the parameters of the newest checkpoint."""
  _, _, variables, _ = load_run(folder)
  return jax.tree.leaves(variables)


def test_the_folder_of_a_run_is_complete(finished):
  names = {path.name for path in finished.iterdir()}
  assert names >= {'config.json', 'metrics.jsonl', 'events', 'checkpoints'}
  assert names >= {'vocabulary', 'samples', 'train.log'}


def test_there_is_one_row_per_step_with_its_metrics(finished):
  rows = read_metrics(finished / 'metrics.jsonl')
  assert [row['step'] for row in rows] == list(range(1, 13))
  metrics = {'loss', 'nll', 'accuracy', 'grad_norm', 'learning_rate', 'padding_waste'}
  metrics |= {'epoch', 'compiles', 'speed/tokens_per_s', 'speed/flops_utilisation'}
  assert all(metrics <= set(row) for row in rows)
  assert [row['step'] for row in rows if 'valid/bleu' in row] == [4, 8, 12]


def test_nothing_is_compiled_after_the_declared_shapes(finished):
  assert {row['compiles'] for row in read_metrics(finished / 'metrics.jsonl')} == {0}


def test_the_loss_falls(finished):
  rows = read_metrics(finished / 'metrics.jsonl')
  assert rows[-1]['nll'] < 0.8 * rows[0]['nll']


def test_samples_show_source_reference_and_output(finished):
  lines = (finished / 'samples' / 'valid-00000012.txt').read_text('utf-8').split('\n')
  assert [line[:2] for line in lines[:4]] == ['< ', '= ', '> ', '']
  assert lines[0][2:].split() == lines[1][2:].split()[::-1]


def test_the_log_explains_its_scores(finished):
  log = (finished / 'train.log').read_text('utf-8')
  (line,) = (line for line in log.splitlines() if 'nrefs:' in line)
  assert 'valid: nrefs:1|case:mixed|eff:no|tok:13a|' in line
  assert log.index(line) < log.index('step 4:')


def test_events_can_be_read_by_tensorboard(finished):
  (events,) = (finished / 'events').iterdir()
  assert events.name.startswith('events.out.tfevents')
  assert b'valid/bleu' in events.read_bytes()


def test_a_finished_run_is_not_changed(finished, tiny, tmp_path):
  folder = shutil.copytree(finished, tmp_path / 'run')
  before = (folder / 'metrics.jsonl').read_bytes()
  train(tiny, folder)
  assert (folder / 'metrics.jsonl').read_bytes() == before


def test_resumed_equals_uninterrupted(finished, tiny, tmp_path):
  """The checkpoint of step 8 is the newest; later rows are written again."""
  folder = shutil.copytree(finished, tmp_path / 'run')
  shutil.rmtree(folder / 'checkpoints' / '12')
  train(tiny, folder)
  assert _rows(folder) == _rows(finished)
  for a, b in zip(_params(folder), _params(finished), strict=True):
    np.testing.assert_array_equal(a, b)


def test_an_incomplete_checkpoint_leads_to_the_previous_one(
  finished, tiny, tmp_path, capsys
):
  folder = shutil.copytree(finished, tmp_path / 'run')
  newest = folder / 'checkpoints' / '12'
  for file in newest.rglob('*'):
    if file.is_file() and file.stat().st_size > 300:
      file.write_bytes(file.read_bytes()[:100])
  train(tiny, folder)
  assert 'the checkpoint of step 12 cannot be read' in capsys.readouterr().out
  assert (folder / 'checkpoints' / 'broken-12').is_dir()
  assert _rows(folder) == _rows(finished)


def test_a_different_experiment_is_refused(finished, tiny):
  changed = tiny | {'hyper': tiny['hyper'] | {'peak': 0.5}}
  with pytest.raises(ValueError, match=r'hyper\.peak: 0\.01 there, 0\.5 now'):
    train(changed, finished)


def test_a_different_experiment_may_resume_on_request(finished, tiny, tmp_path):
  folder = shutil.copytree(finished, tmp_path / 'run')
  train(tiny | {'steps': 14}, folder, force=True)
  assert _rows(folder)[-1]['step'] == 14
  assert json.loads((folder / 'config.json').read_text('utf-8'))['steps'] == 14


def test_a_loss_that_is_not_a_number_stops_the_run(tiny, tmp_path):
  hyper = tiny['hyper'] | {'peak': 1e15}
  message = r'the loss is .* at step 2 \(batch 1 of seed 0\).*last good .* step 1,'
  with pytest.raises(FloatingPointError, match=message):
    train(tiny | {'hyper': hyper, 'save_every': 1}, tmp_path)
  good = Checkpoints(tmp_path / 'checkpoints').latest
  for leaf in _params(tmp_path):
    assert np.isfinite(leaf).all()
  assert read_metrics(tmp_path / 'metrics.jsonl')[-1]['step'] == good + 1


def test_patience_ends_a_run_and_is_saved(tiny, tmp_path):
  hyper = tiny['hyper'] | {'peak': 0.0}  # so that no evaluation improves
  config = tiny | {'hyper': hyper, 'patience': 1}
  train(config, tmp_path)
  assert _rows(tmp_path)[-1]['step'] == 8
  train(config, tmp_path)
  assert _rows(tmp_path)[-1]['step'] == 8


def test_the_best_of_an_error_rate_is_the_smallest(tiny, tmp_path, monkeypatch):
  """An experiment that names no `best_is` keeps the checkpoint of the fewest errors."""
  rates = iter([0.9, 0.2, 0.5])
  monkeypatch.setattr(Outputs, 'compile', lambda self, variables: None)
  monkeypatch.setattr(Outputs, 'run', lambda self, variables: [('cer', next(rates))])
  valid = dict(kind='outputs', split='valid', measures=('cer',), every=2)
  config = {k: x for k, x in tiny.items() if k != 'best_is'}
  config |= dict(evals={'valid': valid}, keep_best='valid/cer', patience=1, steps=12)
  train(config, tmp_path)
  assert _rows(tmp_path)[-1]['step'] == 6  # out of patience; 0.2 was no worse than 0.9
  assert load_run(tmp_path, choose='best')[3] == [4]


def test_time_ends_a_run_and_is_saved(tiny, tmp_path):
  config = tiny | {'minutes': 1e-6, 'steps': 1_000}
  train(config, tmp_path)
  (last,) = (row for row in _rows(tmp_path) if 'valid/bleu' in row)
  assert last == _rows(tmp_path)[-1]
  # The time of a step is known after the next one has begun, or while that waits for
  # its program.
  assert last['step'] <= 2
  train(config, tmp_path)
  assert _rows(tmp_path)[-1] == last


@pytest.fixture
def sigterm_at_step_5(monkeypatch):
  write = Writer.write

  def write_and_terminate(self, step, row):
    write(self, step, row)
    if step == 5:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Writer, 'write', write_and_terminate)


def test_sigterm_writes_a_checkpoint_and_the_run_resumes(
  finished, tiny, tmp_path, sigterm_at_step_5
):
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(Stopped, match='stopped at step 6 of 12, as SIGTERM asked'):
    train(tiny, tmp_path)  # step 6 was on its way when step 5 was written
  assert signal.getsignal(signal.SIGTERM) is before
  assert Checkpoints(tmp_path / 'checkpoints').latest == 6
  train(tiny, tmp_path)
  assert _rows(tmp_path) == _rows(finished)
  for a, b in zip(_params(tmp_path), _params(finished), strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_command_asks_to_be_started_again(
  tiny, tmp_path, sigterm_at_step_5, capsys
):
  file = tmp_path / 'mine.py'
  file.write_text(
    'import ml_collections\n\n\ndef get_config(arg=None):\n'
    f'  return ml_collections.ConfigDict({tiny | {"evals": {}, "keep_best": None}!r})\n'
  )
  assert main(['train', str(file), '--workdir', str(tmp_path / 'run')]) == 75
  error = 'seqlab train: stopped at step 6 of 12, as SIGTERM asked; the same command'
  assert capsys.readouterr().err.startswith(error)


def test_history_counts_evaluations_without_a_new_best():
  history = History()
  for value in (3.0, 5.0, 4.0, 5.0):
    history.add(value, 1.0)
  assert (history.best, history.bad) == (5.0, 2)
  history.add(6.0, 1.0)
  assert (history.best, history.bad) == (6.0, 0)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'stesp': 5}, "unknown key stesp; did you mean 'steps'"),
    ({'keep_best': 'valid/bleau'}, "keep_best is 'valid/bleau'"),
    ({'save_every': '10 parsecs'}, "save_every is '10 parsecs'; it must be 1 or more"),
    ({'keep_best': 'valid/blue'}, "one of .*; did you mean 'valid/bleu'"),
    ({'task': 'tasks.translation:Translatoin'}, "did you mean 'Translation'"),
    ({'batching': {'tokens': 160, 'shape': 2}}, "did you mean 'shapes'"),
    ({'evals': {'valid': {'type': 'translation', 'splitt': 'x'}}}, r'evals\.valid'),
    ({'seed': -1}, 'seed is -1'),
    ({'patience': 2, 'keep_best': None}, 'set keep_best to a metric'),
    ({'best_is': 'most'}, "it must be 'max' or 'min'"),
  ],
)
def test_wrong_options_of_an_experiment_are_refused(tiny, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    train(tiny | changes, tmp_path)


def test_a_missing_key_is_named(tiny, tmp_path):
  config = {k: v for k, v in tiny.items() if k != 'steps'}
  with pytest.raises(ValueError, match='sets no steps'):
    train(config, tmp_path)


def test_two_processes_do_not_train_in_one_folder(tiny, tmp_path):
  with (
    open_folder(tmp_path, tiny).lock(),
    pytest.raises(RuntimeError, match='another process trains in'),
  ):
    train(tiny, tmp_path)


# Orbax's unfinished write fails again when it is deleted.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_ends_the_run_with_a_remedy(tiny, small_disk):
  room = os.statvfs(small_disk)
  free = room.f_bavail * room.f_frsize
  (small_disk / 'filler').write_bytes(b'x' * (free - 80_000))
  with pytest.raises(OSError, match=r'no space left for .*Free some'):
    train(tiny | {'save_every': 2, 'retries': 0}, small_disk / 'run')
  gc.collect()  # here, and not in the next test


def _wait_for(condition, seconds=60):
  until = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < until
    time.sleep(0.01)


@pytest.fixture
def short_pauses(monkeypatch):
  """Retries failures after a short pause."""
  monkeypatch.setattr(retry, 'PAUSE', 0.1)


@pytest.fixture
def full_at_step_5(small_disk, fill, monkeypatch):
  """A disk without room from step 5 on, with the checkpoint of step 4."""
  write, saved = Writer.write, small_disk / 'run' / 'checkpoints' / '4'

  def written(self, step, row):
    write(self, step, row)
    if step == 5:
      _wait_for(saved.is_dir)
      fill(small_disk)

  monkeypatch.setattr(Writer, 'write', written)
  return small_disk


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_temporarily_full_disk_does_not_end_a_run(
  point, point_run, read_run, full_at_step_5, monkeypatch, short_pauses
):
  def free():
    _wait_for(lambda: 'no space left' in messages.getvalue())
    (full_at_step_5 / 'filler').unlink()

  messages, folder = io.StringIO(), full_at_step_5 / 'run'
  monkeypatch.setattr(
    Progress, 'message', lambda self, text: messages.write(f'{text}\n')
  )
  frees = threading.Thread(target=free)
  frees.start()
  train(point, folder)
  frees.join()
  assert 'trying again in 0.1 s (6 more)' in messages.getvalue()
  assert read_run(folder) == read_run(point_run)
  gc.collect()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_disk_that_stays_full_leaves_the_last_good_checkpoint(
  point, full_at_step_5, short_pauses
):
  folder = full_at_step_5 / 'run'
  message = (
    r'no space left for .* after 3 tries; the last good .* of step 4\. Free some'
  )
  with pytest.raises(OSError, match=message):
    train(point | {'retries': 2}, folder)
  (full_at_step_5 / 'filler').unlink()
  assert Checkpoints(folder / 'checkpoints', read_only=True).latest == 4
  gc.collect()


def test_sigterm_during_compilation_ends_the_run_without_a_checkpoint(
  point, tmp_path, monkeypatch
):
  terminate = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
  monkeypatch.setattr(JitEngine, 'compile', terminate)
  with pytest.raises(Stopped, match='with nothing to save; the same command continues'):
    train(point, tmp_path)
  assert Checkpoints(tmp_path / 'checkpoints').latest is None
  with open_folder(tmp_path, point).lock():  # no process holds the lock
    pass


@pytest.mark.slow  # compiles a Transformer, and how it is evaluated
def test_sigterm_during_an_evaluation_takes_effect_after_it(
  tiny, tmp_path, monkeypatch
):
  measure = session.measure

  def terminate(name, evaluator, variables):
    measured = measure(name, evaluator, variables)
    os.kill(os.getpid(), signal.SIGTERM)
    return measured

  monkeypatch.setattr(session, 'measure', terminate)
  with pytest.raises(Stopped, match='stopped at step 5 of 12, as SIGTERM asked'):
    train(tiny, tmp_path)
  assert Checkpoints(tmp_path / 'checkpoints').steps() == [4, 5]
  assert 'valid/bleu' in _rows(tmp_path)[3]


def test_nan_is_never_the_best():
  history = History()
  for value in (math.nan, 1.0, math.nan, 2.0, math.nan):
    history.add(value, 1.0)
  assert (history.best, history.bad) == (2.0, 1)
  history = History(best=math.nan, bad=3)
  history.add(1.0, -1.0)
  assert (history.best, history.bad) == (1.0, 0)


def test_a_checkpoint_of_another_version_is_refused_by_name():
  assert History.from_checkpoint({'best': 1.0, 'bad': 2}) == History(best=1.0, bad=2)
  with pytest.raises(ValueError, match='does not know all of that'):
    History.from_checkpoint({'best': 1.0, 'mood': 'bad'})


@pytest.mark.parametrize('name', ['a[b]', 'c\\d'])
def test_a_folder_of_any_name_can_be_used_and_resumed(
  point, point_run, read_run, tmp_path, name
):
  train(point | {'steps': 8}, tmp_path / name)
  train(point, tmp_path / name, force=True)
  assert read_run(tmp_path / name) == read_run(point_run)
  assert {p.name for p in tmp_path.iterdir()} == {name}


def test_a_run_by_pmap_resumes_with_its_bits(point, point_run, read_run, tmp_path):
  """Its state is restored as one, and copied to every device."""
  config = point | {'parallel': 'pmap', 'mesh': {'data': 2, 'devices': 2}}
  train(config, tmp_path / 'whole')
  shutil.copytree(tmp_path / 'whole', tmp_path / 'cut')
  shutil.rmtree(tmp_path / 'cut' / 'checkpoints' / '12')
  train(config, tmp_path / 'cut')
  assert read_run(tmp_path / 'cut') == read_run(tmp_path / 'whole')
  losses = [
    [row['loss'] for row in read_run(f)[0]] for f in (tmp_path / 'cut', point_run)
  ]
  np.testing.assert_allclose(*losses, rtol=1e-5)


# Orbax may be saving on its threads when the folder is deleted; only the
# interpreter's hook sees the exceptions that they raise.
ORPHANED = pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')


def _remove(folder):
  """Removes a folder in which Orbax may be creating files at the same time."""
  while folder.exists():
    shutil.rmtree(folder, ignore_errors=True)


@ORPHANED
@pytest.mark.parametrize('change', ['removed', 'replaced', 'renamed'])
def test_a_deleted_folder_ends_the_training(point, tmp_path, change, monkeypatch):
  folder = tmp_path / 'run'
  write = Writer.write

  def spoil(self, step, row):
    if step == 6:
      folder.rename(tmp_path / 'other')
      if change == 'replaced':
        folder.mkdir()
      if change == 'removed':
        _remove(tmp_path / 'other')
    write(self, step, row)

  monkeypatch.setattr(Writer, 'write', spoil)
  with pytest.raises(FileNotFoundError, match=r'was removed, renamed or replaced'):
    train(point, folder)
  assert not folder.exists() or not list(folder.iterdir())


@ORPHANED
def test_a_deleted_folder_is_noticed_before_the_next_checkpoint(
  point, tmp_path, monkeypatch
):
  monkeypatch.setattr(writer_module, '_CHECK_SECONDS', 0.0)
  write, steps = Writer.write, []

  def spoil(self, step, row):
    if step == 6:
      _remove(tmp_path / 'run')
    steps.append(step)
    write(self, step, row)

  monkeypatch.setattr(Writer, 'write', spoil)
  with pytest.raises(FileNotFoundError, match=r'was removed, renamed or replaced'):
    train(point | {'save_every': 100}, tmp_path / 'run')
  assert steps[-1] <= 7


def test_rows_after_a_damaged_one_are_kept_when_the_run_resumes(
  point, point_run, read_run, tmp_path, capsys
):
  train(point | {'steps': 8}, tmp_path / 'run')
  metrics = tmp_path / 'run' / 'metrics.jsonl'
  lines = metrics.read_bytes().splitlines(keepends=True)
  metrics.write_bytes(b''.join([*lines[:2], b'\0' * 4096 + b'\n', *lines[3:]]))
  train(point, tmp_path / 'run', force=True)
  rows, x, _ = read_run(tmp_path / 'run')
  whole, y, _ = read_run(point_run)
  assert rows == [*whole[:2], *whole[3:]]
  assert x == y
  assert 'line 3 is damaged: 4,096 bytes of it are zero' in capsys.readouterr().out


def test_a_run_resumes_after_a_power_cut(point, point_run, read_run, tmp_path, power):
  """All files of a run are on the disk before a checkpoint needs them."""
  copies, save = [], Checkpoints.save

  def cut(self, *args, **options):
    save(self, *args, **options)
    self.wait()
    copies.append(power(tmp_path / 'run', tmp_path / f'copy-{len(copies)}'))

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Checkpoints, 'save', cut)
    train(point, tmp_path / 'run')
  assert len(copies) == 3
  for copy in copies[:2]:
    for name in ('config.json', 'vocabulary/digests.json', 'vocabulary/points'):
      assert (copy / name).read_bytes() == (tmp_path / 'run' / name).read_bytes()
    train(point, copy)
    assert read_run(copy) == read_run(point_run)
    assert not list(copy.glob('checkpoints/broken-*'))


@pytest.mark.slow  # two runs of two processes
def test_several_processes_train_in_a_folder_of_any_name(tiny, tmp_path):
  config = tiny | {
    'mesh': {'data': -1},
    'evals': {},
    'keep_best': None,
    'save_every': 3,
  }
  for steps in (6, 9):
    file = tmp_path / 'experiment.py'
    file.write_text(
      'import ml_collections\n\n\ndef get_config(arg=None):\n'
      f'  return ml_collections.ConfigDict({config | {"steps": steps}!r})\n',
      'utf-8',
    )
    command = [sys.executable, '-m', 'launch.local', '--processes', '2', str(file)]
    done = subprocess.run(
      [*command, '--workdir', str(tmp_path / 'a[1]'), '--force'],
      capture_output=True,
      text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
  assert 'resuming from the checkpoint of step 6' in done.stdout
  rows = _rows(tmp_path / 'a[1]')
  assert [row['compiles'] for row in rows] == [0] * 9
  assert load_run(tmp_path / 'a[1]')[3] == [9]


def test_messages_of_opening_the_checkpoints_are_logged(point, tmp_path, monkeypatch):
  class Talkative(Checkpoints):
    def __init__(self, *args, say, **options):
      say('opening the checkpoints')
      super().__init__(*args, say=say, **options)

  monkeypatch.setattr(session, 'Checkpoints', Talkative)
  train(point | {'steps': 1}, tmp_path)
  assert 'opening the checkpoints' in (tmp_path / 'train.log').read_text('utf-8')

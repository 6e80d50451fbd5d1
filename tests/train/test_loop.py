"""Whole runs, small ones: what is written, when they stop, how they go on."""

import gc
import io
import json
import os
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest

from seqlab.cli import main
from seqlab.evaluate import load
from seqlab.train import retry
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.folder import open_folder
from seqlab.train.loop import History, Run, train
from seqlab.train.processes import Stopped
from seqlab.train.program import Program
from seqlab.train.writer import Progress, Writer, read_metrics


def _rows(folder):
  """Rows of metrics.jsonl without how long things took."""
  return [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for row in read_metrics(folder / 'metrics.jsonl')
  ]


def _params(folder):
  """Of the newest checkpoint."""
  _, _, variables, _ = load(folder)
  return jax.tree.leaves(variables)


def test_a_run_leaves_what_is_needed_elsewhere(finished):
  names = {path.name for path in finished.iterdir()}
  assert names >= {'config.json', 'metrics.jsonl', 'events', 'checkpoints'}
  assert names >= {'vocabulary', 'samples', 'train.log'}


def test_a_row_a_step_with_what_a_run_is_judged_by(finished):
  rows = read_metrics(finished / 'metrics.jsonl')
  assert [row['step'] for row in rows] == list(range(1, 13))
  wanted = {'loss', 'nll', 'accuracy', 'grad_norm', 'learning_rate', 'padding_waste'}
  wanted |= {'epoch', 'compiles', 'speed/tokens_per_s', 'speed/flops_utilisation'}
  assert all(wanted <= set(row) for row in rows)
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


def test_the_log_says_how_scores_are_to_be_read(finished):
  log = (finished / 'train.log').read_text('utf-8')
  (line,) = (line for line in log.splitlines() if 'nrefs:' in line)
  assert 'valid: nrefs:1|case:mixed|eff:no|tok:13a|' in line
  assert log.index(line) < log.index('step 4:')


def test_events_can_be_read_by_tensorboard(finished):
  (events,) = (finished / 'events').iterdir()
  assert events.name.startswith('events.out.tfevents')
  assert b'valid/bleu' in events.read_bytes()


def test_a_finished_run_is_left_alone(finished, tiny, tmp_path):
  folder = shutil.copytree(finished, tmp_path / 'run')
  before = (folder / 'metrics.jsonl').read_bytes()
  train(tiny, folder)
  assert (folder / 'metrics.jsonl').read_bytes() == before


def test_resumed_equals_uninterrupted(finished, tiny, tmp_path):
  """The checkpoint of step 8 is the newest; rows after it are written anew."""
  folder = shutil.copytree(finished, tmp_path / 'run')
  shutil.rmtree(folder / 'checkpoints' / '12')
  train(tiny, folder)
  assert _rows(folder) == _rows(finished)
  for a, b in zip(_params(folder), _params(finished), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_checkpoint_cut_short_falls_back_to_the_one_before(
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


def test_a_different_experiment_may_go_on_if_told(finished, tiny, tmp_path):
  folder = shutil.copytree(finished, tmp_path / 'run')
  train(tiny | {'steps': 14}, folder, force=True)
  assert _rows(folder)[-1]['step'] == 14
  assert json.loads((folder / 'config.json').read_text('utf-8'))['steps'] == 14


def test_a_loss_that_is_no_number_stops_the_run(tiny, tmp_path):
  hyper = tiny['hyper'] | {'peak': 1e15}
  message = r'the loss is .* at step 2 \(batch 1 of seed 0\).*last good .* step 1,'
  with pytest.raises(FloatingPointError, match=message):
    train(tiny | {'hyper': hyper, 'save_every': 1}, tmp_path)
  good = Checkpoints(tmp_path / 'checkpoints').latest
  for leaf in _params(tmp_path):
    assert np.isfinite(leaf).all()
  assert read_metrics(tmp_path / 'metrics.jsonl')[-1]['step'] == good + 1


def test_patience_ends_a_run_and_is_kept(tiny, tmp_path):
  hyper = tiny['hyper'] | {'peak': 0.0}  # so that nothing gets better
  config = tiny | {'hyper': hyper, 'patience': 1}
  train(config, tmp_path)
  assert _rows(tmp_path)[-1]['step'] == 8
  train(config, tmp_path)
  assert _rows(tmp_path)[-1]['step'] == 8


def test_time_ends_a_run_and_is_kept(tiny, tmp_path):
  config = tiny | {'minutes': 1e-6, 'steps': 1_000}
  train(config, tmp_path)
  (last,) = (row for row in _rows(tmp_path) if 'valid/bleu' in row)
  assert last == _rows(tmp_path)[-1]
  assert last['step'] == 2  # how long a step took is known after the next one began
  train(config, tmp_path)
  assert _rows(tmp_path)[-1] == last


@pytest.fixture
def sigterm_at_step_5(monkeypatch):
  write = Writer.write

  def heard(self, step, row):
    write(self, step, row)
    if step == 5:
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Writer, 'write', heard)


def test_sigterm_writes_a_checkpoint_and_the_run_goes_on(
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


def test_the_command_says_that_it_should_be_started_once_more(
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
def test_what_is_wrong_with_an_experiment_is_said(tiny, tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    train(tiny | changes, tmp_path)


def test_a_missing_key_is_named(tiny, tmp_path):
  config = {k: v for k, v in tiny.items() if k != 'schedule'}
  with pytest.raises(ValueError, match='sets no schedule'):
    train(config, tmp_path)


def test_two_processes_do_not_train_in_one_folder(tiny, tmp_path):
  with (
    open_folder(tmp_path, tiny).lock(),
    pytest.raises(RuntimeError, match='another process trains in'),
  ):
    train(tiny, tmp_path)


# What orbax had begun to write fails once more when it is thrown away.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_full_disk_ends_the_run_with_a_remedy(tiny, small_disk):
  room = os.statvfs(small_disk)
  free = room.f_bavail * room.f_frsize
  (small_disk / 'filler').write_bytes(b'x' * (free - 80_000))
  with pytest.raises(OSError, match=r'no space left for .*Free some'):
    train(tiny | {'save_every': 2, 'retries': 0}, small_disk / 'run')
  gc.collect()  # here, and not in whatever test comes next


def _wait_for(there, seconds=60):
  until = time.monotonic() + seconds
  while not there():
    assert time.monotonic() < until
    time.sleep(0.01)


@pytest.fixture
def soon(monkeypatch):
  """What failed is tried again soon."""
  monkeypatch.setattr(retry, 'PAUSE', 0.1)


@pytest.fixture
def full_at_step_5(small_disk, fill, monkeypatch):
  """A disk without room from step 5 on; the checkpoint of step 4 is there."""
  write, saved = Writer.write, small_disk / 'run' / 'checkpoints' / '4'

  def written(self, step, row):
    write(self, step, row)
    if step == 5:
      _wait_for(saved.is_dir)
      fill(small_disk)

  monkeypatch.setattr(Writer, 'write', written)
  return small_disk


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_disk_that_is_full_for_a_while_does_not_end_a_run(
  point, drawn, left, full_at_step_5, monkeypatch, soon
):
  def free():
    _wait_for(lambda: 'no space left' in said.getvalue())
    (full_at_step_5 / 'filler').unlink()

  said, folder = io.StringIO(), full_at_step_5 / 'run'
  monkeypatch.setattr(Progress, 'message', lambda self, text: said.write(f'{text}\n'))
  frees = threading.Thread(target=free)
  frees.start()
  train(point, folder)
  frees.join()
  assert 'trying again in 0.1 s (6 more)' in said.getvalue()
  assert left(folder) == left(drawn)
  gc.collect()


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_disk_that_stays_full_leaves_the_last_good_checkpoint(
  point, full_at_step_5, soon
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


def test_sigterm_while_it_compiles_ends_it_with_nothing_to_save(
  point, tmp_path, monkeypatch
):
  told = lambda *_: os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
  monkeypatch.setattr(Program, 'compile', told)
  with pytest.raises(Stopped, match='with nothing to save; the same command goes on'):
    train(point, tmp_path)
  assert Checkpoints(tmp_path / 'checkpoints').latest is None
  with open_folder(tmp_path, point).lock():  # nobody holds it any more
    pass


@pytest.mark.slow  # compiles a Transformer, and how it is evaluated
def test_sigterm_while_it_evaluates_is_heard_after_it(tiny, tmp_path, monkeypatch):
  keep = Run._keep_samples

  def told(self, step, name):
    keep(self, step, name)
    os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Run, '_keep_samples', told)
  with pytest.raises(Stopped, match='stopped at step 5 of 12, as SIGTERM asked'):
    train(tiny, tmp_path)
  assert Checkpoints(tmp_path / 'checkpoints').steps() == [4, 5]
  assert 'valid/bleu' in _rows(tmp_path)[3]

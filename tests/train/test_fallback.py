"""Diverged training returns to a good checkpoint with a lower learning rate."""

import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from seqlab.train.fallback import DivergenceError, Fallback
from seqlab.train.loop import train
from seqlab.train.processes import Stopped
from seqlab.train.writer import Writer, read_metrics

GOOD = {'loss': 2.0, 'grad_norm': 1.0, 'update_norm': 0.1}


@pytest.mark.parametrize(
  ('row', 'state'),
  [
    (GOOD, None),
    ({'loss': 2.0}, None),  # of a task with its own update
    (GOOD | {'loss': math.nan}, 6),
    (GOOD | {'grad_norm': math.inf}, 6),
    (GOOD | {'loss': 30.5}, 6),
    (GOOD | {'update_norm': math.nan}, 7),  # after a loss that was good
  ],
)
def test_a_row_names_the_first_wrong_state(row, state):
  fallback = Fallback(loss_above=30.0)
  if state is None:
    fallback.check(7, 0, row)
    return
  with pytest.raises(
    DivergenceError, match=r'at step 7 \(batch 6 of seed 0\)'
  ) as raised:
    fallback.check(7, 0, row)
  assert raised.value.state == state


@pytest.mark.parametrize(
  ('row', 'message'),
  [
    (GOOD | {'loss': math.nan}, 'the loss is nan at'),
    (GOOD | {'grad_norm': math.inf}, 'the gradient norm is inf at'),
    (
      GOOD | {'update_norm': math.inf},
      'the norm of the update of the parameters is inf at',
    ),
    (GOOD | {'loss': 30.5}, 'the loss is 30.5, above fallback.loss_above=30 at'),
    (
      {'loss': math.nan, 'grad_norm': math.nan, 'update_norm': math.nan},
      'the loss is nan and the gradient norm is nan and the norm of the update of the '
      'parameters is nan at',
    ),
  ],
)
def test_only_wrong_values_are_named(row, message):
  with pytest.raises(DivergenceError, match='^' + re.escape(message)):
    Fallback(loss_above=30.0).check(7, 0, row)


@pytest.mark.parametrize(
  ('section', 'message'),
  [
    ({'factor': 2.0}, r'fallback\.factor is 2\.0'),
    ({'times': -1}, r'fallback\.times is -1'),
    ({'factro': 0.5}, r"unknown key fallback\.factro; did you mean 'factor'"),
  ],
)
def test_wrong_options_of_the_section_are_refused(point, tmp_path, section, message):
  with pytest.raises(ValueError, match=message):
    train(point | {'fallback': section}, tmp_path)


# The loss grows by a factor of nine per step; that of step 6 exceeds the bound.
RISING = {
  'hyper': {'peak': 2.0},
  'save_every': 3,
  'keep_latest': 3,
  'fallback': {'factor': 0.05, 'times': 1, 'loss_above': 1e5},
}


@pytest.fixture(scope='module')
def fallback_run(point, tmp_path_factory):
  """The folder of a run that fell back to its checkpoint of step 3."""
  folder = tmp_path_factory.mktemp('fallen')
  train(point | RISING, folder)
  return folder


def test_training_resumes_from_the_last_good_checkpoint(fallback_run, read_run):
  rows, _, times = read_run(fallback_run)
  assert [row['step'] for row in rows] == list(range(1, 13))
  assert {row['compiles'] for row in rows} == {0}
  rates = [row['learning_rate'] for row in rows]
  np.testing.assert_allclose(rates, [2.0] * 3 + [0.1] * 9, rtol=1e-6)
  assert rows[-1]['loss'] < rows[3]['loss'] / 10
  assert times == 1
  log = (fallback_run / 'train.log').read_text('utf-8')
  assert (
    'at step 6 (batch 5 of seed 0): back to step 3, with a peak of 0.1 (1 of' in log
  )


@pytest.mark.parametrize(('writer', 'row'), [(0, 3), (1, 4)])
def test_resumed_equals_uninterrupted(
  fallback_run, read_run, point, tmp_path, writer, row, monkeypatch
):
  """SIGTERM stops the run before the fallback, or after it, when the writer is new.

  A checkpoint of step 4 may exist when training returns to that of step 3.
  """
  write, writers = Writer.write, []

  def write_and_terminate(self, step, values):
    write(self, step, values)
    if self not in writers:
      writers.append(self)
    if (writers.index(self), step) == (writer, row):
      os.kill(os.getpid(), signal.SIGTERM)

  monkeypatch.setattr(Writer, 'write', write_and_terminate)
  with pytest.raises(Stopped, match=f'stopped at step {row + 1} of 12'):
    train(point | RISING, tmp_path)
  monkeypatch.undo()
  train(point | RISING, tmp_path)
  assert read_run(tmp_path) == read_run(fallback_run)


def test_training_ends_when_no_fallback_is_left(point, tmp_path):
  again = {'factor': 0.9, 'times': 2, 'loss_above': 1e5}
  message = r'at step 6 .*It fell back 2 times before\. .*of step 3.*Lower hyper\.peak'
  with pytest.raises(FloatingPointError, match=message):
    train(point | RISING | {'fallback': again}, tmp_path)
  assert read_metrics(tmp_path / 'metrics.jsonl')[-1]['step'] == 6


def test_a_checkpoint_of_a_diverged_state_is_skipped(
  point, point_run, read_run, tmp_path
):
  """The first update diverges; training starts again with a lower learning rate."""
  fallback = {'factor': 1e-13, 'times': 1, 'loss_above': 1e5}
  wild = {'hyper': {'peak': 1e12}, 'save_every': 1, 'fallback': fallback}
  train(point | wild, tmp_path)
  assert read_run(tmp_path)[:2] == read_run(point_run)[:2]
  assert (tmp_path / 'checkpoints' / 'broken-1').is_dir()


# The first update of Adam has the size of the learning rate for any gradient.
@pytest.mark.slow  # compiles a Transformer
def test_a_translation_falls_back_and_finishes(tiny, finished, tmp_path):
  hyper = tiny['hyper'] | {'peak': 1e15}
  fallback = {'factor': 1e-17, 'times': 1}
  train(tiny | {'hyper': hyper, 'save_every': 1, 'fallback': fallback}, tmp_path)
  values = [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for folder in (tmp_path, finished)
    for row in read_metrics(folder / 'metrics.jsonl')
  ]
  assert values[:12] == values[12:]


@pytest.mark.slow  # two processes
def test_several_processes_fall_back_together(tiny, tmp_path):
  """All fall back at the step at which one process does."""
  config = tiny | {
    'hyper': tiny['hyper'] | {'peak': 1.0},
    'mesh': {'data': -1},
    'evals': {},
    'keep_best': None,
    'save_every': 2,
    'fallback': {'factor': 0.1, 'times': 2, 'loss_above': 6.0},
  }
  file = tmp_path / 'experiment.py'
  file.write_text(
    'import ml_collections\n\n\ndef get_config(arg=None):\n'
    f'  return ml_collections.ConfigDict({config!r})\n',
    'utf-8',
  )
  command = [sys.executable, '-m', 'launch.local', '--processes', '2', str(file)]
  done = subprocess.run(
    [*command, '--workdir', str(tmp_path / 'two')],
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stdout + done.stderr
  train(config | {'mesh': {'data': 1, 'devices': 1}}, tmp_path / 'one')
  logs = [(tmp_path / n / 'train.log').read_text('utf-8') for n in ('one', 'two')]
  back = [re.findall(r'at step (\d+) .*: back to step (\d+)', log) for log in logs]
  assert back[0] == back[1] != []
  one, two = (read_metrics(tmp_path / n / 'metrics.jsonl') for n in ('one', 'two'))
  assert [row['compiles'] for row in two] == [0] * 12
  np.testing.assert_allclose(
    [row['loss'] for row in one], [row['loss'] for row in two], rtol=2e-3
  )

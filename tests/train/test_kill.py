"""Processes that are killed or stopped, and started again."""

import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from seqlab.train.checkpoints import Checkpoints
from seqlab.train.writer import read_metrics
from seqlab.use.runs import load_run

STEPS = 120


def _command(tiny, folder: Path) -> list[str]:
  """Returns the command of the run that is killed."""
  config = tiny | {'steps': STEPS, 'save_every': 10}
  config['evals'] = {'valid': tiny['evals']['valid'] | {'every': 30}}
  return _train(config, folder)


def _train(config, folder: Path) -> list[str]:
  file = folder.parent / 'experiment.py'
  file.write_text(
    'import ml_collections\n\n\ndef get_config(arg=None):\n'
    f'  return ml_collections.ConfigDict({config!r})\n',
    'utf-8',
  )
  return [
    *(sys.executable, '-m', 'seqlab.cli', 'train', str(file)),
    *('--workdir', str(folder)),
  ]


@pytest.mark.slow  # three runs in separate processes
def test_killed_and_resumed_equals_uninterrupted(tiny, tmp_path):
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  environment = os.environ | {'JAX_NUM_CPU_DEVICES': '1'}
  subprocess.run(
    _command(tiny, whole), env=environment, check=True, capture_output=True
  )

  after = random.Random(time.time_ns()).randrange(10, STEPS - 20)
  process = subprocess.Popen(
    _command(tiny, cut), env=environment, stdout=subprocess.DEVNULL
  )
  checkpoints = cut / 'checkpoints'
  while not any(
    path.name.isdigit() and int(path.name) >= after for path in checkpoints.glob('*')
  ):
    assert process.poll() is None, 'it ended before it could be killed'
    time.sleep(0.001)
  process.send_signal(signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  stopped = Checkpoints(checkpoints, read_only=True).latest
  assert stopped < STEPS
  subprocess.run(_command(tiny, cut), env=environment, check=True, capture_output=True)

  def rows(folder):
    return [
      {k: v for k, v in row.items() if not k.startswith('speed/')}
      for row in read_metrics(folder / 'metrics.jsonl')
    ]

  assert rows(cut) == rows(whole), f'killed after step {stopped}'
  assert rows(cut)[-1]['step'] == STEPS
  for a, b in zip(
    *(jax.tree.leaves(load_run(f)[2]) for f in (cut, whole)), strict=True
  ):
    np.testing.assert_array_equal(a, b, f'killed after step {stopped}')


# A slow evaluator and a slow corpus.
SLOW = """
import time

from seqlab.evaluators.perplexity import Evaluator as Perplexity
from seqlab.tasks.translation import Translation


class Evaluator(Perplexity):
  def run(self, variables):
    print('evaluating', flush=True)
    time.sleep(1)
    yield from super().run(variables)


class Task(Translation):
  def __init__(self, *args):
    print('reading', flush=True)
    time.sleep(1)
    super().__init__(*args)
"""


def _stop(config, folder: Path, after: str) -> tuple[int, str]:
  """Sends SIGTERM after the run printed `after`; returns its status and errors."""
  package = folder.parent / 'evaluators'
  package.mkdir(exist_ok=True)
  (package / 'slow.py').write_text(SLOW, 'utf-8')
  path = os.pathsep.join([str(folder.parent), os.environ.get('PYTHONPATH', '')])
  process = subprocess.Popen(
    _train(config, folder),
    env=os.environ | {'PYTHONPATH': path, 'PYTHONUNBUFFERED': '1'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  while after not in (line := process.stdout.readline()):
    assert line, f'it ended before it said {after}: {process.stderr.read()}'
  process.send_signal(signal.SIGTERM)
  return process.returncode or process.wait(), process.communicate()[1]


@pytest.mark.slow  # a separate process
@pytest.mark.parametrize('after', ['reading', 'data: ', 'compiling shape 1'])
def test_sigterm_before_the_first_step_ends_the_run_without_a_checkpoint(
  tiny, tmp_path, after
):
  config = tiny | {'task': 'evaluators.slow:Task', 'steps': 10**6}
  status, errors = _stop(config, tmp_path / 'run', after)
  assert status == 75
  assert errors.endswith(
    'stopped, as SIGTERM asked, with nothing to save; the same command continues\n'
  )
  assert not Checkpoints(tmp_path / 'run' / 'checkpoints').steps()


@pytest.mark.slow  # a separate process
def test_sigterm_during_an_evaluation_waits_for_it_and_saves(tiny, tmp_path):
  slow = {'kind': 'evaluators.slow:Evaluator', 'split': 'valid', 'every': 5}
  config = tiny | {'evals': {'valid': slow}, 'keep_best': None, 'steps': 10**6}
  status, errors = _stop(config, tmp_path / 'run', 'evaluating')
  assert status == 75
  assert 'stopped at step 6 of 1,000,000, as SIGTERM asked' in errors
  assert Checkpoints(tmp_path / 'run' / 'checkpoints', read_only=True).latest == 6
  rows = read_metrics(tmp_path / 'run' / 'metrics.jsonl')
  assert [row['step'] for row in rows if 'valid/nll' in row] == [5]

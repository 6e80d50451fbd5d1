"""Killed at a random step and started again, a run ends with the same bits."""

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

from seqlab.evaluate import load
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.writer import read_metrics

STEPS = 120


def _command(tiny, folder: Path) -> list[str]:
  config = tiny | {'steps': STEPS, 'save_every': 10}
  config['evals'] = {'valid': tiny['evals']['valid'] | {'every': 30}}
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


@pytest.mark.slow  # three runs of their own processes
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
  for a, b in zip(*(jax.tree.leaves(load(f)[2]) for f in (cut, whole)), strict=True):
    np.testing.assert_array_equal(a, b, f'killed after step {stopped}')

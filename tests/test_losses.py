"""The first losses of every experiment's `:smoke`, as recorded at commit 4f4a78a.

A change of structure keeps them. A change that is meant to alter them records them
again and states this. They were made on a CPU with AVX-512 and eight pretended devices.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from seqlab.experiment import load_experiment
from seqlab.metrics_file import read_metrics
from seqlab.train.loop import train

ROOT = Path(__file__).parents[1]
LOSSES = json.loads((ROOT / 'tests' / 'losses.json').read_text('utf-8'))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('name', LOSSES)
def test_the_first_losses_are_those_recorded(name, tmp_path):
  try:
    train(load_experiment(f'{ROOT}/experiments/{name}:smoke'), tmp_path)
  except (FileNotFoundError, OSError) as error:
    if 'SEQLAB_DATA' not in str(error) and 'download' not in str(error):
      raise
    pytest.skip(f'needs real data: {error}')
  rows = read_metrics(tmp_path / 'metrics.jsonl')
  # An estimator has no loss; singular vectors have a residual per iteration.
  losses = [row[k] for row in rows for k in ('loss', 'residual') if k in row][:20]
  # Other processors round differently, and the differences grow from step to step.
  np.testing.assert_allclose(losses, LOSSES[name], rtol=2e-3)

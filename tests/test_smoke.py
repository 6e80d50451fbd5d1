"""Every experiment runs for the few steps of its `:smoke`."""

import os
from pathlib import Path

import pytest

from launch.study import is_study
from seqlab.experiment import load_experiment
from seqlab.train.loop import train
from seqlab.train.writer import read_metrics

FOLDER = Path(__file__).parent.parent / 'experiments'
# They compile longest; others by default train the same models and tasks.
SLOW = ('multi30k/architectures.py', 'multi30k/recurrent.py', 'lecture/heads.py')
SLOW = (*SLOW, 'lecture/teacher_forcing.py', 'wmt14/transformer_big.py')
SLOW = (*SLOW, 'g2p/cmudict.py', 'multi30k/wu2021.py', 'multi30k/vectors.py')
SLOW = (*SLOW, 'scan/csordas2021.py', 'cogs/csordas2021.py', 'lecture/architectures.py')
SLOW = (*SLOW, 'algorithmic/deletang2023.py')
SLOW = (*SLOW, 'cogs/kim2020.py', 'g2p/sigmorphon2021.py')
SLOW = (*SLOW, 'enwiki/fasttext.py')
# `test_reports` trains these as well.
SLOW = (*SLOW, 'lecture/forgetting.py', 'lecture/positions.py', 'lecture/scores.py')
SLOW = (*SLOW, 'lecture/covariate_shift.py', 'lecture/norm_placement.py')
SLOW = (*SLOW, 'lecture/sentences.py', 'lecture/boundaries.py')
SLOW = (*SLOW, 'lecture/padding.py', 'lecture/softmax.py')
SLOW = (*SLOW, 'lecture/projections.py', 'lecture/self_attention.py')
EXPERIMENTS = [
  pytest.param(FOLDER / name, id=name, marks=[pytest.mark.slow] * (name in SLOW))
  for name in sorted(str(path.relative_to(FOLDER)) for path in FOLDER.rglob('*.py'))
  if not is_study(f'{FOLDER / name}')
]


@pytest.mark.parametrize('path', EXPERIMENTS)
def test_smoke(path, tmp_path):
  config = load_experiment(f'{path}:smoke')
  corpus = config['corpus']
  generated = {corpus.get('name'), corpus.get('kind')} & {'agreement', 'algorithmic'}
  if not generated and not os.environ.get('SEQLAB_DATA'):
    pytest.skip('needs real data: set SEQLAB_DATA')
  train(config, tmp_path)
  if 'steps' not in config:  # an estimator
    assert list((tmp_path / 'fitted').iterdir())
    return
  rows = read_metrics(tmp_path / 'metrics.jsonl')
  assert rows[-1]['step'] == config['steps']
  assert rows[-1]['loss'] < rows[0]['loss'] or config['steps'] == 1
  assert rows[-1]['compiles'] == 0
  assert (tmp_path / 'checkpoints' / str(config['steps'])).is_dir()

"""Folders of runs that are written without training."""

import json

import pytest


@pytest.fixture
def make_run(tmp_path):
  """make_run(name, values, **config): writes a run with BLEU at steps 10, 20, ..."""

  def make(name, values, *, status=None, metric='valid/bleu', **config):
    folder = tmp_path / name
    folder.mkdir(parents=True)
    config = {'seed': 0, 'keep_best': metric, 'best_is': 'max'} | config
    (folder / 'config.json').write_text(json.dumps(config), 'utf-8')
    rows = [
      {'step': 10 * i, metric: v, 'speed/seconds': 0.5, 'speed/valid_seconds': 2.0}
      for i, v in enumerate(values, 1)
    ]
    text = ''.join(f'{json.dumps(row)}\n' for row in rows)
    (folder / 'metrics.jsonl').write_text(text, 'utf-8')
    if status:
      state = {'status': status, 'overrides': {'seed': config['seed']}}
      (folder / 'trial.json').write_text(json.dumps(state), 'utf-8')
    return folder

  return make

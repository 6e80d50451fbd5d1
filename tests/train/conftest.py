"""The smallest experiment that is whole: words to learn in reverse order."""

import numpy as np
import pytest


def _write(path, lines):
  path.write_text(''.join(f'{line}\n' for line in lines), 'utf-8')


@pytest.fixture(scope='session')
def corpus_files(tmp_path_factory):
  """Three splits of two text files each; the target is the source reversed."""
  folder = tmp_path_factory.mktemp('corpus')
  random = np.random.default_rng(0)
  files = {}
  for split, pairs in (('train', 160), ('valid', 21), ('test', 13)):
    lines = [
      [f'w{i}' for i in random.integers(0, 12, random.integers(1, 9))]
      for _ in range(pairs)
    ]
    _write(folder / f'{split}.en', [' '.join(words) for words in lines])
    _write(folder / f'{split}.de', [' '.join(words[::-1]) for words in lines])
    files[split] = [str(folder / f'{split}.en'), str(folder / f'{split}.de')]
  return files


@pytest.fixture
def tiny(corpus_files):
  """An experiment of a second; on one device, unless a test changes the mesh."""
  return {
    'task': 'tasks.translation:Translation',
    'seed': 0,
    'steps': 12,
    'corpus': {'source': 'en', 'target': 'de', 'files': corpus_files},
    'vocabulary': {'kind': 'word', 'size': 100, 'shared': True},
    'batching': {'kind': 'buckets', 'tokens': 160, 'shapes': 2},
    'model_name': 'models.transformer:Transformer',
    'model': {'width': 16, 'mlp_width': 32, 'heads': 2, 'layers': 1},
    'hyper': {'peak': 1e-2, 'dropout': 0.1, 'label_smoothing': 0.1},
    'schedule': {'kind': 'constant', 'warmup': 4},
    'optimizer': {'kind': 'adam'},
    'mesh': {'data': 1, 'devices': 1},
    'evals': {
      'valid': {'type': 'translation', 'split': 'valid', 'every': 4, 'beam': 1}
    },
    'keep_best': 'valid/piece_bleu',
  }

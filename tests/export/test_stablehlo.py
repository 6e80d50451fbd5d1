"""A search for a process that has only JAX: the outputs are those of seqlab."""

import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from seqlab.decoding.config import make_decoding
from seqlab.export.runs import export_run
from seqlab.export.search import Search
from seqlab.use.ensembles import join_models, make_translator
from seqlab.use.runs import load_run

pytest.importorskip('flatbuffers', reason="needs pip install '.[export]'")

# Prints the hypotheses of ids on standard input, without any library but JAX.
ALONE = """
import json, sys

class OnlyJax:
  blocked = 'seqlab', 'flax', 'optax', 'orbax', 'etils', 'grain', 'ml_collections'

  def find_spec(self, name, path=None, target=None):
    if name.partition('.')[0] in self.blocked:
      raise ModuleNotFoundError(name)

sys.meta_path.insert(0, OnlyJax())
sys.path.insert(0, sys.argv[1])
from search import Search
search = Search()
best = search(json.load(sys.stdin))
json.dump([best, [search.text(x[0][0]) for x in best]], sys.stdout)
"""
LINES = ['w1 w2 w3 w4', '', 'w5', 'w7 w7 w2 unseen', 'w9 w1 w0']


def _ids(vocabulary, lines):
  flat, offsets = vocabulary.encode(lines)
  return [flat[a:b].tolist() for a, b in itertools.pairwise(offsets)]


def _expected(run, lines, options, ensemble=()):
  """Returns texts, and for each line its hypotheses: ids without EOS, and scores."""
  which = dict(average=1, choose='last', trust=False)
  _, task, variables, _ = load_run(run, **which)
  model, variables = join_models(task, variables, ensemble, **which)
  translator = make_translator(task, model, variables, make_decoding(options))
  outputs = [
    [([], 0.0)]
    if out is None
    else [
      ([i for i in ids if i > 3 or i == 1], score)
      for ids, score in zip(*(x.tolist() for x in out), strict=True)
      if np.isfinite(score)
    ]
    for out in translator._outputs(lines)
  ]
  return translator.translate(lines), outputs


def _assert_equal(found, expected):
  assert [[ids for ids, _ in x] for x in found] == [[i for i, _ in x] for x in expected]
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose([s for _, s in a], [s for _, s in b], atol=1e-4)


def test_an_exported_search_needs_nothing_but_jax(finished, tmp_path):
  options = {'beam': 2, 'alpha': 1.0, 'length': (1.0, 2.0)}
  sizes = dict(batch_sizes=[4], lengths=[6])
  folder = export_run(
    finished, tmp_path / 'new', to='stablehlo', options=options, **sizes
  )
  vocabularies = load_run(finished).task.vocabularies
  process = subprocess.run(
    [sys.executable, '-c', ALONE, str(folder)],
    input=json.dumps(_ids(vocabularies.source, LINES)),
    env={k: x for k, x in os.environ.items() if k != 'PYTHONPATH'},
    capture_output=True,
    text=True,
  )
  assert process.returncode == 0, process.stderr
  outputs, texts = json.loads(process.stdout)
  expected_texts, expected = _expected(finished, LINES, options)
  _assert_equal(outputs, expected)
  assert texts == expected_texts
  about = json.loads((folder / 'search.json').read_text())
  assert about['platforms'] == ['cpu', 'cuda', 'tpu']
  assert about['decoding']['alpha'] == 1.0
  assert about['programs'] == [
    {'file': 'search-4x6.stablehlo', 'batch': 4, 'source': 6, 'output': 8}
  ]
  assert {'README.md', 'tokens.json', 'vocabulary'} <= {
    x.name for x in folder.iterdir()
  }
  with pytest.raises(ValueError, match=r'sentence 1 has 6 ids, .* reads 5: divide it'):
    Search(folder)([[5], [5] * 6])
  for unknown in (-1, len(vocabularies.source.pieces())):
    with pytest.raises(ValueError, match=f'sentence 1 has the id {unknown}: ids are'):
      Search(folder)([[5], [6, unknown]])


@pytest.mark.slow
@pytest.mark.parametrize(
  'decoding', [{'decoding': 'greedy'}, {'beam': 3, 'coverage': 1}]
)
def test_recurrent_models_ensembles_and_reversed_sources(tiny, tmp_path, decoding):
  from seqlab.train.loop import train

  model = {'kind': 'recurrent', 'width': 16, 'attention': 'additive'}
  batching = {**tiny['batching'], 'reverse_source': True}
  for seed in (0, 1):
    config = {**tiny, 'model': model, 'batching': batching, 'seed': seed, 'evals': {}}
    config.pop('keep_best')
    train(config, tmp_path / f'{seed}')
  export_run(
    tmp_path / '0',
    tmp_path / 'new',
    to='stablehlo',
    options=decoding,
    ensemble=[tmp_path / '1'],
    batch_sizes=[1, 3],
    lengths=[4, 8],
  )
  vocabularies = load_run(tmp_path / '0').task.vocabularies
  search = Search(tmp_path / 'new')
  outputs = search(_ids(vocabularies.source, LINES))
  expected = _expected(tmp_path / '0', LINES, decoding, [tmp_path / '1'])[1]
  _assert_equal(outputs, expected)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (dict(to='stablehlo', options={'temperature': 1.0}), '--temperature draws outputs'),
    (dict(to='stablehlo', options={'mbr': 4}), '--mbr draws outputs'),
    (dict(to='stablehlo', options={'beam': 0}), 'beam is 0; it must be'),
    (dict(to='stablehlo', quantization='int8'), '--quantization is for --to ctrans'),
    (dict(to='stablehlo', lengths=[0]), 'lengths'),
    (dict(to='ctranslate2', options={'beam': 5}), '--beam is for --to stablehlo'),
    (dict(to='ctranslate2', options={'length': (1, 5)}), '--max-length is for --to st'),
    (dict(to='ctranslate2', ensemble=['other']), '--ensemble is for --to stablehlo'),
    (dict(to='ctranslate2', batch_sizes=[1]), '--batch-sizes is for --to stablehlo'),
    (dict(to='onnx'), 'to is'),
  ],
)
def test_options_that_a_format_does_not_have_are_named(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    export_run(tmp_path / 'run', tmp_path / 'new', **options)
  assert not (tmp_path / 'new').exists()


def test_a_folder_with_files_is_not_overwritten(finished, tmp_path):
  (tmp_path / 'mine.txt').write_text('mine')
  with pytest.raises(FileExistsError, match='exists: name a new folder'):
    export_run(finished, tmp_path, to='stablehlo')


def test_a_missing_package_is_named(monkeypatch, tmp_path):
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(RuntimeError, match='needs the package flatbuffers: pip install'):
    export_run(tmp_path / 'run', tmp_path / 'new', to='stablehlo')

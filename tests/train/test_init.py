"""Runs that begin with the parameters of another run, or with word vectors."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from seqlab.config import with_defaults
from seqlab.embeddings import formats
from seqlab.experiment import load_experiment
from seqlab.tasks.translation import Translation
from seqlab.text.vocabulary import train_vocabulary
from seqlab.train.definition import Definition
from seqlab.train.folder import open_folder
from seqlab.train.init import Init
from seqlab.train.loop import train
from seqlab.train.paths import Frozen, by_path, rewritten
from seqlab.train.population import train_population
from seqlab.train.warm_start import WarmStart, shared_rows, words_of_pieces
from seqlab.use.runs import load_run
from seqlab.word_vectors import open_vectors

WIDTH = 8
OTHERS = {
  'evals': {},
  'keep_best': None,
  'save_every': 1,
  'steps': 1,
  'batching': {'kind': 'packed', 'tokens': 160, 'max_length': 20},
}


@pytest.fixture(scope='module')
def small(tiny):
  """An experiment whose learning rate is 0, so that step 1 shows how it begins."""
  model = tiny['model'] | {'width': WIDTH, 'mlp_width': 8, 'tie': 'none'}
  still = tiny['hyper'] | {'peak': 0.0}
  return tiny | OTHERS | {'model': model, 'hyper': still}


@pytest.fixture(scope='module')
def source(small, tmp_path_factory):
  """A run with another seed and a smaller vocabulary than `small`."""
  folder = tmp_path_factory.mktemp('source')
  vocabulary = small['vocabulary'] | {'size': 12}
  train(small | {'seed': 7, 'vocabulary': vocabulary}, folder)
  return folder


@pytest.fixture(scope='module')
def vectors(small, source, tmp_path_factory):
  """A file of vectors of two words of the vocabulary and of one other word."""
  words = load_run(source).task.vocabularies.source.pieces()[4:6]
  matrix = np.arange(3 * WIDTH, dtype=np.float32).reshape(3, WIDTH) + 1
  path = tmp_path_factory.mktemp('vectors') / 'some.vec'
  formats.write(path, [*words, 'unrelated'], matrix)
  return path, words, matrix


def _params(folder):
  return jax.tree.map(np.asarray, by_path(load_run(folder).variables['params']))


def _begin(config, workdir):
  """Returns the parameters at step 0, the report and the task of a run."""
  folder = open_folder(workdir, with_defaults(config))
  task = Translation.from_config(folder.config, folder.vocabulary)
  definition = Definition(folder.config, task, 1)
  state, report = WarmStart(folder, task, definition).begin(config['seed'])
  return jax.tree.map(np.asarray, by_path(state.params)), report, task


def _rows(params, task, pieces, side='source'):
  known = getattr(task.vocabularies, side).pieces()
  return params[f'{side}_embedding/table'][[known.index(piece) for piece in pieces]]


def test_patterns_choose_by_the_first_names_of_a_path():
  assert (
    rewritten('encoder/query/kernel', 'encoder', 'decoder') == 'decoder/query/kernel'
  )
  assert rewritten('encoder/layer_1/x', r'encoder/layer_(\d)', r'x/\1') == 'x/1/x'
  assert rewritten('encoder/a', 'encoder/(.*)', r'encoder/\1') == 'encoder/a'
  assert rewritten('model/a', 'model', '') == 'a'
  assert rewritten('encoder_norm/scale', 'encoder', '') is None


def test_frozen_parameters_are_divided_from_the_others_and_merged():
  tree = {'a': {'x': 1, 'y': 2}, 'b': 3}
  trained, frozen = Frozen('a/x').split(tree)
  assert (trained, frozen) == ({'a': {'y': 2}, 'b': 3}, {'a': {'x': 1}})
  assert Frozen.merge(trained, frozen) == tree
  with pytest.raises(ValueError, match=r"begins with 'c'.*known: a, b"):
    Frozen(['a', 'c']).check(tree)
  with pytest.raises(ValueError, match='no parameter is left to train'):
    Frozen(['a', 'b']).check(tree)


def test_rows_of_shared_pieces_are_kept_and_others_are_fresh(small, source, tmp_path):
  warm, report, task = _begin(small | {'init': {'run': str(source)}}, tmp_path / 'warm')
  cold, none, _ = _begin(small, tmp_path / 'cold')
  old = _params(source)
  for path, x in warm.items():
    if not path.endswith('embedding/table'):
      np.testing.assert_array_equal(x, old[path], err_msg=path)
  before = load_run(source).task.vocabularies.source
  after = task.vocabularies.source
  rows = shared_rows(before, after)
  assert 4 < (rows >= 0).sum() < after.size
  for table in ('source_embedding/table', 'output_embedding/table'):
    expected = np.where((rows >= 0)[:, None], old[table][rows], cold[table])
    np.testing.assert_array_equal(warm[table], expected)
  assert none is None
  assert report.taken['source_embedding/table'] == 'source_embedding/table'
  assert report.rows['source_embedding/table'] == ((rows >= 0).sum(), after.size)
  assert report.fresh == report.frozen == []
  assert 'parameters) from' in report.messages[0]


def test_a_map_renames_on_a_mesh_of_devices(small, source, tmp_path):
  init = {'run': str(source), 'map': [['source_(.*)', r'target_\1']]}
  mesh = {'data': 2, 'fsdp': 2, 'tensor': 2}
  params, report, task = _begin(small | {'init': init, 'mesh': mesh}, tmp_path)
  shared = load_run(source).task.vocabularies.source.pieces()
  np.testing.assert_array_equal(
    _rows(params, task, shared, 'target'),
    _params(source)['source_embedding/table'],
  )
  assert report.taken == {'target_embedding/table': 'source_embedding/table'}
  assert 'source_embedding/table' in report.fresh


@pytest.mark.parametrize(
  ('optimizer', 'changes'),
  [
    ('adam', {'mesh': {'data': 2, 'fsdp': 2, 'tensor': 2}, 'accumulate': 2}),
    pytest.param(
      *('muon', {'mesh': {'data': 4, 'tensor': 2, 'shard_optimizer': True}}),
      marks=pytest.mark.slow,
    ),
    ('schedule_free', {'mesh': {'data': 2, 'devices': 2}, 'parallel': 'pmap'}),
  ],
)
def test_frozen_parameters_keep_their_bits(small, source, tmp_path, optimizer, changes):
  frozen = ['encoder', 'target_embedding']
  hyper = {'peak': 0.1, 'weight_decay': 0.5}
  config = small | changes | {'steps': 2, 'optimizer': optimizer, 'hyper': hyper}
  config |= {'ema': 0.7, 'init': {'run': str(source), 'freeze': frozen}}
  config['vocabulary'] = small['vocabulary'] | {'size': 12}
  train(config, tmp_path)
  old, now = _params(source), _params(tmp_path)  # of which `now` is the moving average
  for path, x in now.items():
    is_frozen = path.split('/')[0] in frozen
    assert np.array_equal(x, old[path]) == is_frozen, path
  text = (tmp_path / 'train.log').read_text()
  assert 'frozen ones' in text
  assert 'that are frozen' in text
  report = json.loads((tmp_path / 'init.json').read_text())
  assert 'target_embedding/table' in report['frozen']


def test_frozen_parameters_have_no_state_of_an_optimiser(small):
  task = Translation.from_shapes(small | {'vocabulary': {'kind': 'bpe', 'size': 100}})
  config = small | {'init': {'freeze': 'encoder'}}
  definition = Definition(config, task, 1)
  state = jax.tree_util.tree_leaves_with_path(definition.abstract.opt_state)
  paths = [jax.tree_util.keystr(path) for path, _ in state]
  assert any('decoder' in path for path in paths)
  assert not any('encoder' in path.split("'")[1:2] for path in paths)


def test_a_resumed_run_does_not_need_the_source(small, source, tmp_path):
  config = small | {'init': {'run': str(tmp_path / 'copy'), 'freeze': 'encoder'}}
  (tmp_path / 'copy').symlink_to(source)
  train(config, tmp_path / 'run')
  (tmp_path / 'copy').unlink()
  train(config | {'steps': 2}, tmp_path / 'run', force=True)
  assert load_run(tmp_path / 'run').steps == [2]


def test_members_of_a_population_begin_with_the_same_parameters(
  small, source, tmp_path
):
  config = small | {'init': {'run': str(source), 'map': {'encoder': 'encoder'}}}
  folders = [tmp_path / str(seed) for seed in range(2)]
  errors = train_population([config | {'seed': s} for s in range(2)], folders)
  assert errors == [None, None]
  old, first, second = map(_params, (source, *folders))
  for path in old:
    assert np.array_equal(first[path], second[path]) == (
      path.startswith('encoder/') or not first[path].std()
    ), path


def test_vectors_are_what_the_layer_returns(small, vectors, tmp_path):
  path, words, matrix = vectors
  init = {'vectors': {'path': str(path), 'into': 'source_embedding', 'freeze': True}}
  params, report, task = _begin(small | {'init': init}, tmp_path)
  returned = _rows(params, task, words) * WIDTH**0.5
  np.testing.assert_allclose(returned, matrix[:2], rtol=1e-6)
  norms = np.linalg.norm(params['source_embedding/table'] * WIDTH**0.5, axis=1)
  given = np.sqrt(np.mean(np.square(np.linalg.norm(matrix[:2], axis=1))))
  assert 0.5 < np.median(norms) / given < 1.5
  coverage = report.vectors['source_embedding/table']
  assert coverage['covered'] == 2
  assert 0 < coverage['tokens'] < 1
  assert report.frozen == ['source_embedding/table']
  assert 'vectors for 2 of' in report.messages[0]


def test_vectors_of_a_glove_file(small, vectors, tmp_path):
  _, words, matrix = vectors
  path = tmp_path / 'glove.txt'  # without a first line of sizes
  formats.write(path, [*words, 'unrelated'], matrix, 'glove')
  section = {'path': str(path), 'format': 'glove', 'into': 'source_embedding'}
  init = {'vectors': section}
  params, _, task = _begin(small | {'init': init}, tmp_path / 'run')
  returned = _rows(params, task, words) * WIDTH**0.5
  np.testing.assert_allclose(returned, matrix[:2], rtol=1e-6)


def test_vectors_of_an_own_run_of_singular_vectors(small, corpus_files, tmp_path):
  # Words of word vectors have no digits.
  letters = str.maketrans('0123456789', 'abcdefghij')
  text = Path(corpus_files['train'][0]).read_text('utf-8').translate(letters)
  (tmp_path / 'text.txt').write_text(text, 'utf-8')
  path = str(tmp_path / 'text.txt')
  fitted = {
    'task': 'tasks.estimators.svd:SingularVectors',
    'seed': 0,
    'corpus': {'path': path},
    'vocabulary': {'min_count': 1},
    'counts': {'window': 2},
    'pmi': {},
    'model': {'width': WIDTH, 'block': 2, 'iterations': 4},
    'mesh': {'devices': 1},
  }
  run = train(fitted, tmp_path / 'svd').path
  init = {'vectors': {'path': str(run), 'into': 'target_embedding'}}
  corpus = {'source': 'en', 'target': 'de', 'files': {'train': [path, path]}}
  params, report, task = _begin(
    small | {'corpus': corpus, 'init': init}, tmp_path / 'run'
  )
  vectors = open_vectors(run)
  returned = _rows(params, task, vectors.words, 'target') * WIDTH**0.5
  np.testing.assert_allclose(returned, vectors.matrix, rtol=1e-5)
  coverage = report.vectors['target_embedding/table']
  assert coverage['covered'] == len(vectors.words) == 12


def test_vectors_are_scaled_to_fresh_rows(small, vectors, tmp_path):
  path, words, _ = vectors
  section = {'path': str(path), 'into': 'target_embedding', 'scale': 'fresh'}
  params, _, task = _begin(small | {'init': {'vectors': [section]}}, tmp_path)
  norms = np.linalg.norm(_rows(params, task, words, 'target'), axis=1)
  assert 0.5 < np.sqrt(np.mean(norms**2)) < 1.5


def test_words_of_pieces_are_whole_words():
  bpe = train_vocabulary(['one two three'] * 9, kind='bpe', size=20)
  words = words_of_pieces(bpe)
  assert len(words) == bpe.size
  assert set(words[:4]) == {None}
  for piece, word in zip(bpe.pieces()[4:], words[4:], strict=True):
    whole = piece.startswith('▁') and piece != '▁'
    assert word == (piece[1:] if whole else None)
  characters = train_vocabulary(['one two'], kind='char')
  assert not any(words_of_pieces(characters))


@pytest.mark.parametrize(
  ('init', 'message'),
  [
    ({'run': 'nowhere'}, 'nowhere is not a run'),
    ({'run': 'SOURCE', 'map': {'encodr': 'x'}}, "begins with 'encodr'; did you mean"),
    ({'run': 'SOURCE', 'map': {'encoder': 'x'}}, "to 'x/.*this model does not have"),
    ({'run': 'SOURCE', 'map': [['encoder', r'\1']]}, 'invalid group reference'),
    ({'run': 'SOURCE', 'map': [['.*_embedding', 'target_embedding']]}, 'sends both'),
    ({'run': 'SOURCE', 'map': {'(': 'x'}}, 'must be a regular expression'),
    ({'map': {'encoder': 'encoder'}}, 'no effect without init.run'),
    ({'freeze': 'encodr'}, "init.freeze: .* 'encodr'; did you mean 'encoder'"),
    ({'vectors': {'path': 'VECTORS'}}, "missing a required argument: 'into'"),
    ({'vectors': {'path': 'no.vec', 'into': 'source_embedding'}}, 'no vectors at'),
    ({'vectors': {'path': 'VECTORS', 'into': 'encoder'}}, 'is no table of embeddings'),
    ({'vectors': {'path': 'x', 'into': 'x', 'sclae': 1}}, 'did you mean .scale'),
  ],
)
def test_wrong_options_are_errors_of_one_line(
  small, source, vectors, tmp_path, init, message
):
  text = json.dumps(init).replace('SOURCE', str(source))
  init = json.loads(text.replace('VECTORS', str(vectors[0])))
  with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
    train(small | {'init': init}, tmp_path)
  assert '\n' not in str(error.value)
  assert not (tmp_path / 'config.json').exists()


def test_shapes_that_do_not_fit_are_named(small, source, vectors, tmp_path):
  wide = small | {'model': small['model'] | {'width': 16}}
  init = {'run': str(source)}
  with pytest.raises(ValueError, match=r'has the shape \(.*, and .* here \('):
    train(wide | {'init': init}, tmp_path)
  init = {'vectors': {'path': str(vectors[0]), 'into': 'source_embedding'}}
  with pytest.raises(ValueError, match='have 8 numbers, and source_embedding/table'):
    train(wide | {'init': init}, tmp_path)
  formats.write(tmp_path / 'other.txt', ['never'], np.ones((1, WIDTH), np.float32))
  init = {'vectors': {'path': f'{tmp_path}/other.txt', 'into': 'source_embedding'}}
  with pytest.raises(ValueError, match=r'no word of .* is a piece of the source'):
    train(small | {'init': init}, tmp_path)


def test_the_command_line_sets_every_option():
  config = load_experiment(
    'experiments/multi30k/transformer.py:smoke',
    [
      "--config.init.map=[('encoder/(.*)', r'encoder/\\1')]",
      '--config.init.run=runs/other',
      '--config.init.freeze=encoder',
      '--config.init.vectors.path=some.vec',
      '--config.init.vectors.into=target_embedding',
      '--config.init.vectors.freeze=true',
    ],
  )
  init = Init.of(config)
  assert init.pairs == [('encoder/(.*)', r'encoder/\1')]
  assert init.frozen == ['encoder', 'target_embedding']
  assert Init.of({'init': None}).is_empty

"""Estimators: fitting in steps, interruption, resuming, and every verb."""

import json
import os
from pathlib import Path
import signal

import numpy as np
import pytest

import seqlab
from seqlab import cli
from seqlab.metrics_file import read_metrics
from seqlab.plan import plan_experiment
from seqlab.report.runs import left_out, read_run
from seqlab.report.tables import summary
from seqlab.tasks.estimators import svd
from seqlab.tasks.estimators.svd import SingularVectors
from seqlab.train.loop import train
from seqlab.train.mesh import make_mesh
from seqlab.train.processes import Stopped
from seqlab.word_vectors import open_vectors

PATHS = {
  'ppmi': 'tasks.estimators.ppmi:PPMIVectors',
  'svd': 'tasks.estimators.svd:SingularVectors',
  'gensim': 'tasks.estimators.gensim_baseline:GensimBaseline',
}


@pytest.fixture(scope='module')
def text(tmp_path_factory):
  folder = tmp_path_factory.mktemp('text')
  random = np.random.default_rng(0)
  lines = [' '.join(random.choice([*'abcdefghij'][i % 2 :: 2], 8)) for i in range(200)]
  (folder / 'text.txt').write_text('\n'.join(lines), 'utf-8')
  (folder / 'pairs.tsv').write_text('a\tc\t9\na\tb\t1\nb\td\t8\n', 'utf-8')
  return folder


@pytest.fixture(params=PATHS)
def config(request, text):
  return make_config(text, request.param)


def make_config(text, name, **changes):
  sets = (str(text / 'pairs.tsv'),)
  common = {
    'task': PATHS[name],
    'seed': 0,
    'corpus': {'path': str(text / 'text.txt')},
    'vocabulary': {'min_count': 1},
    'mesh': {'devices': 1},
    'evals': {'similarity': {'kind': 'similarity', 'sets': sets, 'show': ('a',)}},
  }
  counts = {'counts': {'window': 2}, 'pmi': {}}
  sections = {
    'ppmi': counts,
    'svd': counts | {'model': {'width': 4, 'block': 2, 'iterations': 3}},
    'gensim': {'batching': {}, 'model': {'width': 4, 'window': 2, 'epochs': 2}},
  }
  return common | sections[name] | changes


def _rows(folder):
  """The metrics without times."""
  return [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for row in read_metrics(Path(folder, 'metrics.jsonl'))
  ]


def test_every_verb_accepts_the_run_of_an_estimator(config, text, tmp_path, capsys):
  run = train(config, tmp_path / 'run').path
  assert cli.main(['neighbours', str(run), 'a', '-n', '4']) == 0
  lines = capsys.readouterr().out.splitlines()[-4:]
  neighbours = {line.split()[1] for line in lines}
  assert neighbours == set('cegi') or 'gensim' in config['task']
  assert cli.main(['analogy', str(run), 'a', 'c', 'e']) == 0
  assert cli.main(['evaluate', str(run), '--sets', str(text / 'pairs.tsv')]) == 0
  row = json.loads((run / 'evaluations.jsonl').read_text('utf-8'))
  assert row['scores']['pairs']['covered'] == 3
  assert cli.main(['evaluate', str(run), '--evals']) == 0
  row = json.loads((run / 'evaluations.jsonl').read_text('utf-8').splitlines()[-1])
  trained = _rows(run)[-1]['similarity/pairs']
  assert row['scores']['similarity/pairs'] == pytest.approx(trained)
  with pytest.raises(ValueError, match=r'evaluate\(beam=...\): decoding options'):
    seqlab.load(run).evaluate(beam=2)
  target = tmp_path / ('v.npz' if 'ppmi' in config['task'] else 'v.txt')
  assert cli.main(['vectors', str(run), '--to', str(target)]) == 0
  assert open_vectors(target).words == open_vectors(run).words
  assert 'similarity/pairs' in summary([run], ['similarity/pairs'])
  assert read_run(run).final('similarity/pairs') == _rows(run)[-1]['similarity/pairs']
  assert [*(run / 'samples').glob('similarity-*.txt')]
  assert cli.main(['evaluate', str(run), '--average', '2']) == 1
  assert 'leave out --average 2' in capsys.readouterr().err


def test_a_finished_run_is_not_changed(config, tmp_path, monkeypatch):
  run = train(config, tmp_path).path
  before = (run / 'metrics.jsonl').read_text('utf-8')
  monkeypatch.setattr('seqlab.evaluators.similarity.evaluate_vectors', None)
  train(config, tmp_path)
  assert (run / 'metrics.jsonl').read_text('utf-8') == before


def test_a_finished_run_does_not_need_its_text(config, text, tmp_path):
  copy = tmp_path / 'copy.txt'
  copy.write_bytes((text / 'text.txt').read_bytes())
  run = train(config | {'corpus': {'path': str(copy)}}, tmp_path / 'run').path
  before = open_vectors(run).neighbours('a', 3)
  copy.unlink()
  assert open_vectors(run).neighbours('a', 3) == before


@pytest.mark.parametrize('done', [0, 1, 3])
def test_singular_vectors_resume_with_the_same_bits(text, tmp_path, done):
  config = make_config(text, 'svd')
  whole = train(config, tmp_path / 'whole').path
  cut = tmp_path / 'cut'
  task = SingularVectors.from_config(config, cut / 'vocabulary')
  (cut / 'fitted').mkdir()
  steps = task.fit(cut / 'fitted', make_mesh(data=1, devices=1))
  assert [next(steps).step for _ in range(done + 1)] == [*range(done + 1)]
  steps.close()  # as if the process had been killed before it wrote a row
  train(config, cut)
  np.testing.assert_array_equal(open_vectors(cut).matrix, open_vectors(whole).matrix)
  assert _rows(cut) == _rows(whole)[max(done - 1, 0) :]
  assert {path.name for path in (cut / 'fitted').iterdir()} == {'finished', 'svd.npz'}


def test_sigterm_ends_after_a_step_and_the_run_resumes(text, tmp_path, monkeypatch):
  config, save = make_config(text, 'svd'), svd.save

  def save_and_terminate(state, k, *args):
    save(state, k, *args)
    if k == 1:
      os.kill(os.getpid(), signal.SIGTERM)

  whole = train(config, tmp_path / 'whole').path
  monkeypatch.setattr(svd, 'save', save_and_terminate)
  with pytest.raises(Stopped, match='stopped after step 2, as SIGTERM asked'):
    train(config, tmp_path / 'cut')
  assert [row['step'] for row in _rows(tmp_path / 'cut')] == [1, 2]
  assert [*left_out([tmp_path / 'cut']).values()] == ['fitted up to step 2']
  train(config, tmp_path / 'cut')
  assert _rows(tmp_path / 'cut') == _rows(whole)
  assert not left_out([tmp_path / 'cut'])


def test_a_damaged_block_is_iterated_again(text, tmp_path, capsys):
  config = make_config(text, 'svd')
  task = SingularVectors.from_config(config, tmp_path / 'vocabulary')
  mesh = make_mesh(data=1, devices=1)
  whole, cut = tmp_path / 'whole', tmp_path / 'cut'
  for folder in (whole, cut):
    folder.mkdir()
  assert len([*task.fit(whole, mesh)]) == 4
  steps = task.fit(cut, mesh)
  assert [next(steps).step for _ in range(3)] == [0, 1, 2]
  steps.close()
  block = bytearray((cut / 'block-0001.npz').read_bytes())
  block[len(block) // 2] ^= 1
  (cut / 'block-0001.npz').write_bytes(block)
  assert [done.step for done in task.fit(cut, mesh)] == [1, 2, 3]
  assert 'block-0001.npz is damaged: iteration 2 is repeated' in capsys.readouterr().err
  parts = (task.parts(task.load(folder)) for folder in (whole, cut))
  for one, other in zip(*parts, strict=True):
    np.testing.assert_array_equal(one, other)


def test_force_fits_again(text, tmp_path):
  train(make_config(text, 'svd'), tmp_path)
  other = make_config(text, 'svd', seed=1)
  with pytest.raises(ValueError, match='seed: 0 there, 1 now'):
    train(other, tmp_path)
  train(other, tmp_path, force=True)
  fresh = train(other, tmp_path / 'fresh').path
  np.testing.assert_array_equal(
    open_vectors(tmp_path).matrix, open_vectors(fresh).matrix
  )


@pytest.mark.parametrize('file', ['pmi.npz', 'svd.npz', 'tables.npz'])
def test_a_damaged_result_is_named(text, tmp_path, file):
  name = {'pmi.npz': 'ppmi', 'svd.npz': 'svd', 'tables.npz': 'gensim'}[file]
  run = train(make_config(text, name, evals={}), tmp_path).path
  (run / 'fitted' / file).write_bytes(b'PK not a file')
  with pytest.raises(ValueError, match=f'{file} is damaged.* train again'):
    open_vectors(run)


def test_a_run_that_has_not_finished_is_refused(config, tmp_path):
  run = train(config | {'evals': {}}, tmp_path).path
  for path in (run / 'fitted').iterdir():
    path.unlink()
  with pytest.raises(FileNotFoundError, match='has no vectors yet'):
    open_vectors(run)


@pytest.mark.parametrize(
  ('changes', 'key'),
  [
    ({'steps': 3}, 'steps'),
    ({'hyper': {'peak': 0.1}}, 'hyper'),
    ({'keep_best': 'similarity/pairs'}, 'keep_best'),
    ({'ema': 0.9}, 'ema'),
    ({'evals': {'x': {'kind': 'spectrum', 'every': 1}}}, r'evals\.x\.every'),
  ],
)
def test_settings_of_training_are_refused(text, tmp_path, changes, key):
  with pytest.raises(ValueError, match=rf'has no gradient: .* Leave out {key}'):
    train(make_config(text, 'svd', **changes), tmp_path)


FIRST_EDITION = {  # further keys of its configurations
  'ppmi': ('tasks.counting:Explicit', {'steps': 1, 'model': {}}),
  'svd': (
    'tasks.counting:SingularVectors',
    {'steps': 3, 'model': {'width': 4, 'block': 2, 'use': 'words'}},
  ),
  'gensim': (
    'tasks.peer:Gensim',
    {
      'steps': 1,
      'batching': {'lanes': 8},
      'hyper': {'peak': 0.05},
      'schedule': {'kind': 'linear', 'floor': 0.1},
    },
  ),
}


@pytest.mark.parametrize('name', FIRST_EDITION)
def test_a_run_of_the_first_edition_is_refused_and_can_be_fitted(text, tmp_path, name):
  """It has its result as a checkpoint of training, which had no effect."""
  task, sections = FIRST_EDITION[name]
  config = make_config(text, name, task=task, keep_latest=1)
  config = {
    **config,
    'hyper': {'peak': 0.0},
    'schedule': {'kind': 'constant'},
    **sections,
  }
  run = train(config, tmp_path / 'run').path
  assert json.loads((run / 'config.json').read_text('utf-8'))['task'] == PATHS[name]
  expected = open_vectors(run).neighbours('a', 3)
  (run / 'config.json').write_text(json.dumps(config), 'utf-8')
  (run / 'fitted').rename(run / 'checkpoints')
  with pytest.raises(FileNotFoundError, match='is a run of the first edition'):
    open_vectors(run)
  train(config, run)
  assert open_vectors(run).neighbours('a', 3) == expected


def test_a_plan_of_an_estimator_is_refused_with_the_reason(text, capsys):
  plan_experiment(make_config(text, 'svd'), [1])
  printed = ' '.join(capsys.readouterr().out.split())
  assert 'there is no training step to plan' in printed
  assert 'vocabulary: 10' in printed


def test_an_experiment_that_is_refused_keeps_what_was_fitted(text, tmp_path):
  train(make_config(text, 'svd', evals={}), tmp_path)
  files = ('config.json', 'fitted/svd.npz')
  before = [(tmp_path / name).read_bytes() for name in files]
  wrong = make_config(text, 'svd', model={'width': 4, 'block': 1, 'iterations': 3})
  with pytest.raises(ValueError, match=r'model\.iterations is 3'):
    train(wrong, tmp_path, force=True)
  assert [(tmp_path / name).read_bytes() for name in files] == before


def test_a_run_is_not_finished_before_its_evaluators_ran(text, tmp_path, monkeypatch):
  config = make_config(text, 'ppmi')
  with monkeypatch.context() as patch:
    patch.setattr('seqlab.evaluators.similarity.evaluate_vectors', None)
    with pytest.raises(TypeError):
      train(config, tmp_path)
  assert [*left_out([tmp_path]).values()] == ['fitted up to step 1']
  train(config, tmp_path)
  assert not left_out([tmp_path])
  assert 'similarity/pairs' in _rows(tmp_path)[-1]

"""Each run of a population has the results that it has alone."""

import json
import os
from pathlib import Path
import re
import shutil
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from seqlab.config import with_defaults
from seqlab.experiment import load_experiment
from seqlab.tasks.translation import Translation
from seqlab.train.checkpoints import Checkpoints
from seqlab.train.definition import Definition
from seqlab.train.engine_population import PopulationEngine
from seqlab.train.engines import make_engine
from seqlab.train.loop import train
from seqlab.train.population import _share_vocabulary, train_population
from seqlab.train.processes import Stopped
from seqlab.train.writer import Writer, read_metrics
from seqlab.upgrade import FORMAT
from seqlab.use.runs import load_run

# Differences of each member from `tiny` besides its seed; another member diverges.
HYPERS = [{}] * 5 + [{'peak': 3e-3}, {'dropout': 0.4}, {'label_smoothing': 0.0}]
DIVERGES = {'peak': 1e15}
ALL = {'mesh': {'data': -1}}  # with 8 devices, 9 members are 2 per device
BARE = {'evals': {}, 'keep_best': None, 'save_every': 4}  # quick to compile


def _config(tiny, seed, hyper, **changes):
  batching = {'kind': 'packed', 'tokens': 160, 'max_length': 20}
  config = tiny | {'steps': 8, 'seed': seed, 'batching': batching}
  return config | {'hyper': tiny['hyper'] | hyper} | changes


def _rows(folder):
  """Returns the rows of metrics.jsonl without times."""
  return [
    {k: v for k, v in row.items() if not k.startswith('speed/')}
    for row in read_metrics(folder / 'metrics.jsonl')
  ]


def _params(folder):
  """Returns the parameters of the newest checkpoint."""
  return jax.tree.leaves(load_run(folder)[2])


def _assert_same_rows(rows, expected):
  assert [set(row) for row in rows] == [set(row) for row in expected]
  for a, b in zip(rows, expected, strict=True):
    for name, value in b.items():
      assert a[name] == pytest.approx(value, rel=2e-4, abs=1e-5), (b['step'], name)


@pytest.fixture(scope='module')
def population(tiny, tmp_path_factory):
  """Folders of nine members and of one that cannot start, and their errors.

  The population uses all devices; the runs compared with it use one.
  """
  folder = tmp_path_factory.mktemp('population')
  (folder / '9').write_text('not a folder')
  hypers = [*HYPERS, DIVERGES, {}]
  configs = [_config(tiny, i, hyper, **ALL) for i, hyper in enumerate(hypers)]
  folders = [folder / str(i) for i in range(10)]
  return folders, train_population(configs, folders)


@pytest.fixture(scope='module')
def alone(tiny, tmp_path_factory):
  """(seed, hyper) -> losses and last parameters of steps without a population."""
  config = _config(tiny, 0, {})
  task = Translation.from_config(
    config, tmp_path_factory.mktemp('alone') / 'vocabulary'
  )
  engine, results = make_engine(config, task, steps=8), []
  for seed, hyper in enumerate(HYPERS):
    engine.set_hyper(config['hyper'] | hyper)
    state, losses = engine.init(seed), []
    for k in range(8):
      batch = engine.put(task.batches('train').batch(k, seed=seed))
      state, sums = engine.step(state, batch)
      losses.append(engine.fetch(sums)[0]['loss'])
    results.append((losses, jax.device_get(jax.tree.leaves(state.params))))
  return results


@pytest.mark.parametrize('i', range(8))
def test_a_member_equals_its_run_alone(population, alone, i):
  losses, params = alone[i]
  folder = population[0][i]
  np.testing.assert_allclose([r['loss'] for r in _rows(folder)], losses, rtol=1e-4)
  for a, b in zip(_params(folder), params, strict=True):
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_members_differ(population):
  last = [_rows(folder)[-1]['loss'] for folder in population[0][:8]]
  assert len(set(last)) == 8


def test_a_member_writes_the_files_of_a_run(population, tiny, tmp_path):
  folder = population[0][6]
  config = _config(tiny, 6, HYPERS[6])
  train(config, tmp_path)
  _assert_same_rows(_rows(folder), _rows(tmp_path))
  for part in ('', 'samples', 'vocabulary', 'checkpoints'):
    names = [sorted(p.name for p in (f / part).iterdir()) for f in (folder, tmp_path)]
    assert names[0] == names[1]
  samples = 'samples/valid-00000008.txt'
  assert (folder / samples).read_text() == (tmp_path / samples).read_text()
  kept = json.loads((folder / 'config.json').read_text('utf-8'))
  assert kept.pop('format') == FORMAT
  assert kept == with_defaults(json.loads(json.dumps(config | ALL)))


def test_nothing_is_compiled_after_the_declared_shapes(population):
  for folder in population[0][:9]:
    assert {row['compiles'] for row in _rows(folder)} == {0}


def test_only_the_member_that_diverges_fails(population):
  folders, errors = population
  assert errors[:8] == [None] * 8
  assert isinstance(errors[8], FloatingPointError)
  message = r'the loss is .* at step 2 \(batch 1 of seed 8\)\. Lower hyper\.peak'
  assert re.match(message, str(errors[8]))
  assert [row['step'] for row in _rows(folders[8])] == [1, 2]
  assert not list((folders[8] / 'checkpoints').glob('[0-9]*'))


def test_a_folder_that_cannot_be_used_fails_alone(population):
  assert isinstance(population[1][9], NotADirectoryError)


@pytest.fixture(scope='module')
def stacked(tiny, tmp_path_factory):
  """An engine of 9 members on 8 devices, its task, and its compiled step."""
  config = _config(tiny, 0, {}, **ALL)
  task = Translation.from_config(
    config, tmp_path_factory.mktemp('stacked') / 'vocabulary'
  )
  hypers = [config['hyper'] | h for h in (*HYPERS, DIVERGES)]
  engine = PopulationEngine(Definition(config, task, steps=8), hypers)
  return engine, task, engine.compile(task.batches('train').batch(0, seed=0))


def _batches(task, k):
  return [task.batches('train').batch(k, seed=seed) for seed in range(9)]


def test_members_over_all_devices_equal_those_alone(stacked, alone):
  """Each device has 2 members; those beyond the 9 are dropped."""
  engine, task, _ = stacked
  state, losses = engine.init(*range(9)), []
  for k in range(8):
    state, sums = engine.step(state, engine.put(*_batches(task, k)))
    losses.append([row['loss'] for row in engine.fetch(sums)])
  assert len(state.step.sharding.device_set) == 8
  for i, (expected, params) in enumerate(alone):
    np.testing.assert_allclose([loss[i] for loss in losses], expected, rtol=1e-4)
    member_params = jax.tree.leaves(engine.member(state, i).params)
    for a, b in zip(member_params, params, strict=True):
      np.testing.assert_allclose(a, b, atol=2e-3)


def test_devices_do_not_communicate(stacked):
  text = stacked[2].as_text()
  assert 'fusion' in text
  for name in ('all-reduce', 'all-gather', 'all-to-all', 'collective-', 'reduce-scat'):
    assert name not in text


def test_a_finished_member_is_frozen(stacked):
  engine, task, _ = stacked
  before = jax.device_get(engine.init(*range(9)))
  active = [i != 3 for i in range(9)]
  state, _ = engine.step(engine.init(*range(9)), engine.put(*_batches(task, 0)), active)
  for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(state), strict=True):
    np.testing.assert_array_equal(old[3], np.asarray(new)[3])
  # Places from 9 on only give each device the same number.
  assert np.asarray(state.step).tolist() == [1, 1, 1, 0, *[1] * 5, *[0] * 7]
  assert int(engine.member(state, 2).step) == 1


@pytest.fixture(scope='module')
def stopped(tiny, tmp_path_factory):
  """A folder with two members that SIGTERM stopped, and the messages."""
  folder, write = tmp_path_factory.mktemp('stopped'), Writer.write

  def write_and_terminate(self, step, row):
    write(self, step, row)
    if step == 5:
      os.kill(os.getpid(), signal.SIGTERM)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Writer, 'write', write_and_terminate)
    with pytest.raises(Stopped) as error:
      train_population(_two(tiny), [folder / '0', folder / '1'])
  return folder, str(error.value)


def _two(tiny, **changes):
  return [_config(tiny, seed, {}, **(BARE | changes)) for seed in (0, 1)]


def _resume(tiny, folder, population):
  """Resumes both; their rows are then those of uninterrupted members."""
  folders = [folder / '0', folder / '1']
  assert train_population(_two(tiny), folders) == [None, None]
  for member, expected in zip(folders, population[0], strict=False):
    rows = [
      {k: v for k, v in row.items() if 'valid' not in k} for row in _rows(expected)
    ]
    _assert_same_rows(_rows(member), rows)


def test_a_stopped_population_resumes(stopped, tiny, tmp_path, population):
  folder = shutil.copytree(stopped[0], tmp_path / 'copy')
  assert stopped[1].startswith('stopped at step 6 of 8, as SIGTERM asked')
  assert [Checkpoints(folder / i / 'checkpoints').latest for i in '01'] == [6, 6]
  _resume(tiny, folder, population)


@pytest.fixture(scope='module')
def whole(tiny, tmp_path_factory):
  """A folder with the same two members, uninterrupted."""
  folder = tmp_path_factory.mktemp('whole')
  assert train_population(_two(tiny), [folder / '0', folder / '1']) == [None, None]
  return folder


def _assert_same_bits(folder, expected):
  for i in '01':
    assert _rows(folder / i) == _rows(expected / i)
    for a, b in zip(_params(folder / i), _params(expected / i), strict=True):
      np.testing.assert_array_equal(a, b)


def test_members_killed_at_different_steps_resume_bit_for_bit(
  stopped, whole, tiny, tmp_path
):
  """The kill is simulated between the saves of two members."""
  folder = shutil.copytree(stopped[0], tmp_path / 'copy')
  shutil.rmtree(folder / '0' / 'checkpoints' / '6')
  assert train_population(_two(tiny), [folder / '0', folder / '1']) == [None, None]
  _assert_same_bits(folder, whole)
  for i, step in (('0', 4), ('1', 6)):
    log = (folder / i / 'train.log').read_text('utf-8')
    assert f'resuming from the checkpoint of step {step} of 8' in log


@pytest.mark.slow
def test_the_remaining_members_resume_bit_for_bit(stopped, whole, tiny, tmp_path):
  """As a sweep resumes it when the others are finished."""
  folder = shutil.copytree(stopped[0], tmp_path / 'copy')
  shutil.rmtree(folder / '0')
  shutil.copytree(whole / '0', folder / '0')
  config = _two(tiny)[1]
  assert train_population([config], [folder / '1'], places=[1], width=2) == [None]
  _assert_same_bits(folder, whole)


@pytest.mark.parametrize(('places', 'width'), [([0, 0], 2), ([0, 2], 2), ([0, 1], 1)])
def test_wrong_places_in_a_population_are_refused(tiny, tmp_path, places, width):
  folders = [tmp_path / '0', tmp_path / '1']
  with pytest.raises(ValueError, match='are not those of a population of'):
    train_population(_two(tiny), folders, places=places, width=width)


def test_a_finished_member_is_not_changed(population, tiny, tmp_path):
  folder = shutil.copytree(population[0][0], tmp_path / 'run')
  before = (folder / 'metrics.jsonl').read_bytes()
  assert train_population([_config(tiny, 0, {}, **ALL)], [folder]) == [None]
  assert (folder / 'metrics.jsonl').read_bytes() == before


@pytest.mark.slow
def test_patience_ends_a_member_and_not_the_others(tiny, tmp_path):
  evals = {'valid': {'type': 'perplexity', 'split': 'valid', 'every': 2, 'shapes': 1}}
  options = dict(evals=evals, keep_best='valid/nll', best_is='min', patience=1)
  hypers = [{'peak': 0.0}, {}]  # so that the first member does not improve
  configs = [_config(tiny, 0, hyper, **options) for hyper in hypers]
  ended = []
  folders = [tmp_path / '0', tmp_path / '1']
  train_population(configs, folders, ended=lambda i, error: ended.append((i, error)))
  assert ended == [(0, None), (1, None)]
  assert [_rows(folder)[-1]['step'] for folder in folders] == [4, 8]
  assert Checkpoints(folders[0] / 'checkpoints').latest == 4


@pytest.mark.slow  # others cover both parts; it compiles two shapes
def test_members_with_different_seeds_can_draw_batches_of_several_shapes(
  tiny, tmp_path
):
  batching = {'kind': 'drawn', 'rows': 4, 'shapes': 2, 'max_length': 20}
  mesh = {'data': 1, 'devices': 1}
  configs = [
    _config(tiny, seed, {}, batching=batching, mesh=mesh, **BARE) for seed in (0, 1)
  ]
  together = [tmp_path / '0', tmp_path / '1']
  assert train_population(configs, together) == [None, None]
  train(configs[1], tmp_path / 'alone')
  _assert_same_rows(_rows(together[1]), _rows(tmp_path / 'alone'))
  assert _rows(together[0])[0]['loss'] != _rows(together[1])[0]['loss']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'batching': {'tokens': 160, 'shapes': 2}}, r"set batching\.kind='packed' or"),
    ({'parallel': 'pmap'}, "cannot have parallel='pmap': run these trials one by one"),
    ({'minutes': 3.0}, 'cannot have minutes'),
    ({'fallback': {'times': 1}}, 'cannot have fallback'),
    ({'task': 'tasks.word2vec:WordPrediction'}, 'which has its own update'),
    ({'task': 'svd'}, 'which has no training step'),
    ({'mesh': {'data': 4, 'tensor': 2}}, r'set mesh\.fsdp=1 and mesh\.tensor=1'),
  ],
)
def test_options_that_a_population_does_not_support_are_refused(
  tiny, tmp_path, changes, message
):
  folders = [tmp_path / '0', tmp_path / '1']
  with pytest.raises(ValueError, match=message):
    train_population(_two(tiny, **changes), folders)


@pytest.mark.parametrize(
  ('one', 'other', 'named'),
  [
    ({}, {'steps': 9}, 'steps'),
    ({}, {'model': {'width': 32}}, r'model\.'),
    ({'hyper': {'peak': 1.0, 'dropout': None}}, {'hyper': {'peak': 1.0, 'dropout': 0.1}},
     r'hyper\.dropout'),
  ],
)  # fmt: skip
def test_experiments_that_do_not_share_a_program_are_refused(
  tiny, tmp_path, one, other, named
):
  configs = [tiny | one, tiny | other]
  with pytest.raises(ValueError, match=f'these in .*{named}.* too'):
    train_population(configs, [tmp_path / '0', tmp_path / '1'])


@pytest.mark.slow
@pytest.mark.parametrize(
  'name',
  [
    'agreement/transformer.py:smoke',
    'g2p/sigmorphon2021.py:smoke,language=ice,model=transformer',
  ],
)
def test_eight_seeds_of_an_experiment(name, tmp_path):
  if name.startswith('g2p') and not os.environ.get('SEQLAB_DATA'):
    pytest.skip('needs real data: set SEQLAB_DATA')
  path = Path(__file__).parents[2] / 'experiments' / name
  configs = [load_experiment(str(path), [f'--config.seed={i}']) for i in range(8)]
  together = [tmp_path / f'together-{i}' for i in range(8)]
  assert train_population(configs, together) == [None] * 8
  for config, folder in zip(configs, together, strict=True):
    single = tmp_path / f'alone-{config["seed"]}'
    train(config, single)
    _assert_same_rows(_rows(folder), _rows(single))
    for a, b in zip(_params(folder), _params(single), strict=True):
      np.testing.assert_allclose(a, b, atol=2e-3)


def test_a_first_member_that_cannot_be_prepared_fails_alone(point, tmp_path):
  folders = [tmp_path / '0', tmp_path / '1']
  folders[0].mkdir()
  (folders[0] / 'vocabulary').write_text('not a folder')
  configs = [point | {'seed': seed, 'steps': 2} for seed in (0, 1)]
  errors = train_population(configs, folders)
  assert isinstance(errors[0], FileExistsError)
  assert errors[1] is None
  assert [row['step'] for row in _rows(folders[1])] == [1, 2]


def test_a_vocabulary_whose_copy_was_interrupted_is_copied_again(tmp_path, monkeypatch):
  def interrupted(source, target):
    Path(target).mkdir()
    raise KeyboardInterrupt

  source, target = (
    SimpleNamespace(vocabulary=tmp_path / name / 'vocabulary', name=name)
    for name in ('source', 'target')
  )
  source.vocabulary.mkdir(parents=True)
  (source.vocabulary / 'words').write_text('a b')
  (tmp_path / 'target').mkdir()
  with monkeypatch.context() as patch:
    patch.setattr(shutil, 'copytree', interrupted)
    with pytest.raises(KeyboardInterrupt):
      _share_vocabulary(source, target)
  assert not target.vocabulary.exists()
  _share_vocabulary(source, target)
  assert (target.vocabulary / 'words').read_text() == 'a b'
  assert [*(tmp_path / 'target').iterdir()] == [target.vocabulary]

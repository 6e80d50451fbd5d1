"""Checkpoints: which stay, which are found, what happens to broken ones."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.train import retry
from seqlab.train.checkpoints import Checkpoints

ABSTRACT = {'state': {'x': jax.ShapeDtypeStruct((3,), jnp.float32)}, 'meta': None}


@pytest.fixture(autouse=True)
def _here():
  here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  ABSTRACT['state'] = {'x': jax.ShapeDtypeStruct((3,), jnp.float32, sharding=here)}


def _parts(value):
  return {'state': {'x': jnp.full(3, value, jnp.float32)}, 'meta': {'value': value}}


def _fill(folder, values, **options):
  checkpoints = Checkpoints(folder, keep_best='bleu', **options)
  for step, bleu in values.items():
    checkpoints.save(step, _parts(step), {'bleu': bleu} if bleu else None)
  checkpoints.wait()
  return checkpoints


def test_nothing_is_restored_from_an_empty_folder(tmp_path):
  assert Checkpoints(tmp_path).restore(ABSTRACT) is None


def test_what_was_saved_is_restored(tmp_path):
  _fill(tmp_path, {1: 5.0, 2: 4.0}).close()
  step, parts = Checkpoints(tmp_path).restore(ABSTRACT)
  assert (step, parts['meta']) == (2, {'value': 2})
  np.testing.assert_array_equal(parts['state']['x'], [2, 2, 2])


def test_the_newest_and_the_best_stay(tmp_path):
  values = {1: 5.0, 2: 9.0, 3: 7.0, 4: None, 5: 6.0, 6: None}
  checkpoints = _fill(tmp_path, values, keep_latest=2)
  assert checkpoints.steps() == [2, 5, 6]


def test_where_less_is_better_the_least_stays(tmp_path):
  values = {1: 5.0, 2: 9.0, 3: 7.0}
  checkpoints = _fill(tmp_path, values, keep_latest=1, best_mode='min')
  assert checkpoints.steps() == [1, 3]


def test_saved_values_are_those_of_the_moment(tmp_path):
  """Though the next step is given the buffers of this one."""
  checkpoints = Checkpoints(tmp_path)
  parts = _parts(1.0)
  grow = jax.jit(lambda x: x + 1, donate_argnums=0)
  for step in range(1, 5):
    checkpoints.save(step, parts)
    parts = {'state': {'x': grow(parts['state']['x'])}, 'meta': {'best': None}}
  checkpoints.close()
  loaded = Checkpoints(tmp_path).load(4, ABSTRACT)
  np.testing.assert_array_equal(loaded['state']['x'], [4, 4, 4])


def _break(folder):
  for file in folder.rglob('*'):
    if file.is_file():
      file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_broken_one_is_reported_and_set_aside(tmp_path):
  _fill(tmp_path, {1: None, 2: None}).close()
  _break(tmp_path / '2')
  said = []
  checkpoints = Checkpoints(tmp_path, say=said.append)
  step, _ = checkpoints.restore(ABSTRACT)
  assert step == 1
  assert said[0].startswith('the checkpoint of step 2 cannot be read')
  assert (tmp_path / 'broken-2').is_dir()
  checkpoints.save(2, _parts(20.0))  # is not in the way of the new one
  checkpoints.close()
  loaded = Checkpoints(tmp_path).load(2, ABSTRACT)
  np.testing.assert_array_equal(loaded['state']['x'], [20, 20, 20])


def test_if_none_can_be_read_nothing_is_touched(tmp_path):
  _fill(tmp_path, {1: None}).close()
  _break(tmp_path / '1')
  with pytest.raises(ValueError, match=r'none of the checkpoints .* \(steps 1\)'):
    Checkpoints(tmp_path, say=lambda text: None).restore(ABSTRACT)
  assert (tmp_path / '1').is_dir()


def test_reading_leaves_what_is_being_written(tmp_path):
  _fill(tmp_path, {1: None}).close()
  half = tmp_path / '2.orbax-checkpoint-tmp'
  half.mkdir()
  Checkpoints(tmp_path, read_only=True)
  assert half.is_dir()
  _fill(tmp_path, {2: None}).close()  # orbax clears up at leisure, before it saves
  assert not half.is_dir()


@pytest.mark.parametrize(
  ('by', 'steps', 'mean'), [('last', [3, 2], 2.5), ('best', [1, 3], 2.0)]
)
def test_the_average_of_the_last_or_the_best(tmp_path, by, steps, mean):
  _fill(tmp_path, {1: 9.0, 2: 5.0, 3: 7.0}, keep_latest=3).close()
  checkpoints = Checkpoints(tmp_path, keep_best='bleu', read_only=True)
  used, state = checkpoints.average(2, ABSTRACT['state'], by=by)
  assert used == steps
  np.testing.assert_allclose(state['x'], mean)


def test_an_average_passes_over_a_broken_one(tmp_path):
  _fill(tmp_path, {1: None, 2: None, 3: None}, keep_latest=3).close()
  _break(tmp_path / '3')
  checkpoints = Checkpoints(tmp_path, read_only=True, say=lambda text: None)
  assert checkpoints.average(2, ABSTRACT['state'])[0] == [2, 1]


def test_an_average_of_more_than_there_are_is_refused(tmp_path):
  _fill(tmp_path, {1: None}).close()
  with pytest.raises(ValueError, match=r'3 checkpoints .* 1 can be read .* --average'):
    Checkpoints(tmp_path, read_only=True).average(3, ABSTRACT['state'])


def test_a_folder_without_checkpoints_cannot_be_read(tmp_path):
  with pytest.raises(FileNotFoundError, match='train first'):
    Checkpoints(tmp_path / 'none', read_only=True)
  with pytest.raises(FileNotFoundError, match='train first'):
    Checkpoints(tmp_path, read_only=True).average(1, ABSTRACT['state'])


def test_a_full_disk_is_said_with_the_last_good_step(small_disk):
  checkpoints = Checkpoints(small_disk / 'checkpoints')
  checkpoints.save(1, _parts(1.0))
  checkpoints.wait()
  noise = np.random.default_rng(0).random(2**20)  # 8 MiB, not to be compressed

  def save():
    checkpoints.save(2, {'state': {'x': jnp.asarray(noise)}, 'meta': {'best': None}})
    checkpoints.wait()

  with pytest.raises(OSError, match=r'no space left .* of step 1\. Free some'):
    save()
  assert checkpoints.steps() == [1]


# What orbax had begun to write fails once more when it is thrown away.
_FAILS_ONCE_MORE = pytest.mark.filterwarnings(
  'ignore::pytest.PytestUnraisableExceptionWarning'
)


@_FAILS_ONCE_MORE
@pytest.mark.parametrize('wait', [True, False])
def test_a_disk_that_is_full_for_a_while_gets_the_checkpoint(
  small_disk, fill, monkeypatch, wait
):
  """In the background it shows at the next save, which is then tried again."""
  monkeypatch.setattr(retry, 'PAUSE', 0.01)
  said = []

  def hear(text):
    said.append(text)
    if len(said) == 2:
      filler.unlink()

  checkpoints = Checkpoints(small_disk / 'run', keep_latest=9, retries=3, say=hear)
  checkpoints.save(1, _parts(1.0), wait=True)
  filler = fill(small_disk)
  checkpoints.save(2, _parts(2.0), wait=wait)
  if not wait:
    checkpoints.save(3, _parts(3.0))
  checkpoints.close()
  assert [text.partition('; ')[2] for text in said] == [
    'trying again in 0.01 s (3 more)',
    'trying again in 0.02 s (2 more)',
  ]
  assert checkpoints.steps() == ([1, 2] if wait else [1, 3])
  newest, parts = Checkpoints(small_disk / 'run').restore(ABSTRACT)
  np.testing.assert_array_equal(parts['state']['x'], [newest] * 3)
  gc.collect()  # what orbax had begun to write fails once more


@_FAILS_ONCE_MORE
def test_a_disk_that_stays_full_is_said_with_how_often_it_was_tried(
  small_disk, fill, monkeypatch
):
  monkeypatch.setattr(retry, 'PAUSE', 0.01)
  checkpoints = Checkpoints(small_disk / 'run', retries=2, say=lambda text: None)
  checkpoints.save(1, _parts(1.0), wait=True)
  fill(small_disk)
  with pytest.raises(
    OSError, match=r'after 3 tries; the last good .* of step 1\. Free'
  ):
    checkpoints.save(2, _parts(2.0), wait=True)
  assert checkpoints.steps() == [1]
  gc.collect()

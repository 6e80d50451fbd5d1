"""A task that compiles quickly, for tests of the training engine."""

import os
import shutil
import sys
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.tasks.interface import Loss, Task


class Point(Task):
  """Moves a point to the target of each batch; a high learning rate diverges."""

  steps_per_epoch, sections, report = 10, ('model',), {'points': 40}

  @classmethod
  def from_config(cls, config, folder):
    folder.mkdir(exist_ok=True)
    (folder / 'points').write_text('40', 'utf-8')
    return cls()

  @property
  def shapes(self):
    return (self.batch(0, seed=0),)

  def batches(self, split, **options):
    return self

  def batch(self, k, *, seed, rows=(0, 1)):
    targets = np.random.default_rng((seed, k)).normal(size=(4, 3)).astype(np.float32)
    i, n = rows
    return {'drawn': targets[4 // n * i : 4 // n * (i + 1)]}  # [B, 3]

  def init(self, rng):
    return {'params': {'x': jax.random.normal(rng, (3,))}}

  def loss(self, variables, batch, rng, hyper):
    del rng, hyper
    distance = jnp.sum(jnp.square(variables['params']['x'] - batch['drawn']), axis=-1)
    return Loss(jnp.sum(distance), len(distance))  # [B] -> []

  def flops(self, batch):
    return 9.0 * self.tokens(batch)


@pytest.fixture(scope='session')
def point():
  """An experiment of this process that moves a point in twelve steps."""
  module = ModuleType('seqlab_test_tasks')
  module.Point = Point
  sys.modules[module.__name__] = module
  return {
    'task': 'seqlab_test_tasks:Point',
    'seed': 0,
    'steps': 12,
    'model': {},
    'hyper': {'peak': 0.1},
    'schedule': {'kind': 'constant'},
    'optimizer': {'kind': 'sgd', 'momentum': 0.0},
    'mesh': {'data': 1, 'devices': 1},
    'save_every': 4,
  }


@pytest.fixture(scope='session')
def point_run(point, tmp_path_factory):
  """The folder of an uninterrupted run of `point`; tests must not change it."""
  from seqlab.train.loop import train

  folder = tmp_path_factory.mktemp('point')
  train(point, folder)
  return folder


@pytest.fixture
def read_run():
  """A function: a run's folder -> its rows without times, its point and fallbacks."""
  from seqlab.train.checkpoints import Checkpoints
  from seqlab.train.writer import read_metrics

  def read_run(folder):
    rows = [
      {k: v for k, v in row.items() if not k.startswith('speed/')}
      for row in read_metrics(folder / 'metrics.jsonl')
    ]
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    x = jax.ShapeDtypeStruct((3,), jnp.float32, sharding=sharding)
    checkpoints = Checkpoints(folder / 'checkpoints', read_only=True)
    parts = {'state': {'params': {'x': x}}, 'meta': None}
    loaded = checkpoints.load(checkpoints.latest, parts)
    checkpoints.close()
    return rows, loaded['state']['params']['x'].tolist(), loaded['meta']['fallbacks']

  return read_run


@pytest.fixture
def power(monkeypatch):
  """A function: makes a copy of a folder as it may be after a power cut now.

  What was written since the last fsync of a file is lost, and the file is empty.
  """
  synced = {}  # device and inode -> size and time of change, when it was synced

  def note(handle, sync=os.fsync):
    sync(handle)
    stat = os.fstat(handle)
    synced[stat.st_dev, stat.st_ino] = stat.st_size, stat.st_mtime_ns

  monkeypatch.setattr(os, 'fsync', note)

  def cut(folder, copy):
    shutil.copytree(folder, copy)
    for file in [p for p in copy.rglob('*') if p.is_file()]:
      stat = (folder / file.relative_to(copy)).stat()
      if synced.get((stat.st_dev, stat.st_ino)) != (stat.st_size, stat.st_mtime_ns):
        file.write_bytes(b'')
    for path in copy.rglob('*'):
      name = path.relative_to(copy)
      if any(part.isdigit() for part in name.parts):  # in a checkpoint, or a checkpoint
        stat = (folder / name).parent.stat()  # a name reaches the disk with its folder
        assert (stat.st_dev, stat.st_ino) in synced, path
    return copy

  return cut

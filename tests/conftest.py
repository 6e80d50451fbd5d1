"""Eight pretended CPU devices, caches for each session, and one small run."""

import contextlib
import fcntl
import gc
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

# On a machine with a GPU the tests still run on the CPU, unless JAX_PLATFORMS is set.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# 'auto' would mean another dtype on another processor, and numbers would differ.
os.environ['SEQLAB_CPU_DTYPE'] = 'float32'

# Tests write many small files durably, which takes long on a disk.
if os.path.isdir('/dev/shm') and shutil.disk_usage('/dev/shm').free > 4 * 2**30:
  os.environ.setdefault('PYTEST_DEBUG_TEMPROOT', '/dev/shm')

# Most tests take longer to compile than to run, and so do the processes that they start,
# which inherit these settings. Slow tests of tests/metrics turn optimisations on.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
# The older emitters compile faster, and dividing a program for several threads is useless,
# because each worker has one.
os.environ['XLA_FLAGS'] = ' '.join(
  [
    *([os.environ['XLA_FLAGS']] if 'XLA_FLAGS' in os.environ else []),
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_cpu_parallel_codegen_split_count=1',
  ]
)

import jax
from jax._src import compilation_cache  # has no public interface for other caches

# Tracing creates millions of objects but little cyclic garbage. With Python's default
# thresholds, collecting it takes a tenth of the tests' time.
gc.freeze()
gc.set_threshold(200_000, 50, 100)

jax.config.update('jax_num_cpu_devices', 8)
jax.config.update('jax_disable_most_optimizations', True)  # if JAX was imported before

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from seqlab.programs import Programs  # noqa: E402


def _shared_folder(tmp_path_factory):
  """Returns a new folder of the session, which all workers share."""
  folder = tmp_path_factory.getbasetemp()
  return folder.parent if 'PYTEST_XDIST_WORKER' in os.environ else folder


@pytest.fixture(autouse=True, scope='session')
def _session_cache(tmp_path_factory):
  """Replaces the user's cache, so that tests neither read nor write it."""
  cache = tmp_path_factory.mktemp('cache')
  # All workers share compiled programs. JAX's own files may be read incomplete.
  programs = _shared_folder(tmp_path_factory) / 'xla'
  compilation_cache.get_file_cache = lambda path: (Programs(path), path)
  jax.config.update('jax_compilation_cache_dir', str(programs))
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.3)
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('SEQLAB_CACHE', str(cache))
    yield


def _write(path, lines):
  path.write_text(''.join(f'{line}\n' for line in lines), 'utf-8')


def _once(tmp_path_factory, name, make):
  """Makes a folder once for all workers of the session, and returns it."""
  shared = _shared_folder(tmp_path_factory)
  folder = shared / name
  with open(shared / f'{name}.lock', 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not (done := shared / f'{name}.done').exists():
      shutil.rmtree(folder, ignore_errors=True)
      make(folder)
      done.touch()
  return folder


def _write_corpus(folder):
  folder.mkdir()
  random = np.random.default_rng(0)
  for split, pairs in (('train', 160), ('valid', 21), ('test', 13)):
    lines = [
      [f'w{i}' for i in random.integers(0, 12, random.integers(1, 9))]
      for _ in range(pairs)
    ]
    _write(folder / f'{split}.en', [' '.join(words) for words in lines])
    _write(folder / f'{split}.de', [' '.join(words[::-1]) for words in lines])


@pytest.fixture(scope='session')
def corpus_files(tmp_path_factory):
  """Returns three splits of two text files; the target is the source reversed.

  All workers use the same path, because it is part of the run that they share.
  """
  folder = _once(tmp_path_factory, 'corpus', _write_corpus)
  splits = ('train', 'valid', 'test')
  return {s: [str(folder / f'{s}.en'), str(folder / f'{s}.de')] for s in splits}


@pytest.fixture(scope='session')
def tiny(corpus_files):
  """The smallest complete experiment, on one device: reversing a sequence of words."""
  return {
    'task': 'tasks.translation:Translation',
    'seed': 0,
    'steps': 12,
    'corpus': {'source': 'en', 'target': 'de', 'files': corpus_files},
    'vocabulary': {'kind': 'word', 'size': 100, 'shared': True},
    # One shape, here and of the evaluator: a program per shape takes long to trace.
    'batching': {'kind': 'buckets', 'tokens': 160, 'shapes': 1},
    'model': {
      'kind': 'transformer',
      'width': 16,
      'mlp_width': 32,
      'heads': 2,
      'layers': 1,
    },
    'hyper': {'peak': 1e-2, 'dropout': 0.1, 'label_smoothing': 0.1},
    'schedule': {'kind': 'constant', 'warmup': 4},
    'optimizer': {'kind': 'adam'},
    'mesh': {'data': 1, 'devices': 1},
    'evals': {
      'valid': {
        'type': 'translation',
        'split': 'valid',
        'every': 4,
        'beam': 1,
        'shapes': 1,
      }
    },
    'keep_best': 'valid/bleu',
  }


@pytest.fixture(scope='session')
def finished(tiny, tmp_path_factory):
  """The folder of an uninterrupted run of `tiny`; tests must not change it."""
  from seqlab.train.loop import train

  return _once(tmp_path_factory, 'finished', lambda folder: train(tiny, folder))


@pytest.fixture
def small_disk(tmp_path):
  """A disk of one megabyte."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  if not shutil.which('mount'):
    pytest.skip('the command mount is not installed')
  command = ['mount', '-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', str(folder)]
  mounted = subprocess.run(command, capture_output=True, text=True)
  if mounted.returncode:
    pytest.skip(f'a small disk cannot be mounted here: {mounted.stderr.strip()}')
  yield folder
  # Lazily, because memory-mapped files are still open.
  subprocess.run(['umount', '--lazy', str(folder)], check=True)


@pytest.fixture
def fill():
  """A function that fills a disk with one file and returns the file's path."""

  def fill(disk):
    filler = disk / 'filler'
    with contextlib.suppress(OSError), filler.open('wb', 0) as file:
      while True:
        file.write(b'x' * 2**10)
    return filler

  return fill


@pytest.fixture
def bucket(tmp_path, monkeypatch):
  """A local folder that imitates s3://bucket with the interface of the real driver.

  It has a `path`, and a `driver` whose next `refusals` writes fail.
  """
  from etils.epath.backend import _FileSystemSpecBackend
  from fsspec.implementations.local import LocalFileSystem

  class Buckets(LocalFileSystem):
    protocol = ('s3',)
    refusals = 0

    @classmethod
    def _strip_protocol(cls, path):
      path = os.fspath(path)
      if path.startswith('s3://'):
        path = f'{tmp_path}/{path.removeprefix("s3://")}'
      return super()._strip_protocol(path)

    def _open(self, path, mode='rb', **options):
      if 'w' in mode and Buckets.refusals:
        Buckets.refusals -= 1
        raise ConnectionResetError('connection reset by peer')
      return super()._open(path, mode, **options)

  monkeypatch.setitem(sys.modules['fsspec.registry']._registry, 's3', Buckets)
  # etils asks fsspec only once for each kind of bucket.
  _FileSystemSpecBackend._get_filesystem.cache_clear()
  (tmp_path / 'bucket').mkdir()
  yield SimpleNamespace(path=tmp_path / 'bucket', driver=Buckets)
  _FileSystemSpecBackend._get_filesystem.cache_clear()

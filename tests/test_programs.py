"""Programs that are found without tracing, and what their key contains."""

from contextlib import nullcontext
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab import programs, sources
from seqlab.programs import compile_program, fingerprint_of

PROGRAM = """
import os, sys
from seqlab.train.runtime import prepare
prepare(1, use_program_index=True)
import jax, jax.numpy as jnp
from seqlab.programs import compile_program
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
fingerprint, *matmul = sys.argv[1:]
if matmul:
  jax.config.update('jax_default_matmul_precision', matmul[0])

def product(x, y):
  print('traced')
  return {'product': jnp.sin(x @ y['y']).sum()}

x = jnp.arange(9.0).reshape(3, 3)
compiled = compile_program(jax.jit(product), x, {'y': x}, fingerprint=fingerprint)
print(compiled(x, {'y': x}))
"""


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
  """The folder of a cache that holds the program of fingerprint 'a'."""
  folder = tmp_path_factory.mktemp('programs')
  script = folder / 'script.py'
  script.write_text(PROGRAM)
  os.utime(script, (1e9, 1e9))  # it is older than the processes that run it
  _run(folder, 'a')
  return folder


def _run(cache, *arguments, **environment):
  """Runs the script; returns whether it traced, and its result."""
  removed = ('NPROC', 'JAX_COMPILATION_CACHE_DIR', 'XLA_FLAGS')
  kept = {k: v for k, v in os.environ.items() if k not in removed}
  out = subprocess.run(
    [sys.executable, '-W', 'error', str(cache / 'script.py'), *arguments],
    env=kept | {'SEQLAB_CACHE': str(cache / 'cache')} | environment,
    capture_output=True,
    text=True,
    check=True,
  )
  *traced, result = out.stdout.splitlines()
  return traced == ['traced'], result


def test_a_second_process_traces_nothing(cache):
  assert not _run(cache, 'a')[0]


@pytest.mark.parametrize('kind', ['index-*', 'jit_product*'])
def test_a_damaged_file_is_compiled_again(cache, kind):
  [folder] = (cache / 'cache/xla').iterdir()
  for file in folder.glob(kind):
    file.write_bytes(file.read_bytes()[:-9])
  traced, result = _run(cache, 'a')
  assert traced
  assert _run(cache, 'a') == (False, result)


def test_an_edit_of_code_is_another_program(cache):
  (cache / 'beside.py').write_text('x = 1')  # as an editor does, before the start
  assert _run(cache, 'a')[0]
  (cache / 'beside.py').unlink()


def test_code_that_is_newer_than_the_process_has_no_key(tmp_path):
  file = tmp_path / 'module.py'
  file.write_text('')
  os.utime(file, (1e9, 1e9))
  assert sources._digest([file]) is not None
  file.touch()
  assert sources._digest([file]) is None


def test_a_package_that_is_installed_after_the_start_has_no_key(tmp_path, monkeypatch):
  package = tmp_path / 'package-1.0.dist-info'
  package.mkdir()
  monkeypatch.setattr(sys, 'path', [str(tmp_path)])
  assert sources._installed() is None
  os.utime(package, (1e9, 1e9))
  assert sources._installed() == [(package.name, 10**18)]


@pytest.mark.parametrize('after', ['code', 'edited code'])
def test_code_that_is_edited_during_tracing_is_not_stored(after, tmp_path, monkeypatch):
  stored, digests, kept = programs.Programs(str(tmp_path)), iter(['code', after]), []
  monkeypatch.setattr(programs, '_programs', stored)
  monkeypatch.setattr(programs, 'code_digest', lambda: next(digests))
  monkeypatch.setattr(programs, '_write', lambda *_: b'entry')
  monkeypatch.setattr(stored, 'file', lambda key: tmp_path)  # as if JAX kept it
  monkeypatch.setattr(stored, 'requested_keys', lambda: nullcontext(['jit']))
  monkeypatch.setattr(stored, 'put', lambda *_, private: kept.append(private))
  assert compile_program(jax.jit(lambda x: x - 3), 4.0, fingerprint='a')(4.0) == 1.0
  assert kept == ([True] if after == 'code' else [])


def test_what_another_user_could_have_written_is_not_read(tmp_path, monkeypatch):
  stored = programs.Programs(str(tmp_path))
  stored.put('a', b'entry', private=True)
  assert stored.get_own('a') == b'entry'
  stored.file('a').chmod(0o666)
  assert stored.get_own('a') is None
  stored.file('a').chmod(0o600)
  monkeypatch.setattr(os, 'geteuid', lambda: 12345)
  assert stored.get_own('a') is None
  assert stored.get('a') == b'entry'


@pytest.fixture
def key(monkeypatch):
  """A function: fingerprint and arguments -> key, whatever this process has loaded."""
  monkeypatch.setattr(programs, 'code_digest', lambda: 'code')
  return lambda fingerprint, *args, **named: programs._key(fingerprint, args, named)


def _array(shape=(2, 3), dtype=jnp.float32):
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.ShapeDtypeStruct(shape, dtype, sharding=device)


def test_the_key_has_all_that_determines_a_program(key, monkeypatch):
  x = _array()
  keys = [
    key('a', x),
    key('b', x),
    key('a', x, x),
    key('a', {'x': x}),
    key('a', x=x),
    key('a', _array((3, 2))),
    key('a', _array(dtype=jnp.bfloat16)),
    key('a', np.ones((2, 3), np.float32)),
  ]
  monkeypatch.setenv('NPROC', '7')
  keys.append(key('a', x))
  monkeypatch.setenv('FLAX_FIX_RNG_SEPARATOR', '1')
  keys.append(key('a', x))
  monkeypatch.setattr(programs, '_machine', lambda: 'another processor')
  keys.append(key('a', x))
  monkeypatch.setattr(programs, 'code_digest', lambda: 'another edition')
  keys.append(key('a', x))
  with jax.default_matmul_precision('float32'):
    keys.append(key('a', x))
  assert len(keys) == len(set(keys)) == 13
  assert key('a', x) == keys[-2]


def test_what_cannot_be_known_has_no_key(key, monkeypatch):
  mesh = jax.make_mesh((2,), ('data',), devices=jax.devices()[:2])
  both = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  assert key('a', jax.ShapeDtypeStruct((2,), jnp.float32, sharding=both)) is None
  monkeypatch.setattr(programs, 'code_digest', lambda: None)
  assert key('a', _array()) is None
  assert fingerprint_of('a', object()) is None
  assert fingerprint_of('a', None) is None


def test_without_an_index_a_function_is_compiled():
  compiled = compile_program(jax.jit(lambda x: x + 1), 1.0, fingerprint='a')
  assert compiled(1.0) == 2.0


def test_only_seqlabs_own_experiments_have_a_fingerprint(tiny):
  from seqlab.tasks.translation import Translation
  from seqlab.train.fingerprint import program_fingerprint

  class Mine(Translation):
    """May read further data."""

  class Side:
    fingerprint = 'digest'

  class Sides:
    source = target = Side()

  own, mine = object.__new__(Translation), object.__new__(Mine)
  own.vocabularies = mine.vocabularies = Sides()
  found = program_fingerprint(tiny, own)
  assert found == program_fingerprint(tiny | {'seed': 3, 'evals': {}}, own)
  assert found != program_fingerprint(tiny | {'ema': 0.9}, own)
  assert found != program_fingerprint(tiny, own, 'evaluators')
  for dtype in ('float32', 'bfloat16'):  # in place of 'auto', see `train.machine`
    own.model = SimpleNamespace(dtype=dtype)
    assert program_fingerprint(tiny, own) not in (found, None)
    found = program_fingerprint(tiny, own)
  assert program_fingerprint(tiny, mine) is None
  model = {'kind': 'my_package.models:Mine'}
  assert program_fingerprint(tiny | {'model': model}, own) is None

"""Threads of a CPU device, and the cache of compiled programs."""

import os
import subprocess
import sys

import pytest

from seqlab.programs import Programs
from seqlab.train.runtime import prepare

CODE = """
from pathlib import Path
from seqlab.train.runtime import prepare
prepare({threads})
import jax, jax.numpy as jnp
jnp.zeros(()).block_until_ready()
names = [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]
print(sum('XLAEigen' in name for name in names))
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='counts threads in /proc')
@pytest.mark.parametrize('threads', [1, 3])
def test_a_device_has_the_given_number_of_threads(threads, tmp_path):
  replaced = ('NPROC', 'JAX_COMPILATION_CACHE_DIR')
  environment = {k: v for k, v in os.environ.items() if k not in replaced}
  out = subprocess.run(
    [sys.executable, '-c', CODE.format(threads=threads)],
    env=environment | {'SEQLAB_CACHE': str(tmp_path)},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()
  assert out == [str(threads), f'{tmp_path}/xla/{threads}-threads']


def test_zero_threads_are_refused():
  with pytest.raises(ValueError, match='threads is 0; it must be 1 or more'):
    prepare(0)


PROGRAM = """
from seqlab.train.runtime import prepare
prepare(1)
import jax, jax.numpy as jnp
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
print(float(jax.jit(lambda x: jnp.sin(x @ x).sum())(jnp.arange(9.0).reshape(3, 3))))
"""


def compile_and_run(cache):
  replaced = ('NPROC', 'JAX_COMPILATION_CACHE_DIR', 'JAX_COMPILATION_CACHE_MAX_SIZE')
  environment = {k: v for k, v in os.environ.items() if k not in replaced}
  return subprocess.run(
    [sys.executable, '-W', 'error', '-c', PROGRAM],
    env=environment | {'SEQLAB_CACHE': str(cache)},
    capture_output=True,
    text=True,
    check=True,
  )


def test_a_damaged_program_is_named_and_compiled_again(tmp_path):
  right = compile_and_run(tmp_path)
  assert not right.stderr
  [program] = (tmp_path / 'xla/1-threads').glob('jit__lambda*.program')
  program.write_bytes(b'')
  done = compile_and_run(tmp_path)
  assert done.stdout == right.stdout
  assert f'{program} in the cache is damaged; it is compiled' in done.stderr
  assert len(program.read_bytes()) > 500  # kept again


def test_a_cache_that_cannot_be_written_is_reported_once(tmp_path):
  path = tmp_path / 'file'
  path.write_text('')
  done = compile_and_run(path)
  assert float(done.stdout)
  assert done.stderr.count('compiled programs are not kept') == 1


def test_programs_are_stored_completely(tmp_path):
  programs = Programs(str(tmp_path / 'a [b]'))
  assert programs.get('x') is None
  programs.put('x', b'program')
  assert programs.get('x') == b'program'


@pytest.mark.parametrize('data', [b'', b'short', bytes(99)])
def test_a_damaged_program_is_read_as_none(tmp_path, capsys, data):
  programs = Programs(str(tmp_path))
  programs.put('x', b'program')
  [path] = tmp_path.iterdir()
  path.write_bytes(data)
  assert programs.get('x') is None
  assert f'{path} in the cache is damaged' in capsys.readouterr().err
  programs.put('x', b'program')
  assert programs.get('x') == b'program'

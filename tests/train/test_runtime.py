"""Threads of a CPU device, and programs kept for as many."""

import os
import subprocess
import sys

import pytest

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
def test_a_device_has_as_many_threads_as_asked(threads, tmp_path):
  own = ('NPROC', 'JAX_COMPILATION_CACHE_DIR')
  environment = {k: v for k, v in os.environ.items() if k not in own}
  out = subprocess.run(
    [sys.executable, '-c', CODE.format(threads=threads)],
    env=environment | {'SEQLAB_CACHE': str(tmp_path)},
    capture_output=True,
    text=True,
    check=True,
  ).stdout.splitlines()
  assert out == [str(threads), f'{tmp_path}/xla/{threads}-threads']


def test_none_at_all_is_refused():
  with pytest.raises(ValueError, match='threads is 0; it must be 1 or more'):
    prepare(0)

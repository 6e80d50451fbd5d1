"""Eight pretended CPU devices, and a cache of the session's own, for every test."""

import os

# Where there is a GPU the tests still run on the CPU, unless told otherwise.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax  # noqa: E402

jax.config.update('jax_num_cpu_devices', 8)

import pytest  # noqa: E402


@pytest.fixture(autouse=True, scope='session')
def _session_cache(tmp_path_factory):
  """Nothing is read from the user's cache, and nothing is left in it.

  XLA's persistent cache stays off: its files are not written atomically, so that a
  test run that was killed would leave one that warns in every run after it.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('SEQLAB_CACHE', str(tmp_path_factory.mktemp('cache')))
    yield

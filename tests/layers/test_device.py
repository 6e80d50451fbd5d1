"""What depends on the device follows the mesh that a program is compiled for."""

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh
import pytest

from seqlab.layers import device
from seqlab.models.interface import compute_dtype


def _mesh(platform, kind):
  abstract = AbstractDevice(device_kind=kind, num_cores=None, platform=platform)
  return AbstractMesh((2,), ('data',), abstract_device=abstract)


@pytest.mark.parametrize(
  ('platform', 'kind', 'name', 'dtype'),
  [
    ('tpu', 'TPU v5 lite', 'tpu', jnp.bfloat16),
    ('cuda', 'NVIDIA H200', 'gpu', jnp.bfloat16),
    ('cpu', 'cpu', 'cpu', jnp.float32),
  ],
)
def test_the_mesh_decides_where_a_program_is_compiled_for(platform, kind, name, dtype):
  with jax.sharding.use_abstract_mesh(_mesh(platform, kind)):
    assert device.platform() == name
    assert compute_dtype('auto') == dtype


def test_a_function_is_traced_again_for_another_kind_of_device():
  double = jax.jit(lambda x: x.astype(compute_dtype('auto')))
  x = jax.ShapeDtypeStruct((4,), jnp.float32)
  dtypes = []
  for platform in ('cpu', 'tpu'):
    with jax.sharding.use_abstract_mesh(_mesh(platform, platform)):
      dtypes.append(double.eval_shape(x).dtype)
  assert dtypes == [jnp.float32, jnp.bfloat16]


def test_without_a_mesh_it_is_the_first_device():
  assert device.platform() == jax.devices()[0].platform


@pytest.mark.parametrize(
  ('flags', 'fast'),
  [
    ('fpu sse2 avx2 avx512f', False),
    ('avx512f avx512_bf16 avx512_vnni', True),
    ('avx512f amx_bf16 amx_tile', True),
    ('avx512_bf16x', False),
  ],
)
def test_flags_of_a_cpu_say_whether_bfloat16_is_fast(flags, fast, tmp_path):
  file = tmp_path / 'cpuinfo'
  file.write_text(f'processor\t: 0\nflags\t\t: {flags}\nbogomips : 5\n', 'utf-8')
  assert device.multiplies_bfloat16(device.cpu_flags(file)) == fast


def test_a_system_without_flags_has_no_fast_bfloat16(tmp_path):
  assert not device.multiplies_bfloat16(device.cpu_flags(tmp_path / 'missing'))


@pytest.mark.parametrize('name', ['float32', 'bfloat16'])
def test_a_variable_decides_for_cpus(name, monkeypatch):
  monkeypatch.setenv('SEQLAB_CPU_DTYPE', name)
  assert compute_dtype('auto') == name

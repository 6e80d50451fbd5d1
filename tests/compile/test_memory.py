"""Messages of devices without memory."""

import jax
import jax.numpy as jnp
import pytest

from seqlab import cli
from seqlab.compile.memory import is_out_of_memory
from seqlab.programs import compile_program


def _square(state, x):
  return jnp.sort(jnp.sin(x)[:, None] * jnp.cos(x)[None], axis=0).sum() + state['bias']


@pytest.fixture
def error():
  """The error of a program whose temporary arrays take 70 terabytes."""
  x = jax.ShapeDtypeStruct((2**22,), jnp.float32)
  state = {'bias': jax.ShapeDtypeStruct((), jnp.float32)}
  program = compile_program(jax.jit(_square), state, x)
  with pytest.raises(jax.errors.JaxRuntimeError) as raised:
    program({'bias': jnp.float32(0)}, jnp.ones(x.shape)).block_until_ready()
  return raised.value


def test_the_command_names_the_largest_arrays_and_what_to_set(error, capsys):
  def run(args, rest):
    raise error

  args = cli.command_parser().parse_args(['train', 'x.py', '--workdir', 'x'])
  args.run = run
  assert cli._status_of(args, []) == 1
  first, title, *arrays, advice = capsys.readouterr().err.strip().split('\n')
  assert 'no memory for this: Out of memory allocating 7' in first
  assert title == 'the largest arrays of the largest program, on one device:'
  assert arrays[0] == '   16.8 MB  float32[4194304], the argument number 2'
  assert arrays[1] == '       4 B  float32[], the argument bias'
  assert '70.4 TB' in arrays[2]
  assert 'f32[4194304,4194304]' in arrays[2]
  assert advice.startswith('Lower batching.tokens, set accumulate=2 or more')


@pytest.mark.parametrize(
  ('error', 'expected'),
  [
    (RuntimeError('RESOURCE_EXHAUSTED: Out of memory'), False),  # not of a device
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: No space left on disk'), False),
    (jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Ran out of memory on HBM'), True),
    (jax.errors.JaxRuntimeError('INTERNAL: out of memory'), False),
  ],
)
def test_only_devices_without_memory_are_explained(error, expected):
  assert is_out_of_memory(error) == expected

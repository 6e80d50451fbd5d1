"""The text of a compiled program is read with its loops and asynchronous calls."""

import jax
import jax.numpy as jnp
import pytest

from seqlab.compile.collectives import collectives, summary
from seqlab.compile.hlo import Module

_SUM = """
%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %r = f32[] add(%a, %b)
}
"""


def _module(lines, computations='', devices=8):
  body = '\n'.join(f'  {line}' for line in lines)
  head = f'HloModule jit_step, is_scheduled=true, num_partitions={devices}\n'
  return Module(
    f'{head}{_SUM}{computations}\nENTRY %main (x: f32[4]) -> f32[4] {{\n{body}\n}}\n'
  )


def _only(lines, **kwargs):
  (collective,) = collectives(_module(lines, **kwargs))
  return collective


@pytest.mark.parametrize(
  ('written', 'groups'),
  [
    ('{{0,1},{2,3},{4,5},{6,7}}', [[0, 1], [2, 3], [4, 5], [6, 7]]),
    ('{}', [[0, 1, 2, 3, 4, 5, 6, 7]]),
    ('[2,4]<=[8]', [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ('[4,2]<=[2,4]T(1,0)', [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ('[4,2]<=[2,2,2]T(0,2,1)', [[0, 2], [1, 3], [4, 6], [5, 7]]),
    ("mesh['a'=2,'b'=4] {'b'}", [[0, 1, 2, 3], [4, 5, 6, 7]]),
    ("mesh['a'=2,'b'=4] {'a'}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("mesh['a'=2,'b'=4] {'a','b'}", [[0, 1, 2, 3, 4, 5, 6, 7]]),
    (
      "mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}",
      [[0, 1], [2, 3], [4, 5], [6, 7]],
    ),
    ("mesh['a'=8] {'a':(1)2}", [[0, 4], [1, 5], [2, 6], [3, 7]]),
    ("mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
  ],
)
def test_device_groups_are_read_in_every_notation(written, groups):
  line = (
    f'ROOT %r = f32[4]{{0}} all-reduce(%x), replica_groups={written}, to_apply=%sum'
  )
  collective = _only(['%x = f32[4]{0} parameter(0)', line])
  assert sorted(map(sorted, collective.groups.tolist())) == groups


@pytest.mark.parametrize(
  ('line', 'size'),
  [
    ('f32[4,8]{1,0} all-reduce(%x)', 128),
    ('(f32[4]{0}, /*index=1*/bf16[8]{0}) all-reduce(%x, %y)', 32),
    ('f32[32]{0} all-gather(%x)', 128),
    ('(f32[4]{0}, f32[32]{0}) all-gather-start(%x)', 128),
    ('f32[4]{0} reduce-scatter(%x)', 128),
    ('(f32[4]{0}, f32[4]{0}, u32[], u32[]) collective-permute-start(%x)', 16),
    ('(f32[1,4]{1,0}, f32[1,4]{1,0}) all-to-all(%x, %y)', 32),
  ],
)
def test_bytes_are_those_of_the_whole_array(line, size):
  groups = 'replica_groups=[1,8]<=[8]'
  if 'permute' in line:
    groups = 'source_target_pairs={{0,1},{1,0}}'
  collective = _only([f'ROOT %r = {line}, {groups}, to_apply=%sum'])
  assert collective.bytes == size
  assert collective.arrays == (2 if 'y) ' in f'{line} ' and 'to-all' not in line else 1)


def test_asynchronous_collectives_are_counted_once_at_their_start():
  lines = [
    '%s = f32[4]{0} all-reduce-start(%x), replica_groups={}, to_apply=%sum',
    'ROOT %r = f32[4]{0} all-reduce-done(%s)',
  ]
  assert _only(lines).kind == 'all-reduce'


def test_a_single_device_sends_nothing():
  line = 'ROOT %r = f32[4]{0} all-reduce(%x), replica_groups={{0},{1}}, to_apply=%sum'
  assert not collectives(_module([line], devices=2))


@pytest.mark.parametrize(('trips', 'runs', 'endless'), [('7', 7, []), (None, 1, ['w'])])
def test_the_body_of_a_loop_counts_once_per_iteration(trips, runs, endless):
  body = """
%body (p: f32[4]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  ROOT %g = f32[4]{0} all-reduce(%p), replica_groups={}, to_apply=%sum
}
"""
  config = f', backend_config={{"known_trip_count":{{"n":"{trips}"}}}}' if trips else ''
  module = _module(
    [f'ROOT %w = f32[4]{{0}} while(%x), condition=%c, body=%body{config}'],
    computations=body,
  )
  assert [collective.runs for collective in collectives(module)] == [runs]
  assert module.endless == endless


def test_values_that_are_widened_for_the_cpu_count_at_their_original_size():
  fused = """
%fused (p: bf16[4]) -> f32[4] {
  %p = bf16[4]{0} parameter(0)
  %c = f32[4]{0} convert(%p)
  ROOT %t = f32[4]{0} bitcast(%c)
}
"""
  lines = [
    '%x = bf16[4]{0} parameter(0)',
    '%f = f32[4]{0} fusion(%x), kind=kLoop, calls=%fused',
    'ROOT %r = f32[4]{0} all-reduce(%f), replica_groups={}, to_apply=%sum',
  ]
  assert _only(lines, computations=fused).bytes == 8


def test_products_in_nested_loops_count_once_per_iteration():
  def inner(x, _):
    return jnp.tanh(x @ x), None

  def outer(x, _):
    return jax.lax.scan(inner, x, length=3)[0], None

  program = jax.jit(lambda x: jax.lax.scan(outer, x, length=5)[0])
  module = Module(program.lower(jnp.ones((16, 16))).compile().as_text())
  assert module.flops == 15 * 2 * 16**3
  assert module.product_elements == 15 * 3 * 16**2


def test_axes_are_named_and_summed():
  lines = [
    '%a = f32[4]{0} all-reduce(%x), replica_groups=[4,2]<=[8], to_apply=%sum',
    '%b = f32[4]{0} all-reduce(%a), replica_groups=[4,2]<=[8], to_apply=%sum',
    'ROOT %r = f32[8]{0} all-gather(%b), replica_groups=[4,2]<=[2,2,2]T(0,2,1)',
  ]
  totals = summary(collectives(_module(lines)), {'data': 2, 'fsdp': 2, 'tensor': 2})
  assert totals == {
    ('all-reduce', ('tensor',)): (2, 32),
    ('all-gather', ('fsdp',)): (1, 32),
  }


def test_text_that_is_not_a_program_is_refused():
  with pytest.raises(ValueError, match='no ENTRY'):
    Module('something else\n')

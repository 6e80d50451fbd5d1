"""The time and the memory of real programs of a TPU and a GPU, see `programs.py`."""

import base64
import io

from jaxlib.mlir import ir
from jaxlib.mosaic.python import tpu
import pytest

from seqlab.compile import work
from seqlab.compile.buffers import largest_buffers
from seqlab.compile.chips import CHIPS
from seqlab.compile.collectives import collectives
from seqlab.compile.cost import Costs
from seqlab.compile.hlo import Module, Shape

LAYERS, WIDTH, ROWS = 3, 8, 2**21  # rows of one device of four
CHIP_NAMES = ('v5e', 'h200')


@pytest.mark.parametrize('chip', CHIP_NAMES)
def test_the_body_of_a_scan_runs_once_per_layer(program, chip):
  module = program(chip)
  loops = [
    (name, one)
    for name in module.scheduled
    for one in module.computations[name].values()
    if one.kind == 'while'
  ]
  assert [module.trips(*loop) for loop in loops] == [LAYERS, LAYERS]
  assert not module.endless


@pytest.mark.parametrize('chip', CHIP_NAMES)
def test_products_are_counted_in_dots_convolutions_and_calls(program, chip):
  module = program(chip)
  done = work.operations(module)
  flops = sum(runs * work.flops(module, name, one) for runs, name, one in done)
  products = 3 * LAYERS  # forward, and the gradients of both sides
  assert flops == products * 2 * ROWS * WIDTH * WIDTH


def test_the_time_on_a_tpu_is_the_compilers_cycles_with_the_rest_listed(program):
  costs = Costs(program('v5e'), CHIPS['v5e'])
  kinds = {cost.instruction.kind for cost in costs.items}
  assert kinds & {'fusion', 'copy', 'all-reduce'} == {'fusion', 'copy', 'all-reduce'}
  assert costs.seconds_of('compiler') > 0.8 * costs.seconds
  listed = sum(seconds for _, seconds in costs.unestimated.values())
  assert listed == pytest.approx(costs.seconds_of('analytic'))
  assert listed > 0
  (reduce,) = (x for x in costs.items if x.instruction.kind == 'all-reduce')
  assert reduce.source == 'waiting'


def test_the_time_on_a_gpu_is_at_least_that_of_its_memory_traffic(program):
  module, chip = program('h200'), CHIPS['h200']
  done = work.operations(module)
  moved = sum(runs * work.traffic(module, name, one) for runs, name, one in done)
  costs = Costs(module, chip)
  assert costs.seconds_of('analytic') > moved / chip.memory_speed
  # Each layer reads its input, and writes its output and what the gradient needs.
  assert moved > 3 * LAYERS * 4 * ROWS * WIDTH
  assert not costs.unestimated


@pytest.mark.parametrize('chip', CHIP_NAMES)
def test_the_largest_arrays_are_the_stacked_residuals_and_name_the_layer(program, chip):
  first = largest_buffers(program(chip), 3)[0]
  assert first.array == f'f32[{LAYERS},{ROWS},{WIDTH}]'
  assert first.bytes == 4 * LAYERS * ROWS * WIDTH
  assert 'while/body' in first.layer
  assert first.source.startswith('tests/compile/programs.py:')


@pytest.mark.parametrize(
  ('layout', 'size'),
  [
    ('', 4 * 100 * 3),
    ('1,0:T(8,128)', 4 * 104 * 128),
    ('0,1:T(8,128)', 4 * 128 * 8),
    ('1,0:T(8,128)S(1)', 4 * 104 * 128),
  ],
)
def test_tiles_fill_up_the_last_axes(layout, size):
  shape = Shape('f32', (100, 3), layout)
  assert shape.padded_bytes == size
  assert shape.in_main_memory == ('S(1)' not in layout)


_LOOP = """HloModule jit_f, is_scheduled=true

%body (b: s32[]) -> s32[] {
  ROOT %b = s32[] parameter(0)
}

%condition (c: (s32[])) -> pred[] {
  %c = (s32[]) parameter(0)
  %i = s32[] get-tuple-element(%c), index=0
  %limit = s32[] constant(LIMIT)
  ROOT %less = pred[] compare(%i, %limit), direction=DIRECTION
}

ENTRY %main (x: s32[]) -> (s32[]) {
  %start = s32[] constant(2)
  %begin = (s32[]) tuple(%start)
  ROOT %loop = (s32[]) while(%begin), condition=%condition, body=%body
}
"""


def _loop(limit, direction, trips=1):
  text = _LOOP.replace('LIMIT', str(limit)).replace('DIRECTION', direction)
  return Module(text, trips)


def test_a_loop_counts_from_its_start_to_the_bound_of_its_condition():
  module = _loop(9, 'LT')
  assert module.scheduled['body'] == 7
  assert module.endless == []


def test_a_loop_without_a_bound_is_named_and_runs_as_often_as_it_is_told():
  module = _loop(9, 'NE', trips=5)
  assert module.scheduled['body'] == 5
  assert module.endless == ['loop']


_COPIES = """HloModule jit_f, is_scheduled=true

%inside (a: f32[8]) -> f32[8] {
  %a = f32[8] parameter(0)
  ROOT %r = f32[8] negate(%a)
}

ENTRY %main (x: f32[2000000]) -> f32[8] {
  %x = f32[2000000] parameter(0)
  %y = f32[8] constant({...})
  %start = (f32[2000000]{0:S(1)}, f32[2000000]{0}, u32[]) copy-start(%x)
  %work = f32[8] fusion(%y), kind=kLoop, calls=%inside, backend_config={"estimated_cycles":"CYCLES"}
  %done = f32[2000000]{0:S(1)} copy-done(%start)
  ROOT %end = f32[8] fusion(%work), kind=kLoop, calls=%inside, backend_config={"estimated_cycles":"1"}
}
"""


@pytest.mark.parametrize(('cycles', 'waited'), [(0, 10e-6), (7500, 5e-6), (15_000, 0)])
def test_a_transfer_costs_what_other_instructions_do_not_cover(cycles, waited):
  # 8 MB at 0.8 TB/s are 10 us; 7,500 cycles at 1.5 GHz are 5 us.
  costs = Costs(Module(_COPIES.replace('CYCLES', str(cycles))), CHIPS['v5e'])
  assert costs.seconds_of('waiting') == pytest.approx(waited, abs=1e-9)


def test_a_kernel_that_the_compiler_does_not_estimate_is_not_free():
  text = _COPIES.replace(', backend_config={"estimated_cycles":"CYCLES"}', '')
  costs = Costs(Module(text), CHIPS['v5e'])
  assert costs.unestimated['fusion'][1] > 0


_BRANCHES = """HloModule jit_f, is_scheduled=true

%short (a: f32[8]) -> f32[8] {
  %a = f32[8] parameter(0)
  ROOT %r = f32[8] negate(%a), backend_config={"estimated_cycles":"1500"}
}

%long (b: f32[8]) -> f32[8] {
  %b = f32[8] parameter(0)
  ROOT %q = f32[8] negate(%b), backend_config={"estimated_cycles":"15000"}
}

ENTRY %main (x: f32[8], p: pred[]) -> f32[8] {
  %x = f32[8] parameter(0)
  %p = pred[] parameter(1)
  ROOT %y = f32[8] conditional(%p, %x, %x), true_computation=%short, false_computation=%long
}
"""


def test_a_conditional_costs_its_most_expensive_branch():
  costs = Costs(Module(_BRANCHES), CHIPS['v5e'])
  assert [cost.computation for cost in costs.items] == ['long']
  assert costs.seconds == pytest.approx(10e-6)


_CUBLAS = """HloModule jit_f, is_scheduled=true

ENTRY %main (x: bf16[64,32], y: bf16[32,16]) -> (bf16[64,16], s8[33554432]) {
  %x = bf16[64,32]{1,0} parameter(0)
  %y = bf16[32,16]{1,0} parameter(1)
  ROOT %z = (bf16[64,16]{1,0}, s8[33554432]{0}) custom-call(%x, %y), custom_call_target="__cublas$gemm", backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}}
}
"""


def test_the_memory_that_a_library_may_work_in_is_no_traffic():
  module = Module(_CUBLAS)
  ((_, name, one),) = work.operations(module)
  assert work.flops(module, name, one) == 2 * 64 * 32 * 16
  assert work.traffic(module, name, one) == 2 * (64 * 32 + 32 * 16 + 64 * 16)


_SCATTER = """HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%inside (t: f32[5000,8], i: s32[100,1], u: f32[100,8]) -> f32[5000,8] {
  %t = f32[5000,8] parameter(0)
  %i = s32[100,1] parameter(1)
  %u = f32[100,8] parameter(2)
  ROOT %s = f32[5000,8] scatter(%t, %i, %u), update_window_dims={1}, inserted_window_dims={0}, scatter_dims_to_operand_dims={0}, index_vector_dim=1, to_apply=%add
}

ENTRY %main (x: f32[5000,8], j: s32[100,1], v: f32[100,8]) -> f32[5000,8] {
  %x = f32[5000,8] parameter(0)
  %j = s32[100,1] parameter(1)
  %v = f32[100,8] parameter(2)
  ROOT %y = f32[5000,8] fusion(%x, %j, %v), kind=kCustom, calls=%inside
}
"""


def test_a_scatter_costs_the_rows_that_it_changes():
  module = Module(_SCATTER)
  ((_, name, one),) = work.operations(module)
  assert work.traffic(module, name, one) == 4 * (100 + 3 * 100 * 8)


# A sum of which each device keeps a share, and a gather that runs beside a product.
FUSED = """\
HloModule step, is_scheduled=true, num_partitions=2

%all-reduce-scatter (input: f32[64]) -> f32[32] {
  %input = f32[64]{0} parameter(0)
  %all-reduce.1 = f32[64]{0} all-reduce(%input), replica_groups={{0,1}}, to_apply=%add
  ROOT %dynamic-slice.1 = f32[32]{0} dynamic-slice(%all-reduce.1), dynamic_slice_sizes={32}
}

%started (a: f32[32]) -> f32[64] {
  %a = f32[32]{0} parameter(0)
  ROOT %all-gather.1 = f32[64]{0} all-gather(%a), replica_groups={{0,1}}, dimensions={0}
}

%async_collective_fusion.1 (b: f32[32]) -> f32[64] {
  %b = f32[32]{0} parameter(0)
  ROOT %all-gather.2 = f32[64]{0} all-gather(%b), replica_groups={{0,1}}, dimensions={0}
}

%ended (c: f32[32]) -> f32[64] {
  %c = f32[32]{0} parameter(0)
  ROOT %all-gather.3 = f32[64]{0} all-gather(%c), replica_groups={{0,1}}, dimensions={0}
}

ENTRY %main (x: f32[64]) -> f32[64] {
  %x = f32[64]{0} parameter(0)
  %sum = f32[32]{0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter
  %async-collective-start.7 = f32[64]{0} fusion(%sum), kind=kCustom, calls=%started
  %beside = f32[64]{0} fusion(%sum), kind=kOutput, calls=%async_collective_fusion.1, backend_config={"estimated_cycles":"175000"}
  ROOT %async-collective-done.7 = f32[64]{0} fusion(%beside), kind=kCustom, calls=%ended
}
"""


def test_fused_collectives_are_counted_once_and_hidden_behind_computation():
  module, chip = Module(FUSED), CHIPS['v5p']
  sent = [(x.kind, x.bytes, x.runs) for x in collectives(module)]
  assert sent == [('reduce-scatter', 256, 1), ('all-gather', 256, 1)]
  costs = Costs(module, chip)
  times = {cost.instruction.name: cost.seconds for cost in costs.items}
  assert [*times] == ['sum', 'beside']  # nothing waits for the gather
  assert times['beside'] == pytest.approx(175_000 / chip.clock)


def _kernel(grid, parallel, size, clear):
  """Returns a program whose only instruction is a kernel, as a TPU's compiler keeps it."""
  semantics = 'parallel' if parallel else 'arbitrary'
  with ir.Context() as context:
    context.allow_unregistered_dialects = True
    tpu.register_dialect(context)
    body = ir.Module.parse(f"""
      "stable_mosaic.func.func"() ({{
      ^bb0(%i: i32, %q: vector<{size}x64xbf16>, %k: vector<{size}x64xbf16>,
           %s: vector<{size}x{size}xf32>):
        %y = "stable_mosaic.tpu.matmul"(%q, %k, %s) {{dimension_numbers =
          #tpu.dot_dimension_numbers<[1], [1], [0], [0], [0, 0, 1, 0], [], []>}} : (
          vector<{size}x64xbf16>, vector<{size}x64xbf16>, vector<{size}x{size}xf32>
          ) -> vector<{size}x{size}xf32>
        %from = "stable_mosaic.arith.constant"() {{value = 0 : i32}} : () -> i32
        %to = "stable_mosaic.arith.constant"() {{value = {clear} : i32}} : () -> i32
        %by = "stable_mosaic.arith.constant"() {{value = 1 : i32}} : () -> i32
        "stable_mosaic.scf.for"(%from, %to, %by) ({{
        ^bb0(%j: i32):
          %z = "stable_mosaic.arith.addf"(%y, %y) : (vector<{size}x{size}xf32>,
            vector<{size}x{size}xf32>) -> vector<{size}x{size}xf32>
          %e = "stable_mosaic.math.exp"(%z) : (vector<{size}x{size}xf32>)
            -> vector<{size}x{size}xf32>
          "stable_mosaic.scf.yield"() : () -> ()
        }}) : (i32, i32, i32) -> ()
        "stable_mosaic.func.return"() : () -> ()
      }}) {{iteration_bounds = array<i64: {grid}>, dimension_semantics =
        [#tpu.dimension_semantics<{semantics}>]}} : () -> ()
    """)
    file = io.BytesIO()
    body.operation.write_bytecode(file)
  code = base64.b64encode(file.getvalue()).decode()
  return Module(
    'HloModule jit_f, is_scheduled=true\n\nENTRY %main (x: bf16[8]) -> bf16[8] {\n'
    '  %x = bf16[8] parameter(0)\n  ROOT %y = bf16[8] custom-call(%x), '
    'custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={\n'
    '"xprof_metadata":"{}"\n}}, backend_config={"custom_call_config":'
    f'{{"body":"{code}"}}}}\n}}\n'
  )


@pytest.mark.parametrize(
  ('chip', 'parallel', 'size', 'clear', 'microseconds'),
  [
    # A step multiplies 512 rows with 512 columns in 4 units of 128 x 128, which 64 fill by
    # half: 512 cycles, at 1.5 GHz.
    ('v5e', False, 512, 0, 0.35 + 512 / 1500),
    # In units of 256 x 256: 256 cycles.
    ('v6e', False, 512, 0, 0.35 + 256 / 1750),
    # One core of two, with half of the units; and both.
    ('v5p', False, 512, 0, 0.35 + 512 / 1750),
    ('v5p', True, 512, 0, (0.35 + 512 / 1750) / 2),
    # 256 registers, of which 4 are added at a time and 1 exponentiated; 7 times.
    ('v5e', False, 512, 7, 0.35 + 7 * 256 * 1.25 / 1500),
  ],
)
def test_a_kernel_takes_the_time_of_its_grid(chip, parallel, size, clear, microseconds):
  module, steps = _kernel(96, parallel, size, clear), 96
  costs = Costs(module, CHIPS[chip])
  cycle = 1e-6 * 30 / (CHIPS[chip].clock / 1e6)  # to start the call
  assert costs.seconds == pytest.approx(steps * microseconds * 1e-6 + cycle, rel=0.01)
  assert costs.unestimated['custom-call'] == (1, costs.seconds)
  (kernel,) = (cost.instruction for cost in costs.items)
  flops = work.flops(module, 'main', kernel)
  assert flops == steps * 2 * size * 64 * size

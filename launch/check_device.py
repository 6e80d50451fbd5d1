r"""Measures this machine's devices, beside what `seqlab plan` estimates for them.

  python -m launch.check_device                        # a GPU or a TPU, up to 8 minutes
  python -m launch.check_device --json check.json --part decoding --part attention
  python -m launch.check_device --sizes tiny           # any machine, in a minute

Nothing is read or downloaded: training and decoding get random tokens, and the
evaluation the embedded corpus. Each part runs in a process of its own, so that one that
fails, even by a signal, is reported and the others run. `estimate` is that of
`seqlab.compile` for the very program that is measured; a CPU has none.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import functools
import json
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from launch.machine import environment
from seqlab.bench.measure import best, timed
from seqlab.compile.chips import Chip, chip_of
from seqlab.compile.cost import Costs
from seqlab.compile.hlo import Module
from seqlab.decoding.config import Beam
from seqlab.experiment import load_experiment
from seqlab.io.columns import aligned
from seqlab.io.processes import how_it_ended
from seqlab.layers.attention import MultiHeadAttention, causal_mask
from seqlab.layers.device import compiled_for
from seqlab.models.interface import compute_dtype
from seqlab.models.transformer import Transformer
from seqlab.plan.evaluation import search_seconds, step_reading
from seqlab.tasks import task_of
from seqlab.tasks.translator import decode
from seqlab.train.checks import make_evaluators
from seqlab.train.engines import make_engine
from seqlab.train.mesh import batch_sharding
from seqlab.types import PAD

_WMT = 'experiments/wmt14/transformer_big.py'
_EMBEDDED = 'experiments/agreement/transformer.py'
_ROOT = Path(__file__).parent.parent
_SECONDS = 3.0  # of steps that are measured for each size
_DROPOUT = 0.1  # rate for attention
# Relative error of bfloat16 with 8 bits, over sums of many terms.
_TOLERANCE = {'bfloat16': 0.03, 'float32': 1e-3}


class Size(NamedTuple):
  """A model and its training batch."""

  width: int
  mlp_width: int
  heads: int
  layers: int
  tokens: int
  max_length: int
  vocabulary: int


@dataclasses.dataclass(frozen=True)
class Sizes:
  """What is measured: three models, and the shapes of the other parts.

  Attributes:
    models: name -> model; 'base' decodes and is evaluated.
    sentences: rows of a batch that is decoded.
    source: length of their sources.
    attention: batch, length, heads and width of a head.
    evaluated: tokens in a batch of the evaluation.
    experiment: the experiment that is evaluated.
  """

  models: dict[str, Size]
  sentences: int
  source: int
  attention: tuple[int, int, int, int]
  evaluated: int
  experiment: str


SIZES = {
  'full': Sizes(
    {
      'small': Size(256, 1024, 4, 6, 16_384, 64, 8_000),
      'base': Size(512, 2048, 8, 6, 16_384, 128, 32_000),
      'big': Size(1024, 4096, 16, 6, 8_192, 128, 32_000),
    },
    sentences=64,
    source=32,
    attention=(32, 256, 16, 64),
    evaluated=4_096,
    experiment=_EMBEDDED,
  ),
  'tiny': Sizes(
    {
      'small': Size(8, 16, 2, 1, 64, 8, 64),
      'base': Size(16, 32, 2, 1, 64, 8, 64),
      'big': Size(32, 64, 2, 1, 64, 8, 64),
    },
    sentences=8,
    source=8,
    attention=(2, 8, 2, 8),
    evaluated=128,
    experiment=f'{_EMBEDDED}:smoke',
  ),
}


@dataclasses.dataclass(frozen=True)
class Row:
  """A measurement.

  Attributes:
    name: what was measured.
    value: the number; None where there is none.
    unit: its unit.
    estimate: what `seqlab.compile` says, in the same unit; None without a data sheet.
    least: time of reading weights and cache once, in the same unit.
    note: how it was measured.
    passed: whether the result is correct; None where nothing is compared.
  """

  name: str
  value: float | None
  unit: str
  estimate: float | None = None
  least: float | None = None
  note: str = ''
  passed: bool | None = None


def this_chip() -> Chip | None:
  """Returns the data sheet of the devices; None if it is not known."""
  chip = chip_of(jax.devices()[0].device_kind)
  return chip if chip and chip.memory_speed else None


def measure_training(sizes: Sizes) -> Iterator[Row]:
  """Yields the milliseconds of a training step of each model."""
  for name, size in sizes.models.items():
    config, task = _without_data(size)
    engine = make_engine(config, task, 1_000)
    batch = _random_batch(task, size)
    seconds, program = timed(functools.partial(engine.compile, batch))
    state, placed = engine.init(0), engine.put(batch)
    times = []
    while (sum(times) < _SECONDS and len(times) < 30) or len(times) < 3:
      taken, (state, sums) = timed(functools.partial(_step, engine, state, placed))
      times.append(taken)
    loss = engine.fetch(sums)[0]['loss']
    tokens = int((batch['target'] != PAD).sum())
    median = float(np.median(times))
    yield Row(
      f'training step, {name}',
      median * 1e3,
      'ms',
      estimate=_milliseconds(program),
      note=f'{tokens / median:,.0f} target tokens/s, compiled in {seconds:.0f} s',
      passed=bool(np.isfinite(loss)),
    )


def _step(engine: Any, state: Any, batch: Any) -> tuple:
  return jax.block_until_ready(engine.step(state, batch))


def measure_decoding(sizes: Sizes) -> Iterator[Row]:
  """Yields the microseconds of a step of beam search."""
  config, task = _without_data(sizes.models['base'])
  engine = make_engine(config, task, 1_000)
  variables = engine.member(engine.init(0)).variables
  rng = np.random.default_rng(0)
  shape = sizes.sentences, sizes.source
  source = rng.integers(4, task.model.source_size, shape, np.int32)
  # With the weights of the initialisation, outputs have the greatest length.
  search = Beam(beam=4, alpha=0.0, stages=1)
  function = jax.jit(lambda variables, x: decode(task.model, variables, x, search)[0])
  with compiled_for(engine.mesh):
    program = function.lower(variables, source).compile()
    outline = jax.ShapeDtypeStruct(shape, jnp.int32)
    reading = step_reading(task.model, variables, outline, search)
  steps = int((np.asarray(program(variables, source)) != PAD).sum(axis=-1).max())
  seconds = best(lambda: jax.block_until_ready(program(variables, source)))
  chip, costs = this_chip(), _costs(program, reading.steps)
  yield Row(
    'step of beam search, base',
    seconds / steps * 1e6,
    'us',
    estimate=costs and search_seconds(costs) / reading.steps * 1e6,
    least=chip and reading.seconds(chip.memory_speed) * 1e6,
    note=f'beam 4, {sizes.sentences} sentences of {sizes.source}, {steps} steps, '
    f'{sizes.sentences / seconds:,.0f} sentences/s',
  )


def measure_attention(sizes: Sizes) -> Iterator[Row]:
  """Yields the time of each attention, and whether it is that of float32 on a CPU.

  There the weights are written out, so that each function is compared with another one.
  With dropout too the results must be the same, since the bits depend on the key alone.
  An implementation may be missing on this device, but for 'xla'.
  """
  B, L, H, K = sizes.attention
  dtype = compute_dtype('auto')
  rng = np.random.default_rng(0)
  x, upstream = (rng.normal(size=(B, L, H * K)).astype(np.float32) for _ in range(2))
  mask = np.asarray(causal_mask(L))
  cpu = jax.devices('cpu')[0]
  exact = _attention(H, K, 'xla', jnp.float32)
  expected = {}
  with jax.default_device(cpu), jax.default_matmul_precision('highest'):
    variables = exact.init(jax.random.key(0), x, mask, method=_attend)
    for rate in (None, _DROPOUT):
      function = _value_and_gradient(exact, rate, written_out=True)
      expected[rate] = jax.device_get(function(variables, x, upstream, mask))
  variables = jax.device_put(jax.device_get(variables), jax.devices()[0])
  arrays = jax.device_put((x, upstream, mask), jax.devices()[0])
  for implementation, rate in _attentions():
    name = f'attention, {implementation}' + (f', dropout {rate}' if rate else '')
    try:
      function = _value_and_gradient(_attention(H, K, implementation, dtype), rate)
      program = function.lower(variables, *arrays).compile()
      result = jax.device_get(program(variables, *arrays))
    except Exception as error:
      if implementation == 'xla':
        raise
      yield Row(name, None, 'ms', note=f'not on this device: {_line(error)}')
      continue
    errors = jax.tree.map(_relative_error, result, expected[rate])
    worst = np.max(jax.tree.leaves(errors))  # NaN if one is, unlike Python's `max`
    call = functools.partial(program, variables, *arrays)
    seconds = best(lambda call=call: jax.block_until_ready(call()), tries=5)
    yield Row(
      name,
      seconds * 1e3,
      'ms',
      estimate=_milliseconds(program),
      note=f'value and gradient; relative error {worst:.1e} to float32 on a CPU',
      passed=bool(worst < _TOLERANCE[dtype.name]),
    )


def _attentions() -> Iterator[tuple[str, float | None]]:
  """Yields each implementation, with the rate of dropout."""
  for implementation in get_args(get_type_hints(Transformer)['implementation']):
    yield implementation, None
  yield 'xla', _DROPOUT  # no other one has dropout


def _attention(
  heads: int, head_dim: int, implementation: str, dtype: Any
) -> MultiHeadAttention:
  return MultiHeadAttention(
    heads * head_dim, heads, dtype=dtype, implementation=implementation
  )


def _attend(attention: MultiHeadAttention, x: Any, mask: Any, rate: Any = None) -> Any:
  return attention(x, *attention.project(x), mask=mask, dropout=rate)


def _value_and_gradient(
  attention: MultiHeadAttention, rate: float | None, *, written_out: bool = False
) -> Callable:
  """Returns a compiled function of variables, x, upstream and mask.

  Args:
    attention: the module.
    rate: rate of dropout of the weights; None for none.
    written_out: compute the weights as one array, as where they are looked at.
  """
  mutable = ('intermediates',) if written_out else ()

  def weighted_sum(variables: Any, x: Any, upstream: Any, mask: Any) -> tuple:
    y, _ = attention.apply(
      *(variables, x, mask, rate),
      method=_attend,
      rngs={'dropout': jax.random.key(1)},
      mutable=mutable,
    )
    y = y.astype(jnp.float32)
    return (y * upstream).sum(), y

  gradient = jax.value_and_grad(weighted_sum, argnums=(0, 1), has_aux=True)

  @jax.jit
  def function(*arrays: Any) -> tuple:
    (_, y), gradients = gradient(*arrays)
    return y, gradients

  return function


def _relative_error(x: np.ndarray, expected: np.ndarray) -> float:
  scale = np.abs(expected).max() + 1e-30
  return float(np.abs(np.asarray(x, np.float32) - expected).max() / scale)


def measure_evaluation(sizes: Sizes) -> Iterator[Row]:
  """Yields the time of an evaluation on the embedded corpus, and BLEU's share of it."""
  size = sizes.models['base']
  config = load_experiment(str(_ROOT / sizes.experiment))
  config['model'].update(_model_options(size))
  with tempfile.TemporaryDirectory() as folder:
    # As in a run, whose record of its text is beside the vocabulary's folder.
    task = task_of(config).from_config(config, Path(folder) / 'vocabulary')
    engine = make_engine(config, task, 1_000)
    variables = engine.member(engine.init(0)).variables
    search = Beam(beam=4, stages=1)
    options = dict(split='valid', tokens=sizes.evaluated, shapes=1)
    evals = {'valid': dict(kind='translation', beam=4, stages=1, **options)}
    sharding = batch_sharding(engine.mesh)
    evaluator = make_evaluators(evals, task=task, sharding=sharding)['valid']
    batches = task.batches(
      'valid',
      shuffle=False,
      rows_multiple=sharding.num_devices,
      tokens=sizes.evaluated,
      shapes=1,
    )
    steps = range(batches.steps_per_epoch)
    sources = [batches.batch(k, seed=0)['source'] for k in steps]
    sources = [jax.device_put(x, sharding) for x in sources]
    function = jax.jit(lambda variables, x: decode(task.model, variables, x, search)[0])
    with compiled_for(engine.mesh):
      evaluator.compile(variables)
      programs = {x.shape: function.lower(variables, x).compile() for x in sources}

      def only_search() -> None:
        for x in sources:
          jax.device_get(programs[x.shape](variables, x))

      def everything() -> None:
        dict(evaluator.run(variables))

      only_search()
      everything()
      without, whole = best(only_search), best(everything)
  sentences = len(task.corpus.read('valid')[0])
  yield Row(
    'evaluation, base',
    whole * 1e3,
    'ms',
    note=f'beam 4, {sentences} sentences, {sentences / whole:,.0f} sentences/s',
  )
  share = max(0.0, 1 - without / whole)
  yield Row('share of BLEU', share * 100, '%', note='of the evaluation; rest: search')


PARTS: dict[str, Callable[[Sizes], Iterator[Row]]] = {
  'training': measure_training,
  'decoding': measure_decoding,
  'attention': measure_attention,
  'evaluation': measure_evaluation,
}


def _without_data(size: Size) -> tuple[dict, Any]:
  """Returns an experiment of this size, and its task without a corpus."""
  config = load_experiment(str(_ROOT / _WMT))
  config['model'].update(_model_options(size))
  config['vocabulary']['size'] = size.vocabulary
  config['batching'].update(
    tokens=size.tokens, max_length=size.max_length, rows_multiple=jax.device_count()
  )
  return config, task_of(config).from_shapes(config)


def _model_options(size: Size) -> dict[str, int]:
  return {
    name: getattr(size, name) for name in ('width', 'mlp_width', 'heads', 'layers')
  }


def _random_batch(task: Any, size: Size) -> dict[str, np.ndarray]:
  """Returns a packed batch of random tokens: one sentence in each row."""
  rng = np.random.default_rng(0)
  (shapes,) = task.batches('train').shapes
  batch = {}
  for name, x in shapes.items():
    if name in ('source', 'target'):
      batch[name] = rng.integers(4, size.vocabulary, x.shape).astype(x.dtype)
    elif name.endswith('position'):
      batch[name] = np.broadcast_to(np.arange(x.shape[1], dtype=x.dtype), x.shape)
    else:
      batch[name] = np.ones_like(x)  # of the first sentence
  return batch


def _costs(program: jax.stages.Compiled, trips: int = 1) -> Costs | None:
  chip = this_chip()
  return Costs(Module(program.as_text(), trips), chip) if chip else None


def _milliseconds(program: jax.stages.Compiled) -> float | None:
  costs = _costs(program)
  return costs and costs.seconds * 1e3


def _line(error: BaseException) -> str:
  text = str(error).strip().splitlines()
  return f'{type(error).__name__}: {text[0][:200] if text else ""}'


def _number(x: float | None) -> str:
  return '-' if x is None else f'{x:.4g}'


def run_part(name: str, sizes: Sizes) -> dict[str, Any]:
  """Runs a part in this process: its rows, its error or None, its time and memory."""
  started, rows, error = time.monotonic(), [], None
  try:
    for row in PARTS[name](sizes):
      rows.append(dataclasses.asdict(row))
      print(f'{row.name}: {_number(row.value)} {row.unit}', file=sys.stderr)
  except Exception as caught:
    error = _line(caught)
  device = jax.devices()[0]
  stats = device.memory_stats() or {}
  return {
    'part': name,
    'rows': rows,
    'error': error,
    'seconds': time.monotonic() - started,
    'device': device.device_kind,
    'devices': jax.device_count(),
    'jax': jax.__version__,
    'peak_memory': stats.get('peak_bytes_in_use'),
    'memory': stats.get('bytes_limit'),
  }


def _spawn_part(name: str, sizes: str, seconds: float) -> dict[str, Any]:
  """Runs a part in a process of its own, for at most so many seconds.

  If the process fails or takes longer, this is the error of the part.
  """
  failed = {'part': name, 'rows': []}
  if seconds <= 0:
    error = 'it was not started, since the others took all the time: raise --minutes'
    return failed | {'error': error}
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'part.json'
    command = [sys.executable, '-m', 'launch.check_device', '--within', name]
    command += ['--sizes', sizes, '--json', str(path)]
    with contextlib.suppress(subprocess.TimeoutExpired):
      status = subprocess.run(
        command, cwd=_ROOT, env=environment(), timeout=seconds
      ).returncode
      if path.exists():
        return json.loads(path.read_text('utf-8'))
      return failed | {'error': f'it ended {how_it_ended(status)}'}
  return failed | {
    'error': f'it took more than the {seconds:.0f} s that were left: raise --minutes'
  }


def as_table(parts: Sequence[dict[str, Any]]) -> str:
  """Formats the rows of all parts, and their errors."""
  head = ('measurement', 'measured', 'unit', 'estimate', 'measured/estimate', 'least')
  head += ('correct', 'note')
  lines = [head]
  for part in parts:
    for row in part['rows']:
      estimate, least = row['estimate'], row['least']
      lines.append(
        (
          row['name'],
          _number(row['value']),
          row['unit'],
          _number(estimate),
          f'{row["value"] / estimate:.2f}' if estimate else '-',
          _number(least),
          {True: 'yes', False: 'NO', None: ''}[row['passed']],
          row['note'],
        )
      )
    if part['error']:
      lines.append((part['part'], *[''] * 6, f'FAILED: {part["error"]}'))
  return '\n'.join(aligned(lines))


def _describe_device(parts: Sequence[dict[str, Any]]) -> str:
  known = [part for part in parts if part.get('device')]
  if not known:
    return 'no part could use a device'
  peaks = [part['peak_memory'] for part in known if part['peak_memory']]
  memory = (
    f'{known[0]["memory"] / 1e9:.1f} GB' if known[0]['memory'] else 'unknown size'
  )
  peak = f'{max(peaks) / 1e9:.2f} GB at most' if peaks else 'not reported'
  return (
    f'{known[0]["devices"]} x {known[0]["device"]}, jax {known[0]["jax"]}; memory '
    f'{memory}, used: {peak}'
  )


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    'launch.check_device', description='Measures devices beside their estimates.'
  )
  add = parser.add_argument
  add('--sizes', choices=SIZES, default='full', help='sizes of models and batches')
  add('--part', choices=PARTS, action='append', help='a part to run (all of them)')
  add('--json', type=Path, help='file to write the numbers to')
  add('--minutes', type=float, default=8.0, help='time for all parts (8)')
  add('--within', choices=PARTS, help='run one part in this process')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns 1 if a part failed or a result is wrong."""
  args = _parser().parse_args(argv)
  if args.within:
    part = run_part(args.within, SIZES[args.sizes])
    if args.json:
      args.json.write_text(json.dumps(part), 'utf-8')
    return int(bool(part['error']))
  until = time.monotonic() + 60 * args.minutes
  parts = [
    _spawn_part(name, args.sizes, until - time.monotonic())
    for name in args.part or PARTS
  ]
  print(_describe_device(parts))
  print(as_table(parts))
  if args.json:
    args.json.write_text(json.dumps(parts, indent=1), 'utf-8')
  wrong = [row for part in parts for row in part['rows'] if row['passed'] is False]
  return int(bool(wrong or any(part['error'] for part in parts)))


if __name__ == '__main__':
  sys.exit(main())

"""`seqlab plan`: what a step would take on devices that do not exist here."""

import importlib.util
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqlab.cli import main
from seqlab.compile.chips import CHIPS, chip_of
from seqlab.compile.collectives import Collective
from seqlab.compile.fit import largest_tokens
from seqlab.compile.memory import DoesNotFitError, explain_refusal
from seqlab.compile.roofline import HOP, NETWORK_HOP, UTILISATION, estimate
from seqlab.experiment import load_experiment
from seqlab.plan import plan_experiment
from seqlab.plan.experiment import open_task
from seqlab.plan.programs import plan_step
from seqlab.plan.report import describe
from seqlab.tasks import task_of
from seqlab.tasks.interface import EmptyBatches, Loss, Task

BIG = 'experiments/wmt14/transformer_big.py'
SMALL = [
  *('--config.model.width=32', '--config.model.mlp_width=64', '--config.model.heads=4'),
  *('--config.model.layers=2', '--config.vocabulary.size=64'),
  *('--config.batching.tokens=1024', '--config.batching.max_length=16'),
  '--config.batching.rows_multiple=64',
]


@pytest.fixture(scope='module')
def planned():
  """Returns (devices, mesh) -> the planned step of a small model, without a corpus."""
  done = {}

  def make(devices, **mesh):
    key = devices, *mesh.items()
    if key not in done:
      config = load_experiment(BIG, SMALL) | {'mesh': mesh}
      done[key] = plan_step(config, task_of(config).from_shapes(config), devices)
    return done[key]

  return make


def test_work_is_six_operations_per_weight_and_word_and_attention(planned):
  one = planned(8, data=8)
  D, F, V, layers, words = 32, 64, 64, 2, 1024 / 8
  weights = layers * (4 * D * D + 2 * D * F) + layers * (8 * D * D + 2 * D * F) + V * D
  scores = 3 * layers * 3 * 2 * 2 * words * 16 * D  # of three attentions, 16 positions
  assert one.flops == pytest.approx(6 * words * weights + scores, rel=1e-3)


@pytest.mark.slow
def test_fsdp_stores_less_and_sends_more_than_data_parallelism(planned):
  data, fsdp = planned(8, data=8), planned(8, data=1, fsdp=8)
  assert fsdp.flops == data.flops
  assert fsdp.state < 0.2 * data.state

  def sent(one):
    return sum(x.bytes * x.runs for x in one.collectives)

  # Two gathers and a scatter, instead of a sum, which is a scatter and a gather; the table,
  # in float32, is gathered once.
  assert 1.2 * sent(data) < sent(fsdp) < 3 * sent(data)
  assert 'reduce-scatter over fsdp' in describe(fsdp)


def _all_reduce(n, size):
  return [Collective('all-reduce', size, 1, np.arange(n)[None], 1)]


@pytest.mark.parametrize(
  ('n', 'seconds'),
  [
    (8, 2 * (7 / 8 * 1e9 / 450e9 + 7 * HOP)),
    (
      32,
      2 * (7 / 8 * 1e9 / 450e9 + 3 / 4 * 1e9 / 8 / 50e9 + 7 * HOP + 2 * NETWORK_HOP),
    ),
  ],
)
def test_an_all_reduce_takes_the_time_of_a_ring(n, seconds):
  estimated = estimate(CHIPS['h100'], 989e12, 0.0, _all_reduce(n, 10**9))
  assert estimated.sending == pytest.approx(seconds)
  assert estimated.compute == pytest.approx(1 / UTILISATION)
  assert estimated.step == estimated.compute + estimated.sending


def test_collectives_in_one_place_have_one_latency():
  one = _all_reduce(8, 8)
  alone, two = (estimate(CHIPS['h100'], 0, 0, x) for x in (one, 2 * one))
  assert two.latency == alone.latency
  assert two.sending > alone.sending


@pytest.mark.parametrize(
  ('kind', 'flops'),
  [
    ('NVIDIA H100 80GB HBM3', 989e12),
    ('NVIDIA H100 PCIe', 756e12),
    ('TPU v5 lite', 197e12),
    ('TPU v5', 459e12),
    ('NVIDIA A100-SXM4-40GB', 312e12),
  ],
)
def test_chips_are_recognised_by_their_longest_name(kind, flops):
  assert chip_of(kind).flops == flops


def test_other_chips_are_unknown():
  assert chip_of('Abacus 9000') is None


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    (['--chip=h1000'], "unknown chip 'h1000'; did you mean 'h100'?"),
    (['--config.mesh.fsdp=3'], 'does not fit 8 devices'),
    (
      ['--config.batching.rows_multiple=4', '--config.batching.tokens=64'],
      'cut into 8',
    ),
    (['--config.batching.rows_mulitple=4'], "did you mean 'rows_multiple'"),
  ],
)
def test_a_wrong_option_is_refused_with_the_reason(options, message, capsys):
  assert main(['plan', BIG, '--devices', '8', *SMALL, *options]) == 1
  assert message in capsys.readouterr().err


def test_missing_data_are_an_error_that_says_why_they_are_needed(monkeypatch, tmp_path):
  monkeypatch.setenv('SEQLAB_CACHE', str(tmp_path))
  files = {'train': [str(tmp_path / 'no.en'), str(tmp_path / 'no.de')]}
  config = load_experiment(BIG, SMALL)
  config['corpus'] = {'source': 'en', 'target': 'de', 'files': files}
  config['batching'] = {'kind': 'buckets', 'tokens': 1024}
  with pytest.raises(OSError, match=r"there is no file.*batching\.kind='packed'"):
    plan_experiment(config, [jax.device_count()])


def test_the_command_simulates_more_devices_than_the_machine_has():
  command = [sys.executable, '-m', 'seqlab.cli', 'plan', BIG, '--chip', 'h100', 'v5e']
  result = subprocess.run(
    [*command, '--devices', '16', *SMALL, '--config.model.layers=1'],
    capture_output=True,
    text=True,
    check=True,
  )
  assert '16 devices (data=16, fsdp=1, tensor=1)' in result.stdout
  assert 'all-reduce over data' in result.stdout
  rows = [line.split() for line in result.stdout.splitlines()]
  assert [row[0] for row in rows if row and row[0] in CHIPS] == ['h100', 'v5e']


def test_without_the_chips_compiler_the_plan_says_who_speaks(
  importable, monkeypatch, capsys
):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  plan_experiment(_config(_Points), [1], ['v5p'])
  printed = capsys.readouterr().out
  assert "the compiler of v5p is not installed: pip install '.[tpu]'" in printed
  assert "by XLA's CPU compiler, as a stand-in" in printed


def test_a_plan_as_json_has_the_numbers_of_the_text(importable, capsys):
  plan_experiment(_config(_Points), [1], ['h100'], format='json', compiler='stand-in')
  (plan,) = json.loads(capsys.readouterr().out)
  assert plan['parameters'] == 2
  assert plan['batch'] == {'x': [64], 'y': [64]}
  assert plan['memory']['parameters'] == 8
  assert 'stand-in' in plan['compiler']


def test_variants_are_compared_side_by_side(importable, capsys):
  config = _config(_Points)
  variants = {'ema=0.5': config | {'ema': 0.5}}
  plan_experiment(config, [1], ['h100'], compiler='stand-in', variants=variants)
  rows = capsys.readouterr().out.splitlines()
  assert [row.split()[0] for row in rows[1:4]] == ['variant', 'as', 'ema=0.5']


def test_an_experiment_that_does_not_translate_has_no_search_to_plan(importable):
  with pytest.raises(ValueError, match="no evaluator of kind 'translation'"):
    plan_experiment(_config(_Points), [1], ['h100'], what='evaluate')


def test_a_plan_writes_into_its_own_folder_only(tmp_path):
  config = load_experiment('experiments/agreement/transformer.py:smoke')
  config['batching'] = dict(kind='buckets', tokens=512, shapes=1)
  open_task(config, tmp_path / 'plan')
  assert [path.name for path in tmp_path.iterdir()] == ['plan']


def test_the_search_of_an_evaluator_is_planned():
  config = load_experiment(BIG, SMALL)
  step = plan_step(config, task_of(config).from_shapes(config), 1, what='evaluate')
  assert step.batch == {'source': (2048 // 16, 16)}
  assert step.memory.optimizer == 0
  assert step.endless == []  # every loop has its number of steps
  assert step.reading.steps == 34  # 1.5 times the source and ten
  D, F, V, layers = 32, 64, 64, 2
  matrices = layers * (6 * D * D + 2 * D * F) + V * D
  # Norms have a scale and perhaps a bias; keys and values of the source are in the cache.
  assert 2 * matrices <= step.reading.weights < 2.1 * matrices
  position = 2 * layers * D * 2  # bytes of keys and values
  cache = 128 * (16 + 4 * 17.5) * position
  assert step.reading.cache == pytest.approx(cache, rel=0.02)


@pytest.mark.parametrize(
  'message',
  [
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO '
    'temporaries (22.00G) exceeds available HBM (15.75G).',
    'RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory '
    'space hbm. Used 22.00G of 15.75G hbm. Exceeded hbm capacity by 6.25G.',
  ],
)
def test_a_compilers_message_of_too_little_memory_is_explained(message):
  explained = explain_refusal(jax.errors.JaxRuntimeError(message))
  assert isinstance(explained, DoesNotFitError)
  assert 'needs 22.00G of 15.75G' in str(explained)
  assert explained.needed == 22 * 2**30
  assert "model.remat='products'" in str(explained)


def _program(tokens):
  """Returns the bytes of a program for a number of tokens, and its name."""
  return 1000 + 10 * tokens, f'for {tokens}'


@pytest.mark.parametrize('memory', [20_000, 61_000, 1_000_000])
def test_the_largest_batch_that_fits_is_found_in_few_compilations(memory):
  tried = []

  def compile_for(tokens):
    tried.append(tokens)
    return _program(tokens)

  tokens, program = largest_tokens(compile_for, first=4096, unit=16, memory=memory)
  assert program == f'for {tokens}'
  assert 0.9 * memory < 1000 + 10 * tokens <= memory
  assert len(tried) <= 5


def test_a_program_that_the_compiler_refuses_is_too_large():
  def compile_for(tokens):
    if tokens > 2048:
      raise DoesNotFitError('it does not fit')
    return _program(tokens)

  tokens, _ = largest_tokens(compile_for, first=8192, unit=16, memory=10**9)
  assert 1024 < tokens <= 2048


@pytest.mark.parametrize(('most', 'tokens'), [(7, 16), (100, 96), (50_010, 50_000)])
def test_no_batch_is_larger_than_the_bound(most, tokens):
  bounds = dict(first=4096, unit=16, memory=10**9, most=most)
  assert largest_tokens(_program, **bounds) == (tokens, f'for {tokens}')


def test_a_batch_that_cannot_fit_is_refused():
  with pytest.raises(ValueError, match='not even a batch of 16 tokens fits'):
    largest_tokens(_program, first=64, unit=16, memory=500)


def test_the_smallest_batch_is_tried_before_all_are_refused():
  def compile_for(tokens):
    if tokens > 16:
      raise DoesNotFitError('it does not fit')
    return _program(tokens)

  tokens, _ = largest_tokens(compile_for, first=16 * 4096, unit=16, memory=10**9)
  assert tokens == 16


class _Points(Task):
  """A regression with 2 parameters, on batches whose size is a class attribute."""

  rows = 64

  @classmethod
  def from_shapes(cls, config):
    return cls()

  def batches(self, split, **options):
    x = np.zeros(self.rows, np.float32)
    return EmptyBatches(({'x': x, 'y': x},))

  def init(self, rng):
    return {'params': {'slope': jnp.zeros(()), 'bias': jnp.zeros(())}}

  def loss(self, variables, batch, rng, hyper):
    line = variables['params']['slope'] * batch['x'] + variables['params']['bias']
    return Loss(jnp.sum((line - batch['y']) ** 2), len(batch['x']))


class _FilePoints(_Points):
  from_shapes = classmethod(lambda cls, config: None)
  from_config = classmethod(lambda cls, config, folder: np.load('no.npy'))


def _config(task):
  return {
    'task': f'{__name__}:{task.__name__}',
    'seed': 0,
    'steps': 4,
    'hyper': {'peak': 0.1},
    'schedule': {'kind': 'constant', 'warmup': 0},
    'evals': {},
  }


@pytest.fixture
def importable(monkeypatch):
  """Lets an experiment name the tasks of this file."""
  monkeypatch.setitem(sys.modules, __name__, sys.modules[_Points.__module__])


def test_a_task_without_model_and_vocabulary_is_planned(importable, capsys):
  plan_experiment(_config(_Points), [1, 2], ['h100'])
  printed = capsys.readouterr().out
  assert 'batch: x 64, y 64' in printed
  assert '2 parameters' in printed


def test_a_task_that_cannot_be_planned_without_its_data_is_refused(importable):
  with pytest.raises(OSError, match=r'no\.npy.*depend on its data; _FilePoints\.from_'):
    plan_experiment(_config(_FilePoints), [1])


def test_an_error_of_printing_is_not_blamed_on_data(importable, monkeypatch):
  def print_to_closed_pipe(*args, **kwargs):
    raise BrokenPipeError('Broken pipe')

  monkeypatch.setattr('rich.console.Console.print', print_to_closed_pipe)
  with pytest.raises(BrokenPipeError, match=r'^Broken pipe$'):
    plan_experiment(_config(_Points), [1])

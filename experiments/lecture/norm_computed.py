r"""Normalisation, computed and not trained: first gradients by layer, bytes of statistics.

  python -m launch.sweep experiments/lecture/norm_computed.py --workdir runs/studies

Gradients. Xiong et al. 2020, theorem 1, https://arxiv.org/abs/2002.04745: at
initialisation the gradient of the last feed-forward matrix does not fall with the number L
of layers if norms come after the sublayers (post-norm), and falls as 1 / √L if they come
before (pre-norm). Here it is the Frobenius norm of the gradient of the mean cross-entropy
with respect to the second matrix of each feed-forward layer of the decoder, for 32 rows of
32 random tokens, with width 64 and three seeds.

Bytes. The lecture, of batch normalisation: "параллелить сложно" (hard to parallelise).
Where devices share a batch, they can share its statistics as well (synchronised), or each
can use those of its own rows (unsynchronised). `seqlab plan` compiles an update of
experiments/lecture/covariate_shift.py on eight simulated devices, with 32 rows of 64
positions, and gives the number and size of the messages between them.

Claimed before the first run; each claim is refuted by the numbers of the table:
1. Post-norm: the gradient of the last layer with 12 layers is 0.7 to 1.4 times that with 2.
2. Pre-norm: it is √(2 / 12) = 0.41 times that with 2, within 0.29 to 0.57.
3. Post-norm with 12 layers: the gradient of the last layer is more than twice that of the
   first. Pre-norm: it is less than twice.
4. Synchronised statistics add less than 5 % to the bytes of an update with unsynchronised
   ones, and at least 24 messages: two for each of twelve norms. So what they cost is waiting
   and not bytes.
5. Layer normalisation sends no more bytes than batch normalisation without synchronisation.
"""

import json
from pathlib import Path
import subprocess
import sys

from flax import linen as nn
import jax
import numpy as np

from seqlab.models.transformer import Transformer
from seqlab.report.figures import bars, lines
from seqlab.report.tables import Column, mean_and_deviation, table
from seqlab.results.raw_rows import FILE, write_computed_rows
from seqlab.tasks.translation import SequenceToSequence

DEPTHS, NORMS, SEEDS = (2, 6, 12), ('pre', 'post'), 3
WIDTH, WORDS, ROWS, LENGTH = 64, 1_000, 32, 32
DEVICES = 8
EXPERIMENT = Path(__file__).with_name('covariate_shift.py')
# Name -> options of an update.
STATISTICS = {
  'layer normalisation': dict(normalization='layer'),
  'batch normalisation, unsynchronised': dict(normalization='batch'),
  'batch normalisation, synchronised': dict(
    normalization=dict(kind='batch', axis='data')
  ),
}


def study(folder):
  norms = {
    (norm, layers): [first_gradients(norm, layers, seed) for seed in range(SEEDS)]
    for norm in NORMS
    for layers in DEPTHS
  }
  messages = {name: planned(**options) for name, options in STATISTICS.items()}
  write_report(norms, messages, folder)


def first_gradients(norm, layers, seed):
  """Returns the norm of the first gradient of each decoder layer's second matrix.

  Args:
    norm: 'pre' or 'post'.
    layers: number of layers L of the encoder, and of the decoder.
    seed: integer seed of weights and tokens.

  Returns:
    [L] norms.
  """
  gradient = loss_gradient(norm, layers, seed)['decoder']['feed_forward']['down']
  return np.sqrt((np.asarray(gradient['kernel'], np.float64) ** 2).sum(axis=(1, 2)))


def loss_gradient(norm, layers, seed):
  """Returns the gradient of the mean cross-entropy with respect to all parameters."""
  options = dict(width=WIDTH, mlp_width=2 * WIDTH, heads=4, layers=layers, norm=norm)
  task = SequenceToSequence(
    Transformer(WORDS, WORDS, **options, dtype='float32'), WORDS
  )
  random = np.random.default_rng(seed)
  sides = random.integers(4, WORDS, (2, ROWS, LENGTH), np.int32)
  batch = dict(zip(('source', 'target'), sides, strict=True))
  params = nn.unbox(jax.jit(task.init)(jax.random.key(seed)))['params']

  def loss(params):
    out = task.loss({'params': params}, batch, None, {})
    return out.value / out.weight

  return jax.jit(jax.grad(loss))(params)


def planned(**model):
  """Returns number and bytes of the messages of an update, for both sides' norms."""
  model['decoder_normalization'] = model['normalization']
  options = {f'model.{name}': x for name, x in model.items()}
  options |= {'parallel': 'pmap', 'batching.tokens': ROWS * 64, 'corpus.train': 1_000}
  command = [sys.executable, '-m', 'seqlab.cli', 'plan', str(EXPERIMENT)]
  command += ['--devices', str(DEVICES), '--format', 'json', '--compiler', 'stand-in']
  command += [f'--config.{key}={value!r}' for key, value in options.items()]
  done = subprocess.run(command, capture_output=True, encoding='utf-8')
  if done.returncode:
    raise RuntimeError(f'seqlab plan failed: {done.stderr.strip()[-2_000:]}')
  (plan,) = json.loads(done.stdout)
  sent = plan['collectives']
  return sum(x['runs'] for x in sent), sum(x['bytes'] for x in sent)


def write_report(norms, messages, folder):
  """Writes the tables, the raw rows and the figures.

  Args:
    norms: (norm, layers) -> norms of the gradient [L], one per seed.
    messages: kind of statistics -> number and bytes of the messages of an update.
    folder: folder of the files.
  """
  rows = [
    [
      *(f'{norm}-norm', str(layers)),
      [x[0] for x in seeds],
      [x[-1] for x in seeds],
      [x[-1] / x[0] for x in seeds],
    ]
    for (norm, layers), seeds in norms.items()
  ]
  columns = [
    *('norm', 'layers', Column('first layer', digits=4)),
    *(Column('last layer', digits=4), Column('last / first', digits=2)),
  ]
  sizes = table(
    [[name, f'{runs:,}', f'{size:,}'] for name, (runs, size) in messages.items()],
    ['norms of both sides', 'messages per update', 'bytes'],
  )
  text = (
    'Norm of the first gradient of the second feed-forward matrix of the decoder:\n\n'
    f'{table(rows, columns)}\n'
    f'Messages between {DEVICES} simulated devices:\n\n{sizes}\n'
    f'{table(claims(norms, messages), ["claim", "value", "claimed", "holds"])}'
  )
  (folder / 'table.md').write_text(text, 'utf-8')
  write_computed_rows(folder / FILE, _raw_rows(norms, messages))
  lines(
    folder / 'gradients',
    {
      f'{norm}-norm, {layers} layers': [
        (np.arange(1, layers + 1), values) for values in seeds
      ]
      for (norm, layers), seeds in norms.items()
    },
    'layer of the decoder',
    'norm of the first gradient',
    title='Gradients at initialisation',
    ylog=True,
  )
  bars(
    folder / 'messages',
    {'messages': {name: [runs] for name, (runs, _) in messages.items()}},
    'messages per update',
    title=f'An update on {DEVICES} simulated devices',
    digits=0,
  )


def claims(norms, messages):
  """Returns a row for each claim: what it is about, the value, its bounds, 'yes' or 'no'."""
  few, many = min(DEPTHS), max(DEPTHS)

  def last(norm, layers):
    return mean_and_deviation([x[-1] for x in norms[norm, layers]])[0]

  def steepness(norm):
    return mean_and_deviation([x[-1] / x[0] for x in norms[norm, many]])[0]

  layer, own, shared = (messages[name] for name in STATISTICS)
  label = f'last layer, {many} layers over {few}'
  rows = (
    (f'1. post-norm, {label}', last('post', many) / last('post', few), 0.7, 1.4),
    (f'2. pre-norm, {label}', last('pre', many) / last('pre', few), 0.29, 0.57),
    (f'3. post-norm, {many} layers, last over first', steepness('post'), 2, np.inf),
    (f'3. pre-norm, {many} layers, last over first', steepness('pre'), 0, 2),
    ('4. bytes, synchronised over unsynchronised', shared[1] / own[1], 1, 1.05),
    ('4. messages, synchronised minus unsynchronised', shared[0] - own[0], 24, np.inf),
    ('5. bytes, layer over batch, unsynchronised', layer[1] / own[1], 0, 1),
  )
  return [
    [name, f'{x:.3f}', f'{low:g} to {high:g}', 'yes' if low <= x <= high else 'no']
    for name, x, low, high in rows
  ]


def _raw_rows(norms, messages):
  for (norm, layers), seeds in norms.items():
    for seed, values in enumerate(seeds):
      for layer, value in enumerate(values, 1):
        yield f'{norm}-norm, {layers} layers', seed, f'gradient, layer {layer}', value
  for name, (runs, size) in messages.items():
    yield name, '', 'messages', runs
    yield name, '', 'bytes', size


PAPER = []
TIME = '4 minutes of one CPU core (estimated)'

"""`seqlab bench`: how fast the feed, training, decoding and start-up are.

Everything is measured in one run on one machine, so that ratios mean something;
seconds are the best of several tries, for what disturbs a run only adds to it.
"""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
import datetime
import functools
import importlib.util
import json
import multiprocessing
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

from flax import linen as nn
import jax
import numpy as np
import optax
from rich.table import Table
import sacrebleu
from sacrebleu.significance import PairedTest
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from seqlab.config import steps_of, task_of, with_defaults
from seqlab.data.loader import feed
from seqlab.experiment import load_experiment
from seqlab.io.console import print_table
from seqlab.io.files import check_output, write_text
from seqlab.layers.cross_entropy import cross_entropy
from seqlab.metrics.bootstrap import compare
from seqlab.metrics.corpus import Lines, corpus_statistics
from seqlab.models.recurrent import Recurrent
from seqlab.tasks.interface import Task, tokens_per_step
from seqlab.tasks.translation import Translation
from seqlab.tasks.translator import Search, Translator
from seqlab.tasks.words import WordTask
from seqlab.text.workers import end_with_parent
from seqlab.train.checks import check_experiment
from seqlab.train.device import peak_flops
from seqlab.train.engines import make_engine
from seqlab.types import BOS, PAD

Row = dict[str, Any]  # what was measured: name, value, unit, note


def bench(experiment: str, *, output: str, only: str | None = None) -> list[Row]:
  """Measures an experiment's speed, prints a table and writes JSON.

  Args:
    experiment: a file, and maybe arguments for it.
    output: where the JSON goes.
    only: 'start', 'feed', 'train', 'decode', 'recurrent', 'bleu' or, where batches have
      one shape, 'population', all if None; of word vectors 'words' or 'quality', or
      'counts' or 'svd', the first if None.

  Returns:
    The rows of the table.

  Raises:
    ValueError: the experiment has no such part.
  """
  check_output(output)
  config = with_defaults(load_experiment(experiment))
  check_experiment(config)
  rows: list[Row] = []
  with tempfile.TemporaryDirectory() as folder:
    task = task_of(config).from_config(config, Path(folder) / 'vocabulary')
    if isinstance(task, WordTask):
      from seqlab.bench_words import parts as parts_of_words

      parts = parts_of_words(config, task)
      only = only or next(iter(parts), None)  # the others take long
    else:
      from seqlab.bench_population import parts as parts_of_populations

      parts = _parts(experiment, config, task) | parts_of_populations(config, task)
    if only and only not in parts:
      raise ValueError(
        f'{experiment} has no part {only!r} (it has: {", ".join(parts)})'
      )
    for name in [only] if only else parts:
      rows += parts[name]()
  about = {
    'experiment': experiment,
    'date': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'cores': os.cpu_count(),
    'jax': jax.__version__,
    'rows': rows,
  }
  table = Table(
    'what', 'value', 'unit', 'how', title=f'{experiment}, {about["device"]}'
  )
  for r in rows:
    table.add_row(r['name'], f'{r["value"]:,.4g}', r['unit'], r['note'])
  print_table(table)
  write_text(output, json.dumps(about, indent=2) + '\n')
  print(f'the same as JSON: {output}')
  return rows


def _parts(
  experiment: str, config: dict, task: Translation
) -> dict[str, Callable[[], list[Row]]]:
  return {
    # First, while this process has not taken the accelerator yet.
    'start': lambda: _start(experiment),
    'feed': lambda: _feed(config, task),
    'train': lambda: _train(config, task),
    'decode': lambda: _decode(config, task),
    'recurrent': lambda: _recurrent(task),
    'bleu': lambda: _bleu(task),
  }


def elsewhere(function: Callable, *args: Any) -> Any:
  """function(*args) in a process of its own, with the usual allocator."""
  tunables = os.environ.pop('GLIBC_TUNABLES', None)
  try:
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, context, end_with_parent) as pool:
      return pool.submit(function, *args).result()
  finally:
    if tunables is not None:
      os.environ['GLIBC_TUNABLES'] = tunables


def all_steps(config: dict, task: Task) -> int:
  """How many steps the experiment has, whatever it counts them in."""
  return steps_of(
    config['steps'],
    steps_per_epoch=(batches := task.batches('train')).steps_per_epoch,
    tokens_per_step=tokens_per_step(task, batches),
  )


def row(name: str, value: float, unit: str, note: str = '') -> Row:
  """What was measured, and how."""
  return {'name': name, 'value': value, 'unit': unit, 'note': note}


def _feed(config: dict, task: Translation) -> list[Row]:
  """Batches a second with the model left out."""
  batches = task.batches('train')
  steps = min(max(200, batches.steps_per_epoch), 2_000)
  batches.batch(0, seed=0)  # the plan of the first epoch
  rates = []
  for _ in range(3):
    started, words = time.perf_counter(), 0
    for batch in feed(lambda k: batches.batch(k, seed=0), 0, steps):
      words += np.count_nonzero(batch['target'])
    seconds = time.perf_counter() - started
    rates.append((steps / seconds, words / seconds))
  speed, words = max(rates)
  note = f'{steps} batches, shuffled, {config["batching"]["tokens"]} tokens each'
  return [
    row('feed', speed, 'batches/s', note),
    row('feed', words, 'target tokens/s', note),
  ]


def _train(config: dict, task: Translation) -> list[Row]:
  """Target tokens a second and share of the peak, over an epoch's shapes."""
  engine = make_engine(config, task, steps=1_000)
  state = engine.init(0)
  data, batches = task.batches('train'), {}
  for k in range(data.steps_per_epoch):
    batch = data.batch(k, seed=0)
    batches.setdefault(batch['source'].shape + batch['target'].shape, []).append(batch)
  words = flops = seconds = 0.0
  started = time.perf_counter()
  for same in batches.values():
    engine.compile(same[0])
  compiling = time.perf_counter() - started
  for same in batches.values():
    placed, best = engine.put(same[0]), float('inf')
    for _ in range(4):
      started = time.perf_counter()
      state, sums = engine.step(state, placed)
      jax.block_until_ready(sums)
      best = min(best, time.perf_counter() - started)
    words += sum(np.count_nonzero(batch['target']) for batch in same)
    flops += sum(task.flops(batch) for batch in same)
    seconds += best * len(same)
  note = f'an epoch: {len(batches)} shapes, best of 4 each'
  rows = [
    row('train', words / seconds, 'target tokens/s', note),
    row('train', flops / seconds / 1e9, 'model GFLOP/s', '6 per weight and token'),
    row('compile', compiling, 's', f'{len(batches)} shapes; cached ones cost less'),
  ]
  if peak := peak_flops(engine.definition.mesh.size):
    share = 100 * flops / seconds / peak
    rows.append(row('train', share, '% of peak', f'peak {peak / 1e9:,.0f} GFLOP/s'))
  return rows


def _decode(config: dict, task: Translation) -> list[Row]:
  """Sentences and tokens a second. Weights are fresh, so outputs run to the limit."""
  split = next(iter(config['evals'].values()))['split']
  lines = task.corpus.read(split)[0][:512]
  variables = make_engine(config, task, steps=1).definition.init(0)
  rows = []
  for beam in (1, 5):
    search = Search(beam=beam)
    translator = Translator(task.model, variables.variables, task.vocabularies, search)
    translator.translate(lines)  # compiles
    translator.written = 0
    started = time.perf_counter()
    translator.translate(lines)
    seconds = time.perf_counter() - started
    note = f'{len(lines)} sentences of {split}, untrained weights'
    rows.append(row(f'decode, beam {beam}', len(lines) / seconds, 'sentences/s', note))
    written = translator.written / seconds
    rows.append(row(f'decode, beam {beam}', written, 'tokens/s', note))
  return rows


def _recurrent(task: Translation, D: int = 256) -> list[Row]:
  """Training of an LSTM encoder-decoder, beside the same one in PyTorch."""
  V, batch = task.vocabularies.target.size, task.batches('train').batch(0, seed=0)
  batch = {side: batch[side] for side in ('source', 'target')}
  words = np.count_nonzero(batch['target'])
  model = Recurrent(V, V, width=D, bidirectional=False, dtype='float32')
  variables = nn.unbox(
    jax.jit(model.init)(jax.random.key(0), batch['source'], batch['target'])
  )
  tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state, batch):
    def loss(variables):
      hidden, table = model.apply(
        variables, batch['source'], batch['target'], method='features'
      )
      weights = (batch['target'] != PAD).astype(np.float32)
      return cross_entropy(hidden, table, batch['target'], weights).loss / words

    variables, moments = state
    value, gradient = jax.value_and_grad(loss)(variables)
    updates, moments = tx.update(gradient, moments, variables)
    return (optax.apply_updates(variables, updates), moments), value

  state = [(variables, tx.init(variables))]

  def ours() -> None:
    state[0], value = step(state[0], batch)
    value.block_until_ready()

  ours()  # compiles
  seconds, peer = float('inf'), None
  for _ in range(3):  # in turns, so that what else the machine does befalls both
    seconds, peer = min(seconds, _best(ours, 10)), _torch_seconds(V, D, batch, peer)
  B, S, T = *batch['source'].shape, batch['target'].shape[1]
  note = f'LSTM, D = {D}, V = {V:,}, batch {B} x ({S}, {T}), tied, Adam; best of 30'
  note += f'; PyTorch {words / peer:,.0f} tokens/s' if peer else '; PyTorch is missing'
  rows = [row('recurrent', words / seconds, 'target tokens/s', note)]
  return rows + (
    [row('recurrent', peer / seconds, 'times PyTorch', note)] if peer else []
  )


def _torch_seconds(
  V: int, D: int, batch: dict[str, Any], before: float | None
) -> float | None:
  """The least of `before` and of 10 updates in PyTorch; None if it is not there.

  Elsewhere, since threads of two libraries in one process get into each other's way.
  """
  if importlib.util.find_spec('torch') is None:
    return None
  seconds = elsewhere(_best_of_torch, V, D, batch)
  return seconds if before is None else min(seconds, before)


def _best_of_torch(V: int, D: int, batch: dict[str, Any]) -> float:
  step = _torch_step(V, D, batch)
  step()
  return _best(step, 10)


def _torch_step(V: int, D: int, batch: dict[str, Any]) -> Callable[[], None]:
  """An update of the same model by `torch.nn.LSTM`."""
  import torch

  F = torch.nn.functional
  table = torch.nn.Embedding(V, D)
  encoder, decoder = (torch.nn.LSTM(D, D, batch_first=True) for _ in range(2))
  modules = torch.nn.ModuleList([table, encoder, decoder])
  adam = torch.optim.Adam(modules.parameters(), lr=1e-3)
  source, target = (torch.from_numpy(batch[k]).long() for k in ('source', 'target'))
  lengths = (source != PAD).sum(dim=1).clamp(min=1)
  inputs = torch.cat([torch.full_like(target[:, :1], BOS), target[:, :-1]], dim=1)

  def step() -> None:
    adam.zero_grad()
    packed = torch.nn.utils.rnn.pack_padded_sequence(
      table(source), lengths, batch_first=True, enforce_sorted=False
    )
    _, state = encoder(packed)  # the state at each sentence's last word
    hidden, _ = decoder(table(inputs), state)
    logits = F.linear(hidden, table.weight)
    loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
    adam.step()

  return step


def _bleu(task: Translation) -> list[Row]:
  """Corpus BLEU and its paired bootstrap, beside sacreBLEU in one process."""
  reference = task.corpus.read('train')[1]
  reference = [reference[i % len(reference)] for i in range(3_004)]  # as in WMT17
  outputs = [_spoilt(reference, seed) for seed in (0, 1)]
  sides = [Lines([x.encode('utf-8') for x in s]) for s in (*outputs, reference)]

  def ours() -> list[np.ndarray]:
    return [corpus_statistics(side, sides[2:]) for side in sides[:2]]

  def theirs() -> None:
    for tokenizer in (Tokenizer13a, TokenizerRegexp):
      tokenizer.__call__.cache_clear()  # what the last try has left
    metric = sacrebleu.BLEU(force=True)
    for output in outputs:
      metric.corpus_score(output, [reference])

  statistics = ours()
  metric = sacrebleu.BLEU(force=True, references=[reference])
  named = list(zip('ab', outputs, strict=True))
  test = PairedTest(named, {'BLEU': metric}, None, 'bs', 1_000)
  found, expected = _best(ours), _best(theirs)
  compare(statistics)  # compiles
  resampling = expected_resampling = float('inf')
  for _ in range(5):  # in turns, so that what else the machine does befalls both
    resampling = min(resampling, _best(lambda: compare(statistics), 20))
    expected_resampling = min(expected_resampling, _best(test, 1))
  note = f'{2 * len(reference):,} lines, 13a, compiled; sacreBLEU {expected:.3f} s'
  paired = f'1,000 samples of two systems; sacreBLEU {expected_resampling:.3f} s'
  return [
    row('BLEU', 2 * len(reference) / found, 'sentences/s', note),
    row('BLEU', expected / found, 'times sacreBLEU', note),
    row('paired bootstrap', resampling, 's', paired),
    row(
      'paired bootstrap', expected_resampling / resampling, 'times sacreBLEU', paired
    ),
  ]


def _spoilt(lines: list[str], seed: int) -> list[str]:
  """A third of the words replaced by others of the text."""
  rng = np.random.default_rng(seed)
  words = ' '.join(lines).split()
  return [
    ' '.join(
      words[rng.integers(len(words))] if rng.random() < 0.3 else w for w in x.split()
    )
    for x in lines
  ]


def _best(function: Callable[[], Any], tries: int = 3) -> float:
  seconds = []
  for _ in range(tries):
    started = time.perf_counter()
    function()
    seconds.append(time.perf_counter() - started)
  return min(seconds)


def _until(text: str, command: list[str], environment: dict[str, str]) -> float:
  """Seconds from the start of a command to the line that begins with `text`."""
  started, seconds, said = time.perf_counter(), None, []
  with subprocess.Popen(
    command,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:
    for line in process.stdout:
      said.append(line)
      if seconds is None and line.startswith(text):
        seconds = time.perf_counter() - started
  if seconds is None:
    raise RuntimeError(f'{" ".join(command)} failed:\n{"".join(said[-20:])}')
  return seconds


def _start(experiment: str) -> list[Row]:
  """Seconds from the command to the end of the first step, cold and warm."""
  rows = []
  with tempfile.TemporaryDirectory() as cache:
    environment = os.environ | {'SEQLAB_CACHE': cache, 'PYTHONUNBUFFERED': '1'}
    for name in ('cold', 'warm'):
      with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, '-m', 'seqlab.cli', 'train', experiment]
        command += ['--workdir', folder, '--config.steps=1']
        seconds = _until('first step', command, environment)
      note = 'empty caches' if name == 'cold' else 'compilations and data in the cache'
      rows.append(row(f'command to first step, {name}', seconds, 's', note))
  return rows

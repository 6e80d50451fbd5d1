"""`seqlab bench`: how fast the feed, training, decoding and start-up are.

Everything is measured in one run on one machine, so that ratios mean something;
seconds are the best of several tries, for what disturbs a run only adds to it.
"""

from collections.abc import Callable
import datetime
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.table import Table
import sacrebleu
from sacrebleu.significance import PairedTest
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from seqlab.config import resolve, with_defaults
from seqlab.data.loader import feed
from seqlab.experiment import load_experiment
from seqlab.metrics.bootstrap import compare
from seqlab.metrics.corpus import Lines, corpus_statistics
from seqlab.tasks.translation import Translation
from seqlab.tasks.translator import Search, Translator
from seqlab.train.device import peak_flops
from seqlab.train.program import Program

Row = dict[str, Any]  # what was measured: name, value, unit, note


def bench(experiment: str, *, output: str, only: str | None = None) -> list[Row]:
  """Measures an experiment's speed, prints a table and writes JSON.

  Args:
    experiment: a file, and maybe arguments for it.
    output: where the JSON goes.
    only: 'start', 'feed', 'train', 'decode' or 'bleu'; everything if None.

  Returns:
    The rows of the table.
  """
  config = with_defaults(load_experiment(experiment))
  rows: list[Row] = []
  with tempfile.TemporaryDirectory() as folder:
    task = resolve(config['task'])(config, Path(folder) / 'vocabulary')
    parts: dict[str, Callable[[], list[Row]]] = {
      # First, while this process has not taken the accelerator yet.
      'start': lambda: _start(experiment),
      'feed': lambda: _feed(config, task),
      'train': lambda: _train(config, task),
      'decode': lambda: _decode(config, task),
      'bleu': lambda: _bleu(task),
    }
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
  Path(output).write_text(json.dumps(about, indent=2) + '\n', 'utf-8')
  table = Table(
    'what', 'value', 'unit', 'how', title=f'{experiment}, {about["device"]}'
  )
  for row in rows:
    table.add_row(row['name'], f'{row["value"]:,.4g}', row['unit'], row['note'])
  Console().print(table)
  print(f'the same as JSON: {output}')
  return rows


def _row(name: str, value: float, unit: str, note: str = '') -> Row:
  return {'name': name, 'value': value, 'unit': unit, 'note': note}


def _feed(config: dict, task: Translation) -> list[Row]:
  """Batches a second with the model left out."""
  steps = min(max(200, task.steps_per_epoch), 2_000)
  task.batch('train', 0, seed=0)  # the plan of the first epoch
  rates = []
  for _ in range(3):
    started, words = time.perf_counter(), 0
    for batch in feed(lambda k: task.batch('train', k, seed=0), 0, steps):
      words += np.count_nonzero(batch['target'])
    seconds = time.perf_counter() - started
    rates.append((steps / seconds, words / seconds))
  batches, words = max(rates)
  note = f'{steps} batches, shuffled, {config["batching"]["tokens"]} tokens each'
  return [
    _row('feed', batches, 'batches/s', note),
    _row('feed', words, 'target tokens/s', note),
  ]


def _train(config: dict, task: Translation) -> list[Row]:
  """Target tokens a second and share of the peak, over an epoch's shapes."""
  program = Program(config, task, steps=1_000)
  state = program.start(0)
  batches: dict[tuple, list[Any]] = {}
  for k in range(task.steps_per_epoch):
    batch = task.batch('train', k, seed=0)
    batches.setdefault(batch['source'].shape + batch['target'].shape, []).append(batch)
  words = flops = seconds = 0.0
  started = time.perf_counter()
  for same in batches.values():
    program.compile(state, same[0])
  compiling = time.perf_counter() - started
  for same in batches.values():
    placed, best = program.put(same[0]), float('inf')
    for _ in range(4):
      started = time.perf_counter()
      state, sums = program.step(state, placed)
      jax.block_until_ready(sums)
      best = min(best, time.perf_counter() - started)
    words += sum(np.count_nonzero(batch['target']) for batch in same)
    flops += sum(task.flops(batch) for batch in same)
    seconds += best * len(same)
  note = f'an epoch: {len(batches)} shapes, best of 4 each'
  rows = [
    _row('train', words / seconds, 'target tokens/s', note),
    _row('train', flops / seconds / 1e9, 'model GFLOP/s', '6 per weight and token'),
    _row('compile', compiling, 's', f'{len(batches)} shapes; cached ones cost less'),
  ]
  if peak := peak_flops(program.mesh.size):
    share = 100 * flops / seconds / peak
    rows.append(_row('train', share, '% of peak', f'peak {peak / 1e9:,.0f} GFLOP/s'))
  return rows


def _decode(config: dict, task: Translation) -> list[Row]:
  """Sentences and tokens a second. Weights are fresh, so outputs run to the limit."""
  split = next(iter(config['evals'].values()))['split']
  lines = task.corpus.read(split)[0][:512]
  variables = Program(config, task, steps=1).start(0)
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
    rows.append(_row(f'decode, beam {beam}', len(lines) / seconds, 'sentences/s', note))
    written = translator.written / seconds
    rows.append(_row(f'decode, beam {beam}', written, 'tokens/s', note))
  return rows


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
  resampling, expected_resampling = _best(lambda: compare(statistics)), _best(test)
  note = f'{2 * len(reference):,} lines, 13a, compiled; sacreBLEU {expected:.3f} s'
  paired = f'1,000 samples of two systems; sacreBLEU {expected_resampling:.3f} s'
  return [
    _row('BLEU', 2 * len(reference) / found, 'sentences/s', note),
    _row('BLEU', expected / found, 'times sacreBLEU', note),
    _row('paired bootstrap', resampling, 's', paired),
    _row(
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
      rows.append(_row(f'command to first step, {name}', seconds, 's', note))
  return rows

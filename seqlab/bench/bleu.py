"""Corpus BLEU and its paired bootstrap, compared with sacreBLEU."""

from collections.abc import Callable
from typing import Any

import numpy as np
import sacrebleu
from sacrebleu.significance import PairedTest
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from seqlab.bench.measure import Row, Subject, best, best_in_turns
from seqlab.metrics.bootstrap import compare
from seqlab.metrics.corpus import Lines, corpus_statistics

_LINES = 3_004  # as many as newstest2017 has


def measure_bleu(subject: Subject) -> list[Row]:
  """Scores two disturbed copies of the experiment's target sentences."""
  target = subject.task.corpus.read('train')[1]
  reference = [target[i % len(target)] for i in range(_LINES)]
  outputs = [_disturb(reference, seed) for seed in (0, 1)]
  *output_lines, reference_lines = (
    Lines([line.encode('utf-8') for line in text]) for text in (*outputs, reference)
  )

  def count() -> list[np.ndarray]:
    return [corpus_statistics(lines, [reference_lines]) for lines in output_lines]

  return [
    *_measure_scores(count, outputs, reference),
    *_measure_bootstrap(count(), outputs, reference),
  ]


def _measure_scores(
  count: Callable[[], Any], outputs: list[list[str]], reference: list[str]
) -> list[Row]:
  def score_by_sacrebleu() -> None:
    for tokenizer in (Tokenizer13a, TokenizerRegexp):
      # It caches every line, so that a second try would tokenize nothing.
      tokenizer.__call__.cache_clear()
    metric = sacrebleu.BLEU(force=True)
    for output in outputs:
      metric.corpus_score(output, [reference])

  seconds = best(count)
  expected = best(score_by_sacrebleu)
  lines = 2 * len(reference)
  note = f'{lines:,} lines, 13a, compiled; sacreBLEU {expected:.3f} s'
  return [
    Row('BLEU', lines / seconds, 'sentences/s', note),
    Row('BLEU', expected / seconds, 'times sacreBLEU', note),
  ]


def _measure_bootstrap(
  statistics: list[np.ndarray], outputs: list[list[str]], reference: list[str]
) -> list[Row]:
  named = list(zip('ab', outputs, strict=True))
  metric = sacrebleu.BLEU(force=True, references=[reference])
  test = PairedTest(named, {'BLEU': metric}, None, 'bs', 1_000)
  compare(statistics)  # compiles
  seconds, expected = best_in_turns(
    lambda: best(lambda: compare(statistics), 20), lambda: best(test, 1), tries=5
  )
  note = f'1,000 samples of two systems; sacreBLEU {expected:.3f} s'
  return [
    Row('paired bootstrap', seconds, 's', note),
    Row('paired bootstrap', expected / seconds, 'times sacreBLEU', note),
  ]


def _disturb(lines: list[str], seed: int) -> list[str]:
  """Replaces a third of the words by others of the text."""
  rng = np.random.default_rng(seed)
  words = ' '.join(lines).split()
  return [
    ' '.join(
      words[rng.integers(len(words))] if rng.random() < 0.3 else word
      for word in line.split()
    )
    for line in lines
  ]

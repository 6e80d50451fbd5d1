"""Scores of a system's output by sacreBLEU, checked against the device's counts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import sacrebleu
from sacrebleu.metrics.bleu import BLEUScore


def corpus_scores(
  hypotheses: list[str],
  references: list[list[str]],
  convention: str,
  statistics: Mapping[str, np.ndarray] = {},  # never changed
  *,
  lowercase: bool = False,
) -> list[dict[str, Any]]:
  """Returns BLEU by the corpus's convention, the standard one and others, and chrF.

  Where the convention is 'none' the text is tokenised already, and the standard
  tokeniser is applied to tokens: its number is not comparable with one of raw text.

  Args:
    hypotheses: detokenised outputs.
    references: one or more lists of a reference for each of them.
    convention: sacreBLEU's name of the tokeniser that the corpus's papers use.
    statistics: tokeniser -> counts from the device, [R, 10].
    lowercase: whether text is compared in lower case.

  Returns:
    A dict for each: name, score, signature and sacreBLEU's own line.

  Raises:
    ArithmeticError: the device counted otherwise than sacreBLEU.
  """
  scored = []
  for tokenizer in dict.fromkeys((convention, '13a', *statistics)):
    metric = sacrebleu_metric(tokenizer, lowercase=lowercase)
    score = metric.corpus_score(hypotheses, references)
    if tokenizer in statistics:
      _check_counts(tokenizer, score, statistics[tokenizer].sum(axis=0))
    name = f'bleu ({tokenizer})'
    if convention == 'none' and tokenizer != 'none':
      name = f'bleu ({tokenizer}, of tokens)'
    scored.append((name, score, metric.get_signature()))
  metric = sacrebleu.CHRF(lowercase=lowercase)
  scored.append(
    ('chrF', metric.corpus_score(hypotheses, references), metric.get_signature())
  )
  return [
    {
      'name': name,
      'score': score.score,
      'signature': str(signature),
      'text': str(score),
    }
    for name, score, signature in scored
  ]


def sacrebleu_metric(tokenizer: str, *, lowercase: bool = False) -> sacrebleu.BLEU:
  """Returns sacreBLEU's BLEU with one of its tokenisers.

  Raises:
    ValueError: the name is unknown, or needs a package that is not installed.
  """
  known = sacrebleu.BLEU.TOKENIZERS
  if tokenizer not in known:
    raise ValueError(
      f'corpus.convention is {tokenizer!r}; sacreBLEU knows {", ".join(known)}'
    )
  try:
    return sacrebleu.BLEU(tokenize=tokenizer, lowercase=lowercase, force=True)
  except Exception as error:  # each tokeniser raises errors of another class
    raise ValueError(f'sacreBLEU cannot tokenise by {tokenizer!r}: {error}') from None


def _check_counts(tokenizer: str, score: BLEUScore, statistics: np.ndarray) -> None:
  text = [*score.counts, *score.totals, score.sys_len, score.ref_len]
  if statistics.tolist() != text:
    raise ArithmeticError(
      f'BLEU ({tokenizer}) on the device is made of {statistics.tolist()}, and of '
      f'{text} by sacreBLEU of the text: one of them is wrong. Please report it, with '
      'the vocabulary and the output'
    )

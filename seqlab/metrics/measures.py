"""Measures of outputs: exact match, symbol accuracy, CER, PER, WER, BLEU, chrF, TER.

A measure turns each line into a few integers, which are summed over lines, batches and
devices, and computes one score from the sums. Corpus scores, scores of a category,
bootstrap intervals and significance tests are all scores of such sums.

Units and definitions are those of the tools that the field uses, and the tests compare
with these tools: CER and WER with jiwer, edit distances with rapidfuzz, BLEU, chrF and
TER with sacreBLEU.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from importlib import metadata
import math
from typing import ClassVar, Literal, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from seqlab.metrics.bleu import MAX_ORDER, bleu_score, bleu_statistics
from seqlab.metrics.chrf import CHARACTER_ORDER, chrf_score, nearest_chrf
from seqlab.metrics.edit import nearest_edits
from seqlab.metrics.tokenizers import TOKENIZERS, Words
from seqlab.types import Array


class Unit(NamedTuple):
  """The tokens that a measure reads.

  Attributes:
    tokenizer: see `tokenizers.tokenize`.
    lowercase: whether text is converted to lower case first.
  """

  tokenizer: str
  lowercase: bool = False

  @property
  def of_characters(self) -> bool:
    """Whether a token is a character, so that a line has as many as its text."""
    return self.tokenizer in ('char', 'text')


class Measure(Protocol):
  """A measure that is computed on the device, from tokens.

  Attributes:
    name: name of the metric.
    columns: number of integers per line.
    units: tokens that it reads.
  """

  name: str
  columns: int
  units: tuple[Unit, ...]

  def describe(self, references: int) -> str:
    """Returns what is needed to read the score: a definition, or a signature.

    Args:
      references: number of references per line.
    """
    ...

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns the integers of each line, [..., columns] int32.

    Args:
      hypothesis: for each unit, tokens [..., K, F] and counts [...].
      references: for each unit, tokens [..., Q, J, F] and counts [..., Q].
    """
    ...

  def score(self, statistics: Array) -> Array:
    """Returns the score of summed statistics, [..., columns] -> [...]."""
    ...


class TextMeasure(Protocol):
  """A measure that is computed on the host, from the text of the device's outputs.

  Attributes:
    name: name of the metric.
    columns: number of integers per line.
  """

  name: str
  columns: int

  def describe(self, references: int) -> str:
    """Returns a signature; see `Measure`."""
    ...

  def text_statistics(
    self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Returns the integers of each line, [R, columns] int64.

    Args:
      hypotheses: R outputs.
      references: one or more references for each of them.
    """
    ...

  def score(self, statistics: Array) -> Array:
    """Returns the score of summed statistics, [..., columns] -> [...]."""
    ...


def _share(statistics: Array) -> Array:
  """Returns the first column over the second one; 0 / 0 is 0."""
  count, total = (jnp.asarray(statistics)[..., k].astype(float) for k in range(2))
  return jnp.where(total > 0, count / jnp.maximum(total, 1), count)


@dataclasses.dataclass(frozen=True)
class Exact:
  """Share of outputs whose text is that of a reference, from 0 to 1.

  White space at the ends of a line is not compared.
  """

  lowercase: bool = False
  name: ClassVar = 'exact'
  columns: ClassVar = 2

  @property
  def units(self) -> tuple[Unit, ...]:
    """All characters."""
    return (Unit('text', self.lowercase),)

  def describe(self, references: int) -> str:
    """Returns nothing: the name says it all."""
    del references
    return ''

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns whether a line is right, and 1."""
    ((ours,), (theirs,)) = hypothesis, references
    width = max(ours.hashes.shape[-2], theirs.hashes.shape[-2])
    tokens = [_widened(x.hashes, width) for x in (ours, theirs)]
    same = (tokens[0][..., None, :, :] == tokens[1]).all(axis=(-2, -1))  # [..., Q]
    same &= ours.count[..., None] == theirs.count
    right = same.any(axis=-1).astype(jnp.int32)
    return jnp.stack([right, jnp.ones_like(right)], axis=-1)

  def score(self, statistics: Array) -> Array:
    """Returns the share of lines that are right."""
    return _share(statistics)


def _widened(tokens: Array, width: int) -> Array:
  edges = [(0, 0)] * tokens.ndim
  edges[-2] = (0, width - tokens.shape[-2])
  return jnp.pad(tokens, edges)


@dataclasses.dataclass(frozen=True)
class WordErrors(Exact):
  """Share of lines that are not exactly right, where a line is one word.

  Papers on grapheme-to-phoneme conversion call it word error rate: a line is the
  pronunciation of one word (SIGMORPHON 2021,
  https://aclanthology.org/2021.sigmorphon-1.13).
  """

  name: ClassVar = 'word_errors'

  def describe(self, references: int) -> str:
    """Returns the definition."""
    del references
    return 'word_errors: share of lines that are not exactly right'

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns whether a line is wrong, and 1."""
    right = super().statistics(hypothesis, references)
    return right.at[..., 0].set(1 - right[..., 0])


@dataclasses.dataclass(frozen=True)
class EditRate:
  """Edits over tokens of the references, both summed over all lines; see `edit`.

  Attributes:
    name: name of the metric.
    tokenizer: see `tokenizers.tokenize`.
    token: name of a token, for messages.
    lowercase: whether text is converted to lower case first.
  """

  name: str
  tokenizer: str
  token: str
  lowercase: bool = False
  columns: ClassVar = 2

  @property
  def units(self) -> tuple[Unit, ...]:
    """The tokens that are edited."""
    return (Unit(self.tokenizer, self.lowercase),)

  def describe(self, references: int) -> str:
    """Returns the definition."""
    of = 'nearest reference' if references > 1 else 'reference'
    return f'{self.name}: edits per {self.token} of the {of}'

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns the edits, and the length of the nearest reference."""
    return jnp.stack(nearest_edits(hypothesis[0], references[0]), axis=-1)

  def score(self, statistics: Array) -> Array:
    """Returns edits over length, which is above 1 for very long outputs."""
    return _share(statistics)


@dataclasses.dataclass(frozen=True)
class SymbolAccuracy:
  """Share of the references' symbols that the output has at the same place, from 0 to 1.

  Symbols after the end of the reference do not count. With several references the one
  with the largest share of right symbols counts, the first one of several such.

  Attributes:
    tokenizer: see `tokenizers.tokenize`.
    lowercase: whether text is converted to lower case first.
  """

  tokenizer: str
  lowercase: bool = False
  name: ClassVar = 'symbol_accuracy'
  columns: ClassVar = 2

  @property
  def units(self) -> tuple[Unit, ...]:
    """The symbols."""
    return (Unit(self.tokenizer, self.lowercase),)

  def describe(self, references: int) -> str:
    """Returns the definition."""
    of = 'best reference' if references > 1 else 'reference'
    return f'{self.name}: symbols at their place, per symbol of the {of}'

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns the symbols at their place, and the length of the best reference."""
    ((ours,), (theirs,)) = hypothesis, references
    width = max(ours.hashes.shape[-2], theirs.hashes.shape[-2])
    tokens = [_widened(x.hashes, width) for x in (ours, theirs)]
    same = (tokens[0][..., None, :, :] == tokens[1]).all(axis=-1)  # [..., Q, K]
    ends = jnp.minimum(ours.count[..., None], theirs.count)  # [..., Q]
    right = (same & (jnp.arange(width) < ends[..., None])).sum(axis=-1)
    best = (right / jnp.maximum(theirs.count, 1)).argmax(axis=-1)[..., None]
    both = [jnp.take_along_axis(x, best, -1)[..., 0] for x in (right, theirs.count)]
    return jnp.stack(both, axis=-1).astype(jnp.int32)

  def score(self, statistics: Array) -> Array:
    """Returns right symbols over all symbols."""
    return _share(statistics)


@dataclasses.dataclass(frozen=True)
class BLEU:
  """Corpus BLEU, from 0 to 100, equal to sacreBLEU's; see `bleu`.

  Attributes:
    tokenizer: '13a', 'none' or 'char'.
    lowercase: whether text is converted to lower case first.
  """

  tokenizer: str = '13a'
  lowercase: bool = False
  name: ClassVar = 'bleu'
  columns: ClassVar = 2 * MAX_ORDER + 2

  @property
  def units(self) -> tuple[Unit, ...]:
    """The words."""
    return (Unit(self.tokenizer, self.lowercase),)

  def describe(self, references: int) -> str:
    """Returns sacreBLEU's signature."""
    options = dict(tokenizer=self.tokenizer, lowercase=self.lowercase)
    return signature(references=references, **options)

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns the ten integers of `bleu.bleu_statistics`."""
    return bleu_statistics(hypothesis[0], references[0])

  def score(self, statistics: Array) -> Array:
    """Returns BLEU."""
    return bleu_score(statistics)


@dataclasses.dataclass(frozen=True)
class ChrF:
  """chrF or chrF++, from 0 to 100, equal to sacreBLEU's; see `chrf`.

  Attributes:
    word_order: 0 for chrF, 2 for chrF++.
    lowercase: whether text is converted to lower case first.
  """

  word_order: Literal[0, 2] = 0
  lowercase: bool = False

  @property
  def name(self) -> str:
    """Name of the metric."""
    return 'chrf++' if self.word_order else 'chrf'

  @property
  def columns(self) -> int:
    """Three integers for each order of n-grams."""
    return 3 * (CHARACTER_ORDER + self.word_order)

  @property
  def units(self) -> tuple[Unit, ...]:
    """Characters, and words if they are counted."""
    names = ('char', 'chrf') if self.word_order else ('char',)
    return tuple(Unit(name, self.lowercase) for name in names)

  def describe(self, references: int) -> str:
    """Returns the name and sacreBLEU's signature."""
    parts = {
      'nrefs': references,
      'case': 'lc' if self.lowercase else 'mixed',
      'eff': 'yes',
      'nc': CHARACTER_ORDER,
      'nw': self.word_order,
      'space': 'no',
      'version': metadata.version('sacrebleu'),
    }
    return f'{self.name}: {"|".join(f"{k}:{v}" for k, v in parts.items())}'

  def statistics(
    self, hypothesis: Sequence[Words], references: Sequence[Words]
  ) -> Array:
    """Returns the counts for the reference with the best score."""
    return nearest_chrf(hypothesis, references, self.word_order)

  def score(self, statistics: Array) -> Array:
    """Returns the F-score."""
    return chrf_score(statistics)


# Largest sum of the lengths of references in `TER`. Edits are fewer than eight times as
# many except in degenerate outputs, so sums of both have 32 bits, on the device too.
_LARGEST_LENGTH = 1 << 28


@dataclasses.dataclass(frozen=True)
class TER:
  """Translation edit rate, from 0 (best), in percent, by sacreBLEU itself.

  Snover et al. 2006, https://aclanthology.org/2006.amta-papers.25. Its shifts of
  phrases are searched greedily: each round tries up to a thousand shifts, computes an
  edit distance and its path for each, and takes the best one, until none helps. Numbers
  of rounds, of shifts and their lengths depend on the data, and ties decide later
  rounds. As arrays of fixed shape this would be a thousand edit distances per line and
  round, of which nearly all are padding, so TER is counted on the host, from the text
  that the device decoded.
  """

  name: ClassVar = 'ter'
  columns: ClassVar = 2

  def describe(self, references: int) -> str:
    """Returns the name and sacreBLEU's signature."""
    version = metadata.version('sacrebleu')
    options = 'case:lc|tok:tercom|norm:no|punct:yes|asian:no'
    return f'ter: nrefs:{references}|{options}|version:{version}'

  def text_statistics(
    self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]
  ) -> np.ndarray:
    """Returns edits and the mean length of the references, both times the same number.

    The number is the least common multiple of the numbers of references, so that means
    are integers; 1 where every line has one reference. It is smaller, and means are
    rounded, where sums over the lines would not fit into 32 bits. It depends on nothing
    but the references, so that statistics of several systems can be exchanged.
    """
    from sacrebleu.metrics import TER  # here, since no other measure needs it

    metric = TER()
    pairs = zip(hypotheses, references, strict=True)
    scores = [metric.sentence_score(output, [*texts]) for output, texts in pairs]
    rows = [(score.num_edits, score.ref_length) for score in scores]
    table = np.array(rows, np.float64).reshape(-1, 2)
    room = int(_LARGEST_LENGTH / max(table[:, 1].sum(), 1))
    scale = max(1, min(math.lcm(1, *map(len, references)), room))
    return np.rint(table * scale).astype(np.int64)

  def score(self, statistics: Array) -> Array:
    """Returns edits over length, in percent; 100 for edits of empty references."""
    edits, length = (jnp.asarray(statistics)[..., k].astype(float) for k in range(2))
    rate = edits / jnp.maximum(length, 1)
    return 100 * jnp.where(length > 0, rate, edits > 0)


# From 0 to 1; the others are in percent.
SHARES = ('exact', 'cer', 'per', 'wer', 'word_errors', 'symbol_accuracy')
MEASURES = (*SHARES, 'bleu', 'chrf', 'chrf++', 'ter')


def make_measures(
  names: Sequence[str],
  *,
  tokenizer: str = '13a',
  separator: str | None = None,
  lowercase: bool = False,
) -> list[Measure | TextMeasure]:
  """Returns the measures of these names.

  Args:
    names: names of `MEASURES`. 'wer' is jiwer's: edits of words over words of the
      references. 'word_errors' is the word error rate of grapheme-to-phoneme
      conversion, where a line is one word: the share of lines that are not exactly
      right.
    tokenizer: tokeniser of 'bleu'.
    separator: character between the symbols of 'per' and 'symbol_accuracy', '' if every
      character is a symbol; by default white space.
    lowercase: whether text is compared in lower case. TER always is, as by sacreBLEU.

  Raises:
    ValueError: a name is unknown or occurs twice, there is none, or an option does not
      fit.
  """
  if not names or len(set(names)) < len(names):
    raise ValueError(
      f'measures={tuple(names)} should be one or more of {", ".join(MEASURES)}, each '
      'once'
    )
  if 'bleu' in names:
    check_tokenizer(tokenizer)
  if {'per', 'symbol_accuracy'} & {*names} and len(separator or '') > 1:
    raise ValueError(
      f'separator={separator!r} should be a single character, at which symbols of '
      "'per' and 'symbol_accuracy' are divided on the device"
    )
  known: Mapping[str, Measure | TextMeasure] = {
    'exact': Exact(lowercase),
    'cer': EditRate('cer', 'text', 'character', lowercase),
    'per': EditRate('per', _symbols(separator), 'symbol', lowercase),
    'wer': EditRate('wer', 'none', 'word', lowercase),
    'word_errors': WordErrors(lowercase),
    'symbol_accuracy': SymbolAccuracy(_symbols(separator), lowercase),
    'bleu': BLEU(tokenizer, lowercase),
    'chrf': ChrF(0, lowercase),
    'chrf++': ChrF(2, lowercase),
    'ter': TER(),
  }
  if unknown := [name for name in names if name not in known]:
    raise ValueError(
      f'measures has {unknown[0]!r}, which is not one of {", ".join(MEASURES)}'
    )
  return [known[name] for name in names]


def _symbols(separator: str | None) -> str:
  """Returns the tokeniser of symbols; see `make_measures`."""
  if separator in (None, ' '):
    return 'none'
  return separator or 'text'


def check_tokenizer(tokenizer: str) -> None:
  """Raises ValueError if BLEU with this tokeniser cannot be computed on the device."""
  if tokenizer not in TOKENIZERS:
    raise ValueError(
      f'BLEU with tokenizer={tokenizer!r} cannot be computed on the device; set it to '
      f'one of {", ".join(TOKENIZERS)}'
    )


def signature(
  *, references: int = 1, tokenizer: str = '13a', lowercase: bool = False, **fields
) -> str:
  """Returns sacreBLEU's signature of the same score (Post 2018, section 4)."""
  parts = {
    'nrefs': references,
    **fields,
    'case': 'lc' if lowercase else 'mixed',
    'eff': 'no',
    'tok': tokenizer,
    'smooth': 'exp',
    'version': metadata.version('sacrebleu'),
  }
  return '|'.join(f'{name}:{value}' for name, value in parts.items())

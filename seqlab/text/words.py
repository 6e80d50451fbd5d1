"""Words of a plain text: where they begin and end, and how often each comes.

An embedding's vocabulary has no special ids, unlike those of `text.vocabulary`: id 0
is the most frequent word.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
import difflib
import functools
import hashlib
import json
from pathlib import Path
import re
import unicodedata
import warnings

import numpy as np

from seqlab.text.phrases import Phrases
from seqlab.text.plain import PlainText
from seqlab.text.workers import in_order

TOKENIZER = 1  # raise it when `tokenize` gives other words

_LETTERS = r'[^\W\d_¹²³¼½¾]+'
_WORD = re.compile(_LETTERS)
_WORD_OR_END = re.compile(rf'{_LETTERS}|\n')
# Accents without a letter of their own, as of stress in Russian, and soft hyphens.
_MARKS = re.compile('[\u0300-\u036f\u00ad]+')
_ALL = '<all>'  # what the row of the total is called in a file of words


def tokenize(text: str) -> list[str]:
  """The words of a text: runs of letters of any script, in lower case.

  Much as gensim's `utils.tokenize(lower=True)`. Digits, underscores, hyphens and
  apostrophes are between words: "Don't re-use 3D" is don, t, re, use, d; other signs
  that Unicode counts among numbers, as ⅓ and Ⅷ, are letters. Text is brought to
  Unicode's form C first; accents that are left alone then (as of stress: за́мок) are
  dropped, and so are soft hyphens. Letters keep their accents otherwise: é is no e, ё
  no е, й no и. Scripts that write no spaces are not divided, and vowel signs as in
  Devanagari end a word.
  """
  return _WORD.findall(_tidy(text))


def tokenize_lines(text: str) -> list[str]:
  r"""Words of a text as `tokenize` gives them, and a '\n' for each one in it."""
  return _WORD_OR_END.findall(_tidy(text))


def _tidy(text: str) -> str:
  text = text.lower()  # first: some small letters are two characters
  return text if text.isascii() else _MARKS.sub('', unicodedata.normalize('NFC', text))


class WordCounts:
  """Words of a vocabulary, the most frequent first; equally frequent, alphabetically.

  Attributes:
    words: [V] str.
    counts: [V] int64, how often each comes in its corpus.
    total: number of words of the corpus, those that are not in the vocabulary too.
    phrases: joins words to phrases before they are looked up, or None.
  """

  def __init__(
    self,
    words: Sequence[str],
    counts: Sequence[int] | np.ndarray,
    total: int,
    phrases: Phrases | None = None,
  ):
    if len(words) != len(counts):
      raise ValueError(f'{len(words):,} words have {len(counts):,} counts')
    self.words, self.counts = list(words), np.asarray(counts, np.int64)
    self.total, self.phrases = int(total), phrases

  @property
  def size(self) -> int:
    """Number of words V."""
    return len(self.words)

  @functools.cached_property
  def ids(self) -> dict[str, int]:
    """Word -> id."""
    return {word: i for i, word in enumerate(self.words)}

  @functools.cached_property
  def fingerprint(self) -> str:
    """sha256 of all that decides what a text is encoded to, and of the counts."""
    phrases = self.phrases.fingerprint if self.phrases else None
    about = [TOKENIZER, self.words, self.counts.tolist(), self.total, phrases]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()

  def __len__(self) -> int:
    return self.size

  def __contains__(self, word: str) -> bool:
    return word in self.ids

  def index(self, word: str) -> int:
    """Id of a word.

    Raises:
      ValueError: it is not among the words; offers those of the nearest spelling.
    """
    if word in self.ids:
      return self.ids[word]
    raise ValueError(
      f'{word!r} is not among the {self.size:,} words{nearest(word, self.words)}'
    )

  def encode(self, tokens: Iterable[str]) -> np.ndarray:
    """Ids of words and phrases, int32; those that are not known are left out."""
    known = (self.ids.get(token, -1) for token in tokens)
    ids = np.fromiter(known, np.int32)
    return ids[ids >= 0]

  def save(self, directory: Path, name: str = 'words') -> None:
    """Writes `name.tsv`: a word, a tab, its count; the first line has the total."""
    rows = zip((_ALL, *self.words), (self.total, *self.counts.tolist()), strict=True)
    text = ''.join(f'{word}\t{count}\n' for word, count in rows)
    if self.phrases:  # first: a file of words says that all is there
      self.phrases.save(directory, f'{name}.phrases')
    unfinished = Path(directory, f'.{name}.tsv')
    unfinished.write_text(text, 'utf-8')
    unfinished.replace(unfinished.with_name(f'{name}.tsv'))

  @classmethod
  def load(cls, directory: Path, name: str = 'words') -> 'WordCounts':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line is not a word, a tab, its count.
    """
    path = Path(directory, f'{name}.tsv')
    rows = [line.split('\t') for line in path.read_text('utf-8').splitlines()]
    for number, row in enumerate(rows, 1):
      if len(row) != 2 or not row[1].isdecimal():
        raise ValueError(f'line {number:,} of {path} is not a word, a tab, its count')
    if not rows or rows[0][0] != _ALL:
      raise ValueError(
        f'line 1 of {path} is not {_ALL}, a tab, the number of all words'
      )
    words, counts = [row[0] for row in rows[1:]], [int(row[1]) for row in rows[1:]]
    has = Path(directory, f'{name}.phrases.tsv').is_file()
    phrases = Phrases.load(directory, f'{name}.phrases') if has else None
    return cls(words, counts, int(rows[0][1]), phrases)


def nearest(word: str, words: Iterable[str]) -> str:
  """'; did you mean x, y or z?' of the nearest spellings, else an empty string."""
  small = word.lower()
  able = [w for w in words if abs(len(w) - len(small)) <= 2]
  close = difflib.get_close_matches(small, able, n=3, cutoff=0.7)
  if not close:
    return ''
  *most, last = map(repr, close)
  return f'; did you mean {", ".join(most)}{" or " if most else ""}{last}?'


def count_words(
  corpus: PlainText,
  *,
  min_count: int = 5,
  max_size: int | None = None,
  phrases: Phrases | None = None,
  max_types: int = 20_000_000,
  workers: int | None = None,
) -> WordCounts:
  """Counts the words of a corpus, in one pass over it.

  Counts are exact, unless more than `max_types` different words are met. Then the
  rarest so far are forgotten: those met once; at the next time those met up to twice;
  and so on, as in word2vec.c (`ReduceVocab`), with a warning that says how many were
  forgotten and how far counts may be short.

  Args:
    corpus: the text.
    min_count: words that come less often are left out.
    max_size: keeps only so many words, the most frequent; None keeps all.
    phrases: joins words to phrases, which are counted then.
    max_types: bounds the memory, at about 150 bytes each.
    workers: processes; None decides by the length, 0 uses none. The result does not
      depend on it.

  Raises:
    ValueError: the corpus is empty, or none of its words comes often enough; an option
      is out of range; or as `PlainText.chunks`.
  """
  for name, value in (('max_size', max_size), ('max_types', max_types)):
    if value is not None and value < 1:
      raise ValueError(f'vocabulary.{name} is {value}; it must be 1 or more')
  met: Counter[str] = Counter()
  total = level = forgotten = 0
  chunks = corpus.chunks(f'counting words of {corpus.name}')
  for part in in_order(functools.partial(_count, phrases), chunks, workers=workers):
    total += part.total()
    met.update(part)
    while len(met) > max_types:
      level, before = level + 1, len(met)
      met = Counter({word: n for word, n in met.items() if n > level})
      forgotten += before - len(met)
  if forgotten:
    warnings.warn(
      f'{corpus.name} has more than {max_types:,} different words: {forgotten:,} rare '
      f'ones were forgotten on the way, so counts may be up to {level * (level + 1) // 2}'
      ' short; raise max_types for exact ones (150 bytes each)',
      stacklevel=2,
    )
  rows = sorted((-n, word) for word, n in met.items() if n >= min_count)[:max_size]
  if not rows:
    raise ValueError(
      f'no word of {corpus.name} comes {min_count} times or more, of {total:,} words in '
      'all; lower min_count, or give more text'
    )
  return WordCounts([word for _, word in rows], [-n for n, _ in rows], total, phrases)


def _count(phrases: Phrases | None, chunk: str) -> Counter[str]:
  tokens = tokenize_lines(chunk)
  counts = Counter(phrases.join(tokens) if phrases else tokens)
  del counts['\n']
  return counts


def keep_probability(
  counts: np.ndarray, total: int, threshold: float, formula: str = 'word2vec'
) -> np.ndarray:
  """How likely each place of a word is kept when frequent words are thinned out.

  With f = counts / total and t the threshold:
  'levy', 1 - p with p = 1 - √(t / f) (Mikolov et al. 2013, section 2.3,
  https://arxiv.org/abs/1310.4546; hyperwords, Levy et al. 2015, section 3.1,
  https://aclanthology.org/Q15-1016): √(t / f).
  'word2vec', as word2vec.c and gensim have it: √(t / f) + t / f.

  Args:
    counts: [V].
    total: number of words; word2vec.c takes the sum of `counts`.
    threshold: t, usually 1e-3 to 1e-5; 0 keeps all.
    formula: one of the two.

  Returns:
    [V] float32, 1 at most.

  Raises:
    ValueError: the formula is unknown, or the threshold negative.
  """
  if formula not in ('word2vec', 'levy') or threshold < 0:
    raise ValueError(
      f"subsampling by {formula!r} at {threshold}: the formula may be 'word2vec' or "
      "'levy', the threshold 0 or more"
    )
  if not threshold:
    return np.ones(len(counts), np.float32)
  ratio = threshold * total / np.maximum(counts, 1)
  keep = np.sqrt(ratio) + (ratio if formula == 'word2vec' else 0)
  return np.minimum(keep, 1).astype(np.float32)

"""Words of a plain text: how they are separated, and how often each occurs.

An embedding's vocabulary has no special ids, unlike those of `text.vocabulary`: id 0
is the most frequent word.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import difflib
import functools
import hashlib
import json
from pathlib import Path
import re
from typing import Annotated, Literal
import unicodedata
import warnings

import numpy as np

from seqlab.domains import Count, Range, check
from seqlab.io.files import write_text
from seqlab.text.lines import read_lines
from seqlab.text.phrases import Phrases
from seqlab.text.plain import PlainText
from seqlab.text.workers import in_order

TOKENIZER = 2  # raise it when `tokenize` gives other words

_LETTER = r'[^\W\d_¹²³¼½¾]'
# Dropped: combining accents that do not compose with their letter, such as stress marks
# in Russian; soft hyphens; and variation selectors, which choose between shapes of one
# character.
_DROPPED = re.compile('[\u0300-\u036f\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]+')
_ASCII_WORD = re.compile('[a-z]+')
_ASCII_WORD_OR_END = re.compile('[a-z]+|\n')
_BREAK = re.compile('[\t\n]')  # between the columns and lines of a file of words
_ALL = '<all>'  # name of the row of the total in a file of words


def tokenize(text: str) -> list[str]:
  """Returns the words of a text: runs of letters and their marks, in lower case.

  A word begins with a letter. A mark (Unicode's categories Mn, Mc and Me: vowel signs
  of Indic scripts, Arabic vowels, Hebrew points, signs of Thai) belongs to the letter
  before it, and a mark without a letter is left out. Between letters and marks of
  scripts from Hebrew on, the zero-width joiner and non-joiner belong to the word
  (Persian, Malayalam, Sinhala); elsewhere they divide words, as does the zero-width
  space, which Khmer and Thai put between words.

  For scripts without such marks the words are nearly those of gensim's
  `utils.tokenize(lower=True)`. Digits, underscores, hyphens and apostrophes divide
  words: "Don't re-use 3D" is don, t, re, use, d. Other characters that Unicode counts
  among numbers, such as ⅓ and Ⅷ, are letters. Text is first normalised to Unicode's
  form C. Accents of U+0300 to U+036F that remain (such as stress: за́мок) are dropped,
  and so are soft hyphens and variation selectors. Otherwise letters keep their accents:
  é is different from e, ё from е, й from и. Scripts without spaces are not divided;
  Tibetan is divided at the end of each syllable.
  """
  if text.isascii():
    return _ASCII_WORD.findall(text.lower())
  return _patterns()[0].findall(_tidy(text))


def tokenize_lines(text: str) -> list[str]:
  r"""Returns the words of a text as `tokenize` does, with a '\n' for each line end."""
  if text.isascii():
    return _ASCII_WORD_OR_END.findall(text.lower())
  return _patterns()[1].findall(_tidy(text))


def _tidy(text: str) -> str:
  # Lower case first: some small letters are two characters.
  text = unicodedata.normalize('NFC', text.lower())
  text, dropped = _DROPPED.subn('', text)
  # A dropped character may have separated characters that compose.
  return unicodedata.normalize('NFC', text) if dropped else text


@functools.cache
def _patterns() -> tuple[re.Pattern, re.Pattern]:
  """Returns the patterns of a word, and of a word or a line end; built once."""
  marks = f'[{_marks()}]'
  continuation = (
    rf'(?:{marks}+|(?<=[\u0590-\U0010ffff])[\u200c\u200d]+(?={_LETTER}|{marks}))'
    rf'{_LETTER}*+'
  )
  # Most words end before a character below U+0483, where no mark remains. With this test
  # first, and without backtracking (++), the pattern takes 5 % more time than one of
  # letters only.
  word = rf'{_LETTER}++(?:(?=[\u0483-\U000e01ef])(?:{continuation})*+)?+'
  return re.compile(word), re.compile(rf'{word}|\n')


def _marks() -> str:
  """Returns Unicode's marks, except the dropped ones, as ranges of a pattern."""
  marks = [
    code
    for code in range(0x483, 0x20000)  # beyond are only variation selectors
    if unicodedata.category(chr(code))[0] == 'M' and not _DROPPED.match(chr(code))
  ]
  first = [c for c, before in zip(marks, [-2, *marks], strict=False) if c - before > 1]
  last = [c for c, after in zip(marks, [*marks[1:], -2], strict=True) if after - c != 1]
  return ''.join(f'{chr(a)}-{chr(b)}' for a, b in zip(first, last, strict=True))


class WordCounts:
  """Words of a vocabulary by decreasing frequency, and alphabetically if it is equal.

  Attributes:
    words: [V] str.
    counts: [V] int64, number of occurrences of each word in the corpus.
    total: number of words of the corpus, including those not in the vocabulary.
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
    """Returns the sha256 of all that determines the encoding, and of the counts."""
    phrases = self.phrases.fingerprint if self.phrases else None
    content = [TOKENIZER, self.words, self.counts.tolist(), self.total, phrases]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()

  def __len__(self) -> int:
    return self.size

  def __contains__(self, word: str) -> bool:
    return word in self.ids

  def index(self, word: str) -> int:
    """Returns the id of a word.

    Raises:
      ValueError: it is not among the words; the message names the nearest spellings.
    """
    if word in self.ids:
      return self.ids[word]
    raise ValueError(
      f'{word!r} is not among the {self.size:,} words{nearest(word, self.words)}'
    )

  def encode(self, tokens: Iterable[str]) -> np.ndarray:
    """Returns the ids of words and phrases, int32, without unknown ones."""
    ids = np.fromiter((self.ids.get(token, -1) for token in tokens), np.int32)
    return ids[ids >= 0]

  def save(self, directory: Path, name: str = 'words') -> None:
    """Writes `name.tsv`: word, tab, count per line; the first line has the total."""
    for word in self.words:
      if not word or _BREAK.search(word):
        raise ValueError(
          f'the word {word!r} cannot be saved: it is empty, or has a tab or a line end'
        )
    rows = zip((_ALL, *self.words), (self.total, *self.counts.tolist()), strict=True)
    text = ''.join(f'{word}\t{count}\n' for word, count in rows)
    if self.phrases:  # first, because a file of words means that the set is complete
      self.phrases.save(directory, f'{name}.phrases')
    write_text(Path(directory, f'{name}.tsv'), text)

  @classmethod
  def load(cls, directory: Path, name: str = 'words') -> 'WordCounts':
    """Reads a file that `save` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line is not a word, a tab and its count.
    """
    path = Path(directory, f'{name}.tsv')
    rows = [line.split('\t') for line in read_lines(path)]
    for number, row in enumerate(rows, 1):
      if len(row) != 2 or not row[0] or not row[1].isdecimal():
        raise ValueError(f'line {number:,} of {path} is not a word, a tab, its count')
    if not rows or rows[0][0] != _ALL:
      raise ValueError(
        f'line 1 of {path} is not {_ALL}, a tab, the number of all words'
      )
    words, counts = [row[0] for row in rows[1:]], [int(row[1]) for row in rows[1:]]
    if len(set(words)) < len(words):
      repeated, _ = Counter(words).most_common(1)[0]
      raise ValueError(f'{path} has the word {repeated!r} twice: the file is damaged')
    has_phrases = Path(directory, f'{name}.phrases.tsv').is_file()
    phrases = Phrases.load(directory, f'{name}.phrases') if has_phrases else None
    return cls(words, counts, int(rows[0][1]), phrases)


def spellings(word: str) -> tuple[str, ...]:
  """Returns the spellings in which a word is looked up, in this order.

  They are the word as given; in Unicode's form C, because macOS decomposes letters and
  accents while most vocabularies compose them; and in lower case, as `tokenize` does.
  """
  composed = unicodedata.normalize('NFC', word)
  lower = unicodedata.normalize('NFC', word.lower())
  return tuple(dict.fromkeys((word, composed, lower)))


def look_up(words: np.ndarray, ids: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
  """Looks up words, each in the first of its `spellings` that has an id.

  Args:
    words: array of str, of any shape.
    ids: word -> id.

  Returns:
    Ids, int32 of the same shape, -1 for unknown words; and bool of the same shape, True
    if only the lower-case spelling has an id.
  """
  words = np.asarray(words, object)
  results: dict[str, tuple[int, bool]] = {}
  for word in set(words.ravel()):
    given, *others = spellings(word)
    form = next((form for form in (given, *others) if form in ids), None)
    lowered = form is not None and form not in (
      given,
      unicodedata.normalize('NFC', given),
    )
    results[word] = (-1 if form is None else ids[form], lowered)
  rows = np.fromiter((results[w][0] for w in words.ravel()), np.int32, words.size)
  lowered = np.fromiter((results[w][1] for w in words.ravel()), bool, words.size)
  return rows.reshape(words.shape), lowered.reshape(words.shape)


def nearest(word: str, words: Iterable[str]) -> str:
  """Returns '; did you mean x, y or z?' with the nearest spellings, or ''."""
  lower = word.lower()
  candidates = [w for w in words if abs(len(w) - len(lower)) <= 2]
  close = difflib.get_close_matches(lower, candidates, n=3, cutoff=0.7)
  if not close:
    return ''
  *others, last = map(repr, close)
  return f'; did you mean {", ".join(others)}{" or " if others else ""}{last}?'


def count_words(
  corpus: PlainText,
  *,
  min_count: Count = 5,
  max_size: Count | None = None,
  phrases: Phrases | None = None,
  max_types: Count = 20_000_000,
  workers: Annotated[int, Range(0)] | None = None,
) -> WordCounts:
  """Counts the words of a corpus in one pass.

  Counts are exact unless the corpus has more than `max_types` different words. Then the
  rarest words so far are dropped: the first time those counted once, the next time
  those counted at most twice, and so on, as in word2vec.c (`ReduceVocab`). A warning
  says how many were dropped and by how much counts may be too small.

  Args:
    corpus: the text.
    min_count: minimum count of a word in the vocabulary.
    max_size: maximum number of words, the most frequent ones; None keeps all.
    phrases: joins words to phrases, which are then counted.
    max_types: bound of the memory, which is about 150 bytes per word.
    workers: number of processes; None decides by the length of the text, 0 uses none.
      The result does not depend on it.

  Raises:
    ValueError: the corpus is empty, no word is frequent enough, or an option is out of
      range; or as in `PlainText.chunks`.
  """
  options = dict(min_count=min_count, max_size=max_size, max_types=max_types)
  check(count_words, options | dict(workers=workers), 'vocabulary.')
  occurrences: Counter[str] = Counter()
  total = level = dropped = 0
  chunks = corpus.chunks(f'counting words of {corpus.name}')
  for part in in_order(functools.partial(_count, phrases), chunks, workers=workers):
    total += part.total()
    occurrences.update(part)
    while len(occurrences) > max_types:
      level, before = level + 1, len(occurrences)
      occurrences = Counter({word: n for word, n in occurrences.items() if n > level})
      dropped += before - len(occurrences)
  if dropped:
    warnings.warn(
      f'{corpus.name} has more than {max_types:,} different words: {dropped:,} rare '
      f'ones were dropped, so counts may be too small by up to '
      f'{level * (level + 1) // 2}; raise max_types for exact counts (150 bytes per '
      'word)',
      stacklevel=2,
    )
  frequent = ((-n, word) for word, n in occurrences.items() if n >= min_count)
  rows = sorted(frequent)[:max_size]
  if not rows:
    raise ValueError(
      f'no word of {corpus.name} occurs {min_count} times or more, of {total:,} words '
      'in all; lower min_count, or give more text'
    )
  return WordCounts([word for _, word in rows], [-n for n, _ in rows], total, phrases)


def _count(phrases: Phrases | None, chunk: str) -> Counter[str]:
  tokens = tokenize_lines(chunk)
  counts = Counter(phrases.join(tokens) if phrases else tokens)
  del counts['\n']
  return counts


def keep_probability(
  counts: np.ndarray,
  total: int,
  threshold: Annotated[float, Range(0)],
  formula: Literal['word2vec', 'levy'] = 'word2vec',
) -> np.ndarray:
  """Returns the probability of keeping an occurrence of each word when subsampling.

  With f = counts / total and t the threshold it is
  'levy': √(t / f), which is 1 - p with p = 1 - √(t / f) (Mikolov et al. 2013, section
  2.3, https://arxiv.org/abs/1310.4546; hyperwords, Levy et al. 2015, section 3.1,
  https://aclanthology.org/Q15-1016);
  'word2vec': √(t / f) + t / f, as in word2vec.c and gensim.

  Args:
    counts: [V] number of occurrences of each word.
    total: number of words; word2vec.c uses the sum of `counts`.
    threshold: t, usually 1e-3 to 1e-5; 0 keeps all.
    formula: 'word2vec' or 'levy'.

  Returns:
    [V] float32, at most 1.

  Raises:
    ValueError: the formula is unknown, or the threshold negative.
  """
  if formula not in ('word2vec', 'levy') or threshold < 0:
    raise ValueError(
      f"subsampling by {formula!r} at {threshold}: the formula may be 'word2vec' or "
      "'levy', and the threshold must be at least 0"
    )
  if not threshold:
    return np.ones(len(counts), np.float32)
  ratio = threshold * total / np.maximum(counts, 1)
  keep = np.sqrt(ratio) + (ratio if formula == 'word2vec' else 0)
  return np.minimum(keep, 1).astype(np.float32)

"""Words of a plain text: where they begin and end, and how often each comes.

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
# Dropped: accents without a letter of their own, as of stress in Russian; soft hyphens;
# and variation selectors, which choose between shapes of one character.
_DROPPED = re.compile('[\u0300-\u036f\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]+')
_ASCII_WORD = re.compile('[a-z]+')
_ASCII_WORD_OR_END = re.compile('[a-z]+|\n')
_BREAK = re.compile('[\t\n]')  # between the columns and lines of a file of words
_ALL = '<all>'  # what the row of the total is called in a file of words


def tokenize(text: str) -> list[str]:
  """The words of a text: runs of letters of any script with their marks, in lower case.

  A word begins with a letter. A mark (Unicode's categories Mn, Mc and Me: vowel signs
  of Indic scripts, Arabic vowels, Hebrew points, signs of Thai) belongs to the letter
  before it, and a mark without a letter is left out. Between letters and marks of
  scripts from Hebrew on, the zero-width joiner and non-joiner belong to the word
  (Persian, Malayalam, Sinhala); elsewhere they divide words, as does the zero-width
  space, which Khmer and Thai put between words.

  For scripts without such marks the words are much those of gensim's
  `utils.tokenize(lower=True)`. Digits, underscores, hyphens and apostrophes are between
  words: "Don't re-use 3D" is don, t, re, use, d; other signs that Unicode counts among
  numbers, as ⅓ and Ⅷ, are letters. Text is brought to Unicode's form C first; accents
  of U+0300 to U+036F that are left alone then (as of stress: за́мок) are dropped, and so
  are soft hyphens and variation selectors. Letters keep their accents otherwise: é is
  not e, ё not е, й not и. Scripts that write no spaces are not divided; Tibetan is, at
  each syllable's end.
  """
  if text.isascii():
    return _ASCII_WORD.findall(text.lower())
  return _patterns()[0].findall(_tidy(text))


def tokenize_lines(text: str) -> list[str]:
  r"""Words of a text as `tokenize` gives them, and a '\n' for each one in it."""
  if text.isascii():
    return _ASCII_WORD_OR_END.findall(text.lower())
  return _patterns()[1].findall(_tidy(text))


def _tidy(text: str) -> str:
  # Lower case first: some small letters are two characters.
  text = unicodedata.normalize('NFC', text.lower())
  text, dropped = _DROPPED.subn('', text)
  # What is dropped may have stood between characters that compose.
  return unicodedata.normalize('NFC', text) if dropped else text


@functools.cache
def _patterns() -> tuple[re.Pattern, re.Pattern]:
  """A word; and a word or the end of a line. The marks are listed once per process."""
  marks = f'[{_marks()}]'
  more = (
    rf'(?:{marks}+|(?<=[\u0590-\U0010ffff])[\u200c\u200d]+(?={_LETTER}|{marks}))'
    rf'{_LETTER}*+'
  )
  # Most words end before a character below U+0483, where no mark is left. Asking for
  # that first, and going back on nothing (++), costs a twentieth more time than a
  # pattern of letters alone.
  word = rf'{_LETTER}++(?:(?=[\u0483-\U000e01ef])(?:{more})*+)?+'
  return re.compile(word), re.compile(rf'{word}|\n')


def _marks() -> str:
  """The marks of Unicode, save those that are dropped, as ranges of a pattern."""
  marks = [
    code
    for code in range(0x483, 0x20000)  # beyond, there are variation selectors only
    if unicodedata.category(chr(code))[0] == 'M' and not _DROPPED.match(chr(code))
  ]
  first = [c for c, before in zip(marks, [-2, *marks], strict=False) if c - before > 1]
  last = [c for c, after in zip(marks, [*marks[1:], -2], strict=True) if after - c != 1]
  return ''.join(f'{chr(a)}-{chr(b)}' for a, b in zip(first, last, strict=True))


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
    for word in self.words:
      if not word or _BREAK.search(word):
        raise ValueError(
          f'the word {word!r} cannot be saved: it is empty, or has a tab or a line end'
        )
    rows = zip((_ALL, *self.words), (self.total, *self.counts.tolist()), strict=True)
    text = ''.join(f'{word}\t{count}\n' for word, count in rows)
    if self.phrases:  # first: a file of words says that all is there
      self.phrases.save(directory, f'{name}.phrases')
    write_text(Path(directory, f'{name}.tsv'), text)

  @classmethod
  def load(cls, directory: Path, name: str = 'words') -> 'WordCounts':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line is not a word, a tab, its count.
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
      twice, _ = Counter(words).most_common(1)[0]
      raise ValueError(f'{path} has the word {twice!r} twice: the file is damaged')
    has = Path(directory, f'{name}.phrases.tsv').is_file()
    phrases = Phrases.load(directory, f'{name}.phrases') if has else None
    return cls(words, counts, int(rows[0][1]), phrases)


def spellings(word: str) -> tuple[str, ...]:
  """The spellings in which a word is looked up among others, the first one first.

  As given; else in Unicode's form C, since macOS gives letters and their accents apart,
  and most vocabularies do not; else in lower case, as `tokenize` makes it.
  """
  composed = unicodedata.normalize('NFC', word)
  lower = unicodedata.normalize('NFC', word.lower())
  return tuple(dict.fromkeys((word, composed, lower)))


def look_up(words: np.ndarray, ids: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
  """Finds words among others, each in the first of its `spellings` that is there.

  Args:
    words: array of str, of any shape.
    ids: word -> id.

  Returns:
    Ids, int32 of the same shape, -1 where there is none; and bool, of the same shape,
    where it is the word in lower case that was found, and not the word as it is given.
  """
  words = np.asarray(words, object)
  found: dict[str, tuple[int, bool]] = {}
  for word in set(words.ravel()):
    given, *others = spellings(word)
    form = next((form for form in (given, *others) if form in ids), None)
    lowered = form is not None and form not in (
      given,
      unicodedata.normalize('NFC', given),
    )
    found[word] = (-1 if form is None else ids[form], lowered)
  rows = np.fromiter((found[w][0] for w in words.ravel()), np.int32, words.size)
  lowered = np.fromiter((found[w][1] for w in words.ravel()), bool, words.size)
  return rows.reshape(words.shape), lowered.reshape(words.shape)


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
  min_count: Count = 5,
  max_size: Count | None = None,
  phrases: Phrases | None = None,
  max_types: Count = 20_000_000,
  workers: Annotated[int, Range(0)] | None = None,
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
  options = dict(min_count=min_count, max_size=max_size, max_types=max_types)
  check(count_words, options | dict(workers=workers), 'vocabulary.')
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
  counts: np.ndarray,
  total: int,
  threshold: Annotated[float, Range(0)],
  formula: Literal['word2vec', 'levy'] = 'word2vec',
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

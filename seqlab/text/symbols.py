"""Vocabularies of characters, of bytes and of symbols that the text itself separates.

Unlike subwords and words, they keep every space: at the ends of a line, and in runs.
They differ in what a token is, and none of them can be sampled.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
import functools
import hashlib
import json
from pathlib import Path
from typing import Annotated
import unicodedata

import numpy as np

from seqlab.domains import Check, Count
from seqlab.text.lines import one_line, one_line_byte
from seqlab.text.vocabulary import content_of, damaged, flat_ids, write_file
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK

_FIRST = EOS + 1  # id of the first token that is not special
_SILENT = (PAD, BOS, EOS)


def _refuse_sampling(sampling: float) -> None:
  if sampling:
    raise ValueError(
      'characters, bytes and symbols have no pieces to sample: set batching.sampling=0, '
      "or vocabulary.kind='bpe'"
    )


class Listed:
  """A vocabulary that is a list of tokens. Base class of characters and symbols.

  Attributes:
    size: number of ids V, special ones included.
    fingerprint: sha256 of all that decides the ids.
    separator: text between two tokens of a line.
  """

  separator = ''

  def __init__(self, tokens: Sequence[str]):
    """Takes the tokens in the order of their ids, without the special ones."""
    self._tokens = [*SPECIALS, *tokens]
    self._ids = {token: i for i, token in enumerate(tokens, _FIRST)}
    self.size = len(self._tokens)
    content = json.dumps([type(self).__name__, self._options, self._tokens])
    self.fingerprint = hashlib.sha256(content.encode()).hexdigest()

  @property
  def _options(self) -> dict:
    """Options of the constructor, besides the tokens, which `save` keeps."""
    return {}

  def split(self, line: str) -> list[str]:
    """Returns the tokens of a line."""
    raise NotImplementedError

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Listed':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it is damaged; names it.
    """
    path = Path(directory) / f'{name}.tokens'
    try:
      content = json.loads(path.read_bytes())
      return cls(content['tokens'], **content['options'])
    except (ValueError, TypeError, KeyError) as error:  # not UTF-8, JSON, or these keys
      raise damaged(path, error) from None

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.tokens`, which is JSON, one token per line."""
    tokens = ',\n'.join(json.dumps(x, ensure_ascii=False) for x in self._learnt)
    content = f'{{"options": {json.dumps(self._options)}, "tokens": [\n{tokens}\n]}}\n'
    write_file(Path(directory) / f'{name}.tokens', content.encode())

  @property
  def _learnt(self) -> list[str]:
    return self._tokens[_FIRST:]

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and where each line starts; see `vocabulary.Vocabulary`."""
    del seed
    _refuse_sampling(sampling)
    known = self._ids
    return flat_ids([[known.get(x, UNK) for x in self.split(line)] for line in lines])

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the text of each sequence as one line, see `lines.one_line`."""
    tokens, separator = self._tokens, self.separator
    return [
      one_line(separator.join(tokens[i] for i in content_of(s))) for s in sequences
    ]

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes into a text, [V]; see `vocabulary.Vocabulary`."""
    written = enumerate(one_line(f'{self.separator}{x}') for x in self._tokens)
    return [b'' if i in _SILENT else x.encode() for i, x in written]


def _most_frequent(
  tokens: Iterable[str], size: int | None, min_count: int
) -> list[str]:
  """Returns the tokens that have room, by their frequency."""
  if size is not None and size <= len(SPECIALS):
    raise ValueError(
      f'vocabulary.size={size} has no room for tokens besides {", ".join(SPECIALS)}'
    )
  ranked = sorted(Counter(tokens).items(), key=lambda item: (-item[1], item[0]))
  kept = [token for token, count in ranked if count >= min_count]
  return kept if size is None else kept[: size - len(SPECIALS)]


class Characters(Listed):
  """Characters of Unicode (code points); see `vocabulary.Vocabulary`.

  A letter and a combining mark after it are two tokens, as in the text. Nothing is
  normalised: `corpus.normalize` does that.
  """

  @classmethod
  def train(
    cls, lines: Iterable[str], *, size: Count | None = None, min_count: Count = 1
  ) -> 'Characters':
    """Lists the characters of a text.

    Args:
      lines: sentences.
      size: largest number of ids V, the four special ones included; the most frequent
        characters are kept. None keeps all.
      min_count: characters that are rarer than this are UNK.

    Raises:
      ValueError: the size has no room for a character.
    """
    counted = (c for line in lines for c in _without_nul(line))
    return cls(_most_frequent(counted, size, min_count))

  def split(self, line: str) -> list[str]:
    """Returns the characters of a line."""
    return [*_without_nul(line)]

  def pieces(self) -> list[str]:
    """Returns a name of every id, [V]: the character, ▁ for a space, or U+0009."""
    return [*SPECIALS, *map(character_name, self._learnt)]


def _without_nul(line: str) -> str:
  return line.replace('\0', '\ufffd')


def character_name(character: str) -> str:
  """Returns a visible name of a character; no two characters have the same.

  That is '▁' for a space, the number, as in U+0009, for other characters that cannot be
  seen alone and for ▁ itself, and else the character.
  """
  if character == ' ':
    return '▁'
  invisible = unicodedata.category(character)[0] in 'CZ'
  return f'U+{ord(character):04X}' if invisible or character == '▁' else character


class Bytes:
  """The 256 bytes of UTF-8; see `vocabulary.Vocabulary`. No text is needed to make it.

  Attributes:
    size: 260, with the special ids.
    fingerprint: sha256 of all that decides the ids.
    separator: text between two tokens of a line.
  """

  size = _FIRST + 256
  fingerprint = hashlib.sha256(b'bytes of UTF-8').hexdigest()
  separator = ''

  @classmethod
  def train(cls, lines: Iterable[str]) -> 'Bytes':
    """Returns the vocabulary, which is the same for all texts."""
    del lines
    return cls()

  @classmethod
  def planned_size(cls) -> int:
    """Returns the number of ids, which is known without a text."""
    return cls.size

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Bytes':
    """Returns the vocabulary; nothing is read."""
    del directory, name
    return cls()

  def save(self, directory: Path, name: str) -> None:
    """Writes nothing, since all vocabularies of bytes are the same."""

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and where each line starts; see `vocabulary.Vocabulary`."""
    del seed
    _refuse_sampling(sampling)
    encoded = [_without_nul(line).encode() for line in lines]
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum([len(line) for line in encoded], out=offsets[1:])
    return np.frombuffer(b''.join(encoded), np.uint8).astype(np.int32) + _FIRST, offsets

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the text of each sequence as one line, see `lines.one_line`."""
    written = self._written
    texts = (b''.join(written[i] for i in content_of(s)) for s in sequences)
    return [one_line(text.decode('utf-8', 'replace')) for text in texts]

  def pieces(self) -> list[str]:
    """Returns a name of every id, [V]: 'a', ▁ for a space, or <0xC3>."""
    return [*SPECIALS, *map(_byte_name, range(256))]

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes into a text, [V]; see `vocabulary.Vocabulary`."""
    return list(self._written)

  @functools.cached_property
  def _written(self) -> list[bytes]:
    special = [b'' if i in _SILENT else x.encode() for i, x in enumerate(SPECIALS)]
    return [*special, *map(one_line_byte, range(256))]


def _byte_name(byte: int) -> str:
  if byte == ord(' '):
    return '▁'
  return chr(byte) if ord(' ') < byte < 0x7F else f'<0x{byte:02X}>'


def _check_separator(value: str) -> None:
  if not value or '\n' in value or '\0' in value:
    raise ValueError('a text of at least one character, without line breaks')


class Symbols(Listed):
  """Symbols that a separator divides, as in V;PST;3; see `vocabulary.Vocabulary`.

  With a separator, lines are encoded and decoded exactly, empty symbols included.
  Without one, runs of white space divide symbols, and one space is written for each.

  Attributes:
    ordered: whether the order of symbols matters; see `parts.Parts`.
  """

  def __init__(
    self, tokens: Sequence[str], *, separator: str | None = None, ordered: bool = True
  ):
    """Takes the symbols in the order of their ids; see `train` for the options."""
    self._given, self.ordered = separator, ordered
    self.separator = ' ' if separator is None else separator
    super().__init__(tokens)

  @property
  def _options(self) -> dict:
    return {'separator': self._given, 'ordered': self.ordered}

  @classmethod
  def train(
    cls,
    lines: Iterable[str],
    *,
    separator: Annotated[str, Check(_check_separator)] | None = None,
    ordered: bool = True,
    size: Count | None = None,
    min_count: Count = 1,
  ) -> 'Symbols':
    """Lists the symbols of a text.

    Args:
      lines: sentences.
      separator: text between two symbols, such as ';'. None takes any white space.
      ordered: False for a set of features, the order of which means nothing: a model
        that can gives all of them position 0 (Wu et al. 2021,
        https://arxiv.org/abs/2005.10213).
      size: largest number of ids V, the four special ones included; the most frequent
        symbols are kept. None keeps all.
      min_count: symbols that are rarer than this are UNK.

    Raises:
      ValueError: the size has no room for a symbol.
    """
    counted = (x for line in lines for x in _divided(line, separator))
    tokens = _most_frequent(counted, size, min_count)
    return cls(tokens, separator=separator, ordered=ordered)

  def split(self, line: str) -> list[str]:
    """Returns the symbols of a line."""
    return _divided(line, self._given)

  def normal(self, line: str) -> str:
    """Returns the symbols of a line, separated; see `vocabulary.normal_form`."""
    return one_line(self.separator.join(self.split(line)))

  def pieces(self) -> list[str]:
    r"""Returns a name of every id, [V]: the symbol; \ precedes a special name."""
    return [*SPECIALS, *map(_symbol_name, self._learnt)]


def _divided(line: str, separator: str | None) -> list[str]:
  if separator is None:
    return line.split()
  return _without_nul(line).split(separator) if line else []


def _symbol_name(symbol: str) -> str:
  return f'\\{symbol}' if symbol in SPECIALS or symbol.startswith('\\') else symbol

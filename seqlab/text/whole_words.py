"""Vocabularies of whole words."""

from collections import Counter
from collections.abc import Iterable, Sequence
import hashlib
from pathlib import Path

import numpy as np

from seqlab.domains import Count
from seqlab.text.lines import one_line
from seqlab.text.lines import words as words_of
from seqlab.text.vocabulary import content_of, damaged, flat_ids, write_file
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK


class Words:
  """Words between white space; those not kept are UNK. See `vocabulary.Vocabulary`."""

  def __init__(self, words: Sequence[str]):
    """Takes `words` in the order of their ids, without the special ones."""
    self._words = [*SPECIALS, *words]
    self._ids = {word: i for i, word in enumerate(self._words) if i > EOS}
    self.size = len(self._words)
    self.fingerprint = hashlib.sha256('\n'.join(self._words).encode()).hexdigest()

  @classmethod
  def train(
    cls, lines: Iterable[str], *, size: Count = 8_000, min_count: Count = 1
  ) -> 'Words':
    """Keeps the most frequent words of a text.

    Args:
      lines: sentences.
      size: largest number of ids V, the four special ones included.
      min_count: words that are rarer than this are UNK.

    Raises:
      ValueError: the size has no room for a word.
    """
    if size <= len(SPECIALS):
      raise ValueError(
        f'vocabulary.size={size} has no room for words besides {", ".join(SPECIALS)}'
      )
    counts = Counter(word for line in lines for word in words_of(line))
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [w for w, n in ranked if n >= min_count and w not in SPECIALS]
    return cls(kept[: size - len(SPECIALS)])

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Words':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it is damaged; names it.
    """
    path = Path(directory) / f'{name}.txt'
    try:
      text = path.read_bytes().decode('utf-8')
    except UnicodeDecodeError as error:
      raise damaged(path, error) from None
    return cls(text.split('\n') if text else [])

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and where each line starts; see `vocabulary.Vocabulary`."""
    del seed
    if sampling:
      raise ValueError("words have no pieces to sample: set vocabulary.kind='bpe'")
    return flat_ids([[self._ids.get(w, UNK) for w in words_of(line)] for line in lines])

  def normal(self, line: str) -> str:
    """Returns the words of a line, joined by spaces; see `vocabulary.normal_form`."""
    return one_line(' '.join(words_of(line)))

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the words of each sequence up to its first EOS, joined by spaces."""
    texts = (' '.join(self._words[i] for i in content_of(s)) for s in sequences)
    return [one_line(text) for text in texts]

  def pieces(self) -> list[str]:
    """Returns the word of every id, [V]."""
    return list(self._words)

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes into a text, [V]; see `vocabulary.Vocabulary`."""
    silent = (PAD, BOS, EOS)
    written = enumerate(map(one_line, self._words))
    return [b'' if i in silent else f' {w}'.encode() for i, w in written]

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.txt`, one word per line."""
    text = '\n'.join(self._words[EOS + 1 :])
    write_file(Path(directory) / f'{name}.txt', text.encode())

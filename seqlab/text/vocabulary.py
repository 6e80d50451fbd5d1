"""Vocabularies: strings to ids and back.

SentencePiece (Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226) with
byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) or the
unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959), and plain words.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
import functools
import hashlib
import io
import json
from pathlib import Path
import random
import re
from typing import Protocol

import numpy as np
import sentencepiece

from seqlab.config import call
from seqlab.io.files import read_json_object, write_bytes
from seqlab.text.corpora import Corpus
from seqlab.text.sampling import Sampler
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK

_CHUNK = 8_192  # lines that share one seed when pieces are sampled


class Vocabulary(Protocol):
  """Strings to ids and back. No method adds BOS or EOS.

  Attributes:
    kind: 'bpe', 'unigram' or 'word'.
    size: number of ids V, special ones included.
    fingerprint: sha256 of all that decides the ids.
  """

  kind: str
  size: int
  fingerprint: str

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Ids [N] int32 of all lines in a row, and where each starts, [R + 1] int64.

    With `sampling` > 0 a line's pieces are drawn: BPE-dropout with that
    probability (Provilkov et al. 2020, https://arxiv.org/abs/1910.13267), or
    unigram sampling with that α. A pure function of (lines, sampling, seed).
    """
    ...

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Text of each sequence up to its first EOS; PAD and BOS are nothing."""
    ...

  def pieces(self) -> list[str]:
    """The piece of every id, [V]."""
    ...

  def surfaces(self) -> list[bytes]:
    """What every id writes into a text, in UTF-8, [V].

    A text is these one after the other, without the spaces it begins with.
    Special ids but UNK write nothing; a byte piece may write a part of a
    character, and what is no UTF-8 in the end reads as U+FFFD.
    """
    ...

  def save(self, directory: Path, name: str) -> None:
    """Writes `directory/name.*`, which `load_vocabulary` reads."""
    ...


class SentencePiece:
  """A SentencePiece model; see `Vocabulary`."""

  def __init__(self, model: bytes, kind: str):
    self._model, self.kind = model, kind
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.size = self._processor.vocab_size()
    self.fingerprint = hashlib.sha256(model).hexdigest()

  @functools.cached_property
  def _sampler(self) -> Sampler:
    return Sampler(self._processor, self.kind)

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all lines in a row, and where each starts; see `Vocabulary`."""
    lines = list(lines)
    if not sampling:
      return _flat(self._processor.encode(lines))
    drawn = []
    for chunk, start in enumerate(range(0, len(lines), _CHUNK)):
      mixed = hashlib.sha256(f'{seed}:{chunk}'.encode()).digest()
      draw = random.Random(int.from_bytes(mixed[:8], 'little')).random
      part = lines[start : start + _CHUNK]
      drawn += [self._sampler.draw(line, sampling, draw) for line in part]
    return _flat(drawn)

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Text of each sequence up to its first EOS."""
    surfaces = self._surfaces
    texts = (b''.join([surfaces[i] for i in _content(s)]) for s in sequences)
    return [text.decode('utf-8', 'replace').lstrip(' ') for text in texts]

  def pieces(self) -> list[str]:
    """The piece of every id, [V]."""
    return self._processor.id_to_piece(list(range(self.size)))

  def surfaces(self) -> list[bytes]:
    """What every id writes into a text, [V]; see `Vocabulary`."""
    return list(self._surfaces)

  @functools.cached_property
  def _surfaces(self) -> list[bytes]:
    p = self._processor
    written = []
    for i, piece in enumerate(self.pieces()):
      if p.is_control(i):
        written.append(b'')
      elif p.is_byte(i):  # <0x41>
        written.append(bytes([int(piece[3:-1], 16)]))
      else:  # SentencePiece writes its own sign for UNK
        text = ' \u2047 ' if p.is_unknown(i) else piece.replace('\u2581', ' ')
        written.append(text.encode('utf-8'))
    return written

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.model`, which other tools read too, and `name.json`."""
    _write(directory, f'{name}.model', self._model)
    _write(directory, f'{name}.json', json.dumps({'kind': self.kind}).encode())


class Words:
  """Words between white space; those not kept are UNK. See `Vocabulary`."""

  kind = 'word'

  def __init__(self, words: Sequence[str]):
    """`words` in the order of their ids, special ones left out."""
    self._words = [*SPECIALS, *words]
    self._ids = {word: i for i, word in enumerate(self._words) if i > EOS}
    self.size = len(self._words)
    self.fingerprint = hashlib.sha256('\n'.join(self._words).encode()).hexdigest()

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Ids of all lines in a row, and where each starts; see `Vocabulary`."""
    del seed
    if sampling:
      raise ValueError("words have no pieces to sample: set vocabulary.kind='bpe'")
    return _flat([[self._ids.get(w, UNK) for w in line.split()] for line in lines])

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Words of each sequence up to its first EOS, with spaces between."""
    return [' '.join(self._words[i] for i in _content(s)) for s in sequences]

  def pieces(self) -> list[str]:
    """The word of every id, [V]."""
    return list(self._words)

  def surfaces(self) -> list[bytes]:
    """What every id writes into a text, [V]; see `Vocabulary`."""
    silent = (PAD, BOS, EOS)
    words = enumerate(self._words)
    return [b'' if i in silent else f' {w}'.encode() for i, w in words]

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.txt`, a word a line, and `name.json`."""
    _write(directory, f'{name}.txt', '\n'.join(self._words[EOS + 1 :]).encode())
    _write(directory, f'{name}.json', json.dumps({'kind': self.kind}).encode())


def _flat(encoded: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  offsets = np.zeros(len(encoded) + 1, np.int64)
  np.cumsum([len(ids) for ids in encoded], out=offsets[1:])
  flat = np.fromiter((i for ids in encoded for i in ids), np.int32, int(offsets[-1]))
  return flat, offsets


def _content(sequence: Sequence[int]) -> list[int]:
  ids = np.asarray(sequence).tolist()
  if EOS in ids:
    ids = ids[: ids.index(EOS)]
  return [i for i in ids if i not in (PAD, BOS)]


def _write(directory: Path, name: str, content: bytes) -> None:
  Path(directory).mkdir(parents=True, exist_ok=True)
  write_bytes(Path(directory) / name, content)


def train_vocabulary(
  lines: Iterable[str],
  *,
  kind: str = 'bpe',
  size: int = 8_000,
  character_coverage: float = 1.0,
  byte_fallback: bool = False,
  min_count: int = 1,
) -> Vocabulary:
  """Learns a vocabulary from text. Deterministic.

  Text is taken as it is ('identity' normalisation): NFKC would change references
  that evaluation reads back from outputs, such as ¾ or ™.

  Args:
    lines: sentences.
    kind: 'bpe', 'unigram' or 'word'.
    size: number of ids V, the four special ones included; for words, at most.
    character_coverage: share of characters that get a piece; the rest are UNK.
    byte_fallback: spell characters without a piece as bytes, so that there is
      no UNK. Takes 256 ids.
    min_count: words that are rarer than this are UNK.

  Raises:
    ValueError: the kind is unknown, or the text is too small for the size.
  """
  if kind == 'word':
    counts = Counter(word for line in lines for word in line.split())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    kept = [w for w, n in ranked if n >= min_count and w not in SPECIALS]
    if size <= len(SPECIALS):
      raise ValueError(
        f'vocabulary.size={size} has no room beside {", ".join(SPECIALS)}'
      )
    return Words(kept[: size - len(SPECIALS)])
  if kind not in ('bpe', 'unigram'):
    raise ValueError(
      f"vocabulary.kind is {kind!r}; it may be 'bpe', 'unigram' or 'word'"
    )
  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=model,
      model_type=kind,
      vocab_size=size,
      character_coverage=character_coverage,
      byte_fallback=byte_fallback,
      normalization_rule_name='identity',
      max_sentence_length=1 << 20,  # bytes; the default drops long lines silently
      minloglevel=2,
      **{f'{n}_id': i for n, i in _IDS},
      **{f'{n}_piece': SPECIALS[i] for n, i in _IDS},
    )
  except RuntimeError as error:
    raise ValueError(_explain(str(error), size)) from None
  return SentencePiece(model.getvalue(), kind)


_IDS = (('pad', PAD), ('unk', UNK), ('bos', BOS), ('eos', EOS))


def _explain(error: str, size: int) -> str:
  most = re.search(r'value <= (\d+)', error)
  least = re.search(r'meta_pieces\.size\(\).*?(\d+) vs|required_chars.*?(\d+)', error)
  if most:
    return f'the text has pieces for a vocabulary of at most {most[1]}: set vocabulary.size={most[1]} or less (it is {size})'
  if 'smaller than required_chars' in error or least:
    return f'vocabulary.size={size} is too small for the characters of the text: raise it, lower vocabulary.character_coverage or set vocabulary.byte_fallback=True. ({error.splitlines()[-1]})'
  return f'SentencePiece could not learn a vocabulary of {size}: {error}'


def load_vocabulary(directory: Path, name: str) -> Vocabulary:
  """Reads what `save` wrote.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is damaged.
  """
  directory = Path(directory)
  about = directory / f'{name}.json'
  kind = read_json_object(about).get('kind')
  if kind not in ('word', 'bpe', 'unigram'):
    raise ValueError(f'{about} is damaged: its kind of vocabulary is {kind!r}')
  path = directory / f'{name}.{"txt" if kind == "word" else "model"}'
  content = path.read_bytes()
  try:
    if kind == 'word':
      text = content.decode('utf-8')
      return Words(text.split('\n') if text else [])
    if not content:  # SentencePiece takes it for no model at all
      raise ValueError('the file is empty')
    return SentencePiece(content, kind)
  except (ValueError, RuntimeError, OSError) as error:
    raise ValueError(f'{path} is damaged: {error}') from None


class Vocabularies:
  """Those of both languages; one and the same object if shared."""

  def __init__(self, source: Vocabulary, target: Vocabulary):
    self.source, self.target = source, target

  @property
  def shared(self) -> bool:
    """Whether both languages have one vocabulary."""
    return self.source is self.target

  def save(self, directory: Path, options: Mapping | None = None) -> None:
    """Writes both, and last `vocabularies.json`, which says they are whole.

    `options` are those they were made with, for `load` to compare.
    """
    if self.shared:
      self.source.save(directory, 'shared')
    else:
      self.source.save(directory, 'source')
      self.target.save(directory, 'target')
    made = {'shared': self.shared, 'options': dict(options or {})}
    about = json.dumps(made, indent=2).encode()
    _write(Path(directory), 'vocabularies.json', about)

  @classmethod
  def load(cls, directory: Path, options: Mapping | None = None) -> 'Vocabularies':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it was made with other options, or a file is damaged.
    """
    path = Path(directory) / 'vocabularies.json'
    about = read_json_object(path)
    if not isinstance(about.get('shared'), bool):
      raise ValueError(
        f'{path} is damaged: it does not say if the vocabulary is shared'
      )
    made = about.get('options') or options
    if options is not None and json.loads(json.dumps(dict(options))) != made:
      raise ValueError(
        f'the vocabulary in {directory} was made with {made}, and the experiment says '
        f'{dict(options)}: use another workdir, or delete the vocabulary and train anew'
      )
    if about['shared']:
      shared = load_vocabulary(directory, 'shared')
      return cls(shared, shared)
    return cls(
      load_vocabulary(directory, 'source'), load_vocabulary(directory, 'target')
    )


def build_vocabularies(
  corpus: Corpus,
  *,
  kind: str = 'bpe',
  size: int | Sequence[int] = 8_000,
  shared: bool = True,
  split: str = 'train',
  **options,
) -> Vocabularies:
  """Learns the vocabularies of a corpus from its training split.

  Args:
    corpus: gives the text.
    kind: 'bpe', 'unigram' or 'word'.
    size: ids in each vocabulary, or a pair for source and target.
    shared: one vocabulary, learnt from both languages.
    split: where the text comes from.
    **options: of `train_vocabulary`.
  """

  def _train(lines: list[str], **more) -> Vocabulary:
    return call(train_vocabulary, options, 'vocabulary', lines=lines, **more)

  source, target = corpus.read(split)
  if shared:
    if not isinstance(size, int):
      raise ValueError(f'a shared vocabulary has one size, and got {tuple(size)}')
    both = _train([*source, *target], kind=kind, size=size)
    return Vocabularies(both, both)
  sizes = (size, size) if isinstance(size, int) else tuple(size)
  return Vocabularies(
    *(
      _train(lines, kind=kind, size=n)
      for lines, n in zip((source, target), sizes, strict=True)
    )
  )

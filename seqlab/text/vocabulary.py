"""Vocabularies: strings to ids and back.

SentencePiece (Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226) with
byte-pair encoding (Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) or the
unigram model (Kudo 2018, https://arxiv.org/abs/1804.10959), and plain words.

Lines, words and what may stand on a line of output are those of `seqlab.text.lines`.
White space at the ends of a line is lost, and runs of spaces become one. All other
text comes back from its ids as it was, as far as its characters have pieces, but for
characters that would end the line (they come back as spaces) and for NUL (U+FFFD).
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
from typing import Annotated, Protocol

import numpy as np
import sentencepiece

from seqlab.config import call
from seqlab.domains import Count, Range, checked
from seqlab.io.files import write_bytes
from seqlab.text.corpora import Corpus
from seqlab.text.lines import one_line, one_line_byte, words
from seqlab.text.sampling import Sampler
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK

_CHUNK = 8_192  # lines that share one seed when pieces are sampled

# SentencePiece writes spaces as U+2581. When it learns it leaves out every line with
# U+2585, and learns nothing of U+001F, which it puts between parts of a line. In their
# place it reads noncharacters, which no text should hold (Unicode 16, section 23.7);
# where one does, it is read as U+FFFD. NUL ends a text for it.
_SPACE_MARK, _SPACE_ESCAPE = '\u2581', '\ufdd0'
_LEARNT_ESCAPES = {'\u2585': '\ufdd1', '\x1f': '\ufdd2'}
_ESCAPES = {_SPACE_MARK: _SPACE_ESCAPE, **_LEARNT_ESCAPES}
_REPLACED = dict.fromkeys(('\0', *_ESCAPES.values()), '\ufffd')
_RESERVED = re.compile(f'[{"".join((*_ESCAPES, *_REPLACED))}]')
# Names of special ids and of bytes, which SentencePiece takes out of what it learns.
_NAMES = re.compile(rf'<(?={"|".join(x[1:] for x in SPECIALS)}|0x[0-9A-F]{{2}}>)')


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
    character, and what is not UTF-8 in the end reads as U+FFFD. None holds a line
    break or NUL; a break that several byte pieces spell together is a space in the
    text, which no score tells apart.
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
    lines = [self._readable(line) for line in lines]
    if not sampling:
      return self._restore_bytes(*_flat(self._processor.encode(lines)))
    drawn = []
    for chunk, start in enumerate(range(0, len(lines), _CHUNK)):
      mixed = hashlib.sha256(f'{seed}:{chunk}'.encode()).digest()
      draw = random.Random(int.from_bytes(mixed[:8], 'little')).random
      part = lines[start : start + _CHUNK]
      drawn += [self._sampler.draw(line, sampling, draw) for line in part]
    return self._restore_bytes(*_flat(drawn))

  def _readable(self, line: str) -> str:
    """The line with escapes for those characters that SentencePiece reserves."""
    if not _RESERVED.search(line):
      return line
    return line.translate(self._escapes)

  @functools.cached_property
  def _escapes(self) -> dict[int, str]:
    # Once it has learnt, SentencePiece reads U+2585 and U+001F as any other character,
    # and a model that did not learn their escapes does not know them.
    known = {x: y for x, y in _LEARNT_ESCAPES.items() if self._knows(y)}
    return str.maketrans({_SPACE_MARK: _SPACE_ESCAPE, **known, **_REPLACED})

  def _knows(self, piece: str) -> bool:
    return not self._processor.is_unknown(self._processor.piece_to_id(piece))

  def _restore_bytes(
    self, flat: np.ndarray, offsets: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Where the escape of U+2581 is spelt in bytes, spells U+2581 itself."""
    if self._byte_ids is not None:
      escape, mark = self._byte_ids
      a, b, c = escape
      at = np.flatnonzero((flat[:-2] == a) & (flat[1:-1] == b) & (flat[2:] == c))
      flat[at[:, None] + np.arange(3)] = mark
    return flat, offsets

  @functools.cached_property
  def _byte_ids(self) -> tuple[list[int], list[int]] | None:
    """Ids of the bytes of the escape and of the mark; None without byte pieces."""
    if not self._knows('<0x00>'):
      return None
    return tuple(
      [self._processor.piece_to_id(f'<0x{byte:02X}>') for byte in text.encode()]
      for text in (_SPACE_ESCAPE, _SPACE_MARK)
    )

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Text of each sequence up to its first EOS; one line, see `lines.one_line`."""
    surfaces = self._surfaces
    texts = (b''.join([surfaces[i] for i in _content(s)]) for s in sequences)
    return [one_line(text.decode('utf-8', 'replace')).lstrip(' ') for text in texts]

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
        written.append(one_line_byte(int(piece[3:-1], 16)))
      else:  # SentencePiece writes its own sign for UNK
        text = ' \u2047 ' if p.is_unknown(i) else piece.translate(_WRITTEN)
        written.append(one_line(text).encode('utf-8'))
    return written

  def save(self, directory: Path, name: str) -> None:
    """Writes `name.model`, which other tools read too, and `name.json`."""
    _write(directory, f'{name}.model', self._model)
    _write(directory, f'{name}.json', json.dumps({'kind': self.kind}).encode())


_WRITTEN = str.maketrans({_SPACE_MARK: ' ', **{y: x for x, y in _ESCAPES.items()}})


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
    return _flat([[self._ids.get(w, UNK) for w in words(line)] for line in lines])

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Words of each sequence up to its first EOS, with spaces between."""
    texts = (' '.join(self._words[i] for i in _content(s)) for s in sequences)
    return [one_line(text) for text in texts]

  def pieces(self) -> list[str]:
    """The word of every id, [V]."""
    return list(self._words)

  def surfaces(self) -> list[bytes]:
    """What every id writes into a text, [V]; see `Vocabulary`."""
    silent = (PAD, BOS, EOS)
    written = enumerate(map(one_line, self._words))
    return [b'' if i in silent else f' {w}'.encode() for i, w in written]

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


@checked
def train_vocabulary(
  lines: Iterable[str],
  *,
  kind: str = 'bpe',
  size: Count = 8_000,
  character_coverage: Annotated[float, Range(0, 1, exclude_low=True)] = 1.0,
  byte_fallback: bool = False,
  min_count: Count = 1,
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
    counts = Counter(word for line in lines for word in words(line))
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
  lines = [_learnable(line) for line in lines]
  try:
    sentencepiece.SentencePieceTrainer.train(
      sentence_iterator=iter(lines),
      model_writer=model,
      model_type=kind,
      vocab_size=size,
      character_coverage=character_coverage,
      byte_fallback=byte_fallback,
      normalization_rule_name='identity',
      max_sentence_length=_room(lines),
      minloglevel=2,
      **{f'{n}_id': i for n, i in _IDS},
      **{f'{n}_piece': SPECIALS[i] for n, i in _IDS},
    )
  except RuntimeError as error:
    raise ValueError(_explain(str(error), size)) from None
  return SentencePiece(model.getvalue(), kind)


def _learnable(line: str) -> str:
  """The line as SentencePiece may read it when it learns: it leaves out none.

  A name such as <s> is cut after its first sign, so that its characters are learnt.
  """
  if '<' in line:
    line = _NAMES.sub('< ', line)
  return line.translate(_LEARNT) if _RESERVED.search(line) else line


_LEARNT = str.maketrans({**_ESCAPES, **_REPLACED})


def _room(lines: Sequence[str]) -> int:
  """Bytes of the longest line; SentencePiece leaves out lines that are longer."""
  least = 1 << 20  # a number that models of ordinary text have in common
  if all(4 * len(line) < least for line in lines):
    return least
  return max(least, 1 + max(len(line.encode('utf-8')) for line in lines))


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
    ValueError: a file is damaged; names it.
  """
  directory = Path(directory)
  path = directory / f'{name}.json'
  kind = _read_json(path).get('kind')
  if kind not in ('bpe', 'unigram', 'word'):
    raise ValueError(f'{path} is damaged: its kind is {kind!r}. {_BRING_BACK}')
  path = directory / (f'{name}.txt' if kind == 'word' else f'{name}.model')
  content = path.read_bytes()
  if kind == 'word':
    try:
      text = content.decode('utf-8')
    except UnicodeDecodeError as error:
      raise ValueError(f'{path} is damaged: {error}. {_BRING_BACK}') from None
    return Words(text.split('\n') if text else [])
  try:
    model = SentencePiece(content, kind) if content else None
  except RuntimeError:
    model = None
  if model is None or not model.size:
    raise ValueError(f'{path} is damaged: not a SentencePiece model. {_BRING_BACK}')
  return model


_BRING_BACK = "Bring the run's vocabulary back from a copy, or train anew"


def _read_json(path: Path) -> dict:
  try:
    found = json.loads(path.read_bytes())
  except ValueError as error:  # not JSON, or not UTF-8
    raise ValueError(f'{path} is damaged: {error}. {_BRING_BACK}') from None
  if not isinstance(found, dict):
    raise ValueError(f'{path} is damaged: not an object of JSON. {_BRING_BACK}')
  return found


class Vocabularies:
  """The vocabularies of the sides of a corpus; one and the same object if shared.

  Attributes:
    source: vocabulary of the source side of parallel text.
    target: vocabulary of the target side.
    text: vocabulary of text of one side.
    sides: name of a side -> its vocabulary, for the sides that there are.
  """

  def __init__(
    self,
    source: Vocabulary | None = None,
    target: Vocabulary | None = None,
    *,
    text: Vocabulary | None = None,
  ):
    self.source, self.target, self.text = source, target, text
    sides = {'source': source, 'target': target, 'text': text}
    self.sides = {name: v for name, v in sides.items() if v is not None}

  @property
  def shared(self) -> bool:
    """Whether several sides have one vocabulary."""
    first, *others = self.sides.values()
    return bool(others) and all(v is first for v in others)

  def save(self, directory: Path, options: Mapping | None = None) -> None:
    """Writes both, and last `vocabularies.json`, which says they are whole.

    `options` are those they were made with, for `load` to compare.
    """
    directory, sides = Path(directory), self.sides
    files = {'shared': next(iter(sides.values()))} if self.shared else sides
    for name, vocabulary in files.items():
      vocabulary.save(directory, name)
    made = {'shared': self.shared, 'options': dict(options or {})}
    if [*sides] != _PAIR:
      made['sides'] = [*sides]
    about = json.dumps(made, indent=2).encode()
    _write(directory, 'vocabularies.json', about)

  @classmethod
  def load(cls, directory: Path, options: Mapping | None = None) -> 'Vocabularies':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it was made with other options, or a file is damaged.
    """
    path = Path(directory) / 'vocabularies.json'
    about = _read_json(path)
    if not isinstance(about.get('shared'), bool):
      raise ValueError(f'{path} is damaged: it does not say "shared". {_BRING_BACK}')
    made = about.get('options') or options
    if options is not None and json.loads(json.dumps(dict(options))) != made:
      raise ValueError(
        f'the vocabulary in {directory} was made with {made}, and the experiment says '
        f'{dict(options)}: use another workdir, or delete the vocabulary and train anew'
      )
    sides = about.get('sides', _PAIR)
    if about['shared']:
      shared = load_vocabulary(directory, 'shared')
      return cls(**dict.fromkeys(sides, shared))
    return cls(**{side: load_vocabulary(directory, side) for side in sides})


_PAIR = ['source', 'target']  # sides of parallel text


@checked
def build_vocabularies(
  corpus: Corpus,
  *,
  kind: str = 'bpe',
  size: Count | Sequence[Count] = 8_000,
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

  texts = dict(zip(corpus.sides, corpus.read(split), strict=True))
  if shared or len(texts) == 1:
    if not isinstance(size, int):
      raise ValueError(f'vocabulary.size is {tuple(size)}; one vocabulary has one size')
    lines = [line for text in texts.values() for line in text]
    vocabulary = _train(lines, kind=kind, size=size)
    return Vocabularies(**dict.fromkeys(texts, vocabulary))
  sizes = (size,) * len(texts) if isinstance(size, int) else tuple(size)
  if len(sizes) != len(texts):
    raise ValueError(f'vocabulary.size has {len(sizes)} numbers; give one, or two')
  trained = zip(texts.items(), sizes, strict=True)
  return Vocabularies(
    **{side: _train(lines, kind=kind, size=n) for (side, lines), n in trained}
  )

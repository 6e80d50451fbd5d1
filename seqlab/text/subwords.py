"""Vocabularies of subwords, which SentencePiece learns.

Kudo and Richardson 2018, https://arxiv.org/abs/1808.06226, with byte-pair encoding
(Sennrich et al. 2016, https://arxiv.org/abs/1508.07909) or the unigram model (Kudo
2018, https://arxiv.org/abs/1804.10959).
"""

from collections.abc import Iterable, Sequence
import functools
import hashlib
import io
from pathlib import Path
import random
import re
from typing import Annotated, Literal

import numpy as np
import sentencepiece

from seqlab.domains import Count, Range
from seqlab.text.lines import one_line, one_line_byte
from seqlab.text.sampling import Sampler
from seqlab.text.vocabulary import content_of, damaged, flat_ids, write_file
from seqlab.types import BOS, EOS, PAD, SPECIALS, UNK

_CHUNK = 8_192  # lines that share one seed of sampling

# SentencePiece writes spaces as U+2581. In training it skips every line with U+2585, and
# learns no piece with U+001F, which it inserts between parts of a line. Noncharacters,
# which no text should hold (Unicode 16, section 23.7), replace them; a noncharacter in
# the text is read as U+FFFD. NUL would end a text.
_SPACE_MARK, _SPACE_ESCAPE = '\u2581', '\ufdd0'
_LEARNT_ESCAPES = {'\u2585': '\ufdd1', '\x1f': '\ufdd2'}
_ESCAPES = {_SPACE_MARK: _SPACE_ESCAPE, **_LEARNT_ESCAPES}
_REPLACED = dict.fromkeys(('\0', *_ESCAPES.values()), '\ufffd')
_REPLACED_TABLE = str.maketrans(_REPLACED)
_RESERVED = re.compile(f'[{"".join((*_ESCAPES, *_REPLACED))}]')
# Names of special ids and of bytes, which SentencePiece removes from its training text.
_NAMES = re.compile(rf'<(?={"|".join(x[1:] for x in SPECIALS)}|0x[0-9A-F]{{2}}>)')


class SentencePiece:
  """A SentencePiece model; see `vocabulary.Vocabulary`. Base class of both kinds.

  Attributes:
    model_type: SentencePiece's name of the algorithm.
  """

  model_type: Literal['bpe', 'unigram']

  def __init__(self, model: bytes):
    """Loads `model`, a serialized SentencePiece model."""
    self._model = model
    self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    self.size = self._processor.vocab_size()
    self.fingerprint = hashlib.sha256(model).hexdigest()

  @classmethod
  def train(
    cls,
    lines: Iterable[str],
    *,
    size: Count = 8_000,
    character_coverage: Annotated[float, Range(0, 1, exclude_low=True)] = 1.0,
    byte_fallback: bool = False,
  ) -> 'SentencePiece':
    """Learns subwords from text. Deterministic.

    Text is taken as it is ('identity' normalisation): NFKC would change references
    that evaluation reads back from outputs, such as ¾ or ™.

    Args:
      lines: sentences.
      size: number of ids V, the four special ones included.
      character_coverage: share of characters that get a piece; the rest are UNK.
      byte_fallback: whether characters without a piece are spelt as bytes instead
        of UNK. Takes 256 ids.

    Raises:
      ValueError: the text is too small for the size, or the size for the text.
    """
    model = io.BytesIO()
    lines = [_learnable(line) for line in lines]
    try:
      sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=cls.model_type,
        vocab_size=size,
        character_coverage=character_coverage,
        byte_fallback=byte_fallback,
        normalization_rule_name='identity',
        max_sentence_length=_max_line_bytes(lines),
        minloglevel=2,
        **{f'{n}_id': i for n, i in _IDS},
        **{f'{n}_piece': SPECIALS[i] for n, i in _IDS},
      )
    except RuntimeError as error:
      raise ValueError(_explain(str(error), size)) from None
    return cls(model.getvalue())

  @classmethod
  def planned_size(cls, *, size: Count = 8_000, **options) -> int:
    """Returns the number of ids that `train` gives with these options."""
    del options
    return size

  @classmethod
  def load(cls, directory: Path, name: str) -> 'SentencePiece':
    """Reads what `save` wrote.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it is damaged; names it.
    """
    path = Path(directory) / f'{name}.model'
    content = path.read_bytes()
    try:
      model = cls(content) if content else None
    except RuntimeError:
      model = None
    if model is None or not model.size:
      raise damaged(path, 'not a SentencePiece model')
    return model

  @functools.cached_property
  def _sampler(self) -> Sampler:
    return Sampler(self._processor, self.model_type)

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids and where each line starts; see `vocabulary.Vocabulary`."""
    lines = [self._readable(line) for line in lines]
    if not sampling:
      return self._restore_bytes(*flat_ids(self._processor.encode(lines)))
    drawn = []
    for chunk, start in enumerate(range(0, len(lines), _CHUNK)):
      mixed = hashlib.sha256(f'{seed}:{chunk}'.encode()).digest()
      draw = random.Random(int.from_bytes(mixed[:8], 'little')).random
      part = lines[start : start + _CHUNK]
      drawn += [self._sampler.draw(line, sampling, draw) for line in part]
    return self._restore_bytes(*flat_ids(drawn))

  def _readable(self, line: str) -> str:
    """Returns the line with escapes for characters that SentencePiece reserves."""
    if not _RESERVED.search(line):
      return line
    return line.translate(self._escapes)

  @functools.cached_property
  def _escapes(self) -> dict[int, str]:
    # A trained model reads U+2585 and U+001F as any other character, and a model whose
    # training text had none of them does not know their escapes.
    known = {x: y for x, y in _LEARNT_ESCAPES.items() if self._knows(y)}
    return str.maketrans({_SPACE_MARK: _SPACE_ESCAPE, **known, **_REPLACED})

  def _knows(self, piece: str) -> bool:
    return not self._processor.is_unknown(self._processor.piece_to_id(piece))

  def _restore_bytes(
    self, flat: np.ndarray, offsets: np.ndarray
  ) -> tuple[np.ndarray, np.ndarray]:
    """Replaces the bytes of the escape of U+2581 by those of U+2581 itself."""
    if self._byte_ids is not None:
      escape, mark = self._byte_ids
      a, b, c = escape
      at = np.flatnonzero((flat[:-2] == a) & (flat[1:-1] == b) & (flat[2:] == c))
      flat[at[:, None] + np.arange(3)] = mark
    return flat, offsets

  @functools.cached_property
  def _byte_ids(self) -> tuple[list[int], list[int]] | None:
    """Ids of the bytes of the escape and of U+2581; None without byte pieces."""
    if not self._knows('<0x00>'):
      return None
    return tuple(
      [self._processor.piece_to_id(f'<0x{byte:02X}>') for byte in text.encode()]
      for text in (_SPACE_ESCAPE, _SPACE_MARK)
    )

  def normal(self, line: str) -> str:
    """Returns a line with single spaces; see `vocabulary.normal_form`.

    SentencePiece keeps white space other than U+0020.
    """
    words = (word for word in line.translate(_REPLACED_TABLE).split(' ') if word)
    return one_line(' '.join(words)).lstrip(' ')

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the text of each sequence as one line, see `lines.one_line`."""
    surfaces = self._surfaces
    texts = (b''.join([surfaces[i] for i in content_of(s)]) for s in sequences)
    return [one_line(text.decode('utf-8', 'replace')).lstrip(' ') for text in texts]

  def pieces(self) -> list[str]:
    """Returns the piece of every id, [V]."""
    return self._processor.id_to_piece(list(range(self.size)))

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes into a text, [V]; see `vocabulary.Vocabulary`."""
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
    """Writes `name.model`, which other tools read too."""
    write_file(Path(directory) / f'{name}.model', self._model)


class BPE(SentencePiece):
  """Byte-pair encoding; sampling is BPE-dropout."""

  model_type = 'bpe'


class Unigram(SentencePiece):
  """The unigram model; sampling draws segmentations by their probability."""

  model_type = 'unigram'


_WRITTEN = str.maketrans({_SPACE_MARK: ' ', **{y: x for x, y in _ESCAPES.items()}})


def _learnable(line: str) -> str:
  """Returns a line that SentencePiece does not skip in training.

  A name such as <s> gets a space after its first character, so that its characters are
  learnt.
  """
  if '<' in line:
    line = _NAMES.sub('< ', line)
  return line.translate(_LEARNT) if _RESERVED.search(line) else line


_LEARNT = str.maketrans({**_ESCAPES, **_REPLACED})


def _max_line_bytes(lines: Sequence[str]) -> int:
  """Returns the bytes of the longest line; SentencePiece skips longer lines."""
  minimum = 1 << 20  # part of the model's bytes, so it is the same for ordinary text
  if all(4 * len(line) < minimum for line in lines):
    return minimum
  return max(minimum, 1 + max(len(line.encode('utf-8')) for line in lines))


_IDS = (('pad', PAD), ('unk', UNK), ('bos', BOS), ('eos', EOS))


def _explain(error: str, size: int) -> str:
  upper_limit = re.search(r'value <= (\d+)', error)
  lower_limit = re.search(
    r'meta_pieces\.size\(\).*?(\d+) vs|required_chars.*?(\d+)', error
  )
  if upper_limit:
    return f'the text has pieces for a vocabulary of at most {upper_limit[1]}: set vocabulary.size={upper_limit[1]} or less (it is {size})'
  if 'smaller than required_chars' in error or lower_limit:
    return f'vocabulary.size={size} is too small for the characters of the text: raise it, lower vocabulary.character_coverage or set vocabulary.byte_fallback=True. ({error.splitlines()[-1]})'
  return f'SentencePiece could not learn a vocabulary of {size}: {error}'

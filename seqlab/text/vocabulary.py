"""Vocabularies: strings to ids and back.

Lines, words and the characters of a line of output are those of `seqlab.text.lines`.
White space at the ends of a line is lost, and runs of spaces become one. All other
text whose characters have ids is decoded to the same text, except characters that
would end the line (decoded as spaces) and NUL (decoded as U+FFFD).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from seqlab.config import call
from seqlab.domains import Count, Signature, checked
from seqlab.io.files import write_bytes
from seqlab.pieces import find, options_of
from seqlab.text.corpora import Corpus
from seqlab.types import BOS, EOS, PAD

# Kinds of vocabularies: short name -> path of a class that satisfies `Vocabulary`.
VOCABULARIES = {
  'bpe': 'text.subwords:BPE',
  'unigram': 'text.subwords:Unigram',
  'word': 'text.whole_words:Words',
}
_DEFAULT_KIND = 'bpe'


class Vocabulary(Protocol):
  """Strings to ids and back. No method adds BOS or EOS.

  A kind of vocabulary is one class: the options of its method `train` are the options
  of the section `vocabulary`.

  Attributes:
    size: number of ids V, special ones included.
    fingerprint: sha256 of all that decides the ids.
  """

  size: int
  fingerprint: str

  @classmethod
  def train(cls, lines: Iterable[str], **options: Any) -> 'Vocabulary':
    """Learns a vocabulary from text. Deterministic."""
    ...

  @classmethod
  def load(cls, directory: Path, name: str) -> 'Vocabulary':
    """Reads what `save` wrote; a damaged file is a ValueError that names it."""
    ...

  def save(self, directory: Path, name: str) -> None:
    """Writes `directory/name.*`, except `name.json`."""
    ...

  def encode(
    self, lines: Sequence[str], *, sampling: float = 0.0, seed: int = 0
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of all lines.

    Args:
      lines: sentences.
      sampling: how strongly segmentations are drawn at random; 0 for the best ones.
        BPE-dropout with that probability (Provilkov et al. 2020,
        https://arxiv.org/abs/1910.13267), or unigram sampling with that α. The result
        is a pure function of the arguments.
      seed: integer seed of sampling.

    Returns:
      Ids [N] int32 of all lines, one after the other, and where each line starts,
      [R + 1] int64.
    """
    ...

  def decode(self, sequences: Iterable[Sequence[int]]) -> list[str]:
    """Returns the text of each sequence up to its first EOS, without PAD and BOS."""
    ...

  def pieces(self) -> list[str]:
    """Returns a name of every id, [V], such as the subword."""
    ...

  def surfaces(self) -> list[bytes]:
    """Returns what every id writes into a text, in UTF-8, [V].

    A text is these one after the other, without the spaces it begins with. Special ids
    but UNK write nothing; a byte piece may write a part of a character, and bytes that
    are not UTF-8 in the end are read as U+FFFD. No surface has a line break or NUL; a
    break that several byte pieces spell together is a space in the text, which no score
    distinguishes.
    """
    ...


def flat_ids(encoded: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns the ids of several lines as `Vocabulary.encode` does."""
  offsets = np.zeros(len(encoded) + 1, np.int64)
  np.cumsum([len(ids) for ids in encoded], out=offsets[1:])
  flat = np.fromiter((i for ids in encoded for i in ids), np.int32, int(offsets[-1]))
  return flat, offsets


def content_of(sequence: Sequence[int]) -> list[int]:
  """Returns the ids up to the first EOS, without PAD and BOS."""
  ids = np.asarray(sequence).tolist()
  if EOS in ids:
    ids = ids[: ids.index(EOS)]
  return [i for i in ids if i not in (PAD, BOS)]


def write_file(path: Path, content: bytes) -> None:
  """Writes a file of a vocabulary atomically; makes its folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  write_bytes(path, content)


def damaged(path: Path, reason: object) -> ValueError:
  """Returns the error of a damaged file of a vocabulary."""
  return ValueError(
    f"{path} is damaged: {reason}. Bring the run's vocabulary back from a copy, or train "
    'anew'
  )


def train_vocabulary(
  lines: Iterable[str], *, kind: str = _DEFAULT_KIND, **options: Any
) -> Vocabulary:
  """Learns a vocabulary of a kind from text.

  Args:
    lines: sentences.
    kind: short name of `VOCABULARIES`, or a path to a class.
    **options: options of the method `train` of that class.

  Raises:
    ValueError: the kind or an option is unknown, or an option does not fit the text.
  """
  return call(_class_of(kind).train, options, 'vocabulary', lines=lines)


def _class_of(kind: Any) -> Any:
  cls, _ = find({'kind': kind}, VOCABULARIES, 'vocabulary')
  if missing := [n for n in ('train', 'load', 'save') if not hasattr(cls, n)]:
    raise ValueError(f'vocabulary: {kind!r} has no method `{missing[0]}`')
  return cls


def _name_of(cls: type) -> str:
  """Returns the name by which files mention a class: a short one, or its path."""
  short = (name for name in VOCABULARIES if _class_of(name) is cls)
  return next(short, f'{cls.__module__}:{cls.__qualname__}')


def save_vocabulary(vocabulary: Vocabulary, directory: Path, name: str) -> None:
  """Writes `directory/name.*`, which `load_vocabulary` reads."""
  vocabulary.save(Path(directory), name)
  description = {'kind': _name_of(type(vocabulary))}
  write_file(Path(directory) / f'{name}.json', json.dumps(description).encode())


def load_vocabulary(directory: Path, name: str, kind: str | None = None) -> Vocabulary:
  """Reads what `save_vocabulary` wrote.

  Args:
    directory: the folder.
    name: stem of the files.
    kind: kind that the experiment names, a path perhaps. A path in the folder itself is
      never followed, since the folder may come from an untrusted source.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is damaged, or is of another kind.
  """
  path = Path(directory) / f'{name}.json'
  stored_kind = _read_json(path).get('kind')
  if kind is None and stored_kind not in VOCABULARIES:
    raise damaged(path, f'its kind is {stored_kind!r}')
  cls = _class_of(stored_kind if kind is None else kind)
  if stored_kind != _name_of(cls):
    raise damaged(
      path, f'its kind is {stored_kind!r}, and the experiment says {kind!r}'
    )
  return cls.load(Path(directory), name)


def _read_json(path: Path) -> dict:
  try:
    content = json.loads(path.read_bytes())
  except ValueError as error:  # neither JSON nor UTF-8
    raise damaged(path, error) from None
  if not isinstance(content, dict):
    raise damaged(path, 'not an object of JSON')
  return content


class Vocabularies:
  """The vocabularies of the sides of a corpus; one and the same object if shared.

  Attributes:
    source: vocabulary of the source side of parallel text.
    target: vocabulary of the target side.
    text: vocabulary of text of one side.
    sides: name of a side -> its vocabulary, for the sides of the corpus.
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
    """Writes them, and last `vocabularies.json`, which says that they are whole.

    Args:
      directory: the folder, which is made.
      options: section `vocabulary` of the experiment, for `load` to compare.
    """
    directory, sides = Path(directory), self.sides
    files = {'shared': next(iter(sides.values()))} if self.shared else sides
    for name, vocabulary in files.items():
      save_vocabulary(vocabulary, directory, name)
    description = {'shared': self.shared, 'options': dict(options or {})}
    if [*sides] != _PAIR:
      description['sides'] = [*sides]
    content = json.dumps(description, indent=2).encode()
    write_file(directory / 'vocabularies.json', content)

  @classmethod
  def load(cls, directory: Path, options: Mapping | None = None) -> 'Vocabularies':
    """Reads what `save` wrote.

    Args:
      directory: the folder.
      options: section `vocabulary` of the experiment; None compares nothing, and reads
        no kind but those of `VOCABULARIES`.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it was made with other options, or a file is damaged.
    """
    path = Path(directory) / 'vocabularies.json'
    description = _read_json(path)
    if not isinstance(description.get('shared'), bool):
      raise damaged(path, 'it does not say "shared"')
    stored_options = description.get('options') or options
    if options is not None and json.loads(json.dumps(dict(options))) != stored_options:
      raise ValueError(
        f'the vocabulary in {directory} was made with {stored_options}, and the '
        f'experiment says {dict(options)}: use another workdir, or delete the '
        f'vocabulary and train again'
      )
    sides = description.get('sides', _PAIR)
    kind = None if options is None else options.get('kind', _DEFAULT_KIND)
    if description['shared']:
      shared = load_vocabulary(directory, 'shared', kind)
      return cls(**dict.fromkeys(sides, shared))
    return cls(**{side: load_vocabulary(directory, side, kind) for side in sides})


_PAIR = ['source', 'target']  # sides of parallel text


@checked
def build_vocabularies(
  corpus: Corpus,
  *,
  kind: str = _DEFAULT_KIND,
  size: Count | Sequence[Count] | None = None,
  shared: bool = True,
  split: str = 'train',
  **options: Any,
) -> Vocabularies:
  """Learns the vocabularies of a corpus.

  Args:
    corpus: the corpus that the text comes from.
    kind: see `train_vocabulary`.
    size: number of ids in each vocabulary, or one number per side; by default that of
      the kind.
    shared: whether all sides have one vocabulary, learnt from all of them.
    split: split that the text comes from.
    **options: options of the kind.

  Raises:
    ValueError: as `train_vocabulary`; or `size` has another length than there are sides.
  """

  def learn(lines: list[str], size: int | None) -> Vocabulary:
    sized = options if size is None else {**options, 'size': size}
    return train_vocabulary(lines, kind=kind, **sized)

  texts = dict(zip(corpus.sides, corpus.read(split), strict=True))
  several = isinstance(size, Sequence)
  if shared or len(texts) == 1:
    if several:
      raise ValueError(f'vocabulary.size is {tuple(size)}; one vocabulary has one size')
    lines = [line for text in texts.values() for line in text]
    return Vocabularies(**dict.fromkeys(texts, learn(lines, size)))
  sizes = tuple(size) if several else (size,) * len(texts)
  if len(sizes) != len(texts):
    raise ValueError(f'vocabulary.size has {len(sizes)} numbers; give one, or two')
  sized = zip(texts.items(), sizes, strict=True)
  return Vocabularies(**{side: learn(lines, n) for (side, lines), n in sized})


def vocabulary_options(section: Any) -> tuple[Signature, ...]:
  """Returns the functions and annotations that take the options of a section.

  Raises:
    ValueError: the section names no kind of vocabulary.
  """
  if not isinstance(section, Mapping):
    raise ValueError(
      f'vocabulary is {section!r}; it must be a section, as in dict(...)'
    )
  train: Callable = _class_of(section.get('kind', _DEFAULT_KIND)).train
  return _SECTION, options_of(train, hidden=('lines', 'size'))


# Options of every kind, besides those of the kind itself.
_SECTION = {
  'kind': str,
  'size': Count | Sequence[Count] | None,
  'shared': bool,
  'split': str,
}


def planned_sizes(section: Mapping[str, Any]) -> tuple[int, int] | None:
  """Returns the sizes of both sides' vocabularies, if they are known without text.

  Args:
    section: section `vocabulary` of the experiment.
  """
  options = {k: v for k, v in section.items() if k not in ('kind', 'shared', 'split')}
  cls = _class_of(section.get('kind', _DEFAULT_KIND))
  if not hasattr(cls, 'planned_size'):
    return None
  size = options.pop('size', None)
  sizes = tuple(size) if isinstance(size, Sequence) else (size, size)
  return tuple(
    cls.planned_size(**options, **({} if n is None else {'size': n})) for n in sizes
  )

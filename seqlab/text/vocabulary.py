"""Vocabularies: strings to ids and back.

Lines, words and the characters of a line of output are those of `seqlab.text.lines`.
Text whose characters have ids is decoded to the same text, except characters that would
end the line (decoded as spaces) and NUL (decoded as U+FFFD). Subwords and words lose
white space at the ends of a line, and make one space of several; 'char' and 'byte' keep
each space, and 'symbols' each separator.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import functools
import json
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np

from seqlab.config import call
from seqlab.domains import Count, Signature, check_value, checked
from seqlab.io.files import write_bytes
from seqlab.pieces import Piece, Specification, find, options_of, split
from seqlab.text.corpora import Corpus
from seqlab.text.lines import one_line
from seqlab.types import BOS, EOS, PAD

# Kinds of vocabularies: short name -> path of a class that satisfies `Vocabulary`.
VOCABULARIES = {
  'bpe': 'text.subwords:BPE',
  'unigram': 'text.subwords:Unigram',
  'word': 'text.whole_words:Words',
  'char': 'text.symbols:Characters',
  'byte': 'text.symbols:Bytes',
  'symbols': 'text.symbols:Symbols',
  'merges': 'text.merges:Merges',
  'parts': 'text.parts:Parts',
}
_DEFAULT_KIND = 'bpe'


class Vocabulary(Protocol):
  """Strings to ids and back. No method adds BOS or EOS.

  A kind of vocabulary is one class: the options of its method `train` are the options
  of the section `vocabulary`.

  A class may also have
    separator: text with which every surface begins, and which is not part of a text at
      its start. Without it these are spaces, as many as there are.
    planned_size: the number of ids that `train` gives, a class method of its options.
    problem: a function of a line that returns why it cannot be encoded, or ''.
    normal: a function of a line that returns its normal form; see `normal_form`.
    ordered: False if the order of the tokens means nothing; see `parts.Parts`.
    unordered: number of ids, the last ones, whose order in a line means nothing.

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

    A text is these one after the other, without the `separator` or the spaces that it
    begins or ends with. Special ids but UNK write nothing; a byte piece may write a
    part of a character, and bytes that are not UTF-8 in the end are read as U+FFFD. No
    surface has a line break or NUL; a break that several byte pieces spell together is
    a space in the text, which no score distinguishes.
    """
    ...


def normal_form(vocabulary: Vocabulary, line: str) -> str:
  """Returns what is decoded from the ids of a line whose tokens are all known.

  This is the line without what a vocabulary loses, such as the number of spaces between
  words. Without a method `normal` it loses nothing but line breaks and NUL; see
  `lines.one_line`.
  """
  return getattr(vocabulary, 'normal', one_line)(line)


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


class _Trainers(Mapping):
  """Kinds of vocabularies as their methods `train`, with the options of experiments."""

  def __getitem__(self, kind: str) -> Callable:
    if kind not in VOCABULARIES and ':' not in kind:
      raise KeyError(kind)
    return _class_of(kind).train

  def __iter__(self) -> Iterator[str]:
    return iter(VOCABULARIES)

  def __len__(self) -> int:
    return len(VOCABULARIES)


# The domain of an option that names a vocabulary: a kind, or a dict of it and options.
RULE = Annotated[Specification, Piece(_Trainers(), context=('lines',))]


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


def load_vocabulary(
  directory: Path, name: str, kind: str | None = None, **options: Any
) -> Vocabulary:
  """Reads what `save_vocabulary` wrote.

  Args:
    directory: the folder.
    name: stem of the files.
    kind: kind that the experiment names, a path perhaps. A path in the folder itself is
      never followed, since the folder may come from an untrusted source.
    **options: options of the method `load` of the class.

  Raises:
    FileNotFoundError: a file is missing.
    ValueError: a file is damaged, or is of another kind.
  """
  path = Path(directory) / f'{name}.json'
  stored_kind = read_json(path).get('kind')
  if kind is None and stored_kind not in VOCABULARIES:
    raise damaged(path, f'its kind is {stored_kind!r}')
  cls = _class_of(stored_kind if kind is None else kind)
  if stored_kind != _name_of(cls):
    raise damaged(
      path, f'its kind is {stored_kind!r}, and the experiment says {kind!r}'
    )
  return cls.load(Path(directory), name, **options)


def read_json(path: Path) -> dict:
  """Returns the object in a file of JSON; another content is an error that names it."""
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
      options: what `described` returns for the experiment, for `load` to compare.
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
      options: what `described` returns for the experiment; None compares nothing, and
        reads no kind but those of `VOCABULARIES`.

    Raises:
      FileNotFoundError: it is not there.
      ValueError: it was made with other options, or a file is damaged.
    """
    path = Path(directory) / 'vocabularies.json'
    description = read_json(path)
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
    known = {s: {} for s in sides} if options is None else _rules(options, sides)
    if description['shared']:
      shared = load_vocabulary(directory, 'shared', **_kinds(known[sides[0]]))
      return cls(**dict.fromkeys(sides, shared))
    loaded = {s: load_vocabulary(directory, s, **_kinds(known[s])) for s in sides}
    return cls(**loaded)


_PAIR = ['source', 'target']  # sides of parallel text


@checked
def build_vocabularies(
  corpus: Corpus,
  *,
  source: RULE | None = None,
  target: RULE | None = None,
  text: RULE | None = None,
  kind: str | None = None,
  size: Count | Sequence[Count] | None = None,
  shared: bool = True,
  split: str = 'train',
  **options: Any,
) -> Vocabularies:
  """Learns the vocabularies of a corpus.

  Args:
    corpus: the corpus that the text comes from. If it has an attribute `rules`, side ->
      a vocabulary or None for each part, these come before the arguments.
    source: vocabulary of the source side: a kind, or `kind` and its options.
    target: vocabulary of the target side.
    text: vocabulary of text of one side.
    kind: vocabulary of all sides, in place of the last three; see `train_vocabulary`.
    size: number of ids in each vocabulary, or one number per side; by default that of
      the kind.
    shared: whether sides, and parts of sides, that have the same kind and options have
      one vocabulary, learnt from all of them.
    split: split that the text comes from.
    **options: options of the kind.

  Raises:
    ValueError: as `train_vocabulary`; or `size` has another length than there are
      sides.
  """
  sides = {'source': source, 'target': target, 'text': text}
  given = {'kind': kind, 'size': size, **sides}
  section = {**options, **{k: v for k, v in given.items() if v is not None}}
  if isinstance(size, Sequence) and (shared or len(corpus.sides) == 1):
    raise ValueError(f'vocabulary.size is {tuple(size)}; one vocabulary has one size')
  description = described(section, corpus)
  rules = _rules(description, corpus.sides)
  for side, rule in rules.items():
    _check_order(rule, side, description)
  texts = dict(zip(corpus.sides, corpus.read(split), strict=True))
  return _learn(rules, texts, shared=shared)


def described(section: Mapping[str, Any], corpus: Corpus) -> dict[str, Any]:
  """Returns all that decides the kinds of vocabularies, for `Vocabularies.save`.

  Args:
    section: section `vocabulary` of the experiment.
    corpus: the corpus, which may have rules of its own; see `build_vocabularies`.
  """
  rules = getattr(corpus, 'rules', None)
  return {**section, 'columns': rules} if rules else dict(section)


_SIDES = ('source', 'target', 'text')
_COMMON = ('shared', 'split', 'columns', *_SIDES)  # keys that are no option of a kind


def _rules(options: Mapping[str, Any], sides: Iterable[str]) -> dict[str, dict]:
  """Returns for each side `kind` and the options of its vocabulary.

  Args:
    options: what `described` returned.
    sides: names of the sides.

  Raises:
    ValueError: options contradict each other.
  """
  sides = [*sides]
  for side in _SIDES:
    if side in options and side not in sides:
      raise ValueError(
        f'vocabulary.{side} has no effect: the sides of the corpus are '
        f'{" and ".join(sides)}'
      )
  own = [side for side in sides if side in options]
  common = {k: x for k, x in options.items() if k not in _COMMON}
  if common and len(own) == len(sides):
    raise ValueError(
      f'vocabulary.{next(iter(common))} has no effect: set it in '
      f'{" or ".join(f"vocabulary.{side}" for side in own)}'
    )
  size = common.get('size')
  several = isinstance(size, Sequence)
  if several and len(size) != len(sides):
    raise ValueError(f'vocabulary.size has {len(size)} numbers; give one, or two')
  rules = {}
  for i, side in enumerate(sides):
    rule = rule_of(options.get(side, common), f'vocabulary.{side}')
    rule = {**rule, 'size': size[i]} if several and side not in options else rule
    columns = options.get('columns', {}).get(side)
    if columns is not None and None not in columns and side in options:
      raise ValueError(
        f'vocabulary.{side} has no effect: corpus.columns.{side} has the kinds of all '
        f'its columns. Leave out one of them'
      )
    rules[side] = rule if columns is None else _of_columns(columns, rule, side)
  return rules


def rule_of(specification: Specification, where: str) -> dict[str, Any]:
  """Returns a vocabulary that an experiment names as a dict with `kind`."""
  kind, options = split(specification, where)
  return {'kind': _DEFAULT_KIND if kind is None else kind, **options}


def _of_columns(
  columns: Sequence[Specification | None], rule: dict, side: str
) -> dict[str, Any]:
  """Returns the rule of a side whose columns may have rules of their own."""
  where = f'corpus.columns.{side}'
  for column in columns:
    if column is not None:
      check_value(where, column, RULE)
  given = [None if x is None else rule_of(x, where) for x in columns]
  if rule['kind'] == 'parts' and any(given):
    raise ValueError(
      f'{side} is divided twice, by the kinds in corpus.columns.{side} and by '
      f"vocabulary.kind='parts': leave out one of them"
    )
  if rule['kind'] == 'parts':
    return rule
  parts = [rule if x is None else x for x in given]
  return parts[0] if len(parts) == 1 else {'kind': 'parts', 'parts': parts}


def _check_order(rule: Mapping[str, Any], side: str, options: Mapping) -> None:
  """Raises ValueError if a side that is not divided is to be read without an order."""
  if rule['kind'] != 'symbols' or rule.get('ordered', True):
    return
  where = f'vocabulary.{side}' if side in options else 'vocabulary'
  if any(options.get('columns', {}).get(side, ())):
    where = f'corpus.columns.{side}'
  raise ValueError(
    f'{where}.ordered=False has no effect: only a part of a source of several parts '
    'can be read without its order. Leave it out, or give the source several columns'
  )


def _parts(rule: Mapping[str, Any]) -> list[dict[str, Any]] | None:
  """Returns the rules of the parts of a side; None if it is not divided."""
  if rule.get('kind') != 'parts':
    return None
  return [rule_of(part, 'vocabulary.parts') for part in rule['parts']]


def _kinds(rule: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the arguments of `load_vocabulary` that a rule decides."""
  parts = _parts(rule)
  kinds = {} if parts is None else {'parts': [part['kind'] for part in parts]}
  return {'kind': rule.get('kind'), **kinds}


def _learn(
  rules: Mapping[str, dict], texts: Mapping[str, list[str]], *, shared: bool
) -> Vocabularies:
  """Learns one vocabulary for each rule, or each part of each side if not shared."""
  from seqlab.text.parts import Parts, divided  # which needs this module

  places: dict[str, list[str]] = {}  # side -> key of each of its parts
  groups: dict[str, tuple[dict, list[str]]] = {}  # key -> rule, text
  for side, rule in rules.items():
    parts = _parts(rule)
    columns = [texts[side]] if parts is None else divided(texts[side], len(parts))
    for i, (part, lines) in enumerate(zip(parts or [rule], columns, strict=True)):
      key = json.dumps(part, sort_keys=True, default=str) if shared else f'{side} {i}'
      places.setdefault(side, []).append(key)
      groups.setdefault(key, (part, []))[1].extend(lines)
  learnt = {k: train_vocabulary(lines, **rule) for k, (rule, lines) in groups.items()}

  @functools.cache
  def assembled(divided: bool, *keys: str) -> Vocabulary:
    return Parts([learnt[key] for key in keys]) if divided else learnt[keys[0]]

  return Vocabularies(
    **{s: assembled(rules[s]['kind'] == 'parts', *keys) for s, keys in places.items()}
  )


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
  **dict.fromkeys(_SIDES, RULE | None),
}


def planned_sizes(
  section: Mapping[str, Any], sides: Sequence[str] = _PAIR
) -> tuple[int, ...] | None:
  """Returns the size of each side's vocabulary, if all are known without text.

  Args:
    section: what `described` returns for the experiment.
    sides: names of the sides of the corpus.
  """
  sizes = [_planned_size(rule) for rule in _rules(section, sides).values()]
  return None if None in sizes else tuple(sizes)


def _planned_size(rule: Mapping[str, Any]) -> int | None:
  options = dict(rule)
  cls = _class_of(options.pop('kind'))
  return cls.planned_size(**options) if hasattr(cls, 'planned_size') else None

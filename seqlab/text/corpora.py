"""Parallel corpora: named ones, which are downloaded once, and your own files.

A named corpus is read from $SEQLAB_DATA/<corpus>/, plain or gzipped, else from the
cache, else it is downloaded. Files in $SEQLAB_DATA are not compared with known digests:
they may differ on purpose, and `fingerprint` hashes them anyway. A download must have
the sha256 that is known for its text (unpacked, since servers compress differently).
Where no digest is known, the sha256 of the first download is stored in the same folder,
and later downloads must have the same. These are kyoto-kftt, tatoeba, wmt14-en-de and
iwslt14-de-en, 44 of the 52 languages of sigmorphon2017, and 10 of the 21 of
sigmorphon2021-g2p.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path
import re
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from seqlab import domains
from seqlab.config import suggest
from seqlab.domains import Range, check
from seqlab.pieces import Piece, Specification, find, make
from seqlab.text.download import cache_dir, download
from seqlab.text.lines import is_blank, read_bytes, read_lines
from seqlab.text.normalize import Normalization, normalizer
from seqlab.text.remote import fetch, is_remote
from seqlab.text.tables import PART, READERS, Columns, Reader, Tab

_FORMAT = 2  # increment it when the same files are read differently
_TAB = Tab()


class Corpus(Protocol):
  """Text in one or two languages. A class that inherits from it has its defaults.

  A class may also have
    rules: name of a side -> a vocabulary, or None, for each of the parts of the side;
      see `text.vocabulary.build_vocabularies`.
    repeats: a function of a split that returns how often each example occurs per epoch
      of training, [R], or None for once.

  Attributes:
    name: name of the corpus, for messages.
    sides: name of a side -> its language code: 'source' and 'target' of parallel text,
      'text' of text in one language.
    convention: sacreBLEU's name of the tokeniser that its papers score with.
    splits: names of its splits.
  """

  name: str
  sides: Mapping[str, str]
  convention: str
  splits: tuple[str, ...]

  def read(self, split: str) -> tuple[list[str], ...]:
    """Returns the lines of each side, equally many, in the order of `sides`."""
    ...

  def references(self, split: str) -> list[tuple[str, ...]]:
    """Returns the references of each example, in the order of `read`.

    By default each has one, which is the line of the last side.
    """
    return [(line,) for line in self.read(split)[-1]]

  def categories(self, split: str) -> list[str] | None:
    """Returns the category of each example, in the order of `read`.

    By default there are none, and it returns None.
    """
    del split
    return None

  def skipped(self, split: str) -> int:
    """Returns how many examples `read` leaves out because a side is empty."""
    ...

  def fingerprint(self, split: str) -> str:
    """Returns the sha256 of all that decides what `read` returns."""
    ...

  def files(self, split: str) -> dict[str, str]:
    """Returns the files of a split, with the sha256 of their text; maybe none."""
    ...

  def inputs(self) -> list[Path]:
    """Returns files on this machine that it may read; none of them may be replaced."""
    ...


def open_corpus(name: str | None = None, **options) -> Corpus:
  """Opens the corpus that a section `corpus` describes.

  Nothing is read or downloaded before a split is asked for, so that a checkpoint
  translates on a machine that lacks the corpus.

  Args:
    name: short name of a corpus, as experiments of the first edition have it; with
      `files` any name, for messages.
    **options: `kind`, a piece of `CORPORA` or a path to a class of one's own, and its
      options. With `files`, the kind need not be given.

  Raises:
    ValueError: the name, a language or an option is unknown.
  """
  kind, options = _named_kind(name, options)
  return make({'kind': kind, **options}, CORPORA, 'corpus')


def corpus_kind(section: Any) -> Callable:
  """Returns the class that opens the corpus of a section; see `open_corpus`.

  Raises:
    ValueError: there is no such kind.
  """
  if not isinstance(section, Mapping):
    raise ValueError(f'corpus is {section!r}; it must be a section, as in dict(...)')
  options = dict(section)
  kind, _ = _named_kind(options.pop('name', None), options)
  return find(kind, CORPORA, 'corpus')[0]


def _named_kind(name: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
  """Returns the kind of corpus, and its options."""
  options = dict(options)
  kind = options.pop(
    'kind', name if isinstance(name, str) and name in CORPORA else None
  )
  if kind is None and 'files' in options:
    kind = 'files'
  if kind is None:
    unknown = f'unknown corpus {name!r}{suggest(str(name), CORPORA)}'
    raise ValueError(
      f'{unknown if name else "corpus has no kind"} (known: {", ".join(CORPORA)}; '
      "for your own text, set corpus.files={'train': ('train.en', 'train.de'), ...})"
    )
  if name is not None and name != kind:
    options['name'] = name
  return kind, options


@dataclasses.dataclass(frozen=True)
class Recipe:
  """Where the files of a corpus are, and how splits are made of them."""

  languages: tuple[str, ...]  # in the order of columns, where one file has two
  files: Mapping[str, Mapping[str, Sequence[str]]]  # split -> language -> names
  tables: Sequence[str] = ()  # splits whose files have both languages, in columns
  reader: Reader = _TAB  # format of the tables
  columns: Columns | None = None  # by default one per language
  url: str = ''  # what to download for {file}; '' for files of the user's own
  # File -> its name at `url`, where that differs.
  upstream: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # File -> sha256 of its plain text, where that is known.
  digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
  member: str = ''  # what {file} is called in the archive at `url`, if it is one
  empty: str = 'error'
  convention: str | None = None
  tidy: Callable[[list[str]], list[str]] = list  # a file's lines -> sentences
  # Split, line number, line -> whether the example is in the split; the line is that
  # of the language `decider`, or any if there is none.
  belongs: Callable[[str, int, str], bool] = lambda *_: True
  decider: str | None = None
  rule: str = ''  # the options of `belongs`, if it has some, for fingerprints


class _Examples(NamedTuple):
  """Examples of a split as its files have them.

  Attributes:
    sides: lines of each side.
    places: for each example and side, where it is, for messages.
    categories: category of each example, or None.
  """

  sides: list[list[str]]
  places: Callable[[int, int], str]
  categories: list[str] | None = None


class _Split(NamedTuple):
  """A split as a corpus gives it.

  Attributes:
    sides: lines of each side, equally many.
    skipped: number of examples left out because a side is empty.
    categories: category of each example, or None.
    references: references of each example; None if each has its target only.
  """

  sides: tuple[list[str], ...]
  skipped: int
  categories: list[str] | None
  references: list[tuple[str, ...]] | None = None


Shares = Mapping[str, float]  # name of a split -> its share of the training split
Duplicates = Literal['keep', 'drop', 'error']


class Text(Corpus):
  """A corpus in files; see `Corpus`. Base class of the named ones and of one's own."""

  def __init__(
    self,
    recipe: Recipe,
    name: str,
    sides: Mapping[str, str],
    *,
    empty: Literal['error', 'skip'] | None = None,
    normalize: Normalization = 'none',
    convention: str | None = None,
    cut: Shares | None = None,
    group: bool = False,
    duplicates: Duplicates = 'keep',
  ):
    """Reads nothing yet.

    Args:
      recipe: the files of the corpus.
      name: name of the corpus, for messages.
      sides: name of a side -> language code; see `sides_of`.
      empty: 'error' refuses an example with an empty side, 'skip' leaves it out; by
        default as the recipe says.
      normalize: steps of `text.normalize`; 'none' leaves text as it is.
      convention: tokenisation of BLEU; by default that of the papers: 'char' for
        Japanese and Chinese, '13a' otherwise.
      cut: splits that are cut from the split 'train', with their shares, such as
        dict(valid=0.05, test=0.05); see `split_of`.
      group: whether each source occurs once in the splits besides 'train', with all of
        its targets as references.
      duplicates: an example that occurs twice in a split is kept, is left out ('drop')
        or is an error.

    Raises:
      ValueError: an option is wrong, or the corpus lacks a language.
    """
    options = dict(empty=empty, normalize=normalize, convention=convention)
    options |= dict(cut=cut, group=group, duplicates=duplicates)
    check(Text, options, 'corpus.')
    languages = tuple(sides.values())
    _check_languages(name, languages, recipe)
    unspaced = languages[-1].partition('-')[0] in ('ja', 'zh')
    self.name, self.sides = name, dict(sides)
    self.convention = convention or recipe.convention or ('char' if unspaced else '13a')
    self._cut = dict(cut or {})
    self._recipe, self._empty = _with_cut(recipe, self._cut), empty or recipe.empty
    self._normalize, self._clean = normalize, normalizer(normalize)
    self._group, self._duplicates = group, duplicates
    self._columns = recipe.columns or Columns.of(
      {side: recipe.languages.index(language) for side, language in sides.items()},
      [*sides],
    )
    self._divided = [len(columns) > 1 for columns in self._columns.sides.values()]
    self._files: dict[str, list[list[Path]]] = {}
    self._splits: dict[str, _Split] = {}
    self._digests: dict[str, str] = {}

  @property
  def languages(self) -> tuple[str, ...]:
    """Language codes of the sides."""
    return tuple(self.sides.values())

  @property
  def rules(self) -> Mapping[str, Any]:
    """Vocabularies that `corpus.columns` gives to the parts of sides; see `Corpus`."""
    return self._columns.rules

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits that all sides have."""
    files = self._recipe.files.items()
    return tuple(split for split, has in files if {*self.languages} <= {*has})

  def read(self, split: str) -> tuple[list[str], ...]:
    """Returns the lines of each side, equally many; kept for the next call.

    Raises:
      ValueError: there is no such split; or its text is not UTF-8, has an empty
        line, or has more lines in one language than in the other.
      FileNotFoundError: a file is missing.
      DownloadError: a file could not be downloaded.
    """
    return self._load(split).sides

  def references(self, split: str) -> list[tuple[str, ...]]:
    """Returns the references of each example, in the order of `read`."""
    known = self._load(split).references
    return super().references(split) if known is None else known

  def categories(self, split: str) -> list[str] | None:
    """Returns the category of each example, in the order of `read`, or None."""
    return self._load(split).categories

  def skipped(self, split: str) -> int:
    """Returns how many examples of a split have an empty side. Raises as `read`."""
    return self._load(split).skipped

  def _load(self, split: str) -> _Split:
    if split not in self._splits:
      self._splits[split] = self._select(split, self._examples(split))
    return self._splits[split]

  def fingerprint(self, split: str) -> str:
    """Returns the sha256 of a split's files and of the options. Raises as `read`."""
    if split not in self._digests:
      known = self.files(split)
      paths = [str(path) for side in self._paths(split) for path in side]
      if split in self._recipe.tables:  # one file, read once
        paths = list(known)
      hashes = [known[path] for path in paths]
      options = [*self.languages, self._empty, self._normalize, *self._further()]
      description = json.dumps([_FORMAT, split, *options, *hashes]).encode()
      self._digests[split] = hashlib.sha256(description).hexdigest()
    return self._digests[split]

  def _further(self) -> list[dict]:
    """Returns options that earlier versions did not have, if they are set.

    Without them a fingerprint is the one that runs of those versions recorded.
    """
    options = {
      'cut': self._cut and ['normalised source', self._cut],
      'group': self._group,
      'duplicates': self._duplicates != 'keep' and self._duplicates,
      'columns': self._recipe.columns and dataclasses.asdict(self._recipe.columns),
      'reader': self._recipe.reader != _TAB and repr(self._recipe.reader),
      'rule': self._recipe.rule,
    }
    given = {name: value for name, value in options.items() if value}
    return [given] if given else []

  def files(self, split: str) -> dict[str, str]:
    """Returns the files of a split, with the sha256 of their text. Raises as `read`."""
    paths = dict.fromkeys(path for side in self._paths(split) for path in side)
    return {str(p): hashlib.sha256(read_bytes(p)).hexdigest() for p in paths}

  def inputs(self) -> list[Path]:
    """Returns files on this machine that it may read; none of them may be replaced."""
    names = {
      file
      for sides in self._recipe.files.values()
      for files in sides.values()
      for file in files
    }
    if not self._recipe.url:
      return [Path(name).expanduser() for name in names if not is_remote(name)]
    user_folder = Path(os.environ.get('SEQLAB_DATA') or os.devnull, self.name)
    folders = (user_folder, cache_dir() / 'corpora' / self.name)
    return [Path(f, n + end) for f in folders for n in names for end in ('', '.gz')]

  def _paths(self, split: str) -> list[list[Path]]:
    """Returns the files of each side; both sides may be in the same file."""
    if split not in self._files:
      self._check(split)
      files = self._recipe.files[split]
      self._files[split] = [
        [_find(self._recipe, self.name, split, x, file) for file in files[x]]
        for x in self.languages
      ]
    return self._files[split]

  def _check(self, split: str) -> None:
    has = self._recipe.files.get(split)
    if has and split not in self.splits:
      raise ValueError(
        f'split {split!r} of corpus {self.name} is in {", ".join(has)} only; splits in '
        f'{" and ".join(self.languages)} are: {", ".join(self.splits)}'
      )
    if not has:
      raise ValueError(
        f'corpus {self.name} has no split {split!r}{suggest(split, self.splits)} '
        f'(it has: {", ".join(self.splits)})'
      )

  def _examples(self, split: str) -> _Examples:
    """Returns all examples of the files of a split."""
    sides = self._paths(split)
    if split in self._recipe.tables:
      return self._rows(sides[0])
    names, tidy = (
      ['+'.join(path.name for path in side) for side in sides],
      self._recipe.tidy,
    )
    lines = [[x for path in side for x in tidy(read_lines(path))] for side in sides]
    if len(lines[0]) != len(lines[-1]):
      raise ValueError(
        f'{names[0]} has {len(lines[0]):,} lines and {names[1]} has '
        f'{len(lines[1]):,}; line n of one has to translate line n of the other: '
        f'find the line at which they diverge ({sides[0][0].parent})'
      )
    return _Examples(lines, lambda i, side: f'line {i + 1:,} of {names[side]}')

  def _rows(self, paths: Sequence[Path]) -> _Examples:
    """Returns the examples of tables, one file after the other."""
    rows = []
    for path in paths:
      lines = read_lines(path)
      try:
        cells = [*self._columns.read(self._recipe.reader, path.name, lines)]
      except ValueError as error:
        raise ValueError(f'{error} ({path.parent})') from None
      rows += [(path.name, row) for row in cells]
    languages = self.languages

    def place(i: int, side: int) -> str:
      name, row = rows[i]
      return f'line {row.number:,} of {name} ({languages[side]})'

    sides = [[row.sides[i] for _, row in rows] for i in range(len(languages))]
    categories = [row.category for _, row in rows]
    return _Examples(sides, place, None if None in categories else categories)

  def _select(self, split: str, examples: _Examples) -> _Split:
    """Returns the normalised examples of a split, without the empty ones."""
    numbers: list[int] = []  # in the files
    chosen: list[tuple[str, ...]] = []
    first: dict[tuple[str, ...], int] = {}  # lines -> number in the files
    skipped = 0
    for i, example in enumerate(zip(*examples.sides, strict=True)):
      if not self._belongs(split, i + 1, example):
        continue
      blank = [*map(self._is_empty, example, self._divided)]
      if any(blank) and self._empty == 'skip':
        skipped += 1
        continue
      if any(blank):
        side = blank.index(True)
        problem = 'is empty' if is_blank(example[side]) else 'has an empty part'
        raise ValueError(
          f'{examples.places(i, side)} {problem}: remove the '
          f"{'pair' if len(blank) > 1 else 'line'} or set corpus.empty='skip' "
          f'({self._folder(split)})'
        )
      lines = tuple(map(self._cleaned, example))
      if self._duplicates != 'keep' and (other := first.setdefault(lines, i)) != i:
        if self._duplicates == 'drop':
          continue
        raise ValueError(
          f'{examples.places(i, 0)} repeats {examples.places(other, 0)}: remove it, or '
          f"set corpus.duplicates='drop' ({self._folder(split)})"
        )
      numbers.append(i)
      chosen.append(lines)
    if not chosen:
      raise self._without_lines(split, 0 if skipped else len(examples.sides[0]))
    categories = examples.categories and [examples.categories[i] for i in numbers]
    if self._group and split != _TRAIN:
      return _grouped(chosen, categories, skipped)
    sides = tuple(map(list, zip(*chosen, strict=True)))
    return _Split(sides, skipped, categories)

  @staticmethod
  def _is_empty(line: str, divided: bool) -> bool:
    return any(map(is_blank, line.split(PART) if divided else [line]))

  def _without_lines(self, split: str, count: int) -> ValueError:
    """Returns the error of a split that has none of `count` examples."""
    names = dict.fromkeys(p.name for side in self._paths(split) for p in side)
    which, verb = ' and '.join(names), 'have' if len(names) > 1 else 'has'
    if not count or not self._cut or split not in (*self._cut, _TRAIN):
      return ValueError(f'{which} {verb} no lines for split {split!r}')
    advice = f'raise corpus.cut.{split}'
    if split == _TRAIN:
      advice = 'lower the shares in corpus.cut'
    return ValueError(
      f'corpus.cut gives split {split!r} none of the {count:,} lines of {which}: '
      f'{advice}, or give more lines'
    )

  def _folder(self, split: str) -> Path:
    return self._paths(split)[0][0].parent

  def _belongs(self, split: str, number: int, example: tuple[str, ...]) -> bool:
    """Returns whether an example of the files of a split is part of the split."""
    decider = self._recipe.decider
    line = example[self.languages.index(decider) if decider else 0]
    if split not in self._cut and split != _TRAIN:
      return self._recipe.belongs(split, number, line)
    if not self._recipe.belongs(_TRAIN, number, line):
      return False
    if not self._cut:
      return True
    # As a model reads it, so that no source is in two splits in two spellings.
    parts = self._cleaned(example[0]).split(PART)
    return split_of(PART.join(part.strip() for part in parts), self._cut) == split

  def _cleaned(self, line: str) -> str:
    if PART not in line:
      return self._clean(line)
    return PART.join(map(self._clean, line.split(PART)))


def _grouped(
  examples: list[tuple[str, ...]], categories: list[str] | None, skipped: int
) -> _Split:
  """Returns each source once, with all of its targets as references."""
  groups: dict[str, list[int]] = {}
  for i, lines in enumerate(examples):
    groups.setdefault(lines[0], []).append(i)
  first = [numbers[0] for numbers in groups.values()]
  sides = zip(*(examples[i] for i in first), strict=True)
  return _Split(
    tuple(map(list, sides)),
    skipped,
    categories and [categories[i] for i in first],
    [tuple(dict.fromkeys(examples[i][-1] for i in x)) for x in groups.values()],
  )


_TRAIN = 'train'  # the split that others are cut from, and that is never grouped


def split_of(source: str, cut: Shares) -> str:
  """Returns the split of an example of the files of 'train'.

  It depends on nothing but the source, so that examples with the same source are never
  in two splits: the first four bytes of the sha256 of the source in UTF-8 are a number
  from 0 to 1, and each split has an interval as long as its share, in the order of
  `cut`. The rest is 'train'.

  Args:
    source: line of the source side after `normalize`, without white space at the ends
      of its parts.
    cut: name of a split -> its share.
  """
  digest = hashlib.sha256(source.encode()).digest()
  place, end = int.from_bytes(digest[:4], 'big') / 2**32, 0.0
  for split, share in cut.items():
    end += share
    if place < end:
      return split
  return _TRAIN


def _with_cut(recipe: Recipe, cut: Shares) -> Recipe:
  """Adds the splits that are cut from 'train'."""
  if not cut:
    return recipe
  for split, share in cut.items():
    if split in recipe.files:
      raise ValueError(
        f'corpus.cut.{split}: the corpus has a split of this name already'
      )
    domains.check_value(f'corpus.cut.{split}', share, _SHARE)
  if sum(cut.values()) >= 1 or _TRAIN not in recipe.files:
    raise ValueError(
      f'corpus.cut is {dict(cut)}: the shares of the splits, which are cut from '
      f"'train', must have a sum of less than 1, and there must be a split 'train'"
    )
  files = {**recipe.files, **dict.fromkeys(cut, recipe.files[_TRAIN])}
  tables = [*recipe.tables, *(cut if _TRAIN in recipe.tables else ())]
  return dataclasses.replace(recipe, files=files, tables=tables)


_SHARE = Annotated[float, Range(0, 1, exclude_low=True, exclude_high=True)]


def sides_of(
  source: str | None, target: str | None, text: str | None
) -> dict[str, str]:
  """Returns name of a side -> language code, of parallel text or of one language.

  Args:
    source: language code of the source side, such as 'en'.
    target: language code of the target side.
    text: language code of text in one language, in place of both.

  Raises:
    ValueError: neither both languages are given nor one.
  """
  given = {'source': source, 'target': target, 'text': text}
  sides = {name: x for name, x in given.items() if x is not None}
  if [*sides] not in (['source', 'target'], ['text']):
    raise ValueError(
      f'the section corpus sets {", ".join(sides) or "no language"}: set corpus.source '
      f'and corpus.target to the languages of parallel text, or corpus.text to that of '
      f'text in one language'
    )
  return sides


def _check_languages(name: str, languages: Sequence[str], recipe: Recipe) -> None:
  for language in languages:
    if language not in recipe.languages:
      has = ', '.join(recipe.languages)
      raise ValueError(f'corpus {name} is not in {language!r} (it is in: {has})')
  if recipe.decider and recipe.decider not in languages:
    raise ValueError(
      f'the splits of corpus {name} are decided by its lines in {recipe.decider!r}: '
      f'set corpus.text={recipe.decider!r}'
    )


def _check_codes(sides: Mapping[str, str]) -> None:
  """Raises ValueError if language codes are empty or the same."""
  for side, language in sides.items():
    if not language.strip():
      raise ValueError(f"corpus.{side} is empty; it must be a language code, as 'en'")
  if len({*sides.values()}) < len(sides):
    both = ' and '.join(f'corpus.{side}' for side in sides)
    raise ValueError(f'{both} are both {next(iter(sides.values()))!r}')


class NamedText(Text):
  """A corpus of `NAMED`."""

  def __init__(
    self,
    name: str,
    *,
    source: str | None = None,
    target: str | None = None,
    text: str | None = None,
    empty: Literal['error', 'skip'] | None = None,
    normalize: Normalization = 'none',
    convention: str | None = None,
    cut: Shares | None = None,
  ):
    """Takes the languages, see `sides_of`, and the options of `Text`."""
    sides = sides_of(source, target, text)
    _check_codes(sides)
    options = dict(empty=empty, normalize=normalize, convention=convention, cut=cut)
    super().__init__(NAMED[name], name, sides, **options)


class OwnText(Text):
  """A corpus in files of the user's own."""

  def __init__(
    self,
    *,
    files: Any,
    name: str = 'files',
    source: str | None = None,
    target: str | None = None,
    text: str | None = None,
    columns: Any = None,
    reader: Annotated[Specification, Piece(READERS)] | None = None,
    empty: Literal['error', 'skip'] | None = None,
    normalize: Normalization = 'none',
    convention: str | None = None,
    cut: Shares | None = None,
    group: bool = False,
    duplicates: Duplicates = 'keep',
  ):
    """Takes the files, the languages, see `sides_of`, and the options of `Text`.

    Args:
      files: split -> (source file, target file), or one file with lines of source, tab,
        target (further columns are ignored). With `text`, one file or several. Plain or
        gzipped, on a disk or in a bucket (gs://, s3://; brought into the cache once).
      name: name of the corpus, for messages.
      source: language code of the source side.
      target: language code of the target side.
      text: language code of text in one language.
      columns: which columns of a table are the sides; see `text.tables`. With `columns`
        or `reader`, a split may have several files, and each of them has all sides.
      reader: format of the tables, a piece of `text.tables.READERS`: 'tab' by default,
        'csv', 'jsonl' or 'scan'.
      empty: see `Text`, like the others.
      normalize: steps of `text.normalize`.
      convention: name of a tokeniser.
      cut: splits that are cut from 'train'.
      group: whether each source occurs once in evaluation.
      duplicates: what to do with an example that occurs twice.
    """
    sides = sides_of(source, target, text)
    _check_codes(sides)
    table = {}
    if columns is not None or reader is not None:
      read = make(reader or 'tab', READERS, 'corpus.reader')
      table = dict(columns=Columns.of(columns, [*sides]), reader=read)
    recipe = _recipe_of(tuple(sides.values()), files, table)
    options = dict(empty=empty, normalize=normalize, convention=convention)
    options |= dict(cut=cut, group=group, duplicates=duplicates)
    super().__init__(recipe, name, sides, **options)


def _recipe_of(
  languages: tuple[str, ...],
  files: Mapping[str, str | Sequence[str]],
  table: Mapping[str, Any],
) -> Recipe:
  """Returns the recipe for files of the user's own.

  Args:
    languages: language codes.
    files: see `OwnText`.
    table: columns and reader, if all files are tables; else empty.
  """
  if not hasattr(files, 'items'):
    raise ValueError("corpus.files should be {'train': (source, target), ...}")
  sides: dict[str, dict[str, Sequence[str]]] = {}
  tables = []
  for split, given in files.items():
    paths = _paths_of(split, given)
    if table or len(languages) == 1 or len(paths) == 1:
      sides[split] = dict.fromkeys(languages, paths)
      tables += [split] if table or len(languages) > 1 else []
    elif len(paths) == 2:
      sides[split] = dict(zip(languages, (paths[:1], paths[1:]), strict=True))
    else:
      raise ValueError(
        f'corpus.files.{split} names {len(paths)} files; give (source, target), or '
        'one file with a tab between them'
      )
  return Recipe(languages=languages, files=sides, tables=tables, **table)


def _paths_of(split: str, given: Any) -> tuple[str | Path, ...]:
  """Returns the files of a split, of which an experiment gives one or several."""
  if isinstance(given, str | Path):
    return (given,)
  paths = tuple(given) if isinstance(given, Sequence) else ()
  if not paths or any(not isinstance(path, str | Path) for path in paths):
    raise ValueError(f'corpus.files.{split} is {given!r}; give names of files')
  return paths


def _find(recipe: Recipe, name: str, split: str, language: str, file: str) -> Path:
  """Returns the path of a file of a corpus, which is downloaded if necessary."""
  if not recipe.url and is_remote(file):
    return fetch(file)
  if not recipe.url:
    path = Path(file).expanduser()
    if path.is_file():
      return path
    raise FileNotFoundError(
      f'corpus.files.{split}: there is no file {path}; correct the path, or put the file '
      f'there (paths start from {Path.cwd()})'
    )
  return find_file(recipe, name, file, _SHA256.get((name, split), {}).get(language))


def find_file(recipe: Recipe, name: str, file: str, sha256: str | None = None) -> Path:
  """Returns the path of a file of a named corpus, which is downloaded if necessary.

  Args:
    recipe: recipe of the corpus.
    name: name of the corpus, which is that of its folder in $SEQLAB_DATA.
    file: name of the file.
    sha256: digest of its plain text, if the recipe has none.
  """
  user_folder = Path(os.environ.get('SEQLAB_DATA') or os.devnull, name)
  for path in (user_folder / file, user_folder / f'{file}.gz'):
    if path.is_file():
      return path
  return download(
    recipe.url.format(file=recipe.upstream.get(file, file)),
    cache_dir() / 'corpora' / name / file,
    member=recipe.member.format(file=file),
    sha256=recipe.digests.get(file, sha256),
  )


def _by_english(split: str, number: int, english: str) -> bool:
  """Returns whether the hash of an English sentence puts it into a split.

  Valid and test get about 1 % each. Case and punctuation do not matter: "Run!" is not
  in test while "Run." is in train.
  """
  words = re.sub(r'\W+', ' ', english.casefold()).strip()
  place = int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], 'big') % 100
  return split == {0: 'valid', 1: 'test'}.get(place, 'train')


def _every_23rd(split: str, number: int, english: str) -> bool:
  """Puts every 23rd training line into valid, as fairseq's preparation does."""
  return split == 'test' or (number % 23 == 0) == (split == 'valid')


def _sentences(lines: list[str]) -> list[str]:
  """Returns the segments of a TED file in XML, or its lines without metadata."""
  segments = re.findall(r'<seg [^>]*>(.*)</seg>', '\n'.join(lines))
  metadata = re.compile(
    r'\s*</?(url|talkid|keywords|speaker|reviewer|translator|doc)\b'
  )
  text = [line for line in lines if not metadata.match(line)]
  heading = re.compile(r'</?(title|description)>')
  return [line.strip() for line in segments or [heading.sub('', x) for x in text]]


def _each(
  splits: Iterable[str], languages: Iterable[str], pattern: str
) -> dict[str, dict[str, tuple[str]]]:
  """Returns one file per split and language."""
  return {
    s: {x: (pattern.format(split=s, language=x),) for x in languages} for s in splits
  }


_M30K = 'train val test_2016_flickr test_2017_flickr test_2017_mscoco test_2018_flickr'
_M30K_URL = 'https://raw.githubusercontent.com/multi30k/dataset/master/data/task1'
_WMT = ('train', *(f'newstest{year}' for year in (2012, 2013, 2014, 2015)))
_TED = ('TED.dev2010', 'TEDX.dev2012', 'TED.tst2010', 'TED.tst2011', 'TED.tst2012')

NAMED: dict[str, Recipe] = {
  # Elliott et al. 2016, https://aclanthology.org/W16-3210.
  'multi30k': Recipe(
    languages=('en', 'de', 'fr', 'cs'),
    files={
      **_each(_M30K.split(), ('en', 'de', 'fr', 'cs'), '{split}.{language}'),
      **_each(_M30K.split()[3:5], ('en', 'de', 'fr'), '{split}.{language}'),
    },
    url=f'{_M30K_URL}/raw/{{file}}.gz',
  ),
  # The same, lower-cased and tokenised by Moses: what papers report on.
  'multi30k-tok': Recipe(
    languages=('en', 'de', 'fr'),
    files=_each(_M30K.split(), ('en', 'de', 'fr'), '{split}.lc.norm.tok.{language}'),
    url=f'{_M30K_URL}/tok/{{file}}',
    convention='none',
  ),
  # Neubig 2011, https://www.phontron.com/kftt. Two training lines have no English.
  'kyoto-kftt': Recipe(
    languages=('en', 'ja'),
    files=_each(('train', 'dev', 'tune', 'test'), ('en', 'ja'), '{split}.{language}'),
    url='https://www.phontron.com/kftt/download/kftt-data-1.0.tar.gz',
    member='kftt-data-1.0/data/orig/kyoto-{file}',
    empty='skip',
  ),
  # https://tatoeba.org. No English sentence is in two splits; German ones may be.
  'tatoeba': Recipe(
    languages=('en', 'de'),
    files=_each(('train', 'valid', 'test'), ('en', 'de'), 'deu-eng.tsv'),
    tables=('train', 'valid', 'test'),
    url='https://www.manythings.org/anki/deu-eng.zip',
    member='deu.txt',
    belongs=_by_english,
    decider='en',
  ),
  # Luong et al. 2015, https://nlp.stanford.edu/projects/nmt: tokenised, with
  # hyphens as ##AT##-##AT##; newstest2014 is the one of 2,737 lines.
  'wmt14-en-de': Recipe(
    languages=('en', 'de'),
    files=_each(_WMT, ('en', 'de'), '{split}.{language}'),
    url='https://nlp.stanford.edu/projects/nmt/data/wmt14.en-de/{file}',
    empty='skip',
    convention='none',
  ),
  # Cettolo et al. 2014, split as fairseq does, which however tokenises, lower-cases
  # and drops long and uneven pairs before that.
  'iwslt14-de-en': Recipe(
    languages=('de', 'en'),
    files={
      **_each(('train', 'valid'), ('de', 'en'), 'train.tags.de-en.{language}'),
      'test': {
        x: [f'IWSLT14.{part}.de-en.{x}.xml' for part in _TED] for x in ('de', 'en')
      },
    },
    url='https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz',
    member='de-en/{file}',
    empty='skip',
    tidy=_sentences,
    belongs=_every_23rd,
  ),
}


# Kinds of corpora, which an experiment names: short name -> class. Those of `NAMED` are
# one class, with the name as its first argument.
CORPORA: dict[str, Callable | str] = {
  'agreement': 'text.agreement:Agreement',
  'algorithmic': 'text.algorithmic:Algorithmic',
  'files': OwnText,
  'mixture': 'text.mixture:Mixture',
  'scan': 'text.benchmarks:Scan',
  'cogs': 'text.benchmarks:COGS',
  'sigmorphon2017': 'text.benchmarks:Inflection',
  'sigmorphon2021-g2p': 'text.benchmarks:Pronunciation',
  'cmudict-g2p': 'text.benchmarks:CMUdict',
  'multi30k-wu2021': 'text.benchmarks:WuMulti30k',
  'running': 'text.running:RunningText',
  'tinyshakespeare': 'text.running:TinyShakespeare',
  **{name: functools.partial(NamedText, name) for name in NAMED},
}


def _table(text: str) -> dict[tuple[str, str], dict[str, str]]:
  rows = (line.split() for line in text.strip().splitlines())
  return {(x[0], x[1]): dict(cell.split('=') for cell in x[2:]) for x in rows}


# (corpus, split) -> language -> sha256 of the plain text, which was the same in
# https://github.com/multi30k/dataset at commit a3d2e0d.
_SHA256 = _table("""
multi30k train en=460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6 de=2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72 fr=5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d cs=2be68b38c8d586ff4f54eb13cc6e1baaaa053695b3f070d3038303a47f2268da
multi30k val en=1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227 de=660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660 fr=5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc cs=d53827e469b0a1ca8d57e9e26b2b64c4bc4b33f5479c7b03ae87ae5c882c3e33
multi30k test_2016_flickr en=399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182 de=4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16 fr=cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6 cs=45adb85f688de8407fddcbe1b36dca15d12aab868149b337e2576f2d6d2ff8d8
multi30k test_2017_flickr en=ce1450ddc5ab0834502579d77a170849952e15a2938b34cc503bdc25ebb4fb98 de=c3078bc3b36808bf9d20eb2347ed6137016179ef59ec0d2b9b8ecc3fb2880081 fr=6f3764e31dac41e9455e612958bcfd4e877c5e15cd66df2c2b2be6d9bd83e5b6
multi30k test_2017_mscoco en=43051fdfa86fd5395182e718a94ca67b1b227b9f7c79596ff0f6b813216981d2 de=58277df3c75f92f7145a11b910b553d1cf82c439249d4dc237c899609eafac22 fr=39cde3f43f32b0a6bf29ce4917a46329ff32e53070c2fac87506695a740ae0a0
multi30k test_2018_flickr en=4e585c2dd525911a6ea7730e9d0b516239af3f1b1ffae6a2130223cfb639f25e de=39fcc8b3331d76fb42d648d019c6898b0d5e58baac87bc2a0bb93f44ec8db207 fr=234b4a887da0da4801a3e2c6f21336231ff7dd46daeb80cfa1b551c8bbb78239 cs=1db59fe6980c9b3f9bade65122a985e71150214837d76f4768a5a8384c0b2dc7
multi30k-tok train en=08925f8e0572bcd5a006702fc5fe20e2d77c6917d4eebd576fc20de6693c2119 de=cb5a23529b65ec2061f1dc446192a9c37382b63cc75f81a0be59d34894b3a505 fr=8fa41bb718412bcb7c5dfa58603842810a01543eae86a51279f9886b901266e1
multi30k-tok val en=46573ce391ae227f1c72f873392436a20ef18e0a6d518098cfbd70b77c8572ec de=97232bd273eceb7207f689527386a97e4be2616b18ada47576bdaf96c8ae1f00 fr=b303e301aa21fe7822a846b2b3fb2d5a1121ec807cd5b1d006fb7b2b5507168a
multi30k-tok test_2016_flickr en=5b7f32627cf99eced828311b955dae9800bb52bc8b91cf8b6526829e605b29d2 de=c6a33d39d48f9f510de147651316cd9d918e09ad0219df734a2f16b6baccacc4 fr=1463bd5960f9bfe098ec3cd752d3df0c49c84dc646fb518964a29232658cd836
multi30k-tok test_2017_flickr en=c9d1dfd7a26add989382e534af235af9f0f658b2a30e7eb0efdaf142496ee54f de=02067e4a9402786a4fcb8c1b6f4307e4a5073ced64800abead5273b54f5f31f6 fr=c0583117a47b31e8a6c6a97cfe8de153e462074668f4e994764fcc80b21d33b4
multi30k-tok test_2017_mscoco en=fe69ae004d71c42ead0301e70c57de5b1b6b5fb7f52210d42b22801e98e656f3 de=e2825990b8a4e5289d2cdba801d57c187810bab9b4f5d87a30c35800a0d871b6 fr=0b6a4620f02b6b9acf7811fda23f90fed9c6baa0b96aa224db50a273078c84d1
multi30k-tok test_2018_flickr en=a66e25cbb8323d74a40873dcd222659f39e30ee7687a6ed5445833aed0673239 de=45ce6b121708adf538d3a8c71dc1acbcb1e0f2bca74ace8e58652f9ea5b96335 fr=22d44a4ba21e050f218399f2c4f9e1a36875f209820c1f1c9af5b76a2947a71c
""")

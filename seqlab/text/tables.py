"""Tables of text: files whose rows hold the sides of an example in columns.

A reader turns the lines of a file into rows. `corpus.columns` says which columns of a
row are the sides:

    c.corpus.columns = dict(source=0, target=1)
    c.corpus.columns = dict(source='word', target='pronunciation', category='origin')
    c.corpus.columns = dict(source=[dict(column=0, kind='char'),
                                    dict(column=2, kind='symbols', separator=';')],
                            target=1)

In the last one the source has two parts, each with a vocabulary of its own; the line of
such a side has its parts with tabs between them, see `text.parts`.
"""

from collections.abc import Iterator, Mapping, Sequence
import csv
import dataclasses
import json
import re
from typing import Annotated, Any, NamedTuple, Protocol

from seqlab.config import check_keys
from seqlab.domains import Check
from seqlab.text.lines import is_blank

_SURROGATE = re.compile('[\ud800-\udfff]')  # which JSON can spell, and UTF-8 cannot
PART = '\t'  # between the parts of a side
Column = int | str  # a number, counted from 0, or a name


class Row(NamedTuple):
  """A row of a table.

  Attributes:
    number: number of its line in the file, from 1.
    cells: text of each column; None for a blank line.
    names: name of each column, if they have names.
  """

  number: int
  cells: Sequence[str] | None
  names: Sequence[str] | None = None


class Reader(Protocol):
  """The format of a table. A reader is one class, whose fields are its options."""

  def rows(self, name: str, lines: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of a file.

    Args:
      name: name of the file, for messages.
      lines: its lines.

    Raises:
      ValueError: a line is not of this format; names the file and the line.
    """
    ...

  def advice(self, row: Row) -> str:
    """Returns why a row may have too few columns, for messages; '' if unknown."""
    ...


def _wrong(name: str, number: int, reason: str) -> ValueError:
  return ValueError(f'line {number:,} of {name} {reason}')


def _check_names(name: str, number: int, names: Sequence[str]) -> None:
  for each in names:
    if list(names).count(each) > 1:
      raise _wrong(name, number, f'names two columns {each!r}: rename one of them')


def _headed(name: str, rows: Iterator[Row]) -> Iterator[Row]:
  """Takes the names of columns from the first row; the others must be as long."""
  head: Row | None = None
  for row in rows:
    if row.cells is None:
      yield row
    elif head is None:
      head = row
      _check_names(name, row.number, row.cells)
    elif len(row.cells) != len(head.cells):
      raise _wrong(
        *(name, row.number),
        f'has {len(row.cells)} columns, and the first line names {len(head.cells)}: '
        'correct the line',
      )
    else:
      yield row._replace(names=head.cells)


@dataclasses.dataclass(frozen=True)
class Tab:
  """Columns with tabs between them, without quotation marks.

  Attributes:
    header: whether the first line has the names of the columns.
  """

  header: bool = False

  def rows(self, name: str, lines: Sequence[str]) -> Iterator[Row]:
    """See `Reader.rows`."""
    cells = (None if is_blank(line) else line.split('\t') for line in lines)
    rows = (Row(number, each) for number, each in enumerate(cells, 1))
    return _headed(name, rows) if self.header else rows

  def advice(self, row: Row) -> str:
    """See `Reader.advice`."""
    if len(row.cells) > 1:
      return ''
    return 'has no tab; write source, tab, target, or give two files'


def _check_character(value: str) -> None:
  if len(value) != 1 or value in '\r\n':
    raise ValueError('one character that is not a line break')


_Character = Annotated[str, Check(_check_character)]


@dataclasses.dataclass(frozen=True)
class CSV:
  """Comma-separated values, or values with another delimiter (RFC 4180).

  Attributes:
    delimiter: character between two columns.
    quote: character around a value that contains delimiters; doubled inside of it.
    header: whether the first line has the names of the columns.
  """

  delimiter: _Character = ','
  quote: _Character = '"'
  header: bool = True

  def rows(self, name: str, lines: Sequence[str]) -> Iterator[Row]:
    """See `Reader.rows`."""
    rows = self._rows(name, lines)
    return _headed(name, rows) if self.header else rows

  def _rows(self, name: str, lines: Sequence[str]) -> Iterator[Row]:
    ended = (f'{line}\n' for line in lines)  # so that a quoted value may have a break
    options = dict(delimiter=self.delimiter, quotechar=self.quote, strict=True)
    reader, first = csv.reader(ended, **options), 1
    while True:
      try:
        cells = next(reader)
      except StopIteration:
        return
      except csv.Error as error:
        raise _wrong(name, first, f'is not CSV ({error}): correct the line') from None
      blank = not cells or (len(cells) == 1 and is_blank(cells[0]))
      yield Row(first, None if blank else cells)
      first = reader.line_num + 1

  def advice(self, row: Row) -> str:
    """See `Reader.advice`."""
    others = [repr(x) for x in '\t,;|' if x != self.delimiter and x in row.cells[0]]
    if len(row.cells) > 1:
      return ''
    hint = f', perhaps to {" or ".join(others)}' if others else ''
    return f'has no {self.delimiter!r}: set corpus.reader.delimiter{hint}'


@dataclasses.dataclass(frozen=True)
class JSONLines:
  """One object of JSON per line, whose keys are the names of the columns."""

  def rows(self, name: str, lines: Sequence[str]) -> Iterator[Row]:
    """See `Reader.rows`."""
    for number, line in enumerate(lines, 1):
      yield self._row(name, number, line)

  def _row(self, name: str, number: int, line: str) -> Row:
    if is_blank(line):
      return Row(number, None)
    try:
      # A list of pairs, since a dict would hide that a key occurs twice.
      pairs = json.loads(line, object_pairs_hook=_Pairs)
    except ValueError as error:
      raise _wrong(name, number, f'is not JSON ({error}): correct the line') from None
    if not isinstance(pairs, _Pairs):
      raise _wrong(name, number, 'is not an object of JSON: write {"source": ..., ...}')
    names = [key for key, _ in pairs]
    _check_names(name, number, names)
    return Row(number, [value for _, value in pairs], names)

  def advice(self, row: Row) -> str:
    """See `Reader.advice`."""
    return f'has the keys {", ".join(row.names)}: name one of them in corpus.columns'


class _Pairs(list):
  """Keys and values of an object of JSON."""


_COMMAND = re.compile('IN:(.*?)OUT:(.*)')


@dataclasses.dataclass(frozen=True)
class Commands:
  """Lines of the form 'IN: jump twice OUT: I_JUMP I_JUMP', as SCAN has them."""

  def rows(self, name: str, lines: Sequence[str]) -> Iterator[Row]:
    """See `Reader.rows`."""
    for number, line in enumerate(lines, 1):
      match = _COMMAND.fullmatch(line)
      if match is None and not is_blank(line):
        raise _wrong(name, number, "is not of the form 'IN: ... OUT: ...'")
      yield Row(number, match and [cell.strip() for cell in match.groups()])

  def advice(self, row: Row) -> str:
    """See `Reader.advice`."""
    del row
    return 'has two columns: number 0 after IN, number 1 after OUT'


# Kinds of readers, which `corpus.reader` names: short name -> class.
READERS = {
  'tab': 'text.tables:Tab',
  'csv': 'text.tables:CSV',
  'jsonl': 'text.tables:JSONLines',
  'scan': 'text.tables:Commands',
}


@dataclasses.dataclass(frozen=True)
class Columns:
  """Where a table has the sides of its examples.

  Attributes:
    sides: name of a side -> its columns, several if it has several parts; in the order
      of the corpus.
    category: column of the category of an example; None if there are no categories.
    rules: name of a side -> a vocabulary, or None, for each of its columns; only sides
      of which a column has a vocabulary, or that have several columns.
  """

  sides: Mapping[str, tuple[Column, ...]]
  category: Column | None = None
  rules: Mapping[str, Sequence[Mapping[str, Any] | None]] = dataclasses.field(
    default_factory=dict
  )

  @classmethod
  def of(cls, section: Any, sides: Sequence[str]) -> 'Columns':
    """Reads `corpus.columns`.

    Args:
      section: the section; None for one column per side, in order.
      sides: names of the sides.

    Raises:
      ValueError: it is none of the forms above, or names too few or too many sides.
    """
    if section is None:
      section = {side: i for i, side in enumerate(sides)}
    if not hasattr(section, 'items'):
      raise ValueError(
        f'corpus.columns is {section!r}; it must be a section, such as '
        'dict(source=0, target=1)'
      )
    check_keys(section, (*sides, 'category'), needed=sides, where='corpus.columns.')
    columns, rules, category = {}, {}, None
    for name, given in section.items():
      where = f'corpus.columns.{name}'
      parts = [_column(part, where) for part in _several(given, where)]
      if len({column for column, _ in parts}) < len(parts):
        raise ValueError(f'{where} names a column twice: {given!r}')
      if name == 'category':
        if len(parts) > 1 or parts[0][1] is not None:
          raise ValueError(
            f'{where} is {given!r}; a category is one column without a vocabulary: '
            'give its number or its name'
          )
        category = parts[0][0]
        continue
      columns[name] = tuple(column for column, _ in parts)
      if len(parts) > 1 or parts[0][1] is not None:
        rules[name] = [rule for _, rule in parts]
    return cls({side: columns[side] for side in sides}, category, rules)

  def read(self, reader: Reader, name: str, lines: Sequence[str]) -> Iterator['Cells']:
    """Yields the sides of each row, in the order of `sides`.

    Args:
      reader: the format of the file.
      name: name of the file, for messages.
      lines: its lines.

    Raises:
      ValueError: as `Reader.rows`; or a row lacks a column.
    """
    for row in reader.rows(name, lines):
      sides = [
        PART.join([self._cell(reader, name, row, side, x) for x in columns])
        for side, columns in self.sides.items()
      ]
      category = None
      if self.category is not None:
        category = self._cell(reader, name, row, 'category', self.category)
      yield Cells(row.number, sides, category)

  def _cell(
    self, reader: Reader, name: str, row: Row, side: str, column: Column
  ) -> str:
    """Returns the text of a column; '' in a blank line."""
    if row.cells is None:
      return ''
    where, place = f'corpus.columns.{side}={column!r}', column
    if isinstance(column, str):
      if row.names is None:
        raise ValueError(
          f'{where} is a name, and the columns of {name} have none: give a number '
          'from 0, or set corpus.reader.header=True'
        )
      place = list(row.names).index(column) if column in row.names else len(row.cells)
    if place >= len(row.cells):
      known = f' (it has: {", ".join(row.names)})' if row.names else ''
      advice = reader.advice(row) if not row.names else ''
      reason = (
        advice or f'has {len(row.cells)} columns{known}, and not the one of {where}'
      )
      raise _wrong(name, row.number, reason)
    return self._checked(name, row, side, row.cells[place])

  def _checked(self, name: str, row: Row, side: str, cell: Any) -> str:
    if not isinstance(cell, str):
      reason = f'has {cell!r} as its {side}, which is not a text: put it in quotes'
      raise _wrong(name, row.number, reason)
    if _SURROGATE.search(cell):
      raise _wrong(
        name, row.number, f'has half a character (a surrogate) in its {side}'
      )
    divided = len(self.sides.get(side, ())) > 1
    for character, label in (('\n', 'a line break'), (PART, 'a tab')):
      if character in cell and (divided or character != PART):
        reason = f'has {label} inside its {side}: replace it, as by a space'
        raise _wrong(name, row.number, reason)
    return cell


class Cells(NamedTuple):
  """The columns of a row that a corpus reads.

  Attributes:
    number: number of the line, from 1.
    sides: text of each side.
    category: category of the example, or None.
  """

  number: int
  sides: list[str]
  category: str | None


def _several(given: Any, where: str) -> Sequence[Any]:
  several = isinstance(given, Sequence) and not isinstance(given, str)
  if several and not given:
    raise ValueError(f'{where} is empty; name a column')
  return given if several else [given]


def _column(given: Any, where: str) -> tuple[Column, dict[str, Any] | None]:
  """Returns a column, and the options of its vocabulary if it has one."""
  rule = None
  if hasattr(given, 'items'):
    rule = dict(given)
    if 'column' not in rule:
      raise ValueError(f'{where} is {given!r}; it has no column: add column=0')
    column = rule.pop('column')
    if rule and 'kind' not in rule:
      raise ValueError(f"{where} has no kind of vocabulary: add kind='char' or another")
    given, rule = column, rule or None
  number = isinstance(given, int) and not isinstance(given, bool) and given >= 0
  if not number and not isinstance(given, str):
    raise ValueError(
      f'{where} is {given!r}; it must be a number of a column, from 0, or its name'
    )
  return given, rule

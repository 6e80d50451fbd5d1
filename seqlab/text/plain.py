"""Corpora of plain text with one paragraph or sentence per line, named or your own.

They are read as streams, so a corpus may be larger than memory. Named corpora are read
from $SEQLAB_DATA/<corpus>/, plain or gzipped, and never downloaded.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import functools
import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

from seqlab.config import suggest
from seqlab.io.console import progress_bar
from seqlab.io.containers import advice, name_of_container
from seqlab.text.lines import DAMAGE
from seqlab.text.remote import fetch, is_remote

_FORMAT = 1  # raise it when the same files are read differently
_CHUNK = 1 << 22  # bytes of text per read

NAMED: dict[str, tuple[str, ...]] = {
  # 15,044 articles of the English Wikipedia of December 2018, CC BY-SA 3.0: plain
  # paragraphs; each article begins with its title.
  'enwiki2018': tuple(f'enwiki.{i:02}.txt' for i in range(11)),
  # 87 Russian texts, https://github.com/JoannaBy/RussianNovels; many are broken into
  # lines of about 70 characters, so a line is less than a sentence.
  'russian-novels': tuple(f'ru.{i:02}.txt' for i in range(3)),
}


def open_text(
  name: str | None = None,
  *,
  path: str | Path | Sequence[str | Path] | None = None,
  part: int | Sequence[int] | None = None,
) -> 'PlainText':
  """Opens a named corpus, or one in files of your own.

  No file is opened or checked before it is needed, because a run can be evaluated on a
  machine without its corpus.

  Args:
    name: one of `NAMED`; with `path`, the name of the corpus in messages.
    path: path of your own text: a file, plain or gzipped; or a folder, whose .txt and
      .gz files (in upper or lower case, but not .tar.gz) are read at any depth, sorted
      by their paths and without hidden ones; or a sequence of these. A file may be in a
      bucket (gs://, s3://); it is copied to the cache once.
    part: number of the only file of a named corpus to be read, or the numbers of
      several files in the order in which they are read; None reads all.

  Raises:
    ValueError: there is neither a path nor a known name, a part does not exist, or a
      part is named twice.
  """
  if path is None and name not in NAMED:
    unknown = f'unknown corpus {name!r}{suggest(str(name), NAMED)}'
    raise ValueError(
      f'{unknown if name else "corpus has no name"} (known: {", ".join(NAMED)}; '
      "for your own text, set corpus.path='my/text.txt.gz', or a folder)"
    )
  given = [path] if isinstance(path, str | Path) else path
  if given is not None and (not given or '' in given):
    raise ValueError(f'corpus.path is {path!r}; name a file or a folder of text')
  if part is None:
    return PlainText(name, path)
  if path is not None:
    raise ValueError(f'corpus.part is {part}; name the files in corpus.path')
  parts = (part,) if isinstance(part, int) else tuple(part)
  known = range(len(NAMED[name]))
  if not parts or len(set(parts)) < len(parts) or not set(parts) <= set(known):
    raise ValueError(
      f'corpus.part is {part}; {name} has the parts 0 to {known[-1]}: name one, or '
      'several, each once'
    )
  return PlainText(name, parts=parts)


class PlainText:
  """A corpus in text files; see `open_text`.

  A line ends only at \\n. A line of more than 4 MiB, as in a corpus that is a single
  line, is divided at a space, and its parts count as lines.

  Attributes:
    name: name of the corpus, for messages.
  """

  def __init__(
    self,
    name: str | None,
    path: str | Path | Sequence[str | Path] | None = None,
    parts: Sequence[int] | None = None,
  ):
    given = (path,) if isinstance(path, str | Path) else tuple(path or ())
    self.name = name or ', '.join(map(str, given))
    self._named, self._files = name, NAMED.get(name, ())
    if parts is not None:
      self._files = tuple(self._files[part] for part in parts)
      self.name = f'{name}, part {", ".join(map(str, parts))}'
    self._given = tuple(p if is_remote(p) else Path(p).expanduser() for p in given)

  @functools.cached_property
  def paths(self) -> tuple[Path, ...]:
    """Returns the paths of the files, in the order in which they are read.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a folder has no text files; or a text would be read twice, because a
        file is given twice (directly, by its folder or by a link), or exists both plain
        and gzipped.
    """
    if not self._given:
      return tuple(find_file(self._named, file) for file in self._files)
    paths = tuple(file for path in self._given for file in _files(path))
    _check_once(paths)
    return paths

  @functools.cached_property
  def fingerprint(self) -> str:
    """Returns the sha256 of the files' bytes, without unpacking. Raises as `paths`."""
    hashes = [_sha256(path) for path in self.paths]
    return hashlib.sha256(json.dumps([_FORMAT, *hashes]).encode()).hexdigest()

  def lines(self) -> Iterator[str]:
    r"""Yields the lines, without their \n or \r\n. Raises as `chunks`."""
    for chunk in self.chunks():
      for line in chunk.split('\n')[:-1]:
        yield line.removesuffix('\r')

  def chunks(self, label: str = '') -> Iterator[str]:
    r"""Yields chunks of whole lines of about 4 MiB; each line ends with \n.

    Args:
      label: label of a progress bar; an empty one shows no bar.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is truncated or is not UTF-8 (the message says where), or the
        corpus has no text.
    """
    empty = True
    with _progress(label, self.paths) as advance:
      for path in self.paths:
        for chunk in _chunks(path, advance):
          empty = empty and chunk.isspace()
          yield chunk
    if empty:
      names = ', '.join(map(str, self.paths))
      raise ValueError(f'there is no text in {names}: the corpus is empty')


@contextlib.contextmanager
def _progress(label: str, paths: Sequence[Path]) -> Iterator[Callable[[int], None]]:
  """Yields a function that takes the number of bytes read, before unpacking."""
  if not label:
    yield lambda count: None
    return
  with progress_bar() as progress:
    task = progress.add_task(label, total=sum(path.stat().st_size for path in paths))
    yield lambda count: progress.advance(task, count)


def _chunks(path: Path, advance: Callable[[int], None]) -> Iterator[str]:
  """Yields a file's text in chunks of whole lines, without its byte order mark."""
  number, rest, position, first = 0, b'', 0, True
  with path.open('rb') as packed, _unpack(packed) as file:
    while True:
      try:
        block = file.read(_CHUNK)
      except DAMAGE as error:
        raise ValueError(
          f'{path} is damaged or truncated after line {number:,} ({error}); get a new '
          'copy of it'
        ) from error
      if first:
        _check_text(block, path)
      first = False
      advance(packed.tell() - position)
      position, data = packed.tell(), rest + block
      cut = _cut(data, path, number) if block else len(data)
      part, rest = data[:cut], data[cut:]
      if part:
        text = _decode(part, path, number)
        text = text if number else text.removeprefix('\ufeff')
        yield text if text.endswith('\n') else f'{text}\n'
      number += part.count(b'\n')
      if not block:
        return


def _unpack(file: BinaryIO) -> BinaryIO:
  """Returns the file, unpacked if it is gzipped.

  No text in UTF-8 begins with the first bytes of gzip.
  """
  packed = file.peek(2)[:2] == b'\x1f\x8b'
  return gzip.GzipFile(fileobj=file) if packed else contextlib.nullcontext(file)


def _cut(data: bytes, path: Path, number: int) -> int:
  """Returns the end of the last whole line; 0 if more bytes have to be read."""
  cut = data.rfind(b'\n') + 1
  if cut or len(data) < _CHUNK:
    return cut
  cut = data.rfind(b' ') + 1
  if not cut:
    raise ValueError(
      f'line {number + 1:,} of {path} has at least {len(data):,} bytes without a '
      'space; give text with spaces between words'
    )
  return cut


def _check_text(data: bytes, path: Path) -> None:
  """Raises ValueError if the first bytes are those of a file that is not text."""
  name = name_of_container(data)
  if name:
    raise ValueError(f'{path} is {name}, not text in UTF-8: {advice(name)}')


def _decode(data: bytes, path: Path, number: int) -> str:
  try:
    return data.decode('utf-8')
  except UnicodeDecodeError as error:
    line = number + data.count(b'\n', 0, error.start) + 1
    raise ValueError(
      f'line {line:,} of {path.name} is not UTF-8 (byte 0x{data[error.start]:02x}); '
      'convert the file from its encoding with `iconv -f ENCODING -t UTF-8` '
      f'({path.parent})'
    ) from None


def find_file(name: str, file: str) -> Path:
  """Returns the path of a file of a named corpus."""
  folder = os.environ.get('SEQLAB_DATA')
  if not folder:
    raise FileNotFoundError(
      f'corpus {name} cannot be downloaded; set SEQLAB_DATA to the folder that holds '
      f'{name}/{file}.gz, or corpus.path to a text of your own'
    )
  for path in (Path(folder, name, file), Path(folder, name, f'{file}.gz')):
    if path.is_file():
      return path
  raise FileNotFoundError(
    f'corpus {name} has no {file} or {file}.gz in {Path(folder, name)} (SEQLAB_DATA is '
    f'{folder}); put it there'
  )


def _files(path: Path | str) -> list[Path]:
  """Returns the path of a file, or the sorted paths of a folder's text files."""
  if is_remote(path):
    return [fetch(path)]
  if path.is_file():
    return [path]
  if not path.is_dir():
    raise FileNotFoundError(
      f'corpus.path: there is no file or folder {path}; correct the path (relative '
      f'paths start from {Path.cwd()})'
    )
  files = sorted(_visible(path))
  texts = [p for p in files if _is_text(p.name.lower())]
  if not texts:
    others = ', '.join(p.name for p in files[:3]) or 'nothing'
    raise ValueError(
      f'folder {path} has no .txt or .gz files (it has: {others}); rename them, '
      'or list the files in corpus.path'
    )
  return texts


def _visible(folder: Path) -> Iterator[Path]:
  """Yields files at any depth, without hidden ones and those in hidden folders.

  Raises:
    OSError: a folder cannot be listed, or a link is broken; without an error its text
      would be left out silently.
  """

  def refuse(error: OSError) -> None:
    raise error

  for root, folders, names in os.walk(folder, onerror=refuse):
    folders[:] = [name for name in folders if not name.startswith('.')]
    for name in names:
      path = Path(root, name)
      if name.startswith('.'):
        continue
      if not path.exists():
        raise FileNotFoundError(f'corpus.path: {path} is a broken link; remove it')
      if path.is_file():
        yield path


def _check_once(paths: Sequence[Path]) -> None:
  """Raises ValueError if two paths are one file, or one text by their names."""
  files: dict[object, Path] = {}
  texts: dict[Path, Path] = {}
  for path in paths:
    stat = path.stat()
    other = files.setdefault((stat.st_dev, stat.st_ino), path)
    if other is not path:
      raise ValueError(
        f'corpus.path: {other} and {path} are one file, whose text would count twice; '
        'name it once'
      )
    other = texts.setdefault(path.with_name(_stem(path.name)), path)
    if other is not path:
      raise ValueError(
        f'corpus.path: {other} and {path} seem to be one text, plain and gzipped, which '
        'would count twice; remove or rename one, or list the files to read in '
        'corpus.path'
      )


def _stem(name: str) -> str:
  """Returns a text file's name without .gz and .txt."""
  for ending in ('.gz', '.txt'):
    if name.lower().endswith(ending):
      name = name[: -len(ending)]
  return name


def _is_text(name: str) -> bool:
  return name.endswith(('.txt', '.gz')) and not name.endswith('.tar.gz')


def _sha256(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()

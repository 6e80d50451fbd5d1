"""Translates a split, or a file, into a corpus: distillation and back-translation.

The text is translated in parts, each of which becomes files in the folder of the corpus
as soon as it is done. The same command continues after a kill with the next part. Parts
have fixed bounds and random bits come from the number of a line, so that the corpus has
the same bytes as without the kill, on the same devices.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
import contextlib
import hashlib
import itertools
import json
from pathlib import Path
import shutil
import sys
import time
from typing import Any, NamedTuple

import jax

from seqlab.decoding.config import make_decoding
from seqlab.domains import Count, checked
from seqlab.io.files import (
  UNFINISHED,
  locked,
  read_json_object,
  replacing,
  write_text,
)
from seqlab.tasks.interface import Translates, needs
from seqlab.tasks.translator import Translator
from seqlab.text.lines import (
  BadLine,
  check_undamaged,
  is_blank,
  open_bytes,
  stream_lines,
)
from seqlab.train.mesh import batch_sharding, make_mesh
from seqlab.use.ensembles import join_members, load_members, make_translator
from seqlab.use.runs import Choice, LoadedRun, Run, load_run

_RECORD = 'synthesis.json'
_SPLIT = 'train'  # name of the split that the corpus consists of
_NAMED = 10  # lines left out whose reasons are named


class Layout(NamedTuple):
  """The files of the new corpus.

  Attributes:
    source: file name of its source side.
    target: file name of its target side.
    back: whether the source is what was translated into, as in back-translation.
    tag: word before each source; '' for none.
  """

  source: str
  target: str
  back: bool
  tag: str

  @classmethod
  def of(cls, task: Translates, back: bool, tag: str) -> 'Layout':
    """Returns the layout of the corpus that a task's translations make."""
    read, written = task.corpus.sides.values()
    if read == written:
      read, written = task.corpus.sides
    names = (written, read) if back else (read, written)
    return cls(*(f'{_SPLIT}.{name}' for name in names), back, tag)

  def section(self, files: Sequence[Path]) -> str:
    """Returns the section `corpus` of an experiment that trains on these files."""
    source, target = (
      name.removeprefix(f'{_SPLIT}.') for name in (self.source, self.target)
    )
    return (
      'c.corpus = dict(\n'
      f'  source={source!r},\n'
      f'  target={target!r},\n'
      f'  files=dict({_SPLIT}={tuple(map(str, files))}),\n'
      ')'
    )

  def pair(self, line: str, translation: str) -> tuple[str, str]:
    """Returns source and target of a line and its translation."""
    source, target = (translation, line) if self.back else (line, translation)
    return (f'{self.tag} {source}' if self.tag else source), target


@checked
def synthesize(
  run: Run,
  corpus: str | Path,
  *,
  split: str | None = None,
  file: str | Path | None = None,
  back: bool = False,
  tag: str = '',
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  ensemble: Sequence[Run] = (),
  lines_per_part: Count = 10_000,
  trust: bool = False,
) -> dict[str, Any]:
  """Translates a text over all devices, and writes a corpus of two files.

  Lines that are blank, that cannot be translated, or whose translation is blank are
  left out of both files.

  Args:
    run: the folder of the run.
    corpus: folder of the new corpus. If a call was interrupted, the same call
      continues.
    split: split of the run's corpus whose sources are translated.
    file: in place of a split, a text in UTF-8 with one sentence per line, plain or
      gzipped.
    back: whether the translations are the sources of the new corpus (Sennrich et al.
      2016, https://aclanthology.org/P16-1009), and not its targets (Kim and Rush 2016,
      https://aclanthology.org/D16-1139).
    tag: a word that is put before each source, such as '<BT>' (Caswell et al. 2019,
      https://aclanthology.org/W19-5206); '' for none.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how outputs are found, see `decoding.config`.
    ensemble: further runs, whose models decode together with this one's.
    lines_per_part: number of lines that are translated and kept together.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Returns:
    The record in `synthesis.json`: how the corpus was made, and its number of pairs.

  Raises:
    ValueError: an option is wrong, there is not exactly one of `split` and `file`, the
      file is damaged, or the folder holds something else, before anything is
      translated; or the corpus has no pair.
    RuntimeError: another process writes the corpus.
  """
  decoding = make_decoding(options)
  if (split is None) == (file is None):
    raise ValueError('name either a split (--split train) or a file (--input FILE)')
  if tag.split() != [tag] * bool(tag):
    raise ValueError(f'tag is {tag!r}; it must be one word, without white space')
  which = dict(average=average, choose=choose, trust=trust)
  folder, task, variables, steps = load_run(run, **which)
  layout = Layout.of(needs(task, Translates), back, tag)
  members = load_members(task, ensemble, **which)
  text = (
    {'split': split, 'fingerprint': task.corpus.fingerprint(split)} if split else {}
  )
  made_by = {
    'experiment': _digest_of_config(folder.config),
    'steps': steps,
    'ensemble': [_described_member(*x) for x in zip(ensemble, members, strict=True)],
    'search': json.loads(json.dumps(decoding.record())),
    'text': text or {'file': str(file), 'sha256': _digest_of(Path(file))},
    'source': layout.source,
    'target': layout.target,
    'back': back,
    'tag': tag,
    'lines_per_part': lines_per_part,
  }
  parts = Parts(Path(corpus), made_by, layout)
  if not parts.is_done:
    model, variables = join_members(task, variables, members)
    sharding = None
    if jax.local_device_count() > 1:
      sharding = batch_sharding(make_mesh(available=jax.local_devices()))
    translator = make_translator(
      task, model, variables, decoding, folder.config, sharding=sharding
    )
    lines = task.corpus.read(split)[0] if split else _lines_of(Path(file))
    with parts.lock():
      _translate_parts(parts, translator, lines, lines_per_part)
  record = parts.record
  if not record['pairs']:
    raise ValueError(
      f'{corpus} has no pair: each of the {record["lines"]:,} lines is blank, cannot be '
      'translated, or has a blank translation; remove the folder, and translate another '
      'text'
    )
  print(
    f'{record["pairs"]:,} pairs of {record["lines"]:,} lines. To train on them:\n'
    f'{layout.section(parts.files)}'
  )
  return record


def _translate_parts(
  parts: 'Parts', translator: Translator, lines: Iterable[str], lines_per_part: int
) -> None:
  """Translates the parts that are missing, and joins all of them."""
  stream, first, named = iter(lines), 0, 0
  for number in itertools.count():
    if not (chunk := list(itertools.islice(stream, lines_per_part))):
      break
    if not parts.has(number):
      started = time.perf_counter()
      outputs = translator.n_best(chunk, first=first)
      best = [texts[0][0] for texts in outputs]
      parts.write(number, zip(chunk, best, strict=True))
      for i in sorted(translator.refused)[: _NAMED - named]:
        reason = translator.refused[i]
        print(f'line {first + i + 1:,} is left out: it {reason}', file=sys.stderr)
        named += 1
      speed = len(chunk) / (time.perf_counter() - started)
      done = first + len(chunk)
      print(f'{done:,} lines, {speed:,.0f} lines/s', file=sys.stderr)
    first += len(chunk)
  parts.join(first)


class Parts:
  """The folder of a corpus that is made part by part.

  Attributes:
    files: paths of both sides of the finished corpus.
    record: how it is made; once it is finished, its number of pairs and lines too.
  """

  def __init__(self, folder: Path, made_by: Mapping[str, Any], layout: Layout):
    """Opens the folder, or makes it.

    Args:
      folder: the folder.
      made_by: all that decides what it will hold.
      layout: names of the files.

    Raises:
      ValueError: the folder holds something else.
    """
    self._folder, self._parts, self._layout = folder, folder / 'parts', layout
    self.files = folder / layout.source, folder / layout.target
    self.record = dict(made_by)
    if (folder / _RECORD).exists():
      known = read_json_object(folder / _RECORD)
      self._check_same(known)
      self.record = known
    elif folder.exists() and not _is_empty(folder):
      raise ValueError(f'{folder} is not empty, and holds no {_RECORD}: name another')
    else:
      folder.mkdir(parents=True, exist_ok=True)
      self._write_record()
    # After the record, which says whose parts they are.
    if self.is_done:
      self._remove_parts()  # those that a kill left
    else:
      self._parts.mkdir(exist_ok=True)

  def _check_same(self, known: Mapping[str, Any]) -> None:
    for key, value in self.record.items():
      if known.get(key) != value:
        raise ValueError(
          f'{self._folder} was begun with {key}={known.get(key)!r}, and now it is '
          f'{value!r}: repeat the first command, or name another folder'
        )

  def _write_record(self) -> None:
    text = json.dumps(self.record, ensure_ascii=False, indent=2)
    write_text(self._folder / _RECORD, f'{text}\n')

  @property
  def is_done(self) -> bool:
    """Whether the corpus is complete."""
    return 'pairs' in self.record

  def lock(self) -> contextlib.AbstractContextManager[None]:
    """Keeps other processes out: the one that is ready first removes all parts."""
    refusal = (
      f'another process writes the corpus in {self._folder}: wait for it, stop it, or '
      'name another folder'
    )
    return locked(self._parts / '.lock', refusal)

  def has(self, number: int) -> bool:
    """Returns whether a part is complete."""
    return self._path(number, self._layout.target).exists()

  def write(self, number: int, pairs: Iterable[tuple[str, str]]) -> None:
    """Writes a part of the lines and their translations."""
    kept = [
      self._layout.pair(line, translation)
      for line, translation in pairs
      if not is_blank(line) and not is_blank(translation)
    ]
    # The target last: where it exists, the part is complete.
    for side, name in enumerate((self._layout.source, self._layout.target)):
      text = ''.join(f'{pair[side]}\n' for pair in kept)
      write_text(self._path(number, name), text)

  def join(self, lines: int) -> None:
    """Joins the parts to the corpus, and removes them.

    Args:
      lines: number of lines that were read.
    """
    counts = [self._join_side(file) for file in self.files]
    if counts[0] != counts[1]:
      raise AssertionError(f'{counts[0]} sources and {counts[1]} targets')
    self.record |= {'pairs': counts[0], 'lines': lines}
    self._write_record()
    self._remove_parts()

  def _remove_parts(self) -> None:
    if self._parts.exists():
      shutil.rmtree(self._parts)

  def _join_side(self, file: Path) -> int:
    """Joins the parts of one side; returns the number of its lines."""
    count = 0
    with replacing(file) as temporary, temporary.open('wb') as out:
      for number in itertools.count():
        part = self._path(number, file.name)
        if not part.exists():
          break
        data = part.read_bytes()
        count += data.count(b'\n')
        out.write(data)
    return count

  def _path(self, number: int, name: str) -> Path:
    return self._parts / f'{number:07d}.{name}'


def _is_empty(folder: Path) -> bool:
  """Returns whether a folder has no file except what a kill left of the record."""
  return all(x.name.startswith(UNFINISHED) for x in folder.iterdir())


def _lines_of(path: Path) -> Iterator[str]:
  """Yields the lines of a text; one that is not UTF-8 is blank, so that it is left out."""
  with open_bytes(path) as stream:
    for number, line in enumerate(stream_lines(stream, name=str(path)), 1):
      if isinstance(line, BadLine):
        print(f'line {number:,} is left out: it {line.reason}', file=sys.stderr)
      yield '' if isinstance(line, BadLine) else line


def _digest_of(path: Path) -> str:
  """Returns the digest of a text. Raises ValueError if it is damaged or not a file."""
  if path.exists() and not path.is_file():
    raise ValueError(
      f'--input {path} is a folder or a pipe: name a file, which can be read again when '
      'the work is resumed'
    )
  check_undamaged(path)  # now, and not after hours of translation
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def _described_member(run: Run, member: LoadedRun) -> dict[str, Any]:
  """Returns what the record says about a further run of an ensemble."""
  return {
    'run': str(run),
    'experiment': _digest_of_config(member.folder.config),
    'steps': member.steps,
  }


def _digest_of_config(config: Mapping[str, Any]) -> str:
  return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()

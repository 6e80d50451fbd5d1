"""Word vectors, put to use: scores, neighbours, analogies, files for other tools.

They come from a run's folder, or from a file that `embeddings.formats` reads.
"""

from collections.abc import Sequence
import datetime
import json
import math
from pathlib import Path
import sys

from seqlab.config import resolve
from seqlab.embeddings.formats import TENSORS, by_ending
from seqlab.embeddings.vectors import Found, SparseVectors, Vectors, load_vectors
from seqlab.evaluators.similarity import ENGLISH, evaluate_vectors, open_sets, table
from seqlab.io import files
from seqlab.io.console import print_table
from seqlab.metrics.similarity import Estimate, Result
from seqlab.tasks.words import WordTask
from seqlab.text.normalize import nfc
from seqlab.text.remote import is_remote
from seqlab.train.folder import RunFolder
from seqlab.train.restore import restore

_RESTRICT = 30_000  # words among which analogies are answered, as word2vec's demos do


def is_of_words(path: str, format: str | None = None, *, trust: bool = False) -> bool:
  """Whether this is a run of word vectors, or names a file of them."""
  if _is_run(path):
    return issubclass(
      resolve(RunFolder.open(path, trust=trust).config['task']), WordTask
    )
  return _names_file(path, format)


def _is_run(path: str) -> bool:
  return Path(path, 'config.json').is_file()


def _names_file(path: str, format: str | None) -> bool:
  """Whether a path that is no run is meant for a file of vectors, there or not."""
  if format is not None or Path(path).is_file():
    return True
  if Path(path).is_dir():
    return Path(path, TENSORS).is_file()
  return not is_remote(path) and by_ending(Path(path)) is not None


def open_vectors(
  path: str,
  format: str | None = None,
  *,
  average: int = 1,
  choose: str = 'last',
  trust: bool = False,
) -> Vectors | SparseVectors:
  """The vectors of a run's checkpoints, or of a file.

  Args:
    path: a run's folder; or a file of vectors, or the projector's folder.
    format: of a file, see `embeddings.formats`; None goes by the name.
    average: of a run, how many checkpoints to average.
    choose: of a run, the 'last' ones or the 'best' ones.
    trust: whether a run may name code that is no part of seqlab; see `RunFolder.open`.

  Raises:
    FileNotFoundError: there is neither.
    ValueError: the run is of something else, has too few checkpoints, or is given a
      format; or the file is damaged, or is asked for checkpoints.
  """
  return _open(path, format, average, choose, trust)[0]


def _open(
  path: str, format: str | None, average: int, choose: str, trust: bool
) -> tuple[Vectors | SparseVectors, list[int]]:
  """Vectors, and of a run the steps they come from."""
  if not _is_run(path) and _names_file(path, format):
    if average != 1 or choose != 'last':
      option = f'--average {average}' if average != 1 else f'--choose {choose}'
      raise ValueError(f'{path} is a file, without checkpoints: leave out {option}')
    return load_vectors(path, format), []
  folder = RunFolder.open(path, trust=trust)
  kind = resolve(folder.config['task'])
  if not issubclass(kind, WordTask):
    raise ValueError(
      f'{path} is a run of {folder.config["task"]}, which has no vectors'
    )
  if format is not None:
    raise ValueError(f'{path} is a run, not a file: leave out --from {format}')
  if not (folder.vocabulary / 'words.tsv').is_file():
    raise FileNotFoundError(f'{path} has no vocabulary yet; train first')
  with folder.explained():
    task = kind(folder.config, folder.vocabulary)
  variables, steps = restore(folder, task, average=average, choose=choose)
  return task.vectors(variables), steps


def evaluate(
  path: str,
  *,
  sets: Sequence[str] = ENGLISH,
  restrict: int | None = _RESTRICT,
  method: str = 'add',
  format: str | None = None,
  average: int = 1,
  choose: str = 'last',
  trust: bool = False,
) -> dict:
  """Scores vectors on sets of pairs and analogies, and prints a table.

  Args:
    path: see `open_vectors`.
    sets: see `evaluators.similarity:open_sets`.
    restrict: analogies are asked and answered among so many most frequent words.
    method: of analogies, 'add' or 'mul'.
    format: see `open_vectors`.
    average: see `open_vectors`.
    choose: see `open_vectors`.
    trust: see `open_vectors`.

  Returns:
    By set, both conventions' scores and the coverage; and how they were made. What is not
    defined is None. Of a run it is also added to `evaluations.jsonl` in its folder.

  Raises:
    ValueError: as `open_vectors` and `open_sets`; or the method is unknown.
    FileNotFoundError: as they do.
  """
  vectors, steps = _open(path, format, average, choose, trust)
  scores = evaluate_vectors(vectors, open_sets(sets), restrict=restrict, method=method)
  title = f'{path}: {vectors.size:,} words, {vectors.dimensions:,} dimensions'
  print_table(table(scores, title))
  found = {score.set.name: _plain(score.result) for score in scores}
  for score in scores:
    parts = score.parts.items()
    found |= {f'{score.set.name} {part}': _plain(result) for part, result in parts}
  row = {
    'date': datetime.datetime.now().astimezone().isoformat(timespec='seconds'),
    'restrict': restrict,
    'method': method,
    'steps': steps,
    'scores': found,
  }
  if _is_run(path):
    line = json.dumps(row, allow_nan=False)
    files.append_line(Path(path) / 'evaluations.jsonl', line)
  return row


def _plain(result: Result) -> dict:
  return {
    'known': _defined(result.known),
    'all': _defined(result.all),
    'covered': int(result.covered),
    'total': int(result.total),
  }


def _defined(x: Estimate) -> dict:
  """With None for NaN, which is no JSON."""
  return {k: None if math.isnan(v) else float(v) for k, v in x._asdict().items()}


def neighbours(
  path: str,
  words: Sequence[str],
  n: int = 10,
  *,
  format: str | None = None,
  trust: bool = False,
) -> None:
  """Prints the nearest words of each word, and their cosines.

  Raises:
    ValueError: a word is unknown, also in form C and in lower case; or as
      `open_vectors`.
  """
  vectors = open_vectors(path, format, trust=trust)
  words = [_spelling(vectors, word) for word in words]
  found = [vectors.neighbours(word, n) for word in words]  # all are there, or none
  for word, near in zip(words, found, strict=True):
    print(word)
    _print(near)


def analogy(
  path: str,
  words: Sequence[str],
  n: int = 10,
  *,
  method: str = 'add',
  restrict: int | None = None,
  format: str | None = None,
  trust: bool = False,
) -> None:
  """Prints the words that are to the third as the second is to the first.

  Raises:
    ValueError: as `neighbours`.
  """
  vectors = open_vectors(path, format, trust=trust)
  a, b, c = (_spelling(vectors, word) for word in words)
  found = vectors.analogy(a, b, c, n, method=method, restrict=restrict)
  print(f'{a} is to {b} as {c} is to')
  _print(found)


def _spelling(vectors: Vectors | SparseVectors, word: str) -> str:
  """A word as it is known: as given, else in Unicode's form C, else in lower case.

  macOS gives letters and their accents apart, and most vocabularies have neither those
  nor capitals. A word that is unknown in all forms is returned as it is.
  """
  forms = (word, nfc(word), nfc(word.lower()))
  return next((form for form in forms if form in vectors), word)


def _print(found: Found) -> None:
  for word, score in found:
    print(f'  {score:7.4f}  {word}')


def save(
  path: str,
  to: str,
  format: str | None = None,
  *,
  source: str | None = None,
  trust: bool = False,
) -> None:
  """Writes vectors for other tools; see `embeddings.formats:write`.

  Args:
    path: see `open_vectors`.
    to: the new file; of 'projector', a folder.
    format: of the new file; None goes by the name.
    source: the format of the file that is read; None goes by the name.
    trust: see `open_vectors`.
  """
  vectors = open_vectors(path, source, trust=trust)
  vectors.save(to, format)
  size = f'{vectors.size:,} words, {vectors.dimensions:,} dimensions'
  print(f'{to}: {size}', file=sys.stderr)

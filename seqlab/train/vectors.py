"""Word vectors of a run's folder, or of a file that `embeddings.formats` reads."""

from pathlib import Path

from seqlab.embeddings.formats import METADATA, TENSORS, by_ending
from seqlab.embeddings.vectors import SparseVectors, Vectors, load_vectors
from seqlab.tasks.interface import HasVectors, needs
from seqlab.text.remote import exists, fetch, is_remote
from seqlab.train.folder import RunFolder
from seqlab.train.restore import check_finished, restore


def names_vectors(path: str, format: str | None = None) -> bool:
  """Returns whether a path names a file of vectors, and not a run."""
  return not is_run(path) and _names_file(path, format)


def is_run(path: str) -> bool:
  """Returns whether a path is the folder of a run, on a disk or in a bucket."""
  if is_remote(path):
    return exists(f'{path.rstrip("/")}/config.json')
  return Path(path, 'config.json').is_file()


def _names_file(path: str, format: str | None) -> bool:
  """Returns whether a path that is not a run means a file of vectors.

  The file need not exist.
  """
  if format is not None:
    return True
  if is_remote(path):
    return by_ending(Path(path)) is not None or exists(path) or _is_projector(path)
  if Path(path).is_file():
    return True
  if Path(path).is_dir():
    return Path(path, TENSORS).is_file()
  return by_ending(Path(path)) is not None


def _is_projector(path: str) -> bool:
  """Returns whether a path in a bucket is a folder of TensorBoard's projector."""
  return exists(f'{path.rstrip("/")}/{TENSORS}')


def _on_disk(path: str) -> Path:
  """Returns the path of vectors on this disk, after copying them from a bucket.

  The copy is in the cache, and is made again when the file in the bucket changes.

  Raises:
    FileNotFoundError: the bucket has no such file.
  """
  if not is_remote(path):
    return Path(path)
  path = path.rstrip('/')
  if not _is_projector(path):
    return fetch(path, newest=True)
  files = [fetch(f'{path}/{name}', newest=True) for name in (TENSORS, METADATA)]
  return files[0].parent


def open_source(
  path: str,
  format: str | None = None,
  *,
  average: int = 1,
  choose: str = 'last',
  trust: bool = False,
) -> tuple[Vectors | SparseVectors, list[int]]:
  """Returns vectors, and the steps of the run that they come from; none of a file.

  The arguments and errors are those of `word_vectors.open_vectors`.
  """
  folder = check_source(path, format, average, choose, trust)
  if folder is None:
    return _load_file(path, format), []
  with folder.explain_errors():
    task = folder.task_class().restore(folder.config, folder.vocabulary)
    needs(task, HasVectors)  # now with the attributes, which its class need not have
  variables, steps = restore(folder, task, average=average, choose=choose)
  return task.vectors(variables), steps


def _load_file(path: str, format: str | None) -> Vectors | SparseVectors:
  """Returns the vectors of a file, with errors that name it as the user does."""
  copy = _on_disk(path)
  try:
    return load_vectors(copy, format)
  except ValueError as error:
    raise ValueError(str(error).replace(str(copy), path)) from error.__cause__


def check_source(
  path: str, format: str | None, average: int, choose: str, trust: bool
) -> RunFolder | None:
  """Checks the source of vectors without loading them.

  Returns:
    The folder of the run; None if the source is a file.

  Raises:
    ValueError, FileNotFoundError: as `open_source`.
  """
  if names_vectors(path, format):
    if average != 1 or choose != 'last':
      option = f'--average {average}' if average != 1 else f'--choose {choose}'
      raise ValueError(f'{path} is a file, without checkpoints: leave out {option}')
    if not is_remote(path) and not Path(path).exists():
      load_vectors(path, format)  # which raises FileNotFoundError
    return None
  folder = RunFolder.open(path, trust=trust)
  kind = folder.task_class()
  try:
    needs(kind, HasVectors)
  except ValueError as error:
    raise ValueError(f'{path}: {error}') from None
  if format is not None:
    raise ValueError(f'{path} is a run, not a file: leave out --from {format}')
  check_finished(folder, kind)
  return folder

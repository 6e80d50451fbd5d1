"""Where experiments are: files of one's own, and those that come with seqlab."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).parent
_FOLDER = 'experiments'


def known_experiments() -> Path | None:
  """Returns the folder of seqlab's experiments.

  An installed package has them inside, see `seqlab.packaging`. In a clone they are
  beside the package.

  Returns:
    The folder; None if there is none, as after copying the package alone.
  """
  inside, clone = _PACKAGE / _FOLDER, _PACKAGE.parent
  if inside.is_dir():
    return inside
  beside = clone / _FOLDER
  return beside if beside.is_dir() and (clone / 'pyproject.toml').is_file() else None


def default_folder() -> Path:
  """Returns `experiments` in the current folder, or else the folder of seqlab's own."""
  own = Path(_FOLDER)
  return own if own.is_dir() else known_experiments() or own


def known_names() -> list[str]:
  """Returns the names of seqlab's experiments, such as 'multi30k/transformer'."""
  if (folder := known_experiments()) is None:
    return []
  paths = sorted(folder.rglob('*.py'))
  return [path.relative_to(folder).with_suffix('').as_posix() for path in paths]


def find_experiment(name: str) -> Path | None:
  """Returns the file of an experiment; None if there is none.

  Args:
    name: a path, with or without '.py', from the current folder, from `experiments` in
      it, or from seqlab's experiments: 'multi30k/transformer'. The first one of these
      that exists is the experiment.
  """
  inner = name.removeprefix(f'{_FOLDER}/')
  places = [name, f'{_FOLDER}/{inner}']
  if (known := known_experiments()) is not None:
    places.append(f'{known}/{inner}')
  for place in places:
    path = place if place.endswith('.py') else f'{place}.py'
    if os.path.isfile(path):  # False where a file system refuses the name
      return Path(path)
  return None

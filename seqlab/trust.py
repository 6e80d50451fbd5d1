"""Which code a run's folder may name without being trusted.

A path 'module:name' in a configuration is imported and called. A folder may come from
another person, so its paths must be those of seqlab's own dictionaries of pieces. A
prefix would not do, since a path leads to anything that its module imports
('seqlab.cli:Path'), which is then called with arguments from the folder.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from seqlab.config import is_path
from seqlab.evaluators import EVALUATORS
from seqlab.layers import ACTIVATIONS, NORMALIZATIONS, POSITIONS, SCORES
from seqlab.models import MODELS
from seqlab.tasks import TASKS

_DICTIONARIES = (
  *(TASKS, MODELS, EVALUATORS),
  *(POSITIONS, NORMALIZATIONS, ACTIVATIONS, SCORES),
)
KNOWN = frozenset(
  path.removeprefix('seqlab.') for kinds in _DICTIONARIES for path in kinds.values()
)


def check_names(config: Mapping[str, Any], where: str) -> None:
  """Checks that a configuration names no code but seqlab's own.

  A path may stand wherever a piece is named, so all of the configuration is searched,
  except for the names and files of the corpus.

  Args:
    config: a configuration that another person may have written.
    where: the file that it comes from, for messages.

  Raises:
    ValueError: it names something that is in no dictionary of pieces.
  """
  corpus = config.get('corpus')
  if isinstance(corpus, Mapping):
    pieces = {k: v for k, v in corpus.items() if k not in ('name', 'path', 'files')}
    config = {**config, 'corpus': pieces}
  for key, value in _leaves(config):
    if is_path(value) and value.removeprefix('seqlab.') not in KNOWN:
      raise ValueError(
        f'{where} names {key} {value!r}, which is not part of seqlab, and using it would '
        f'run its code. Add --trust (trust=True) if you know who made this folder'
      )


def _leaves(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
  """Yields all values in nested sections and lists, each with its key."""
  if isinstance(value, Mapping):
    for name, part in value.items():
      yield from _leaves(part, f'{key}.{name}' if key else str(name))
  elif isinstance(value, list | tuple):
    for part in value:
      yield from _leaves(part, key)
  else:
    yield key, value

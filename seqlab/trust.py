"""Which code a run's folder may name without being trusted.

A path 'module:name' in a configuration is imported and called. A folder may come from
another person, so its paths must be those of seqlab's own dictionaries of pieces, or
functions of optax and jax.nn. A prefix would not do, since a path leads to anything that
its module imports ('seqlab.cli:Path'), which is then called with arguments from the
folder.
"""

from collections.abc import Iterator, Mapping
import functools
import importlib
from typing import Any

from seqlab.config import is_path
from seqlab.data.batching import BATCHINGS
from seqlab.data.streams import STREAMS
from seqlab.embeddings.contexts import WEIGHTINGS
from seqlab.embeddings.output_vectors import OUTPUT_VECTORS
from seqlab.evaluators import EVALUATORS
from seqlab.layers import (
  ACTIVATIONS,
  NORMALIZATIONS,
  POSITIONS,
  SCORES,
  TRANSITIONS,
)
from seqlab.models import MODELS
from seqlab.tasks import TASKS
from seqlab.text.vocabulary import VOCABULARIES

# Libraries whose public functions only compute on arrays, such as 'optax:lion'.
_LIBRARIES = {'optax': 'optax', 'jax.nn': 'jax'}  # module -> package that defines it


def _path(piece: Any) -> str:
  return piece if isinstance(piece, str) else f'{piece.__module__}:{piece.__qualname__}'


@functools.cache
def known_paths() -> frozenset[str]:
  """Returns the paths of all pieces of seqlab, without the package's name."""
  # These import JAX, which a sweep need not do to list its trials.
  from seqlab.decoding.config import DECODINGS
  from seqlab.embeddings.objectives import OBJECTIVES
  from seqlab.embeddings.word2vec import ARCHITECTURES

  dictionaries = (
    *(TASKS, MODELS, EVALUATORS, VOCABULARIES, BATCHINGS, STREAMS, DECODINGS),
    *(POSITIONS, NORMALIZATIONS, ACTIVATIONS, SCORES, TRANSITIONS),
    *(ARCHITECTURES, OBJECTIVES, OUTPUT_VECTORS, WEIGHTINGS),
  )
  pieces = (piece for kinds in dictionaries for piece in kinds.values())
  return frozenset(_path(piece).removeprefix('seqlab.') for piece in pieces)


def check_names(config: Mapping[str, Any], where: str) -> None:
  """Checks that a configuration names no code but seqlab's own.

  A path may stand wherever a piece is named, so all of the configuration is searched,
  except for the names and files of the corpus.

  Args:
    config: a configuration that another person may have written.
    where: the file that it comes from, for messages.

  Raises:
    ValueError: it names something that is in no dictionary of pieces, and that is not a
      function of optax or jax.nn.
  """
  for key, value in foreign_names(config):
    raise ValueError(
      f'{where} names {key} {value!r}, which is not part of seqlab, and using it would '
      f'run its code. Add --trust (trust=True) if you know who made this folder'
    )


def foreign_names(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
  """Yields the keys and paths in a configuration that need trust; see `check_names`.

  Sinks need none: they are made from the experiment of a training, and never from a
  folder.
  """
  config = {key: value for key, value in config.items() if key != 'sinks'}
  corpus = config.get('corpus')
  if isinstance(corpus, Mapping):
    pieces = {k: v for k, v in corpus.items() if k not in ('name', 'path', 'files')}
    config = {**config, 'corpus': pieces}
  for key, value in _leaves(config):
    if is_path(value) and not _is_known(value):
      yield key, value


def _is_known(path: str) -> bool:
  if path.removeprefix('seqlab.') in known_paths():
    return True
  name, _, attribute = path.partition(':')
  if name not in _LIBRARIES or attribute.startswith('_'):
    return False
  # A module that this one imports, or a function of another package, is not its own.
  piece = getattr(importlib.import_module(name), attribute, None)
  package = (getattr(piece, '__module__', None) or '').partition('.')[0]
  return callable(piece) and package == _LIBRARIES[name]


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

"""Options of the section `init`: what a run begins with in place of fresh parameters.

    c.init = dict(run='runs/other', map={'encoder': 'encoder'}, freeze='encoder')
    c.init = dict(vectors=dict(path='runs/sgns', into='source_embedding'))

`train.warm_start` reads the parameters and the vectors that they name.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import re
from typing import Annotated, Any, Literal

from seqlab.config import call
from seqlab.domains import Check, Count

Pairs = Sequence[Sequence[str]]  # of a pattern and its replacement


def _check_pattern(pattern: Any) -> None:
  if not isinstance(pattern, str):
    raise ValueError('a pattern of paths, such as "encoder"')
  try:
    re.compile(pattern)
  except re.error as error:
    raise ValueError(f'a regular expression ({error})') from None


def _check_patterns(value: Any) -> None:
  if not isinstance(value, str | Sequence):
    raise ValueError('a pattern of paths, such as "encoder", or a list of them')
  for pattern in [value] if isinstance(value, str) else value:
    _check_pattern(pattern)


def _check_map(value: Any) -> None:
  advice = 'a section or a list of pairs: a pattern of paths, and its replacement'
  if not isinstance(value, Mapping | Sequence) or isinstance(value, str) or not value:
    raise ValueError(advice)
  for pair in value.items() if isinstance(value, Mapping) else value:
    if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
      raise ValueError(advice)
    if not all(isinstance(text, str) for text in pair):
      raise ValueError(advice)
    _check_pattern(pair[0])


def _check_vectors(value: Any) -> None:
  several = isinstance(value, Sequence) and not isinstance(value, str)
  for section in value if several else [value]:
    if not isinstance(section, Mapping):
      raise ValueError('a section with path and into, or a list of such sections')


@dataclasses.dataclass(frozen=True)
class VectorsInit:
  """Word vectors for a table of embeddings.

  Attributes:
    path: a run of word vectors, or a file; see `word_vectors.open_vectors`.
    into: path of the table or of its module, such as 'source_embedding'.
    freeze: whether the table is not trained.
    scale: 'vectors' lets the layer return the vectors as they are, and scales the fresh
      rows of the other tokens to their norm; 'fresh' scales the vectors to the norm of
      the fresh rows. Both norms are root mean squares.
    lowercase: whether a word without a vector gets that of its lower case.
    format: format of a file; None decides by its name.
    average: number of a run's checkpoints to average.
    choose: whether to take the 'last' or the 'best' checkpoints of a run.
    trust: whether a run may name code that is not part of seqlab.
  """

  path: str
  into: Annotated[str, Check(_check_pattern)]
  freeze: bool = False
  scale: Literal['vectors', 'fresh'] = 'vectors'
  lowercase: bool = True
  format: str | None = None
  average: Count = 1
  choose: Literal['last', 'best'] = 'last'
  trust: bool = False


@dataclasses.dataclass(frozen=True)
class Init:
  """What a run begins with in place of fresh parameters.

  Attributes:
    run: folder of a run whose parameters are taken.
    map: pattern of its paths -> replacement, which gives the path here; a section or a
      list of pairs, of which the first that matches counts. None takes every parameter
      that both models have by the same path.
    freeze: pattern, or patterns, of parameters that are not trained.
    average: number of checkpoints of the run to average.
    choose: whether to take its 'last' or its 'best' checkpoints.
    trust: whether the run may name code that is not part of seqlab.
    vectors: options of `VectorsInit`, or a list of such sections.
  """

  run: str | None = None
  map: Annotated[Mapping | Sequence, Check(_check_map)] | None = None
  freeze: Annotated[Any, Check(_check_patterns)] = ()
  average: Count = 1
  choose: Literal['last', 'best'] = 'last'
  trust: bool = False
  vectors: Annotated[Mapping | Sequence, Check(_check_vectors)] | None = None

  @classmethod
  def of(cls, config: Mapping[str, Any]) -> 'Init':
    """Returns the section `init` of an experiment.

    Raises:
      ValueError: an option is unknown, outside its domain, or without effect.
    """
    init = call(cls, config.get('init') or {}, 'init')
    if init.run is None:
      for name in ('map', 'average', 'choose', 'trust'):
        if getattr(init, name) != getattr(cls, name):
          raise ValueError(f'init.{name} has no effect without init.run: set init.run')
    _ = init.tables  # which are checked when they are built
    return init

  @property
  def is_empty(self) -> bool:
    """Whether a run begins with fresh parameters, all of which are trained."""
    return self.run is None and not self.tables and not self.frozen

  @property
  def pairs(self) -> list[tuple[str, str]] | None:
    """The pairs of a pattern and a replacement; None without `map`."""
    if self.map is None:
      return None
    pairs = self.map.items() if isinstance(self.map, Mapping) else self.map
    return [(pattern, replacement) for pattern, replacement in pairs]

  @property
  def tables(self) -> list[VectorsInit]:
    """The tables that get word vectors."""
    given = self.vectors or []
    sections = [given] if isinstance(given, Mapping) else given
    return [call(VectorsInit, section, 'init.vectors') for section in sections]

  @property
  def frozen(self) -> list[str]:
    """The patterns of all parameters that are not trained."""
    patterns = [self.freeze] if isinstance(self.freeze, str) else [*self.freeze]
    return [*patterns, *(table.into for table in self.tables if table.freeze)]

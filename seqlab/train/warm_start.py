"""Begins a run with the parameters of another run, and with word vectors.

Arrays are read by the host and put on the devices with the shardings of the new run. The
source is read once, when a run begins: a run that is resumed has all in its checkpoint.
"""

from collections.abc import Iterable, Mapping, Sequence
import dataclasses
import functools
import json
from typing import Any

from flax.traverse_util import unflatten_dict
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import suggest
from seqlab.io import files
from seqlab.tasks.interface import CARRY, Estimator, Task, has, traced_init
from seqlab.text.vocabulary import Vocabulary
from seqlab.text.words import spellings
from seqlab.train import processes
from seqlab.train.definition import Definition
from seqlab.train.folder import RunFolder
from seqlab.train.init import Init, VectorsInit
from seqlab.train.mesh import logical_axes
from seqlab.train.overview import count
from seqlab.train.paths import by_path, listed, rewritten, unmatched
from seqlab.train.restore import has_checkpoint, open_run, restore
from seqlab.train.state import TrainState
from seqlab.types import BOS, EOS, PAD, Array, Variables

_WHOLE_RUN = [('.*', r'\g<0>')]  # every parameter keeps its path


@dataclasses.dataclass(frozen=True)
class Taken:
  """What a parameter begins with.

  Attributes:
    values: array of the parameter's shape.
    rows: [V] bool, entries of `axis` that are taken; the others stay fresh. None takes
      the whole array.
    axis: axis of the vocabulary.
    scale: of word vectors, `VectorsInit.scale`; None scales nothing.
  """

  values: np.ndarray
  rows: np.ndarray | None = None
  axis: int = 0
  scale: str | None = None


@dataclasses.dataclass(frozen=True)
class Report:
  """What a run began with, for `init.json` in its folder and for its log.

  Attributes:
    taken: path -> path in the other run.
    steps: steps of the checkpoints of the other run.
    rows: path -> numbers of rows that were kept, and of all rows.
    vectors: path -> coverage of the vocabulary by word vectors.
    fresh: paths of parameters that no part was taken for.
    frozen: paths of parameters that are not trained.
    messages: lines for the log.
  """

  taken: Mapping[str, str]
  steps: Sequence[int]
  rows: Mapping[str, tuple[int, int]]
  vectors: Mapping[str, Mapping[str, Any]]
  fresh: Sequence[str]
  frozen: Sequence[str]
  messages: Sequence[str]

  def write(self, folder: RunFolder) -> None:
    """Writes `init.json`."""
    content = dataclasses.asdict(self)
    del content['messages']
    text = json.dumps(content, indent=2, ensure_ascii=False)
    files.write_text(folder.path / 'init.json', f'{text}\n')


class WarmStart:
  """The beginning of a run that has a section `init`."""

  def __init__(self, folder: RunFolder, task: Task, definition: Definition):
    """Reads what the run begins with, unless it has begun.

    It is read before the run's folder is written, so that a mistake in `init` leaves no
    folder of another experiment behind.

    Args:
      folder: folder of the run.
      task: task of the run.
      definition: shapes and shardings of its state.

    Raises:
      FileNotFoundError: there is no such run or file.
      ValueError: an option of `init` does not fit the two models.
    """
    self._init, self._task, self._definition = Init.of(folder.config), task, definition
    if self._init.is_empty:
      return
    if not processes.broadcast_from_primary(has_checkpoint(folder)):
      self._read()

  def begin(self, seed: int) -> tuple[TrainState, Report | None]:
    """Returns the state of a run at step 0, and a report if there is something in it."""
    fresh = self._definition.init(seed)
    taken, report = self._read()
    if not taken:
      return fresh, report
    variables = {
      name: by_path(tree)
      for name, tree in {'params': fresh.params, **fresh.collections}.items()
    }
    for (collection, path), source in taken.items():
      variables[collection][path] = _placed(variables[collection][path], source)
    trees = {
      k: unflatten_dict(tree, sep='/') if tree else {} for k, tree in variables.items()
    }
    return self._definition.begin(seed, trees), report

  def release(self) -> None:
    """Drops the arrays on the host; another call of `begin` reads them again."""
    self.__dict__.pop('_source', None)

  def _read(self) -> tuple[dict[tuple[str, str], Taken], Report | None]:
    return self._source

  @functools.cached_property
  def _source(self) -> tuple[dict[tuple[str, str], Taken], Report | None]:
    """Arrays by collection and path, and the report; read from the disk."""
    if self._init.is_empty:
      return {}, None
    here = _Side.of_task(self._task, self._definition)
    reader = _Reader(self._init, here)
    if self._init.run is not None:
      reader.read_run()
    for table in self._init.tables:
      reader.read_vectors(table)
    return reader.taken, reader.report(self._definition)


@dataclasses.dataclass(frozen=True)
class _Side:
  """The variables of a run, and the vocabularies of their rows.

  Attributes:
    task: the task.
    variables: collection -> path -> array, or its shape.
    axes: path -> names of the logical axes of a parameter.
  """

  task: Task
  variables: Mapping[str, Mapping[str, Any]]
  axes: Mapping[str, tuple[str | None, ...]]

  @classmethod
  def of(cls, task: Task, variables: Variables) -> '_Side':
    """Takes variables of a task."""
    return cls(
      task,
      {name: by_path(tree) for name, tree in variables.items() if name != CARRY},
      by_path(logical_axes(traced_init(task))),
    )

  @classmethod
  def of_task(cls, task: Task, definition: Definition) -> '_Side':
    """Takes the shapes of a run's variables."""
    return cls.of(task, definition.abstract.variables)

  def vocabulary(self, path: str) -> tuple[Vocabulary, int, str] | None:
    """Returns the vocabulary of a parameter's rows, their axis, and the side's name.

    A table whose module is named after a side, as in 'source_embedding', has the
    vocabulary of this side. Any other one has that of what is predicted, the last side.
    """
    axes, sides = self.axes[path], self._sides
    if 'vocab' not in axes or not sides:
      return None
    named = [s for s in sides if any(x.startswith(f'{s}_') for x in path.split('/'))]
    side, axis = (named or [*sides])[-1], axes.index('vocab')
    if self.variables['params'][path].shape[axis] != sides[side].size:
      return None  # such as a table of positions
    return sides[side], axis, side

  @property
  def _sides(self) -> Mapping[str, Vocabulary]:
    return getattr(getattr(self.task, 'vocabularies', None), 'sides', {})


class _Reader:
  """Reads the arrays that an experiment names in `init`.

  Attributes:
    taken: collection and path -> what it begins with.
  """

  def __init__(self, init: Init, here: _Side):
    self._init, self._here = init, here
    self.taken: dict[tuple[str, str], Taken] = {}
    self._paths: dict[str, str] = {}  # path here -> path there
    self._steps: list[int] = []
    self._rows: dict[str, tuple[int, int]] = {}
    self._vectors: dict[str, dict[str, Any]] = {}
    self._messages: list[str] = []

  # Parameters of another run.

  def read_run(self) -> None:
    """Takes the parameters of `init.run`."""
    init = self._init
    folder, task = open_run(init.run, trust=init.trust)
    if has(task, Estimator):
      raise ValueError(
        f'init.run: {init.run} was fitted without a gradient and has no parameters; word '
        'vectors are read by init.vectors'
      )
    variables, self._steps = restore(
      folder, task, average=init.average, choose=init.choose, on_host=True
    )
    there = _Side.of(task, variables)
    self._take_params(there)
    self._take_collections(there)

  def _take_params(self, there: _Side) -> None:
    """Takes the parameters that the patterns choose."""
    known, run = self._here.variables['params'], self._init.run
    unused = dict(self._init.pairs or ())
    for path, values in there.variables['params'].items():
      pattern, target = self._target(path)
      unused.pop(pattern, None)
      if target is None or (self._init.map is None and target not in known):
        continue
      if target not in known:
        raise ValueError(
          f'init.map sends {path} of {run} to {target!r}, which this model does not have'
          f'{suggest(target, known)}'
        )
      if target in self._paths:
        raise ValueError(
          f'init.map sends both {self._paths[target]} and {path} of {run} to {target}'
        )
      self.taken['params', target] = self._fitted(there, path, target, values)
      self._paths[target] = path
    for pattern in unused:
      raise unmatched(pattern, f'init.map of {run}', there.variables['params'])
    if not self._paths:
      raise ValueError(
        f'init.run: {run} has no parameter with the path of one of this model; it has '
        f'{listed([*there.variables["params"]])}: set init.map'
      )
    size = sum(known[path].size for path in self._paths)
    steps = ', '.join(f'{step:,}' for step in self._steps)
    self._messages.append(
      f'init: {len(self._paths)} of {len(known)} arrays ({size:,} parameters) from {run}, '
      f'step {steps}'
    )
    self._messages += [
      f'init: {path}: {kept:,} of {size:,} rows are those of the same pieces there'
      for path, (kept, size) in self._rows.items()
    ]

  def _target(self, path: str) -> tuple[str, str | None]:
    """Returns the pattern that matches a path of the other run, and the path here."""
    for pattern, replacement in self._init.pairs or _WHOLE_RUN:
      try:
        target = rewritten(path, pattern, replacement)
      except ValueError as error:
        raise ValueError(f'init.map: {error}') from None
      if target is not None:
        return pattern, target
    return '', None

  def _fitted(self, there: _Side, path: str, target: str, values: np.ndarray) -> Taken:
    """Returns the values of a parameter, with the rows of a vocabulary rearranged."""
    shape, run = self._here.variables['params'][target].shape, self._init.run
    ours, theirs = self._here.vocabulary(target), there.vocabulary(path)
    if ours and theirs and ours[0].fingerprint != theirs[0].fingerprint:
      values = np.moveaxis(values, theirs[1], ours[1])
      axis = ours[1]
      if _without(shape, axis) == _without(values.shape, axis):
        rows = shared_rows(theirs[0], ours[0])
        self._rows[target] = int((rows >= 0).sum()), len(rows)
        return Taken(np.take(values, np.maximum(rows, 0), axis), rows >= 0, axis)
    if values.shape != shape:
      raise ValueError(
        f'init.map: {path} of {run} has the shape {tuple(values.shape)}, and {target} '
        f'here {tuple(shape)}: give both models the same sizes, or leave it out of '
        'init.map'
      )
    return Taken(values)

  def _take_collections(self, there: _Side) -> None:
    """Takes running statistics and the like where both models have them."""
    for name, arrays in there.variables.items():
      here = self._here.variables.get(name, {})
      for path, values in arrays.items() if name != 'params' else ():
        _, target = self._target(path)
        if target in here and here[target].shape == values.shape:
          self.taken[name, target] = Taken(values)

  # Word vectors.

  def read_vectors(self, table: VectorsInit) -> None:
    """Takes word vectors into a table of embeddings."""
    # Imported here, since SciPy takes long and few runs read vectors.
    from seqlab.embeddings.vectors import SparseVectors
    from seqlab.train.vectors import open_source

    path = self._table(table.into)
    if ('params', path) in self.taken:
      raise ValueError(
        f'init: {path} would get both rows of {self._init.run} and vectors of '
        f'{table.path}: leave it out of init.map'
      )
    vocabulary, axis, side = self._here.vocabulary(path)
    vectors, _ = open_source(
      table.path,
      table.format,
      average=table.average,
      choose=table.choose,
      trust=table.trust,
    )
    shape = self._here.variables['params'][path].shape
    width = shape[1 - axis]
    if isinstance(vectors, SparseVectors):
      raise ValueError(
        f'init.vectors: {table.path} has sparse vectors, of {vectors.dimensions:,} '
        'numbers per word: factorise them first, as experiments/enwiki/ppmi_svd.py does'
      )
    if vectors.dimensions != width:
      raise ValueError(
        f'init.vectors: the vectors of {table.path} have {vectors.dimensions:,} numbers, '
        f'and {path} of this model has {width:,} per token: set model.width='
        f'{vectors.dimensions}, or take vectors of {width:,} numbers'
      )
    words = words_of_pieces(vocabulary)
    rows = _look_up(words, vectors.words, lowercase=table.lowercase)
    if not (rows >= 0).any():
      raise ValueError(
        f'init.vectors: no word of {table.path} is a piece of the {side} vocabulary, '
        f'which has {sum(x is not None for x in words):,} pieces that are whole words: '
        'take vectors of its language, or another vocabulary.kind'
      )
    values = np.asarray(vectors.matrix, np.float32)[np.maximum(rows, 0)]
    values /= _scale(self._here.task, path)
    values = np.moveaxis(values, 0, axis)
    self.taken['params', path] = Taken(values, rows >= 0, axis, table.scale)
    coverage = _coverage(words, rows >= 0, self._counts(side, len(rows)))
    self._vectors[path] = {'path': table.path, **coverage}
    self._messages.append(f'init: {path} from {table.path}: {_described(coverage)}')

  def _table(self, into: str) -> str:
    """Returns the path of the table of embeddings that a pattern chooses."""
    known = self._here.variables['params']
    chosen = [path for path in known if rewritten(path, into, '') is not None]
    tables = [
      path
      for path in known
      if len(known[path].shape) == 2 and self._here.vocabulary(path)
    ]
    if len(chosen) == 1 and chosen[0] in tables:
      return chosen[0]
    names = [path.rpartition('/')[0] or path for path in tables]
    raise ValueError(
      f'init.vectors.into={into!r} is no table of embeddings of this model'
      f'{suggest(into, names)} (known: {", ".join(names) or "none"})'
    )

  def _counts(self, side: str, size: int) -> np.ndarray | None:
    """Returns how often each id occurs in the training split, if the task knows it."""
    if not hasattr(self._here.task, 'stores'):
      return None
    sides = [*self._here.task.vocabularies.sides]
    store = self._here.task.stores('train')[sides.index(side)]
    return np.bincount(store.ids, minlength=size)

  def report(self, definition: Definition) -> Report:
    """Returns the report of all that was read."""
    params = definition.abstract.params
    flat, frozen = by_path(params), definition.frozen.paths(params)
    fresh = [path for path in flat if ('params', path) not in self.taken]
    messages = [*self._messages]
    if fresh and self.taken:
      messages.append(f'init: fresh: {listed(fresh)}')
    if frozen:
      size = count([flat[path] for path in frozen])
      messages.append(f'init: frozen ({size:,} parameters): {listed(frozen)}')
    return Report(
      taken=self._paths,
      steps=self._steps,
      rows=self._rows,
      vectors=self._vectors,
      fresh=fresh,
      frozen=frozen,
      messages=messages,
    )


def _without(shape: Sequence[int], axis: int) -> tuple[int, ...]:
  return (*shape[:axis], *shape[axis + 1 :])


def shared_rows(source: Vocabulary, target: Vocabulary) -> np.ndarray:
  """Returns for each id of `target` the id of the same piece in `source`, or -1.

  Special ids are the same in every vocabulary. Of pieces that occur several times, as in
  a vocabulary of several parts, the first are the same ones, the second, and so on.
  """
  rows = {key: i for i, key in enumerate(_occurrences(source.pieces()))}
  rows |= {i: i for i in range(EOS + 1)}
  keys = enumerate(_occurrences(target.pieces()))
  return np.array([rows.get(i if i <= EOS else key, -1) for i, key in keys])


def _occurrences(pieces: Iterable[str]) -> list[tuple[str, int]]:
  """Returns each piece with the number of times that it occurred before."""
  seen: dict[str, int] = {}
  keys = []
  for i, piece in enumerate(pieces):
    if i <= EOS:
      keys.append((piece, -1))
      continue
    seen[piece] = seen.get(piece, -1) + 1
    keys.append((piece, seen[piece]))
  return keys


def words_of_pieces(vocabulary: Vocabulary) -> list[str | None]:
  """Returns the word that each piece is; None for special ids and parts of words.

  A piece that begins as a word does may be continued by others. It counts as a word,
  since alone it is one.
  """
  separator = getattr(vocabulary, 'separator', None) or ' '
  words: list[str | None] = []
  for i, surface in enumerate(vocabulary.surfaces()):
    text = surface.decode('utf-8', 'replace')
    whole = text.startswith(separator) or text.endswith(' ')  # see `text.merges`
    word = text.removeprefix(separator).strip(' ')
    words.append(word if i > EOS and whole and word else None)
  return words


def _look_up(
  words: Sequence[str | None], known: Sequence[str], *, lowercase: bool
) -> np.ndarray:
  """Returns the row of each word among those that have vectors, or -1."""
  rows = {word: i for i, word in enumerate(known)}

  def row(word: str | None) -> int:
    if word is None:
      return -1
    tried = spellings(word) if lowercase else (word,)
    return next((rows[x] for x in tried if x in rows), -1)

  return np.array([row(word) for word in words])


def _scale(task: Task, path: str) -> float:
  """Returns the factor by which a layer multiplies the rows of its table; 1 if none."""
  factors = []

  def read(module: Any) -> Array:
    for name in path.split('/')[:-1]:
      module = getattr(module, name, None)
    factors.append(getattr(module, 'scale', 1.0))
    return jnp.zeros(())

  if not hasattr(getattr(task, 'model', None), 'apply'):
    return 1.0
  variables = jax.eval_shape(lambda: task.init(jax.random.key(0)))
  jax.eval_shape(lambda x: task.model.apply(x, method=read), variables)
  return float(factors[0])


def _coverage(
  words: Sequence[str | None], covered: np.ndarray, counts: np.ndarray | None
) -> dict[str, Any]:
  """Returns how much of a vocabulary and of the training split has vectors."""
  whole = sum(word is not None for word in words)
  coverage = {
    'covered': int(covered.sum()),
    'types': len(words) - EOS - 1,
    'whole_words': whole,
  }
  if counts is not None:
    tokens = np.array(counts)
    tokens[[PAD, BOS, EOS]] = 0
    coverage['tokens'] = float(tokens[covered].sum() / max(tokens.sum(), 1))
  return coverage


def _described(coverage: Mapping[str, Any]) -> str:
  """Returns the coverage as a message."""
  covered, types = coverage['covered'], coverage['types']
  text = f'vectors for {covered:,} of {types:,} types ({covered / types:.1%})'
  if coverage['whole_words'] < types:
    text += f', of which {coverage["whole_words"]:,} are whole words'
  if 'tokens' in coverage:
    text += f', and for {coverage["tokens"]:.1%} of the tokens in train'
  return text


def _placed(fresh: Array, source: Taken) -> Array:
  """Returns a parameter with taken values, on the devices of the fresh one."""
  values = np.asarray(source.values, fresh.dtype)
  on_devices = _global(values, fresh.sharding)
  if source.rows is None:
    return on_devices
  others = [1 if i != source.axis else -1 for i in range(fresh.ndim)]
  rows = source.rows.reshape(others)
  mask = _global(np.broadcast_to(rows, fresh.shape), fresh.sharding)
  norm = _norm(values, source)

  def merge(values: Array, mask: Array, fresh: Array) -> Array:
    fresh_norm = jnp.sqrt(jnp.square(fresh).sum() / fresh.shape[source.axis])
    if source.scale == 'vectors':
      fresh = fresh * (norm / fresh_norm)
    if source.scale == 'fresh':
      values = values * (fresh_norm / norm)
    return jnp.where(mask, values, fresh)

  return jax.jit(merge, out_shardings=fresh.sharding)(on_devices, mask, fresh)


def _norm(values: np.ndarray, source: Taken) -> float:
  """Returns the root mean square of the norms of the rows that are taken."""
  if source.scale is None:
    return 1.0
  taken = np.compress(source.rows, values, source.axis)
  return float(np.sqrt(np.square(taken, dtype=np.float64).sum() / source.rows.sum()))


def _global(values: np.ndarray, sharding: jax.sharding.Sharding) -> Array:
  """Returns an array of the host, of which each process puts its own shards."""
  return jax.make_array_from_callback(values.shape, sharding, lambda i: values[i])

"""The interface of a task: batches, variables, a loss.

A task owns its run: training, evaluation and every other verb ask the task for all that
is specific to it, and none of them tests which task it has. An ability that only some
tasks have is a separate protocol (`Translates`, `HasVectors`, ...); `has` and `needs`
are the two ways to ask for one.

A task knows no devices, steps or checkpoints.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
import inspect
import math
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from seqlab.domains import Signature
from seqlab.text.vocabulary import Vocabulary, normal_form
from seqlab.types import UNK, Array, Batch, Hyper, PyTree, Sums, Variables

T = TypeVar('T')

# A Linen collection whose arrays have one entry per row of a batch, [B, ...], such as the
# states that the rows of a stream hand on to the next batch.
CARRY = 'carry'


class Loss(NamedTuple):
  """The loss of a batch, not yet divided by anything.

  Attributes:
    value: [] float32, summed over the batch.
    weight: [] what `value` and its gradient are divided by, once and globally, whatever
      the number of devices and micro-batches. Usually the number of target tokens.
    sums: further metrics to report: name -> (sum, weight).
    collections: Linen collections besides 'params' that changed; the others are kept.
  """

  value: Array
  weight: Array | float
  sums: Sums = {}  # noqa: RUF012  # never changed
  collections: Variables = {}  # noqa: RUF012  # never changed

  def totals(self) -> Sums:
    """Returns all sums, including 'loss' with `value` and `weight`, as float32."""
    sums = {'loss': (self.value, self.weight), **self.sums}
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), sums)


class Batches(Protocol):
  """The batches of one split, as pure functions of a seed and a number.

  Attributes:
    steps_per_epoch: number of batches in which every example occurs once.
    shapes: one empty batch of every shape, with all rows of all hosts.

  An object may also have
    rows: a function of k that returns the line number of every row of batch k, [B], and
      -1 where a row holds no line. Only for batches that are not shuffled.
    report: counts of the data, name -> number, for the log.
    tokens_per_step: mean number of tokens per batch, as `Task.tokens` counts them.
    shared_shapes: True if the shape of batch k does not depend on the seed, so that
      members of a population have batches of the same shape.
  """

  steps_per_epoch: int
  shapes: Sequence[Batch]

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch number k, counted from 0 over all epochs.

    Args:
      k: number of the batch.
      seed: integer seed of the order.
      rows: (i, n) asks for the i-th of n equal shares of the rows.
    """
    ...


@dataclasses.dataclass(frozen=True)
class EmptyBatches:
  """Batches of which only the shapes are known, to plan with.

  Attributes:
    shapes: one empty batch of every shape.
    steps_per_epoch: 1, since the size of the data is not known.
  """

  shapes: Sequence[Batch]
  steps_per_epoch: int = 1

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns a share of an empty batch of the first shape."""
    del k, seed
    i, n = rows
    return {
      name: x[len(x) * i // n : len(x) * (i + 1) // n]
      for name, x in self.shapes[0].items()
    }


class Task(Protocol):
  """Data, variables and a loss. A class that inherits from it has its defaults.

  Attributes:
    sections: sections of the experiment that the task reads besides those that every
      experiment may have.
    hyper: names of the traced hyperparameters that the task reads, besides the learning
      rate and the weight decay.

  A class may also have
    fingerprint: a digest of all data that its functions compute with besides their
      arguments and the experiment, such as the vocabulary. Its programs are then found
      in the cache without tracing them; see `seqlab.programs`. It is not inherited.
  """

  sections: tuple[str, ...] = ()
  hyper: tuple[str, ...] = ()

  @classmethod
  def from_config(cls, config: Mapping[str, Any], folder: Path) -> 'Task':
    """Makes the task of an experiment; by default without arguments.

    Args:
      config: a resolved experiment.
      folder: the folder `vocabulary` of the run. What is learnt from the data before
        training, such as a vocabulary, is loaded from there, or made and saved there.

    Raises:
      ValueError: an option does not fit, or the folder belongs to other options.
    """
    del config, folder
    return cls()

  @classmethod
  def from_shapes(cls, config: Mapping[str, Any]) -> 'Task | None':
    """Makes a task with shapes but without data, for `seqlab plan`.

    Returns:
      The task; None, as by default, where the shapes cannot be known without the data.
    """
    del config
    return None

  @classmethod
  def restore(cls, config: Mapping[str, Any], folder: Path) -> 'Task':
    """Makes the task of a run that exists already; by default as `from_config` does.

    It must not need the training data, which may not be on this machine.

    Args:
      config: the configuration of the run.
      folder: the folder `vocabulary` of the run.
    """
    return cls.from_config(config, folder)

  def batches(self, split: str, **options: Any) -> Batches:
    """Returns the batches of a split.

    Args:
      split: name of the split; training asks for 'train'.
      **options: evaluation passes shuffle=False and rows_multiple=, the number of
        devices that share a batch, and may pass tokens= and shapes=. Every example must
        then occur exactly once per epoch. A task may ignore those that mean nothing
        for it.

    Raises:
      ValueError: there is no such split.
    """
    ...

  def init(self, rng: Array) -> Variables:
    """Returns fresh variables. Parameters may be boxed with their logical axes."""
    ...

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> Loss:
    """Returns the loss of a batch.

    Args:
      variables: variables as `init` returns them, without boxes.
      batch: a batch of `batches`.
      rng: random key of dropout and similar operations. None means evaluation: nothing
        is dropped, running statistics are used, and no collection changes.
      hyper: name -> scalar, traced.
    """
    ...

  def tokens(self, batch: Batch) -> int:
    """Returns the number of tokens in a batch, for speeds; by default its rows."""
    return len(next(iter(batch.values())))

  def flops(self, batch: Batch) -> float:
    """Returns the floating-point operations of an update that the model needs.

    By default 6 per parameter and token: 2 forwards, 4 backwards.
    """
    return 6.0 * self._num_parameters * self.tokens(batch)

  @functools.cached_property
  def _num_parameters(self) -> int:
    params = jax.eval_shape(lambda: traced_init(self)(jax.random.key(0)))['params']
    return sum(math.prod(x.shape) for x in jax.tree.leaves(params))

  @property
  def report(self) -> dict[str, float]:
    """Counts of the data besides those of the batches, for the log; by default none."""
    return {}


def traced_init(task: Task) -> Callable[[Array], Variables]:
  """Returns the method `init` of a task as a function that is traced only once.

  Several objects of a run need the shapes or the axes of the variables, and tracing a
  model takes long. The equations are inlined, so that programs do not change.
  """
  return vars(task).setdefault('_traced_init', jax.jit(task.init, inline=True))


_VERBS: dict[type, str] = {}  # ability -> what a task without it cannot do


def times_applied(model: Any, path: Sequence[Any]) -> int:
  """Returns how often a parameter is applied to a token.

  Args:
    model: see `applications` in `models.interface.Seq2Seq`.
    path: path of the parameter, of `jax.tree_util.DictKey`.
  """
  applications = getattr(model, 'applications', {})
  return math.prod(applications.get(part.key, 1) for part in path)


def ability(verb: str) -> Callable[[type[T]], type[T]]:
  """Marks a protocol as an ability, with the verb that messages use."""

  def mark(protocol: type[T]) -> type[T]:
    _VERBS[protocol] = verb
    return protocol

  return mark


def default(method: Callable) -> Callable:
  """Marks a method of an ability that a task need not have; see `method_of`."""
  method.is_default = True
  return method


@ability('translate')
class Translates(Protocol):
  """A task that maps sentences to sentences: `translate`, `score`, `compare`, BLEU.

  Attributes:
    corpus: parallel text.
    vocabularies: vocabularies of both sides.
    model: a `models.interface.Seq2Seq`.
    reverse_source: whether sources are read from their end.
  """

  corpus: Any
  vocabularies: Any
  model: Any
  reverse_source: bool

  def stores(self, split: str) -> tuple:
    """Returns the token stores of the source and of the target side of a split."""
    ...


@ability('generate text')
class Generates(Protocol):
  """A task that continues text: `generate`, and `score` of single lines.

  Attributes:
    vocabularies: with the vocabulary of the side 'text'.
    model: a `models.interface.LanguageModel`.
    context: number of tokens that the model has learnt to read; None if it has a state,
      and reads any number.
    is_running: whether EOS is the line end of running text, which goes on after it. A
      text then begins as after a line end; otherwise it begins with BOS.
  """

  vocabularies: Any
  model: Any
  context: int | None
  is_running: bool


class Side(NamedTuple):
  """The tokens of one side of an example.

  Attributes:
    tokens: name of each token, as `Vocabulary.pieces` has it; EOS is one of them.
    words: number of the word of each token, from 0; -1 for a token of no word, such as
      EOS or a space.
  """

  tokens: list[str]
  words: list[int]


class AttentionMap(NamedTuple):
  """Attention weights of one kind.

  Attributes:
    weights: [layers, H, L, S] float32, each row of which sums to 1.
    rows: name of the side whose L tokens attend.
    columns: name of the side whose S tokens are attended to.
  """

  weights: np.ndarray
  rows: str
  columns: str


class Attended(NamedTuple):
  """Attention of a model that reads one example.

  Attributes:
    sides: name of a side -> its tokens. Besides the texts of the example there is the
      side 'read': the token that a decoder reads last when it predicts each token of
      the target, or of the text.
    maps: kind of attention -> weights: 'encoder', 'decoder' (to what was read), 'cross'.
  """

  sides: dict[str, Side]
  maps: dict[str, AttentionMap]


@ability('show attention')
class Attends(Protocol):
  """A task that shows where its model attends: `attend`, `translate --alignment`.

  Attributes:
    sides: names of the texts of an example: ('source', 'target') or ('text',).
  """

  sides: tuple[str, ...]

  def attend(
    self, variables: Variables, examples: Sequence[Mapping[str, str | Sequence[int]]]
  ) -> list[Attended]:
    """Returns the attention of the model while it reads the true tokens of examples.

    Args:
      variables: variables of the model.
      examples: name of each side -> its text, or its ids with EOS at the end. Without
        examples it is only checked that the model has attention.

    Raises:
      ValueError: the model has no attention, or an example is too long.
    """
    ...


class TextSize(NamedTuple):
  """The length of a text, each line with its end.

  Attributes:
    characters: number of Unicode characters.
    bytes: number of bytes in UTF-8.
    unknown: number of tokens that the vocabulary does not know, which stand for more
      than they predict.
  """

  characters: int
  bytes: int
  unknown: int

  @classmethod
  def of(cls, lines: Sequence[str], vocabulary: Vocabulary, ids: Any) -> 'TextSize':
    """Returns the length of lines as a vocabulary writes them.

    Spaces that a vocabulary loses are not predicted, so they do not count.

    Args:
      lines: the text.
      vocabulary: vocabulary of the text.
      ids: all tokens of the lines.
    """
    lines = [normal_form(vocabulary, line) for line in lines]
    return cls(
      characters=sum(map(len, lines)) + len(lines),
      bytes=sum(len(line.encode()) for line in lines) + len(lines),
      unknown=int((ids == UNK).sum()),
    )


@ability('count the characters of its text')
class CountsText(Protocol):
  """A task whose loss has one sum of all tokens of a text, for the evaluator `bits`."""

  def text_size(self, split: str) -> TextSize:
    """Returns the length of what is predicted in a split."""
    ...


@ability('give word vectors')
class HasVectors(Protocol):
  """A task that ends with a vector per word: `neighbours`, `analogy`, `vectors`.

  Attributes:
    words: the vocabulary, a `text.words.WordCounts`.
  """

  words: Any

  def vectors(self, variables: Variables) -> Any:
    """Returns `embeddings.vectors.Vectors`, or `SparseVectors`."""
    ...


@ability('hold out words')
class HoldsOut(Protocol):
  """A task on running text that holds out some of it, for the evaluator `heldout`."""

  def evaluation(self, max_words: int) -> Batch:
    """Returns up to `max_words` words that are held out, as one batch for `loss`."""
    ...


@ability('give singular values')
class HasSpectrum(Protocol):
  """A task that factorises a matrix, for the evaluator `spectrum`.

  Attributes:
    matrix: [V, V] sparse, what is factorised.
  """

  matrix: Any

  def parts(self, variables: Variables) -> tuple[Array, Array, Array]:
    """Returns left vectors [V, D], singular values [D] and right vectors [V, D]."""
    ...


@ability('compute rows of a batch independently')
class SplitsRows(Protocol):
  """A task whose loss of a batch is the sum of the losses of its rows.

  Every device may then compute the loss of its own rows by itself. Each sum of `Loss`
  must be one over rows, and random numbers must be those of `layers.dropout`, which
  depend on the number of a row in the batch. Other draws would be equal on all devices.

  A task may also have
    gathers_weights: True if its model gathers sharded weights layer by layer; see
      `models.interface.Seq2Seq`.
  """

  def splits_rows(self, hyper: Mapping[str, Any]) -> bool:
    """Returns whether this is so in training with these hyperparameters."""
    ...


@ability('update its parameters itself')
class CustomUpdate(Protocol):
  """A task whose update takes the place of gradient and optimiser.

  It is for a task where a gradient of all parameters would be a waste.
  """

  def update(
    self, params: PyTree, batch: Batch, rng: Array, rate: Array, constants: PyTree
  ) -> tuple[PyTree, Sums]:
    """Returns the parameters after an update, and sums as `Loss.totals` has them.

    Args:
      params: the parameters.
      batch: a batch of `batches`.
      rng: random key of the step.
      rate: [] the schedule's learning rate.
      constants: what `constants` returned.
    """
    ...

  @default
  def constants(self, mesh: Any) -> PyTree:
    """Returns arrays on the devices that every step reads; by default None."""
    del mesh
    return None


@ability('tell whether its text has changed')
class ChecksText(Protocol):
  """A task that holds a run to the text that it began with."""

  def check_text(self, splits: Sequence[str], folder: Path) -> None:
    """Compares the training split and others with the record in a run's folder.

    Args:
      splits: names of the splits on which the run is evaluated.
      folder: the folder of the run.

    Raises:
      ValueError: a split is not the one that the run began with.
    """
    ...


class Fitted(NamedTuple):
  """Progress of an estimator.

  Attributes:
    step: number of steps that are done and whose results are on the disk.
    metrics: what the last step measured: name -> number.
  """

  step: int
  metrics: Mapping[str, float] = {}  # never changed


@ability('be fitted without a gradient')
class Estimator(Protocol):
  """A task without a gradient: `train` calls `fit` in place of the training loop.

  Its experiment has no `steps`, `hyper` or `schedule`. It is evaluated once, at the
  end.
  """

  def fit(self, folder: Path, mesh: Any) -> Iterator[Fitted]:
    """Fits step by step, and keeps the result of each step in a folder.

    Nothing but the folder may carry state from one step to the next: the process may be
    stopped after any step, and `fit` is then called again with the same folder.

    Args:
      folder: a folder for this fit only, which exists.
      mesh: devices to compute on.

    Yields:
      First the step that it resumes from, 0 at a fresh start. Then one item per step.
    """
    ...

  def load(self, folder: Path) -> Variables:
    """Returns the variables that `fit` left in its folder.

    Raises:
      FileNotFoundError: it has not finished.
    """
    ...


@ability('say which options its sections have')
class ChecksOptions(Protocol):
  """A task whose options are all checked before anything starts."""

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions, classes or annotations that take its options."""
    ...


def has(task: Any, ability: type) -> bool:
  """Returns whether a task, or a class of tasks, has an ability."""
  return not _missing(task, ability)


def needs(task: T, ability: type) -> T:
  """Returns the task, or the class of tasks, if it has an ability.

  Raises:
    ValueError: it has not; names the method or attribute that it lacks.
  """
  if missing := _missing(task, ability):
    name = (task if isinstance(task, type) else type(task)).__name__
    verb = _VERBS.get(ability, f'be used as {ability.__name__}')
    raise ValueError(
      f'the task {name} cannot {verb}: it has no {_sort(ability, missing[0])} '
      f'`{missing[0]}` ({ability.__module__}:{ability.__name__})'
    )
  return task


def method_of(task: Any, ability: type, name: str) -> Callable:
  """Returns a method of a task, or the default that the ability has for it."""
  method = getattr(task, name, None)
  return functools.partial(getattr(ability, name), task) if method is None else method


def _sort(ability: type, name: str) -> str:
  return 'method' if callable(vars(ability).get(name)) else 'attribute'


def _missing(task: Any, ability: type) -> list[str]:
  """Returns methods, properties and attributes of an ability that a task lacks.

  Methods that have a default are not included. Attributes are included for a task and
  not for a class, since they may be set in `__init__`.
  """
  missing = [
    name
    for name, member in vars(ability).items()
    if not name.startswith('_') and not _provides(task, name, member)
  ]
  if not isinstance(task, type):
    missing += [x for x in inspect.get_annotations(ability) if not _has_static(task, x)]
  return missing


def _has_static(task: Any, name: str) -> bool:
  """Returns whether there is an attribute, without reading it.

  Reading an attribute of a task may count a text for minutes.
  """
  return inspect.getattr_static(task, name, None) is not None


def _provides(task: Any, name: str, member: Any) -> bool:
  if isinstance(member, property):
    return _has_static(task, name)
  if callable(member) and hasattr(member, 'is_default'):
    return True
  if callable(member) or isinstance(member, classmethod):
    return callable(getattr(task, name, None))
  return True


def tokens_per_step(task: Task, batches: Batches) -> float:
  """Returns the mean number of tokens per batch; if unknown, that of the first one."""
  known = getattr(batches, 'tokens_per_step', None)
  return float(task.tokens(batches.batch(0, seed=0)) if known is None else known)


def data_report(task: Task, batches: Batches) -> dict[str, float]:
  """Returns the counts of the data that a task and its batches report."""
  return {**getattr(task, 'report', {}), **getattr(batches, 'report', {})}

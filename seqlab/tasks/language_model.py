"""Language modelling: text of one side, a model of the next token, cross-entropy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import functools
import inspect
from pathlib import Path
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import call, check_sections
from seqlab.data.batching import BATCHINGS, CONTEXT
from seqlab.data.buckets import Buckets
from seqlab.data.store import Sides, encode_corpus
from seqlab.data.streams import STREAMS, SlidingWindows, carried_rows, is_running
from seqlab.domains import Rate, Signature, annotations_of
from seqlab.layers.cross_entropy import cross_entropy
from seqlab.models import MODELS
from seqlab.models.interface import TextPacking
from seqlab.pieces import check_base, find, make, options_of
from seqlab.tasks.attention import Example, attend_texts
from seqlab.tasks.interface import (
  CARRY,
  Attended,
  Batches,
  EmptyBatches,
  Loss,
  Task,
  TextSize,
  times_applied,
  traced_init,
)
from seqlab.tasks.vocabularies import load_vocabularies, make_vocabularies
from seqlab.text.corpora import Corpus, corpus_kind, open_corpus
from seqlab.text.download import cache_dir
from seqlab.text.inputs import Inputs
from seqlab.text.parts import Parts
from seqlab.text.vocabulary import (
  Vocabularies,
  described,
  planned_sizes,
  vocabulary_options,
)
from seqlab.types import PAD, Array, Batch, Hyper, PyTree, Variables

# Documents, of one line each, or running text.
TEXT_BATCHINGS = {**STREAMS, **BATCHINGS}
_DEFAULT_KIND = 'windows'
_TRAIN = 'train'  # name of the training split


class TextModel(Task):
  """A model of text of one side and its cross-entropy, without data.

  A state that rows of a stream hand on from one batch to the next is the collection
  `CARRY`, so that checkpoints have it: a run that resumes has the states that it had.

  Attributes:
    model: a `models.interface.LanguageModel` module.
    is_running: see `tasks.interface.Generates`.
  """

  def __init__(self, model: nn.Module, batching: Mapping[str, Any]):
    """Takes the model, and the section `batching`."""
    self.model = model
    self._kind, self._options = _kind_of(batching)
    self.is_running = is_running(self._kind)
    self._carried_rows = (
      carried_rows(self._kind, self._options) if _has_state(model) else 0
    )

  @property
  def hyper(self) -> tuple[str, ...]:
    """Names of the traced hyperparameters that the loss and the model read."""
    return ('label_smoothing', *getattr(self.model, 'hyper_names', ()))

  def splits_rows(self, hyper: Mapping[str, Any]) -> bool:
    """See `tasks.interface.SplitsRows`."""
    del hyper
    return getattr(self.model, 'splits_rows', False)

  @property
  def gathers_weights(self) -> bool:
    """See `tasks.interface.SplitsRows`."""
    return getattr(self.model, 'gathers_weights', False)

  @property
  def context(self) -> int | None:
    """Tokens that the model has learnt to read; see `tasks.interface.Generates`."""
    return None if _has_state(self.model) else _row_length(self._kind, self._options)

  def init(self, rng: Array) -> Variables:
    """Returns fresh variables of the model, boxed with their logical axes."""
    variables = self.model.init(rng, jnp.ones((1, 4), jnp.int32))
    if not self._carried_rows:
      return variables
    state = self._initial_state(variables, self._carried_rows)
    boxed = jax.tree.map(
      lambda x: nn.LogicallyPartitioned(x, ('batch', *(None,) * (x.ndim - 1))), state
    )
    return {**variables, CARRY: {'state': boxed}}

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> Loss:
    """Returns the summed label-smoothed cross-entropy, nats; see `tasks.interface`."""
    train = rng is not None
    of_model = {name: x for name, x in variables.items() if name != CARRY}
    # The model refuses names that it does not read, such as the learning rate.
    names = getattr(self.model, 'hyper_names', ())
    model_hyper = {name: hyper[name] for name in names if name in hyper}
    options = dict(
      train=train,
      hyper=model_hyper if train else None,
      rngs={'dropout': rng} if train else {},
      mutable=[name for name in of_model if name != 'params'] if train else [],
    )
    text, previous = batch['text'], batch.get('previous')
    if train and self._carried_rows:
      old = self._state_before(variables, batch)
      ((hidden, table), new), changed = self.model.apply(
        of_model, text, previous, old, method='advance', **options
      )
      state = _with_rows(variables[CARRY]['state'], batch['row'], new)
      changed = {**changed, CARRY: {'state': state}}
    else:
      packing = _packing_of(batch)
      (hidden, table), changed = self.model.apply(
        of_model, text, previous, packing=packing, method='features', **options
      )
    weights = (text != PAD).astype(jnp.float32)
    weights *= batch.get('scored', 1.0)
    smoothing = hyper.get('label_smoothing', 0.0)
    sums = cross_entropy(hidden, table, text, weights, smoothing)
    tokens, cells = weights.sum(), jnp.float32(text.size)
    report = {
      'nll': (sums.nll, tokens),
      'accuracy': (sums.correct, tokens),
      'padding_waste': (cells - tokens, cells),
    }
    return Loss(sums.loss, tokens, report, changed)

  def _initial_state(self, variables: Variables, rows: int) -> PyTree:
    return self.model.apply(nn.unbox(variables), rows, method='initial_state')

  def _state_before(self, variables: Variables, batch: Batch) -> PyTree:
    """Returns the state before each row: that of its stream, or a fresh one."""
    row, fresh = batch['row'], batch['fresh'].astype(bool)

    def choose(carried: Array, start: Array) -> Array:
      return jnp.where(fresh[:, None], start, carried[row])

    params = {'params': variables['params']}
    return jax.tree.map(
      choose, variables[CARRY]['state'], self._initial_state(params, len(row))
    )

  def tokens(self, batch: Batch) -> int:
    """Returns the number of tokens in a batch that are predicted."""
    return int(np.count_nonzero(batch['text'] * batch.get('scored', 1)))

  def flops(self, batch: Batch) -> float:
    """Returns 6 per weight and token; see `tasks.translation.SequenceToSequence`."""
    return 6.0 * self._num_weights * np.count_nonzero(batch['text'])

  @functools.cached_property
  def _num_weights(self) -> int:
    """Number of weights that a token is multiplied with, without tables of inputs.

    Weights that layers share are counted once for each layer.
    """
    abstract = nn.unbox(jax.eval_shape(lambda: traced_init(self)(jax.random.key(0))))
    flat = jax.tree_util.tree_flatten_with_path(abstract['params'])[0]
    weights = sum(
      x.size * times_applied(self.model, path)
      for path, x in flat
      if 'embedding' not in jax.tree_util.keystr(path)
    )
    size = getattr(self.model, 'size', 0) * getattr(self.model, 'width', 0)
    return weights + size


class _Outline(TextModel):
  """A language model of which only the shapes are known."""

  def __init__(
    self, model: nn.Module, batching: Mapping[str, Any], shapes: Sequence[Batch]
  ):
    """Takes empty batches as `shapes`."""
    super().__init__(model, batching)
    self._shapes = shapes

  def batches(self, split: str, **options: Any) -> EmptyBatches:
    """Returns the empty batches."""
    del split, options
    return EmptyBatches(self._shapes)


class LanguageModel(TextModel):
  """A task that generates; it has the ability `tasks.interface.Generates`.

  With `batching.kind` 'packed' or 'buckets' every line is a document of its own. With
  'windows' and 'streams' the lines are one running text.

  Attributes:
    sections: sections of the experiment that are read here.
    corpus: text of one side.
    vocabularies: the vocabulary of the side 'text'; saved in the run's folder.
    sides: see `tasks.interface.Attends`.
  """

  sections = ('corpus', 'vocabulary', 'batching', 'model')
  sides = ('text',)

  def __init__(
    self,
    corpus: Corpus,
    vocabularies: Vocabularies,
    model: nn.Module,
    batching: Mapping[str, Any],
    inputs: Inputs,
  ):
    """Reads nothing yet; the corpus is encoded when batches are asked for.

    Args:
      corpus: text of one side.
      vocabularies: the vocabulary of the side 'text'.
      model: a `models.interface.LanguageModel` module.
      batching: a piece of `TEXT_BATCHINGS`.
      inputs: the run's record of the text that it began with.
    """
    super().__init__(model, batching)
    self.corpus, self.vocabularies, self._inputs = corpus, vocabularies, inputs
    # In this object: a cache of the class would keep the stores and their open files
    # after the run, trial after trial of a sweep.
    self._encoded = functools.lru_cache(self._encode)

  @property
  def fingerprint(self) -> str:
    """Digest of the vocabulary; see `tasks.interface.Task`."""
    return self.vocabularies.text.fingerprint

  @classmethod
  def from_config(cls, config: Mapping[str, Any], folder: Path) -> 'LanguageModel':
    """Opens the corpus; makes the vocabulary in `folder`, or loads it.

    Raises:
      ValueError: a section is missing, or an option does not fit; or the
        vocabulary is not the one that the run was trained with.
    """
    check_sections(config, cls.sections)
    if (folder / 'vocabularies.json').exists():
      return cls.restore(config, folder)
    corpus = _open_corpus(config)
    vocabularies = make_vocabularies(config, corpus, folder, _check_undivided)
    return cls._assemble(config, corpus, vocabularies, Inputs(folder.parent))

  @classmethod
  def restore(cls, config: Mapping[str, Any], folder: Path) -> 'LanguageModel':
    """Loads the vocabulary of a run. Its corpus is opened, but not read.

    Raises:
      FileNotFoundError: the folder holds no vocabulary.
      ValueError: it is not the one that the run was trained with.
    """
    check_sections(config, cls.sections)
    corpus = _open_corpus(config)
    vocabularies, inputs = load_vocabularies(config, corpus, folder)
    return cls._assemble(config, corpus, vocabularies, inputs)

  @classmethod
  def _assemble(
    cls,
    config: Mapping[str, Any],
    corpus: Corpus,
    vocabularies: Vocabularies,
    inputs: Inputs,
  ) -> 'LanguageModel':
    model = _make_model(config, vocabularies.text.size)
    return cls(corpus, vocabularies, model, config['batching'], inputs)

  @classmethod
  def from_shapes(cls, config: Mapping[str, Any]) -> TextModel | None:
    """Makes the task as far as shapes go, without the corpus.

    Returns:
      None where the shapes depend on the corpus: those of 'buckets', and vocabularies
      whose size is not that which is asked for.
    """
    vocabulary, batching = config.get('vocabulary', {}), config.get('batching', {})
    if 'corpus' in config:
      vocabulary = described(vocabulary, _open_corpus(config))
    sizes = planned_sizes(vocabulary, ('text',))
    kind, options = _kind_of(batching)
    planned = getattr(kind, 'planned_shapes', None)
    if not sizes or not planned:
      return None
    shapes = call(planned, options, 'batching', sides=('text',))
    if shapes is None:
      return None
    return _Outline(_make_model(config, sizes[0]), batching, shapes)

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> signatures that take its options; see `train.checks`."""
    model = _model_class(config)
    batching = options_of(_kind_of(config['batching'])[0], hidden=CONTEXT)
    hyper = getattr(model, 'hyper_names', ())
    return {
      'corpus': ({'kind': str}, corpus_kind(config['corpus'])),
      'vocabulary': vocabulary_options(config['vocabulary']),
      'batching': ({'kind': str}, batching),
      'model': ({'kind': str}, options_of(model, ('size',))),
      'hyper': ({'label_smoothing': Rate | None}, annotations_of(hyper)),
    }

  def check_text(self, splits: Iterable[str] = (), folder: Path | None = None) -> None:
    """Compares the text with the record in the run's folder; called before training.

    See `tasks.translation.Translation.check_text`.
    """
    inputs = Inputs(folder) if folder else self._inputs
    inputs.check(self.corpus, [_TRAIN, *splits], self.vocabularies)

  def batches(
    self,
    split: str,
    *,
    shuffle: bool = True,
    tokens: int = 8192,
    shapes: int = 2,
    rows_multiple: int = 1,
    context: int | None = None,
    stride: int | None = None,
  ) -> Batches:
    """Returns the batches of a split; see `tasks.interface.Task`.

    Args:
      split: 'train' for training, with the options of the section `batching`.
      shuffle: False for evaluation, in which every token is predicted once.
      tokens: evaluation only: positions per batch, at most; more where one row per
        device is longer.
      shapes: evaluation of documents only: number of batch shapes.
      rows_multiple: evaluation only: number of rows that every batch is a multiple of.
      context: evaluation of running text only: tokens per window, by default as many as
        in training; see `data.streams.SlidingWindows`.
      stride: evaluation of running text only: tokens that are predicted per window, by
        default `context`: windows do not overlap.

    Raises:
      ValueError: shuffled batches are asked of another split than 'train', or an option
        is not for this kind of text.
    """
    if shuffle and split != _TRAIN:
      raise ValueError(f'training batches are made of {_TRAIN!r}, not of {split!r}')
    if shuffle:
      return self._training_batches
    if not self.is_running:
      if context or stride:
        raise ValueError(
          'context and stride are for running text: leave them out, since every '
          'document is read from its beginning'
        )
      return _evaluation_of_documents(
        self._encoded(split), tokens, shapes, rows_multiple
      )
    context = context or _row_length(self._kind, self._options)
    return SlidingWindows(
      self._encoded(split),
      context=context,
      stride=stride or context,
      tokens=tokens,
      rows_multiple=rows_multiple,
    )

  @functools.cached_property
  def _training_batches(self) -> Batches:
    self.check_text()
    sides = self._encoded(_TRAIN)
    return call(self._kind, self._options, 'batching', sides=sides)

  def attend(self, variables: Variables, examples: Sequence[Example]) -> list[Attended]:
    """Returns the attention of each text; see `tasks.interface.Attends`."""
    return attend_texts(self, variables, examples)

  def text_size(self, split: str) -> TextSize:
    """Returns the length of a split; see `tasks.interface.CountsText`."""
    (lines,) = self.corpus.read(split)
    ids = self._encoded(split)['text'].ids
    return TextSize.of(lines, self.vocabularies.text, ids)

  def _encode(self, split: str) -> Sides:
    return encode_corpus(self.corpus, split, self.vocabularies, cache=cache_dir()).sides


def _kind_of(batching: Any) -> tuple[Callable, dict[str, Any]]:
  """Returns the class behind a section `batching`, and its options."""
  if not isinstance(batching, Mapping):
    raise ValueError(f'batching is {batching!r}; it must be a section, as in dict(...)')
  return find({'kind': _DEFAULT_KIND, **batching}, TEXT_BATCHINGS, 'batching')


def _row_length(kind: Callable, options: Mapping[str, Any]) -> int | None:
  """Returns the number of positions of a row; None where it is that of a document."""
  parameters = inspect.signature(kind).parameters
  name = 'length' if is_running(kind) else 'max_length'
  return options.get(name, getattr(parameters.get(name), 'default', None))


def _has_state(model: Any) -> bool:
  """Returns whether a model hands a state on; see `models.interface.LanguageModel`."""
  return hasattr(model, 'initial_state')


def _with_rows(carried: PyTree, row: Array, new: PyTree) -> PyTree:
  """Returns the states of all rows, with those of a batch in place of the old ones."""
  return jax.tree.map(lambda old, x: old.at[row].set(x), carried, new)


def _packing_of(batch: Mapping[str, Array]) -> TextPacking | None:
  """Returns the segments and positions of a packed batch, else None."""
  if 'text_segment' not in batch:
    return None
  return TextPacking(batch['text_segment'], batch['text_position'])


def _evaluation_of_documents(
  sides: Sides, tokens: int, shapes: int, rows_multiple: int
) -> Buckets:
  longest = int(sides['text'].lengths.max())
  return Buckets(
    sides,
    tokens=max(tokens, longest * rows_multiple),
    shapes=shapes,
    max_length=longest,
    rows_multiple=rows_multiple,
    shuffle=False,
  )


def _open_corpus(config: Mapping[str, Any]) -> Corpus:
  corpus = call(open_corpus, config['corpus'], 'corpus')
  if [*corpus.sides] != ['text']:
    raise ValueError(
      f'a language model reads text of one side, and corpus {corpus.name} has '
      f'{" and ".join(corpus.sides)}: set corpus.text to a language in their place'
    )
  return corpus


def _check_undivided(vocabularies: Vocabularies) -> None:
  if isinstance(vocabularies.text, Parts):
    raise ValueError(
      'the text has several parts, which only a source may have: name one column in '
      "corpus.columns.text, and another kind than 'parts' in vocabulary"
    )


def _model_class(config: Mapping[str, Any]) -> type[nn.Module]:
  """Returns the class of the model, of which it checks that it reads one side."""
  model, _ = find(config['model'], MODELS, 'model')
  check_base(model, nn.Module, 'model')
  if missing := [x for x in ('features', 'start', 'step') if not hasattr(model, x)]:
    raise ValueError(
      f'model: {model.__name__} has no method `{missing[0]}` '
      '(seqlab.models.interface:LanguageModel)'
    )
  if hasattr(model, 'encode'):
    raise ValueError(
      f'model: {model.__name__} has an encoder, and a language model has no source: set '
      "model.kind to 'decoder', 'recurrent_lm' or a path to a model of text of one side"
    )
  return model


def _make_model(config: Mapping[str, Any], size: int) -> nn.Module:
  _model_class(config)
  return make(config['model'], MODELS, 'model', size=size)

"""Translation: a parallel corpus, a sequence-to-sequence model, cross-entropy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from pathlib import Path
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import call, check_sections
from seqlab.data.batching import BATCHINGS, CONTEXT, SentenceBatches, make_batches
from seqlab.data.buckets import Buckets
from seqlab.data.store import EncodedCorpus, TokenStore, encode_corpus
from seqlab.domains import Count, Probability, Rate, Signature, annotations_of
from seqlab.layers.cross_entropy import cross_entropy, mixture_cross_entropy
from seqlab.models import MODELS
from seqlab.models.interface import Packing
from seqlab.pieces import check_base, find, make, options_of
from seqlab.tasks.attention import Example, attend_pairs
from seqlab.tasks.interface import (
  Attended,
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
from seqlab.types import EOS, PAD, Array, Batch, Hyper, Variables

_TRAIN = 'train'  # name of the training split
# Hyperparameters of the loss: `end_weight` is the weight of the EOS of a target, 1 by
# default; with 0 a model does not learn where to end.
_HYPER = {'label_smoothing': Rate | None, 'end_weight': Probability | None}


@dataclasses.dataclass(frozen=True)
class _Reading:
  """Options of the section `batching` that say how sentences are read.

  Attributes:
    sampling: strength of drawing segmentations at random; 0 takes the best ones.
    segmentations: number of segmentations that epochs take turns with.
    reverse_source: whether sources are read from their end (Sutskever et al. 2014,
      https://arxiv.org/abs/1409.3215).
  """

  sampling: Probability = 0.0
  segmentations: Count = 8
  reverse_source: bool = False

  @property
  def reverse(self) -> tuple[str, ...]:
    """Names of the sides that are read from their end."""
    return ('source',) if self.reverse_source else ()


def _reading_of(batching: Mapping[str, Any]) -> tuple[_Reading, dict[str, Any]]:
  """Returns how sentences are read, and the options of the kind of batching."""
  options = dict(batching)
  names = [field.name for field in dataclasses.fields(_Reading)]
  given = {name: options.pop(name) for name in names if name in options}
  return call(_Reading, given, 'batching'), options


def _batching_kind(batching: Any) -> Callable:
  if not isinstance(batching, Mapping):
    raise ValueError(f'batching is {batching!r}; it must be a section, as in dict(...)')
  return find({'kind': 'buckets', **batching}, BATCHINGS, 'batching')[0]


class SequenceToSequence(Task):
  """A sequence-to-sequence model and its cross-entropy, without data.

  Attributes:
    model: a `Seq2Seq` module.
  """

  def __init__(self, model: nn.Module, target_size: int):
    """Takes the number of ids in the target vocabulary, `target_size`."""
    self.model, self._target_size = model, target_size

  @property
  def hyper(self) -> tuple[str, ...]:
    """Names of the traced hyperparameters that the loss and the model read."""
    return (*_HYPER, *getattr(self.model, 'hyper_names', ()))

  def splits_rows(self, hyper: Mapping[str, Any]) -> bool:
    """See `tasks.interface.SplitsRows`."""
    del hyper
    return getattr(self.model, 'splits_rows', False)

  @property
  def gathers_weights(self) -> bool:
    """See `tasks.interface.SplitsRows`."""
    return getattr(self.model, 'gathers_weights', False)

  def init(self, rng: Array) -> Variables:
    """Returns fresh variables of the model, boxed with their logical axes."""
    ids = jnp.ones((1, 4), jnp.int32)
    return self.model.init(rng, ids, ids)

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> Loss:
    """Returns the summed label-smoothed cross-entropy, nats; see `tasks.interface`."""
    train = rng is not None
    others = [name for name in variables if name != 'params']
    # The model refuses names that it does not read, such as the learning rate.
    names = getattr(self.model, 'hyper_names', ())
    model_hyper = (
      {name: hyper[name] for name in names if name in hyper} if train else None
    )
    is_mixture = getattr(self.model, 'is_mixture', False)
    predicted, changed = self.model.apply(
      variables,
      batch['source'],
      batch['target'],
      train=train,
      hyper=model_hyper,
      packing=packing_of(batch),
      method='__call__' if is_mixture else 'features',
      rngs={'dropout': rng} if train else {},
      mutable=others if train else [],
    )
    target = batch['target']
    weights = (target != PAD).astype(jnp.float32)
    if (end := hyper.get('end_weight')) is not None:
      weights = jnp.where(target == EOS, end, weights)
    labels = (target, weights, hyper.get('label_smoothing', 0.0))
    if is_mixture:
      sums = mixture_cross_entropy(predicted, *labels)
    else:
      sums = cross_entropy(*predicted, *labels)
    words = weights.sum()
    cells = jnp.float32(batch['source'].size + target.size)
    padding = cells - words - (batch['source'] != PAD).sum()
    report = {
      'nll': (sums.nll, words),
      'accuracy': (sums.correct, words),
      'padding_waste': (padding, cells),
    }
    return Loss(sums.loss, words, report, changed)

  def tokens(self, batch: Batch) -> int:
    """Returns the number of target tokens in a batch."""
    return int(np.count_nonzero(batch['target']))

  @functools.cached_property
  def _sizes(self) -> tuple[float, float, float]:
    """Weights used per source word, per target word, and per hidden position."""
    abstract = jax.eval_shape(lambda: traced_init(self)(jax.random.key(0)))
    flat = jax.tree_util.tree_flatten_with_path(nn.unbox(abstract['params']))[0]
    sizes = {'encoder': 0, 'decoder': 0}
    for path, leaf in flat:
      side = 'encoder' if 'encoder' in jax.tree_util.keystr(path) else 'decoder'
      if 'embedding' not in jax.tree_util.keystr(path):
        sizes[side] += leaf.size * times_applied(self.model, path)
    output = self._target_size * getattr(self.model, 'width', 0)
    return sizes['encoder'], sizes['decoder'], output

  def flops(self, batch: Batch) -> float:
    """Returns 6 per weight and token: 2 forwards, 4 backwards.

    Chowdhery et al., "PaLM", 2022, appendix B, https://arxiv.org/abs/2204.02311.
    Attention's products with the sequence itself are left out: at these lengths
    they are a few percent. Padding is not counted.
    """
    encoder, decoder, output = self._sizes
    source = np.count_nonzero(batch['source'])
    target = np.count_nonzero(batch['target'])
    return 6.0 * (source * encoder + target * (decoder + output))


class _Outline(SequenceToSequence):
  """A translation of which only the shapes are known."""

  def __init__(self, model: nn.Module, target_size: int, shapes: Sequence[Batch]):
    """Takes empty batches as `shapes`."""
    super().__init__(model, target_size)
    self._shapes = shapes

  def batches(self, split: str, **options: Any) -> EmptyBatches:
    """Returns the empty batches."""
    del split, options
    return EmptyBatches(self._shapes)


class Translation(SequenceToSequence):
  """A task that translates; it has the ability `tasks.interface.Translates`.

  Attributes:
    sections: sections of the experiment that are read here.
    corpus: parallel text.
    vocabularies: vocabularies of both languages; saved in the run's folder.
    model: a `Seq2Seq` module.
    reverse_source: whether sources are read from their end.
    sides: see `tasks.interface.Attends`.
  """

  sections = ('corpus', 'vocabulary', 'batching', 'model')
  sides = ('source', 'target')

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
      corpus: parallel text.
      vocabularies: vocabularies of both languages.
      model: a `Seq2Seq` module.
      batching: a piece of `data.batching.BATCHINGS` for training, and `_Reading`.
      inputs: the run's record of the text that it began with.
    """
    super().__init__(model, vocabularies.target.size)
    self.corpus, self.vocabularies = corpus, vocabularies
    self._inputs = inputs
    self._reading, self._batching = _reading_of(batching)
    self.reverse_source = self._reading.reverse_source

  @property
  def fingerprint(self) -> str:
    """Digests of both vocabularies; see `tasks.interface.Task`."""
    sides = self.vocabularies.source, self.vocabularies.target
    return ' '.join(side.fingerprint for side in sides)

  @classmethod
  def from_config(cls, config: Mapping[str, Any], folder: Path) -> 'Translation':
    """Opens the corpus; makes the vocabularies in `folder`, or loads them.

    Raises:
      ValueError: a section is missing, or an option does not fit; or the
        vocabulary is not the one that the run was trained with.
    """
    check_sections(config, cls.sections)
    if (folder / 'vocabularies.json').exists():
      return cls.restore(config, folder)
    corpus = _open_corpus(config)
    vocabularies = make_vocabularies(config, corpus, folder, _check_target)
    return cls._assemble(config, corpus, vocabularies, Inputs(folder.parent))

  @classmethod
  def restore(cls, config: Mapping[str, Any], folder: Path) -> 'Translation':
    """Loads the vocabularies of a run. Its corpus is opened, but not read.

    Raises:
      FileNotFoundError: the folder holds no vocabularies.
      ValueError: they are not those that the run was trained with.
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
  ) -> 'Translation':
    source, target = vocabularies.source, vocabularies.target
    unordered = getattr(source, 'unordered', 0)
    model = _make_model(config, source.size, target.size, unordered)
    if getattr(model, 'copy_source', False) and not vocabularies.shared:
      raise ValueError(
        'model.copy_source=True copies ids of the source, and the sides have vocabularies '
        'of their own: set vocabulary.shared=True, with one kind for both sides'
      )
    return cls(corpus, vocabularies, model, config['batching'], inputs)

  @classmethod
  def from_shapes(cls, config: Mapping[str, Any]) -> SequenceToSequence | None:
    """Makes the task as far as shapes go, without the corpus.

    Returns:
      None where the shapes depend on the corpus: only packed batches have theirs from
      the experiment alone, and only subword vocabularies are surely as large as asked.
    """
    vocabulary, batching = config.get('vocabulary', {}), config.get('batching', {})
    if 'corpus' in config:
      vocabulary = described(vocabulary, _open_corpus(config))
    sizes = planned_sizes(vocabulary)
    planned = getattr(_batching_kind(batching), 'planned_shapes', None)
    if not sizes or not planned:
      return None
    _, options = _reading_of(batching)
    options.pop('kind', None)
    shapes = call(planned, options, 'batching', sides=('source', 'target'))
    if shapes is None:
      return None
    return _Outline(_make_model(config, *sizes), sizes[1], shapes)

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> signatures that take its options; see `train.checks`."""
    model, _ = find(config['model'], MODELS, 'model')
    check_base(model, nn.Module, 'model')
    if not hasattr(model, 'encode'):
      raise ValueError(
        f'model: {model.__name__} reads text of one side: set model.kind to '
        "'transformer', 'recurrent' or a path to a model with an encoder, or task to "
        "'language_model'"
      )
    hyper = getattr(model, 'hyper_names', ())
    batching = options_of(_batching_kind(config['batching']), hidden=CONTEXT)
    return {
      'corpus': ({'kind': str}, corpus_kind(config['corpus'])),
      'vocabulary': vocabulary_options(config['vocabulary']),
      'batching': ({'kind': str}, _Reading, batching),
      'model': ({'kind': str}, options_of(model, _MODEL_CONTEXT)),
      'hyper': (_HYPER, annotations_of(hyper)),
    }

  def check_text(self, splits: Iterable[str] = (), folder: Path | None = None) -> None:
    """Compares the text with the record in the run's folder; called before training.

    Splits that the record lacks, as that of an older run may, are added to it.

    Args:
      splits: names of the splits on which the run is evaluated while it trains; the
        training split is always among those that are compared.
      folder: the run's folder; by default the one that holds the vocabulary. Members
        of a population share a task, and have different folders.

    Raises:
      ValueError: a split is not the one that the run began with.
    """
    inputs = Inputs(folder) if folder else self._inputs
    inputs.check(self.corpus, [_TRAIN, *splits], self.vocabularies)

  def batches(
    self,
    split: str,
    *,
    shuffle: bool = True,
    tokens: int = 4096,
    shapes: int = 2,
    rows_multiple: int = 1,
  ) -> SentenceBatches:
    """Returns the batches of a split; see `tasks.interface.Task`.

    Args:
      split: 'train' for training, with the options of the section `batching`.
      shuffle: False for evaluation: every pair once, whatever its length.
      tokens: evaluation only: source or target positions per batch, at most; more
        where one pair per device is longer.
      shapes: evaluation only: number of batch shapes.
      rows_multiple: evaluation only: number of rows that every batch is a multiple of.

    Raises:
      ValueError: shuffled batches are asked of another split than 'train'.
    """
    if not shuffle:
      return self._evaluation_batches(split, tokens, shapes, rows_multiple)
    if split != _TRAIN:
      raise ValueError(f'training batches are made of {_TRAIN!r}, not of {split!r}')
    return self._training_batches

  @functools.cached_property
  def _training_batches(self) -> SentenceBatches:
    reading = self._reading
    self.check_text()
    encoded = self._encoded(_TRAIN)
    sampled = [
      self._encoded(_TRAIN, reading.sampling, seed).sides
      for seed in range(reading.segmentations if reading.sampling else 0)
    ]
    context = dict(reverse=reading.reverse, sampled=sampled)
    if hasattr(self.corpus, 'repeats'):
      context['repeats'] = self.corpus.repeats(_TRAIN)
    batches = make_batches(self._batching, encoded.sides, **context)
    if encoded.skipped:
      batches.report['skipped'] = encoded.skipped
    return batches

  def _evaluation_batches(
    self, split: str, tokens: int, shapes: int, rows_multiple: int
  ) -> SentenceBatches:
    sides = self._encoded(split).sides
    longest = max(int(store.lengths.max()) for store in sides.values())
    return Buckets(
      sides,
      tokens=max(tokens, longest * rows_multiple),
      shapes=shapes,
      max_length=longest,
      rows_multiple=rows_multiple,
      shuffle=False,
      reverse=self._reading.reverse,
    )

  def stores(self, split: str) -> tuple[TokenStore, ...]:
    """Returns the token stores of the source and of the target side of a split."""
    return tuple(self._encoded(split).sides.values())

  def attend(self, variables: Variables, examples: Sequence[Example]) -> list[Attended]:
    """Returns the attention of each pair; see `tasks.interface.Attends`."""
    return attend_pairs(self, variables, examples)

  def text_size(self, split: str) -> TextSize:
    """Returns the length of the targets of a split; see `tasks.interface.CountsText`."""
    lines, ids = self.corpus.read(split)[-1], self.stores(split)[-1].ids
    return TextSize.of(lines, self.vocabularies.target, ids)

  @functools.cached_property
  def _encoded(self) -> Callable[..., EncodedCorpus]:
    # In this object: a cache of the class would keep the stores and their open files
    # after the run, trial after trial of a sweep.
    return functools.lru_cache(self._encode)

  def _encode(self, split: str, sampling: float = 0.0, seed: int = 0) -> EncodedCorpus:
    return encode_corpus(
      self.corpus,
      split,
      self.vocabularies,
      cache=cache_dir(),
      sampling=sampling,
      seed=seed,
    )


def _open_corpus(config: Mapping[str, Any]) -> Corpus:
  return call(open_corpus, config['corpus'], 'corpus')


def _check_target(vocabularies: Vocabularies) -> None:
  if isinstance(vocabularies.target, Parts):
    raise ValueError(
      'the target side has several parts, which only a source may have: name one column '
      "in corpus.columns.target, and another kind than 'parts' in vocabulary"
    )


# What a task tells a model, and an experiment cannot set.
_MODEL_CONTEXT = ('source_size', 'target_size', 'unordered')


def _make_model(
  config: Mapping[str, Any], source_size: int, target_size: int, unordered: int = 0
) -> nn.Module:
  """Makes the model.

  Args:
    config: the experiment.
    source_size: number of ids in the source vocabulary.
    target_size: number of ids in the target vocabulary.
    unordered: number of source ids, the last ones, that are features without an order.
  """
  context = dict(
    zip(_MODEL_CONTEXT, (source_size, target_size, unordered), strict=True)
  )
  model = make(config['model'], MODELS, 'model', **context)
  if unordered and not hasattr(model, 'unordered'):
    raise ValueError(
      f'model {type(model).__name__} reads all parts of a source in their order: set '
      'ordered=True where the corpus or the vocabulary has it, or use '
      "model.kind='transformer'"
    )
  return model


def packing_of(batch: Mapping[str, Array]) -> Packing | None:
  """Returns the segments and positions of a packed batch, else None."""
  if 'source_segment' not in batch:
    return None
  return Packing(
    source_segment=batch['source_segment'],
    source_position=batch['source_position'],
    target_segment=batch['target_segment'],
    target_position=batch['target_position'],
  )

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

from seqlab.config import call, resolve
from seqlab.data.pairs import PairBatches, packed_shape
from seqlab.data.store import encode_corpus
from seqlab.domains import Count, Probability, Rate, Signature, annotations_of
from seqlab.layers.cross_entropy import cross_entropy
from seqlab.models.interface import Packing
from seqlab.tasks.interface import EmptyBatches, Loss, Task
from seqlab.text.agreement import Agreement
from seqlab.text.corpora import Corpus, Text, open_corpus
from seqlab.text.download import cache_dir
from seqlab.text.inputs import Inputs
from seqlab.text.vocabulary import (
  Vocabularies,
  build_vocabularies,
  train_vocabulary,
)
from seqlab.types import PAD, Array, Batch, Hyper, Variables

_TRAIN = 'train'  # name of the training split


@dataclasses.dataclass(frozen=True)
class _Sampling:
  """Options of the section `batching` that say how sentences are segmented.

  Attributes:
    sampling: strength of drawing segmentations at random; 0 takes the best ones.
    segmentations: number of segmentations that epochs take turns with.
  """

  sampling: Probability = 0.0
  segmentations: Count = 8


class SequenceToSequence(Task):
  """A sequence-to-sequence model and its cross-entropy, without data.

  Attributes:
    model: a `Seq2Seq` module.
  """

  def __init__(self, model: nn.Module, target_size: int):
    """`target_size` is the number of ids in the target vocabulary."""
    self.model, self._target_size = model, target_size

  @property
  def hyper(self) -> tuple[str, ...]:
    """Names of the traced hyperparameters that the loss and the model read."""
    return ('label_smoothing', *getattr(self.model, 'hyper_names', ()))

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
    (hidden, table), changed = self.model.apply(
      variables,
      batch['source'],
      batch['target'],
      train=train,
      hyper=hyper,
      packing=packing_of(batch),
      method='features',
      rngs={'dropout': rng} if train else {},
      mutable=others if train else [],
    )
    target = batch['target']
    weights = (target != PAD).astype(jnp.float32)
    sums = cross_entropy(
      hidden, table, target, weights, hyper.get('label_smoothing', 0.0)
    )
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
    abstract = jax.eval_shape(lambda: self.init(jax.random.key(0)))
    flat = jax.tree_util.tree_flatten_with_path(nn.unbox(abstract['params']))[0]
    sizes = {'encoder': 0, 'decoder': 0}
    for path, leaf in flat:
      side = 'encoder' if 'encoder' in jax.tree_util.keystr(path) else 'decoder'
      if 'embedding' not in jax.tree_util.keystr(path):
        sizes[side] += leaf.size
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

  def __init__(self, model: nn.Module, target_size: int, shape: tuple[int, int, int]):
    """`shape` is the (B, S, T) of packed batches."""
    super().__init__(model, target_size)
    self._shape = shape

  def batches(self, split: str, **options: Any) -> EmptyBatches:
    """Returns empty batches of the one shape."""
    del split, options
    return EmptyBatches((empty_batch(*self._shape, packed=True),))


class Translation(SequenceToSequence):
  """The task of an experiment that translates.

  Attributes:
    sections: sections of the experiment that are read here.
    corpus: parallel text.
    vocabularies: of both languages; saved in the run's folder.
    model: a `Seq2Seq` module.
    reverse_source: whether sources are read from their end.
  """

  sections = ('corpus', 'vocabulary', 'batching', 'model_name', 'model')

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
      vocabularies: of both languages.
      model: a `Seq2Seq` module.
      batching: options of `PairBatches` for training, and of `_Sampling`.
      inputs: the run's record of the text that it began with.
    """
    super().__init__(model, vocabularies.target.size)
    self.corpus, self.vocabularies = corpus, vocabularies
    self._batching, self._inputs = dict(batching), inputs
    self.reverse_source = self._batching.get('reverse_source', False)

  @classmethod
  def from_config(cls, config: Mapping[str, Any], folder: Path) -> 'Translation':
    """Opens the corpus; makes the vocabularies in `folder`, or loads them.

    Raises:
      ValueError: a section is missing, or what is in it does not fit; or the
        vocabulary is not the one that the run was trained with.
    """
    check_sections(config, cls.sections)
    if (folder / 'vocabularies.json').exists():
      return cls.restore(config, folder)
    corpus, options = _open_corpus(config), dict(config['vocabulary'])
    vocabularies = call(build_vocabularies, options, 'vocabulary', corpus=corpus)
    vocabularies.save(folder, options)
    return cls._assemble(config, corpus, vocabularies, Inputs(folder.parent))

  @classmethod
  def restore(cls, config: Mapping[str, Any], folder: Path) -> 'Translation':
    """Loads the vocabularies of a run. Its corpus is opened, but not read.

    Raises:
      FileNotFoundError: the folder holds no vocabularies.
      ValueError: they are not those that the run was trained with.
    """
    check_sections(config, cls.sections)
    corpus, inputs = _open_corpus(config), Inputs(folder.parent)
    vocabularies = Vocabularies.load(folder, dict(config['vocabulary']))
    inputs.check_vocabularies(vocabularies)
    return cls._assemble(config, corpus, vocabularies, inputs)

  @classmethod
  def _assemble(
    cls,
    config: Mapping[str, Any],
    corpus: Corpus,
    vocabularies: Vocabularies,
    inputs: Inputs,
  ) -> 'Translation':
    model = _make_model(config, vocabularies.source.size, vocabularies.target.size)
    return cls(corpus, vocabularies, model, config['batching'], inputs)

  @classmethod
  def from_shapes(cls, config: Mapping[str, Any]) -> SequenceToSequence | None:
    """Makes the task as far as shapes go, without the corpus.

    Returns:
      None where the shapes depend on the corpus: only packed batches have theirs from
      the experiment alone, and only subword vocabularies are surely as large as asked.
    """
    vocabulary, batching = config.get('vocabulary', {}), config.get('batching', {})
    size = vocabulary.get('size')
    subwords = vocabulary.get('kind', 'bpe') != 'word' and size
    packed = batching.get('kind') == 'packed' and batching.get('max_length')
    if not subwords or not packed:
      return None
    source_size, target_size = (size, size) if isinstance(size, int) else size
    model = _make_model(config, source_size, target_size)
    return _Outline(model, target_size, packed_shape(**batching))

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> what its options are for; see `train.checks`."""
    corpus, model = config['corpus'], resolve(config['model_name'], 'model_name')
    grammar = isinstance(corpus, Mapping) and corpus.get('name') == 'agreement'
    hyper = getattr(model, 'hyper_names', ())
    return {
      'corpus': ({'files': Mapping}, open_corpus, Agreement if grammar else Text),
      'vocabulary': (build_vocabularies, train_vocabulary),
      'batching': (_Sampling, PairBatches),
      'model': (model,),
      'hyper': ({'label_smoothing': Rate | None}, annotations_of(hyper)),
    }

  def check_text(self, splits: Iterable[str] = (), folder: Path | None = None) -> None:
    """Holds a run to the text that it began with; called where it trains.

    What the run's folder does not say yet, as that of an older run, is noted there.

    Args:
      splits: names of the splits on which the run is evaluated while it trains; the
        training split is always among those that are compared.
      folder: the run's folder; by default the one that holds the vocabulary. Members
        of a population share a task and have folders of their own.

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
  ) -> 'TranslationBatches':
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
  def _training_batches(self) -> 'TranslationBatches':
    options = dict(self._batching)
    names = [field.name for field in dataclasses.fields(_Sampling)]
    drawn = {name: options.pop(name) for name in names if name in options}
    how = call(_Sampling, drawn, 'batching')
    self.check_text()
    source, target = self.stores(_TRAIN)
    sampled = [
      self.stores(_TRAIN, how.sampling, seed)
      for seed in range(how.segmentations if how.sampling else 0)
    ]
    sides = dict(source=source, target=target, sampled=sampled)
    pairs = call(PairBatches, options, 'batching', **sides)
    return TranslationBatches(pairs, skipped=self.corpus.skipped.get(_TRAIN, 0))

  def _evaluation_batches(
    self, split: str, tokens: int, shapes: int, rows_multiple: int
  ) -> 'TranslationBatches':
    source, target = self.stores(split)
    longest = int(max(source.lengths.max(), target.lengths.max()))
    pairs = PairBatches(
      source,
      target,
      tokens=max(tokens, longest * rows_multiple),
      shapes=shapes,
      max_length=longest,
      rows_multiple=rows_multiple,
      shuffle=False,
      reverse_source=self.reverse_source,
    )
    return TranslationBatches(pairs)

  def stores(self, split: str, sampling: float = 0.0, seed: int = 0) -> tuple:
    """Returns the token stores of the source and of the target side of a split."""
    return self._cached_stores(split, sampling, seed)

  @functools.cached_property
  def _cached_stores(self) -> Callable[..., tuple]:
    # In this object: a cache of the class would keep the stores and their open files
    # after the run, trial after trial of a sweep.
    return functools.lru_cache(self._make_stores)

  def _make_stores(self, split: str, sampling: float, seed: int) -> tuple:
    return encode_corpus(
      self.corpus,
      split,
      self.vocabularies,
      cache=cache_dir(),
      sampling=sampling,
      seed=seed,
    )


class TranslationBatches:
  """Batches of sentence pairs; see `tasks.interface.Batches`.

  Attributes:
    steps_per_epoch: updates in which each pair is seen once.
    shapes: one empty batch of every shape.
    report: pairs, too_long, padding_waste, ...
    tokens_per_step: mean number of target tokens per batch.
  """

  def __init__(self, pairs: PairBatches, *, skipped: int = 0):
    """`skipped` is the number of pairs that the corpus left out."""
    self._pairs = pairs
    self.steps_per_epoch = pairs.steps_per_epoch
    packed = pairs.kind == 'packed'
    self.shapes = tuple(empty_batch(*shape, packed=packed) for shape in pairs.shapes)
    self.report = {**pairs.report, **({'skipped': skipped} if skipped else {})}
    self.tokens_per_step = pairs.report['target_tokens'] / pairs.steps_per_epoch

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns batch k, or the i-th of n shares of its rows; see `PairBatches.batch`."""
    i, n = rows
    B = self._pairs.rows_of(k, seed=seed) if n > 1 else 0
    part = slice(B * i // n, B * (i + 1) // n) if n > 1 else None
    return self._pairs.batch(k, seed=seed, rows=part)

  def rows(self, k: int) -> np.ndarray:
    """Returns the corpus's line number of each row of batch k, -1 for none."""
    return self._pairs.rows(k)


def check_sections(config: Mapping[str, Any], sections: Iterable[str]) -> None:
  """Raises ValueError for a section that an experiment lacks."""
  for section in sections:
    if section not in config:
      raise ValueError(f'the experiment has no section {section!r}')


def _open_corpus(config: Mapping[str, Any]) -> Corpus:
  return call(open_corpus, config['corpus'], 'corpus')


def _make_model(
  config: Mapping[str, Any], source_size: int, target_size: int
) -> nn.Module:
  sizes = dict(source_size=source_size, target_size=target_size)
  return call(resolve(config['model_name']), config['model'], 'model', **sizes)


def empty_batch(B: int, S: int, T: int, *, packed: bool = False) -> Batch:
  """Returns a batch of padding only, with B rows of S source and T target positions."""
  batch = {'source': (B, S), 'target': (B, T)}
  if packed:
    for side, shape in tuple(batch.items()):
      batch |= {f'{side}_segment': shape, f'{side}_position': shape}
  return {name: np.zeros(shape, np.int32) for name, shape in batch.items()}


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

"""Translation: a parallel corpus, a sequence-to-sequence model, cross-entropy."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
from pathlib import Path
from types import SimpleNamespace
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
from seqlab.text.agreement import Agreement
from seqlab.text.corpora import Text, open_corpus
from seqlab.text.download import cache_dir
from seqlab.text.inputs import Inputs
from seqlab.text.vocabulary import (
  Vocabularies,
  build_vocabularies,
  train_vocabulary,
)
from seqlab.types import PAD, Array, Batch, Hyper, Sums, Variables


@dataclasses.dataclass(frozen=True)
class _Sampling:
  """Options of the section `batching` that say how sentences are segmented.

  Attributes:
    sampling: strength of drawing segmentations at random; 0 takes the best ones.
    segmentations: number of segmentations that epochs take turns with.
  """

  sampling: Probability = 0.0
  segmentations: Count = 8


class Translation:
  """The task of an experiment that translates.

  Attributes:
    corpus: where the sentences come from.
    vocabularies: of both languages; saved in the run's folder.
    model: a `Seq2Seq` module.
    train: batches of the training split.
    steps_per_epoch: updates in which each training pair is seen once.
    report: of the training data: pairs, too_long, padding_waste, ...
    sections: of the experiment, that are read here.
    reverse_source: whether sources are read from their end.
  """

  sections = ('corpus', 'vocabulary', 'batching', 'model_name', 'model')

  def __init__(self, config: Mapping, vocabulary: Path, train_split: str = 'train'):
    """Opens the corpus, makes or loads the vocabulary, encodes the training split.

    Args:
      config: a resolved experiment.
      vocabulary: folder of the vocabulary; made if it is not there.
      train_split: name of the training split.

    Raises:
      ValueError: a section is missing, or what is in it does not fit; or the
        vocabulary is not the one that the run was trained with.
    """
    for section in self.sections:
      if section not in config:
        raise ValueError(f'the experiment has no section {section!r}')
    self.corpus = call(open_corpus, config['corpus'], 'corpus')
    options = dict(config['vocabulary'])
    self._inputs = Inputs(vocabulary.parent)
    if (vocabulary / 'vocabularies.json').exists():
      self.vocabularies = Vocabularies.load(vocabulary, options)
      self._inputs.check_vocabularies(self.vocabularies)
    else:
      self.vocabularies = call(
        build_vocabularies, options, 'vocabulary', corpus=self.corpus
      )
      self.vocabularies.save(vocabulary, options)
    self.model = self._make_model(config, self.vocabularies)
    self._batching = dict(config['batching'])
    self.reverse_source = self._batching.get('reverse_source', False)
    self._train_split = train_split

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
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

  @staticmethod
  def _make_model(config: Mapping, vocabularies: Any) -> nn.Module:
    return call(
      resolve(config['model_name']),
      config['model'],
      'model',
      source_size=vocabularies.source.size,
      target_size=vocabularies.target.size,
    )

  @classmethod
  def outline(cls, config: Mapping) -> 'Translation | None':
    """The task as far as shapes go, without the corpus, to plan with.

    None where the shapes depend on the corpus: only packed batches have theirs from
    the experiment alone, and only subword vocabularies are surely as large as asked.
    """
    vocabulary, batching = config.get('vocabulary', {}), config.get('batching', {})
    size = vocabulary.get('size')
    subwords = vocabulary.get('kind', 'bpe') != 'word' and size
    packed = batching.get('kind') == 'packed' and batching.get('max_length')
    if not subwords or not packed:
      return None
    sizes = (size, size) if isinstance(size, int) else size
    task = cls.__new__(cls)
    source, target = (SimpleNamespace(size=n) for n in sizes)
    task.vocabularies = SimpleNamespace(source=source, target=target)
    task.model = cls._make_model(config, task.vocabularies)
    task.train = SimpleNamespace(kind='packed', shapes=(packed_shape(**batching),))
    return task

  @functools.cached_property
  def train(self) -> PairBatches:
    """Batches of the training split."""
    options = dict(self._batching)
    names = [field.name for field in dataclasses.fields(_Sampling)]
    drawn = {name: options.pop(name) for name in names if name in options}
    how = call(_Sampling, drawn, 'batching')
    self.check_text()
    source, target = self.stores(self._train_split)
    return call(
      PairBatches,
      options,
      'batching',
      source=source,
      target=target,
      sampled=[
        self.stores(self._train_split, how.sampling, seed)
        for seed in range(how.segmentations if how.sampling else 0)
      ],
    )

  def check_text(self, splits: Iterable[str] = (), folder: Path | None = None) -> None:
    """Holds a run to the text that it began with; called where it trains.

    What the run's folder does not say yet, as that of an older run, is noted there.

    Args:
      splits: on which the run is evaluated while it trains; the training split is
        always among those that are compared.
      folder: the run's folder; by default the one that holds the vocabulary. Members
        of a population share a task and have folders of their own.

    Raises:
      ValueError: a split is not the one that the run began with.
    """
    inputs = Inputs(folder) if folder else self._inputs
    inputs.check(self.corpus, [self._train_split, *splits], self.vocabularies)

  @property
  def hyper(self) -> tuple[str, ...]:
    """Traced hyperparameters that the loss and the model read."""
    return ('label_smoothing', *getattr(self.model, 'hyper_names', ()))

  @property
  def steps_per_epoch(self) -> int:
    """Updates in which each training pair is seen once."""
    return self.train.steps_per_epoch

  @property
  def tokens_per_step(self) -> float:
    """Target words in an update, on average."""
    return self.report['target_tokens'] / self.steps_per_epoch

  @property
  def report(self) -> dict[str, float]:
    """Of the training data: pairs, skipped, too_long, padding_waste, ..."""
    skipped = self.corpus.skipped.get(self._train_split, 0)
    return {**self.train.report, **({'skipped': skipped} if skipped else {})}

  @functools.cached_property
  def stores(self) -> Callable[..., tuple]:
    """A function of split, sampling and seed: the token stores of source and target.

    It remembers what it made, in this object: a cache of the class would keep the stores
    and their open files after the run, trial after trial of a sweep.
    """
    return functools.lru_cache(self._make_stores)

  def _make_stores(self, split: str, sampling: float = 0.0, seed: int = 0) -> tuple:
    return encode_corpus(
      self.corpus,
      split,
      self.vocabularies,
      cache=cache_dir(),
      sampling=sampling,
      seed=seed,
    )

  def batch(
    self, split: str, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)
  ) -> Batch:
    """Batch k of the training split; `rows` = (i, n) is the i-th of n shares."""
    if split != self._train_split:
      raise ValueError(f'batches are made of {self._train_split!r}, not of {split!r}')
    i, n = rows
    B = self.train.rows_of(k, seed=seed) if n > 1 else 0
    part = slice(B * i // n, B * (i + 1) // n) if n > 1 else None
    return self.train.batch(k, seed=seed, rows=part)

  def tokens(self, batch: Batch) -> int:
    """Target words in a batch."""
    return int(np.count_nonzero(batch['target']))

  def shapes(self) -> tuple[Batch, ...]:
    """An empty batch of every shape."""
    return tuple(self.empty(*shape) for shape in self.train.shapes)

  def empty(self, B: int, S: int, T: int) -> Batch:
    """A batch of padding only, as it would be for B rows of S and T positions."""
    batch = {'source': (B, S), 'target': (B, T)}
    if self.train.kind == 'packed':
      for side, shape in tuple(batch.items()):
        batch |= {f'{side}_segment': shape, f'{side}_position': shape}
    return {name: np.zeros(shape, np.int32) for name, shape in batch.items()}

  def init(self, rng: Array) -> Variables:
    """Fresh variables of the model, boxed with their logical axes."""
    ids = jnp.ones((1, 4), jnp.int32)
    return self.model.init(rng, ids, ids)

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> tuple[Array, tuple[Sums, Variables]]:
    """Summed label-smoothed cross-entropy, nats; see `tasks.interface`."""
    train = rng is not None
    others = {name: value for name, value in variables.items() if name != 'params'}
    (hidden, table), changed = self.model.apply(
      variables,
      batch['source'],
      batch['target'],
      train=train,
      hyper=hyper,
      packing=packing_of(batch),
      method='features',
      rngs={'dropout': rng} if train else {},
      mutable=list(others) if train else [],
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
      'loss': (sums.loss, words),
      'nll': (sums.nll, words),
      'accuracy': (sums.correct, words),
      'padding_waste': (padding, cells),
    }
    return sums.loss, (report, {**others, **changed})

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
    width = getattr(self.model, 'width', 0)
    output = self.vocabularies.target.size * width
    return sizes['encoder'], sizes['decoder'], output

  def flops(self, batch: Batch) -> float:
    """6 per weight and word used: 2 forwards, 4 backwards.

    Chowdhery et al., "PaLM", 2022, appendix B, https://arxiv.org/abs/2204.02311.
    Attention's products with the sequence itself are left out: at these lengths
    they are a few percent. Padding counts for nothing.
    """
    encoder, decoder, output = self._sizes
    source = np.count_nonzero(batch['source'])
    target = np.count_nonzero(batch['target'])
    return 6.0 * (source * encoder + target * (decoder + output))


def packing_of(batch: Mapping[str, Array]) -> Packing | None:
  """The segments and positions of a packed batch, None for one sentence a row."""
  if 'source_segment' not in batch:
    return None
  return Packing(
    source_segment=batch['source_segment'],
    source_position=batch['source_position'],
    target_segment=batch['target_segment'],
    target_position=batch['target_position'],
  )

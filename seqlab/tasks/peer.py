"""word2vec as gensim trains it: the peer that the net here is measured beside.

Řehůřek and Sojka 2010, https://radimrehurek.com/gensim. It reads the same rows of the
same text, and ends as the same two tables, so that whatever looks at `WordPrediction`
looks at it too.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from seqlab.data.store import TokenStore
from seqlab.data.windows import gather, sentences
from seqlab.domains import Count, Signature
from seqlab.embeddings.objectives import Negative
from seqlab.tasks.word2vec import WordPrediction
from seqlab.types import Array, Batch, Sums

if TYPE_CHECKING:
  from gensim.models import Word2Vec


class Gensim(WordPrediction):
  """gensim's skip-gram or CBOW with negative sampling. Its one step is all of it."""

  def __init__(self, config: Mapping, vocabulary: Path):
    """See `WordPrediction`; what is peculiar to how that trains is not read.

    `model` has two more: `epochs`, and `workers`, threads of gensim. With more than one
    the result depends on which is faster. The learning rate goes from `hyper.peak`
    to `schedule.floor` times that, linearly.
    """
    model = dict(config['model'])
    self._epochs, self._workers = model.pop('epochs', 5), model.pop('workers', 1)
    super().__init__({**config, 'model': model}, vocabulary)
    judge, schedule = self.net.judge, dict(config['schedule'])
    if not isinstance(judge, Negative) or not self.net.dynamic or self.net.holes:
      raise ValueError(
        "gensim is compared with model.objective.kind='negative', model.dynamic=True "
        'and no batching.holes, which is how it trains'
      )
    if config['steps'] != 1 or schedule.get('kind') != 'linear':
      raise ValueError("gensim takes one step: set steps=1 and schedule.kind='linear'")
    rate = config['hyper']['peak']
    self._options = options_of(self) | {
      'alpha': rate,
      'min_alpha': rate * schedule.get('floor', 0.0),
      'sample': self._batching.get('subsample', 1e-3),
    }

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
    signatures = super().signatures(config)
    counts = {'epochs': Count, 'workers': Count}
    return {**signatures, 'model': (counts, *signatures['model'])}

  @property
  def report(self) -> dict[str, float]:
    """Counts of the data."""
    return {'vocabulary': self.words.size, 'words': self.store.total}

  def batches(self, split: str, **options: Any) -> 'Trained':
    """Returns the tables of gensim's net as batches."""
    del split, options
    return Trained(self)

  def tables(self, seed: int, rows: int) -> Batch:
    """Returns both tables, after gensim has trained, and rows of zeros below."""
    kept = rows_of(self.store, sentences(self.store, self.heldout)[0])
    how = (self.net.width, self._workers, {**self._options, 'seed': seed})
    return trained(rows, *kept, *how, epochs=self._epochs)

  def tokens(self, batch: Batch) -> int:
    """Returns the number of words of the text, in all epochs."""
    del batch
    return self.store.total * self._epochs

  def flops(self, batch: Batch) -> float:
    """None on the devices."""
    del batch
    return 0.0

  def update(
    self, params: Mapping, batch: Batch, rng: Array, rate: Array, constants: None
  ) -> tuple[Mapping, Sums]:
    """Takes the tables as they are; gensim tells no loss that could be compared."""
    del rng, rate, constants
    params = {name: table[: self.words.size] for name, table in batch.items()}
    return params, {'loss': (jnp.zeros(()), jnp.ones(()))}


class Trained:
  """Batches of trained tables; see `tasks.interface.Batches`.

  Attributes:
    steps_per_epoch: 1.
    shapes: the one shape, as an empty batch.
  """

  steps_per_epoch = 1

  def __init__(self, task: Gensim):
    """`task` trains when a batch is asked for."""
    self._task = task
    # As many rows as any usual number of devices can share.
    self._rows = -(-task.words.size // 1024) * 1024
    empty = np.zeros((self._rows, task.net.width), np.float32)
    self.shapes = ({'words': empty, 'contexts': empty},)
    self.tokens_per_step = float(task.tokens({}))

  def batch(self, k: int, *, seed: int, rows: tuple[int, int] = (0, 1)) -> Batch:
    """Returns both tables, after gensim has trained."""
    del k
    if rows != (0, 1):
      raise ValueError('gensim trains in one process')
    return self._task.tables(seed, self._rows)


def options_of(task: WordPrediction) -> dict[str, Any]:
  """What gensim's net is to have of the net here, which samples negatives."""
  net, judge = task.net, task.net.judge
  options = dict(window=net.window, sg=int(net.kind == 'skipgram'), sample=1e-3)
  return options | dict(negative=judge.negatives, ns_exponent=judge.power)


def rows_of(store: TokenStore, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Ids, and offsets, of some sentences: `bounds` [n, 2], see `data.windows:sentences`."""
  ids, sizes = gather(np.asarray(store.ids), bounds)
  return ids, np.concatenate([[0], np.cumsum(sizes)])


def start(
  ids: np.ndarray, offsets: np.ndarray, D: int, workers: int, options: dict[str, Any]
) -> tuple['Word2Vec', list[list[str]]]:
  """A fresh net of gensim's, and rows as it wants them: words are their numbers.

  Raises:
    RuntimeError: gensim is not installed.
  """
  try:
    from gensim.models import Word2Vec
  except ImportError as error:
    raise RuntimeError(f"pip install 'gensim>=4.4' ({error})") from None
  words = np.char.mod('%d', np.arange(int(ids.max()) + 1)).tolist()
  bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
  rows = [[words[i] for i in ids[a:b]] for a, b in bounds]
  net = Word2Vec(vector_size=D, min_count=1, workers=workers, **options)
  net.build_vocab(rows)
  return net, rows


def trained(
  V: int,
  ids: np.ndarray,
  offsets: np.ndarray,
  D: int,
  workers: int,
  options: dict[str, Any],
  *,
  epochs: int,
) -> dict[str, np.ndarray]:
  """Both tables of gensim's net, [V, D], after all epochs.

  Words are in the order of their numbers; rows are zero where it saw none.
  """
  net, rows = start(ids, offsets, D, workers, options)
  net.train(rows, total_examples=net.corpus_count, epochs=epochs)
  made = {k: np.zeros((V, D), np.float32) for k in ('words', 'contexts')}
  place = np.array(net.wv.index_to_key, np.int64)
  made['words'][place], made['contexts'][place] = net.wv.vectors, net.syn1neg
  return made

"""word2vec as a task: vectors that are trained to predict the words around a word."""

from collections.abc import Mapping, Sequence
import functools
from typing import Annotated, Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from seqlab.config import call
from seqlab.data.windows import MAX_SENTENCE, WindowBatches, heldout_batch
from seqlab.domains import Signature
from seqlab.embeddings.objectives import OBJECTIVES, Hierarchical, Negative
from seqlab.embeddings.output_vectors import OutputVectors, choose_vectors
from seqlab.embeddings.subwords import Parts, Subwords, SubwordTables
from seqlab.embeddings.vectors import SubwordVectors, Vectors
from seqlab.embeddings.word2vec import ARCHITECTURES, Word2Vec
from seqlab.pieces import Piece, Specification, find, make, options_of, split
from seqlab.tasks.interface import CustomUpdate, Loss
from seqlab.tasks.words import SUBSAMPLING, Text, WordTask, check_training_split
from seqlab.types import Array, Batch, Hyper, Sums, Variables

# Arguments of an architecture that are not options.
_FROM_TASK = ('objective', 'size', 'keep_gaps', 'parts')
_OBJECTIVE = Annotated[Specification, Piece(OBJECTIVES, context=('counts',))]


def summed_loss(
  net: Word2Vec, tables: Mapping[str, Array], batch: Batch, rng: Array
) -> tuple[Array, Array]:
  """Returns the loss of a batch in nats, and its number of predictions."""

  def add(total, block):
    return jax.tree.map(jnp.add, total, net.loss(tables, block)), None

  zeros = (jnp.zeros(()), jnp.zeros(()))
  return jax.lax.scan(add, zeros, net.blocks(batch, rng))[0]


class WindowTask(WordTask):
  """A text, and a net that predicts the words in a window around each word.

  Attributes:
    net: an `embeddings.word2vec:Word2Vec`.
  """

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Builds the net.

    Args:
      config: a resolved experiment. Its section `model` names one of `ARCHITECTURES` as
        `kind`, 'skipgram' by default, and has the options of `Word2Vec`; its
        `objective` names one of `OBJECTIVES`, and its `output_vectors` one of
        `OUTPUT_VECTORS`. Its `subwords`, with the options of `Subwords`, makes the input
        vector of a word the mean of the rows of the word and of its n-grams, as in
        fastText; None, the default, gives each word one row. Its section `batching` is
        for `WindowBatches`, with `subsample` and `formula` as in `keep_probability`.
      text: the text and its words.

    Raises:
      ValueError: an option does not fit.
    """
    super().__init__(config, text)
    model = {'kind': 'skipgram', **config['model']}
    self._output = model.pop('output_vectors', 'words')
    objective = make(
      model.pop('objective', 'negative'),
      OBJECTIVES,
      'model.objective',
      counts=self.words.counts,
    )
    if (
      isinstance(objective, Hierarchical) and split(self._output, 'model')[0] != 'words'
    ):
      raise ValueError(
        "model.output_vectors: a tree has no vectors of contexts; set it to 'words'"
      )
    subwords = model.pop('subwords', None)
    if subwords is not None:
      self._check_subwords()
      self._subwords = call(Subwords, subwords, 'model.subwords')
      model['parts'] = Parts.of(self._subwords, self.words.words)
    self._batching = dict(config['batching'])
    self.net = make(
      model,
      ARCHITECTURES,
      'model',
      objective=objective,
      size=self.words.size,
      keep_gaps=self._batching.get('keep_gaps', False),
    )
    tables = 1 + self.net.num_rows_of_words / self.words.size
    self._check_memory(tables * self.net.width)

  def _check_subwords(self) -> None:
    """Raises ValueError for other vectors than those that n-grams are the parts of."""
    if split(self._output, 'model')[0] != 'words':
      raise ValueError(
        'model.output_vectors: with model.subwords the vectors of words are means of '
        "their parts, and those of contexts are not: set it to 'words'"
      )

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    model = {'kind': 'skipgram', **config['model']}
    architecture, _ = find(model, ARCHITECTURES, 'model')
    common = {
      'kind': str,
      'objective': _OBJECTIVE,
      'output_vectors': OutputVectors,
      'subwords': Mapping | None,
    }
    return {
      **super().signatures(config),
      'batching': (SUBSAMPLING, options_of(WindowBatches, ('store', 'keep'))),
      'model': (common, options_of(architecture, _FROM_TASK)),
    }

  @property
  def report(self) -> dict[str, float]:
    """Number of words in the vocabulary."""
    return {'vocabulary': self.words.size}

  @functools.cached_property
  def keep(self) -> np.ndarray:
    """[V] float32, probability that an occurrence of each word is kept."""
    return self._keep_probability({'subsample': 1e-3, **self._batching}, 'batching')

  def loss(
    self, variables: Variables, batch: Batch, rng: Array | None, hyper: Hyper
  ) -> Loss:
    """Returns the loss of a batch from one state of the tables; see `Task.loss`."""
    del hyper
    rng = jax.random.key(0) if rng is None else rng
    return Loss(*summed_loss(self.net, variables['params'], batch, rng))

  def evaluation(self, max_words: int) -> Batch:
    """Returns the lines that are held out, up to so many words, as one batch."""
    if not self.heldout:
      raise ValueError(
        'no line is held out: set corpus.heldout=200 to hold out every 200th sentence, '
        'or leave out evals.heldout'
      )
    return heldout_batch(
      self.store,
      self.heldout,
      max_words=max_words,
      length=8 * self.net.block,
      window=self.net.window,
      max_sentence=self._batching.get('max_sentence', MAX_SENTENCE),
    )

  def vectors(self, variables: Variables) -> Vectors:
    """Returns a vector per word, those that `model.output_vectors` names."""
    if self.net.parts is not None:
      return self._subword_vectors(**variables['params'])
    matrix = choose_vectors(self._output, **variables['params'])
    return Vectors(self.words.words, np.asarray(matrix))

  def _subword_vectors(self, words: Array, contexts: Array) -> SubwordVectors:
    """Returns vectors of the vocabulary that unseen words have, too."""
    V = self.words.size
    rows = np.asarray(words)
    by_word = isinstance(self.net.objective, Negative)  # and not by node of a tree
    return SubwordVectors(
      SubwordTables(
        self.words.words,
        self.words.counts,
        self._subwords,
        rows[:V],
        self.net.parts.numbers,
        rows[V:],
        np.asarray(contexts) if by_word else None,
      )
    )


class WordPrediction(WindowTask, CustomUpdate):
  """Skip-gram and CBOW, trained with any objective."""

  @functools.cached_property
  def train(self) -> WindowBatches:
    """Batches of the text."""
    options = {k: v for k, v in self._batching.items() if k not in SUBSAMPLING}
    return call(
      WindowBatches,
      options,
      'batching',
      heldout=self.heldout,
      store=self.store,
      keep=self.keep,
      window=self.net.window,
    )

  def batches(self, split: str, **options: Any) -> WindowBatches:
    """Returns the batches of the text, which is the split 'train'."""
    check_training_split(split, options)
    return self.train

  def tokens(self, batch: Batch) -> int:
    """Returns the number of words of the text that a batch was made from."""
    return int(batch['count'].sum())

  def init(self, rng: Array) -> Variables:
    """Returns both tables, boxed with their logical axes."""
    tables = self.net.init(rng)
    names = ('vocab', None)  # whole rows, because a step looks up rows
    return {'params': {k: nn.LogicallyPartitioned(x, names) for k, x in tables.items()}}

  def update(
    self, params: Mapping, batch: Batch, rng: Array, rate: Array, constants: None
  ) -> tuple[Mapping, Sums]:
    """Returns the tables after one batch; see `Word2Vec.update`."""
    del constants
    params, loss = self.net.update(params, batch, rng, rate)
    return params, {'loss': loss}

  def flops(self, batch: Batch) -> float:
    """Returns 6 operations per number of each pair of a word with its contexts.

    A pair and each of its samples take 3 products (logit, both gradients) of D numbers.
    """
    net = self.net
    contexts = net.window + 1 if net.dynamic else 2 * net.window  # on average
    contexts *= self.train.report['kept']
    compared = 1 + getattr(net.objective, 'negatives', 0)
    return 6.0 * self.tokens(batch) * contexts * compared * net.width

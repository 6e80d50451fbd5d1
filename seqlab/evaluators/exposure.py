"""What a model's own errors cost it: accuracy after an error, and BLEU by repairs.

A model that was trained on true prefixes only may do worse after its own errors
(exposure bias; Bengio et al. 2015, https://arxiv.org/abs/1506.03099). Its first error is
the same under greedy search and with the true pieces given, so that up to there nothing
can be compared. From there on two histories can: the true one, and that with the wrong
piece in its place. Accuracies of the same pieces of the same sentences given both differ
by what the error costs. A random wrong piece in that place tells whether it matters that
the error is the model's own.
"""

from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.decoding.beam import Step, unroll
from seqlab.decoding.config import Greedy
from seqlab.decoding.scores import NextTokens
from seqlab.domains import Count, Range
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.metrics.corpus import measure_texts, score
from seqlab.metrics.measures import BLEU
from seqlab.tasks.interface import Translates
from seqlab.tasks.references import references_of, writable
from seqlab.tasks.translator import decode, in_dtype, search_dtype
from seqlab.types import EOS, PAD, SPECIALS, Array, PyTree, Variables

HISTORIES = ('true', 'own', 'random')


class Evaluator:
  """Accuracy after the first error, given three histories, and BLEU by repairs.

  Attributes:
    dtype: dtype of its matrix products.
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  about = ''

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    split: str,
    offsets: Sequence[Count] = (1, 2, 3),
    repairs: Annotated[int, Range(0)] = 3,
    tokens: Count = 2048,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data and model.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      offsets: distances from the first error, in pieces, at which accuracy is measured.
      repairs: number of errors that are repaired, at most.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
    """
    self._offsets, self._repairs = tuple(offsets), repairs
    self._vocabulary = task.vocabularies.target
    references = references_of(task.corpus, split)
    self._references = writable(self._vocabulary, references)
    self._measure = BLEU(task.corpus.convention)
    places = [*map(str, self._offsets), 'rest']
    self.metrics = (
      *(f'{history}/{place}' for history in HISTORIES for place in places),
      *('sentences', *(f'repairs/{r}' for r in range(repairs + 1))),
    )
    # Histories and outputs are compared, so predictions have the dtype of the search.
    model, self.dtype = in_dtype(task.model, None), search_dtype(task.model, None)

    def function(variables: Variables, batch: PyTree) -> tuple[PyTree, Array]:
      source, target = batch['source'], batch['target']

      def predict(target: Array) -> Array:
        return model.apply(variables, source, target).argmax(axis=-1)

      guess = predict(target)
      wrong = (guess != target) & (target != PAD)  # [B, T]
      error = _FirstError.of(wrong, guess, target)
      sums = {'sentences': error.counts.sum()}
      for history, piece in error.pieces(self._vocabulary.size).items():
        right = predict(jnp.where(error.here, piece[:, None], target)) == target
        sums[history] = error.sums(right, self._offsets)
      # A loop, so that one search is compiled.
      outputs = jax.lax.map(
        lambda r: _repaired(model, variables, source, target, _forced(wrong, r)),
        jnp.arange(repairs + 1),
      )
      return sums, jnp.moveaxis(outputs, 0, 1)  # [B, repairs + 1, L]

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, function)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields what is measured:

    `true/2`: accuracy of the second piece after the first error, given true pieces;
    `own/2`: the same, given the model's own piece in the place of the error;
    `random/2`: the same, given a random wrong piece there;
    `true/rest` and so on: of all pieces after the first error;
    `sentences`: number of sentences that these are taken over;
    `repairs/1`: BLEU of greedy outputs that begin with the reference up to and including
      the piece at which the first error would be.
    """
    out = self._resident.run(variables)
    sums = jax.tree.map(lambda x: x.tolist(), total([sums for sums, _ in out]))
    places = [*self._offsets, 'rest']
    for history in HISTORIES:
      for place, hits, count in zip(places, *sums[history], strict=True):
        if count:
          yield f'{history}/{place}', hits / count
    yield 'sentences', sums['sentences']
    for r in range(self._repairs + 1):
      yield f'repairs/{r}', self._bleu([ids[:, r] for _, ids in out])

  def _bleu(self, ids: Sequence[np.ndarray]) -> float:
    lines = {
      int(row): tokens
      for rows, outputs in zip(self._resident.rows, ids, strict=True)
      for row, tokens in zip(rows, outputs, strict=True)
      if row >= 0
    }
    outputs = self._vocabulary.decode([lines[row] for row in range(len(lines))])
    counts = measure_texts(outputs, self._references, self._measure)
    return score(counts.sum(axis=0))['score']


class _FirstError(NamedTuple):
  """The first error of each row, where a sentence goes on after it.

  Attributes:
    here: [B, T] bool, its position.
    after: [B, T] bool, the positions after it; none in a row that does not count.
    offset: [B, T] int32, distance from it.
    own: [B] the model's piece there.
    true: [B] the reference's piece there.
    counts: [B] bool, whether there is an error, and neither piece ends the sentence.
  """

  here: Array
  after: Array
  offset: Array
  own: Array
  true: Array
  counts: Array

  @classmethod
  def of(cls, wrong: Array, guess: Array, target: Array) -> '_FirstError':
    """Finds it, given which predictions [B, T] are wrong."""
    first = wrong.argmax(axis=1)  # [B]
    own, true = (
      jnp.take_along_axis(x, first[:, None], 1)[:, 0] for x in (guess, target)
    )
    counts = wrong.any(axis=1) & (own != EOS) & (true != EOS)
    offset = jnp.arange(target.shape[1]) - first[:, None]
    after = (offset > 0) & (target != PAD) & counts[:, None]
    here = (offset == 0) & counts[:, None]
    return cls(here, after, offset, own, true, counts)

  def pieces(self, vocabulary_size: int) -> dict[str, Array]:
    """Returns history -> the piece at the error, [B]."""
    V, n = vocabulary_size, len(SPECIALS)
    # Any hash serves; up to two steps lead to a piece that is neither of the others.
    random = (self.true * 7919 + self.own * 104729) % (V - n)
    for _ in range(2):
      taken = (random + n == self.true) | (random + n == self.own)
      random = jnp.where(taken, (random + 1) % (V - n), random)
    return {'true': self.true, 'own': self.own, 'random': random + n}

  def sums(self, right: Array, offsets: Sequence[int]) -> tuple[Array, Array]:
    """Returns hits and counts, [offsets + 1] each, at offsets and at all positions."""
    masks = [self.after & (self.offset == j) for j in offsets]
    masks = jnp.stack([*masks, self.after])  # [offsets + 1, B, T]
    return (masks & right).sum(axis=(1, 2)), masks.sum(axis=(1, 2))


def _forced(wrong: Array, repairs: Array) -> Array:
  """Returns the number of true pieces that an output begins with, [B].

  With the true pieces up to an error, the next error under greedy search is the next wrong
  prediction given true pieces.
  """
  before = jnp.cumsum(wrong, axis=1) < repairs  # positions before the last repair
  return jnp.where(repairs > 0, before.sum(axis=1) + 1, 0)


def _repaired(
  model, variables: Variables, source: Array, target: Array, forced: Array
) -> Array:
  """Returns greedy outputs [B, L] that begin with `forced` [B] true pieces."""

  class Repaired(Greedy):
    def __call__(self, step: Step, cache: PyTree, *, ids: Array, **options):
      del ids

      def choose(tokens: NextTokens, i: Array) -> Array:
        true = jnp.take(target, i, axis=1, fill_value=PAD)  # [B]
        return jnp.where(i < forced, true, tokens.best(1)[2][:, 0])

      tokens, logp = unroll(step, cache, choose, **options)
      return tokens[:, None], logp[:, None]

  tokens, _ = decode(model, variables, source, Repaired())
  return tokens[:, 0]

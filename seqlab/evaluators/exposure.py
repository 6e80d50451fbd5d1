"""What a model's own errors cost it: accuracy after an error, and BLEU by repairs.

A model that was trained on true prefixes only may do worse after its own errors
(exposure bias; Bengio et al. 2015, https://arxiv.org/abs/1506.03099). Its first error is
the same under greedy search and with the true pieces given, so that up to there nothing
can be compared. From there on two histories can: the true one, and that with the wrong
piece in its place. Accuracies of the same pieces of the same sentences given both differ
by what the error costs.

A piece of another sentence in that place tells whether it matters that the error is the
model's own. Models err at different places: the same wrong piece is therefore also planted
in the middle of each sentence, where models can be compared with each other.

After a wrong word, what depends on it may rightly differ from the reference: its own other
pieces, and words whose form it decides. On the embedded corpus, whose grammar is known,
these do not count; elsewhere all later pieces do.
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
from seqlab.evaluators.agreement import word_starts
from seqlab.evaluators.resident import Resident, evaluation_batches
from seqlab.metrics.corpus import measure_texts, score
from seqlab.metrics.measures import BLEU
from seqlab.tasks.interface import Translates
from seqlab.tasks.references import references_of, writable
from seqlab.tasks.translator import decode, in_dtype, search_dtype
from seqlab.text.agreement import Agreement
from seqlab.types import EOS, PAD, SPECIALS, Array, PyTree, Variables

HISTORIES = ('true', 'own', 'random', 'planted/true', 'planted/random')


class Evaluator:
  """Accuracy after the first error, given three histories, and BLEU by repairs.

  Attributes:
    arrays: history -> hits and counts of each line, of all pieces after the error,
      int64 [R, 2], from the last run.
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
    self.arrays: dict[str, np.ndarray] = {}
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
      dependent = _dependent(batch, target.shape[1])
      error = _Error.first(wrong, guess, target, dependent)
      planted = _Error.planted(target, dependent)
      sums = {'sentences': error.counts}  # of each row, as all others
      for prefix, place in (('', error), ('planted/', planted)):
        sums[f'{prefix}true'] = place.sums(guess == target, self._offsets)
      for history, place, piece in (
        ('own', error, error.own),
        ('random', error, error.random(self._vocabulary.size)),
        ('planted/random', planted, planted.random(self._vocabulary.size)),
      ):
        right = predict(jnp.where(place.here, piece[:, None], target)) == target
        sums[history] = place.sums(right, self._offsets)
      # A loop, so that one search is compiled.
      outputs = jax.lax.map(
        lambda r: _repaired(model, variables, source, target, _forced(wrong, r)),
        jnp.arange(repairs + 1),
      )
      return sums, jnp.moveaxis(outputs, 0, 1)  # [B, repairs + 1, L]

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    extra = _grammar(task, split)
    self._resident = Resident(batches, sharding, function, extra=extra)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields what is measured:

    `true/2`: accuracy of the second piece after the first error, given true pieces;
    `own/2`: the same, given the model's own piece in the place of the error;
    `random/2`: the same, given a piece of another sentence there;
    `planted/true/2`, `planted/random/2`: the same for an error in the middle;
    `true/rest` and so on: of all pieces after the error. NaN where no piece counts;
    `sentences`: number of sentences with a first error that something follows;
    `repairs/1`: BLEU of greedy outputs that begin with the reference up to and including
      the piece at which the first error would be.
    """
    out = self._resident.run(variables)
    lines = {
      name: np.stack(self._resident.by_line([sums[name] for sums, _ in out]))
      for name in (*HISTORIES, 'sentences')
    }
    self.arrays = {name: lines[name][..., -1].astype(np.int64) for name in HISTORIES}
    places = [*self._offsets, 'rest']
    for history in HISTORIES:
      for place, hits, count in zip(places, *lines[history].sum(axis=0), strict=True):
        yield f'{history}/{place}', hits / count if count else float('nan')
    yield 'sentences', lines['sentences'].sum()
    for r in range(self._repairs + 1):
      yield f'repairs/{r}', self._bleu([ids[:, r] for _, ids in out])

  def _bleu(self, ids: Sequence[np.ndarray]) -> float:
    outputs = self._vocabulary.decode(self._resident.by_line(ids))
    counts = measure_texts(outputs, self._references, self._measure)
    return score(counts.sum(axis=0))['score']


class _Error(NamedTuple):
  """A place in each row where a wrong piece may stand.

  Attributes:
    here: [B, T] bool, its position.
    after: [B, T] bool, the positions after it that count; none in a row without such a
      place.
    offset: [B, T] int32, distance from it.
    own: [B] the model's piece there.
    true: [B] the reference's piece there.
    counts: [B] bool, whether the row has such a place.
  """

  here: Array
  after: Array
  offset: Array
  own: Array
  true: Array
  counts: Array

  @classmethod
  def first(
    cls, wrong: Array, guess: Array, target: Array, dependent: Array | None
  ) -> '_Error':
    """Returns the first error, given which predictions [B, T] are wrong.

    A row counts if there is one, and neither piece ends the sentence.
    """
    at = wrong.argmax(axis=1)
    own, true = _at(guess, at), _at(target, at)
    counts = wrong.any(axis=1) & (own != EOS) & (true != EOS)
    return cls._of(at, own, target, counts, dependent)

  @classmethod
  def planted(cls, target: Array, dependent: Array | None) -> '_Error':
    """Returns the middle of each sentence, which has three pieces or more besides EOS."""
    length = (target != PAD).sum(axis=1) - 1
    at = length // 2
    return cls._of(at, _at(target, at), target, length >= 3, dependent)

  @classmethod
  def _of(
    cls, at: Array, own: Array, target: Array, counts: Array, dependent: Array | None
  ) -> '_Error':
    offset = jnp.arange(target.shape[1]) - at[:, None]
    after = (offset > 0) & (target != PAD) & counts[:, None]
    if dependent is not None:
      after &= ~jnp.take_along_axis(dependent, at[:, None, None], axis=2)[..., 0]
    here = (offset == 0) & counts[:, None]
    return cls(here, after, offset, own, _at(target, at), counts)

  def random(self, vocabulary_size: int) -> Array:
    """Returns a wrong piece of another sentence, [B]: one that stands at its place.

    Where three other rows of the batch have none, it is any piece.
    """
    V, n = vocabulary_size, len(SPECIALS)
    any_piece = (self.true * 7919 + self.own * 104729) % (V - n)  # any hash serves
    for _ in range(2):  # up to two steps lead to a piece that is neither of the others
      is_taken = (any_piece + n == self.true) | (any_piece + n == self.own)
      any_piece = jnp.where(is_taken, (any_piece + 1) % (V - n), any_piece)
    piece = any_piece + n
    for shift in (3, 2, 1):
      other = jnp.roll(self.true, shift)
      is_wrong = (other != self.true) & (other != self.own) & (other >= n)
      piece = jnp.where(is_wrong, other, piece)
    return piece

  def sums(self, right: Array, offsets: Sequence[int]) -> Array:
    """Returns hits and counts at offsets and at all positions, [B, 2, offsets + 1]."""
    masks = [self.after & (self.offset == j) for j in offsets]
    masks = jnp.stack([*masks, self.after], axis=1)  # [B, offsets + 1, T]
    return jnp.stack([(masks & right[:, None]).sum(-1), masks.sum(-1)], axis=1)


def _at(ids: Array, position: Array) -> Array:
  """Returns the piece of each row at a position: [B, T], [B] -> [B]."""
  return jnp.take_along_axis(ids, position[:, None], axis=1)[:, 0]


def _grammar(task: Translates, split: str) -> dict[str, np.ndarray]:
  """Returns, for each line, the words of its pieces and what depends on each word.

  Entries: 'word' [R, T], the number of a piece's word; 'depends' [R, W, W] bool, whether
  the form of a word is decided by another one, directly or not, or is the same word.
  Empty for a corpus whose grammar is not known.
  """
  if not isinstance(task.corpus, Agreement) or task.corpus.target != 'ru':
    return {}
  pairs, store = task.corpus.pairs(split), task.stores(split)[-1]
  starts = word_starts(task.vocabularies.target)
  ids = store.gather(np.arange(len(pairs)), int(store.lengths.max()))
  # EOS and padding are a word of their own, which depends on nothing.
  word = np.cumsum(starts[ids] | (ids == EOS), axis=1) - 1
  W = max(len(pair.russian.split()) for pair in pairs) + 1
  depends = np.zeros((len(pairs), W, W), bool)
  for matrix, pair in zip(depends, pairs, strict=True):
    for dependent, decider, _ in pair.dependencies:
      matrix[dependent, decider] = True
  depends |= np.eye(W, dtype=bool)
  for _ in range(int(np.ceil(np.log2(W)))):  # paths of any length
    depends = (depends.astype(np.float32) @ depends.astype(np.float32)) > 0
  return {'word': word.astype(np.int32), 'depends': depends}


def _dependent(batch: PyTree, length: int) -> Array | None:
  """Returns whether each piece depends on each other one, [B, T, T]; None if unknown."""
  if 'word' not in batch:
    return None
  word = batch['word'][:, :length]
  word = jnp.pad(word, ((0, 0), (0, length - word.shape[1])))
  word = jnp.clip(word, 0, batch['depends'].shape[1] - 1)  # [B, T]
  of_word = jnp.take_along_axis(batch['depends'], word[:, :, None], axis=1)  # [B, T, W]
  return jnp.take_along_axis(of_word, word[:, None, :], axis=2)  # [B, T, T]


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

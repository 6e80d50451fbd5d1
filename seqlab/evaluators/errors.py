"""Accuracy by position: of the next piece, and of all pieces up to that position.

The first is a marginal probability and the second a joint one, so their difference does
not measure exposure bias (Bengio et al. 2015, https://arxiv.org/abs/1506.03099): under
greedy search the first t pieces of an output are all correct exactly where the first t
predictions are all correct with the true pieces given.
"""

from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from seqlab.decoding.config import Greedy
from seqlab.domains import Count
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.tasks.interface import Translates
from seqlab.tasks.translator import decode, in_dtype, search_dtype
from seqlab.types import PAD, Variables


class Evaluator:
  """Accuracy of the piece at a position, and of all pieces up to that position.

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
    positions: Sequence[Count] = (1, 2, 3, 5, 10, 15, 20),
    tokens: Count = 2048,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data and model.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      positions: target positions, counted from 1, that are reported.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
    """
    self._positions = tuple(positions)
    self.metrics = tuple(
      f'{name}/{position}' for name in ('forced', 'prefix') for position in positions
    )
    at = jnp.array(self._positions) - 1  # [P]
    # Both accuracies are compared, so predictions have the dtype of the search.
    model, self.dtype = in_dtype(task.model, None), search_dtype(task.model, None)

    def function(variables, batch):
      source, target = batch['source'], batch['target']
      logits = model.apply(variables, source, target)
      right = logits.argmax(axis=-1) == target  # [B, T]
      tokens, _ = decode(model, variables, source, Greedy())
      tokens = tokens[:, 0, : target.shape[1]]  # [B, L]
      short = target.shape[1] - tokens.shape[1]
      tokens = jnp.pad(tokens, ((0, 0), (0, short)), constant_values=PAD)
      whole = jnp.cumprod(tokens == target, axis=1).astype(
        bool
      )  # all pieces up to here
      is_piece = target != PAD

      def sums(hit):  # at the positions that are reported
        counts = [x.sum(axis=0) for x in (hit & is_piece, is_piece)]  # [T]
        return [jnp.take(x, at, fill_value=0) for x in counts]  # [P]

      return {'forced': sums(right), 'prefix': sums(whole)}

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, function)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields, for each position that some reference has:

    `forced/5`: accuracy of the fifth piece, given the true pieces before it;
    `prefix/5`: share of outputs whose first five pieces are all the reference's.
    """
    sums = jax.tree.map(lambda x: x.tolist(), total(self._resident.run(variables)))
    for name, (hits, counts) in sums.items():
      for position, hit, count in zip(self._positions, hits, counts, strict=True):
        if count:
          yield f'{name}/{position}', hit / count

"""How much a prediction depends on target words at its own position or later."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count, Seed
from seqlab.tasks.interface import Translates
from seqlab.types import EOS, Variables


class Evaluator:
  """Share of the gradient that flows to words at the predicted position or later.

  It is exactly zero for a model whose decoder is masked. Words are drawn at random, all
  of them different, so that the gradient of a word's vector is that of one position.
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ('share',)
  about = ''

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    length: Count = 16,
    seed: Seed = 0,
  ):
    """Draws one sentence for each side.

    Args:
      task: gives the model and the vocabularies.
      sharding: is not used; one sentence lies on every device.
      length: number of words of each sentence.
      seed: integer seed of the words.

    Raises:
      ValueError: the vocabulary has too few words.
    """
    del sharding
    if getattr(task.model, 'is_mixture', False):
      raise ValueError(
        f'leak: {type(task.model).__name__} predicts a mixture, and has no states of which '
        'a word is a function: remove this evaluator'
      )
    first, size = EOS + 1, task.vocabularies.target.size
    if size - first < 2 * length:
      raise ValueError(
        f'leak: {2 * length} different words are needed, and there are {size - first}: '
        f'set length={(size - first) // 2}'
      )
    random = np.random.default_rng(seed)
    words = first + random.permutation(size - first)[: 2 * length]
    source, target = words.astype(np.int32).reshape(2, 1, length)
    probe = random.normal(size=(length, 1)).astype(np.float32)  # one number per state

    def share(variables):
      def hidden(table):
        params = variables['params'] | {'target_embedding': {'table': table}}
        states, _ = task.model.apply(
          {**variables, 'params': params}, source, target, method='features'
        )
        return (states[0] * jnp.resize(probe, states.shape[1:])).sum(axis=-1)  # [T]

      table = variables['params']['target_embedding']['table']
      by_word = jax.jacrev(hidden)(table)[:, target[0]]  # [T, T, D]
      flow = jnp.linalg.norm(by_word, axis=-1)  # [T, T] at i, from j
      return jnp.triu(flow).sum() / flow.sum()

    self._jitted_share = self._share = jax.jit(share)

  def compile(self, variables: Variables) -> None:
    """Compiles the gradient."""
    self._share = self._jitted_share.lower(variables).compile()

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields the share of the gradient's norm at words that should not be seen."""
    yield 'share', float(self._share(variables))

"""Entropy of a model's attention, and attention maps of the first sentences."""

from collections.abc import Iterator
import functools
from typing import Annotated

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count, Range
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.models.interface import attention_weights
from seqlab.tasks.interface import Translates
from seqlab.types import PAD, Array, Variables

_PIXELS = 8  # side of the square of one weight in an image
_LARGEST = 4_096  # pixels of an image in each direction, about
_GAP = 2  # pixels between maps
_GROUND = (70, 130, 180)  # red, green and blue between maps


class Evaluator:
  """Entropy, in nats, of each kind of attention; the true words are given.

  Attributes:
    arrays: maps of the first sentences, from the last run: `<kind>/<line>` [layers, H,
      L, S] with `source/<line>` [S] and `target/<line>` [T], the pieces as text. Row t
      of 'cross' and 'decoder' is the attention with which piece t is predicted; the
      decoder's columns are the pieces it has read, of which the first is <s>.
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
    show: Annotated[int, Range(0)] = 4,
    tokens: Count = 2048,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data and model, which must have attention.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      show: number of sentences to keep maps of.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.
    """
    self.arrays: dict[str, np.ndarray] = {}
    self._task, self._split, self._show = task, split, show
    weights = functools.partial(attention_weights, task.model)

    def function(variables, batch):
      by_kind = weights(variables, batch['source'], batch['target'])
      return {
        kind: _entropy(w, batch['source' if kind == 'encoder' else 'target'])
        for kind, w in by_kind.items()
      }

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, function)
    self._jitted_maps = self._maps = jax.jit(weights)

  def _first(self) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sentences that are shown, [show, S] and [show, T]."""
    stores = self._task.stores(self._split)
    rows = np.arange(min(self._show, len(stores[0])))
    return tuple(s.gather(rows, int(s.lengths[rows].max())) for s in stores)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)
    self._maps = self._jitted_maps.lower(variables, *self._first()).compile()

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields `entropy_cross` and so on, means over layers, heads and positions."""
    for kind, (entropy, count) in total(self._resident.run(variables)).items():
      yield f'entropy_{kind}', float(entropy / count)
    self.arrays = self._shown(variables)

  def images(self) -> dict[str, np.ndarray]:
    """Returns the maps of the first sentences, such as 'cross/0'; see `tiles`."""
    return {name: tiles(x) for name, x in self.arrays.items() if x.ndim == 4}

  def _shown(self, variables: Variables) -> dict[str, np.ndarray]:
    source, target = self._first()
    maps = jax.device_get(self._maps(variables, source, target))
    vocabularies = self._task.vocabularies
    arrays: dict[str, np.ndarray] = {}
    for i, (s, t) in enumerate(zip(source, target, strict=True)):
      S, T = np.count_nonzero(s != PAD), np.count_nonzero(t != PAD)
      lengths = {'encoder': (S, S), 'decoder': (T, T), 'cross': (T, S)}
      for kind, weights in maps.items():
        rows, columns = lengths[kind]
        arrays[f'{kind}/{i}'] = weights[:, i, :, :rows, :columns]
      arrays[f'source/{i}'] = _pieces(vocabularies.source, s[:S])
      arrays[f'target/{i}'] = _pieces(vocabularies.target, t[:T])
    return arrays


def tiles(weights: np.ndarray) -> np.ndarray:
  """Draws maps of attention side by side, a row per layer and a column per head.

  Args:
    weights: [layers, H, L, S], between 0 and 1.

  Returns:
    uint8 [height, width, 3]: white for 0 and black for 1, on a blue ground.
  """
  layers, H, L, S = weights.shape
  pixels = max(1, min(_PIXELS, _LARGEST // (H * S), _LARGEST // (layers * L)))
  maps = np.rint(255 * (1 - np.clip(weights, 0, 1))).astype(np.uint8)
  maps = maps.repeat(pixels, axis=2).repeat(pixels, axis=3)
  grid = np.empty((layers, H, L * pixels + _GAP, S * pixels + _GAP, 3), np.uint8)
  grid[:] = _GROUND
  grid[:, :, _GAP:, _GAP:] = maps[..., None]
  return grid.transpose(0, 2, 1, 3, 4).reshape(layers * grid.shape[2], -1, 3)


def _pieces(vocabulary, ids: np.ndarray) -> np.ndarray:
  pieces = vocabulary.pieces()
  return np.array([pieces[i] for i in ids])


def _entropy(weights: Array, ids: Array) -> tuple[Array, Array]:
  """Returns the summed entropy of the rows of words, and their number.

  Args:
    weights: [layers, B, H, L, S] attention.
    ids: [B, L] the words that attend; rows of padding are not counted.
  """
  entropy = jax.scipy.special.entr(weights).sum(axis=-1)  # [layers, B, H, L]
  is_word = (ids != PAD)[None, :, None]
  return (entropy * is_word).sum(), (is_word * jnp.ones_like(entropy)).sum()

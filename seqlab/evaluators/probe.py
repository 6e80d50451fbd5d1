"""Which source words the vector of a whole source still holds, by their position.

A linear probe predicts the piece at a position of the source from the encoder's last state
(Alain and Bengio, "Understanding intermediate layers using linear classifier probes", 2016,
https://arxiv.org/abs/1610.01644). It is fitted by ridge regression to the one-hot pieces,
which has a closed form, so that its result depends on the vectors alone. What words are
frequent at a position can be guessed without a vector: that accuracy is reported as well.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count
from seqlab.evaluators.resident import Resident, evaluation_batches
from seqlab.tasks.interface import Translates
from seqlab.types import EOS, PAD, Variables

_RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)  # relative to the mean variance of a feature


class Evaluator:
  """Accuracy of a linear probe, and of the most frequent piece, by source position.

  Attributes:
    arrays: 'right' and 'chance', whether each is right, bool [sources, positions].
    dtype: dtype of the model's matrix products.
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
    fit: str = 'train',
    shortest: Count = 10,
    longest: Count = 14,
    tokens: Count = 4096,
  ):
    """Puts both splits on the devices.

    Args:
      task: gives data and a model with a method `vector`.
      sharding: sharding of the rows of a batch.
      split: name of the split that the probe is measured on.
      fit: name of the split that it is fitted to.
      shortest: sources have at least so many pieces; each of the first ones is probed.
      longest: sources have at most so many pieces.
      tokens: number of source or target positions in a batch, at most.

    Raises:
      ValueError: the model has no vector of a source, or a split has no such source.
    """
    if not hasattr(task.model, 'vector'):
      raise ValueError(
        "evals: kind='probe' needs a model with one vector of the source, such as "
        f"model.kind='recurrent'; {type(task.model).__name__} has none"
      )
    if shortest > longest:
      raise ValueError(f'evals: shortest={shortest} exceeds longest={longest}')
    self.dtype = getattr(task.model, 'dtype', None)
    self._length = shortest
    self.metrics = tuple(
      f'{name}/{i}' for name in ('right', 'chance') for i in range(1, shortest + 1)
    )

    def vectors(variables, batch):
      return task.model.apply(variables, batch['source'], method='vector')

    self.arrays: dict[str, np.ndarray] = {}
    self._parts = {}
    for name in (fit, split):
      batches = evaluation_batches(task, name, sharding, tokens=tokens, shapes=2)
      pieces, chosen = _sources(task, name, shortest, longest)
      if not chosen.any():
        raise ValueError(
          f'evals: {name} has no source with {shortest} to {longest} pieces'
        )
      self._parts[name] = _Part(Resident(batches, sharding, vectors), pieces, chosen)
    self._fit, self._split = self._parts[fit], self._parts[split]

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    for part in self._parts.values():
      part.resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields, for each position i:

    `right/i`: accuracy of the probe for the piece at position i, from 1;
    `chance/i`: accuracy of the piece that is the most frequent one there in `fit`.
    """
    fitted, vectors = self._fit.vectors(variables), self._split.vectors(variables)
    hits = {'right': [], 'chance': []}
    for known, true in zip(self._fit.pieces.T, self._split.pieces.T, strict=True):
      hits['right'].append(fit_probe(fitted, known)(vectors) == true)
      hits['chance'].append(true == np.bincount(known).argmax())
    self.arrays = {name: np.stack(x, axis=1) for name, x in hits.items()}
    for name, of_sources in self.arrays.items():
      for i, share in enumerate(of_sources.mean(axis=0), start=1):
        yield f'{name}/{i}', float(share)


class _Part(NamedTuple):
  """The sources of a split that are probed.

  Attributes:
    resident: gives vectors of all lines.
    pieces: [n, positions] their first pieces.
    chosen: [lines] bool, which lines they are.
  """

  resident: Resident
  pieces: np.ndarray
  chosen: np.ndarray

  def vectors(self, variables: Variables) -> np.ndarray:
    """Returns the vectors of the sources that are probed, [n, D]."""
    vectors = np.stack(self.resident.by_line(self.resident.run(variables)))
    return vectors[self.chosen].astype(np.float64)


def _sources(
  task: Translates, split: str, shortest: int, longest: int
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the first pieces of sources of these lengths, and which lines they are."""
  store = task.stores(split)[0]
  lines = np.arange(len(store.lengths))
  ids = store.gather(lines, int(store.lengths.max()))
  lengths = ((ids != PAD) & (ids != EOS)).sum(axis=1)
  chosen = (lengths >= shortest) & (lengths <= longest)
  return ids[chosen][:, :shortest], chosen


def fit_probe(x: np.ndarray, pieces: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
  """Fits a probe: vectors [n, D], ids [n] -> a function from vectors to ids.

  The strength of the ridge is that with the best accuracy on the last fifth.
  """
  cut = max(1, len(x) * 4 // 5)
  scores = [
    np.mean(_ridge(x[:cut], pieces[:cut], ridge)(x[cut:]) == pieces[cut:])
    for ridge in _RIDGES
    if cut < len(x)
  ]
  best = _RIDGES[int(np.argmax(scores))] if scores else _RIDGES[-1]
  return _ridge(x, pieces, best)


def _ridge(x: np.ndarray, pieces: np.ndarray, strength: float):
  """Fits one-hot pieces by ridge regression with a bias."""
  ids, labels = np.unique(pieces, return_inverse=True)
  mean, centre = x.mean(axis=0), np.bincount(labels) / len(labels)
  products = (x - mean).T @ (x - mean)
  one_hot = np.zeros((len(x), len(ids)))
  one_hot[np.arange(len(x)), labels] = 1.0
  penalty = strength * max(np.trace(products) / len(products), 1e-12)
  weights = np.linalg.solve(
    products + penalty * np.eye(len(products)), (x - mean).T @ (one_hot - centre)
  )
  return lambda new: ids[((new - mean) @ weights + centre).argmax(axis=1)]

"""Distribution of the inputs of a Transformer's sublayers, to see how it drifts.

Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167, call the change of the
distribution of a layer's inputs during training internal covariate shift. With norms
before the sublayers, the result of a norm is the input of a sublayer; it is read as it is
in training, so that batch statistics and noise are those of a batch.
"""

from collections.abc import Iterator
import itertools
from pathlib import Path
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from seqlab.domains import Count
from seqlab.evaluators.resident import Resident, evaluation_batches, total
from seqlab.tasks.interface import Translates
from seqlab.types import PAD, Array, PyTree, Variables

Side = Literal['encoder', 'decoder']
_TEXTS = dict(zip(get_args(Side), ('source', 'target'), strict=True))


class Evaluator:
  """Mean and standard deviation of each feature of the inputs of each sublayer.

  Attributes:
    arrays: from the last run: `mean` and `deviation`, [layers * sublayers, D].
  """

  needs = (Translates,)
  compiles_ahead = True
  samples: tuple[str, ...] = ()
  metrics: tuple[str, ...] = ('mean', 'deviation')
  about = ''

  def __init__(
    self,
    task: Translates,
    sharding: NamedSharding,
    *,
    split: str,
    side: Side = 'encoder',
    tokens: Count = 1024,
    shapes: Count = 1,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data and a Transformer.
      sharding: sharding of the rows of a batch.
      split: name of the split.
      side: 'encoder' or 'decoder', whose sublayers are measured.
      tokens: number of source or target positions in a batch, at most.
      shapes: number of batch shapes.

    Raises:
      ValueError: the model has no norms before its sublayers.
    """
    if getattr(task.model, 'norm', None) != 'pre':
      raise ValueError(
        "evals: kind='inputs' reads the norms before sublayers: use "
        "model.kind='transformer' with model.norm='pre', or remove this evaluator"
      )
    self.arrays: dict[str, np.ndarray] = {}

    def function(variables: Variables, batch: PyTree) -> tuple[Array, Array, Array]:
      others = [name for name in variables if name != 'params']
      _, changed = task.model.apply(
        variables,
        batch['source'],
        batch['target'],
        train=True,
        hyper={},
        method='features',
        rngs={'dropout': _key(variables)},
        mutable=[*others, 'intermediates'],
        capture_intermediates=_is_norm,
      )
      norms = changed['intermediates'][side]
      # The last entry: a norm that calls that of its base class has two.
      x = jnp.concatenate(
        [norms[name]['__call__'][-1] for name in sorted(norms) if name[:5] == 'norm_']
      )  # [layers * sublayers, B, L, D]
      mask = (batch[_TEXTS[side]] != PAD)[None, ..., None]
      moments = [jnp.where(mask, x**n, 0.0).sum(axis=(1, 2)) for n in (1, 2)]
      return *moments, mask.sum()

    batches = evaluation_batches(task, split, sharding, tokens=tokens, shapes=shapes)
    self._resident = Resident(batches, sharding, function)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields the root mean square of the means, and the mean of the deviations."""
    first, second, count = total(self._resident.run(variables))
    mean = first / count
    deviation = np.sqrt(np.maximum(second / count - mean**2, 0.0))
    self.arrays = {'mean': mean, 'deviation': deviation}
    yield 'mean', float(np.sqrt(np.mean(mean**2)))
    yield 'deviation', float(np.mean(deviation))


def drift(run: Path, name: str) -> list[float]:
  """Returns how far the inputs of a run's sublayers moved between its evaluations.

  The mean of a feature moves by its change, in units of the standard deviation that it
  had before; a drift is the root mean square over features and sublayers.

  Args:
    run: folder of the run.
    name: name of the evaluator in the experiment.

  Returns:
    One number per evaluation, except for the first.
  """
  files = sorted((run / 'samples').glob(f'{name}-{"[0-9]" * 8}.npz'))
  moments = []
  for file in files:
    with np.load(file) as arrays:
      moments.append((arrays['mean'], arrays['deviation']))
  return [moved(*before, mean) for before, (mean, _) in itertools.pairwise(moments)]


def moved(mean: np.ndarray, deviation: np.ndarray, after: np.ndarray) -> float:
  """Returns how far means moved; see `drift`."""
  return float(np.sqrt(np.mean(((after - mean) / np.maximum(deviation, 1e-8)) ** 2)))


def _is_norm(module: object, method: str) -> bool:
  name = getattr(module, 'name', None) or ''
  return name.startswith('norm_') and method == '__call__'


def _key(variables: Variables) -> Array:
  """Returns a random key that depends on the variables, so that noise changes."""
  leaves = jax.tree.leaves(variables['params'])
  sums = jnp.float32(sum(jnp.sum(x, dtype=jnp.float32) for x in leaves))
  return jax.random.fold_in(
    jax.random.key(0), jax.lax.bitcast_convert_type(sums, jnp.uint32)
  )

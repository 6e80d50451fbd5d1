"""Word vectors by factorization: singular vectors of the PMI matrix."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
from pathlib import Path
import sys
from typing import Annotated, Any
import zipfile

import jax
from jax.sharding import Mesh
import numpy as np

from seqlab.config import call
from seqlab.domains import Count, Range, Signature
from seqlab.embeddings import svd
from seqlab.embeddings.vectors import Vectors
from seqlab.io import files
from seqlab.tasks.estimators.ppmi import PMITask
from seqlab.tasks.interface import Fitted
from seqlab.tasks.words import Text
from seqlab.types import Array, Variables


@dataclasses.dataclass(frozen=True)
class Factorization:
  """Options of the section `model`.

  Attributes:
    width: D, number of dimensions.
    block: B, number of vectors that are iterated together; fewer are, if the vocabulary
      is small.
    iterations: K; None takes so many that block x iterations is 2.5 x width.
    power: exponent of the singular values; see `embeddings.svd:embed`.
    output_vectors: see `embeddings.svd:embed`.
  """

  width: Count = 300
  block: Count = 32
  iterations: Count | None = None
  power: Annotated[float, Range(0)] = 0.5
  output_vectors: svd.OutputVectors = 'words'


class SingularVectors(PMITask):
  """Left singular vectors of the PMI matrix, weighted by the singular values.

  A step is an iteration of `embeddings.svd`. Each one adds a file to the folder, so
  that a fit that was interrupted continues with the iteration after the last file.
  """

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Reads the sections; see `PMITask`. `model` is for `Factorization`.

    Raises:
      ValueError: the iterations do not make as many vectors as model.width.
    """
    super().__init__(config, text)
    self._seed = config['seed']
    self._options = options = call(Factorization, config['model'], 'model')
    width = options.width
    default = -(-5 * width // (2 * options.block))
    self._iterations = options.iterations or default
    if self._iterations * options.block < width:
      raise ValueError(
        f'model.iterations is {self._iterations}; model.block x model.iterations must be '
        f'{width} or more, better {5 * width // 2}'
      )
    # A basis of V-vectors has at most V of them.
    self._block = min(options.block, self.words.size // self._iterations)
    if self._iterations * self._block < width:
      raise ValueError(
        f'model.width is {width}, and {self.words.size:,} words give '
        f'{self._iterations * self._block} vectors in {self._iterations} iterations: '
        'lower model.width, and model.iterations if it is set'
      )
    self._check_memory(2 * self._iterations * self._block)  # a basis and its images

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    return {**super().signatures(config), 'model': (Factorization,)}

  @property
  def report(self) -> dict[str, float]:
    """Counts of the data, and the bytes of the basis and its images."""
    basis = self._iterations * self._block * self.words.size
    return {**super().report, 'basis_bytes': 2 * 4 * basis}

  def fit(self, folder: Path, mesh: Mesh) -> Iterator[Fitted]:
    """Iterates until the basis is full, then factorizes; see `Estimator`."""
    if (folder / _RESULT).is_file():
      yield Fitted(self._iterations)
      return
    operator = svd.Operator.create(self.matrix, mesh)
    state = svd.start(
      jax.random.key(self._seed),
      self.matrix.shape,
      block=self._block,
      steps=self._iterations,
    )
    state = svd.shard(restore(state, folder), mesh)
    # Compiled before the first step, so that its time is that of the others.
    iterate = jax.jit(_iterate, donate_argnums=0).lower(state, operator).compile()
    first = int(state.step)
    yield Fitted(first, last_metrics(folder, first))
    for k in range(first, self._iterations):
      state, residual = iterate(state, operator)
      save(state, k, residual, folder)
      yield Fitted(k + 1, {'residual': float(residual)})
    finish = jax.jit(svd.finish, static_argnames='D')
    parts = finish(state, D=self._options.width)
    _write(folder / _RESULT, **dict(zip(_PARTS, parts, strict=True)))
    for k in range(self._iterations):  # the result needs them no longer
      (folder / _block_name(k)).unlink(missing_ok=True)

  def load(self, folder: Path) -> Variables:
    """Returns U [V, D], S [D] and V [V, D] as `fit` left them; see `Estimator`."""
    saved = _read(folder / _RESULT)
    if saved is None:
      raise ValueError(f'{folder / _RESULT} is damaged: delete it and train again')
    return {'params': saved}

  def vectors(self, variables: Variables) -> Vectors:
    """Returns a vector per word: its singular vectors, weighted by the values."""
    options = self._options
    return Vectors(
      self.words.words,
      np.asarray(
        svd.embed(
          *self.parts(variables),
          power=options.power,
          output_vectors=options.output_vectors,
        )
      ),
    )

  def parts(self, variables: Variables) -> tuple[Array, Array, Array]:
    """Returns U [V, D], S [D] and V [V, D], see `embeddings.svd:finish`."""
    return tuple(variables['params'][name] for name in _PARTS)


_RESULT = 'svd.npz'
_PARTS = ('words', 'values', 'contexts')


def _iterate(state: svd.Krylov, operator: svd.Operator) -> tuple[svd.Krylov, Array]:
  state = svd.iterate(state, operator)
  return state, svd.residual(state, operator)


def save(state: svd.Krylov, k: int, residual: Array, folder: Path) -> None:
  """Writes the vectors that iteration k added to the basis, and their images.

  An iteration changes nothing else, so the files grow by one block per iteration.
  """
  block = dict(basis=state.basis[k], images=state.images[k], residual=residual)
  _write(folder / _block_name(k), **block)


def last_metrics(folder: Path, step: int) -> dict[str, float]:
  """Returns the metrics of the last iteration whose file is in the folder."""
  if not step:
    return {}
  block = _read(folder / _block_name(step - 1)) or {}
  return {'residual': float(block['residual'])}


def restore(state: svd.Krylov, folder: Path) -> svd.Krylov:
  """Adds to a fresh state the iterations whose files are in the folder.

  A file that is damaged is reported, and iteration continues before it.
  """
  basis, images = np.array(state.basis), np.array(state.images)
  K, step = len(basis), 0
  while step < K and (folder / _block_name(step)).is_file():
    saved = _read(folder / _block_name(step))
    if saved is None or saved['basis'].shape != basis.shape[1:]:
      file = folder / _block_name(step)
      print(f'{file} is damaged: iteration {step + 1} is repeated', file=sys.stderr)
      break
    basis[step], images[step] = saved['basis'], saved['images']
    step += 1
  if not step:
    return state
  # The next iteration multiplies the image of the last block.
  return svd.Krylov(
    step=np.int32(step), block=images[step - 1], basis=basis, images=images
  )


def _block_name(k: int) -> str:
  return f'block-{k:04d}.npz'


def _write(file: Path, **arrays: Array) -> None:
  with files.replacing(file) as temporary, temporary.open('wb') as stream:
    np.savez(stream, **{name: np.asarray(array) for name, array in arrays.items()})


def _read(file: Path) -> dict[str, np.ndarray] | None:
  """Returns the arrays of a file by name; None if it is damaged."""
  try:
    with np.load(file) as arrays:
      return dict(arrays)
  except (ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None

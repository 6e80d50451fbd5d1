"""word2vec as gensim trains it: the baseline that the net here is compared with.

Řehůřek and Sojka 2010, https://radimrehurek.com/gensim. It reads the same rows of the
same text and returns the same two tables as `tasks.word2vec:WordPrediction`, so every
evaluator of that task works for it as well.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
import zipfile

from jax.sharding import Mesh
import numpy as np

from seqlab.data.store import TokenStore
from seqlab.data.windows import gather, sentences
from seqlab.domains import Count, Positive, Range, Signature
from seqlab.embeddings.objectives import Negative
from seqlab.embeddings.word2vec import SkipGram
from seqlab.io import files
from seqlab.tasks.interface import Fitted
from seqlab.tasks.word2vec import WindowTask
from seqlab.tasks.words import Text
from seqlab.types import Variables

if TYPE_CHECKING:
  from gensim.models import Word2Vec

_OPTIONS = {  # of the section `model`, that only gensim reads
  'epochs': Count,
  'workers': Count,
  'alpha': Annotated[float, Positive],
  'min_alpha': Annotated[float, Range(0)],
}
_FILE = 'tables.npz'


class GensimBaseline(WindowTask):
  """gensim's skip-gram or CBOW with negative sampling, trained in one step."""

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Reads the sections; see `WindowTask`.

    Args:
      config: a resolved experiment. Its section `model` may have four more options:
        `epochs` (5); `workers` (1), threads of gensim, of which more than one make the
        result depend on chance; and `alpha` (0.025) and `min_alpha` (0), between which
        the learning rate falls linearly. The sizes of batches in `batching` are
        ignored.
      text: the text and its words.

    Raises:
      ValueError: the net is one that gensim does not train.
    """
    model = dict(config['model'])
    options = {name: model.pop(name) for name in _OPTIONS if name in model}
    super().__init__({**config, 'model': model}, text)
    net = self.net
    is_same = isinstance(net.objective, Negative) and net.dynamic
    if not is_same or net.keep_gaps or net.parts is not None:
      raise ValueError(
        "gensim is compared with model.objective.kind='negative', model.dynamic=True "
        'and neither batching.keep_gaps nor model.subwords, which is how it trains'
      )
    self._epochs, self._workers = options.get('epochs', 5), options.get('workers', 1)
    self._options = options_of(self) | {
      'alpha': options.get('alpha', 0.025),
      'min_alpha': options.get('min_alpha', 0.0),
      'sample': self._batching.get('subsample', 1e-3),
      'seed': config['seed'],
    }

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    signatures = super().signatures(config)
    return {**signatures, 'model': (_OPTIONS, *signatures['model'])}

  @property
  def report(self) -> dict[str, float]:
    """Counts of the text."""
    return {'vocabulary': self.words.size, 'words': self.store.total}

  def fit(self, folder: Path, mesh: Mesh) -> Iterator[Fitted]:
    """Trains all epochs in one step; see `Estimator`."""
    del mesh
    file = folder / _FILE
    yield Fitted(int(file.is_file()))
    if not file.is_file():
      with files.replacing(file) as temporary, temporary.open('wb') as stream:
        np.savez(stream, **self.train())
      yield Fitted(1)

  def train(self) -> dict[str, np.ndarray]:
    """Returns both tables of gensim's net, `words` and `contexts` [V, D]."""
    rows = rows_of(self.store, sentences(self.store, self.heldout)[0])
    size = self.net.width, self._workers
    return trained(self.words.size, *rows, *size, self._options, epochs=self._epochs)

  def load(self, folder: Path) -> Variables:
    """Returns the tables that `fit` left in its folder; see `Estimator`."""
    try:
      with np.load(folder / _FILE) as tables:
        return {'params': dict(tables)}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
      raise ValueError(
        f'{folder / _FILE} is damaged ({error}): delete it and train again'
      ) from None


def options_of(task: WindowTask) -> dict[str, Any]:
  """Returns gensim's options for the net of a task, which samples negatives."""
  net, objective = task.net, task.net.objective
  return {
    'window': net.window,
    'sg': int(isinstance(net, SkipGram)),
    'sample': 1e-3,
    'negative': objective.negatives,
    'ns_exponent': objective.power,
  }


def rows_of(store: TokenStore, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns the ids of sentences, and the offset of each.

  Args:
    store: the text.
    bounds: [n, 2] first and past-the-last position, see `data.windows:sentences`.
  """
  ids, sizes = gather(np.asarray(store.ids), bounds)
  return ids, np.concatenate([[0], np.cumsum(sizes)])


def start(
  ids: np.ndarray, offsets: np.ndarray, D: int, workers: int, options: dict[str, Any]
) -> tuple['Word2Vec', list[list[str]]]:
  """Returns a fresh net of gensim, and sentences for it: words are ids in digits.

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
  """Trains gensim's net, and returns its tables `words` and `contexts` [V, D].

  Words are in the order of their ids; rows of words that do not occur are zero.
  """
  net, rows = start(ids, offsets, D, workers, options)
  net.train(rows, total_examples=net.corpus_count, epochs=epochs)
  tables = {k: np.zeros((V, D), np.float32) for k in ('words', 'contexts')}
  row = np.array(net.wv.index_to_key, np.int64)
  tables['words'][row], tables['contexts'][row] = net.wv.vectors, net.syn1neg
  return tables

"""What tasks that make word vectors share: a text, its words, and vectors at the end."""

from collections.abc import Mapping, Sequence
import functools
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np

from seqlab.config import call, check_keys
from seqlab.data.text_store import TextStore, cached_words, encode_text
from seqlab.data.windows import Heldout
from seqlab.domains import Range, Signature
from seqlab.embeddings.vectors import Vectors
from seqlab.io import files
from seqlab.tasks.interface import Task
from seqlab.text.download import cache_dir
from seqlab.text.plain import PlainText, open_text
from seqlab.text.word2phrase import find_phrases
from seqlab.text.words import WordCounts, count_words, keep_probability
from seqlab.text.workers import machine_memory
from seqlab.types import Variables

THIN = {  # options of a section, for `keep_probability`
  'subsample': Annotated[float, Range(0)],
  'formula': Literal['word2vec', 'levy'],
}


class WordTask(Task):
  """A text and its words.

  Attributes:
    corpus: the text.
    words: its vocabulary, the most frequent word first; saved in the run's folder.
    sections: of the experiment, that are read.
    hyper: traced hyperparameters besides the learning rate; none.
  """

  sections: tuple[str, ...] = ('corpus', 'vocabulary', 'batching', 'model')
  hyper: tuple[str, ...] = ()

  def __init__(self, config: Mapping, vocabulary: Path):
    """Opens the text; counts its words, or loads them.

    Args:
      config: a resolved experiment. Its `corpus` is for `open_text`, and may have
        `heldout`: every so many-th line is not learnt from. Its `vocabulary` is for
        `count_words`, and may have `phrases`, a section for `find_phrases`.
      vocabulary: folder of the words; made if it is not there.

    Raises:
      ValueError: a section is missing, or what is in it does not fit.
    """
    for section in self.sections:
      if section not in config:
        raise ValueError(f'the experiment has no section {section!r}')
    options = dict(config['corpus'])
    self.heldout = options.pop('heldout', 0)
    self.corpus: PlainText = call(open_text, options, 'corpus')
    # Of the text that the words were counted in.
    self._noted = vocabulary / 'text.sha256'
    if (vocabulary / 'words.tsv').exists():
      self.words = WordCounts.load(vocabulary)
    else:
      self.words = self._count(dict(config['vocabulary']))
      vocabulary.mkdir(parents=True, exist_ok=True)
      files.write_text(self._noted, f'{self.corpus.fingerprint}\n')
      self.words.save(vocabulary)

  @classmethod
  def from_config(cls, config: Mapping, folder: Path) -> 'WordTask':
    """Opens the text; counts its words, or loads them from `folder`."""
    return cls(config, folder)

  @classmethod
  def signatures(cls, config: Mapping) -> dict[str, Sequence[Signature]]:
    """Section -> what its options are for; see `train.checks`."""
    del config
    return {
      'corpus': ({'heldout': Heldout}, open_text),
      'vocabulary': ({'phrases': Mapping | None}, count_words),
    }

  def _count(self, options: dict) -> WordCounts:
    phrases = options.pop('phrases', None)
    if phrases is not None:
      phrases = call(find_phrases, phrases, 'vocabulary.phrases', corpus=self.corpus)
    known = ('min_count', 'max_size', 'max_types')
    check_keys(options, known, where='vocabulary.')
    found = {} if phrases is None else dict(phrases=phrases)
    return cached_words(self.corpus, cache_dir(), **options, **found)

  @functools.cached_property
  def store(self) -> TextStore:
    """The text as ids.

    Raises:
      ValueError: it is not the text that the words were counted in.
    """
    noted = self._noted.read_text('utf-8').strip() if self._noted.is_file() else None
    if noted not in (None, self.corpus.fingerprint):
      raise ValueError(
        f'{self.corpus.name} is not the text any more that this run began with: bring '
        f'that back, take another --workdir, or delete {self._noted} to go on all the same'
      )
    if noted is None:  # of an older run, or deleted to go on
      files.write_text(self._noted, f'{self.corpus.fingerprint}\n')
    return encode_text(self.corpus, self.words, cache_dir())

  def _keep(self, options: Mapping, where: str) -> np.ndarray:
    """[V] float32, how likely a place of each word is kept, see `keep_probability`.

    Args:
      options: `subsample`, the threshold, and `formula`; either may be left out.
      where: the experiment's section they are from.
    """
    counts = self.words.counts
    thin = {'threshold': options.get('subsample', 0.0)}
    thin |= {k: options[k] for k in ('formula',) if k in options}
    more = dict(counts=counts, total=int(counts.sum()))
    return call(keep_probability, thin, where, **more)

  def _check_room(self, columns: float) -> None:
    """Raises ValueError if V rows of so many float32 are more than there is memory."""
    if columns < 1:
      raise ValueError('model.width must be 1 or more')
    need, has = 4.0 * self.words.size * columns, _memory()
    if need > has:
      raise ValueError(
        f'the tables of {self.words.size:,} words take {need / 2**30:,.1f} GiB, and '
        f'there are {has / 2**30:,.1f} GiB of memory on {jax.device_count()} devices: '
        'lower vocabulary.max_size or model.width'
      )

  def vectors(self, variables: Variables) -> Vectors:
    """A vector for each word."""
    raise NotImplementedError


def _memory() -> float:
  """Bytes of all devices; on a CPU, where they share it, of the machine."""
  if jax.devices()[0].platform == 'cpu':
    return float(machine_memory() * jax.process_count())
  stats = jax.local_devices()[0].memory_stats() or {}
  return float(stats.get('bytes_limit', float('inf'))) * jax.device_count()

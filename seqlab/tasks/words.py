"""The common part of tasks of word vectors: a text, its words, a vector per word."""

from collections.abc import Mapping, Sequence
import functools
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import jax
import numpy as np

from seqlab.config import call, check_keys, check_sections
from seqlab.data.text_store import TextStore, cached_words, encode_text
from seqlab.data.windows import Heldout
from seqlab.domains import Range, Signature
from seqlab.io import files
from seqlab.pieces import options_of
from seqlab.text.download import cache_dir
from seqlab.text.plain import PlainText, open_text
from seqlab.text.word2phrase import find_phrases
from seqlab.text.words import WordCounts, count_words, keep_probability
from seqlab.text.workers import machine_memory

# Options of the section that subsamples frequent words, for `keep_probability`.
SUBSAMPLING = {
  'subsample': Annotated[float, Range(0)],
  'formula': Literal['word2vec', 'levy'],
}


class Text:
  """The text of a run and its words. Each part is opened when it is first used.

  So a run can be evaluated on a machine that does not have the text.
  """

  def __init__(self, config: Mapping[str, Any], folder: Path):
    """Opens nothing yet.

    Args:
      config: a resolved experiment. Its section `corpus` is for `open_text`, and may
        have `heldout`. Its section `vocabulary` is for `count_words`, and may have
        `phrases`, a section for `find_phrases`.
      folder: the folder `vocabulary` of the run.
    """
    self._options = {k: v for k, v in config['corpus'].items() if k != 'heldout'}
    self._vocabulary = dict(config['vocabulary'])
    self._folder = folder
    self._record = folder / 'text.sha256'  # digest of the text that words come from

  @functools.cached_property
  def corpus(self) -> PlainText:
    """The lines of the text."""
    return call(open_text, self._options, 'corpus')

  @functools.cached_property
  def words(self) -> WordCounts:
    """The vocabulary, most frequent word first, from the folder if it is there."""
    if (self._folder / 'words.tsv').exists():
      return WordCounts.load(self._folder)
    words = self._count()
    self._folder.mkdir(parents=True, exist_ok=True)
    files.write_text(self._record, f'{self.corpus.fingerprint}\n')
    words.save(self._folder)
    return words

  def _count(self) -> WordCounts:
    options = dict(self._vocabulary)
    phrases = options.pop('phrases', None)
    if phrases is not None:
      options['phrases'] = call(
        find_phrases, phrases, 'vocabulary.phrases', corpus=self.corpus
      )
    check_keys(
      self._vocabulary,
      ('min_count', 'max_size', 'max_types', 'phrases'),
      where='vocabulary.',
    )
    return cached_words(self.corpus, cache_dir(), **options)

  @functools.cached_property
  def store(self) -> TextStore:
    """The text as ids of the words.

    Raises:
      ValueError: it is not the text that the words were counted in.
    """
    known = self._record.read_text('utf-8').strip() if self._record.is_file() else None
    if known not in (None, self.corpus.fingerprint):
      raise ValueError(
        f'{self.corpus.name} has changed since this run started: restore the old text, '
        f'use another --workdir, or delete {self._record} to continue with the new text'
      )
    if known is None:  # the run is older than the record, or the user deleted it
      files.write_text(self._record, f'{self.corpus.fingerprint}\n')
    return encode_text(self.corpus, self.words, cache_dir())


class WordTask:
  """A text and its words.

  Attributes:
    sections: sections of the experiment that the task reads.
    hyper: traced hyperparameters besides the learning rate; none.
    words: the vocabulary, most frequent word first.
    heldout: every so many-th line is not learnt from; 0 if all are.
  """

  sections: tuple[str, ...] = ('corpus', 'vocabulary', 'batching', 'model')
  hyper: tuple[str, ...] = ()

  def __init__(self, config: Mapping[str, Any], text: Text):
    """Keeps the words of the text.

    Args:
      config: a resolved experiment.
      text: gives the words, and the text once it is needed.
    """
    self.words, self._text = text.words, text
    self.heldout: int = config['corpus'].get('heldout', 0)

  @classmethod
  def from_config(cls, config: Mapping[str, Any], folder: Path) -> Self:
    """Opens the text; counts its words, or loads them from the folder.

    Args:
      config: a resolved experiment; see `Text`.
      folder: the folder `vocabulary` of the run.

    Raises:
      ValueError: a section is missing, or an option in it does not fit.
    """
    check_sections(config, cls.sections)
    text = Text(config, folder)
    text.corpus  # noqa: B018  # a text that is missing is an error before anything else
    return cls(config, text)

  @classmethod
  def from_shapes(cls, config: Mapping[str, Any]) -> Self | None:
    """Returns None: the number of words is known only after the text is read."""
    del config

  @classmethod
  def restore(cls, config: Mapping[str, Any], folder: Path) -> Self:
    """Loads the words of a run that exists; the text need not be there.

    Raises:
      FileNotFoundError: the run has no words yet.
    """
    if not (folder / 'words.tsv').exists():
      raise FileNotFoundError(
        f'there are no words in {folder} yet: train the run first'
      )
    return cls(config, Text(config, folder))

  @classmethod
  def signatures(cls, config: Mapping[str, Any]) -> dict[str, Sequence[Signature]]:
    """Returns section -> functions that take its options; see `train.checks`."""
    del config
    return {
      'corpus': ({'heldout': Heldout}, open_text),
      'vocabulary': (
        {'phrases': Mapping | None},
        options_of(count_words, ('corpus',)),
      ),
    }

  @property
  def corpus(self) -> PlainText:
    """The lines of the text."""
    return self._text.corpus

  @property
  def store(self) -> TextStore:
    """The text as ids; see `Text.store`."""
    return self._text.store

  def _keep_probability(self, options: Mapping[str, Any], where: str) -> np.ndarray:
    """Returns the probability that an occurrence of each word is kept, [V] float32.

    Args:
      options: `subsample`, the threshold, and `formula`, see `keep_probability`; either
        may be left out.
      where: the section of the experiment that has them.
    """
    counts = self.words.counts
    chosen = {'threshold': options.get('subsample', 0.0)}
    chosen |= {k: options[k] for k in ('formula',) if k in options}
    total = int(counts.sum())
    return call(keep_probability, chosen, where, counts=counts, total=total)

  def _check_memory(self, columns: float) -> None:
    """Raises ValueError if V rows of so many float32 do not fit in the memory."""
    if columns < 1:
      raise ValueError('model.width must be 1 or more')
    needed, available = 4.0 * self.words.size * columns, _memory()
    if needed > available:
      raise ValueError(
        f'the tables of {self.words.size:,} words take {needed / 2**30:,.1f} GiB, and '
        f'there are {available / 2**30:,.1f} GiB of memory on {jax.device_count()} '
        'devices: lower vocabulary.max_size or model.width'
      )


def check_training_split(split: str, options: Mapping[str, Any]) -> None:
  """Checks that batches of word vectors are asked for training.

  Raises:
    ValueError: it is another split, or there are `options`, which evaluation passes.
  """
  if split != 'train':
    raise ValueError(
      f"the text has batches of the split 'train' only, not of {split!r}"
    )
  if options:
    raise ValueError(
      f'a text of word vectors has no batches to evaluate on ({", ".join(options)}): '
      "use an evaluator of vectors, such as kind='similarity', or kind='heldout'"
    )


def _memory() -> float:
  """Returns the bytes of memory of all devices, or of the machine for CPUs."""
  if jax.devices()[0].platform == 'cpu':
    return float(machine_memory() * jax.process_count())
  stats = jax.local_devices()[0].memory_stats() or {}
  return float(stats.get('bytes_limit', float('inf'))) * jax.device_count()

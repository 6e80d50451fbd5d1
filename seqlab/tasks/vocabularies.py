"""The vocabularies of a run's corpus, in the run's folder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from seqlab.config import call
from seqlab.text.corpora import Corpus
from seqlab.text.inputs import Inputs
from seqlab.text.vocabulary import Vocabularies, build_vocabularies, described


def make_vocabularies(
  config: Mapping[str, Any],
  corpus: Corpus,
  folder: Path,
  check: Callable[[Vocabularies], None],
) -> Vocabularies:
  """Makes the vocabularies of a corpus, and saves them in `folder`.

  Args:
    config: an experiment, whose section `vocabulary` is read.
    corpus: text to learn from.
    folder: folder of the vocabularies.
    check: raises ValueError if the task has no use for them.
  """
  options = dict(config['vocabulary'])
  vocabularies = call(build_vocabularies, options, 'vocabulary', corpus=corpus)
  check(vocabularies)
  vocabularies.save(folder, described(options, corpus))
  return vocabularies


def load_vocabularies(
  config: Mapping[str, Any], corpus: Corpus, folder: Path
) -> tuple[Vocabularies, Inputs]:
  """Loads the vocabularies of a run, with the record of the text that it began with.

  Raises:
    FileNotFoundError: the folder holds no vocabularies.
    ValueError: they are not those that the run was trained with.
  """
  inputs = Inputs(folder.parent)
  vocabularies = Vocabularies.load(folder, described(config['vocabulary'], corpus))
  inputs.check_vocabularies(vocabularies)
  return vocabularies, inputs

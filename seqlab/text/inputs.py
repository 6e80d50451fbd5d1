"""The text and the vocabularies that a run started with, by their digests.

A run may be stopped and resumed for weeks. The files that its
experiment names may be replaced in the meantime, and no checkpoint would show it.
"""

from collections.abc import Iterable, Mapping
import json
from pathlib import Path
from typing import Any

from seqlab.io.files import write_text
from seqlab.text.corpora import Corpus
from seqlab.text.vocabulary import Vocabularies

NAME = 'inputs.json'


class Inputs:
  """The record `inputs.json` of a run's folder."""

  def __init__(self, folder: Path):
    """Reads nothing yet; there need not be a record."""
    self._path = Path(folder) / NAME

  def forget(self) -> None:
    """Removes the record, so that the run resumes with the present text."""
    self._path.unlink(missing_ok=True)

  def check_vocabularies(self, vocabularies: Vocabularies) -> None:
    """Raises ValueError if the run was trained with other vocabularies."""
    known = self._read().get('vocabularies', {})
    for side, digest in _digests(vocabularies).items():
      if known.get(side, digest) != digest:
        raise ValueError(
          f'the {side} vocabulary in {self._path.parent} is not the one that this run '
          f'was trained with: its ids belong to other tokens. Restore its files, or '
          f'delete {self._path} if you are sure'
        )

  def check(
    self, corpus: Corpus, splits: Iterable[str], vocabularies: Vocabularies
  ) -> None:
    """Compares splits with the record, and adds those that are not in it yet.

    Args:
      corpus: gives the text.
      splits: names of its splits.
      vocabularies: vocabularies of the run, which are recorded too.

    Raises:
      ValueError: the text of a split differs from the record, which is not changed
        then.
    """
    record = self._read()
    known: dict[str, Any] = record.get('text', {})
    current = {
      split: {'sha256': corpus.fingerprint(split), 'files': corpus.files(split)}
      for split in dict.fromkeys(splits)
    }
    for split, now in current.items():
      then = known.get(split, now)
      if then['sha256'] != now['sha256']:
        raise ValueError(
          f'the text of split {split!r} of corpus {corpus.name} is not the one that '
          f'this run started with ({_difference(then, now)}): restore that text, use '
          f'another --workdir, or --force to continue with the text as it is now'
        )
    record = {'text': {**known, **current}, 'vocabularies': _digests(vocabularies)}
    if record != self._read():
      write_text(self._path, json.dumps(record, indent=2, ensure_ascii=False) + '\n')

  def _read(self) -> dict[str, Any]:
    if not self._path.is_file():
      return {}
    try:
      record = json.loads(self._path.read_text('utf-8'))
      if isinstance(record, dict):
        return record
    except ValueError:
      pass
    raise ValueError(
      f'{self._path} is damaged: delete it, if the text and the vocabulary are those '
      'that the run started with'
    )


def _digests(vocabularies: Vocabularies) -> dict[str, str]:
  return {side: v.fingerprint for side, v in vocabularies.sides.items()}


def _difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Returns what changed, by the names of files."""
  old, new = then.get('files', {}), now['files']
  changed = [file for file in new if old.get(file, new[file]) != new[file]]
  others = [file for file in new if file not in old]
  if changed:
    return f'changed: {", ".join(changed)}'
  if others and sorted(old.values()) != sorted(new.values()):
    return f'other files: {", ".join(others)}'
  return 'it is read by other options, or by another version of this program'

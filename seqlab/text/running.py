"""Running text: a corpus whose line ends belong to the text, for language models.

A line is followed by EOS when it is encoded, as everywhere (`data.store`). In running
text EOS is therefore the line end, a token like any other: `<eos>` of the Penn Treebank
(Mikolov et al. 2010), and the newline of a text of characters.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import os
from pathlib import Path
from typing import Annotated, Any

from seqlab.config import suggest
from seqlab.domains import Range, check
from seqlab.text.download import cache_dir, download
from seqlab.text.lines import is_blank, read_bytes, read_lines
from seqlab.text.remote import fetch, is_remote

_FORMAT = 1  # increment it when the same files are read differently

Share = Annotated[float, Range(0, 1, exclude_high=True)]
_Paths = str | Path | Sequence[str | Path]


class RunningText:
  """Text in one language with its blank lines; see `text.corpora.Corpus`.

  Attributes:
    name: name of the corpus, for messages.
    sides: {'text': language code}.
    convention: 'none'.
    splits: names of its splits.
  """

  convention = 'none'

  def __init__(
    self,
    *,
    files: _Paths | Mapping[str, _Paths],
    name: str = 'files',
    text: str = 'und',
    valid: Share = 0.0,
    test: Share = 0.0,
  ):
    """Reads nothing yet.

    Args:
      files: split -> a file or several, whose text follows one another; or the files of
        one text, which `valid` and `test` divide. Plain or gzipped, on a disk or in a
        bucket (gs://, s3://; brought into the cache once).
      name: name of the corpus, for messages.
      text: language code.
      valid: share of the characters, at the end of one text, that are the split
        'valid'.
      test: share of the characters after these that are the split 'test'.

    Raises:
      ValueError: an option is wrong.
    """
    check(RunningText, dict(name=name, text=text, valid=valid, test=test), 'corpus.')
    shares = {'valid': valid, 'test': test}
    if not hasattr(files, 'items'):
      files = _as_paths('corpus.files', files)
      if valid + test >= 1:
        raise ValueError('corpus.valid and corpus.test leave nothing to train on')
      files = {'train': files, **{k: files for k, share in shares.items() if share}}
    elif valid or test:
      raise ValueError(
        'corpus.valid and corpus.test divide one text: name it in corpus.files, as in '
        "files='text.txt', or leave them out"
      )
    self.name, self.sides = name, {'text': text}
    self._files = {
      split: _as_paths(f'corpus.files.{split}', given) for split, given in files.items()
    }
    self._shares = shares if valid or test else {}

  @property
  def splits(self) -> tuple[str, ...]:
    """Names of the splits."""
    return tuple(self._files)

  def read(self, split: str) -> tuple[list[str]]:
    """Returns the lines of a split, blank ones too; a last line without an end is one.

    Raises:
      ValueError: there is no such split, its text is not UTF-8, or it is blank.
      FileNotFoundError: a file is missing.
      DownloadError: a file could not be downloaded.
    """
    lines = [line for path in self._paths(split) for line in read_lines(path)]
    if self._shares:
      lines = self._part(split, '\n'.join([*lines, ''])).removesuffix('\n').split('\n')
    if all(map(is_blank, lines)):
      raise ValueError(f'split {split!r} of corpus {self.name} is blank')
    return (lines,)

  def _part(self, split: str, text: str) -> str:
    """Returns the characters of a split of a text that the shares divide."""
    valid, test = self._shares['valid'], self._shares['test']
    first, second = (int(len(text) * x) for x in (1 - valid - test, 1 - test))
    ends = {'train': (0, first), 'valid': (first, second), 'test': (second, None)}
    return text[slice(*ends[split])]

  def skipped(self, split: str) -> int:
    """Returns 0: no line is left out."""
    del split
    return 0

  def fingerprint(self, split: str) -> str:
    """Returns the sha256 of all that decides what `read` returns. Raises as `read`."""
    hashes = [*self.files(split).values()]
    described = [_FORMAT, split, *self.sides.values(), self._shares, *hashes]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()

  def files(self, split: str) -> dict[str, str]:
    """Returns the files of a split, with the sha256 of their text. Raises as `read`."""
    paths = self._paths(split)
    return {str(path): hashlib.sha256(read_bytes(path)).hexdigest() for path in paths}

  def inputs(self) -> list[Path]:
    """Returns files on this machine that it may read; none of them may be replaced."""
    given = (path for paths in self._files.values() for path in paths)
    return [Path(path).expanduser() for path in given if not is_remote(path)]

  def _paths(self, split: str) -> list[Path]:
    if split not in self._files:
      raise ValueError(
        f'corpus {self.name} has no split {split!r}{suggest(split, self._files)} '
        f'(it has: {", ".join(self._files)})'
      )
    return [self._find(split, path) for path in self._files[split]]

  def _find(self, split: str, given: str | Path) -> Path:
    """Returns the path of a file on this machine."""
    path = fetch(given) if is_remote(given) else Path(given).expanduser()
    if not path.is_file():
      raise FileNotFoundError(
        f'corpus.files.{split}: there is no file {path}; correct the path (relative '
        f'paths start from {Path.cwd()})'
      )
    return path


def _as_paths(where: str, given: Any) -> tuple[str | Path, ...]:
  """Returns the files that an option names, of which it gives one or several."""
  if isinstance(given, str | Path):
    return (given,)
  paths = tuple(given) if isinstance(given, Sequence) else ()
  if not paths or any(not isinstance(path, str | Path) for path in paths):
    raise ValueError(f'{where} is {given!r}; give names of files')
  return paths


class TinyShakespeare(RunningText):
  """Parts of Shakespeare's plays, 1,115,394 characters (Karpathy 2015, char-rnn).

  https://karpathy.github.io/2015/05/21/rnn-effectiveness. As in nanoGPT, the first 90 %
  of the characters are 'train', and the rest is 'valid'.
  """

  def __init__(self, *, text: str = 'en'):
    """Takes the language code."""
    super().__init__(files='input.txt', name='tinyshakespeare', text=text, valid=0.1)

  def inputs(self) -> list[Path]:
    """See `RunningText.inputs`."""
    return [path for path in self._places() if path.is_file()]

  def _places(self) -> list[Path]:
    """Returns the paths at which the text may be."""
    user_folder = Path(os.environ.get('SEQLAB_DATA') or os.devnull, self.name)
    cached = cache_dir() / 'corpora' / self.name / 'input.txt'
    return [user_folder / 'input.txt', user_folder / 'input.txt.gz', cached]

  def _find(self, split: str, given: str | Path) -> Path:
    del split, given
    *users, cached = self._places()
    for path in users:
      if path.is_file():
        return path
    return download(_TINY_SHAKESPEARE, cached, sha256=_TINY_SHAKESPEARE_SHA256)


_TINY_SHAKESPEARE = (
  'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/'
  'input.txt'
)
_TINY_SHAKESPEARE_SHA256 = (
  '86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed'
)

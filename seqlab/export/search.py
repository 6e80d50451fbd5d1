"""Calls an exported search: ids of sentences to the ids and scores of hypotheses.

    python search.py < ids.txt    # ids of a sentence per line, with spaces between them

It needs JAX, NumPy and flatbuffers only. `search.json` in the same folder describes the
programs, and README.md says how a text becomes ids.
"""

from collections.abc import Iterator, Sequence
import functools
import json
from pathlib import Path
import sys

import jax
import jax.export
import numpy as np

Hypothesis = tuple[list[int], float]  # ids without EOS, and score


class Search:
  """The search in a folder.

  Attributes:
    about: the content of `search.json`.
  """

  def __init__(self, folder: str | Path = Path(__file__).parent):
    """Loads the weights; a program is loaded and compiled when it is first needed.

    Args:
      folder: the folder that `seqlab export` wrote.
    """
    self._folder = Path(folder)
    self.about = json.loads((self._folder / 'search.json').read_bytes())
    self._tokens = json.loads((self._folder / 'tokens.json').read_bytes())
    with np.load(self._folder / 'weights.npz') as weights:
      self._weights = jax.device_put(dict(weights))
    self._end = self.about['special_ids']['end']
    self._program = functools.cache(self._load)

  def __call__(self, sentences: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
    """Returns the hypotheses of each sentence, best first.

    Args:
      sentences: ids of each sentence, without EOS. One without ids has one hypothesis
        without ids, with score 0.

    Raises:
      ValueError: a sentence is longer than the longest program, or has an id that no
        token has.
    """
    self._check_ids(sentences)
    results: list[list[Hypothesis]] = [[([], 0.0)] for _ in sentences]
    for shape, rows in self._batches([len(ids) + 1 for ids in sentences]):
      source = np.zeros((shape['batch'], shape['source']), np.int32)
      length = np.zeros(shape['batch'], np.int32)
      for row, i in enumerate(rows):
        length[row] = len(sentences[i]) + 1
        source[row, : length[row]] = [*sentences[i], self._end]
      outputs = self._program(shape['file'])(self._weights, source, length)
      for i, *output in zip(rows, *map(np.asarray, outputs), strict=False):
        results[i] = self._hypotheses(*output)
    return results

  def _check_ids(self, sentences: Sequence[Sequence[int]]) -> None:
    known = len(self._tokens['source'])  # JAX would read an id above it as the last one
    for i, ids in enumerate(sentences):
      if unknown := [x for x in ids if not 0 <= x < known]:
        raise ValueError(
          f'sentence {i} has the id {unknown[0]}: ids are from 0 to {known - 1}'
        )

  def text(self, ids: Sequence[int]) -> str:
    """Returns the text of an output."""
    written = ''.join(self._tokens['target_bytes'][i] for i in ids)
    text = written.encode('latin-1').decode('utf-8', 'replace').replace('\n', ' ')
    separator = self._tokens['separator']
    return text.strip(' ') if separator is None else text.removeprefix(separator)

  def _hypotheses(
    self, tokens: np.ndarray, scores: np.ndarray, lengths: np.ndarray
  ) -> list[Hypothesis]:
    each = zip(tokens.tolist(), scores.tolist(), lengths.tolist(), strict=True)
    return [(ids[: n - 1], score) for ids, score, n in each if np.isfinite(score)]

  def _batches(self, lengths: Sequence[int]) -> Iterator[tuple[dict, list[int]]]:
    """Yields the shape of each batch, and the numbers of its sentences.

    A sentence is in the shortest rows that it fits into. The last batch of these rows
    is the smallest that holds what is left.
    """
    shapes = self.about['programs']
    longest = max(shape['source'] for shape in shapes)
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
      if length > longest:
        raise ValueError(
          f'sentence {i} has {length - 1:,} ids, and the longest program reads '
          f'{longest - 1:,}: divide it, or export with larger --lengths'
        )
      if length > 1:
        fitting = (x['source'] for x in shapes if x['source'] >= length)
        groups.setdefault(min(fitting), []).append(i)
    for source, rows in sorted(groups.items()):
      sizes = {x['batch']: x for x in shapes if x['source'] == source}
      while rows:
        size = min((n for n in sizes if n >= len(rows)), default=max(sizes))
        yield sizes[size], rows[:size]
        rows = rows[size:]

  def _load(self, file: str) -> jax.stages.Wrapped:
    data = bytearray((self._folder / file).read_bytes())
    return jax.jit(jax.export.deserialize(data).call)


def main() -> None:
  """Prints the best translation of each line of ids on standard input."""
  search = Search()
  sentences = [[int(word) for word in line.split()] for line in sys.stdin]
  for hypotheses in search(sentences):
    print(search.text(hypotheses[0][0]))


if __name__ == '__main__':
  main()

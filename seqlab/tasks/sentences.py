"""Sentences in batches of few shapes, for what is compiled when the first one comes."""

from collections.abc import Iterator, Sequence
import itertools

import numpy as np

from seqlab.text.vocabulary import Vocabulary
from seqlab.types import EOS, PAD


def encode_lines(vocabulary: Vocabulary, lines: Sequence[str]) -> list[np.ndarray]:
  """Ids of each line, [L], EOS at the end."""
  flat, offsets = vocabulary.encode(lines)
  return [np.append(flat[a:b], EOS) for a, b in itertools.pairwise(offsets)]


def batches_of(
  lengths: dict[int, int], cells: int
) -> Iterator[tuple[list[int], tuple[int, int]]]:
  """Batches sorted by length: each shape is compiled, which takes longer than padding.

  Args:
    lengths: number of a sentence -> its length.
    cells: positions in a batch, at most.

  Yields:
    Numbers of the sentences in a batch, and its shape (B, L).
  """
  order = sorted(lengths, key=lengths.__getitem__)
  start = 0
  while start < len(order):
    width = -(-lengths[order[start]] // 16) * 16
    B = max(1, cells // width)
    rows = [i for i in order[start : start + B] if lengths[i] <= width]
    # A lone line, as at a prompt, need not pay for a batch's worth of rows.
    yield rows, (1 if len(order) == 1 else B, width)
    start += len(rows)


def padded(
  sentences: Sequence[np.ndarray], rows: Sequence[int], shape: tuple[int, int]
) -> np.ndarray:
  """The sentences of these numbers in the first rows of a batch [B, L], else PAD."""
  batch = np.full(shape, PAD, np.int32)
  for row, i in enumerate(rows):
    batch[row, : len(sentences[i])] = sentences[i]
  return batch

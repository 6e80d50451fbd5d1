"""Pointwise mutual information of words and contexts, from counts of pairs.

Church and Hanks, "Word Association Norms, Mutual Information, and Lexicography", 1990,
https://aclanthology.org/J90-1003. Smoothing, shift and clipping: Levy, Goldberg and
Dagan, "Improving Distributional Similarity with Lessons Learned from Word Embeddings",
2015, sections 2.1 and 3, https://aclanthology.org/Q15-1016.
"""

from collections.abc import Iterator
import itertools
from typing import Annotated

import numpy as np
from scipy import sparse

from seqlab.domains import Positive, checked

_BLOCK = 1 << 22  # nonzeros that are worked on at once, 32 MiB in each float64 array


@checked
def pmi(
  counts: sparse.csr_array,
  *,
  smoothing: Annotated[float, Positive] = 0.75,
  shift: Annotated[float, Positive] = 1.0,
  positive: bool = True,
) -> sparse.csr_array:
  """log(P(w, c) / (P(w) P(c))) - log k, of pairs that were seen together.

  P(w, c) and P(w) are relative frequencies; P(c) is #(c)^smoothing over the sum of
  that. Pairs without a count have a PMI of minus infinity. They are left out, which
  is exact where negative values are clipped to zero. Works on some million pairs at
  a time; besides `counts`, which stays as it is, it needs room for the result twice.

  Args:
    counts: [V, C] of pairs, row word, column context; any kind of number.
    smoothing: exponent of the contexts' counts; 1 for none. 0.75 makes rare contexts
      less attractive.
    shift: k, the number of negative samples of the word2vec whose dot products this
      matrix holds (Levy and Goldberg 2014); 1 for none.
    positive: keep only what is above zero (PPMI).

  Returns:
    [V, C] float32, in the order of `counts`; what is left out is not stored.

  Raises:
    ValueError: there are no counts, or one is below zero; smoothing or shift is not
      above zero.
  """
  counts = sparse.csr_array(counts)
  words, contexts = _margins(counts)  # [V], [C]
  contexts **= smoothing
  # log #(w, c) - log #(w) - log P(c) - log k: the size of the corpus cancels out.
  with np.errstate(divide='ignore'):  # of words and contexts that were never seen
    words, contexts = np.log(words * shift), np.log(contexts / contexts.sum())
  blocks = []
  for first, block in _blocks(counts):
    block.eliminate_zeros()  # counts of zero that were stored
    value = np.log(block.data, dtype=np.float64)
    value -= np.repeat(words[first : first + block.shape[0]], np.diff(block.indptr))
    value -= contexts[block.indices]
    block = _with_data(block, value.astype(np.float32))
    if positive:
      np.maximum(block.data, 0, out=block.data)
      block.eliminate_zeros()
    blocks.append(block)
  return sparse.vstack(blocks, format='csr')


def _blocks(counts: sparse.csr_array) -> Iterator[tuple[int, sparse.csr_array]]:
  """Copies of rows that lie together, about `_BLOCK` pairs each, and the first row."""
  ends = np.arange(_BLOCK, counts.nnz, _BLOCK)
  cuts = np.unique([0, *np.searchsorted(counts.indptr, ends), counts.shape[0]])
  for first, end in itertools.pairwise(cuts.tolist()):
    yield first, counts[first:end]


def _with_data(block: sparse.csr_array, data: np.ndarray) -> sparse.csr_array:
  return sparse.csr_array((data, block.indices, block.indptr), shape=block.shape)


def _margins(counts: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
  """How often each word [V] and each context [C] was counted, float64."""
  words, contexts = np.zeros(counts.shape[0]), np.zeros(counts.shape[1])
  for first, block in _blocks(counts):
    block = _with_data(block, block.data.astype(np.float64))
    if not block.data.min(initial=0) >= 0:
      raise ValueError(
        f'a count in rows {first:,} to {first + block.shape[0] - 1:,} is '
        f'{block.data.min()}; counts of pairs are 0 or more'
      )
    words[first : first + block.shape[0]] = block.sum(axis=1)
    contexts += block.sum(axis=0)
  if not words.any():
    raise ValueError('there are no counts: the corpus is empty, or no word was kept')
  return words, contexts

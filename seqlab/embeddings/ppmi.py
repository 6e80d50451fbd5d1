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

_BLOCK = 1 << 22  # nonzeros that are processed at once, 32 MiB per float64 array


@checked
def pmi(
  counts: sparse.csr_array,
  *,
  smoothing: Annotated[float, Positive] = 0.75,
  shift: Annotated[float, Positive] = 1.0,
  positive: bool = True,
) -> sparse.csr_array:
  """Returns log(P(w, c) / (P(w) P(c))) - log k of the pairs that occur together.

  P(w, c) and P(w) are relative frequencies; P(c) is proportional to #(c)^smoothing. The
  PMI of a pair without a count is minus infinity. Such pairs are left out, which is
  exact where negative values are clipped to zero. A few million pairs are processed at
  a time; the memory that is needed, besides `counts`, is twice that of the result.

  Args:
    counts: [V, C] counts of pairs, row word and column context; not changed.
    smoothing: exponent of the counts of contexts; 1 for none. 0.75 lowers the PMI of
      rare contexts.
    shift: k, the number of negative samples of the word2vec whose dot products this
      matrix holds (Levy and Goldberg 2014); 1 for none.
    positive: whether to keep only values above zero (PPMI).

  Returns:
    [V, C] float32, in the order of `counts`; pairs that are left out are not stored.

  Raises:
    ValueError: there are no counts, one is below zero, or an option is outside its
      domain.
  """
  counts = sparse.csr_array(counts)
  words, contexts = _margins(counts)  # [V], [C]
  contexts **= smoothing
  # log #(w, c) - log #(w) - log P(c) - log k: the size of the corpus cancels out.
  with np.errstate(divide='ignore'):  # log(0) of words and contexts without a pair
    words, contexts = np.log(words * shift), np.log(contexts / contexts.sum())
  blocks = []
  for first, block in _blocks(counts):
    block.eliminate_zeros()  # counts of zero may be stored
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
  """Yields copies of rows with about `_BLOCK` pairs, and the index of the first row."""
  ends = np.arange(_BLOCK, counts.nnz, _BLOCK)
  cuts = np.unique([0, *np.searchsorted(counts.indptr, ends), counts.shape[0]])
  for first, end in itertools.pairwise(cuts.tolist()):
    yield first, counts[first:end]


def _with_data(block: sparse.csr_array, data: np.ndarray) -> sparse.csr_array:
  return sparse.csr_array((data, block.indices, block.indptr), shape=block.shape)


def _margins(counts: sparse.csr_array) -> tuple[np.ndarray, np.ndarray]:
  """Returns the total count of each word [V] and of each context [C], float64."""
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

"""Huffman's code of a vocabulary: frequent words have short paths in a binary tree.

Huffman, "A Method for the Construction of Minimum-Redundancy Codes", 1952; for
hierarchical softmax, Mikolov et al. 2013, section 2.1, https://arxiv.org/abs/1310.4546.
"""

from collections.abc import Sequence
import dataclasses
import heapq

import numpy as np


@dataclasses.dataclass(frozen=True)
class Huffman:
  """The path from the root to each word. P is the length of the longest path.

  Attributes:
    nodes: [V, P] int32, inner nodes on the path, the root (V - 2) first; 0 after its
      end.
    turns: [V, P] bool, whether the path turns right at each node.
    lengths: [V] int32, number of inner nodes on the path.
  """

  nodes: np.ndarray
  turns: np.ndarray
  lengths: np.ndarray

  @classmethod
  def of(cls, counts: Sequence[int]) -> 'Huffman':
    """Returns the code of words with these counts, [V].

    Raises:
      ValueError: there are fewer than two words.
    """
    V = len(counts)
    if V < 2:
      raise ValueError(f'a tree needs at least two words, and there are {V}')
    heap = [(int(count), i) for i, count in enumerate(counts)]
    heapq.heapify(heap)
    parent, turn = np.zeros(2 * V - 1, np.int64), np.zeros(2 * V - 1, bool)
    for new in range(V, 2 * V - 1):  # inner node number new - V
      (a, left), (b, right) = heapq.heappop(heap), heapq.heappop(heap)
      parent[[left, right]], turn[right] = new, True
      heapq.heappush(heap, (a + b, new))
    depth = np.zeros(2 * V - 1, np.int32)
    for node in range(2 * V - 3, -1, -1):  # a parent has a greater number
      depth[node] = depth[parent[node]] + 1
    lengths = depth[:V]
    nodes = np.zeros((V, lengths.max()), np.int32)
    turns = np.zeros(nodes.shape, bool)
    at = np.arange(V)
    for place in range(lengths.max() - 1, -1, -1):  # from each word up to the root
      active = np.flatnonzero(lengths > place)
      turns[active, place] = turn[at[active]]
      at[active] = parent[at[active]]
      nodes[active, place] = at[active] - V
    return cls(nodes, turns, lengths)

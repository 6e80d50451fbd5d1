import heapq

import numpy as np
import pytest

from seqlab.embeddings.huffman import Huffman

COUNTS = np.random.default_rng(0).integers(1, 1000, 40)


def codes(tree: Huffman) -> list[str]:
  return [
    ''.join('01'[int(turn)] for turn in turns[:length])
    for turns, length in zip(tree.turns, tree.lengths, strict=True)
  ]


def test_no_code_is_a_prefix_of_another():
  words = codes(Huffman.of(COUNTS))
  assert not any(a != b and b.startswith(a) for a in words for b in words)
  assert sum(2.0 ** -len(code) for code in words) == 1


def test_the_code_has_the_minimum_length():
  tree = Huffman.of(COUNTS)
  heap, cost = sorted(COUNTS.tolist()), 0
  while len(heap) > 1:  # the cost is the sum of all inner nodes
    node = heapq.heappop(heap) + heapq.heappop(heap)
    cost += node
    heapq.heappush(heap, node)
  assert (COUNTS * tree.lengths).sum() == cost


def test_codes_with_a_common_prefix_share_nodes():
  tree = Huffman.of(COUNTS)
  seen = {}
  for code, nodes in zip(codes(tree), tree.nodes, strict=True):
    for i in range(len(code)):
      assert seen.setdefault(code[:i], nodes[i]) == nodes[i]
  assert sorted(seen.values()) == list(range(len(COUNTS) - 1))
  assert seen[''] == len(COUNTS) - 2


def test_one_word_has_no_tree():
  with pytest.raises(ValueError, match='at least two words'):
    Huffman.of([3])

"""Random segmentations of lines into pieces, the same in every process.

SentencePiece can sample, too. Since version 0.2.3, however, its generator cannot be
seeded the same in every process, and a batch has to be a function of (seed, k).
"""

import bisect
from collections.abc import Callable, Iterable
import heapq
import itertools
import math

import sentencepiece

_SPACE = '▁'
_Random = Callable[[], float]  # uniform in [0, 1)


class Sampler:
  """Samples the pieces of lines, word by word."""

  def __init__(self, processor: sentencepiece.SentencePieceProcessor, model_type: str):
    """Reads a model; `model_type` is SentencePiece's name: 'bpe' or 'unigram'."""
    self._processor = processor
    self._one = {'bpe': self._merge, 'unigram': self._walk}[model_type]
    ids = range(processor.vocab_size())
    plain = [i for i in ids if not _special(processor, i)]
    self._ids = {processor.id_to_piece(i): i for i in plain}
    self._scores = {processor.id_to_piece(i): processor.get_score(i) for i in plain}
    self._bytes = [i for i in ids if processor.is_byte(i)]
    self._longest = max(map(len, self._ids))
    # The score of an unknown character, as in SentencePiece.
    self._unknown_score = min(self._scores.values()) - 10

  def draw(self, line: str, strength: float, random: _Random) -> list[int]:
    """Samples the ids of one line.

    Args:
      line: the text.
      strength: for BPE, the probability that a merge is skipped (Provilkov et al.
        2020, https://arxiv.org/abs/1910.13267); for the unigram model, the exponent
        α of a segmentation's probability (Kudo 2018,
        https://arxiv.org/abs/1804.10959).
      random: function that returns uniform numbers in [0, 1).
    """
    head, *words = self._processor.normalize(line).split(_SPACE)
    words = [_SPACE + word for word in words]
    pieces = [self._one(w, strength, random) for w in ([head] if head else []) + words]
    return self._numbers(piece for word in pieces for piece in word)

  def _numbers(self, pieces: Iterable[str]) -> list[int]:
    unknown = self._processor.unk_id()
    ids: list[int] = []
    for piece in pieces:
      if piece in self._ids:
        ids.append(self._ids[piece])
      elif self._bytes:
        ids += [self._bytes[byte] for byte in piece.encode()]
      elif ids[-1:] != [unknown]:  # neighbouring unknown characters have one id
        ids.append(unknown)
    return ids

  def _merge(self, word: str, dropout: float, random: _Random) -> list[str]:
    """Repeatedly merges the neighbours with the best score, skipping some at random."""
    piece, after = list(word), list(range(1, len(word) + 1))
    before = list(range(-1, len(word) - 1))
    agenda: list[tuple[float, int, int, str]] = []

    def propose(i: int) -> None:
      j = after[i]
      if j < len(piece) and (both := piece[i] + piece[j]) in self._scores:
        heapq.heappush(agenda, (-self._scores[both], i, j, both))

    for i in range(len(word)):
      propose(i)
    while agenda:
      _, i, j, both = heapq.heappop(agenda)
      stale = not piece[i] or after[i] != j or piece[i] + piece[j] != both
      if stale or random() < dropout:
        continue
      piece[i], piece[j], after[i] = both, '', after[j]
      if after[i] < len(piece):
        before[after[i]] = i
      if before[i] >= 0:
        propose(before[i])
      propose(i)
    return [p for p in piece if p]

  def _walk(self, word: str, alpha: float, random: _Random) -> list[str]:
    """Filters forwards and samples backwards: p(pieces) ~ exp(α · Σ score)."""
    total = [0.0]  # log of the summed weights of all segmentations up to each position
    edges: list[list[tuple[int, float]]] = [[]]  # (start, log weight) per end
    for end in range(1, len(word) + 1):
      starts = range(max(0, end - self._longest), end)
      incoming = [
        (a, alpha * self._scores[word[a:end]] + total[a])
        for a in starts
        if word[a:end] in self._scores
      ] or [(end - 1, alpha * self._unknown_score + total[end - 1])]
      highest = max(x for _, x in incoming)
      total.append(highest + math.log(sum(math.exp(x - highest) for _, x in incoming)))
      edges.append(incoming)
    pieces, end = [], len(word)
    while end:
      shares = itertools.accumulate(math.exp(x - total[end]) for _, x in edges[end])
      chosen = bisect.bisect(list(shares), random(), hi=len(edges[end]) - 1)
      start, _ = edges[end][chosen]
      pieces.append(word[start:end])
      end = start
    return pieces[::-1]


def _special(processor: sentencepiece.SentencePieceProcessor, i: int) -> bool:
  return processor.is_control(i) or processor.is_unknown(i) or processor.is_byte(i)

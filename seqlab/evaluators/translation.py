"""Translation quality, measured where the model lives.

Decoding and the counting of n-grams are one compiled function per shape; the
host gets ten integers and, to read, a few sentences.
"""

from collections.abc import Iterator

import jax
from jax.sharding import NamedSharding
import numpy as np

from seqlab.evaluators.resident import Resident, total
from seqlab.metrics.bleu import bleu_score, ngram_statistics
from seqlab.tasks.translation import Translation
from seqlab.tasks.translator import decode, search_of
from seqlab.types import Variables


class Evaluator:
  """BLEU of the vocabulary's pieces.

  It is no paper's BLEU: n-grams are of pieces, not words, so it is comparable
  only between runs with one vocabulary. `seqlab evaluate` gives sacreBLEU.

  Attributes:
    samples: source, reference and output of the first sentences, last run.
  """

  def __init__(
    self,
    task: Translation,
    sharding: NamedSharding,
    *,
    split: str,
    tokens: int = 2048,
    shapes: int = 3,
    show: int = 8,
    **search,
  ):
    """Puts the split on the devices.

    Args:
      task: gives data, model and vocabularies.
      sharding: of a batch's rows.
      split: its name.
      tokens: source or target positions in a batch, at most.
      shapes: number of shapes that are compiled.
      show: sentences to keep as samples.
      **search: of `tasks.translator.Search`: beam, alpha, ...
    """
    search = search_of(search, 'evals')
    self._task, self._split, self._show = task, split, show
    self.samples: list[str] = []

    def function(variables, batch):
      tokens, _ = decode(task.model, variables, batch['source'], search)
      best = tokens[:, 0]  # [B, L]
      return ngram_statistics(best, batch['target']).sum(axis=0), best

    self._resident = Resident(
      task, split, sharding, function, tokens=tokens, shapes=shapes
    )
    self._score = jax.jit(bleu_score)

  def compile(self, variables: Variables) -> None:
    """Compiles every shape."""
    self._resident.compile(variables)
    jax.block_until_ready(self._score(np.ones(10, np.int32)))

  def run(self, variables: Variables) -> Iterator[tuple[str, float]]:
    """Yields piece_bleu, and how long outputs are for their references."""
    out = self._resident.run(variables)
    statistics = total([sums for sums, _ in out])  # [10]
    yield 'piece_bleu', float(self._score(statistics.astype(np.int32)))
    yield 'length_ratio', statistics[8] / max(statistics[9], 1)
    self.samples = self._read([tokens for _, tokens in out])

  def _read(self, outputs: list[np.ndarray]) -> list[str]:
    best = {}
    for rows, tokens in zip(self._resident.rows, outputs, strict=True):
      best |= {int(r): tokens[i] for i, r in enumerate(rows) if 0 <= r < self._show}
    texts = self._task.vocabularies.target.decode([best[i] for i in sorted(best)])
    source, reference = self._task.corpus.read(self._split)
    triples = zip(source, reference, texts, strict=False)
    return [line for s, r, o in triples for line in (f'< {s}', f'= {r}', f'> {o}', '')]

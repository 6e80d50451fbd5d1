"""Types that all modules share: axis letters, arrays, batches, special ids.

Axis letters, as comments and einsums use them:

  B  rows of a batch             L  positions of any sequence
  S  positions of a source       T  positions of a target
  D  model width                 F  width inside the feed-forward layer
  H  attention heads             K  width of one head
  V  words in the vocabulary     M  beams kept per sentence
  N  rows of a step, B * M       R  lines of a corpus

This module imports no JAX, so that `text` and `data` need none.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
  from jax import Array
else:
  Array = Any

PyTree = Any
Variables = Mapping[str, Any]  # Linen collections: {'params': ..., 'batch_stats': ...}
Batch = dict[str, np.ndarray]  # name -> [B, ...], the same B for every entry
Hyper = Mapping[str, Any]  # name -> scalar; a sweep varies it without recompilation
Sums = dict[str, tuple[Array, Array]]  # name -> (sum, weight), divided once

# Special ids, the same in every vocabulary.
PAD, UNK, BOS, EOS = 0, 1, 2, 3
SPECIALS = ('<pad>', '<unk>', '<s>', '</s>')


def batch_shapes(batch: PyTree) -> tuple:
  """Returns name and shape of every array of a batch, to choose a program by."""
  return tuple((name, x.shape) for name, x in sorted(batch.items()))

"""The fingerprint of an experiment's programs, by which they are found in the cache."""

from collections.abc import Mapping
from typing import Any

from seqlab.config import WATCHING, with_defaults
from seqlab.programs import fingerprint_of
from seqlab.train.machine import dtype_of
from seqlab.trust import foreign_names

# Keys that only the training loop reads, and no program. The hyperparameters are
# arguments; which of them there are is seen from the arguments.
_NOT_COMPILED = (
  *('evals', 'save_every', 'keep_latest', 'keep_best', 'keep_best_n', 'best_is'),
  *('patience', 'minutes', 'retries', 'fallback', 'seed', 'steps', 'hyper', 'init'),
  *WATCHING,
)


def program_fingerprint(
  config: Mapping[str, Any], task: Any, *values: Any
) -> str | None:
  """Returns a digest of what an experiment's programs compute with besides arguments.

  Args:
    config: a resolved experiment.
    task: made from it.
    *values: what else distinguishes the programs of this experiment.

  Returns:
    None where this is not known: the experiment names code outside of seqlab, which may
    read files, or the class of the task itself does not define `fingerprint`.
  """
  own = vars(type(task)).get('fingerprint')
  if own is None or next(foreign_names(config), None) is not None:
    return None
  relevant = {k: v for k, v in with_defaults(config).items() if k not in _NOT_COMPILED}
  # A run keeps the dtype that 'auto' meant when it began; `train.machine` sets it.
  dtype = dtype_of(task) or ''
  return fingerprint_of(relevant, task.fingerprint, dtype, *values)

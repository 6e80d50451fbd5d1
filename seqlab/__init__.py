"""seqlab: a laboratory for sequence learning in JAX/Flax.

    seqlab.load_experiment(path, overrides)   the configuration of an experiment
    seqlab.run(experiment, workdir)           trains it, or resumes it
    seqlab.load(workdir)                      opens a finished run
    seqlab.bleu(hypotheses, references)       BLEU of lists of strings

These are imported when they are first used: `import seqlab` needs no JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from seqlab.library import bleu, load, load_experiment, run

__version__ = '0.1.0'
__all__ = ['__version__', 'bleu', 'load', 'load_experiment', 'run']


def __getattr__(name: str) -> Any:
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module('seqlab.library'), name)


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})

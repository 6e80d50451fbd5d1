"""Keys of experiments that an earlier edition wrote, as today's.

Configurations in run folders stay readable: each function here takes a configuration and
returns one with the keys of one kind of piece replaced. A configuration that has none of
the old keys is returned as it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

Config = dict[str, Any]


def upgrade(config: Mapping[str, Any]) -> Config:
  """Returns a configuration with old keys replaced by today's."""
  config = dict(config)
  for step in UPGRADES:
    config = step(config)
  return config


def _renamed(section: Any, names: Mapping[str, str]) -> Any:
  """Returns a section with some keys renamed; anything else is returned as it is."""
  if not isinstance(section, Mapping):
    return section
  return {names.get(key, key): value for key, value in section.items()}


_WORD_TASKS = {
  'tasks.word2vec:WordPrediction': 'tasks.word2vec:WordPrediction',
  'tasks.counting:Explicit': 'tasks.estimators.ppmi:PPMIVectors',
  'tasks.counting:SingularVectors': 'tasks.estimators.svd:SingularVectors',
  'tasks.peer:Gensim': 'tasks.estimators.gensim_baseline:GensimBaseline',
}
_TRAINING = (  # settings of training, which estimators no longer have
  *('steps', 'hyper', 'schedule', 'optimizer', 'parallel', 'accumulate', 'ema'),
  *('minutes', 'patience', 'keep_best', 'keep_best_n', 'best_is', 'keep_latest'),
  *('save_every', 'fallback'),
)


def _word_vectors(config: Config) -> Config:
  """Renames options of word vectors; estimators were trained in steps without effect."""
  name = config.get('task')
  if not isinstance(name, str):  # the caller reports what is wrong with the file
    return config
  name = name.removeprefix('seqlab.')
  if name not in _WORD_TASKS:
    return config
  names = {'use': 'output_vectors', 'most': 'max_pairs_per_row'}
  model = dict(_renamed(config.get('model', {}), names))
  if name == 'tasks.counting:SingularVectors' and 'steps' in config:
    model['iterations'] = config['steps']
  if name == 'tasks.peer:Gensim' and 'hyper' in config:
    peak, floor = config['hyper'].get('peak'), config['schedule'].get('floor', 0.0)
    model |= {'alpha': peak, 'min_alpha': peak * floor}
  config = {**config, 'task': _WORD_TASKS[name], 'model': model}
  if 'batching' in config:
    names = {'lanes': 'streams', 'holes': 'keep_gaps'}
    config['batching'] = _renamed(config['batching'], names)
  if name == 'tasks.counting:Explicit':
    del config['model']
  if name != 'tasks.word2vec:WordPrediction':
    config = {key: value for key, value in config.items() if key not in _TRAINING}
  return config


# One function per kind of piece; each reads the configuration of the one before it.
UPGRADES: tuple[Callable[[Config], Config], ...] = (_word_vectors,)

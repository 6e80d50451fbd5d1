"""Data, variables and a loss: what is trained."""

from collections.abc import Mapping
from typing import Any

from seqlab import domains
from seqlab.config import DEFAULTS, NEEDED, SECTIONS, WATCHING, Settings, check_keys
from seqlab.pieces import find

# Short name -> path of the class. Paths, so that naming one imports none.
TASKS = {
  'translation': 'seqlab.tasks.translation:Translation',
  'language_model': 'seqlab.tasks.language_model:LanguageModel',
  'word2vec': 'seqlab.tasks.word2vec:WordPrediction',
  'glove': 'seqlab.tasks.glove:GlobalVectors',
  'ppmi': 'seqlab.tasks.estimators.ppmi:PPMIVectors',
  'svd': 'seqlab.tasks.estimators.svd:SingularVectors',
  'gensim': 'seqlab.tasks.estimators.gensim_baseline:GensimBaseline',
}


def task_class(config: Mapping[str, Any]) -> Any:
  """Returns the class of an experiment's task.

  Raises:
    ValueError: the experiment names none, or something unknown.
  """
  task, options = find(config.get('task'), TASKS, 'task')
  if options:
    raise ValueError(
      f'task has options {", ".join(options)}: set them in other sections'
    )
  if not hasattr(task, 'sections'):
    raise ValueError(
      f'task {config["task"]!r} is not a task: let it inherit from '
      f'seqlab.tasks.interface.Task'
    )
  return task


def task_of(config: Mapping[str, Any]) -> Any:
  """Returns the class of an experiment's task, whose keys it checks.

  Raises:
    ValueError: a key of the experiment is missing, nothing reads it, or a setting of
      the top level is outside its domain.
  """
  check_keys(config, config, needed=NEEDED)
  domains.check(Settings, config)
  task = task_class(config)
  settings = (*DEFAULTS, *WATCHING, *NEEDED, 'steps')
  check_keys(config, (*settings, *SECTIONS, *task.sections))
  return task

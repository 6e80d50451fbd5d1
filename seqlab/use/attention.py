"""Attention of a finished run on one sentence."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from seqlab.decoding.config import DecodingConfig, make_decoding
from seqlab.domains import Count, checked
from seqlab.tasks.interface import Attended, Attends, Translates, has, needs
from seqlab.text.lines import is_blank
from seqlab.use.ensembles import make_translator
from seqlab.use.runs import Choice, LoadedRun, Run, load_run


class Shown(NamedTuple):
  """The attention of a run on one example.

  Attributes:
    run: the folder of the run, as the user wrote it.
    steps: steps of the checkpoints.
    texts: name of each side -> its text.
    decoded: whether the target is the run's own translation.
    attended: the attention.
  """

  run: str
  steps: list[int]
  texts: dict[str, str]
  decoded: bool
  attended: Attended


@checked
def attend_run(
  run: Run,
  text: str,
  *,
  target: str | None = None,
  average: Count = 1,
  choose: Choice = 'last',
  options: Mapping[str, Any] = {},  # never changed
  trust: bool = False,
) -> Shown:
  """Returns where a run attends while it reads a text, or a pair of sentences.

  Args:
    run: the folder of the run.
    text: a source sentence, or the text of a language model.
    target: a target, which the model is made to read; None for the run's own
      translation.
    average: number of checkpoints to average.
    choose: 'last' or 'best'.
    options: how the translation is found, see `decoding.config`.
    trust: whether a run may name code that is not part of seqlab; see `RunFolder.open`.

  Raises:
    ValueError: an option is wrong or has no effect, the text is blank or too long, or
      the model has no attention.
  """
  make_decoding(options)  # a wrong option is an error before anything is loaded
  loaded = load_run(run, average=average, choose=choose, trust=trust)
  texts, attended = attend(loaded, text, target, options)
  decoded = 'target' in texts and target is None
  return Shown(str(run), loaded.steps, texts, decoded, attended)


def attend(
  loaded: LoadedRun, text: str, target: str | None, options: Mapping[str, Any]
) -> tuple[dict[str, str], Attended]:
  """Returns the text of each side, and the attention; see `attend_run`."""
  for name, given in (('text', text), ('target', target or '')):
    _check_encoding(name, given)
  if is_blank(text):
    raise ValueError('the text is blank: give a sentence')
  task, variables = needs(loaded.task, Attends), loaded.variables
  if 'target' not in task.sides:
    _check_one_text(target, options)
    texts = {task.sides[0]: text}
    (attended,) = task.attend(variables, [texts])
    return texts, attended
  if target is not None:
    if options:
      raise ValueError(
        f'{option_name(next(iter(options)))} has no effect: the target is given, so that nothing is '
        'decoded; leave one of them out'
      )
    texts = {'source': text, 'target': target}
    (attended,) = task.attend(variables, [texts])
    return texts, attended
  task.attend(variables, [])  # an error now, and not after a translation
  ids = _decoded(loaded, text, make_decoding(options))
  # These ids, since the text may be divided into other tokens when it is read again.
  (attended,) = task.attend(variables, [{'source': text, 'target': ids}])
  (decoded,) = task.vocabularies.target.decode([ids])
  return {'source': text, 'target': decoded}, attended


def _decoded(loaded: LoadedRun, source: str, decoding: DecodingConfig) -> np.ndarray:
  """Returns the ids of the best translation, with EOS at the end."""
  task = loaded.task
  if not has(task, Translates):
    raise ValueError(
      f'the task {type(task).__name__} cannot translate: give the target (--target)'
    )
  translator = make_translator(
    task, task.model, loaded.variables, decoding, loaded.folder.config
  )
  (ids,) = translator.best_ids([source])
  if translator.refused:
    raise ValueError(f'the source {translator.refused[0]}')
  return ids


def _check_encoding(name: str, text: str) -> None:
  """Raises an error for bytes of a command line that are not UTF-8."""
  try:
    text.encode()
  except UnicodeEncodeError as error:  # Python keeps such a byte as a surrogate
    raise ValueError(
      f'the {name} is not UTF-8 at character {error.start + 1}: convert it, for example '
      'with iconv'
    ) from error


def _check_one_text(target: str | None, options: Mapping[str, Any]) -> None:
  if target is not None or options:
    name = '--target' if target is not None else option_name(next(iter(options)))
    raise ValueError(
      f'{name} is for tasks that translate, and this one reads one text: leave it out'
    )


def option_name(name: str) -> str:
  """Returns an option of decoding as a user writes it on the command line."""
  name = {'length': 'max_length'}.get(name, name)
  return f'--{name.replace("_", "-")}'

"""One run, or several whose models decode together, as a model with its variables."""

from collections.abc import Mapping, Sequence
from typing import Any

from jax.sharding import NamedSharding

from seqlab.decoding.config import DecodingConfig
from seqlab.models.ensemble import Ensemble
from seqlab.models.interface import Seq2Seq
from seqlab.tasks.interface import Translates, needs
from seqlab.tasks.scorer import Scorer
from seqlab.tasks.translator import Translator
from seqlab.train.fingerprint import program_fingerprint
from seqlab.types import Variables
from seqlab.use.runs import Choice, LoadedRun, Run, load_run


def join_models(
  task: Translates,
  variables: Variables,
  runs: Sequence[Run],
  *,
  average: int,
  choose: Choice,
  trust: bool,
) -> tuple[Seq2Seq, Any]:
  """Returns the model of a task, or the ensemble of it and those of other runs.

  Args:
    task: the first task.
    variables: variables of its model.
    runs: folders of the other runs.
    average: see `load_run`.
    choose: see `load_run`.
    trust: see `load_run`.

  Raises:
    ValueError: see `load_members`.
  """
  which = dict(average=average, choose=choose, trust=trust)
  return join_members(task, variables, load_members(task, runs, **which))


def load_members(
  task: Translates, runs: Sequence[Run], *, average: int, choose: Choice, trust: bool
) -> list[LoadedRun]:
  """Loads the further runs of an ensemble; see `join_models`.

  Raises:
    ValueError: a run has other vocabularies, or reads sources in the other direction.
  """
  members = []
  for run in runs:
    member = load_run(run, average=average, choose=choose, trust=trust)
    _check_compatible(run, needs(member.task, Translates), task)
    members.append(member)
  return members


def join_members(
  task: Translates, variables: Variables, members: Sequence[LoadedRun]
) -> tuple[Seq2Seq, Any]:
  """Returns the model of a task, or the ensemble of it and those of `members`."""
  if not members:
    return task.model, variables
  models = [task.model, *(member.task.model for member in members)]
  return Ensemble(models), (variables, *(member.variables for member in members))


def _check_compatible(run: Run, other: Translates, task: Translates) -> None:
  first, second = (
    (x.vocabularies.source.fingerprint, x.vocabularies.target.fingerprint)
    for x in (task, other)
  )
  if first != second:
    raise ValueError(
      f'{run} has other vocabularies: an ensemble needs models with the same '
      'vocabularies; train them on one corpus with the same vocabulary section'
    )
  if other.reverse_source != task.reverse_source:
    raise ValueError(
      f'{run} reads sources in another direction: batching.reverse_source'
    )


def make_translator(
  task: Translates,
  model: Seq2Seq,
  variables: Any,
  decoding: DecodingConfig,
  config: Mapping[str, Any] | None = None,
  sharding: NamedSharding | None = None,
) -> Translator:
  """Returns a translator with the vocabularies of a task.

  Args:
    task: gives the vocabularies.
    model: model of the task, or an ensemble.
    variables: variables of the model.
    decoding: how outputs are found.
    config: the configuration of the run; programs of an ensemble are always traced.
    sharding: sharding of the rows of a batch; None for one device.
  """
  fingerprint = None
  if config is not None and model is task.model:
    fingerprint = program_fingerprint(config, task, 'decode', described(decoding))
  return Translator(
    model,
    variables,
    task.vocabularies,
    decoding,
    reverse_source=task.reverse_source,
    fingerprint=fingerprint,
    sharding=sharding,
  )


def described(decoding: DecodingConfig) -> str | None:
  """Returns a text that determines how outputs are found, if it is seqlab's own way."""
  text = repr(decoding)
  is_own = type(decoding).__module__.startswith('seqlab.')
  return text if is_own and ' at 0x' not in text else None


def make_scorer(task: Translates, model: Seq2Seq, variables: Any) -> Scorer:
  """Returns a scorer with the vocabularies of a task."""
  return Scorer(model, variables, task.vocabularies, reverse_source=task.reverse_source)

"""The interface between an evaluator, and training and `seqlab evaluate`."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from seqlab.types import Variables

# Parameters that a constructor may have besides the options of the experiment.
CONTEXT = {
  'task': 'the task of the run',
  'sharding': 'sharding of the rows of a batch, over the devices of the run',
  'name': 'the name of the evaluator in the experiment',
  'fingerprint': 'digest of experiment, data and options; see `seqlab.programs`',
}


class Evaluator(Protocol):
  """A measurement, named in an experiment as

      c.evals.valid = dict(kind='my_package.evals:Exact', split='dev', every='1 epochs')

  A class that inherits from it has its defaults. Its constructor gets what it asks for
  of `CONTEXT`, and the experiment's options.

  Attributes:
    needs: abilities that the task must have; see `tasks.interface`.
    samples: lines to read together with the numbers, from the last run.
    about: a note for the log that is needed to read the numbers, such as a metric's
      signature.

  An evaluator may also have
    compiles_ahead: True if `compile` also takes `jax.ShapeDtypeStruct`s, with
      shardings, as variables. It is then compiled while the first steps are taken;
      otherwise when it is first due.
    metrics: names of all that `run` may yield, so that a metric by which checkpoints
      are kept is known to exist without a run.
    arrays: name -> array for a report to draw, from the last run; kept in the folder's
      samples/<name>-<step>.npz.
    images: method that returns name -> uint8 [height, width, 3], images of the last run
      for the sinks of a run (`train.sinks`).
    dtype: dtype of its matrix products, where it is not that of the task's model.
    signatures: functions or classes that take the constructor's **options.
    check_options: static method of the options and their key in the experiment, which
      raises ValueError for options that do not fit together.
  """

  needs: Sequence[type] = ()
  samples: Sequence[str] = ()
  about: str = ''

  def compile(self, variables: Variables) -> Any:
    """Compiles every shape, so that `run` compiles nothing; by default by one run."""
    return list(self.run(variables))

  def run(self, variables: Variables) -> Iterable[tuple[str, float]]:
    """Yields (name, value); names get the evaluator's own as a prefix."""
    ...


def measured(name: str, evaluator: Evaluator, variables: Variables) -> dict[str, float]:
  """Runs an evaluator and returns metric -> value.

  Args:
    name: name of the evaluator in the experiment, for messages.
    evaluator: the evaluator.
    variables: variables to evaluate with.

  Raises:
    ValueError: its `run` does not yield pairs of a name and a number.
  """
  wanted = (
    f'evals.{name}: run() of {type(evaluator).__module__}:{type(evaluator).__name__} '
    "must yield (name, number), as in: yield 'exact', 0.5"
  )
  yielded = evaluator.run(variables)
  if not isinstance(yielded, Iterable):
    raise ValueError(f'{wanted}; it returned {yielded!r}')
  values = {}
  for pair in yielded:
    try:
      metric, value = pair
      values[str(metric)] = float(value)
    except (TypeError, ValueError):
      raise ValueError(f'{wanted}; it yielded {pair!r}') from None
  return values
